"""Streams: `write_stream`, `close_stream`, `read_stream`.

Writing in a workflow hands the item over, in order, and does not wait for the commit. The item's row
is also its entry. The barrier before the next outside effect makes it durable in time. An offset is
assigned when the item is handed over, under the run's lock, so parallel writers never collide. An
item from a step carries the step's place and the number of the try. It is handed over before the
step's result.

A close is a record of its own, apart from the values. In a step it takes effect with the step's
result: a failed try has closed nothing, so the next try can write again.

A reader watches for items and for the end of the workflow before it looks. Values, close and status
come from one snapshot, so the last value is not lost. A reader gets pages of many values; in a
workflow each page is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.core.effects import BARRIER, NOW, Commit, Defer, Due, Failed, Operation, Read, ReadStream, WakeKey
from tidings.core.history import Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import (
    abandonable,
    await_until,
    by,
    finished,
    load_result,
    recorded,
    refuse,
    timing,
    within,
)
from tidings.core.operations.results import end_key
from tidings.error import (
    DBOSDamagedWorkflowError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSStreamClosedError,
    DBOSStreamTimeoutError,
)
from tidings.lifecycle import has_ended
from tidings.limits import MAX_PAGE_ITEMS
from tidings.model import StreamItem, StreamPage, Unit
from tidings.serialization import Serializer, load
from tidings.shortage import is_shortage

CLOSE_STREAM = "DBOS.close_stream"
READ_STREAM = "DBOS.read_stream"
READ_OFFSET = "DBOS.read_stream_offset"


def stream_key(workflow_id: str, key: str) -> WakeKey:
    """Return the key that a reader of a stream watches."""
    return ("stream", workflow_id, key)


# --- writing --------------------------------------------------------------------------------------


def write(slot: Slot, key: str, value: str) -> Operation[Any]:
    """Write from a workflow: exactly once, in order."""
    if slot.is_finished:
        entry = yield from finished(slot)
        return (yield from load_result(slot, entry))
    run = slot.run
    now: int = yield NOW

    def unit() -> Unit:
        offset = run.next_offset(key)
        return run.unit(item=StreamItem(key, offset, value, now, slot.branch, slot.number, slot.ordinal))

    try:
        yield Defer(unit)
    except DBOSStreamClosedError as error:
        return (yield from abandonable(slot, refuse(slot, error, now)))


def write_in_step(step: Slot, attempt: int, check_attempt: Callable[[], None], key: str, value: str) -> Operation[None]:
    """Write from a step, whose attempt must still be running: in order, once per try."""
    run = step.run
    now: int = yield NOW

    def unit() -> Unit:
        check_attempt()
        if key in step.closes:
            raise DBOSStreamClosedError(run.workflow_id, key)
        offset = run.next_offset(key)
        return run.unit(item=StreamItem(key, offset, value, now, step.branch, step.number, step.ordinal, attempt))

    yield Defer(unit)


def close(slot: Slot, key: str) -> Operation[Any]:
    """Close from a workflow. Closing a closed stream changes nothing."""
    return recorded(slot, _close(slot, key))


def _close(slot: Slot, key: str) -> Operation[None]:
    run = slot.run
    now: int = yield NOW

    def unit() -> Unit:
        run.close_streams((key,))
        return run.unit(slot.done(now, now), closes=(key,))

    yield Defer(unit)


def close_in_step(step: Slot, key: str) -> Operation[None]:
    """Close from a step, once its result is recorded."""
    step.closes |= {key}
    yield from ()


# --- reading --------------------------------------------------------------------------------------


class Page(Struct, frozen=True):
    """Values of a stream, as a reader gets them.

    `following` is the offset after the last of them. `is_last`: there will never be more. `has_more`: more
    values exist already.
    """

    values: list[Any]
    following: int
    is_last: bool
    has_more: bool


def read(serializer: Serializer, query: ReadStream, timeout_seconds: float | None, asked: Any = None) -> Operation[Any]:
    """Read the next page in a step or outside any workflow; wait until it has a value.

    `asked` is the pending query, if it was sent ahead: the stream had more values then, so no wait is needed.
    """
    found: StreamPage | None = None
    if asked is not None:
        found = yield Read(query, asked)
    if found is None or not found.values:
        found = yield from _await_page(query, within(timeout_seconds), None)
    if found is None:
        return Failed(_timed_out(query, timeout_seconds))
    return _page(query, found, (yield from patiently(_rebuilt, serializer, query, found.values)))


def read_recorded(slot: Slot, query: ReadStream, timeout_seconds: float | None) -> Operation[Any]:
    """Read the next page in a workflow, and record its values."""
    if not slot.is_finished:
        return (yield from abandonable(slot, _read_recorded(slot, query, timeout_seconds)))
    entry = yield from finished(slot)
    if entry.output is None:
        return (yield from load_result(slot, entry))
    texts, is_last, has_more = _unframe(entry.output)
    try:
        values = yield from patiently(_all_rebuilt, slot.run.serializer, query, texts)
    except DBOSSerializationError as error:
        raise slot.run.give_up(error) from None  # Some code could rebuild the value once, and other code may still.
    return Page(values, query.offset + len(values), is_last, has_more)


def _read_recorded(slot: Slot, query: ReadStream, timeout_seconds: float | None) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started, deadline = timing(slot, (yield NOW), timeout_seconds)
    on_waiting = None if slot.is_open else run.unit(slot.open(started, deadline))
    try:
        found = yield from _await_page(query, by(started, deadline), on_waiting)
        if found is None:
            return (yield from refuse(slot, _timed_out(query, timeout_seconds), started))
        page = _page(query, found, (yield from patiently(_rebuilt, run.serializer, query, found.values)))
    except (DBOSNonExistentWorkflowError, DBOSSerializationError, DBOSDamagedWorkflowError) as error:
        return (yield from refuse(slot, error, started))
    record = _frame(found.values[: len(page.values)], page)
    yield Commit(run.unit(slot.done(started, (yield NOW), output=record)))
    return page


def _frame(texts: tuple[str, ...], page: Page) -> str:
    """Return the record of a page, written without the user's serializer and without the size limit of a value."""
    return msgspec.json.encode((texts, page.is_last, page.has_more)).decode()


def _unframe(record: str) -> tuple[list[str], bool, bool]:
    return msgspec.json.decode(record, type=tuple[list[str], bool, bool])


def read_offset(serializer: Serializer, query: ReadStream, timeout_seconds: float | None) -> Operation[Any]:
    """Read one value in a step or outside any workflow; wait until it is there."""
    page = yield from read(serializer, query, timeout_seconds)
    return page if isinstance(page, Failed) else _only(query, page)


def read_offset_recorded(slot: Slot, query: ReadStream, timeout_seconds: float | None) -> Operation[Any]:
    """Read one value in a workflow, and record it."""
    page = yield from read_recorded(slot, query, timeout_seconds)
    return page if isinstance(page, Failed) else _only(query, page)


def _only(query: ReadStream, page: Page) -> Any:
    return page.values[0] if page.values else Failed(_ended(query))


def _await_page(query: ReadStream, due: Due | None, on_waiting: Unit | None) -> Operation[StreamPage | None]:
    """Wait until there is a value at the offset, or there never will be; `None` when the time is up."""

    def look() -> Operation[StreamPage | None]:
        found: StreamPage = yield Read(query)
        if found.status is None:
            raise DBOSNonExistentWorkflowError(query.workflow_id)
        if not found.values and query.offset < found.length:  # Offsets have no gaps, so a row is missing.
            damage = f"its stream {query.key!r} has no item at offset {query.offset}, but some after it"
            raise DBOSDamagedWorkflowError(query.workflow_id, damage)
        return found if found.values or _takes_no_more(found) else None

    keys = (stream_key(query.workflow_id, query.key), end_key(query.workflow_id))
    return (yield from await_until(keys, look, due, on_waiting))


def _page(query: ReadStream, found: StreamPage, values: list[Any]) -> Page:
    following = query.offset + len(values)
    has_more = following < found.length
    return Page(values, following, not has_more and _takes_no_more(found), has_more)


def _takes_no_more(found: StreamPage) -> bool:
    return found.is_closed or (found.status is not None and has_ended(found.status))


def _all_rebuilt(serializer: Serializer, query: ReadStream, texts: Sequence[str]) -> list[Any]:
    return [load(serializer, text, _what(query, index)) for index, text in enumerate(texts)]


def _rebuilt(serializer: Serializer, query: ReadStream, texts: tuple[str, ...]) -> list[Any]:
    """Rebuild the values before the first that cannot be rebuilt; raise its error if it is the very first."""
    values: list[Any] = []
    rebuild = serializer.deserialize
    try:
        for text in texts:
            values.append(rebuild(text))  # noqa: PERF401  (values before an error are kept)
    except Exception as error:
        if is_shortage(error):
            raise
        if not values:
            load(serializer, texts[0], _what(query, 0))
            raise
    return values


def _what(query: ReadStream, index: int) -> str:
    return f"the value at offset {query.offset + index} of {_stream(query)}"


def _stream(query: ReadStream) -> str:
    return f"the stream {query.key!r} of workflow {query.workflow_id!r}"


def _timed_out(query: ReadStream, timeout_seconds: float | None) -> DBOSStreamTimeoutError:
    assert timeout_seconds is not None
    return DBOSStreamTimeoutError(query.workflow_id, query.key, query.offset, timeout_seconds)


def _ended(query: ReadStream) -> DBOSStreamClosedError:
    return DBOSStreamClosedError(query.workflow_id, query.key, query.offset)


def next_page(workflow_id: str, key: str, offset: int) -> ReadStream:
    """Return the query for the page at an offset."""
    return ReadStream(workflow_id, key, offset, MAX_PAGE_ITEMS)
