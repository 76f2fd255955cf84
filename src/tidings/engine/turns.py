"""Replay of parallel branches: recorded results come again in the order in which they first came.

Branches that share something (a list they append to) depend on whose result came first. So a result
is given back only after those before it, and after as many operations have begun as had begun then;
and an operation that is not recorded waits until all recorded results have come, because they came
before its own. Deterministic code begins them all, so nobody waits for ever; code that is not may,
and then the log says for what.

Used on the event loop of the run alone. A blocking workflow has one branch, and no turns.
"""

from __future__ import annotations

import asyncio
import logging

from tidings.core.effects import Turn
from tidings.core.history import Run

logger = logging.getLogger("tidings")

_SAY_AFTER_SECONDS = 10.0


class Turns:
    """Who of one run waits for its turn."""

    __slots__ = ("_new", "_run", "_waiting")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._new: list[asyncio.Future[None]] = []

    async def wait(self, turn: Turn) -> None:
        """Wait for the turn of a recorded result, or of a new operation."""
        if turn.finished is not None and turn.finished not in self._run.turns:
            return  # It had come when a cancellation overtook it.
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if turn.finished is None:
            self._new.append(future)
        else:
            self._waiting[turn.finished] = (turn.begun, future)
        self.look()
        late = loop.call_later(_SAY_AFTER_SECONDS, self._say, turn)
        try:
            await future
        finally:
            late.cancel()

    def look(self) -> None:
        """Look soon whose turn it is: after everything that is ready to run has run."""
        asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        turns = self._run.turns
        if not turns:
            new, self._new = self._new, []
            for future in new:
                _release(future)
        elif turns[-1] in self._waiting:
            begun, future = self._waiting[turns[-1]]
            if self._run.begun >= begun:
                del self._waiting[turns.pop()]
                _release(future)
                self.look()

    def _say(self, turn: Turn) -> None:
        logger.warning(
            "the replay of workflow %r waits for the %s recorded result, which does not come: its code may not be "
            "deterministic",
            self._run.workflow_id,
            self._run.turns[-1] if self._run.turns else "last",
            extra={"workflow_id": self._run.workflow_id},
        )


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
