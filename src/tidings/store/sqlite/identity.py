"""Which file was opened, and whether its path still leads there.

A file that was removed, or replaced by another, goes on to take all that is written to it, and nobody will ever read
it. So who has one open looks at the path, before and after each change and before each look: that costs a microsecond.
While a file is open, its number is given to no other.
"""

from __future__ import annotations

import os

from tidings.store.protocol import Unavailable


class Identity:
    """The file that stands at a path now, if there is one. Made before it is opened, and checked behind that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.of_file = _of(path)

    def check(self, *, ambiguous: bool = False) -> None:
        """Raise `Unavailable` if another file stands there, or none; a commit behind us may then count or not."""
        now = _of(self._path)
        if now is None:
            reason = "the file was removed while it was in use; put it back, and work goes on"
        elif now != self.of_file:
            reason = "the file was replaced by another while it was in use; that one is opened now"
        else:
            return
        raise Unavailable(f"SQLite database {self._path}: {reason}", ambiguous=ambiguous)


def _of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
