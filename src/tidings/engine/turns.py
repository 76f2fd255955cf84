"""Replay of parallel branches: recorded results come again in the order in which they first came.

Branches that share something (a list they append to) depend on whose result came first. So a result
is given back only after those before it, and after as many operations have begun as had begun then;
and an operation that is not recorded, like the end of the workflow, waits until all recorded results
have come, because they came before its own. Where a branch has recorded only that it waits, it waits
for that to begin too, unless the branch still has something else to wait for.

Deterministic code begins all that is recorded, so nothing waits for ever. Code that changed may not. When
nothing moves any more, and nothing but turns is waited for (`stuck`), the run has left its recorded path.
Where something else is waited for it may only be slow: the log says what is missing.

Used on the event loop of the run alone. A blocking workflow may run loops in its thread, one after the other, each with
turns of its own. What blocks a thread waits for no turn: nothing else of the run could come before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tidings.core.effects import Turn
from tidings.core.history import Run
from tidings.engine.chain import Chain
from tidings.engine.loops import running_loop
from tidings.engine.stuck import Motion, RunOf, motion_of
from tidings.engine.ticket import Ticket

logger = logging.getLogger("tidings")

# A run that looks stuck is looked at again after a while: the first time so late, then later and later.
_FIRST_LOOK_SECONDS = 1.0
_LAST_LOOK_SECONDS = 60.0
_SAY_AFTER_SECONDS = 10.0
# Rounds of the event loop to wait for a branch before it counts as slow.
_MOST_ROUNDS = 100


class Turns:
    """The tasks of one run that wait for their turn."""

    __slots__ = (
        "_chain",
        "_death",
        "_has_said",
        "_is_stuck",
        "_look_at",
        "_loop",
        "_new",
        "_rounds",
        "_run",
        "_run_of",
        "_seen",
        "_since",
        "_waiting",
    )

    def __init__(self, run: Run, chain: Chain, run_of: RunOf) -> None:
        self._run = run
        self._chain = chain
        self._run_of = run_of
        self._loop = running_loop()  # None where a blocking workflow has no event loop in its thread, until it has one.
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._new: list[asyncio.Future[None]] = []
        self._rounds = 0
        self._death: Ticket | None = None  # Settled when the run is killed; while anything waits.
        self._look_at: asyncio.TimerHandle | None = None
        self._seen: object = None  # How far the run was when it was last looked at, and
        self._since = 0.0  # since when.
        self._has_said = self._is_stuck = False
        run.when_broken = self.look

    async def wait(self, turn: Turn) -> None:
        """Wait for the turn of a recorded result, or of a new operation."""
        if turn.finished is not None and turn.finished not in self._run.turns:
            return  # It had come when a cancellation overtook it.
        if self._run.broken is not None:
            raise self._run.broken
        self._watch()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if turn.finished is None:
            self._new.append(future)
        else:
            self._waiting[turn.finished] = (turn.begun, future)
        self.look()
        try:
            await future
        except asyncio.CancelledError:
            if future in self._new:
                self._new.remove(future)
            raise

    def pass_by(self, finished: int | None) -> None:
        """Give this result back at once, to code that holds up its thread until it has it; or let it begin what is new.

        Raises:
            DBOSUnexpectedStepError: a blocking workflow goes on, and the event loop in which branches were opened has
                not run.
        """
        turns = self._run.turns
        if finished is None and self._run.branches_left and running_loop() is None:
            raise self._run.lacks_branch(None)
        if turns and turns[-1] == finished:
            turns.pop()
        elif finished in turns:
            turns.remove(finished)
        self.look()

    def branch_ends(self, path: str, task: asyncio.Task[Any]) -> None:
        """Note that a branch has ended. If it was cancelled, nothing more is expected of it."""
        if task.cancelled() or task.cancelling():
            self._run.excuse(path)
            self.look()

    def look(self) -> None:
        """Look soon whose turn it is: after everything that is ready to run has run."""
        if self._loop is not None and self._loop is running_loop():
            self._loop.call_soon(self._give)
        elif self._loop is not None:
            _call_on(self._loop, self._give)

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether these are the turns of tasks on this loop."""
        return self._loop is loop

    def _give(self) -> None:
        run, turns = self._run, self._run.turns
        if run.broken is not None or self._chain.dead is not None:
            self._refuse()
        elif not turns:
            if self._new and not (run.branches_left and self._may_still_come()):
                run.branches_left = 0
                new, self._new = self._new, []
                for future in new:
                    _release(future)
        elif turns[-1] in self._waiting:
            begun, future = self._waiting[turns[-1]]
            if run.begun >= begun:
                del self._waiting[turns.pop()]
                self._rounds = 0
                _release(future)
                self.look()
        if not self._new and not self._waiting:
            self._unwatch()

    def _may_still_come(self) -> bool:
        """Tell whether to wait for what a branch has begun and not finished: it comes now, or never will."""
        motion = motion_of(self._run, self._futures(), self._run_of)
        if motion is Motion.MOVES and self._rounds < _MOST_ROUNDS:
            self._rounds += 1
            self.look()
            return True
        return motion is Motion.STUCK  # `_check` makes sure of it.

    def _refuse(self) -> None:
        """Let nothing wait any more in a run that is dead, or off its path."""
        error = copy.copy(self._chain.dead) or self._run.broken
        assert error is not None
        for future in self._futures():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        self._new.clear()

    def _futures(self) -> set[asyncio.Future[None]]:
        return {*self._new, *(future for _, future in self._waiting.values())}

    # --- what never comes ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Hear of the run's death, and look after a while whether it is stuck."""
        loop = asyncio.get_running_loop()
        if self._death is None:
            death = Ticket()
            self._chain.wait(death)
            death.when_settled(partial(_call_on, loop, self._give))
            self._death = death
        if self._look_at is None:
            self._seen = None
            self._look_at = loop.call_later(_FIRST_LOOK_SECONDS, self._check, _FIRST_LOOK_SECONDS)

    def _unwatch(self) -> None:
        if self._death is not None:
            self._chain.done_waiting(self._death)
            self._death = None
        if self._look_at is not None and not self._run.has_turns:
            self._look_at.cancel()
            self._look_at = None

    def _check(self, seconds: float) -> None:
        """Give the run up if it was stuck at the last look and has not moved since; else look again, if it waits."""
        run, loop = self._run, asyncio.get_running_loop()
        self._look_at = None
        if not self._new and not self._waiting:
            return
        # New operations may begin, be given up, and begin again: that brings it no further.
        seen, self._seen = self._seen, (len(run.turns), run.branches_left)
        was_stuck, self._is_stuck = self._is_stuck, motion_of(run, self._futures(), self._run_of) is Motion.STUCK
        if seen != self._seen:
            self._since, self._has_said, seconds = loop.time(), False, _FIRST_LOOK_SECONDS
        elif self._is_stuck and was_stuck:  # Twice: what is due in this round of the loop is not seen.
            run.lacks_branch(self._next_begun())
        elif not self._has_said and loop.time() - self._since >= _SAY_AFTER_SECONDS:
            self._say()
            self._has_said = True
        seconds = _FIRST_LOOK_SECONDS if self._is_stuck else seconds
        self._look_at = loop.call_later(seconds, self._check, min(2 * seconds, _LAST_LOOK_SECONDS))
        self._give()

    def _next_begun(self) -> int | None:
        """Return how many operations must have begun for the next result, if that waits for nothing else."""
        turns = self._run.turns
        return self._waiting[turns[-1]][0] if turns and turns[-1] in self._waiting else None

    def _say(self) -> None:
        logger.warning(
            "the replay of workflow %r waits for %s, as was recorded: its code may be slow, or have changed, "
            "or not be deterministic",
            self._run.workflow_id,
            self._run.missing(self._next_begun()),
            extra={"workflow_id": self._run.workflow_id},
        )


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # It is closed.
        loop.call_soon_threadsafe(callback)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
