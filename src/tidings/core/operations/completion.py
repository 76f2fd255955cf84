"""Waiting for many workflows: `as_completed` yields them as they end, `wait_first` returns the first to end.

A loop over n workflows queries all of them once, and afterwards only those that a wake-up names. So it needs at most n
queries and n registrations, and in a workflow n entries. Workflows that are found ended together are returned, and
recorded, together. When wake-ups may have been lost, every waiter is woken, so the loop queries all workflows again.

Workflows that had ended before the first query come in the order of their end times, the others as the loop sees them
end. In a workflow that order is recorded, and a replay repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from tidings.core.effects import (
    BARRIER,
    NOW,
    Commit,
    Defer,
    Due,
    Failed,
    FindEnds,
    FindWorkflow,
    Gather,
    Gathering,
    Operation,
    Read,
    Wait,
    WakeKey,
    Watch,
)
from tidings.core.history import Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import by, deadline_of, observed, recorded, refuse, timing, within
from tidings.core.operations.results import end_key, stuck_error
from tidings.error import DBOSBaseException, DBOSNonExistentWorkflowError
from tidings.lifecycle import has_ended
from tidings.model import End, Unit, WorkflowRecord
from tidings.serialization import dump

AS_COMPLETED: Final = "DBOS.as_completed"
WAIT_FIRST: Final = "DBOS.wait_first"

# How many workflows one query asks about, and one entry lists.
PAGE: Final = 1_000


class Completion:
    """The state of a loop over workflows; each of the loop's operations uses it.

    Attributes:
        left: the workflows that were not returned yet, in the order in which they were named.
        ended: those of them that are known to have ended, in the order of their ends.
        count: how many workflows were named.
        began_ms: when the first operation began, if that is recorded.
    """

    __slots__ = ("_gathering", "_has_looked", "_stuck", "_to_look_at", "began_ms", "count", "ended", "left")

    def __init__(self, workflow_ids: Iterable[str]) -> None:
        self._gathering: Gathering | None = None
        self.left: dict[str, None] = dict.fromkeys(workflow_ids)
        self.count = len(self.left)
        self.began_ms: int | None = None
        self.ended: dict[str, None] = {}
        self._has_looked = False
        self._stuck: dict[str, None] = {}  # Some code could not continue these when they were looked at.
        # Woken, and not looked at since. If the program gives a look up, the next operation looks.
        self._to_look_at: dict[str, BaseException | None] = {}

    def add(self, workflow_id: str) -> None:
        """Add a workflow, before the first operation."""
        self.left[workflow_id] = None
        self.count = len(self.left)

    def given(self, workflow_ids: Sequence[str]) -> None:
        """Note that the loop has returned these workflows."""
        for each in workflow_ids:
            self.left.pop(each, None)
            self.ended.pop(each, None)
        if not self.left:
            self.close()

    def close(self) -> None:
        """Stop watching. Takes no lock."""
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering.close()

    def __del__(self) -> None:
        self.close()  # The program has left the loop.

    def wait(self, due: Due | None, on_waiting: Unit | None = None, *, may_be_stuck: bool = True) -> Operation[None]:
        """Wait until some workflows are known to have `ended`; there are none if the time is up.

        Args:
            due: when the time is up.
            on_waiting: records the start and the deadline; it is handed over before the first wait.
            may_be_stuck: whether to wait for a workflow too that no code can continue: other code may be deployed.

        Raises:
            DBOSNonExistentWorkflowError: some of them do not exist.
            DBOSUnexpectedStepError: none has ended, and one is stuck.
        """
        try:
            yield from self._wait(due, on_waiting, may_be_stuck=may_be_stuck)
        except (Exception, DBOSBaseException):
            self.close()  # The error may keep this object alive. A later operation watches all that are left.
            raise

    def _wait(self, due: Due | None, on_waiting: Unit | None, *, may_be_stuck: bool) -> Operation[None]:
        if self.ended:
            return
        is_over = due is not None and due.longest_ms <= 0
        if not self._has_looked:
            self._has_looked = True
            yield from self._look(tuple(self.left))  # If some have ended, nothing needs to be watched.
            if self.ended:
                return
        if self._gathering is None:
            self._gathering = yield Gather()
            self._to_look_at = dict.fromkeys(self.left)
            self._gathering.watch(map(end_key, self.left))  # Watch before looking.
        yield from self._look_again(self._gathering, everywhere=is_over)
        if on_waiting is not None and not (self.ended or is_over):
            yield Defer(lambda: on_waiting)
        while not self.ended:
            if not may_be_stuck:
                yield from _raise_if_stuck(self._stuck)
            if is_over:
                break
            is_over = not (yield Wait(self._gathering.bell(), due))
            yield from self._look_again(self._gathering, everywhere=is_over)

    def _look_again(self, gathering: Gathering, *, everywhere: bool) -> Operation[None]:
        """Look at the woken workflows. At the deadline look at all of them, as a wake-up may have been lost."""
        self._to_look_at.update((_id_of(key), error) for key, error in gathering.take().items())
        yield from self._look(tuple(self._to_look_at))
        still = [each for each in self._to_look_at if each in self.left and each not in self.ended]
        if still:
            gathering.watch(map(end_key, still))
            yield from self._look(still)
        if everywhere:
            yield from self._look(tuple(self.left))
        failures = [self._to_look_at[each] for each in still if each not in self.ended]
        self._to_look_at.clear()
        failure = next((error for error in failures if error is not None), None)
        if failure is not None and not self.ended:
            raise failure

    def _look(self, workflow_ids: Sequence[str]) -> Operation[None]:
        """Query these workflows, and note which have ended."""
        ends, stuck = yield from _find_ended(workflow_ids)
        for each in workflow_ids:
            self._stuck.pop(each, None)
        self._stuck.update(stuck)
        new = [each for each in workflow_ids if each in ends and each in self.left]
        self.ended.update(dict.fromkeys(sorted(new, key=lambda each: ends[each].at_ms)))
        if self._gathering is not None:
            self._gathering.forget(map(end_key, new))


def _find_ended(workflow_ids: Sequence[str]) -> Operation[tuple[dict[str, End], dict[str, None]]]:
    """Query which of these have ended, one page at a time, and which some version of the code could not continue."""
    ends: dict[str, End] = {}
    stuck: dict[str, None] = {}
    missing: list[str] = []
    for start in range(0, len(workflow_ids), PAGE):
        found: dict[str, End | None] = yield Read(FindEnds(tuple(workflow_ids[start : start + PAGE])))
        missing += [each for each, end in found.items() if end is None]
        ends.update((each, end) for each, end in found.items() if end is not None and has_ended(end.status))
        stuck.update((each, None) for each, end in found.items() if end is not None and each not in ends)
    if missing:
        raise DBOSNonExistentWorkflowError(*missing)
    return ends, stuck


def _raise_if_stuck(workflow_ids: Iterable[str]) -> Operation[None]:
    for each in workflow_ids:
        found: WorkflowRecord | None = yield Read(FindWorkflow(each))
        error = None if found is None else (yield from stuck_error(found))
        if error is not None:
            raise error


def _id_of(key: WakeKey) -> str:
    return key[1] or ""


# --- one after the other --------------------------------------------------------------------------


def next_ended(completion: Completion, timeout_seconds: float | None, left_seconds: float | None) -> Operation[Any]:
    """Return the next workflows that have ended, in a step or outside any workflow, within `left_seconds`."""
    try:
        yield from completion.wait(within(left_seconds), may_be_stuck=False)
    except DBOSNonExistentWorkflowError as error:
        return Failed(error)
    if not completion.ended:
        return Failed(_timed_out(completion, timeout_seconds))
    found = list(completion.ended)
    completion.given(found)
    return found


def next_ended_recorded(slot: Slot, completion: Completion, timeout_seconds: float | None) -> Operation[Any]:
    """Do the same as `next_ended` in a workflow, and record the ended workflows in their order."""
    if completion.began_ms is None and slot.recorded is not None:
        completion.began_ms = slot.recorded.entry.started_at_ms
    found = yield from recorded(slot, _next_ended_recorded(slot, completion, timeout_seconds))
    if isinstance(found, Failed):
        return found
    others = [each for each in found if each not in completion.left]
    if others:
        called = f"{AS_COMPLETED} of {', '.join(map(repr, islice(completion.left, 9)))}"
        raise slot.run.diverge(slot.branch, slot.number, f"{AS_COMPLETED}, which gave {others[0]!r},", called)
    completion.given(found)
    return found


def _next_ended_recorded(slot: Slot, completion: Completion, timeout_seconds: float | None) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started, _ = timing(slot, (yield NOW), None)
    if completion.began_ms is None:
        completion.began_ms = started
    deadline = deadline_of(completion.began_ms, timeout_seconds)
    on_waiting = None if slot.is_open else run.unit(slot.open(started, deadline))
    try:
        yield from completion.wait(by(started, deadline), on_waiting)
    except DBOSNonExistentWorkflowError as error:
        return (yield from refuse(slot, error, started))
    if not completion.ended:
        return (yield from refuse(slot, _timed_out(completion, timeout_seconds), started))
    found = list(islice(completion.ended, PAGE))
    output = yield from patiently(dump, run.serializer, found, "which workflows have ended")
    yield Commit(run.unit(slot.done(started, (yield NOW), output=output)))
    return found


def _timed_out(completion: Completion, timeout_seconds: float | None) -> TimeoutError:
    first = next(iter(completion.left))
    return TimeoutError(
        f"{len(completion.left)} of {completion.count} workflows had not ended within {timeout_seconds:g} s, for "
        f"example {first!r}. DBOS.get_workflow_status shows the state of one; to wait longer, keep using the same "
        "iterator"
    )


# --- the first -------------------------------------------------------------------------------------


def wait_first(workflow_ids: tuple[str, ...], *, may_be_stuck: bool = False) -> Operation[Any]:
    """Wait until one of these workflows has ended. If several have, return the one that is named first.

    It looks before it watches, because in a loop over `wait_first` one has mostly ended by the next call. For
    `may_be_stuck` see `Completion.wait`.
    """
    ended, _ = yield from _find_ended(workflow_ids)
    while not ended:
        arrival = yield Watch(tuple(map(end_key, workflow_ids)))
        ended, stuck = yield from _find_ended(workflow_ids)
        if not (ended or may_be_stuck):
            yield from _raise_if_stuck(stuck)
        if not ended:
            yield Wait(arrival)
            woken: WakeKey | None = arrival.woken_by
            ended, _ = yield from _find_ended(workflow_ids if woken is None else (_id_of(woken),))
    return next(each for each in workflow_ids if each in ended)


def wait_first_recorded(slot: Slot, workflow_ids: tuple[str, ...]) -> Operation[Any]:
    """Call `wait_first` in a workflow, and record which workflow it returned."""
    first = yield from observed(slot, wait_first(workflow_ids, may_be_stuck=True), "which workflow ended first")
    if isinstance(first, str) and first not in workflow_ids:
        called = f"{WAIT_FIRST} of {', '.join(map(repr, workflow_ids[:9]))}"
        raise slot.run.diverge(slot.branch, slot.number, f"{WAIT_FIRST}, which gave {first!r},", called)
    return first
