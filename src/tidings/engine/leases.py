"""Who is alive: this process's row among the executors, and how the death of another is seen.

Each incarnation of a process is an executor of its own, with a lease that every batch renews. On
one machine death is seen at once, by a lock on a file that the system frees when the process dies,
however it dies: free means dead; locked, or no file (another machine), means that the lease must run
out first. Never by process id, which is used again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tidings.engine.clock import Clock
from tidings.model import Executor
from tidings.store.protocol import KEEP_EXECUTORS_MS, Store

if sys.platform != "win32":
    import fcntl


_MOST_SWEPT = 1_000  # files at each launch: it must not take long


class Lease:
    """This process's executors' row and lock file."""

    def __init__(self, lease_ms: int, clock: Clock) -> None:
        self._lease_ms = lease_ms
        self._clock = clock
        self._file: int | None = None

    def enlist(self, store: Store, label: str) -> Executor:
        """Become a new executor: lock its file first, so that no one sees it without."""
        executor_id = uuid.uuid4().hex
        self.release()
        self._file = _lock(_path(executor_id), create=True)
        until = self._clock.now_ms() + self._lease_ms
        try:
            return Executor(executor_id, label, until, store.enlist(executor_id, label, until))
        except BaseException:
            self.release()
            forget(executor_id)
            raise

    def retire(self, store: Store, executor: Executor) -> None:
        """Give everything back: the row, its workflows, the file."""
        found = store.refence(executor.executor_id)
        if found is not None:  # Its fence may have moved unnoticed; what it still owns is given back all the same.
            store.retire(executor.executor_id, found[0])
        self.release()
        forget(executor.executor_id)

    def release(self) -> None:
        """Unlock the file: whatever the row still says, this executor is dead."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def is_dead(executor: Executor, now_ms: int) -> bool:
    """Tell whether that executor's process is gone, or so slow that others may go on with its work."""
    return executor.lease_until_ms < now_ms or _is_free(_path(executor.executor_id))


def _is_free(path: Path) -> bool:
    """Tell whether there is a lock file that nobody holds."""
    try:
        file = _lock(path, create=False)
    except OSError:  # Held, or not there, or another user's: only the lease tells.
        return False
    if file is None:
        return False
    os.close(file)
    return True


def forget(executor_id: str) -> None:
    """Remove the file of an executor that is gone."""
    with contextlib.suppress(OSError):
        _path(executor_id).unlink()


def sweep() -> None:
    """Remove the files of processes that ended long ago. None that somebody holds, however old."""
    long_ago = time.time() - KEEP_EXECUTORS_MS / 1_000
    with os.scandir(tempfile.gettempdir()) as files:
        ours = (each for each in files if each.name.startswith("tidings-") and each.name.endswith(".lock"))
        for file in itertools.islice(ours, _MOST_SWEPT):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < long_ago and _is_free(Path(file.path)):
                    os.unlink(file.path)


def _path(executor_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"tidings-{executor_id}.lock"


def _lock(path: Path, *, create: bool) -> int | None:
    """Lock the file without waiting; the lock lives as long as the descriptor."""
    if sys.platform == "win32":
        return None  # Only the lease tells.
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file
