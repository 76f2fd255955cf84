"""Which units of a batch do not apply, and why. It decides on what it is given and reads nothing.

Refusals are kept with the executor, so that `recall` can repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, assert_never

import msgspec
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


def encode(refusals: Refusals) -> str:
    """Write refusals down."""
    return msgspec.json.encode(refusals).decode()


def decode(text: str | None) -> Refusals:
    """Read what `encode` wrote; `None` stands for no refusals."""
    return msgspec.json.decode(text, type=Refusals) if text else {}


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


def workflows_in_question(units: Sequence[Unit]) -> list[str]:
    """Return the ids of all workflows whose state decides whether units apply."""
    ids = {unit.start.workflow_id for unit in units if unit.start is not None}
    ids.update(message.destination_id for unit in units for message in unit.messages)
    ids.update(workflows_to_end(units))
    return list(ids)


def workflows_to_end(units: Sequence[Unit]) -> list[str]:
    """Return the ids of the workflows that these units end or cancel."""
    ids = {unit.workflow_id for unit in units if unit.outcome is not None and unit.workflow_id is not None}
    ids.update(unit.cancel for unit in units if unit.cancel is not None)
    return list(ids)


def decide(units: Sequence[Unit], states: States) -> Refusals:
    """Return the refusals of a batch, given the states of `workflows_in_question` before it.

    All starts come first, so a unit may count on a workflow that a later one starts. If that one is
    then refused for another reason, its start is withdrawn and everything is decided anew.
    """
    withdrawn: Refusals = {}
    while True:
        refusals = _decide(units, dict(states), withdrawn)
        also = {
            index: refusal
            for index, refusal in refusals.items()
            if index not in withdrawn and units[index].start is not None and refusal.kind != "in use"
        }
        if not also:
            return refusals
        withdrawn |= also


def _decide(units: Sequence[Unit], states: States, withdrawn: Refusals) -> Refusals:
    refusals = dict(withdrawn)
    left = [(index, unit) for index, unit in enumerate(units) if index not in withdrawn]
    for index, unit in left:
        if unit.start is not None:
            if unit.start.workflow_id in states:
                refusals[index] = Refusal("in use", (unit.start.workflow_id,))
            else:
                states[unit.start.workflow_id] = (Status.PENDING.value, 1)
    for index, unit in left:
        missing = dict.fromkeys(each.destination_id for each in unit.messages if each.destination_id not in states)
        if missing and index not in refusals:
            refusals[index] = Refusal("no such workflow", tuple(missing))
    for index, unit in left:
        if unit.outcome is not None and index not in refusals:
            refusal = _end(states, unit.workflow_id or "", unit.outcome.status, unit.epoch)
            if refusal is not None:
                refusals[index] = refusal
    for index, unit in left:
        if unit.cancel is not None and index not in refusals:
            refusal = _end(states, unit.cancel, Status.CANCELLED, None)
            if refusal is not None:
                refusals[index] = refusal
    return refusals


def _end(states: States, workflow_id: str, into: Status, epoch: int | None) -> Refusal | None:
    """Note that the workflow ends, or return why it cannot. Without an epoch, that of any run will do."""
    if workflow_id not in states:
        return Refusal("no such workflow", (workflow_id,))
    status, current = states[workflow_id]
    if status != Status.PENDING or (epoch is not None and epoch != current):
        return Refusal("stale", (status,))
    states[workflow_id] = (into.value, current)
    return None
