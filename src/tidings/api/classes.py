"""Classes whose methods are workflows: the decorator, and instances that a recovery can find again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tidings.api.decorating import refuse_bare_class
from tidings.engine.process import REGISTRY
from tidings.limits import check_id
from tidings.slips import given, slip_of

C = TypeVar("C", bound=type)


class DBOSConfiguredInstance:
    """An object whose workflow methods are recovered on the instance with the same `config_name`.

    Derive your class from it, and decorate the class with `DBOS.dbos_class`. Create each instance before `DBOS.launch`,
    under a name of its own, in every program that may recover its workflows.

    Attributes:
        config_name: the name of the configuration, unique in the class.
    """

    def __init__(self, config_name: str) -> None:
        """Register this instance.

        Args:
            config_name: the name of the configuration, unique in the class.

        Raises:
            TypeError: its class is not decorated with `DBOS.dbos_class`.
            DBOSConflictingRegistrationError: another instance of the class has that name.
        """
        self.config_name = config_name
        Classes.register_instance(self)


class Classes:
    """Workflows that are methods."""

    @classmethod
    def dbos_class(cls, class_name: str | None = None) -> Callable[[C], C]:
        """Let workflows be methods of a class: each records its class or instance, and is recovered on it.

        Instance methods and class methods need this. The instance must be a `DBOSConfiguredInstance`, or registered
        with `register_instance`. Static methods and steps do not need it: they are treated as plain functions.

        Args:
            class_name: the name that the class is recorded under; by default its qualified name.

        Returns:
            A decorator, which returns the class itself.

        Raises:
            TypeError: it was written without parentheses, or above something that is not a class.
            DBOSConflictingRegistrationError: the name belongs to another class.
        """
        refuse_bare_class(class_name)

        def decorate(target: C) -> C:
            if not isinstance(target, type):
                raise TypeError(f"@DBOS.dbos_class() decorates a class, not {given(target)}")
            name = target.__qualname__ if class_name is None else class_name
            REGISTRY.add_class(target, check_id(name, "class name"))
            return target

        return decorate

    @classmethod
    def register_instance(cls, inst: Any) -> None:
        """Register an object under its attribute `config_name`, so that its workflow methods are recovered on it.

        Args:
            inst: the object. Its class must be decorated with `DBOS.dbos_class`.

        Raises:
            TypeError: its class is not decorated with `DBOS.dbos_class`, or it has no `config_name`.
            DBOSConflictingRegistrationError: another instance of the class has that name.
        """
        if isinstance(inst, type):
            raise TypeError(f"DBOS.register_instance takes an object, not {given(inst)}")
        if not hasattr(inst, "config_name"):
            if slip_of(inst) is not None or type(inst).__module__ == "builtins":
                raise TypeError(f"DBOS.register_instance takes an object of your class, not {given(inst)}")
            raise TypeError(
                f"a {type(inst).__qualname__} has no attribute config_name, by which a recovery finds it; set it, or "
                "derive the class from DBOSConfiguredInstance"
            )
        REGISTRY.receivers.add_instance(inst, check_id(inst.config_name, "config_name"))
