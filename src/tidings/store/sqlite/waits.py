"""Logs which process holds a lock that another has waited for for long.

Each wait only adds a note. One thread checks the notes once a second, as long as there are any. Only then it asks the
system who holds the lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_log = logging.getLogger("tidings.store")

SAY_AFTER_SECONDS: Final = 5.0
_SAY_AGAIN_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_MOST_NAMED: Final = 3

_lock = threading.Lock()  # guards `_waits` and `_has_watcher`
_waits: dict[int, _Wait] = {}  # by the thread that waits
_has_watcher = False


class _Wait:
    """A wait for the lock at a path: since when, and when it was last logged."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.since = time.monotonic()
        self.said_at = self.since + SAY_AFTER_SECONDS - _SAY_AGAIN_SECONDS


@contextlib.contextmanager
def waiting(path: str) -> Iterator[None]:
    """Note a wait for the lock at `path` while the body waits."""
    me, wait = threading.get_ident(), _Wait(path)
    with _lock:
        _waits[me] = wait
        _watch()
    try:
        yield
    finally:
        with _lock:
            _waits.pop(me, None)
    if wait.said_at > wait.since:
        _log.warning("the lock on %s is free after %.1f s", path, time.monotonic() - wait.since)


def _watch() -> None:
    global _has_watcher  # noqa: PLW0603
    if not _has_watcher:
        with contextlib.suppress(RuntimeError):  # No thread can be started now; then this wait is not logged.
            threading.Thread(target=_look, name="tidings-lock-watch", daemon=True).start()
            _has_watcher = True


def _look() -> None:
    global _has_watcher  # noqa: PLW0603
    while True:
        time.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        with _lock:
            if not _waits:
                _has_watcher = False
                return
            late = [each for each in _waits.values() if now - each.said_at >= _SAY_AGAIN_SECONDS]
        for each in late:
            each.said_at = now
            _log.warning(
                "waiting for the lock on %s for %.0f s: %s; tidings continues when it is free",
                each.path,
                now - each.since,
                _say_holders(each.path),
            )


def _say_holders(path: str) -> str:
    found = holders(path)
    if not found:
        return "another process holds it"
    named = ", ".join(found[:_MOST_NAMED])
    return f"held by {named}" + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")


def holders(path: str) -> list[str]:
    """Return the processes that hold the lock on a file, each as id and command, if the system tells (Linux)."""
    try:
        wanted = os.stat(path)
        processes = [each for each in os.listdir("/proc") if each.isdigit()]
    except OSError:
        return []
    return [
        f"process {process} ({command_of(process)})"
        for process in processes
        if any(_is_locked(process, file, wanted) for file in files_of(process))
    ]


def files_of(process: str) -> list[str]:
    """Return the open files of a process, as the system numbers them; none if it does not tell."""
    try:
        return os.listdir(f"/proc/{process}/fd")
    except OSError:  # The process has ended, or is another user's.
        return []


def _is_locked(process: str, file: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(f"/proc/{process}/fd/{file}")
        if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        return "FLOCK" in Path(f"/proc/{process}/fdinfo/{file}").read_text()
    except (OSError, UnicodeDecodeError):
        return False


def command_of(process: str) -> str:
    """Return the command line of a process, for the log."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "of another user"
    return " ".join(word for word in words if word)[:80] or "of the system"


def _begin_in_child() -> None:
    global _has_watcher, _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _waits.clear()
    _has_watcher = False


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)
