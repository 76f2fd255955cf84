"""Closes in a forked child what it must not keep: locked files and sockets of connections.

A fork copies open files. A lock or a connection lives until its last copy is closed. So the child of a process that was
killed (a pool worker, for example) would keep the dead process's locks. Therefore the child first replaces these files
by `/dev/null`. The file numbers stay taken: code that still uses one does no harm, and no new file gets that number.

This happens at each fork that Python knows of: `os.fork`, `os.forkpty`, `multiprocessing`. A program started by
`subprocess` gets none of these files, because all are closed on exec.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

# Held from the opening of a file until its owner has it, so that no fork happens in between. A fork takes it too.
NO_FORK: Final = threading.RLock()

_held: WeakKeyDictionary[object, Callable[[Any], int | None]] = WeakKeyDictionary()
_forks: Final = [0]  # how often this process has forked


def hold(owner: T, file_of: Callable[[T], int | None]) -> None:
    """Let no forked child keep the file that `file_of(owner)` returns, as long as the owner lives.

    `file_of` must not return a file that another thread may be closing: the owner clears the number before it closes
    the file. If `file_of` returns `None` or raises, the owner has no file.
    """
    with NO_FORK:
        _held[owner] = file_of


def forks() -> int:
    """Return how often this process has forked. A file opened while the number grew may have been copied."""
    return _forks[0]


def _count() -> None:
    _forks[0] += 1
    NO_FORK.release()


def _let_go() -> None:
    """Drop the inherited files. Called in the child, which has one thread."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for owner, file_of in list(_held.items()):
        with contextlib.suppress(Exception):  # A closed connection has no socket.
            file = file_of(owner)
            if file is not None:
                os.dup2(null, file, inheritable=False)
    os.close(null)
    _held.clear()
    NO_FORK.release()


if sys.platform != "win32":
    os.register_at_fork(before=NO_FORK.acquire, after_in_parent=_count, after_in_child=_let_go)
