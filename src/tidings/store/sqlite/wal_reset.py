"""Warns if Python's SQLite has the WAL-reset bug.

In SQLite before 3.51.3 a checkpoint that races with a commit can damage a file. tidings prevents that among its own
connections, in all processes (`lock`). It cannot prevent it for other programs, so it logs what they must do: once for
each file and version of SQLite, which the lock file remembers. If another program is seen to have the file open, each
process logs it as a warning.

Another program is noticed in two ways: at the start, by the locks that its connections hold (Linux); and when it delays
a commit, because our own processes queue on the side lock and never collide there.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from tidings.store.sqlite.lock import SideLock, lock_file_of
from tidings.store.sqlite.waits import command_of, files_of

_log: Final = logging.getLogger("tidings.store")

_ADVICE: Final = (
    "SQLite %s, which this Python uses, has the WAL-reset bug: a file can be damaged if a program that is not "
    "tidings opens it too. %s. Let each connection of such a program execute 'PRAGMA wal_autocheckpoint=0', or use a "
    "Python with SQLite 3.51.3 or newer; the README of tidings says more"
)
_LOOK_AGAIN_SECONDS: Final = 0.05
_MOST_REMEMBERED: Final = 4_096  # how many bytes of the lock file are read

_told: set[tuple[str, str]] = set()  # files and versions that this process logged
_warned: set[str] = set()  # files for which another program was seen


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite can damage a file when a checkpoint races with a commit."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return version >= (3, 7, 0) and not fixed


def tell_of_wal_reset_bug(path: str) -> None:
    """Log once what this SQLite needs of other programs that open the file; warn if one has it open now."""
    if not has_wal_reset_bug(sqlite3.sqlite_version_info):
        return
    stranger = _stranger_at(path)
    if stranger is not None:
        time.sleep(_LOOK_AGAIN_SECONDS)  # A tidings process that just starts opens the lock file a moment later.
        stranger = _stranger_at(path)
    if stranger is not None:
        warn_of_stranger(path, stranger)
    elif _is_news(path, sqlite3.sqlite_version):
        said = f"If no other program opens {path}, there is nothing to do, and this is not logged again"
        _log.info(_ADVICE, sqlite3.sqlite_version, said)


def warn_of_stranger(path: str, stranger: str = "another program") -> None:
    """Warn, once in this process, that another program has the file open."""
    if path not in _warned and has_wal_reset_bug(sqlite3.sqlite_version_info):
        _warned.add(path)
        _log.warning(_ADVICE, sqlite3.sqlite_version, f"{stranger} has {path} open now")


def _is_news(path: str, version: str) -> bool:
    """Tell whether this file and version were not logged before, and remember them."""
    file = lock_file_of(path)
    if (file, version) in _told:
        return False
    _told.add((file, version))
    note = f"told of the WAL-reset bug of SQLite {version}\n".encode()
    try:
        with closing(SideLock(path)) as lock, lock, open(file, "ab+", buffering=0) as remembered:
            remembered.seek(0)
            if note in (remembered.read(_MOST_REMEMBERED) or b""):
                return False
            remembered.write(note)
    except OSError:
        pass  # This user may not write to the lock file, so each process logs it.
    return True


def _stranger_at(path: str) -> str | None:
    """Return a process that has the file open but not the lock file; so it is not one of ours."""
    try:
        holders = _processes_with_locks(os.stat(path)) - {str(os.getpid())}
        ours = os.stat(lock_file_of(path))
    except OSError:
        return None  # This is not Linux, or the file was removed.
    for process in sorted(holders, key=int):
        opened = files_of(process)
        if opened and not any(_is_file(process, each, ours) for each in opened):
            return f"process {process} ({command_of(process)})"
    return None


def _processes_with_locks(file: os.stat_result) -> set[str]:
    """Return the processes whose connections lock a file. In WAL mode each open connection does."""
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {words[4] for words in lines if len(words) > 5 and words[5] == wanted and words[4].isdigit()} - {"0"}


def _is_file(process: str, opened: str, file: os.stat_result) -> bool:
    try:
        found = os.stat(f"/proc/{process}/fd/{opened}")
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino)
