"""User code with a time limit, in each colour. The limit counts on the engine's clock.

A coroutine is cancelled at the end of its time. A function in a thread cannot be interrupted: it is
left behind, and the caller goes on. Code that is done all the same before anybody noticed has been
done in time. The time does not count while a function waits for a thread to run in.

A cancellation from outside is not ours: it passes through, also when both come at once, and means
what it means without a limit (`engine.drive`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Any

from tidings.engine.ticket import Ticket
from tidings.engine.timers import Timers
from tidings.engine.workers import Seat, Workers


class TimeLimit:
    """What one call of user code may take. If it takes longer, `give_up` is called for the error.

    `check` is called before user code that may have waited for a thread: it raises if that may not begin any more.
    """

    __slots__ = ("_check", "_give_up", "_ms", "_timers", "_workers")

    def __init__(
        self,
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
        """Call `function` in a thread that stands in for this one."""
        # Another ticket than `done`: the heap of the timers would keep a value until its deadline.
        either = Ticket()

        def delayed() -> Any:
            self._check()
            self._timers.after(self._ms, either)
            return function()

        with self._workers.standing_in(function, delayed) as done:
            done.when_settled(either.settle)
            if not done.was_delayed:
                self._timers.after(self._ms, either)
            either.result()
            if not done.settled:
                raise self._give_up()
            return done.result()

    async def await_call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await what `function` gives."""
        with _Countdown(self._timers, self._ms, self._give_up) as countdown:
            countdown.begin()
            return await function()

    async def await_in_thread(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a worker thread, and await what it gives if that can be awaited."""
        seat = Seat()
        with _Countdown(self._timers, self._ms, self._give_up) as countdown:

            def work() -> Any:
                if countdown.is_over:
                    return None  # Given up before there was a thread.
                self._check()
                countdown.begin()
                return function()

            try:
                value = await self._workers.call(work, seat)
            finally:
                self._workers.leave_behind(seat)
            return await value if isawaitable(value) else value


class _Countdown:
    """Cancels the task that is in its block at the end of the time, and turns that into the error."""

    __slots__ = ("_give_up", "_has_passed", "_loop", "_ms", "_requests", "_task", "_timer", "_timers", "is_over")

    def __init__(self, timers: Timers, ms: int, give_up: Callable[[], Exception]) -> None:
        self._timers = timers
        self._ms = ms
        self._give_up = give_up
        self._timer = Ticket()
        self._has_passed = False
        self.is_over = False

    def begin(self) -> None:
        """Begin to count. Any thread may call it."""
        self._timers.after(self._ms, self._timer)

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
        self._timer.settle()  # The timers drop what is settled.
        if not self._has_passed:
            return
        is_from_outside = self._task.uncancel() > self._requests
        if isinstance(error, asyncio.CancelledError) and not is_from_outside:
            raise self._give_up() from error

    def _tell(self) -> None:
        """The time is up, or the block was left. Called in any thread."""
        if not self.is_over:
            with contextlib.suppress(RuntimeError):  # The loop is closed: there is nobody to cancel.
                self._loop.call_soon_threadsafe(self._pass)

    def _pass(self) -> None:
        if not self.is_over:
            self._has_passed = True
            self._task.cancel()
