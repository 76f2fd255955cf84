"""Tells whether a replay can still move: whether its tasks wait for anything but each other's turns.

Code that begins something recorded is in a task of the run. If each of these waits for its turn, or for others
that do, none of them will ever begin anything, and right code does not come to this. All else
that a task may wait for counts as something that may come: a timer, a thread, a queue, an answer. So right code that
is only slow is never taken for stuck; and code that changed may be taken for slow.

What cannot be seen from here is code that is in no task: a callback, or a thread, that is to make a task later.
Timers with a callback of the program's are looked for; of the others nothing is known.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import sys
from collections.abc import Callable, Collection
from contextvars import Context
from types import FrameType
from typing import Any, Final, cast

from tidings.core.history import Run

Awaited = asyncio.Future[Any]
RunOf = Callable[[Context], Run | None]  # the run that code with such a context is in

_WAIT: Final = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
# The timers of these only end a wait, or are seen with the future that they are to complete.
_KNOWN_TIMERS: Final = ("asyncio.", "tidings.", "_asyncio")


class Motion(enum.Enum):
    """What a replay does."""

    MOVES = enum.auto()  # Some task is about to run.
    WAITS = enum.auto()  # Something else is waited for.
    STUCK = enum.auto()


def motion_of(run: Run, turns: Collection[Awaited], run_of: RunOf) -> Motion:
    """Tell whether the tasks of `run`, on the running loop, wait for something else than these turns."""
    root = run.root.owner
    look = _Look(turns)
    # Alone first: many runs may be looked at, among very many tasks. A blocking workflow's root is a thread.
    motion = look.at(root) if isinstance(root, asyncio.Task) else Motion.STUCK
    if motion is Motion.STUCK:
        loop = asyncio.get_running_loop()
        for task in asyncio.all_tasks(loop):
            context = _context_of(task)
            if context is not None and run_of(context) is run:
                motion = _more(motion, look.at(task))
        if motion is Motion.STUCK and _has_timer(run, loop, run_of):
            return Motion.WAITS
    return motion


class _Look:
    """What was found out in one look."""

    def __init__(self, turns: Collection[Awaited]) -> None:
        self._turns = turns
        self._found: dict[Awaited, Motion] = {}

    def at(self, future: Awaited) -> Motion:
        """Tell what has to happen before this is done."""
        if future.done():
            return Motion.MOVES  # Whoever waits for it is about to run.
        if future in self._turns:
            return Motion.STUCK
        if future not in self._found:
            self._found[future] = Motion.STUCK  # A ring of tasks that wait for each other is.
            self._found[future] = self._beneath(future)
        return self._found[future]

    def _beneath(self, future: Awaited) -> Motion:
        if isinstance(future, asyncio.Task):
            awaited = getattr(future, "_fut_waiter", None)
            if awaited is None:
                return Motion.MOVES
            if awaited.done() or isinstance(awaited, asyncio.Task) or awaited in self._turns:
                return self.at(awaited)
            parts = _parts_of(awaited) or _waits_of(_innermost_frame(future))
        else:
            parts = _parts_of(future)
        left = [part for part in parts if not part.done()]
        if not parts:
            return Motion.WAITS
        if not left:
            return Motion.MOVES
        motion = Motion.STUCK
        for part in left:
            motion = _more(motion, self.at(part))
        return motion


def _more(one: Motion, other: Motion) -> Motion:
    """Of two parts: what waits for something else counts most, for that may take any time."""
    for motion in (Motion.WAITS, Motion.MOVES):
        if motion in (one, other):
            return motion
    return Motion.STUCK


def _parts_of(future: Awaited) -> list[Awaited]:
    """Return what completes the future of a `gather` or a `shield`; nothing if it is neither."""
    children = getattr(future, "_children", None)
    if isinstance(children, list):
        return list(children)
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "") == "shield.<locals>._outer_done_callback":
            cells = (cell.cell_contents for cell in callback.__closure__ or ())
            return [each for each in cells if isinstance(each, asyncio.Future)]
    return []


def _waits_of(frame: FrameType | None) -> list[Awaited]:
    """Return what asyncio's own code in this frame waits for; nothing if it is not that, or has a time limit."""
    if frame is None:
        return []
    values = frame.f_locals
    if frame.f_code is _WAIT and values["timeout_handle"] is None:
        return list(values["fs"])
    group = values.get("self")
    if isinstance(group, asyncio.TaskGroup) and frame.f_code.co_name in ("__aexit__", "_aexit"):
        return list(group._tasks)
    return []


def _innermost_frame(task: asyncio.Task[Any]) -> FrameType | None:
    """Return the frame in which a task waits, if that is a coroutine's."""
    coroutine: Any = task.get_coro()
    frame = None
    while coroutine is not None and hasattr(coroutine, "cr_await"):
        frame, coroutine = coroutine.cr_frame, coroutine.cr_await
    return cast("FrameType | None", frame)


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    return next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)


def _has_timer(run: Run, loop: asyncio.AbstractEventLoop, run_of: RunOf) -> bool:
    """Tell whether a callback of the program's is to be called by a timer that this run has set.

    Where the loop does not show its timers (uvloop does not), there may be one.
    """
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is None:
        return True
    for handle in scheduled:
        module = getattr(handle._callback, "__module__", None) or ""
        if not handle.cancelled() and not module.startswith(_KNOWN_TIMERS) and run_of(handle._context) is run:
            return True
    return False
