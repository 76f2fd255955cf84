"""The workflows, steps and classes registered at the start of each test: those of its module and of its imports.

A run imports all test modules, while a program would import only one. So each test starts with the registrations of its
own module, whatever other modules define and other tests have registered or cleared.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tidings.engine.process import REGISTRY

# The tables of the registry, each with a function that returns the module of an item.
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
_OURS = ("tests", "examples", "harness", "chaos", "bench")


class Registered:
    """The registrations of all modules: recorded after all imports, and before the first test."""

    def __init__(self) -> None:
        unknown = {*vars(REGISTRY), *vars(REGISTRY.receivers)} - {*_WORKFLOWS, *_RECEIVERS, *_OTHERS}
        assert not unknown, f"the registry has changed, and this module has to follow: {unknown}"
        self._tables = [(table, origin, dict(table)) for table, origin in _tables()]
        self._methods = set(REGISTRY._methods)
        # Now, while nothing else runs: CPython's parser is not safe against finalizers, or other threads that parse.
        for name in [each for each in sys.modules if each.partition(".")[0] in _OURS]:
            _imports(name)

    def restore(self, module: str) -> None:
        """Restore the registry to the registrations of this test module and of its imports."""
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
    """Return the names of this module and of all our modules that it imports, directly or indirectly.

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
    """Return our modules that a module's source imports. A name imported from a package may be a module."""
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
