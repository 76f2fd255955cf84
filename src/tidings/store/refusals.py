"""Which units of a batch do not apply, and why: decided here and nowhere else, for both stores.

It decides from its arguments and reads nothing. The store protects what it read until the batch is written: SQLite lets
one connection write at a time, PostgreSQL locks the rows. So no condition can fail after the decision. The refusals are
stored with the executor, so that `recall` can repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Literal, NamedTuple, assert_never

import msgspec
from msgspec import Struct

from tidings import lifecycle
from tidings.model import (
    APPLIED,
    Answer,
    Applied,
    InUse,
    NewWorkflow,
    NoSuchWorkflow,
    NotPending,
    Stale,
    Status,
    Unit,
    WorkflowRecord,
)

# The input of a decision: the status and the epoch of each workflow that exists, by id.
States = dict[str, tuple[str, int]]


class Refusal(Struct, frozen=True, array_like=True):
    """Why a unit does not apply, in the form that is stored.

    `about` holds what the answer names: the id in use, the ids that do not exist or have ended, or the status.
    """

    kind: Literal["in use", "no such workflow", "stale", "not pending"]
    about: tuple[str, ...]


Refusals = dict[int, Refusal]  # by the unit's index in the batch


class BatchDecision(NamedTuple):
    """The refusals of a batch, and the states of its workflows after it."""

    refusals: Refusals
    states: States


def workflows_in_question(units: Sequence[Unit]) -> set[str]:
    """Return the ids of all workflows whose state decides whether units apply."""
    ids = destinations(units)
    for unit in units:
        start = unit.start
        if start is not None:
            ids.add(start.workflow_id)
            if start.parent_id is not None:
                ids.add(start.parent_id)
        if unit.outcome is not None and unit.workflow_id is not None:
            ids.add(unit.workflow_id)
        if unit.cancels:
            ids.update(unit.cancels)
    ids.update(workflow_id for workflow_id, _ in published_for(units))
    return ids


def destinations(units: Sequence[Unit]) -> set[str]:
    """Return the ids of all workflows that units send messages to."""
    return {message.destination_id for unit in units for message in unit.messages}


def published_for(units: Sequence[Unit]) -> set[tuple[str, int]]:
    """Return the runs (id and epoch) that units publish for."""
    return {
        (unit.workflow_id or "", unit.epoch)
        for unit in units
        if unit.item is not None or unit.event is not None or unit.closes  # `publishes`; a stream has many items
    }


def parents(units: Sequence[Unit]) -> set[tuple[str, int | None]]:
    """Return the parents (id and epoch) of the workflows that units start; epoch `None` means any: steps know none."""
    return {_parent(unit) for unit in units if unit.start is not None and unit.start.parent_id is not None}


def _parent(unit: Unit) -> tuple[str, int | None]:
    assert unit.start is not None
    return unit.start.parent_id or "", unit.epoch if unit.starts_child else None


def _is_active(state: tuple[str, int] | None, epoch: int | None) -> bool:
    """Tell whether a workflow exists and is active, under this epoch if there is one."""
    return state is not None and lifecycle.is_active(state[0]) and epoch in (None, state[1])


def decide(units: Sequence[Unit], states: Mapping[str, tuple[str, int]]) -> BatchDecision:
    """Decide on a batch, given the states of `workflows_in_question` before it.

    The order: all starts, their parents, destinations, publishing runs, outcomes, cancellations. So one part of a unit
    may already count when another part of it is refused. Such a unit is withdrawn, and the batch is decided again
    without it.
    """
    withdrawn: Refusals = {}
    published = published_for(units)
    while True:
        attempt = _Attempt(dict(withdrawn), dict(states), set())
        attempt.decide(units, published)
        torn = attempt.counted_on & attempt.refusals.keys()
        if not torn:
            return BatchDecision(attempt.refusals, attempt.states)
        withdrawn.update((index, attempt.refusals[index]) for index in torn)


class _Attempt(NamedTuple):
    refusals: Refusals
    states: States
    counted_on: set[int]  # the indexes of units that changed `states`

    def decide(self, units: Sequence[Unit], published: Set[tuple[str, int]]) -> None:
        self._decide_starts(units)
        for index, unit in enumerate(units):
            if unit.messages and index not in self.refusals:
                self._find_destinations(index, unit)
        over = {run for run in published if not _is_active(self.states.get(run[0]), run[1])}
        if over:
            for index, unit in enumerate(units):
                if unit.publishes and (unit.workflow_id or "", unit.epoch) in over and index not in self.refusals:
                    self._is_pending(index, unit.workflow_id or "", unit.epoch)
        for index, unit in enumerate(units):
            if unit.outcome is not None and index not in self.refusals:
                self._end(index, unit.workflow_id or "", unit.outcome.status, unit.epoch)
        for index, unit in enumerate(units):
            if unit.cancels and index not in self.refusals:
                self._cancel(index, unit.cancels)

    def _decide_starts(self, units: Sequence[Unit]) -> None:
        for index, unit in enumerate(units):
            if unit.start is not None and index not in self.refusals:
                self._start(index, unit.start)
        for index, unit in enumerate(units):
            if unit.start is not None and unit.start.parent_id is not None and index not in self.refusals:
                self._is_pending(index, *_parent(unit))

    def _start(self, index: int, start: NewWorkflow) -> None:
        if start.workflow_id in self.states:
            self.refusals[index] = Refusal("in use", (start.workflow_id,))
        else:
            self.states[start.workflow_id] = (lifecycle.FIRST.value, int(start.is_owned))
            self.counted_on.add(index)

    def _find_destinations(self, index: int, unit: Unit) -> None:
        missing = dict.fromkeys(each.destination_id for each in unit.messages if each.destination_id not in self.states)
        if missing:
            self.refusals[index] = Refusal("no such workflow", tuple(missing))

    def _end(self, index: int, workflow_id: str, into: Status, epoch: int) -> None:
        """Let the workflow end, if it is pending."""
        if self._is_pending(index, workflow_id, epoch):
            self.states[workflow_id] = (into.value, epoch)
            self.counted_on.add(index)

    def _cancel(self, index: int, workflow_ids: tuple[str, ...]) -> None:
        """Cancel all of these workflows, or none."""
        missing = tuple(each for each in workflow_ids if each not in self.states)
        if missing:
            self.refusals[index] = Refusal("no such workflow", missing)
            return
        ended = tuple(each for each in workflow_ids if not lifecycle.may_become(self.states[each][0], Status.CANCELLED))
        if ended:
            self.refusals[index] = Refusal("not pending", ended)
            return
        for each in workflow_ids:
            self.states[each] = (Status.CANCELLED.value, self.states[each][1])
        self.counted_on.add(index)

    def _is_pending(self, index: int, workflow_id: str, epoch: int | None) -> bool:
        """Tell whether the workflow is pending, and under this epoch if one is given; if not, refuse the unit."""
        state = self.states.get(workflow_id)
        if state is None:
            self.refusals[index] = Refusal("no such workflow", (workflow_id,))
            return False
        if not _is_active(state, epoch):
            self.refusals[index] = Refusal("stale", (str(state[0]),))
            return False
        return True


# --- the answers -------------------------------------------------------------------------------------


def refused(refusal: Refusal, records: Mapping[str, WorkflowRecord]) -> Answer:
    """Return the answer to a refused unit; `records` has the workflows of `ids_in_use`."""
    match refusal.kind:
        case "in use":
            return InUse(records[refusal.about[0]])
        case "no such workflow":
            return NoSuchWorkflow(refusal.about)
        case "stale":
            return Stale(Status.of(refusal.about[0]))
        case "not pending":
            return NotPending(refusal.about)
        case _ as never:
            assert_never(never)


def applied(unit: Unit, states: Mapping[str, tuple[str, int]]) -> Applied:
    """Return the answer to a unit that applies and takes no message, given the states of its destinations."""
    if not unit.messages:
        return APPLIED
    ids = dict.fromkeys(message.destination_id for message in unit.messages)
    ended = tuple(each for each in ids if not lifecycle.is_active(states[each][0]))
    return Applied(ended) if ended else APPLIED


def ids_in_use(refusals: Refusals) -> list[str]:
    """Return the ids of the workflows that the answers to these refusals show."""
    return [refusal.about[0] for refusal in refusals.values() if refusal.kind == "in use"]


def encode(refusals: Refusals) -> str | None:
    """Encode refusals as JSON; no refusals are `None`."""
    return msgspec.json.encode(refusals).decode() if refusals else None


def decode(text: str | None) -> Refusals:
    """Decode the text that `encode` returned."""
    return msgspec.json.decode(text, type=Refusals) if text else {}
