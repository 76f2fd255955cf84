"""Tells whether a replay can still continue: whether any of its tasks waits for something other than turns.

Recorded operations are begun by tasks of the run. If every task waits for its turn, or for a task that does, no
recorded operation can ever begin. Correct code never gets there. Anything else that a task waits for counts as
something that may still come: a timer, a thread, a queue, an answer. So correct but slow code is never treated as
stuck, while changed code may be treated as slow.

This module cannot see code that is in no task: a callback, or a thread, that will create a task later. It looks for
timers with a callback of the program; it does not see the others.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import sys
import weakref
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from types import FrameType
from typing import Any, Final, cast

from tidings.core.history import Run
from tidings.engine.runs.code_limits import Limit

Awaited = asyncio.Future[Any]
RunOf = Callable[[Context], Run | None]  # The run that code in this context belongs to.

_WAIT: Final = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
# Timers of these modules only end a wait, or are seen through the future that they complete.
_KNOWN_TIMERS: Final = ("asyncio.", "tidings.", "_asyncio")


class Motion(enum.Enum):
    """What a replay does now."""

    MOVES = enum.auto()  # A task is about to run.
    WAITS = enum.auto()  # A task waits for something other than a turn.
    STUCK = enum.auto()


def motion_of(run: Run, turns: Collection[Awaited], run_of: RunOf) -> Motion:
    """Tell whether the tasks of `run`, on the running loop, wait for something other than these turns."""
    root = run.root.owner
    # WAITS first, because what the task waits for may take any time.
    look = _Look(turns, (Motion.WAITS, Motion.MOVES))
    # The root task first: it is cheap, and a loop may have many runs and very many tasks. The root of a blocking
    # workflow is a thread.
    motion = look.at(root) if isinstance(root, asyncio.Task) else Motion.STUCK
    if motion is Motion.STUCK:
        loop = asyncio.get_running_loop()
        seen = _seen_on(loop, run_of)
        for task in seen.tasks.get(run, ()):
            motion = look.more(motion, look.at(task))
        if motion is Motion.STUCK and seen.may_have_timer(run):
            return Motion.WAITS
    return motion


class _Seen:
    """The tasks and timers on a loop in one of its rounds, by run.

    Built once for the hundreds of runs that may be checked. It does not see what is scheduled later in the same round,
    so no single check decides.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, run_of: RunOf) -> None:
        self.tasks = tasks_of(loop, run_of)
        self._with_timers = _with_timers(loop, run_of)

    def may_have_timer(self, run: Run) -> bool:
        """Tell whether this run may have set a timer with a callback of the program."""
        return self._with_timers is None or run in self._with_timers


_seen: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Seen] = weakref.WeakKeyDictionary()


def _seen_on(loop: asyncio.AbstractEventLoop, run_of: RunOf) -> _Seen:
    """Return the tasks and timers on the running loop, collected once in each of its rounds."""
    seen = _seen.get(loop)
    if seen is None:
        seen = _seen[loop] = _Seen(loop, run_of)
        loop.call_soon(_seen.pop, loop, None, context=Context())
    return seen


def tasks_of(loop: asyncio.AbstractEventLoop, run_of: RunOf) -> dict[Run, list[asyncio.Task[Any]]]:
    """Return the tasks on this loop, grouped by run. `run_of` returns the run of a task's context."""
    found: dict[Run, list[asyncio.Task[Any]]] = {}
    for task in asyncio.all_tasks(loop):
        context = _context_of(task)
        run = None if context is None else run_of(context)
        if run is not None:
            found.setdefault(run, []).append(task)
    return found


def any_moves(tasks: Iterable[asyncio.Task[Any]], turns: Collection[Awaited]) -> bool:
    """Tell whether one of these tasks is about to run, or waits for one that is."""
    look = _Look(turns, (Motion.MOVES, Motion.WAITS))
    return any(look.at(task) is Motion.MOVES for task in tasks)


class _Look:
    """The results of one check. Of several motions, the first in `ranks` counts."""

    def __init__(self, turns: Collection[Awaited], ranks: tuple[Motion, ...]) -> None:
        self._turns = turns
        self._ranks = ranks
        self._found: dict[Awaited, Motion] = {}

    def at(self, future: Awaited) -> Motion:
        """Tell what must happen before this future is done."""
        if future.done():
            return Motion.MOVES  # A task that waits for this future is about to run.
        if future in self._turns:
            return Motion.STUCK
        if future not in self._found:
            self._found[future] = Motion.STUCK  # So a ring of tasks that wait for each other is stuck.
            self._found[future] = self._beneath(future)
        return self._found[future]

    def more(self, one: Motion, other: Motion) -> Motion:
        """Return which of two motions counts."""
        return next((motion for motion in self._ranks if motion in (one, other)), Motion.STUCK)

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
            motion = self.more(motion, self.at(part))
        return motion


def _parts_of(future: Awaited) -> list[Awaited]:
    """Return the futures that complete the one of a `gather` or a `shield`; an empty list for any other."""
    children = getattr(future, "_children", None)
    if isinstance(children, list):
        return list(children)
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "") == "shield.<locals>._outer_done_callback":
            cells = (cell.cell_contents for cell in callback.__closure__ or ())
            return [each for each in cells if isinstance(each, asyncio.Future)]
    return []


def _waits_of(frame: FrameType | None) -> list[Awaited]:
    """Return the futures that asyncio's own code in this frame waits for, without a time limit; else an empty list."""
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
    """Return the frame in which a task waits, if it is a coroutine's."""
    coroutine: Any = task.get_coro()
    frame = None
    while coroutine is not None and hasattr(coroutine, "cr_await"):
        frame, coroutine = coroutine.cr_frame, coroutine.cr_await
    return cast("FrameType | None", frame)


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    return next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)


def _with_timers(loop: asyncio.AbstractEventLoop, run_of: RunOf) -> set[Run | None] | None:
    """Return the runs that have set a timer with a callback of the program.

    `None` if the loop does not show its timers (uvloop does not): then any run may have one.
    """
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is None:
        return None
    return {
        run_of(handle._context)
        for handle in scheduled
        if not handle.cancelled() and not (_module_of(handle) or "").startswith(_KNOWN_TIMERS)
    }


def _module_of(timer: Any) -> str | None:
    """Return the module that defines the function that a timer calls."""
    owner = getattr(timer._callback, "__self__", None)
    callback = owner.callback if isinstance(owner, Limit) else timer._callback
    return getattr(callback, "__module__", None)
