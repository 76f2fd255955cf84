"""Changes that tidings makes in libraries, once in a process, as soon as the program has imported them.

Each run asks for them when it begins. That costs a check of the few changes that are left.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final

from tidings.engine.runs import asyncio_functions, code_timers, executors, rest, tasks

Change = Callable[[], None]
Changes = Mapping[str, Change]


class Settling:
    """The changes that are still to be made.

    Args:
        changes: of each part of tidings, by the name of the module that each change waits for.
    """

    def __init__(self, *changes: Changes) -> None:
        self._lock = threading.Lock()  # Two loops may begin their first workflow at once.
        self._left: dict[str, list[Change]] = {}
        for each in changes:
            for name, change in each.items():
                self._left.setdefault(name, []).append(change)
        self._awaited = tuple(self._left)

    def settle(self) -> None:
        """Make the changes whose library is imported by now. When this returns, they are made."""
        for name in self._awaited:
            if name in sys.modules:
                self._make(name)

    def _make(self, name: str) -> None:
        with self._lock:
            for change in self._left.pop(name, ()):
                change()
            self._awaited = tuple(self._left)


_SETTLING: Final = Settling(
    asyncio_functions.CHANGES, tasks.CHANGES, code_timers.CHANGES, executors.CHANGES, rest.CHANGES
)


def settle_libraries() -> None:
    """Change the libraries that the program has imported by now, as code of workflows needs it."""
    _SETTLING.settle()
