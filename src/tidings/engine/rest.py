"""Tells when a run is at rest: when none of its workflow code is about to run.

Parallel branches get their results one at a time, each when the run is at rest: when all that the result before
it set in motion (tasks that end, gathers, queues, locks) has come to a stop. So what the code sees depends on the
order of the results alone, not on how many rounds of the event loop lay between two of them, which no replay
could repeat.

One look serves all runs of a loop that ask: it goes once over what is ready to run. The code of steps does not
count, nor do tasks that are inside an operation: the workflow's code does not see what they do.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from tidings.core.history import Run
from tidings.engine.stuck import Motion

# Looks after which a run counts as resting though its code is always about to run: it polls, say.
_MOST_LOOKS = 200
# Where a loop does not show what is ready: in so many rounds no task of the run was seen to move.
_QUIET_LOOKS = 6
_OUTSIDE = Context()  # A look is in no run.

CodeOf = Callable[[Context], Run | None]  # the run whose workflow function has such a context, and no step


class Asking(Protocol):
    """What waits for a run to rest."""

    run: Run

    def comes_to_rest(self) -> None:
        """Hear that it does."""

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether the task is inside an operation of the run."""

    def motion(self) -> Motion:
        """Tell whether tasks of the run are about to run: slower, for loops that do not show what is ready."""


class _Looks:
    """How often a run was looked at, and how often in a row it seemed to rest."""

    __slots__ = ("all", "asking", "quiet")

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.all = self.quiet = 0


class Rest:
    """Who waits for rest on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, code_of: CodeOf) -> None:
        self._loop = weakref.ref(loop)
        self._code_of = code_of
        self._looks: dict[Run, _Looks] = {}
        self._is_due = False

    def ask(self, asking: Asking) -> None:
        """Tell it, in a round of the loop to come, as soon as its run is at rest."""
        if asking.run not in self._looks:
            self._looks[asking.run] = _Looks(asking)
        self._look_soon()

    def all_rest(self) -> bool:
        """Tell whether nothing at all is ready to run on this loop."""
        ready = self._ready()
        return ready is not None and not ready

    def _ready(self) -> deque[asyncio.Handle] | None:
        return getattr(self._loop(), "_ready", None)

    def _look_soon(self) -> None:
        loop = self._loop()
        if not self._is_due and loop is not None:
            self._is_due = True
            loop.call_soon(self._look, context=_OUTSIDE)

    def _look(self) -> None:
        self._is_due = False
        looks, self._looks = self._looks, {}
        moving = self._moving(looks)
        quiet_looks = 1 if self._ready() is not None else _QUIET_LOOKS
        for run, each in looks.items():
            each.all += 1
            each.quiet = 0 if run in moving else each.quiet + 1
            if each.all >= _MOST_LOOKS or each.quiet >= quiet_looks:
                each.asking.comes_to_rest()
            else:
                self._looks.setdefault(run, each)
        if self._looks:
            self._look_soon()

    def _moving(self, looks: dict[Run, _Looks]) -> set[Run]:
        """Return which of these runs have code that is about to run."""
        ready = self._ready()
        if ready is None:
            return {run for run, each in looks.items() if each.asking.motion() is Motion.MOVES}
        moving = set()
        for handle in ready.copy():  # In one piece: other threads add to it.
            context, callback = handle._context, handle._callback  # type: ignore[attr-defined]
            run = None if handle.cancelled() else self._code_of(context)
            if run is not None and run in looks and not _only_waits(looks[run].asking, callback):
                moving.add(run)
        return moving


def _only_waits(asking: Asking, callback: Any) -> bool:
    """Tell whether this callback lets no code of the workflow run."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return asking.is_inside(owner)
    # anyio cancels the tasks of a scope again and again until they are out of it.
    return getattr(callback, "__name__", "") == "_deliver_cancellation"


_rests: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Rest] = weakref.WeakKeyDictionary()


def rest_of(loop: asyncio.AbstractEventLoop, code_of: CodeOf) -> Rest:
    """Return what tells of rest on this loop. Called in its thread."""
    rest = _rests.get(loop)
    if rest is None:
        rest = _rests[loop] = Rest(loop, code_of)
    return rest
