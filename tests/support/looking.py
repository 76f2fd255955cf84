"""Lets an engine look for workflows that are awaited and that no process executes."""

from __future__ import annotations

from tests.support.clock import ManualClock
from tests.support.face import off_loop
from tidings.engine.engine import Engine
from tidings.engine.ownership.neglect import LOOK_MS


async def look(engine: Engine, clock: ManualClock) -> None:
    """Trigger several looks, and wait for their queries."""
    for _ in range(4):
        clock.advance(LOOK_MS / 1_000)
        engine.tell_waiting()
        await off_loop(engine.reader.ask(lambda _: None).result)
