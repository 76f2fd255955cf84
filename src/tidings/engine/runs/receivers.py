"""The objects that workflow methods are called on: registered classes, and their configured instances, by name.

An object cannot be recorded. So a workflow that is a method records the name of its class and, for an instance, the
name of its configuration. A recovery finds the object here by these names, so the program must have created it before.
"""

from __future__ import annotations

import threading
from typing import Any

from msgspec import Struct

from tidings.engine.runs.definitions import Definition, apart, definition_of_class, described
from tidings.engine.runs.sameness import difference
from tidings.error import DBOSConflictingRegistrationError


class Receiver(Struct, frozen=True):
    """The class or instance that a method is called on, and its recorded names."""

    target: Any
    class_name: str
    config_name: str | None  # `None`: the class itself


class Receivers:
    """The classes and instances of a program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classes: dict[str, type] = {}
        self._definitions: dict[str, Definition] = {}  # Of the classes.
        self._names: dict[type, str] = {}
        self._instances: dict[tuple[str, str], object] = {}

    def add_class(self, target: type, name: str) -> None:
        """Register a class. One that is made again, or is alike the earlier one of its name, replaces that.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to a class that may behave differently.
        """
        definition = definition_of_class(target)
        with self._lock:
            former = self._classes.get(name)
            if former is not None and former is not target:
                _check_same(name, (former, self._definitions[name]), (target, definition))
            self._classes[name] = target
            self._definitions[name] = definition
            self._names[target] = name

    def add_instance(self, instance: object, config_name: str) -> None:
        """Register an instance under its configuration's name.

        Raises:
            TypeError: its class is not registered.
            DBOSConflictingRegistrationError: another instance of the class has that name. If the class has been defined
                again, its instance replaces the earlier one instead.
        """
        with self._lock:
            class_name = self._names.get(type(instance))
            if class_name is None:
                raise TypeError(
                    f"the class {_description(type(instance))} is not registered: write @DBOS.dbos_class() above it"
                )
            former = self._instances.get((class_name, config_name), instance)
            if former is not instance and type(former) is type(instance):
                raise DBOSConflictingRegistrationError(
                    f"{class_name}({config_name!r})",
                    repr(former),
                    repr(instance),
                    kind="instances",
                    remedy="another config_name",
                )
            self._instances[class_name, config_name] = instance

    def has_class(self, cls: type) -> bool:
        """Tell whether a class is registered."""
        with self._lock:
            return cls in self._names

    def of(self, target: object) -> Receiver | None:
        """Return the recorded names of a class or an instance; `None` for anything that is not registered."""
        with self._lock:
            if isinstance(target, type):
                name = self._names.get(target)
                return None if name is None else Receiver(target, name, None)
            name = self._names.get(type(target))
            config_name = getattr(target, "config_name", None)
            if name is None or self._instances.get((name, config_name)) is not target:  # type: ignore[arg-type]
                return None
            return Receiver(target, name, config_name)

    def find(self, class_name: str, config_name: str | None) -> Receiver | None:
        """Return the class or instance with these recorded names; `None` if this program has not registered it."""
        with self._lock:
            target = (
                self._classes.get(class_name) if config_name is None else self._instances.get((class_name, config_name))
            )
            return None if target is None else Receiver(target, class_name, config_name)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._classes.clear()
            self._definitions.clear()
            self._names.clear()
            self._instances.clear()


def _check_same(name: str, former: tuple[type, Definition], new: tuple[type, Definition]) -> None:
    """Raise `DBOSConflictingRegistrationError` if these are two different classes under one name."""
    if former[1].is_made_again_by(new[1], name):
        return
    twins = former[1].is_elsewhere_in_main(new[1])
    why = "they are defined in two places"
    if twins or former[1].is_called_like(new[1]):
        what = difference(former[0], new[0], twins=twins)
        if what is None:
            return
        why = f"they differ in {what}"
    one, other = apart(former[1], new[1])
    raise DBOSConflictingRegistrationError(
        name,
        described(*former) + one,
        described(*new) + other,
        kind="classes",
        remedy="another name with @DBOS.dbos_class(...)",
        why=why,
    )


def _description(target: type) -> str:
    return f"{target.__module__}.{target.__qualname__}"
