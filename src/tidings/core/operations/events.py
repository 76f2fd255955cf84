"""Events: `set_event`, `get_event`, `get_all_events`.

Publishing in a workflow hands the event over, in order, and does not wait for the commit. The
event's row is also its entry. The barrier before the next outside effect makes it durable in time.

Reading in a workflow is recorded, also the default after a timeout. A reader watches for the event
and for the end of its workflow before it looks. Value and status come from one snapshot, so the last
value is not lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidings.core.effects import (
    BARRIER,
    NOW,
    Commit,
    Defer,
    Due,
    FindAllEvents,
    FindEvent,
    Operation,
    Read,
    WakeKey,
)
from tidings.core.history import Run, Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import (
    abandonable,
    await_until,
    by,
    finished,
    load_result,
    refuse,
    timing,
    within,
)
from tidings.core.operations.results import end_key
from tidings.error import DBOSNonExistentWorkflowError, DBOSSerializationError
from tidings.lifecycle import has_ended
from tidings.model import EventRead, PublishedEvent, Unit
from tidings.serialization import Serializer, load, show

GET_EVENT = "DBOS.get_event"
GET_ALL_EVENTS = "DBOS.get_all_events"


def event_key(workflow_id: str, key: str) -> WakeKey:
    """Return the key that a reader of an event watches."""
    return ("event", workflow_id, key)


def publish(slot: Slot, key: str, value: str) -> Operation[None]:
    """Publish from a workflow: exactly once, in order."""
    if slot.recorded is not None:
        return
    run = slot.run
    now: int = yield NOW

    def unit() -> Unit:
        version = run.next_version(key)
        return run.unit(event=PublishedEvent(key, version, value, now, slot.branch, slot.number, slot.ordinal))

    yield Defer(unit)


def publish_in_step(run: Run, check_attempt: Callable[[], None], key: str, value: str) -> Operation[None]:
    """Publish from a step, whose attempt must still be running: in order, once per try."""
    now: int = yield NOW

    def unit() -> Unit:
        check_attempt()
        return run.unit(event=PublishedEvent(key, run.next_version(key), value, now))

    yield Defer(unit)


def read_recorded(
    slot: Slot, workflow_id: str, key: str, timeout_seconds: float | None, default: Any
) -> Operation[Any]:
    """Read in a workflow, and record the value. An entry without output says that there was none."""
    if slot.is_finished:
        entry = yield from finished(slot)
        is_nothing = entry.output is None and entry.error is None
        return default if is_nothing else (yield from load_result(slot, entry))
    return (yield from abandonable(slot, _read_recorded(slot, workflow_id, key, timeout_seconds, default)))


def _read_recorded(
    slot: Slot, workflow_id: str, key: str, timeout_seconds: float | None, default: Any
) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started, deadline = timing(slot, (yield NOW), timeout_seconds)
    on_waiting = None if slot.is_open else run.unit(slot.open(started, deadline))
    text = yield from _await_value(workflow_id, key, by(started, deadline), on_waiting)
    try:
        value = default if text is None else (yield from patiently(_load, run.serializer, text, workflow_id, key))
    except DBOSSerializationError as error:
        return (yield from refuse(slot, error, started))
    yield Commit(run.unit(slot.done(started, (yield NOW), output=text)))
    return value


def read(
    serializer: Serializer, workflow_id: str, key: str, timeout_seconds: float | None, default: Any
) -> Operation[Any]:
    """Read from a step or from outside any workflow."""
    text = yield from _await_value(workflow_id, key, within(timeout_seconds), None)
    return default if text is None else (yield from patiently(_load, serializer, text, workflow_id, key))


def _await_value(workflow_id: str, key: str, due: Due | None, on_waiting: Unit | None) -> Operation[str | None]:
    """Wait until there is a value; `None` if the workflow ended without one or the time is up."""

    def look() -> Operation[EventRead | None]:
        found: EventRead = yield Read(FindEvent(workflow_id, key))
        is_final = found.value is not None or (found.status is not None and has_ended(found.status))
        return found if is_final else None

    keys = (event_key(workflow_id, key), end_key(workflow_id))
    found = yield from await_until(keys, look, due, on_waiting)
    return None if found is None else found.value


def read_all(serializer: Serializer, workflow_id: str) -> Operation[dict[str, Any]]:
    """Read the latest value of each key. A value that cannot be decoded here does not hide the others."""
    found: dict[str, str] | None = yield Read(FindAllEvents(workflow_id))
    if found is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    values = {}
    for key, text in found.items():
        values[key] = yield from patiently(show, serializer, text, _named(workflow_id, key))
    return values


def _load(serializer: Serializer, text: str, workflow_id: str, key: str) -> Any:
    return load(serializer, text, _named(workflow_id, key))


def _named(workflow_id: str, key: str) -> str:
    return f"the event {key!r} of workflow {workflow_id!r}"
