"""What other programs call the module that Python was started with.

In its own process that is `__main__`, whatever its file is called, and so its classes would be unknown to a
program that imports the file. Which name an import finds a file by is a question to the disk, which is not
asked here: `engine.scripts` answers it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final

# The second is what multiprocessing calls the same module in a process that it spawned.
MAINS: Final = frozenset({"__main__", "__mp_main__"})

_answering: list[Callable[[ModuleType], str | None]] = []


def answer_by(find: Callable[[ModuleType], str | None]) -> None:
    """Let `find` say by which name an import finds the module `__main__`. Called once, when the library is imported."""
    _answering.append(find)


def importable_main() -> str | None:
    """Return the name by which an import finds the file of `__main__`; `None` if none does."""
    main = sys.modules.get("__main__")
    return None if main is None else _name_of(main)


@functools.lru_cache(maxsize=1)
def _name_of(main: ModuleType) -> str | None:
    return next((name for find in _answering if (name := find(main)) is not None), None)
