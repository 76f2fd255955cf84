"""Event loops on the scheduler: where a real one waits for its selector, these wait for the baton.

All of asyncio above that is the real thing: tasks, futures, `call_soon_threadsafe`, timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from tests.simulation.primitives import OrderedSet
from tests.simulation.scheduler import SimThread, is_played, playing


class SimLoop(asyncio.BaseEventLoop):
    """An event loop of a simulated thread."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._selecting: SimThread | None = None
        self._was_written = False
        self._made: list[asyncio.Task[Any]] = []
        self._scheduler = playing()
        # What is ready when its process is killed does not run: the first that blocks would not end the rest.
        self._scheduler.current.party.when_killed.append(self._ready.clear)  # type: ignore[attr-defined]

    def time(self) -> float:
        return playing().now

    def all_tasks(self) -> OrderedSet:
        """Return its tasks that are not done, in the order in which they were made."""
        self._made = [each for each in self._made if not each.done()]
        return OrderedSet(self._made)

    def select(self, timeout: float | None) -> list[Any]:
        """Wait until something is to be done."""
        scheduler = playing()
        scheduler.step()
        until = None if timeout is None else scheduler.now + timeout
        self._selecting = scheduler.current
        while not self._was_written and (until is None or scheduler.now < until):
            scheduler.wait(until)
        self._selecting, self._was_written = None, False
        return []

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say what went wrong, unless it went with its process."""
        if is_played(self._scheduler) and not self._scheduler.current.dying:
            super().call_exception_handler(context)

    def close(self) -> None:
        """Close it. What the process leaves behind that it belonged to ends here, in its own thread."""
        super().close()
        if playing().current.dying:
            for task in self.all_tasks():
                task._log_destroy_pending = False
                with contextlib.suppress(BaseException):
                    cast(Any, task.get_coro()).close()
        self._made.clear()

    def __del__(self) -> None:
        """Nothing: one whose process was killed was closed by nobody, and holds nothing."""

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        """Make a task as any loop does, and note it."""
        task: asyncio.Task[Any] = super().create_task(coro, **more)
        self._made.append(task)
        return task

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing is read from files."""

    def _write_to_self(self) -> None:
        self._was_written = True
        if self._selecting is not None:
            playing().wake(self._selecting)


def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> OrderedSet:
    """`asyncio.all_tasks`, in the order of the seed."""
    found = asyncio.get_running_loop() if loop is None else loop
    assert isinstance(found, SimLoop)
    return found.all_tasks()
