"""The writing side of an SQLite file: transactions, and the care of the write-ahead log.

Every write transaction and every checkpoint happens under the side lock (`lock` says why), and the
lock is held for nothing else. What was committed counts only where the file still stands at its
path, and so it is looked for before and after (`identity`).

A checkpoint follows a commit that made the log's file longer than it may be. It does not truncate
the file: what comes next overwrites the log from its beginning, in blocks that the file has already,
and such a commit takes half as long as one that makes a file longer, for nothing but data must be
synced. The file is cut back to `CHECKPOINT_BYTES` by the commit that begins anew, so that it is longer
again only once the log is. Another program that writes to the file may be the one that begins anew, and
leave it as long as it was; the next checkpoint truncates it then, or each commit of ours would bring one.
Where readers are in the way a checkpoint gives up soon, and is tried again when more was written.
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

_log = logging.getLogger("tidings.store")

# The log's size that calls for a checkpoint. Smaller: the same pages are copied more often. Larger:
# readers search a longer log, and the pause of a checkpoint grows.
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024

# How long a checkpoint may wait for readers while writers queue behind it.
CHECKPOINT_TIMEOUT_MS: Final = 50


class Writer:
    """The one connection of a store that writes. Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            sqlite3.Error, OSError, Unavailable
            DBOSInitializationError: it has not the tables of this library.
        """
        self._path = path
        self._wal = os.path.realpath(path) + "-wal"
        self._checkpoint_at = CHECKPOINT_BYTES
        self._is_to_be_cut = False  # There was a checkpoint, and the log's file is as long as before.
        self.identity = Identity(path)
        self._connection = connect(path)
        try:
            schema.check(self._connection, path)  # First: a stranger's file is left as it is.
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
        """Run the body as one durable change. After any error nothing of it was written.

        Raises:
            DataError, Unavailable: and only what fails in COMMIT is ambiguous.
        """
        connection = self._connection
        with classified(self._path), self._lock:
            self.identity.check()
            try:
                connection.execute("begin immediate")
                yield connection
                with classified(self._path, ambiguous=True):
                    connection.execute("commit")
            except BaseException:
                _roll_back(connection)
                raise
            with classified(self._path, ambiguous=True):  # It is committed.
                self.identity.check(ambiguous=True)
                self._tend_log()

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Let the body read. It holds no lock, and up no other program."""
        with classified(self._path):
            yield self._connection

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        # The last connection to a file checkpoints as it closes.
        with ExitStack() as stack:
            stack.callback(self._lock.close)
            with suppress(OSError):  # With its directory gone, there is nothing to lock, and nobody to keep out.
                stack.enter_context(self._lock)
            self._connection.close()

    def _tend_log(self) -> None:
        """Checkpoint if the log has grown large. The commit stands whatever happens here."""
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
            _log.warning("checkpoint of %s failed, to be tried again: %s", self._path, error)

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
        # The error that led here is the one to report. SQLite forgets the change with the connection.
        _log.warning("rolling back failed: %s", error)


def not_connected(path: str) -> Unavailable:
    """The error for a call without a connection: before `connect`, or after a failed `reconnect`."""
    return Unavailable(f"SQLite database {path}: there is no connection")
