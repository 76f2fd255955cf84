"""Hears of what other processes have committed to the same SQLite file.

There is nothing to wait on in SQLite, so this looks: `pragma data_version` tells for microseconds
whether another connection has committed, and only then the wakes are read. Every few milliseconds
while somebody waits, seldom otherwise.

Row ids of other tables would not do: the end of a workflow is an update, and changes none.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from tidings.store.protocol import WAKE_ALL
from tidings.store.sqlite.connect import classified, connect_reader
from tidings.store.sqlite.schema import SQL

EAGER_SECONDS: Final = 0.002
IDLE_SECONDS: Final = 0.05


class SqliteListener:
    """See `store.protocol.Listener`."""

    def __init__(self, path: str, executor_id: str) -> None:
        self._path = path
        self._executor_id = executor_id
        self._interrupted = threading.Event()
        with classified(path):
            self._connection = connect_reader(path)
            # First the version, then the last wake: what comes in between is seen twice, never missed.
            self._version = self._data_version()
            [(self._last,)] = self._connection.execute(SQL["last_wake"]).fetchall()

    def hear(self, timeout_seconds: float, *, eager: bool) -> list[str]:
        """See `Listener.hear`."""
        until = time.monotonic() + timeout_seconds
        with classified(self._path):
            while (version := self._data_version()) == self._version:
                if time.monotonic() >= until or self._interrupted.wait(EAGER_SECONDS if eager else IDLE_SECONDS):
                    self._interrupted.clear()
                    return []
            self._version = version
            return self._read()

    def interrupt(self) -> None:
        """See `Listener.interrupt`."""
        self._interrupted.set()

    def close(self) -> None:
        """See `Listener.close`."""
        self._connection.close()

    def _data_version(self) -> int:
        [(version,)] = self._connection.execute("pragma data_version").fetchall()
        return int(version)

    def _read(self) -> list[str]:
        rows = self._connection.execute(SQL["read_wakes"], (self._last,)).fetchall()
        if not rows:
            return []
        missed = self._last > 0 and rows[0][0] > self._last
        names = [
            name for id_, by, text in rows if id_ > self._last and by != self._executor_id for name in text.split()
        ]
        self._last = rows[-1][0]
        return [WAKE_ALL] if missed else names
