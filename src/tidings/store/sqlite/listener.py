"""Hears of what other processes have committed to the same SQLite file.

There is nothing to wait on in SQLite, so this looks: `pragma data_version` tells for microseconds
whether another connection has committed, and only then the wakes are read. Every few milliseconds
while somebody waits, seldom otherwise.

Nothing is missed: a row of wakes is part of the batch, rows are numbered without gaps (a number that
was rolled back is given again), and the newest is never pruned. So the next row read has the next
number, or some were pruned unread, and then everybody has to look. Row ids of other tables would
not do: the end of a workflow is an update, and makes none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from tidings.store.protocol import WAKE_ALL
from tidings.store.sqlite.connect import classified, connect_reader
from tidings.store.sqlite.identity import Identity
from tidings.store.sqlite.numbers import FAR
from tidings.store.sqlite.schema import SQL
from tidings.store.wakes import audible

AWAITED_SECONDS: Final = 0.002
IDLE_SECONDS: Final = 0.05


class SqliteListener:
    """See `store.protocol.Listener`."""

    obstacle = "SQLite works only on a file system of this machine, not on a network share"

    def __init__(self, path: str, executor_id: str) -> None:
        self._path = path
        self._executor_id = executor_id
        self._interrupted = threading.Event()
        with classified(path):
            self._identity = Identity(path)
            self._connection = connect_reader(path)
            try:
                self._identity.check()
                # First the version, then the last row: what comes in between is noticed twice, never missed.
                self._version = self._data_version()
                [(self._last,)] = self._connection.execute(SQL["last_wake"]).fetchall()
            except BaseException:
                self._connection.close()
                raise

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        """See `Listener.hear`."""
        until = time.monotonic() + timeout_seconds
        with classified(self._path):
            while not (names := self._look()):
                left = until - time.monotonic()
                if left <= 0 or self._interrupted.wait(min(left, AWAITED_SECONDS if is_awaited() else IDLE_SECONDS)):
                    self._interrupted.clear()
                    return []
            return names

    def interrupt(self) -> None:
        """See `Listener.interrupt`."""
        self._interrupted.set()

    def close(self) -> None:
        """See `Listener.close`."""
        self._connection.close()

    def _look(self) -> list[str]:
        self._identity.check()
        version = self._data_version()
        if version == self._version:
            return []
        # Only now: what is committed between the two changes the version once more.
        rows = self._connection.execute(SQL["read_wakes"], (self._last,)).fetchall()
        self._version = version
        if not rows:
            return self._begin_anew() if self._last >= FAR else []
        expected, self._last = self._last + 1, rows[-1][0]
        if rows[0][0] != expected:
            return [WAKE_ALL]
        return [name for _, by, names in rows for name in audible(names.split(), by, self._executor_id)]

    def _begin_anew(self) -> list[str]:
        """Hear from the first number again where they had come to their end."""
        [(last,)] = self._connection.execute(SQL["last_wake"]).fetchall()
        if last >= self._last:
            return []
        self._last = last
        return [WAKE_ALL]

    def _data_version(self) -> int:
        [(version,)] = self._connection.execute("pragma data_version").fetchall()
        return int(version)
