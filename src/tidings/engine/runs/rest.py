"""Tells when a run is at rest: when none of its workflow code is about to run.

Parallel branches get their results one at a time, and each only when the run is at rest. By then, everything that the
previous result caused (ended tasks, gathers, queues, locks) is over. So what the code sees depends only on the order of
results. It does not depend on how many rounds of the event loop lay between two results, which no replay could repeat.

One check serves all runs of a loop that ask: it goes once over the callbacks that are ready to run. Code of steps does
not count, nor do tasks inside an operation: the workflow's code does not see what they do.

uvloop does not show which callbacks are ready. There, everything that is scheduled on the loop is noted, from when a
check is scheduled until it runs. Exactly these callbacks are ready then, because a loop calls them in the order in
which they were scheduled.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from tidings.core.history import Run
from tidings.engine.runs.stuck import tasks_of

# After this many checks, a run counts as at rest, even if its code is always about to run (because it polls, say).
_MOST_LOOKS = 200
# For a loop that does not show what is ready: in this many rounds, no task of the run was about to run.
_QUIET_LOOKS = 6
# The attribute of such a loop that lists what was scheduled since a check is due.
_NOTED: Final = "_tidings_given"

CodeOf = Callable[[Context], Run | None]  # The run whose workflow function, not a step, runs in this context.


class RestWaiter(Protocol):
    """What waits until a run is at rest."""

    run: Run

    def comes_to_rest(self) -> None:
        """Called when the run is at rest."""

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether the task is inside an operation of the run."""

    def moves(self, tasks: list[asyncio.Task[Any]]) -> bool:
        """Tell whether one of these tasks of the run is about to run. Used if the loop does not show what is ready."""


class _Looks:
    """How often a run was checked, and how often in a row it seemed to be at rest."""

    __slots__ = ("all", "quiet", "waiter")

    def __init__(self, waiter: RestWaiter) -> None:
        self.waiter = waiter
        self.all = self.quiet = 0


class Rest:
    """Everything that waits for rest on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, code_of: CodeOf) -> None:
        self._loop = weakref.ref(loop)
        self._code_of = code_of
        self._looks: dict[Run, _Looks] = {}
        self._is_due = False
        # A check belongs to no run. Each loop needs its own context, because a context can be entered by one thread
        # only.
        self._outside = Context()

    def ask(self, waiter: RestWaiter) -> None:
        """Call `waiter.comes_to_rest` in a later round of the loop, as soon as its run is at rest."""
        if waiter.run not in self._looks:
            self._looks[waiter.run] = _Looks(waiter)
        self._look_soon()

    def all_rest(self) -> bool:
        """Tell whether no callback at all is ready to run on this loop."""
        ready = self._ready()
        return ready is not None and not ready

    def _ready(self) -> deque[asyncio.Handle] | None:
        return getattr(self._loop(), "_ready", None)

    def _look_soon(self) -> None:
        loop = self._loop()
        if not self._is_due and loop is not None:
            self._is_due = True
            loop.call_soon(self._look, context=self._outside)
            if isinstance(loop, tuple(_noting)):
                setattr(loop, _NOTED, [])

    def _look(self) -> None:
        self._is_due = False
        looks, self._looks = self._looks, {}
        given = self._given()
        moving = self._moving_tasks(looks) if given is None else self._moving(looks, given)
        quiet_looks = _QUIET_LOOKS if given is None else 1
        for run, each in looks.items():
            each.all += 1
            each.quiet = 0 if run in moving else each.quiet + 1
            if each.all >= _MOST_LOOKS or each.quiet >= quiet_looks:
                each.waiter.comes_to_rest()
            else:
                self._looks.setdefault(run, each)
        if self._looks:
            self._look_soon()

    def _given(self) -> Iterator[tuple[Callable[..., Any], Context]] | None:
        """Return the callbacks that are ready to run; `None` if the loop does not show them."""
        loop, ready = self._loop(), self._ready()
        if ready is not None:
            handles = ready.copy()  # An atomic copy: other threads append to it.
            return ((each._callback, each._context) for each in handles if not each.cancelled())  # type: ignore[attr-defined]
        noted: list[tuple[asyncio.Handle, Callable[..., Any], Context]] | None = getattr(loop, "__dict__", {}).pop(
            _NOTED, None
        )
        if noted is None:
            return None
        return ((callback, context) for handle, callback, context in noted if not handle.cancelled())

    def _moving(self, looks: dict[Run, _Looks], given: Iterator[tuple[Callable[..., Any], Context]]) -> set[Run]:
        """Return which of these runs have code that is about to run."""
        moving = set()
        for callback, context in given:
            run = self._code_of(context)
            if run is not None and run in looks and not _only_waits(looks[run].waiter, callback):
                moving.add(run)
        return moving

    def _moving_tasks(self, looks: dict[Run, _Looks]) -> set[Run]:
        tasks = tasks_of(asyncio.get_running_loop(), self._code_of)
        return {run for run, each in looks.items() if each.waiter.moves(tasks.get(run, []))}


def _only_waits(waiter: RestWaiter, callback: Any) -> bool:
    """Tell whether this callback runs no code of the workflow."""
    owner = getattr(callback, "__self__", None)
    if owner is waiter:
        return True  # One of the library's own timers.
    if isinstance(owner, asyncio.Task):
        return waiter.is_inside(owner)
    # anyio cancels the tasks of a scope repeatedly until they have left it.
    return getattr(callback, "__name__", "") == "_deliver_cancellation"


_rests: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Rest] = weakref.WeakKeyDictionary()


def rest_of(loop: asyncio.AbstractEventLoop, code_of: CodeOf) -> Rest:
    """Return the object that checks for rest on this loop. Called in the loop's thread."""
    rest = _rests.get(loop)
    if rest is None:
        rest = _rests[loop] = Rest(loop, code_of)
    return rest


# --- loops that do not show what is ready ----------------------------------------------------------------------------

_noting: set[type] = set()  # Classes of loops that note what is scheduled while a check is due.


def _settle_uvloop() -> None:
    loop_class: Any = sys.modules["uvloop"].Loop
    for name in ("call_soon", "call_soon_threadsafe"):
        setattr(loop_class, name, _noted(getattr(loop_class, name)))
    _noting.add(loop_class)


def _noted(plainly: Callable[..., asyncio.Handle]) -> Callable[..., asyncio.Handle]:
    def call_soon(
        self: Any, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = plainly(self, callback, *args, context=context)
        noted = self.__dict__.get(_NOTED)
        if noted is not None:
            noted.append((handle, callback, copy_context() if context is None else context))
        return handle

    return call_soon


# Make loops that do not show what is ready note what is scheduled.
CHANGES: Final[dict[str, Callable[[], None]]] = {"uvloop": _settle_uvloop}
