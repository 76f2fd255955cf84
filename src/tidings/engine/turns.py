"""Parallel branches: results come to them in the order of their numbers, in a replay as they first did.

Branches that share something (a list they append to) depend on whose result came first. So each result is numbered
when it is handed over to be recorded, and comes to the code after those before it, one at a time, when the run is at
rest (`rest`). That an operation was given up comes so too: a timer of the program's decided it, perhaps.

A replay gives recorded results back alike, and each after as many operations have begun as had begun then; and an
operation that is not recorded, like the end of the workflow, waits until all recorded results
have come, because they came before its own. Where a branch has recorded only that it waits, it waits
for that to begin too, unless the branch still has something else to wait for.

Deterministic code begins all that is recorded, so nothing waits for ever. Code that changed may not. When
nothing moves any more, and nothing but turns is waited for (`stuck`), the run has left its recorded path.
Where something else is waited for it may only be slow: the log says what is missing.

Used on the event loop of the run alone. A run with one branch has no turns. A blocking workflow may run loops in its
thread, one after the other, each with turns of its own. What blocks a thread waits for no turn: nothing else of the run
could come before it.
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
from tidings.engine.rest import CodeOf, rest_of
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
        "_code_of",
        "_death",
        "_has_said",
        "_held",
        "_inside",
        "_is_stuck",
        "_look_at",
        "_loop",
        "_new",
        "_rounds",
        "_run_of",
        "_seen",
        "_since",
        "_waiting",
        "run",
    )

    def __init__(self, run: Run, chain: Chain, run_of: RunOf, code_of: CodeOf) -> None:
        self.run = run
        self._chain = chain
        self._run_of = run_of
        self._code_of = code_of
        self._loop = running_loop()  # None where a blocking workflow has no event loop in its thread, until it has one.
        self._inside: set[asyncio.Task[Any]] = set()  # Tasks that are inside an operation.
        self._held = 0  # Operations that have their result, and wait until they may hand over more.
        self._waiting: dict[int, tuple[int, asyncio.Future[None], asyncio.Task[Any] | None]] = {}
        self._new: list[asyncio.Future[None]] = []
        self._rounds = 0
        self._death: Ticket | None = None  # Settled when the run is killed; while anything waits.
        self._look_at: asyncio.TimerHandle | None = None
        self._seen: object = None  # How far the run was when it was last looked at, and
        self._since = 0.0  # since when.
        self._has_said = self._is_stuck = False
        run.when_broken = self.look
        if self._loop is not None:
            run.when_nothing_came = partial(_call_on, self._loop, self._comes_not)

    async def wait(self, turn: Turn) -> None:
        """Wait for the turn of a result, or of a new operation."""
        run, number = self.run, turn.finished
        if number is not None and not self._comes(number):
            return  # It had come when a cancellation overtook it.
        if run.broken is not None:
            raise run.broken
        loop = asyncio.get_running_loop()
        if run.has_turns:
            self._watch()
        elif number is not None and run.is_next(number) and not self._held and rest_of(loop, self._code_of).all_rest():
            return
        future: asyncio.Future[None] = loop.create_future()
        if number is None:
            self._new.append(future)
        else:
            self._waiting[number] = (turn.begun, future, asyncio.current_task())
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
        turns = self.run.turns
        if finished is None and self.run.branches_left and running_loop() is None:
            raise self.run.lacks_branch(None)
        if turns and turns[-1] == finished:
            turns.pop()
        elif finished in turns:
            turns.remove(finished)
        self.look()

    def _comes(self, number: int) -> bool:
        coming = self.run.coming
        return number in self.run.turns or (coming is not None and number in coming)

    def branch_ends(self, path: str, task: asyncio.Task[Any]) -> None:
        """Note that a branch has ended. If it was cancelled, nothing more is expected of it."""
        if task.cancelled() or task.cancelling():
            self.run.excuse(path)
            self.look()

    def enters(self, task: asyncio.Task[Any]) -> bool:
        """Note that the task is inside an operation: until its result comes, it runs no code of the workflow.

        False if it was inside one already, which is a step.
        """
        if task in self._inside:
            return False
        self._inside.add(task)
        return True

    def leaves(self, task: asyncio.Task[Any]) -> None:
        """Note that the operation is over; the next result may have waited for it alone."""
        self._inside.discard(task)
        if self._waiting or self._new:
            self.look()

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether the task is inside an operation."""
        return task in self._inside

    def hold(self, by: int) -> None:
        """Let nobody have a turn while an operation that needs none waits: what it returns came before."""
        self._held += by
        if not self._held:
            self.look()

    def look(self) -> None:
        """Look whose turn it is when the run is at rest. In any thread."""
        if self._loop is not None and self._loop is running_loop():
            rest_of(self._loop, self._code_of).ask(self)
        elif self._loop is not None:
            _call_on(self._loop, self.look)

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether these are the turns of tasks on this loop."""
        return self._loop is loop

    def motion(self) -> Motion:
        """Tell whether tasks of the run are about to run."""
        return motion_of(self.run, self._futures(), self._run_of)

    def comes_to_rest(self) -> None:
        """Give whose turn it is what it waits for."""
        run, turns = self.run, self.run.turns
        if run.broken is not None or self._chain.dead is not None:
            self._refuse()
        elif self._held:
            return  # `hold` looks again.
        elif turns:
            self._give(turns[-1])
        else:
            if run.coming:
                self._give(next(iter(run.coming)))
            if self._new and not (run.branches_left and self._may_still_come()):
                run.branches_left = 0
                new, self._new = self._new, []
                for future in new:
                    _release(future)
        if not self._new and not self._waiting:
            self._unwatch()

    def _comes_not(self, number: int) -> None:
        self.run.comes_no_more(number)
        self.look()

    def _give(self, number: int) -> None:
        """Let this result come, if its operation waits for that."""
        run = self.run
        begun, future, task = self._waiting.get(number, (0, None, None))
        if future is None or run.begun < begun:
            return
        del self._waiting[number]
        if run.turns:
            run.turns.pop()
        else:
            run.comes_no_more(number)
        self._rounds = 0
        if task is not None:
            self._inside.discard(task)
        _release(future)
        self.look()

    def _may_still_come(self) -> bool:
        """Tell whether to wait for what a branch has begun and not finished: it comes now, or never will."""
        motion = self.motion()
        if motion is Motion.MOVES and self._rounds < _MOST_ROUNDS:
            self._rounds += 1
            self.look()
            return True
        return motion is Motion.STUCK  # `_check` makes sure of it.

    def _refuse(self) -> None:
        """Let nothing wait any more in a run that is dead, or off its path."""
        error = copy.copy(self._chain.dead) or self.run.broken
        assert error is not None
        for future in self._futures():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        self._new.clear()

    def _futures(self) -> set[asyncio.Future[None]]:
        return {*self._new, *(future for _, future, _ in self._waiting.values())}

    # --- what never comes ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Hear of the run's death, and look after a while whether it is stuck."""
        loop = asyncio.get_running_loop()
        if self._death is None:
            death = Ticket()
            self._chain.wait(death)
            death.when_settled(self.look)
            self._death = death
        if self._look_at is None:
            self._seen = None
            self._look_at = loop.call_later(_FIRST_LOOK_SECONDS, self._check, _FIRST_LOOK_SECONDS)

    def _unwatch(self) -> None:
        if self._death is not None:
            self._chain.done_waiting(self._death)
            self._death = None
        if self._look_at is not None and not self.run.has_turns:
            self._look_at.cancel()
            self._look_at = None

    def _check(self, seconds: float) -> None:
        """Give the run up if it was stuck at the last look and has not moved since; else look again, if it waits."""
        run, loop = self.run, asyncio.get_running_loop()
        self._look_at = None
        if not self._new and not self._waiting:
            return
        # New operations may begin, be given up, and begin again: that brings it no further.
        seen, self._seen = self._seen, (len(run.turns), run.branches_left)
        was_stuck, self._is_stuck = self._is_stuck, self.motion() is Motion.STUCK
        if seen != self._seen:
            self._since, self._has_said, seconds = loop.time(), False, _FIRST_LOOK_SECONDS
        elif self._is_stuck and was_stuck:  # Twice: what is due in this round of the loop is not seen.
            run.lacks_branch(self._next_begun())
        elif not self._has_said and loop.time() - self._since >= _SAY_AFTER_SECONDS:
            self._say()
            self._has_said = True
        seconds = _FIRST_LOOK_SECONDS if self._is_stuck else seconds
        self._look_at = loop.call_later(seconds, self._check, min(2 * seconds, _LAST_LOOK_SECONDS))
        self.look()

    def _next_begun(self) -> int | None:
        """Return how many operations must have begun for the next result, if that waits for nothing else."""
        turns = self.run.turns
        return self._waiting[turns[-1]][0] if turns and turns[-1] in self._waiting else None

    def _say(self) -> None:
        logger.warning(
            "the replay of workflow %r waits for %s, as was recorded: its code may be slow, or have changed, "
            "or not be deterministic",
            self.run.workflow_id,
            self.run.missing(self._next_begun()),
            extra={"workflow_id": self.run.workflow_id},
        )


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: int) -> None:
    with contextlib.suppress(RuntimeError):  # It is closed.
        loop.call_soon_threadsafe(callback, *args)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
