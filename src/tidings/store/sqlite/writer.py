"""The writing side of an SQLite file: transactions, and the upkeep of the write-ahead log.

Every write transaction and every checkpoint happens under the side lock (`lock` says why); nothing else needs it. A
commit counts only if the file is still at its path, so the path is checked before and after (`identity`).

A checkpoint follows a commit that made the log longer than its limit. It does not truncate the log: the next commits
overwrite it from its beginning, in blocks that the file has already. These commits take half as long as those that make
the file longer, because only data must be synced. The commit that starts the log again cuts the file back to
`CHECKPOINT_BYTES`, so that the file is longer than that only if the log is. If another program's commit starts the log
again, the file keeps its length. Then the next checkpoint truncates it: otherwise each of our commits would bring a
checkpoint. If readers block a checkpoint, it gives up soon and is tried again after more was written.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from tidings.store.protocol import Unavailable
from tidings.store.sqlite import schema
from tidings.store.sqlite.connect import BUSY_TIMEOUT_MS, classified, connect, use_log
from tidings.store.sqlite.identity import Identity
from tidings.store.sqlite.lock import SideLock
from tidings.store.sqlite.wal_reset import warn_of_stranger

_log = logging.getLogger("tidings.store")

# The log's size at which a checkpoint runs. If it were smaller, the same pages would be copied more often. If it were
# larger, readers would search a longer log, and a checkpoint would pause commits for longer.
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024

# How long a checkpoint may wait for readers while writers queue behind it.
CHECKPOINT_TIMEOUT_MS: Final = 50


class Writer:
    """A store's one writing connection. Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        """Open the connection.

        Raises:
            sqlite3.Error, OSError, Unavailable
            DBOSInitializationError: the file does not have this library's tables.
        """
        self._path = path
        self._wal = os.path.realpath(path) + "-wal"
        self._checkpoint_at = CHECKPOINT_BYTES
        self._is_to_be_cut = False  # A checkpoint ran, and the log's file is as long as before.
        self.identity = Identity(path)
        self._connection = connect(path)
        try:
            schema.check(self._connection, path)  # Before any change: another program's file is left as it is.
            self._lock = SideLock(path)
            try:
                with self._lock:
                    use_log(self._connection)
                    self._connection.execute(f"pragma journal_size_limit = {CHECKPOINT_BYTES}")
                self.identity.check()
            except BaseException:
                self._lock.close()
                raise
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the body as one durable change. After an error nothing of it was written.

        Raises:
            DataError, Unavailable: only a failure in COMMIT is ambiguous.
        """
        connection = self._connection
        with classified(self._path), self._lock:
            self.identity.check()
            try:
                self._begin(connection)
                yield connection
                with classified(self._path, ambiguous=True):
                    connection.execute("commit")
            except BaseException:
                _roll_back(connection)
                raise
            with classified(self._path, ambiguous=True):  # The commit has happened.
                self.identity.check(ambiguous=True)
                self._tend_log()

    def _begin(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                warn_of_stranger(self._path)  # Our own processes queue on the side lock.
            raise

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Let the body read. It takes no lock and delays no other program."""
        with classified(self._path):
            yield self._connection

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        # SQLite checkpoints when the last connection to a file closes; so this needs the side lock.
        with ExitStack() as stack:
            stack.callback(self._lock.close)
            with suppress(OSError):  # Without its directory there is nothing to lock, and no other process to exclude.
                stack.enter_context(self._lock)
            self._connection.close()

    def _tend_log(self) -> None:
        """Checkpoint if the log has grown large. The commit is safe whatever happens here."""
        try:
            size = os.stat(self._wal).st_size
            if size <= CHECKPOINT_BYTES:
                self._is_to_be_cut = False
            if size <= self._checkpoint_at:
                return
            self._checkpoint_at = size + CHECKPOINT_BYTES
            if self._checkpoint("truncate" if self._is_to_be_cut else "restart"):
                self._checkpoint_at = CHECKPOINT_BYTES
                self._is_to_be_cut = not self._is_to_be_cut
        except (sqlite3.Error, OSError, MemoryError) as error:
            _log.warning("checkpoint of %s failed, to be tried again after a later commit: %s", self._path, error)

    def _checkpoint(self, mode: str) -> bool:
        self._connection.execute(f"pragma busy_timeout = {CHECKPOINT_TIMEOUT_MS}")
        try:
            busy, _, _ = self._connection.execute(f"pragma wal_checkpoint({mode})").fetchone()
        finally:
            self._connection.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")
        return not busy


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("rollback")
    except (sqlite3.Error, MemoryError) as error:
        # The caller reports the first error. SQLite drops the transaction with the connection.
        _log.warning("rolling back failed: %s; SQLite drops the change when the connection closes", error)


def not_connected(path: str) -> Unavailable:
    """Return the error for a call without a connection: before `connect`, or after a failed `reconnect`."""
    return Unavailable(f"SQLite database {path}: there is no connection")
