"""The functions a program has registered, by name, and the version that their code makes.

A recovered workflow finds its function here by the name that was recorded, so a name must mean one
function: `engine.definitions` and `engine.sameness` say when another one may take its place. The version is
a hash of the functions' source, so that a history is only replayed by the code that wrote it.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidings.core.retry import RetryPolicy
from tidings.engine.definitions import Definition, apart, definition_of, described, plain_function
from tidings.engine.receivers import Receivers
from tidings.engine.sameness import DERIVED, difference, difference_of_code
from tidings.error import DBOSConflictingRegistrationError, DBOSWorkflowFunctionNotFoundError
from tidings.limits import DEFAULT_RECOVERY_ATTEMPTS


@dataclass(frozen=True, slots=True)
class WorkflowFunction:
    """A registered workflow."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    signature: inspect.Signature = field(metadata={DERIVED: True})
    max_recovery_attempts: int | None = DEFAULT_RECOVERY_ATTEMPTS  # None: any number
    definition: Definition = field(init=False, repr=False, compare=False, metadata={DERIVED: True})

    def __post_init__(self) -> None:
        """Note where it is defined: that can only be seen now."""
        object.__setattr__(self, "definition", definition_of(self.function))


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
        self._steps: dict[tuple[str, str], tuple[StepFunction, Definition]] = {}  # by function and step name
        self._methods: set[str] = set()
        self.receivers = Receivers()

    def add_workflow(self, workflow: WorkflowFunction) -> None:
        """Register a workflow. One that is made again, or is alike the former of its name, takes its place.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to a function that may behave differently.
        """
        with self._lock:
            former = self._workflows.get(workflow.name)
            if former is not None:
                _check_same(former, workflow)
                if former.definition.is_elsewhere_in_main(workflow.definition) and former.definition.is_in_main:
                    return  # Of the two copies of a script, the one that runs counts, whichever comes last.
            self._workflows[workflow.name] = workflow

    def current(self, workflow: WorkflowFunction) -> WorkflowFunction:
        """Return what a recovery would find under the name of this function: itself, or what took its place.

        Raises:
            DBOSWorkflowFunctionNotFoundError: nothing is registered there.
            DBOSConflictingRegistrationError: another function is.
        """
        known = self._workflows.get(workflow.name)
        if known is workflow:
            return workflow
        if known is None:
            raise DBOSWorkflowFunctionNotFoundError(None, workflow.name)
        _check_same(known, workflow)
        if known.is_async != workflow.is_async:
            raise _conflict(known, workflow, "only one of them is a coroutine function")
        return known

    def add_step(self, step: StepFunction) -> None:
        """Register a step, so that its code counts for the version.

        Steps may share a name: nothing finds a step by it, and a workflow calls the function that it holds. So
        steps of one definition may be bound to different values. But two definitions of one name in one module
        are a mistake: nobody could tell their records apart.

        Raises:
            DBOSConflictingRegistrationError: the module has another step of that name, with other code.
        """
        definition = definition_of(step.function)
        identity = f"{definition.module}.{definition.qualname}"
        with self._lock:
            former = self._steps.get((identity, step.name))
            if former is not None:
                _check_same_code(former, (step, definition))
            self._steps[identity, step.name] = step, definition

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
            codes += sorted({name: _code(each.function) for (name, _), (each, _) in self._steps.items()}.items())
        text = repr(codes)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_defined_in(function: Callable[..., Any], target: type) -> bool:
    """Tell whether a function was defined in the body of a class or of one of its bases, not only named there."""
    plain = plain_function(function)
    if plain is None:
        return False
    within = plain.__qualname__.rpartition(".")[0]
    return any((each.__module__, each.__qualname__) == (plain.__module__, within) for each in target.__mro__)


def _check_same(former: WorkflowFunction, new: WorkflowFunction) -> None:
    """Raise `DBOSConflictingRegistrationError` if these are two functions under one name."""
    if former.function is new.function or former.definition.is_made_again_by(new.definition, new.name):
        return
    twins = former.definition.is_elsewhere_in_main(new.definition)
    if not twins and not former.definition.is_called_like(new.definition):
        raise _conflict(former, new, "they are defined in two places")
    what = difference(former.function, new.function, twins=twins)
    if what is not None:
        raise _conflict(former, new, f"they differ in {what}")


def _check_same_code(former: tuple[StepFunction, Definition], new: tuple[StepFunction, Definition]) -> None:
    """Raise `DBOSConflictingRegistrationError` if these are two steps of one name with different code."""
    one, other = plain_function(former[0].function), plain_function(new[0].function)
    what = difference_of_code(one.__code__, other.__code__) if one is not None and other is not None else None
    if what is not None and not former[1].is_made_again_by(new[1], new[0].name):
        first, second = (former[0].function, former[1]), (new[0].function, new[1])
        raise _refusal(new[0].name, first, second, f"they differ in {what}", "@DBOS.step")


def _conflict(former: WorkflowFunction, new: WorkflowFunction, why: str) -> DBOSConflictingRegistrationError:
    first, second = (former.function, former.definition), (new.function, new.definition)
    return _refusal(new.name, first, second, why, "@DBOS.workflow")


def _refusal(
    name: str,
    first: tuple[Callable[..., Any], Definition],
    second: tuple[Callable[..., Any], Definition],
    why: str,
    decorator: str,
) -> DBOSConflictingRegistrationError:
    one, other = apart(first[1], second[1])
    return DBOSConflictingRegistrationError(
        name,
        described(*first) + one,
        described(*second) + other,
        remedy=f"another name with {decorator}(name=...)",
        why=why,
    )


def _code(function: Callable[..., Any]) -> str:
    """Return the source, or the bytecode where there is no source (a REPL, a frozen program)."""
    written = plain_function(function) or function
    try:
        return inspect.getsource(written)
    except (OSError, TypeError):
        code = getattr(written, "__code__", None)
        return repr((code.co_code, code.co_names, code.co_varnames)) if code is not None else ""
