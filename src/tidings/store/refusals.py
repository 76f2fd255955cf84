"""Which units of a batch do not apply, and why: the one place that decides it, for both stores.

It decides on what it is given and reads nothing. The store guards what was read until the batch is
written (SQLite lets one connection write at a time, PostgreSQL locks the rows), so what is written
afterwards cannot fail on a condition. Refusals are kept with the executor, for `recall` to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Literal, NamedTuple, assert_never

import msgspec
from msgspec import Struct

from tidings.model import APPLIED, Answer, Applied, InUse, NoSuchWorkflow, Stale, Status, Unit, WorkflowRecord

# What decides: the status and the epoch of each workflow that exists, by id.
States = dict[str, tuple[str, int]]


class Refusal(Struct, frozen=True, array_like=True):
    """Why a unit does not apply, in the form that is stored.

    `about` holds what the answer names: the id in use, the ids that do not exist, or the status.
    """

    kind: Literal["in use", "no such workflow", "stale"]
    about: tuple[str, ...]


Refusals = dict[int, Refusal]  # by the unit's index in the batch


class Decision(NamedTuple):
    """The refusals of a batch, and the states of workflows after it."""

    refusals: Refusals
    states: States


def workflows_in_question(units: Sequence[Unit]) -> set[str]:
    """Return the ids of all workflows whose state decides whether units apply."""
    ids = destinations(units)
    ids.update(unit.start.workflow_id for unit in units if unit.start is not None)
    ids.update(unit.workflow_id for unit in units if unit.outcome is not None and unit.workflow_id is not None)
    ids.update(unit.cancel for unit in units if unit.cancel is not None)
    ids.update(workflow_id for workflow_id, _ in published_for(units))
    return ids


def destinations(units: Sequence[Unit]) -> set[str]:
    """Return the ids of all workflows that units send to."""
    return {message.destination_id for unit in units for message in unit.messages}


def published_for(units: Sequence[Unit]) -> set[tuple[str, int]]:
    """Return the runs, id and epoch, for which units publish."""
    return {
        (unit.workflow_id or "", unit.epoch)
        for unit in units
        if unit.item is not None or unit.event is not None or unit.closes  # `publishes`; a stream has many items
    }


def decide(units: Sequence[Unit], states: Mapping[str, tuple[str, int]]) -> Decision:
    """Decide on a batch, given the states of `workflows_in_question` before it.

    All starts come first, then destinations and what is published, then outcomes, then cancellations,
    so one part of a unit may have been counted on before another part is refused. Such a unit is
    withdrawn, and all is decided anew without it.
    """
    withdrawn: Refusals = {}
    published = published_for(units)
    while True:
        attempt = _Attempt(dict(withdrawn), dict(states), set())
        attempt.decide(units, published)
        torn = attempt.counted_on & attempt.refusals.keys()
        if not torn:
            return Decision(attempt.refusals, attempt.states)
        withdrawn.update((index, attempt.refusals[index]) for index in torn)


class _Attempt(NamedTuple):
    refusals: Refusals
    states: States
    counted_on: set[int]  # the units that changed `states`

    def decide(self, units: Sequence[Unit], published: Set[tuple[str, int]]) -> None:
        for index, unit in enumerate(units):
            if unit.start is not None and index not in self.refusals:
                self._start(index, unit.start.workflow_id)
        for index, unit in enumerate(units):
            if unit.messages and index not in self.refusals:
                self._find_destinations(index, unit)
        over = {run for run in published if self.states.get(run[0]) != (Status.PENDING, run[1])}
        if over:
            for index, unit in enumerate(units):
                if unit.publishes and (unit.workflow_id or "", unit.epoch) in over and index not in self.refusals:
                    self._is_pending(index, unit.workflow_id or "", unit.epoch)
        for index, unit in enumerate(units):
            if unit.outcome is not None and index not in self.refusals:
                self._end(index, unit.workflow_id or "", unit.outcome.status, unit.epoch)
        for index, unit in enumerate(units):
            if unit.cancel is not None and index not in self.refusals:
                self._end(index, unit.cancel, Status.CANCELLED, None)

    def _start(self, index: int, workflow_id: str) -> None:
        if workflow_id in self.states:
            self.refusals[index] = Refusal("in use", (workflow_id,))
        else:
            self.states[workflow_id] = (Status.PENDING.value, 1)
            self.counted_on.add(index)

    def _find_destinations(self, index: int, unit: Unit) -> None:
        missing = dict.fromkeys(each.destination_id for each in unit.messages if each.destination_id not in self.states)
        if missing:
            self.refusals[index] = Refusal("no such workflow", tuple(missing))

    def _end(self, index: int, workflow_id: str, into: Status, epoch: int | None) -> None:
        """Let the workflow end. Without an epoch, that of any run will do."""
        if self._is_pending(index, workflow_id, epoch):
            _, current = self.states[workflow_id]
            self.states[workflow_id] = (into.value, current)
            self.counted_on.add(index)

    def _is_pending(self, index: int, workflow_id: str, epoch: int | None) -> bool:
        """Tell whether the workflow is pending, under this epoch if there is one; if not, refuse the unit."""
        state = self.states.get(workflow_id)
        if state is None:
            self.refusals[index] = Refusal("no such workflow", (workflow_id,))
            return False
        status, current = state
        if status != Status.PENDING or (epoch is not None and epoch != current):
            self.refusals[index] = Refusal("stale", (str(status),))
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
        case _ as never:
            assert_never(never)


def applied(unit: Unit, states: Mapping[str, tuple[str, int]]) -> Applied:
    """Return the answer to a unit that applies and takes nothing, given the states of its destinations."""
    if not unit.messages:
        return APPLIED
    ids = dict.fromkeys(message.destination_id for message in unit.messages)
    ended = tuple(each for each in ids if states[each][0] != Status.PENDING)
    return Applied(ended) if ended else APPLIED


def ids_in_use(refusals: Refusals) -> list[str]:
    """Return the ids of the workflows that answers to these refusals show."""
    return [refusal.about[0] for refusal in refusals.values() if refusal.kind == "in use"]


def encode(refusals: Refusals) -> str | None:
    """Write refusals down; none are `None`."""
    return msgspec.json.encode(refusals).decode() if refusals else None


def decode(text: str | None) -> Refusals:
    """Read what `encode` wrote."""
    return msgspec.json.decode(text, type=Refusals) if text else {}
