"""What the process itself may lack for a while: threads, memory, file descriptors, room on a disk.

Such a lack is no fault of the user's program and no outcome of a workflow. Where the library's own work
meets it, that work waits and is tried again. In the user's own code it is an error like any other.
"""

from __future__ import annotations

import errno
from typing import Final

_ERRNOS: Final = {
    getattr(errno, name)
    for name in ("EAGAIN", "EDQUOT", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ENOSPC")
    if hasattr(errno, name)  # Windows lacks some.
}

# How Python says of threads and locks that there can be no more; both are a plain RuntimeError.
_NO_THREAD: Final = "can't start new thread"
_NO_LOCK: Final = "can't allocate lock"


def is_shortage(error: BaseException) -> bool:
    """Tell whether `error` says that the process lacks something, which may pass."""
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
    """Return what the log says of a shortage, and of what the reader may look at."""
    text = str(error) or type(error).__name__
    if text == _NO_THREAD:
        return f"{text}: see the limit on threads of this user or container, and the memory that is left"
    if isinstance(error, MemoryError):
        return "out of memory" if text == "MemoryError" else text
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{text}: see the limit on open files"
    return text
