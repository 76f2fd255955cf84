"""Durable sleep: the deadline is recorded first, so a recovered run sleeps only the rest."""

from __future__ import annotations

from tidings.core.effects import NOW, Commit, Defer, Operation, Wait
from tidings.core.history import Slot
from tidings.core.operations.recorded import by, recorded, timing

SLEEP = "DBOS.sleep"


def sleep(slot: Slot, seconds: float) -> Operation[None]:
    """Pause the workflow for `seconds`, counted from the first execution of this operation."""
    return recorded(slot, _sleep(slot, seconds))


def _sleep(slot: Slot, seconds: float) -> Operation[None]:
    started, deadline = timing(slot, (yield NOW), seconds)
    if not slot.is_open:
        yield Commit(slot.run.unit(slot.open(started, deadline)))
    yield Wait(due=by(started, deadline))
    now: int = yield NOW
    yield Defer(lambda: slot.run.unit(slot.done(started, now)))
