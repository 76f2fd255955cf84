"""Classes whose methods are workflows: the decorator, and instances that a recovery can find again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tidings.api.workflows import REGISTRY
from tidings.limits import check_id

C = TypeVar("C", bound=type)


class DBOSConfiguredInstance:
    """An object whose workflow methods go on after a crash, on the object of the same configuration.

    Derive a class that is decorated with `DBOS.dbos_class` from it. Make each instance before
    `DBOS.launch`, under a name of its own, in every program that may go on with its workflows.

    Attributes:
        config_name: the name of the configuration, unique in the class.
    """

    def __init__(self, config_name: str) -> None:
        """Register this instance.

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
        """Make the workflows of a class its methods: each records what it is called on, and goes on there.

        Needed for workflows that are methods of an instance, which must be a `DBOSConfiguredInstance`
        or registered with `register_instance`, and for class methods. Static methods and steps are
        functions like others and need it not.

        Args:
            class_name: what the class is recorded under; its qualified name by default.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another class.
        """

        if isinstance(class_name, type):
            raise TypeError(f"write @DBOS.dbos_class(), with parentheses, above {class_name.__qualname__}")

        def decorate(target: C) -> C:
            name = target.__qualname__ if class_name is None else class_name
            REGISTRY.add_class(target, check_id(name, "class name"))
            return target

        return decorate

    @classmethod
    def register_instance(cls, inst: Any) -> None:
        """Register an object, by its attribute `config_name`, for its workflow methods to go on with.

        Raises:
            TypeError: its class is not decorated with `DBOS.dbos_class`, or it has no `config_name`.
            DBOSConflictingRegistrationError: another instance of the class has that name.
        """
        REGISTRY.receivers.add_instance(inst, check_id(getattr(inst, "config_name", None), "config_name"))
