"""SIGTERM: how `kill`, systemd, Docker and Kubernetes ask a process to end.

Python ends at once on SIGTERM, without any cleanup. If the program has no handler of its own, `DBOS.launch` sets one
that shuts down in order: running workflows may finish or pause, the others are given back so that other processes
resume them, and then the signal ends the process. A second SIGTERM ends it at once.

A signal without a handler cannot end the first process of a container (PID 1): the kernel ignores it. That process
exits instead, with the code by which a shell reports the signal. It does so at a second SIGTERM too.

Only the main thread may set a handler, and a handler of the program is never replaced: servers such as uvicorn have
their own, and call `DBOS.destroy` when they shut down.
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
    """Shuts this process down in order on SIGTERM."""

    def __init__(self, is_needed: Callable[[], bool], leave: Callable[[], None]) -> None:
        """Take `is_needed`, which tells whether tidings runs, and `leave`, which shuts it down in a new thread."""
        self._is_needed = is_needed
        self._leave = leave

    def install(self) -> None:
        """Handle SIGTERM, if it has no handler and this is the main thread."""
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._handle)

    def remove(self) -> None:
        """Remove the handler."""
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The main thread may be anywhere, even inside tidings and holding a lock: wait for nothing here.
        signal.signal(signal.SIGTERM, _exit if _is_first_process() else signal.SIG_DFL)
        if not self._is_needed():  # A server has shut tidings down, and now raises the signal again.
            _end_by_signal()
        try:
            threading.Thread(target=self._end, name="tidings-term", daemon=True).start()
        except Exception:  # No thread can be started: end now, without the shutdown.
            _end_by_signal()

    def _end(self) -> None:
        logger.info(
            "SIGTERM: letting running workflows finish or pause, for at most %d s; other processes resume the rest",
            TERM_SECONDS,
        )
        try:
            self._leave()
        except Exception:
            logger.exception(
                "shutting down failed; the process ends now, and other processes take over its workflows when its "
                "lease ends"
            )
        _end_by_signal()


def _end_by_signal() -> NoReturn:
    """End by the signal; exit if the signal does nothing."""
    if not _is_first_process():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_DELIVERY_SECONDS)  # The process ends in this time, unless the signal is ignored or blocked.
    _exit()


def _exit(*_: object) -> NoReturn:
    os._exit(128 + signal.SIGTERM)


def _is_first_process() -> bool:
    return os.getpid() == 1


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
