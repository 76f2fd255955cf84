"""Hears of the commits of other processes to the same SQLite file.

SQLite can wake nobody, so this polls. `pragma data_version` tells within microseconds whether another connection has
committed; only then the wakes are read. It polls every few milliseconds while something waits, and seldom otherwise.

Nothing is missed. A row of wakes is part of its batch. The rows are numbered without gaps (a number that was rolled
back is given again), and the newest row is never pruned. So the next row that is read has the next number; if not, some
were pruned unread, and all waiters look. Row ids of other tables would not do: the end of a workflow is an update and
makes no new row.
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

    obstacle = "SQLite works only on a local file system, not on a network share"

    def __init__(self, path: str, executor_id: str) -> None:
        self._path = path
        self._executor_id = executor_id
        self._interrupted = threading.Event()
        with classified(path):
            self._identity = Identity(path)
            self._connection = connect_reader(path)
            try:
                self._identity.check()
                # The version is read before the last row: a commit in between is noticed twice, but never missed.
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
        # Read after the version: a commit in between changes the version again.
        rows = self._connection.execute(SQL["read_wakes"], (self._last,)).fetchall()
        self._version = version
        if not rows:
            return self._begin_anew() if self._last >= FAR else []
        expected, self._last = self._last + 1, rows[-1][0]
        if rows[0][0] != expected:
            return [WAKE_ALL]
        return [name for _, by, names in rows for name in audible(names.split(), by, self._executor_id)]

    def _begin_anew(self) -> list[str]:
        """Start again from the first number, if the numbers had reached their end and were reset."""
        [(last,)] = self._connection.execute(SQL["last_wake"]).fetchall()
        if last >= self._last:
            return []
        self._last = last
        return [WAKE_ALL]

    def _data_version(self) -> int:
        [(version,)] = self._connection.execute("pragma data_version").fetchall()
        return int(version)
