"""Event loops: telling that one is closing, the program's own, and one of ours in the background.

`asyncio.run` ends by cancelling every task on its loop. To a workflow that looks like a cancellation
by its own program, which would be recorded. So each loop that carries runs has one idle task, the
*sentinel*, that nobody but a closing loop cancels; all tasks are cancelled before any of them runs
again, so whoever is cancelled can ask the sentinel why.
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

from tidings.engine.again import Again
from tidings.engine.timers import Timers

# Code that holds the loop up, or goes on when it is cancelled, may keep it from being closed.
_STOP_SECONDS = 1.0

_sentinels: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
_closing: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Put a sentinel on the running loop, once."""
    for each in [each for each in _sentinels if each.is_closed()]:
        del _sentinels[each]  # Closed without a word: its sentinel will never run again.
    if loop not in _sentinels:
        sentinel = loop.create_task(_wait_for_ever(), name="tidings-sentinel")
        sentinel._log_destroy_pending = False  # type: ignore[attr-defined]  # It has nothing to lose.
        _sentinels[loop] = sentinel


def is_closing(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the loop is being closed by who ran it."""
    sentinel = _sentinels.get(loop)
    return loop in _closing or loop.is_closed() or (sentinel is not None and sentinel.cancelling() > 0)


def is_interrupted() -> bool:
    """Tell whether Ctrl-C is ending the `asyncio.run` that runs in this thread: it cancels its task first."""
    if threading.current_thread() is not threading.main_thread():
        return False
    # `asyncio.Runner` counts how often its handler was called.
    handler = getattr(signal.getsignal(signal.SIGINT), "func", None)
    return getattr(getattr(handler, "__self__", None), "_interrupt_count", 0) > 0


async def _wait_for_ever() -> None:
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await loop.create_future()
    finally:
        _closing.add(loop)
        _sentinels.pop(loop, None)  # The task holds its loop: left here, neither would ever go.


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class HomeLoop:
    """The event loop on which the program launched: its pools and clients belong to it, so coroutines run there.

    It counts only while it runs. A program may launch on a loop, and stop it and do something else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = None if loop is None else weakref.ref(loop)
        self._was_stopped = False

    def get(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop if it runs, and is not being closed."""
        loop = None if self._loop is None else self._loop()
        return loop if loop is not None and loop.is_running() and not is_closing(loop) else None

    def look(self) -> bool:
        """Tell whether it does not run, and did not run at the last look either."""
        was_stopped, self._was_stopped = self._was_stopped, self.get() is None
        return self._was_stopped and was_stopped


class BackgroundLoop:
    """An event loop in a daemon thread, started when first needed.

    Where it cannot be started, for lack of a thread or of file descriptors, what is to be called waits until it can
    (`engine.again`).
    """

    def __init__(self, timers: Timers | None = None) -> None:
        """Take who tries again where the loop cannot be started."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_stopped = False
        self._waiting: list[Callable[[asyncio.AbstractEventLoop], None]] = []
        self._again = Again("starting an event loop for async workflows", timers, self.try_again)

    def call(self, function: Callable[[asyncio.AbstractEventLoop], None]) -> bool:
        """Call `function` on the loop, as soon as that runs; False once it was stopped, and nothing is called."""
        with self._lock:
            if self.is_stopped:
                return False
            self._waiting.append(function)
            self._call_waiting()
            return True

    def try_again(self) -> None:
        """Start the loop if something waits for it that could not be called before."""
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
            _check_descriptors()
            loop = asyncio.new_event_loop()
            try:
                thread = threading.Thread(target=self._run, args=(loop,), name="tidings-loop", daemon=True)
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, thread
        return self._loop

    def stop(self) -> None:
        """Stop the loop after its tasks had a last turn, and its async generators are closed; do not wait for it."""
        with self._lock:
            self.is_stopped = True
            self._waiting.clear()
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._cancel_all, loop)

    def join(self) -> None:
        """Wait a moment until the loop is closed: what it closes may have files and connections open."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)

    @staticmethod
    def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        ending = asyncio.gather(*tasks, return_exceptions=True)
        ending.add_done_callback(lambda _: loop.stop())
        if not tasks:
            loop.stop()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _check_descriptors() -> None:
    """Raise `OSError` if there are none left for a loop. One that is made in part complains when it is collected."""
    with selectors.DefaultSelector():
        for each in socket.socketpair():
            each.close()
