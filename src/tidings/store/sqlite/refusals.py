"""Which units of a batch do not apply, and why. It decides on what it is given and reads nothing.

SQLite lets one connection write at a time, so what is read at the start of a transaction holds to
its end: the conditions of all units are decided here first, and what is written after cannot fail
on them. Refusals are kept with the executor, so that `recall` can repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

from msgspec import Struct

from tidings.model import Answer, InUse, NoSuchWorkflow, Stale, Status, Unit, WorkflowRecord

# What decides: the status and the epoch of each workflow that exists, by id.
States = dict[str, tuple[str, int]]


class Refusal(Struct, frozen=True, array_like=True):
    """Why a unit does not apply, in the form that is stored.

    `about` holds what the answer names: the id in use, the ids that do not exist, or the status.
    """

    kind: Literal["in use", "no such workflow", "stale"]
    about: tuple[str, ...]


Refusals = dict[int, Refusal]  # by the unit's index in the batch


def answer(refusal: Refusal, records: Mapping[str, WorkflowRecord]) -> Answer:
    """Return the answer to a refused unit; `records` has the workflows whose ids are in use."""
    match refusal.kind:
        case "in use":
            return InUse(records[refusal.about[0]])
        case "no such workflow":
            return NoSuchWorkflow(refusal.about)
        case "stale":
            return Stale(Status(refusal.about[0]))
        case _ as never:
            assert_never(never)


def ids_in_use(refusals: Refusals) -> list[str]:
    """Return the ids of the workflows that answers to these refusals show."""
    return [refusal.about[0] for refusal in refusals.values() if refusal.kind == "in use"]


def workflows_in_question(units: Sequence[Unit]) -> set[str]:
    """Return the ids of all workflows whose state decides whether units apply."""
    ids = {unit.start.workflow_id for unit in units if unit.start is not None}
    ids.update(message.destination_id for unit in units for message in unit.messages)
    ids.update(unit.workflow_id for unit in units if unit.outcome is not None and unit.workflow_id is not None)
    ids.update(unit.cancel for unit in units if unit.cancel is not None)
    return ids


def decide(units: Sequence[Unit], states: States) -> Refusals:
    """Return the refusals of a batch, given the states of `workflows_in_question` before it.

    All starts come first, then destinations, then ends, so one part of a unit may have been counted
    on before another part is refused. Such a unit is withdrawn, and all is decided anew without it.
    """
    withdrawn: Refusals = {}
    while True:
        decision = _Decision(dict(states), dict(withdrawn), set())
        decision.make(units)
        torn = decision.counted_on & decision.refusals.keys()
        if not torn:
            return decision.refusals
        withdrawn.update((index, decision.refusals[index]) for index in torn)


class _Decision(NamedTuple):
    states: States
    refusals: Refusals
    counted_on: set[int]  # units that changed `states`

    def make(self, units: Sequence[Unit]) -> None:
        for index, unit in enumerate(units):
            if unit.start is not None and index not in self.refusals:
                self._start(index, unit.start.workflow_id)
        for index, unit in enumerate(units):
            if unit.messages and index not in self.refusals:
                ids = dict.fromkeys(message.destination_id for message in unit.messages)
                missing = tuple(each for each in ids if each not in self.states)
                if missing:
                    self.refusals[index] = Refusal("no such workflow", missing)
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

    def _end(self, index: int, workflow_id: str, into: Status, epoch: int | None) -> None:
        """Let the workflow end. Without an epoch, that of any run will do."""
        if workflow_id not in self.states:
            self.refusals[index] = Refusal("no such workflow", (workflow_id,))
            return
        status, current = self.states[workflow_id]
        if status != Status.PENDING or (epoch is not None and epoch != current):
            self.refusals[index] = Refusal("stale", (status,))
        else:
            self.states[workflow_id] = (into.value, current)
            self.counted_on.add(index)
