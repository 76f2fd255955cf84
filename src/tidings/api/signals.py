"""SIGTERM: how a process is asked to end, by `kill`, systemd, Docker, Kubernetes.

Python ends at once on SIGTERM, without a word to anybody. Where the program has not said what it wants
instead, `DBOS.launch` lets it end in good order: what runs may come to rest, what is left is given back
for other processes to go on with, and then the process ends by the signal after all. A second SIGTERM
ends it at once.

The first process of a container (PID 1) cannot end by a signal that nobody handles: the kernel ignores
those. It exits instead, with the code by which a shell reports that signal, and so at a second SIGTERM.

Only the main thread may set a handler, and only a handler that nobody has set is replaced: servers
such as uvicorn have their own, and call `DBOS.destroy` when they shut down.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

logger = logging.getLogger("tidings")

# Docker kills ten seconds after SIGTERM unless it is told otherwise.
TERM_SECONDS: Final = 8

# How long a signal that a process sends itself may take to end it.
_DELIVERY_SECONDS: Final = 1.0


class TermHandler:
    """Ends this process in good order on SIGTERM."""

    def __init__(self, is_needed: Callable[[], bool], leave: Callable[[], None]) -> None:
        """Take what tells whether anything runs, and what brings it to rest, in a thread of its own."""
        self._is_needed = is_needed
        self._leave = leave

    def install(self) -> None:
        """Handle SIGTERM, if nobody does and this is the main thread."""
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._handle)

    def remove(self) -> None:
        """Handle it no more."""
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The main thread may be anywhere, in the middle of ours too: nothing may be waited for here.
        signal.signal(signal.SIGTERM, _exit if _is_first_process() else signal.SIG_DFL)
        if not self._is_needed():  # A server has shut everything down, and now passes on the signal that told it to.
            _end_by_signal()
        try:
            threading.Thread(target=self._end, name="tidings-term", daemon=True).start()
        except Exception:  # No thread can be started: better at once than never.
            _end_by_signal()

    def _end(self) -> None:
        logger.info(
            "SIGTERM: what runs may come to rest, for %d s at most; other processes go on with it", TERM_SECONDS
        )
        try:
            self._leave()
        except Exception:
            logger.exception("shutting down failed; ending all the same")
        _end_by_signal()


def _end_by_signal() -> NoReturn:
    """End as the signal does; where it does nothing, exit."""
    if not _is_first_process():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_DELIVERY_SECONDS)  # It is over before this is, unless somebody ignores or blocks the signal.
    _exit()


def _exit(*_: object) -> NoReturn:
    os._exit(128 + signal.SIGTERM)


def _is_first_process() -> bool:
    return os.getpid() == 1


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
