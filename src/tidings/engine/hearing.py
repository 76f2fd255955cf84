"""Wake-ups from other processes: one thread that listens, and what is done when nothing is heard.

Hints again: what is heard only says who should look. Where hints may have been missed (the connection
was lost, names were pruned), everybody looks at once when it is back, and, because any hint may be
lost, everybody looks every few seconds anyway.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tidings.engine.probes import Point, Probes
from tidings.engine.ticket import settle_all
from tidings.engine.waiters import Waiters, cancelled_workflow
from tidings.error import DBOSShutdownError
from tidings.store.protocol import WAKE_ALL, Listener, Store, Unavailable

logger = logging.getLogger("tidings")

RECHECK_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.1


class Hearing:
    """The listener of this process."""

    def __init__(
        self,
        store: Store,
        waiters: Waiters,
        probes: Probes,
        was_cancelled: Callable[[str], None],
        look_for_cancelled: Callable[[], None],
    ) -> None:
        self._store = store
        self._waiters = waiters
        self._probes = probes
        self._was_cancelled = was_cancelled
        self._look_for_cancelled = look_for_cancelled
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._executor_id = ""
        self._thread = threading.Thread(target=self._run, name="tidings-listener", daemon=True)

    def start(self, executor_id: str) -> None:
        """Listen, before anybody waits."""
        self._executor_id = executor_id
        self._listener = self._store.listen(executor_id)
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._listener is not None:
                self._listener.interrupt()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        recheck_at = time.monotonic() + RECHECK_SECONDS
        while not self._stopped:
            heard = self._hear(recheck_at - time.monotonic())
            if heard is None or WAKE_ALL in heard or time.monotonic() >= recheck_at:
                self._recheck()
                recheck_at = time.monotonic() + RECHECK_SECONDS
            elif heard:
                self._wake(heard)
        with self._lock:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

    def _hear(self, timeout_seconds: float) -> list[str] | None:
        """Return what was heard; `None` after the listener was lost and is back."""
        assert self._listener is not None
        try:
            return self._listener.hear(max(timeout_seconds, 0), eager=len(self._waiters) > 0)
        except Unavailable as error:
            logger.warning("wake-ups from other processes are not heard at the moment: %s", error)
            self._probes.passes(Point.STORE_UNAVAILABLE, error)
        self._listen_again()
        return None

    def _listen_again(self) -> None:
        """Connect anew, however long it takes. Names may have been missed: the caller lets all look."""
        assert self._listener is not None
        self._listener.close()
        while not self._stopped:
            try:
                listener = self._store.listen(self._executor_id)
            except Unavailable:
                time.sleep(_PAUSE_SECONDS)
                continue
            with self._lock:
                self._listener = listener
            return
        with self._lock:
            self._listener = None

    def _wake(self, names: list[str]) -> None:
        for name in names:
            workflow_id = cancelled_workflow(name)
            if workflow_id is not None:
                self._was_cancelled(workflow_id)
        settle_all((arrival, True, None) for arrival in self._waiters.take_named(names))

    def _recheck(self) -> None:
        with contextlib.suppress(DBOSShutdownError):
            self._look_for_cancelled()
        settle_all((arrival, True, None) for arrival in self._waiters.take_all())
