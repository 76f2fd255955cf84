"""The name by which other programs import the module that Python was started with.

In its own process this module is `__main__`, whatever its file is called. A program that imports the file would not
find classes stored under that name. To find the import name means to look at the disk, and this layer does no I/O: so
`engine.runs.scripts` provides the answer.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final

# In a process that multiprocessing has spawned, the module has the second name.
MAINS: Final = frozenset({"__main__", "__mp_main__"})

Find = Callable[[ModuleType], str | None]
IsCalled = Callable[[ModuleType, str], bool]

_answering: list[tuple[Find, IsCalled]] = []


def answer_by(find: Find, is_called: IsCalled) -> None:
    """Register `find`, which returns the import name of `__main__`, and `is_called`, which tests such a name.

    Called once, when the library is imported.
    """
    _answering.append((find, is_called))


def importable_main() -> str | None:
    """Return the name by which the file of `__main__` can be imported; `None` if it cannot."""
    main = sys.modules.get("__main__")
    return None if main is None else _name_of(main)


@functools.lru_cache(maxsize=1)
def _name_of(main: ModuleType) -> str | None:
    return next((name for find, _ in _answering if (name := find(main)) is not None), None)


def may_be_main(name: str) -> bool:
    """Tell whether another program that runs or imports the file of `__main__` may call it by this name."""
    main = sys.modules.get("__main__")
    return main is not None and _is_called(main, name)


@functools.lru_cache(maxsize=100)
def _is_called(main: ModuleType, name: str) -> bool:
    return any(is_called(main, name) for _, is_called in _answering)
