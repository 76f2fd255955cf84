"""What the decorators and `start_workflow` refuse: arguments that are not a suitable function.

A mistake is refused at the line that makes it, with the line to write instead. Otherwise a workflow that is recorded
wrongly would be noticed only after a crash.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import BuiltinFunctionType, MethodType, MethodWrapperType, WrapperDescriptorType
from typing import Any, Final

from tidings.engine.runs.registry import StepFunction, WorkflowFunction
from tidings.slips import called_name, given, makes_manager, slip_of, slip_of_waiting

WORKFLOW: Final = "@DBOS.workflow"
STEP: Final = "@DBOS.step"

_MOST_BEHIND: Final = 100  # wrappers inside each other
_BUILTINS: Final = (BuiltinFunctionType, MethodWrapperType, WrapperDescriptorType)


def refuse_bare(decorator: str, argument: object) -> None:
    """Refuse a positional argument of a decorator that takes keywords only.

    Raises:
        TypeError: the argument is refused. The error says what to write.
    """
    if argument is None:
        return
    if isinstance(argument, str):
        raise TypeError(f"{decorator} takes keywords only; write {decorator}(name={argument!r})")
    if callable(argument) or isinstance(argument, (classmethod, staticmethod, property)):
        name = called_name(getattr(argument, "fget", argument))
        raise TypeError(f"write {decorator}(), with parentheses, above {name}")
    raise TypeError(f"{decorator} takes keywords only, such as name=..., not {given(argument)}")


def refuse_bare_class(class_name: object) -> None:
    """Refuse an argument of `dbos_class` that is not a name.

    Raises:
        TypeError: the argument is refused. The error says what to write.
    """
    if class_name is None or isinstance(class_name, str):
        return
    if callable(class_name):
        raise TypeError(f"write @DBOS.dbos_class(), with parentheses, above {called_name(class_name)}")
    raise TypeError(f"class_name must be a string, not {given(class_name)}")


def check_function(function: Any, decorator: str, name: str | None) -> None:
    """Refuse an object that cannot be a workflow or a step.

    Raises:
        TypeError: it cannot be one. The error says why, and what to write.
    """
    refusal = _refusal(function, decorator, name)
    if refusal is not None:
        raise TypeError(refusal)


def name_for(function: Callable[..., Any], name: str | None, decorator: str) -> str:
    """Return the name that a function is recorded under.

    Raises:
        TypeError: the function has no name of its own (a `functools.partial`, an object), and none was given.
    """
    if name is not None:
        return name
    own = getattr(function, "__qualname__", None)
    if not isinstance(own, str):
        is_partial = isinstance(function, functools.partial)
        what = f"functools.partial of {called_name(function)}" if is_partial else f"{type(function).__name__} object"
        raise TypeError(f"a {what} has no name of its own; give it one: {decorator}(name='...')")
    return own


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling a function returns a coroutine; an object may have an async `__call__`."""
    if inspect.iscoroutinefunction(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004  (not whether it is callable)
    return inspect.iscoroutinefunction(call)


def gives_values_one_by_one(function: Any) -> bool:
    """Tell whether calling this returns a generator: a function with a yield, or a wrapper of one."""
    function = _behind(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004  (not whether it is callable)
    call = _behind(call)
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


def _behind(function: Any) -> Any:
    """Return the function that this one wraps and whose value it returns, as far as that can be told."""
    for _ in range(_MOST_BEHIND):
        if isinstance(function, (functools.partial, functools.partialmethod)):
            function = function.func
        elif isinstance(function, functools._lru_cache_wrapper):
            function = function.__wrapped__
        elif isinstance(function, (MethodType, classmethod, staticmethod)):
            function = function.__func__
        else:
            break
    return function


def not_a_workflow(func: Any, called: str) -> TypeError:
    """Return the error for an argument of `start_workflow` that is not a workflow. `called` is how users write the
    call."""
    takes = f"{called} takes a workflow function, and then its arguments"
    if isinstance(getattr(func, "__tidings_step__", None), StepFunction):
        name = called_name(func)
        return TypeError(
            f"{name} is a step, not a workflow; decorate it with {WORKFLOW}() instead of {STEP}() to start it, or call "
            f"it in a workflow"
        )
    if inspect.iscoroutine(func):
        name = called_name(func)
        return TypeError(f"{takes}: write {called}({name}, ...), not {called}({name}(...))")
    if isinstance(func, str) and all(each.isidentifier() for each in func.split(".")):
        name = func.rpartition(".")[2]
        return TypeError(
            f"{takes}, not a name: write {called}({name}, ...), without quotes. If {func!r} is what the workflow "
            f"returned, it has run already: write {called}(function, ...), without calling the function"
        )
    if isinstance(func, functools.partial):
        name = called_name(func)
        return TypeError(f"{takes}, not a functools.partial: write {called}({name}, ...) with all arguments")
    if isinstance(func, type):
        name = called_name(func)
        return TypeError(f"{takes}, not the class {name}; start a method of it that has {WORKFLOW}() above it")
    if callable(func):
        return TypeError(_how_to_make_it_one(func))
    slip = slip_of(func)
    what = given(func) if slip is None else slip.what
    if hasattr(func, "get_result"):
        return TypeError(f"{takes}, not {what}, which was started already; call its get_result()")
    return TypeError(
        f"{takes}, not {what}. If that is what the workflow returned, it has run already: write "
        f"{called}(function, ...), without calling the function"
    )


def _how_to_make_it_one(func: Any) -> str:
    name = called_name(func)
    if name == "<lambda>":
        return f"a lambda is not a workflow: write it as a def, with {WORKFLOW}() above it"
    if isinstance(func, _BUILTINS):
        return f"{name} is built into Python, so it is not a workflow: call it in a step of a workflow"
    return f"{name!r} is not a workflow: decorate it with {WORKFLOW}()"


def _refusal(function: Any, decorator: str, name: str | None) -> str | None:
    kind = "workflow" if decorator == WORKFLOW else "step"
    if isinstance(function, (property, functools.cached_property)):
        read = called_name(getattr(function, "fget", None) or getattr(function, "func", None))
        return (
            f"{decorator}() is above the property {read}, which is read and not called; make it a method: "
            f"{decorator}() and then def {read.rpartition('.')[2]}(self), without @property"
        )
    if isinstance(function, type):
        return (
            f"{decorator}() is above the class {called_name(function)}; put it above a method, and "
            "@DBOS.dbos_class() above the class"
        )
    slip = slip_of_waiting(function)
    if slip is not None:
        return (
            f"{decorator}() decorates a function, not {slip.what}, which is the result of a call; write {decorator}() "
            f"above def {called_name(function)}"
        )
    if not callable(function):
        return f"{decorator}() decorates a function, not {given(function)}; write it above a def or async def"
    return _refusal_of_callable(function, decorator, kind, name)


def _refusal_of_callable(function: Any, decorator: str, kind: str, name: str | None) -> str | None:
    shown = called_name(function)
    is_workflow = isinstance(getattr(function, "__tidings_workflow__", None), WorkflowFunction)
    is_step = isinstance(getattr(function, "__tidings_step__", None), StepFunction)
    if (is_workflow and decorator == WORKFLOW) or (is_step and decorator == STEP):
        return f"{decorator}() is above {shown} twice; write it once"
    if is_workflow or is_step:
        return (
            f"{shown} cannot be a workflow and a step at once; leave one of {WORKFLOW}() and {STEP}() out. A workflow "
            "may call steps and other workflows"
        )
    if makes_manager(function):
        return (
            f"{shown} is a context manager, so it cannot be a {kind}: a with block continues after it has returned. "
            f"Leave {decorator}() out, and write the with block in a step"
        )
    if gives_values_one_by_one(function):
        instead = "return a list" if kind == "step" else "return a list, or DBOS.write_stream(key, value) each value"
        return (
            f"{shown} has a yield, so it cannot be a {kind}: what a {kind} returns is recorded as one value. "
            f"Instead of yield, {instead}"
        )
    if shown == "<lambda>" and name is None:
        return (
            f"a lambda has no name of its own to be recorded under; write {decorator}() above a def, or "
            f"{decorator}(name='...')"
        )
    if isinstance(function, _BUILTINS) and kind == "workflow":
        return (
            f"{shown} is built into Python, so it can call no step, and cannot be a workflow; call it in a step: "
            f"DBOS.run_step(None, {shown}, ...)"
        )
    return None
