"""The frame of every recorded operation: replay what is recorded, or else do it and record it.

A replay returns the recorded value or raises the recorded error, so the code takes the same path
again. An operation that the program gave up (it cancelled the await) is recorded as ABANDONED: its
replay waits, and records nothing, until the program gives it up again. An operation that is recorded
as waiting keeps its deadline.

An operation ends with a result, or because the program gives it up. In a run with branches the code
learns of these ends in the order of their numbers, and a replay repeats that order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from tidings.core.effects import (
    BARRIER,
    NOW,
    Abandoned,
    Commit,
    Defer,
    Due,
    Failed,
    Operation,
    Turn,
    Wait,
    WakeKey,
    Watch,
)
from tidings.core.history import Run, Slot
from tidings.core.operations.patience import patiently
from tidings.error import DBOSException, DBOSSerializationError
from tidings.model import Answer, Entry, EntryState, Taken, Unit
from tidings.serialization import dump, dump_error, load, load_outcome

T = TypeVar("T")


def recorded(slot: Slot, body: Operation[T]) -> Operation[Any]:
    """Return what is recorded at `slot`, or else run `body`."""
    if slot.is_finished:
        entry = yield from finished(slot)
        return (yield from load_result(slot, entry))
    return (yield from abandonable(slot, body))


def finished(slot: Slot) -> Operation[Entry]:
    """Return the recorded entry. If the program gave the operation up, wait until it does so again."""
    assert slot.recorded is not None
    entry = slot.recorded.entry
    if entry.state is EntryState.ABANDONED:
        try:
            yield Wait()
        except Abandoned:
            yield from _comes_again(slot, entry)
            raise
    if slot.run.turns:
        yield from _comes_again(slot, entry)
    return entry


def _comes_again(slot: Slot, entry: Entry) -> Operation[None]:
    if slot.run.turns and entry.finished is not None:
        yield Turn(entry.finished, entry.begun or 0)


def abandonable(slot: Slot, body: Operation[T]) -> Operation[T]:
    """Run `body`. If the program gives the operation up, record that."""
    try:
        try:
            if slot.run.has_turns:
                yield from all_come_again(slot.run)
            result = yield from body
        except Abandoned:
            yield Defer(partial(_abandoned, slot))
            yield from _comes(slot)
            raise
        yield from _comes(slot)
        return result
    finally:
        slot.comes_no_more()


def _comes(slot: Slot) -> Operation[None]:
    """Wait until it is the turn of this operation's end."""
    if slot.run.coming is not None and slot.finished is not None:
        yield Turn(slot.finished)


def all_come_again(run: Run) -> Operation[None]:
    """Wait until everything recorded has been replayed.

    If the program gives the operation up earlier, `Abandoned` is raised after that wait too, in its turn.
    """
    given_up: Abandoned | None = None
    while run.has_turns:
        try:
            yield Turn()
        except Abandoned as error:
            given_up = error
        else:
            break  # Also for the blocking driver, which does not wait for turns.
    if given_up is not None:
        raise given_up


def _abandoned(slot: Slot) -> Unit:
    return slot.run.unit(slot.abandoned())


def load_result(slot: Slot, entry: Entry) -> Operation[Any]:
    """Rebuild the value or the error of a finished entry."""
    return patiently(_load_result, slot, entry)


def _load_result(slot: Slot, entry: Entry) -> Any:
    run = slot.run
    where = f"{slot.name} in workflow {run.workflow_id!r}"
    try:
        if entry.error is not None:
            return Failed(load_outcome(run.serializer, entry.error, f"the error of {where}"))
        if entry.output is None:
            return None
        return load(run.serializer, entry.output, f"the result of {where}")
    except DBOSSerializationError as error:
        raise run.give_up(error) from None  # Some code could rebuild the value once, and other code may still.


def refuse(
    slot: Slot,
    error: BaseException,
    started_at_ms: int,
    *,
    put_back: Taken | None = None,
    child_workflow_id: str | None = None,
) -> Operation[Failed]:
    """Record an error before it is raised, so that a replay raises it too."""
    text, raised = yield from patiently(dump_error, slot.run.serializer, error)
    entry = slot.done(started_at_ms, (yield NOW), error=text, child_workflow_id=child_workflow_id)
    yield Commit(slot.run.unit(entry, put_back=put_back))
    return Failed(raised)


def observed(slot: Slot, body: Operation[T], what: str) -> Operation[T]:
    """Run an operation that records nothing itself, and record its value or error."""
    return recorded(slot, _observed(slot, body, what))


def _observed(slot: Slot, body: Operation[Any], what: str) -> Operation[Any]:
    yield BARRIER
    started: int = yield NOW
    try:
        value = yield from body
        if isinstance(value, Failed):
            return (yield from refuse(slot, value.error, started))
        output = yield from patiently(dump, slot.run.serializer, value, what)
    except DBOSException as error:
        return (yield from refuse(slot, error, started))
    yield Commit(slot.run.unit(slot.done(started, (yield NOW), output=output)))
    return value


def await_until(
    keys: tuple[WakeKey, ...], look: Callable[[], Operation[T | None]], due: Due | None, on_waiting: Unit | None
) -> Operation[T | None]:
    """Look until there is something, waiting for a wake-up on `keys` after each look; `None` when the time is up.

    `on_waiting` records the deadline; it is committed before the first wait.
    """
    is_over = due is not None and due.longest_ms <= 0
    while True:
        arrival = yield Watch(keys)
        found = yield from look()
        if found is not None:
            return found
        if is_over:
            return None
        if on_waiting is not None:
            yield Commit(on_waiting)
            on_waiting = None
        is_over = not (yield Wait(arrival, due))


def deadline_of(now_ms: int, timeout_seconds: float | None) -> int | None:
    """Return the deadline of a wait that begins now; `None` for no limit."""
    return None if timeout_seconds is None else now_ms + round(timeout_seconds * 1_000)


def within(timeout_seconds: float | None) -> Due | None:
    """Return when a wait ends that begins now and is not recorded."""
    return None if timeout_seconds is None else Due(round(timeout_seconds * 1_000))


def by(started_ms: int, deadline_ms: int | None) -> Due | None:
    """Return when a wait ends that began at `started_ms` and has a recorded deadline."""
    return None if deadline_ms is None else Due(deadline_ms - started_ms, deadline_ms)


def timing(slot: Slot, now_ms: int, timeout_seconds: float | None) -> tuple[int, int | None]:
    """Return when a waiting operation began, and its deadline.

    A recovered run uses what was recorded when the wait began.
    """
    if slot.is_open:
        assert slot.recorded is not None
        entry = slot.recorded.entry
        return entry.started_at_ms or now_ms, entry.deadline_ms
    return now_ms, deadline_of(now_ms, timeout_seconds)


def unexpected(answer: Answer) -> RuntimeError:
    """Return the error for an answer that the store's contract rules out."""
    return RuntimeError(f"the store gave an answer that its contract rules out: {answer!r}; please report this bug")
