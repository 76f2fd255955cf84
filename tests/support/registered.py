"""The workflows, steps and classes that each test begins with: those of its own module and of what that imports.

A run of the tests imports all their modules; a program would import one of them. So each test finds what that one has
registered, whatever other modules define and whatever other tests have registered or cleared.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tidings.api.workflows import REGISTRY

# The tables of the registry, each with what tells the module that an item of it comes from.
_WORKFLOWS: dict[str, Callable[[Any, Any], str]] = {
    "_workflows": lambda _, workflow: workflow.function.__module__,
    "_steps": lambda _, step: step[0].function.__module__,
}
_RECEIVERS: dict[str, Callable[[Any, Any], str]] = {
    "_classes": lambda _, target: target.__module__,
    "_definitions": lambda _, definition: definition.module,
    "_names": lambda target, _: target.__module__,
    "_instances": lambda _, instance: type(instance).__module__,
}
_OTHERS = {"_lock", "_methods", "receivers"}
_OURS = ("tests", "examples", "chaos", "bench")


class Registered:
    """What modules have registered by now: made when all have been imported, and before the first test."""

    def __init__(self) -> None:
        unknown = {*vars(REGISTRY), *vars(REGISTRY.receivers)} - {*_WORKFLOWS, *_RECEIVERS, *_OTHERS}
        assert not unknown, f"the registry has changed, and this module has to follow: {unknown}"
        self._tables = [(table, origin, dict(table)) for table, origin in _tables()]
        self._methods = set(REGISTRY._methods)
        # Now, while nothing else runs: CPython's parser cannot bear another thread that parses, or a finalizer.
        for name in [each for each in sys.modules if each.partition(".")[0] in _OURS]:
            _imports(name)

    def restore(self, module: str) -> None:
        """Let the registry hold what this module of tests and all that it imports have registered, and no more."""
        modules = imported_by(module)
        for table, origin, items in self._tables:
            table.clear()
            table.update({key: value for key, value in items.items() if origin(key, value) in modules})
        REGISTRY._methods.clear()
        REGISTRY._methods.update(self._methods & REGISTRY._workflows.keys())


def _tables() -> Iterator[tuple[dict[Any, Any], Callable[[Any, Any], str]]]:
    for owner, origins in ((REGISTRY, _WORKFLOWS), (REGISTRY.receivers, _RECEIVERS)):
        for name, origin in origins.items():
            yield getattr(owner, name), origin


@functools.cache
def imported_by(module: str) -> frozenset[str]:
    """Return the names of this module, of all of ours that it imports, of all that those import, and so on.

    For a module of tests, the files `conftest.py` beside it and above count as imported.
    """
    parents = module.split(".")[:-1]
    conftests = (".".join([*parents[:depth], "conftest"]) for depth in range(1, len(parents) + 1))
    found: set[str] = set()
    waiting = [module, *conftests]
    while waiting:
        name = waiting.pop()
        if name in sys.modules and name not in found:
            found.add(name)
            waiting += _imports(name)
    return frozenset(found)


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Return what of ours the source of a module imports; a name that is imported from a package may be a module."""
    file = getattr(sys.modules[module], "__file__", None)
    names: set[str] = set()
    for statement in ast.walk(ast.parse(Path(file).read_text() if file is not None else "")):
        match statement:
            case ast.Import():
                names.update(alias.name for alias in statement.names)
            case ast.ImportFrom(module=str(package)):
                names.update((package, *(f"{package}.{alias.name}" for alias in statement.names)))
            case _:
                pass
    return frozenset(name for name in names if name.partition(".")[0] in _OURS)
