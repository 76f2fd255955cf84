"""A lock between processes on a file beside the database: one writer, or one checkpoint, at a time.

SQLite has a lock for writers too, but those who find it taken sleep and try again, and among busy
processes some starve. And in SQLite before 3.51.3 a checkpoint that races with a commit can corrupt
the file (the WAL-reset bug). This lock blocks and queues, and it covers both.

It belongs to an open file: two stores in one process keep each other out as two processes do.
A forked child would share its parent's open file, and the lock; so it keeps none (`store.held`).

Whoever waits for long learns from the log which process has it.
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
            except OSError as error:  # it gives up after ten seconds; we do not
                if error.errno != 36:  # EDEADLOCK
                    raise
            else:
                return

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # flock asks for no right to write, so users who share a database may share a lock file.
    _FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC

    def _lock(fd: int, path: str) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting(path):
                fcntl.flock(fd, fcntl.LOCK_EX)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class SideLock:
    """The lock of one database; `with` holds it. Not reentrant.

    We never remove the file: a lock on a removed file keeps nobody out. If somebody else did, the one
    that stands in its place counts.
    """

    def __init__(self, database: str) -> None:
        # The real path, because SQLite too follows links before it names its side files.
        self._path = os.path.realpath(database) + "-lock"
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
        """Give up the open file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self._path, _FLAGS, 0o666)
