"""A coroutine that a thread waits for: an async function that is a step of a blocking workflow.

It runs on the event loop on which the program launched, because the objects it uses may belong to that loop. Without
such a loop it runs on the background loop. If the loop ends before the coroutine, that is no result of the step: the
execution ends here, and the workflow is resumed.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Awaitable
from typing import Any, Final

from tidings.engine.runs.loops import BackgroundLoop, HomeLoop, is_closing, running_loop
from tidings.engine.runs.port import Port
from tidings.engine.runs.workers import without_permit
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSShutdownError
from tidings.serialization import recorded_error

# How often a waiting thread checks whether the loop still runs: a loop that was stopped does not say so.
_LOOK_SECONDS: Final = 1.0


class Coroutines:
    """Runs coroutines for threads."""

    def __init__(self, home: HomeLoop, background: BackgroundLoop) -> None:
        self._home = home
        self._background = background

    def finish(self, awaitable: Awaitable[Any], port: Port) -> Any:
        """Await this for the calling thread, in its context.

        Args:
            awaitable: the return value of an async function.
            port: the port of the run that the thread executes.
        """
        assert running_loop() is None, "this would block the event loop"
        loop = self._home.get() or self._in_background()
        ended, awakened = Ticket(), threading.Event()
        running = asyncio.run_coroutine_threadsafe(_settle(ended, awaitable), loop)
        ended.when_settled(awakened.set)
        try:
            with without_permit():
                while not awakened.wait(_LOOK_SECONDS):
                    if not loop.is_running():
                        break
        except BaseException:
            running.cancel()  # After Ctrl-C, for example, nothing waits for it now.
            raise
        if not ended.settled:
            raise _lost(port)
        try:
            return ended.result()
        except asyncio.CancelledError as error:
            if is_closing(loop):
                raise _lost(port) from None
            raise recorded_error(error) from None  # The coroutine cancelled itself: an error like any other.

    def _in_background(self) -> asyncio.AbstractEventLoop:
        """Return the background loop, once it runs."""
        started, awakened = Ticket(), threading.Event()
        started.when_settled(awakened.set)
        is_called = self._background.call(started.settle)
        with without_permit():
            while is_called and not awakened.wait(_LOOK_SECONDS):
                is_called = not self._background.is_stopped
        if not is_called:
            raise DBOSShutdownError(
                "tidings is shutting down in this process, so it begins no more async steps; the workflow stays PENDING"
            )
        loop: asyncio.AbstractEventLoop = started.result()
        return loop


async def _settle(ended: Ticket, awaitable: Awaitable[Any]) -> None:
    try:
        value = await awaitable
    except BaseException as error:
        ended.settle(error=error)
    else:
        ended.settle(value)


def _lost(port: Port) -> BaseException:
    """End this execution, because its loop has ended. Returns the error to raise."""
    port.detach()
    return copy.copy(port.chain.dead) or DBOSShutdownError(
        "the event loop ended before the async step on it; the workflow stays PENDING"
    )
