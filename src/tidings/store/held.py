"""What a forked child must not keep: open files that are locked, and sockets of connections.

A fork copies them. A lock lives until the last copy is closed, and so does a connection: the child of
a process that was killed, the worker of a pool say, would keep the locks of a process that is gone.
So the child puts `/dev/null` in their place before it does anything else. Whoever still has the number of
such a file there does no harm with it, nor can anything else be given that number.

That happens at each fork that Python knows of: `os.fork`, `os.forkpty`, `multiprocessing`. A program that is
started by `subprocess` gets none of them, for all are closed on exec.
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

# Held from the opening of a file until its owner has it, so that no fork comes in between. A fork takes it too.
NO_FORK: Final = threading.RLock()

_held: WeakKeyDictionary[object, Callable[[Any], int | None]] = WeakKeyDictionary()
_forks: Final = [0]  # how many there were


def hold(owner: T, file_of: Callable[[T], int | None]) -> None:
    """Let no child keep the file that `file_of(owner)` gives, for as long as the owner lives.

    It must not give one that may be closed at the same time: to let go, the owner forgets the number first. What gives
    `None`, or raises, has none.
    """
    with NO_FORK:
        _held[owner] = file_of


def forks() -> int:
    """Return how often this process has forked. What was opened meanwhile may have been copied."""
    return _forks[0]


def _count() -> None:
    _forks[0] += 1
    NO_FORK.release()


def _let_go() -> None:
    """Drop what was inherited. In the child, which has one thread."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for owner, file_of in list(_held.items()):
        with contextlib.suppress(Exception):  # A connection that is closed has no socket.
            file = file_of(owner)
            if file is not None:
                os.dup2(null, file, inheritable=False)
    os.close(null)
    _held.clear()
    NO_FORK.release()


if sys.platform != "win32":
    os.register_at_fork(before=NO_FORK.acquire, after_in_parent=_count, after_in_child=_let_go)
