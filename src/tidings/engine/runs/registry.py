"""The functions that a program has registered, by name, and the version that results from their code.

A recovered workflow finds its function here by the recorded name. So a name must mean one function:
`engine.runs.definitions` and `engine.runs.sameness` decide when another function may replace it. The version is a hash
of the functions' source, so that only the code that wrote a history replays it.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidings.core.retry import RetryPolicy
from tidings.engine.runs.definitions import Definition, apart, definition_of, described, plain_function
from tidings.engine.runs.receivers import Receivers
from tidings.engine.runs.sameness import DERIVED, difference, difference_of_code
from tidings.error import DBOSConflictingRegistrationError, DBOSWorkflowFunctionNotFoundError
from tidings.limits import DEFAULT_RECOVERY_ATTEMPTS


@dataclass(frozen=True, slots=True)
class WorkflowFunction:
    """A registered workflow."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    signature: inspect.Signature = field(metadata={DERIVED: True})
    max_recovery_attempts: int | None = DEFAULT_RECOVERY_ATTEMPTS  # `None`: no limit
    definition: Definition = field(init=False, repr=False, compare=False, metadata={DERIVED: True})
    arguments: str = field(init=False, repr=False, compare=False, metadata={DERIVED: True})  # How errors call them.
    _positional: tuple[float, float] = field(init=False, repr=False, compare=False, metadata={DERIVED: True})

    def __post_init__(self) -> None:
        """Note where the function is defined: only the current call stack shows that."""
        object.__setattr__(self, "definition", definition_of(self.function))
        object.__setattr__(self, "arguments", _arguments_of(self.name, self.signature))
        object.__setattr__(self, "_positional", _positional(self.signature))

    def check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check that the function can be called with these arguments.

        Raises:
            TypeError: an argument is missing, or there is one too many.
        """
        fewest, most = self._positional
        if kwargs or not fewest <= len(args) <= most:  # For most calls, their number is all that must be checked.
            self.signature.bind(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A registered step. `timeout_seconds` is the time limit of each attempt."""

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
        # By the function's qualified name and the step's name.
        self._steps: dict[tuple[str, str], tuple[StepFunction, Definition]] = {}
        self._methods: set[str] = set()
        self.receivers = Receivers()

    def add_workflow(self, workflow: WorkflowFunction) -> None:
        """Register a workflow. One that is made again, or is alike the earlier one of its name, replaces that.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to a function that may behave differently.
        """
        with self._lock:
            former = self._workflows.get(workflow.name)
            if former is not None:
                _check_same(former, workflow)
                if former.definition.is_elsewhere_in_main(workflow.definition) and former.definition.is_in_main:
                    # Of the two copies of a script, the one in `__main__` counts, even if the other is registered
                    # later.
                    return
            self._workflows[workflow.name] = workflow

    def current(self, workflow: WorkflowFunction) -> WorkflowFunction:
        """Return the function that a recovery would find under the name of this one: itself, or its replacement.

        Raises:
            DBOSWorkflowFunctionNotFoundError: no function is registered under that name.
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

        Steps may share a name: no step is found by its name, and a workflow calls the function that it refers to. So
        steps of one definition may be bound to different values. But two definitions of one name in one module are a
        mistake: their records could not be told apart.

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
        """Register a class. From now on its workflows are methods, and each is recorded with its receiver.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another class.
        """
        self.receivers.add_class(target, name)
        for _, attribute in inspect.getmembers_static(target):
            if isinstance(attribute, staticmethod):
                continue
            function = attribute.__func__ if isinstance(attribute, classmethod) else attribute
            workflow = getattr(function, "__tidings_workflow__", None)
            if isinstance(workflow, WorkflowFunction) and is_defined_in(workflow.function, target):
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

    def packages(self) -> set[str]:
        """Return the packages, or modules outside of packages, that define registered functions."""
        with self._lock:
            modules = [each.definition.module for each in self._workflows.values()]
            modules += [definition.module for _, definition in self._steps.values()]
        return {each.partition(".")[0] for each in modules}

    def version(self) -> str:
        """Return the hash of all registered code."""
        with self._lock:
            codes = sorted((name, _code(each.function)) for name, each in self._workflows.items())
            codes += sorted({name: _code(each.function) for (name, _), (each, _) in self._steps.items()}.items())
        text = repr(codes)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _arguments_of(name: str, signature: inspect.Signature) -> str:
    what = f"the arguments of workflow {name!r}"
    if next(iter(signature.parameters), None) in {"self", "cls"}:
        what += " (if it is a method, decorate its class with @DBOS.dbos_class())"
    return what


def _positional(signature: inspect.Signature) -> tuple[float, float]:
    """Return the fewest and the most arguments with which a function may be called if all are positional."""
    fewest = most = 0.0
    for each in signature.parameters.values():
        is_needed = each.default is each.empty
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            fewest, most = fewest + is_needed, most + 1
        elif each.kind is each.VAR_POSITIONAL:
            most = math.inf
        elif each.kind is each.KEYWORD_ONLY and is_needed:
            fewest = math.inf
    return fewest, most


def is_defined_in(function: Callable[..., Any], target: type) -> bool:
    """Tell whether a function was defined in the body of a class or of one of its bases, not only assigned there."""
    plain = plain_function(function)
    if plain is None:
        return False
    within = plain.__qualname__.rpartition(".")[0]
    return any((each.__module__, each.__qualname__) == (plain.__module__, within) for each in target.__mro__)


def _check_same(former: WorkflowFunction, new: WorkflowFunction) -> None:
    """Raise `DBOSConflictingRegistrationError` if these are two different functions under one name."""
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
    """Return the source, or the bytecode if there is no source (a REPL, a frozen program)."""
    written = plain_function(function) or function
    try:
        return inspect.getsource(written)
    except (OSError, TypeError):
        code = getattr(written, "__code__", None)
        return repr((code.co_code, code.co_names, code.co_varnames)) if code is not None else ""
