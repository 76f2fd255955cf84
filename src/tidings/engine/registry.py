"""The functions a program has registered, by name, and the version that their code makes.

A recovered workflow finds its function here by the name that was recorded, so a name must mean one
function. The version is a hash of the functions' source, so that a history is only replayed by the
code that wrote it.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidings.core.retry import RetryPolicy
from tidings.engine.receivers import Receivers
from tidings.error import DBOSConflictingRegistrationError, DBOSWorkflowFunctionNotFoundError
from tidings.limits import DEFAULT_RECOVERY_ATTEMPTS


@dataclass(frozen=True, slots=True)
class WorkflowFunction:
    """A registered workflow."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    signature: inspect.Signature
    max_recovery_attempts: int | None = DEFAULT_RECOVERY_ATTEMPTS  # None: any number


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A registered step. `timeout_seconds` is what each try may take."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    policy: RetryPolicy
    timeout_seconds: float | None = None


class Registry:
    """The workflows and steps of a program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workflows: dict[str, WorkflowFunction] = {}
        self._steps: dict[str, StepFunction] = {}
        self._methods: set[str] = set()
        self.receivers = Receivers()

    def add_workflow(self, workflow: WorkflowFunction) -> None:
        """Register a workflow.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another function. The same
                function defined again (a notebook cell, a function made twice) takes its place.
        """
        with self._lock:
            former = self._workflows.get(workflow.name)
            if former is not None:
                _check_same(former, workflow)
            self._workflows[workflow.name] = workflow

    def check_known(self, workflow: WorkflowFunction) -> None:
        """Check that a recovery would find this function under its name.

        Raises:
            DBOSWorkflowFunctionNotFoundError: nothing is registered there.
            DBOSConflictingRegistrationError: another function is.
        """
        known = self._workflows.get(workflow.name)
        if known is workflow:
            return
        if known is None:
            raise DBOSWorkflowFunctionNotFoundError(None, workflow.name)
        _check_same(known, workflow)

    def add_step(self, step: StepFunction) -> None:
        """Register a step, so that its code counts for the version. Steps may share a name."""
        with self._lock:
            self._steps[".".join(_identity(step.function))] = step

    def add_class(self, target: type, name: str) -> None:
        """Register a class: from now on its workflows are methods, each recorded with what it is called on.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another class.
        """
        self.receivers.add_class(target, name)
        for _, attribute in inspect.getmembers_static(target):
            if isinstance(attribute, staticmethod):
                continue
            function = attribute.__func__ if isinstance(attribute, classmethod) else attribute
            workflow = getattr(function, "__tidings_workflow__", None)
            if isinstance(workflow, WorkflowFunction) and _is_defined_in(workflow.function, target):
                with self._lock:
                    self._methods.add(workflow.name)

    def is_method(self, workflow: WorkflowFunction) -> bool:
        """Tell whether a workflow is a method of a registered class."""
        return workflow.name in self._methods

    def workflow(self, name: str) -> WorkflowFunction | None:
        return self._workflows.get(name)

    def workflow_names(self) -> list[str]:
        with self._lock:
            return sorted(self._workflows)

    def clear(self) -> None:
        with self._lock:
            self._workflows.clear()
            self._steps.clear()
            self._methods.clear()
        self.receivers.clear()

    def version(self) -> str:
        """Return the hash of all registered code."""
        with self._lock:
            codes = sorted((name, _code(each.function)) for name, each in self._workflows.items())
            codes += sorted((name, _code(each.function)) for name, each in self._steps.items())
        text = repr(codes)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_defined_in(function: Callable[..., Any], target: type) -> bool:
    """Tell whether a function was defined in the body of a class or of one of its bases, not only named there."""
    within = function.__qualname__.rpartition(".")[0]
    return any((each.__module__, each.__qualname__) == (function.__module__, within) for each in target.__mro__)


def _identity(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _check_same(former: WorkflowFunction, new: WorkflowFunction) -> None:
    """Raise `DBOSConflictingRegistrationError` if these are two functions under one name."""
    if not _is_same(former.function, new.function):
        raise DBOSConflictingRegistrationError(new.name, _description(former.function), _description(new.function))


def _is_same(former: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Tell whether a function was defined again, rather than another one given its name."""
    if _identity(former) != _identity(new):
        return False
    one, other = getattr(former, "__code__", None), getattr(new, "__code__", None)
    if one is None or other is None or one.co_filename != other.co_filename:
        return True  # A notebook gives each run of a cell a file name of its own.
    return bool(one.co_firstlineno == other.co_firstlineno or one.co_code == other.co_code)


def _description(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"{function.__module__}.{function.__qualname__}{where}"


def _code(function: Callable[..., Any]) -> str:
    """Return the source, or the bytecode where there is no source (a REPL, a frozen program)."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return repr((code.co_code, code.co_names, code.co_varnames)) if code is not None else ""
