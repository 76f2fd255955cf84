"""Which file was opened, and whether its path still leads to it.

Writes to a file that was removed or replaced still succeed, but nobody will ever read them. So the path is checked
before and after each change, and before each read; that costs a microsecond. While a file is open, the system gives its
number to no other file.
"""

from __future__ import annotations

import os

from tidings.store.protocol import Unavailable


class Identity:
    """The file at a path now, if there is one. Made before the file is opened, and checked after that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.of_file = _of(path)

    def check(self, *, ambiguous: bool = False) -> None:
        """Raise `Unavailable` if another file is there, or none. Then a commit just made may or may not count."""
        now = _of(self._path)
        if now is None:
            reason = "the file was removed while it was in use; put it back, and tidings continues"
        elif now != self.of_file:
            reason = "the file was replaced by another while it was in use; tidings opens the new one now"
        else:
            return
        raise Unavailable(f"SQLite database {self._path}: {reason}", ambiguous=ambiguous)


def _of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
