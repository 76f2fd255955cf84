"""Event loops: how to tell that one is closing, the program's own loop, and the library's background loop.

`asyncio.run` ends by cancelling every task on its loop. To a workflow, that looks like a cancellation by its own
program, which would be recorded. So each loop that has runs also has one idle task, the *sentinel*. Only a closing loop
cancels it. All tasks are cancelled before any of them runs again. So a cancelled task can tell from the sentinel
whether the loop is closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import signal
import socket
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from tidings.engine.runs.again import Again
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers

# How long the end of the background loop waits for code on it: for cancelled tasks, for generators being closed, and
# for functions in threads. Code that blocks the loop keeps it open, but `join` stops waiting then.
_TASKS_SECONDS = 0.4
_GENERATORS_SECONDS = 0.4
_THREADS_SECONDS = 0.2
_STOP_SECONDS = 1.2

_sentinels: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
_closing: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_threads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Ticket, None]] = weakref.WeakKeyDictionary()


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Create a sentinel on the running loop, unless it has one."""
    if len(_sentinels) > 1 or loop not in _sentinels:
        for each in [each for each in _sentinels if each.is_closed()]:
            del _sentinels[each]  # Closed without cancelling its tasks: the sentinel will never run again.
    if loop not in _sentinels:
        sentinel = loop.create_task(_wait_for_ever(), name="tidings-sentinel")
        sentinel._log_destroy_pending = False  # type: ignore[attr-defined]  # Losing it does no harm.
        _sentinels[loop] = sentinel


def is_closing(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the code that runs the loop is closing it."""
    sentinel = _sentinels.get(loop)
    return loop in _closing or loop.is_closed() or (sentinel is not None and sentinel.cancelling() > 0)


def is_interrupted() -> bool:
    """Tell whether Ctrl-C is ending the `asyncio.run` of this thread, which then cancels its task first."""
    if threading.current_thread() is not threading.main_thread():
        return False
    # `asyncio.Runner` counts the calls of its signal handler.
    handler = getattr(signal.getsignal(signal.SIGINT), "func", None)
    return getattr(getattr(handler, "__self__", None), "_interrupt_count", 0) > 0


async def _wait_for_ever() -> None:
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await loop.create_future()
    finally:
        _closing.add(loop)
        _sentinels.pop(loop, None)  # The task refers to its loop: kept here, neither would be freed.


def note_thread(loop: asyncio.AbstractEventLoop, running: Ticket) -> None:
    """Note that a thread of the library runs a function for this loop.

    The end of the loop waits for the function, as for those of the loop's own pool.
    """
    of_loop = _threads.setdefault(loop, {})
    of_loop[running] = None
    running.when_settled(partial(of_loop.pop, running, None))


async def threads_ended(loop: asyncio.AbstractEventLoop) -> None:
    """Wait for the functions that threads of the library run for this loop."""
    for running in tuple(_threads.get(loop, ())):
        with contextlib.suppress(Exception):  # The task that awaits the function gets the error.
            await running


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class HomeLoop:
    """The event loop on which the program launched.

    Coroutines run there, because the program's pools and clients belong to that loop. It counts only while it runs: a
    program may launch on a loop, and stop that loop later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = None if loop is None else weakref.ref(loop)
        self._was_stopped = False

    def get(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop, if it runs and is not being closed."""
        loop = None if self._loop is None else self._loop()
        return loop if loop is not None and loop.is_running() and not is_closing(loop) else None

    def look(self) -> bool:
        """Tell whether the loop does not run now, and did not run at the previous call either."""
        was_stopped, self._was_stopped = self._was_stopped, self.get() is None
        return self._was_stopped and was_stopped


class BackgroundLoop:
    """An event loop in a daemon thread, started when first needed.

    If it cannot be started, for lack of a thread or of file descriptors, the functions to call wait until it can
    (`engine.runs.again`).
    """

    def __init__(self, timers: Timers | None = None) -> None:
        """Prepare the loop, without starting it. `timers` retry if the loop cannot be started."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_stopped = False
        self._waiting: list[Callable[[asyncio.AbstractEventLoop], None]] = []
        self._again = Again("starting an event loop for async workflows", timers, self.try_again)

    def call(self, function: Callable[[asyncio.AbstractEventLoop], None]) -> bool:
        """Call `function` on the loop, once the loop runs.

        Returns false, and calls nothing, if the loop was stopped.
        """
        with self._lock:
            if self.is_stopped:
                return False
            self._waiting.append(function)
            self._call_waiting()
            return True

    def try_again(self) -> None:
        """Start the loop, if functions wait because it could not be started before."""
        with self._lock:
            if self._waiting and not self.is_stopped:
                self._call_waiting()

    def _call_waiting(self) -> None:
        try:
            loop = self._started()
        except Exception as error:
            self._again.fails(error)
            return
        self._again.ends()
        waiting, self._waiting = self._waiting, []
        for function in waiting:
            loop.call_soon_threadsafe(function, loop)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            loop = made_loop()
            try:
                thread = threading.Thread(target=self._run, args=(loop,), name="tidings-loop", daemon=True)
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, thread
        return self._loop

    def stop(self) -> None:
        """Stop the loop without waiting for it. It first ends its tasks and async generators."""
        with self._lock:
            self.is_stopped = True
            self._waiting.clear()
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def join(self) -> None:
        """Wait a moment until the loop is closed: its code may have files and connections open."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_finish(loop))
        finally:
            loop.close()


async def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left on a loop, as `asyncio.run` does, but wait for each part only for a limited time."""
    me = asyncio.current_task(loop)
    tasks = asyncio.all_tasks(loop) - {me}
    for task in tasks:
        task.cancel()
    await _end_within(_TASKS_SECONDS, tasks)
    # Each generator is closed by its own task, so one that hangs does not keep others open.
    await _end_within(_GENERATORS_SECONDS, {loop.create_task(loop.shutdown_asyncgens())})
    await _await_threads(loop)
    for task in asyncio.all_tasks(loop) - {me}:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # Nothing more can be done for it.


async def _end_within(seconds: float, tasks: set[asyncio.Task[Any]]) -> None:
    """Wait for tasks. After half of the time, cancel those that have not ended; at the end, stop waiting."""
    pending = tasks
    for _ in range(2):
        if pending:
            _, pending = await asyncio.wait(pending, timeout=seconds / 2)
            for task in pending:
                task.cancel()
    for task in tasks - pending:
        if not task.cancelled():
            task.exception()  # Marked as retrieved, so that asyncio does not report it.


async def _await_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Wait a limited time for the functions that `asyncio.to_thread` has begun on this loop."""
    await _end_within(_THREADS_SECONDS, {loop.create_task(threads_ended(loop))})
    executor = getattr(loop, "_default_executor", None)
    if executor is None:
        return
    ended = asyncio.Event()

    def shut_down() -> None:
        executor.shutdown()
        with contextlib.suppress(RuntimeError):  # It took too long, and the loop is closed.
            loop.call_soon_threadsafe(ended.set)

    with contextlib.suppress(RuntimeError, TimeoutError):  # RuntimeError: no thread can be started now.
        threading.Thread(target=shut_down, name="tidings-loop-threads", daemon=True).start()
        await asyncio.wait_for(ended.wait(), _THREADS_SECONDS)


def made_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop.

    Raises:
        OSError: there are no descriptors left for one.
    """
    # An event loop that is only partly created would warn when it is collected. So check the descriptors first.
    with selectors.DefaultSelector():
        for each in socket.socketpair():
            each.close()
    return asyncio.new_event_loop()
