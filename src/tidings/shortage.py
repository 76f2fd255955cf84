"""Shortages: what the process may lack for a while, such as threads, memory, open files or disk space.

A shortage is not the fault of the user's program, and must not end a workflow. When the library's own work
fails for that reason, the library waits and retries. In the user's code it is an ordinary error.
"""

from __future__ import annotations

import errno
from typing import Final

_ERRNOS: Final = {
    getattr(errno, name)
    for name in ("EAGAIN", "EDQUOT", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ENOSPC")
    if hasattr(errno, name)  # Windows lacks some.
}

# The text of Python's errors when it can make no more threads or locks; both are a plain RuntimeError.
_NO_THREAD: Final = "can't start new thread"
_NO_LOCK: Final = "can't allocate lock"


def is_shortage(error: BaseException) -> bool:
    """Tell whether `error` says that the process lacks something, perhaps only for a while."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno in _ERRNOS
        case RuntimeError():
            return str(error) in (_NO_THREAD, _NO_LOCK)
        case _:
            return False


def is_end_of_program(error: BaseException) -> bool:
    """Tell whether `error` says that a thread cannot be started because the interpreter is shutting down."""
    return isinstance(error, RuntimeError) and str(error).endswith("at interpreter shutdown")


def reason_of(error: BaseException) -> str:
    """Return the text for the log: the shortage, and what the reader should check."""
    text = str(error) or type(error).__name__
    if text == _NO_THREAD:
        return f"{text}: check the limit on threads of this user or container, and the free memory"
    if isinstance(error, MemoryError):
        return "out of memory" if text == "MemoryError" else text
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{text}: check the limit on open files"
    return text
