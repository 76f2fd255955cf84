"""A lock between processes on a file beside the database: one writer, or one checkpoint, at a time.

SQLite has a lock for writers too, but processes that find it taken sleep and try again, so some starve. And in SQLite
before 3.51.3 a checkpoint that races with a commit can corrupt the file (the WAL-reset bug). This lock blocks and
queues, and prevents both.

The lock belongs to an open file: two stores in one process exclude each other as two processes do. A forked child would
share its parent's open file and so the lock; therefore it keeps neither (`store.held`).

If a wait is long, the log says which process holds the lock. The file's content is only a note of what was logged about
the database (`wal_reset`).
"""

from __future__ import annotations

import os
import sys

from tidings.store.held import NO_FORK, hold
from tidings.store.sqlite.waits import waiting

if sys.platform == "win32":
    import msvcrt

    _FLAGS = os.O_RDWR | os.O_CREAT

    def _lock(fd: int, path: str) -> None:
        while True:
            try:
                os.lseek(fd, 0, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_LOCK, 1)
            except OSError as error:  # Windows gives up after ten seconds; we try again.
                if error.errno != 36:  # EDEADLOCK
                    raise
            else:
                return

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # flock needs no right to write, so users who share a database can share its lock file.
    _FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC

    def _lock(fd: int, path: str) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting(path):
                fcntl.flock(fd, fcntl.LOCK_EX)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


def lock_file_of(database: str) -> str:
    """Return the path of the lock file of a database."""
    # The real path, because SQLite too resolves links before it names its side files.
    return os.path.realpath(database) + "-lock"


class SideLock:
    """The lock of one database; hold it using `with`. Not reentrant.

    tidings never removes the file: a lock on a removed file excludes nobody. If somebody else removes it, the new file
    at its path counts.
    """

    def __init__(self, database: str) -> None:
        self._path = lock_file_of(database)
        with NO_FORK:
            self._fd = self._open()
        hold(self, lambda lock: lock._fd if lock._fd >= 0 else None)

    def __enter__(self) -> None:
        _lock(self._fd, self._path)
        while not os.fstat(self._fd).st_nlink:
            with NO_FORK:
                former, self._fd = self._fd, self._open()
            os.close(former)
            _lock(self._fd, self._path)

    def __exit__(self, *_: object) -> None:
        _unlock(self._fd)

    def close(self) -> None:
        """Close the lock file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self._path, _FLAGS, 0o666)
