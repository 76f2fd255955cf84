"""A coroutine for which a thread waits: an async function that is a step of a blocking workflow.

It runs on the event loop on which the program launched, to which what it uses may belong, else on the background loop.
A loop that ends before the coroutine does is no result of it: the execution ends there, and the workflow is taken up.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Awaitable
from typing import Any, Final

from tidings.engine.loops import BackgroundLoop, HomeLoop, is_closing, running_loop
from tidings.engine.port import Port
from tidings.engine.ticket import Ticket
from tidings.engine.workers import parked
from tidings.error import DBOSShutdownError
from tidings.serialization import recorded_error

# How often a waiting thread looks whether the loop still runs: one that was stopped tells nobody.
_LOOK_SECONDS: Final = 1.0


class Coroutines:
    """Where threads have coroutines run."""

    def __init__(self, home: HomeLoop, background: BackgroundLoop) -> None:
        self._home = home
        self._background = background

    def finish(self, awaitable: Awaitable[Any], port: Port) -> Any:
        """Await this for the calling thread, in its context.

        Args:
            awaitable: what an async function gave.
            port: of the run that the thread executes.
        """
        assert running_loop() is None, "this would hold the loop up"
        loop = self._home.get() or self._in_background()
        ended, awakened = Ticket(), threading.Event()
        running = asyncio.run_coroutine_threadsafe(_settle(ended, awaitable), loop)
        ended.when_settled(awakened.set)
        try:
            with parked():
                while not awakened.wait(_LOOK_SECONDS):
                    if not loop.is_running():
                        break
        except BaseException:
            running.cancel()  # Ctrl-C, say: nobody waits for it any more.
            raise
        if not ended.settled:
            raise _lost(port)
        try:
            return ended.result()
        except asyncio.CancelledError as error:
            if is_closing(loop):
                raise _lost(port) from None
            raise recorded_error(error) from None  # Nobody but itself has cancelled it: an error like any other.

    def _in_background(self) -> asyncio.AbstractEventLoop:
        """Return the background loop, as soon as it can be started."""
        started, awakened = Ticket(), threading.Event()
        started.when_settled(awakened.set)
        is_called = self._background.call(started.settle)
        with parked():
            while is_called and not awakened.wait(_LOOK_SECONDS):
                is_called = not self._background.is_stopped
        if not is_called:
            raise DBOSShutdownError("this process stops, and its event loop with it")
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
    """End this execution, as its loop has ended; return what to raise."""
    port.detach()
    return copy.copy(port.chain.dead) or DBOSShutdownError("the event loop ended before the async function on it did")
