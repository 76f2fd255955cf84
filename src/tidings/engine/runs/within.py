"""User code with a time limit, blocking and async. The limit counts on the engine's own clock.

A coroutine is cancelled at the end of its time, and awaited: what it returns or raises after that does not count. A
function in a thread cannot be interrupted. It is left behind, and the caller continues. The time does not count while a
function waits for a thread.

A late result never counts, even if nothing could notice in time. A coroutine that blocks its event loop cannot be
cancelled, so the clock is read again when it ends.

A cancellation from outside passes through, even if both come at once. It means what it means without a limit
(`engine.runs.drive`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Any

from tidings.core.effects import Due
from tidings.engine.runs.workers import Seat, Workers
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers


class TimeLimit:
    """The time limit of one call of user code. If the code takes longer, `give_up` returns the error to raise.

    `check` is called before user code that may have waited for a thread. It raises if the code may no longer begin.
    """

    __slots__ = ("_check", "_give_up", "_ms", "_timers", "_workers")

    def __init__(
        self,
        *,
        workers: Workers,
        timers: Timers,
        seconds: float,
        give_up: Callable[[], Exception],
        check: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._timers = timers
        self._ms = max(round(seconds * 1_000), 1)
        self._give_up = give_up
        self._check = check

    def call(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a thread that substitutes for this one."""
        # Not `done` itself, because the timers keep its value in their heap until the deadline.
        either, due = Ticket(), Due(self._ms)
        is_late = False

        def timed() -> Any:
            nonlocal is_late
            self._timers.begin(due)
            try:
                return function()
            finally:
                is_late = self._timers.is_over(due)

        def delayed() -> Any:
            self._check()
            self._timers.at(due, either)
            return timed()

        with self._workers.substituting(timed, delayed) as done:
            done.when_settled(either.settle)
            if not done.was_delayed:
                self._timers.at(due, either)
            either.result()
            if not done.settled or is_late:
                raise self._give_up()
            return done.result()

    async def await_call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await the awaitable that `function` returns."""
        with _Countdown(self._timers, self._ms, self._give_up) as countdown:
            countdown.begin()
            return await function()

    async def await_in_thread(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a worker thread. If it returns an awaitable, await that here."""
        seat = Seat()
        with _Countdown(self._timers, self._ms, self._give_up) as countdown:

            def work() -> Any:
                if countdown.is_over:
                    return None  # Given up before a thread was free.
                self._check()
                countdown.begin()
                return function()

            try:
                value = await self._workers.call(work, seat)
            finally:
                self._workers.leave_behind(seat)
            return await value if isawaitable(value) else value


class _Countdown:
    """Cancels the task in its block at the end of the time.

    Whatever the block then returns or raises, the error of the limit is raised. Code may swallow the cancellation and
    return a value, or raise something else: it is late nevertheless. The same holds if the code blocked the event loop
    until its time was up, and could not be cancelled. Only what the code did not cause passes through: a cancellation
    from outside, the end of the run, Ctrl-C.
    """

    __slots__ = ("_due", "_give_up", "_has_passed", "_loop", "_requests", "_task", "_timer", "_timers", "is_over")

    def __init__(self, timers: Timers, ms: int, give_up: Callable[[], Exception]) -> None:
        self._timers = timers
        self._due = Due(ms)
        self._give_up = give_up
        self._timer = Ticket()
        self._has_passed = False
        self.is_over = False

    def begin(self) -> None:
        """Start counting. May be called in any thread."""
        self._timers.at(self._due, self._timer)

    def __enter__(self) -> _Countdown:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = task.get_loop()
        self._requests = task.cancelling()
        self._timer.when_settled(self._tell)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_over = True
        self._timer.settle()  # Lets the timers drop it.
        if not self._has_passed and not self._timers.is_over(self._due):
            return
        requests = self._task.uncancel() if self._has_passed else self._task.cancelling()
        is_from_outside = requests > self._requests
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if error is None or isinstance(error, Exception) or (is_cancelled and not is_from_outside):
            raise self._give_up() from error

    def _tell(self) -> None:
        """The time is up, or the block has ended. Called in any thread."""
        if not self.is_over:
            with contextlib.suppress(RuntimeError):  # The loop is closed: there is no task to cancel.
                self._loop.call_soon_threadsafe(self._pass)

    def _pass(self) -> None:
        if not self.is_over:
            self._has_passed = True
            self._task.cancel()
