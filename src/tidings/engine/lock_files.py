"""The file that each executor locks, by which its host sees at once that it has died.

The system frees the lock when the process dies, however it dies. A file without a lock means that its executor is dead.
A missing file means nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from tidings.model import Executor
from tidings.store.held import NO_FORK
from tidings.store.protocol import KEEP_EXECUTORS_MS

if sys.platform != "win32":
    import fcntl

_MOST_SWEPT = 1_000  # Files to check at each launch, which must not take long.


def lock(executor_id: str) -> int | None:
    """Create the file of an executor and lock it. Raises `OSError` if that fails."""
    return _lock(_path(executor_id), create=True)


def has_died_here(executor: Executor) -> bool:
    """Tell whether that executor was a process of this host, and has died."""
    try:
        return _is_free(_path(executor.executor_id))
    except OSError:  # There is no directory for temporary files.
        return False


def _is_free(path: Path) -> bool:
    """Tell whether the lock file exists and is not locked."""
    with NO_FORK:  # A forked child would inherit the lock, and look like a living executor.
        try:
            file = _lock(path, create=False)
        except OSError:  # Locked, missing, not ours, or no file can be opened: only the lease tells.
            return False
        if file is None:
            return False
        unlock(file)
    return True


def forget(executor_id: str) -> None:
    """Remove the file of an executor that has ended."""
    with contextlib.suppress(OSError):
        _path(executor_id).unlink()


def sweep() -> None:
    """Remove the files of executors that died long ago, but no locked file, however old."""
    long_ago = time.time() - KEEP_EXECUTORS_MS / 1_000
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as files:
        ours = (each for each in files if each.name.startswith("tidings-") and each.name.endswith(".lock"))
        for file in itertools.islice(ours, _MOST_SWEPT):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < long_ago and _is_free(Path(file.path)):
                    os.unlink(file.path)


def _path(executor_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"tidings-{executor_id}.lock"


def _lock(path: Path, *, create: bool) -> int | None:
    """Lock the file without waiting. The lock lasts until the descriptor and its copies in forked children close."""
    if sys.platform == "win32":
        return None  # Only the lease tells.
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def unlock(file: int) -> None:
    """Unlock a file. To other processes its executor is then dead."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_UN)  # A child that was forked a moment ago may still have a copy.
    os.close(file)
