"""Steps: the decorator, and running any function as a step."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from types import MethodType
from typing import Any, ParamSpec, TypedDict, TypeVar, cast, overload

from tidings.api.attempts import (
    Asking,
    Attempting,
    Try,
    asking,
    asking_async,
    awaiting_attempt,
    blocking_attempt,
    threaded_attempt,
)
from tidings.api.caller import Caller, caller_in_app, current_host, is_running, refuse_running_loop
from tidings.api.workflows import REGISTRY, name_for, refuse_bare
from tidings.core.effects import Operation
from tidings.core.operations import steps
from tidings.core.retry import RetryPolicy
from tidings.engine import scope as scopes
from tidings.engine.drive import drive, drive_async
from tidings.engine.executors import stray_of
from tidings.engine.loops import running_loop
from tidings.engine.registry import StepFunction
from tidings.engine.thread_calls import call_here
from tidings.error import DBOSContextError
from tidings.limits import check_id, check_time_limit

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("tidings")

# How long a step may hold up an event loop without a word.
_SLOW_MS = 100

ShouldRetry = Callable[[BaseException], bool | Awaitable[bool]]


class StepOptions(TypedDict, total=False):
    """Options of a step that is run with `DBOS.run_step`; they mean what `@DBOS.step` says."""

    name: str
    retries_allowed: bool
    interval_seconds: float
    max_attempts: int
    backoff_rate: float
    should_retry: ShouldRetry
    timeout_seconds: float | None


class Steps:
    """Functions whose result is recorded: once completed, they never run again."""

    @classmethod
    def step(
        cls,
        nothing: None = None,
        /,
        *,
        name: str | None = None,
        retries_allowed: bool = False,
        interval_seconds: float = 1.0,
        max_attempts: int = 3,
        backoff_rate: float = 2.0,
        should_retry: ShouldRetry | None = None,
        timeout_seconds: float | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function a step. Called in a workflow it is recorded; elsewhere it is a plain function.

        A `def` step that is called in an async workflow holds up the event loop, as any function does. The log says
        so once, if that takes more than 0.1 s; `await DBOS.run_step_async(None, function)` runs it in a thread.

        Args:
            nothing: the decorator is called, with keywords or without.
            name: what it is recorded under; its qualified name by default.
            retries_allowed: whether a failed step is tried again.
            interval_seconds: the pause before the second try.
            max_attempts: tries in all, the first included.
            backoff_rate: what each further pause is multiplied with; one hour is the longest.
            should_retry: asked about each error; tries go on while it says True. It calls no operation: a
                replay does not ask it again.
            timeout_seconds: what each try may take, at most; `None` is no limit. A try that is not done in
                time fails like any other. An `async def` step is then cancelled, as `asyncio.timeout` would.
                A `def` step with a limit runs in a thread of its own, with the context variables of the
                workflow; no thread can be interrupted, so it is left to end by itself, the workflow goes on,
                and DBOSContextError refuses what the thread still tries to write. Give what it waits for
                (a socket, a lock) a timeout of its own too, or such threads pile up.

        Raises (where it is decorated):
            DBOSConflictingRegistrationError: its module has another step of that name, with other code.

        Raises (in the workflow):
            DBOSStepTimeoutError: it was not done in `timeout_seconds`.
            DBOSMaxStepRetriesExceeded: it failed `max_attempts` times; `.errors` has all of them.
            DBOSSerializationError: its result cannot be stored; names the path inside it.

        Durable: when it returns. A step that completed never runs again: a replay returns its value,
        or raises the error it finally failed with. A step during which the process dies runs again.
        """
        refuse_bare("@DBOS.step", nothing)
        policy = _policy(retries_allowed, interval_seconds, max_attempts, backoff_rate, should_retry)
        limit = check_time_limit(timeout_seconds, "timeout_seconds")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if isinstance(function, (classmethod, staticmethod)):  # Whichever decorator comes first.
                return cast(Callable[P, R], type(function)(decorate(function.__func__)))
            is_async = inspect.iscoroutinefunction(function)
            registered = StepFunction(
                _step_name(name_for(function, name, "@DBOS.step")), function, is_async, policy, limit
            )
            REGISTRY.add_step(registered)
            wrapper = _awaiting_wrapper(registered) if is_async else _blocking_wrapper(registered)
            functools.update_wrapper(wrapper, function)
            wrapper.__tidings_step__ = registered  # type: ignore[attr-defined]
            return cast(Callable[P, R], wrapper)

        return decorate

    @overload
    @classmethod
    def run_step(
        cls, options: StepOptions | None, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    @classmethod
    def run_step(cls, options: StepOptions | None, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    @classmethod
    def run_step(cls, options: StepOptions | None, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run any function as a step of this workflow.

        An async function runs on the event loop of `DBOS.launch_async` while that runs, else on one of tidings' own.

        Durable: as a function decorated with `DBOS.step`.
        """
        return _run(_step_from(options, func), args, kwargs)

    @overload
    @classmethod
    async def run_step_async(
        cls, options: StepOptions | None, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    @classmethod
    async def run_step_async(
        cls, options: StepOptions | None, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @classmethod
    async def run_step_async(
        cls, options: StepOptions | None, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Await `run_step`. A plain `def` function runs in a worker thread, not on the event loop.

        With `timeout_seconds` its time begins with its thread, and past it that thread is left to end by
        itself, as with `DBOS.step`.
        """
        return await _run_async(_step_from(options, func), args, kwargs)


def _blocking_wrapper(step: StepFunction) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return _run(step, args, kwargs)

    return call


def _awaiting_wrapper(step: StepFunction) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _run_async(step, args, kwargs)

    return call


def _run(step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    here = scopes.current()
    if here is None or here.attempt is not None:
        return _run_plain(step, args, kwargs)
    if running_loop() is not None:
        return _run_on_loop(step, args, kwargs)
    call = call_here()
    if call is not None:
        return call.perform(functools.partial(_run_async, step, args, kwargs, threaded_attempt))
    caller = caller_in_app(scopes.of_thread)
    return drive(_operation(caller, step, blocking_attempt(caller, step, args, kwargs), asking), caller.port)


def _run_plain(step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a step as the function that it is: outside of workflows, or in another step."""
    _refuse_stray(step)
    value = step.function(*args, **kwargs)
    if step.is_async and running_loop() is None and is_running():
        caller = caller_in_app(scopes.of_thread)
        return current_host().coroutines.finish(value, caller.port)
    return value


def _refuse_stray(step: StepFunction) -> None:
    """Refuse to run a step as a plain function for the code of a workflow, which has lost its context."""
    workflow_id = stray_of() if scopes.current() is None else None
    if workflow_id is not None:
        raise DBOSContextError(
            f"step {step.name!r} was called in a thread that workflow {workflow_id!r} has started, without the "
            "workflow's context: it would not be recorded, and would run again at each recovery. To run steps in "
            "parallel use DBOS.run_parallel(function, ...), or in an async workflow await asyncio.to_thread(function); "
            "or start child workflows"
        )


def _run_on_loop(step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a step that is called in a coroutine: nothing else on this event loop goes on meanwhile."""
    if step.is_async:
        refuse_running_loop(f"the step {step.name!r}", "DBOS.run_step_async")
    caller = caller_in_app(scopes.of_task)
    operation = _operation(caller, step, blocking_attempt(caller, step, args, kwargs), asking)
    clock, said = caller.engine.clock, current_host().slow_steps
    begun_ms = clock.now_ms()
    try:
        return drive(operation, caller.port)
    finally:
        _say_if_slow(step, caller, said, clock.now_ms() - begun_ms)


def _say_if_slow(step: StepFunction, caller: Caller, said: set[str], ms: int) -> None:
    if ms > _SLOW_MS and step.name not in said:
        said.add(step.name)
        logger.warning(
            "step %r of workflow %r held up its event loop for %.1f s: it is a plain function that was called in a "
            "coroutine. Await DBOS.run_step_async(None, function, ...), which runs it in a thread, or make it an async "
            "def. This is said once for each step",
            step.name,
            caller.workflow_id,
            ms / 1_000,
            extra={"workflow_id": caller.workflow_id},
        )


async def _run_async(
    step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any], attempting: Attempting = awaiting_attempt
) -> Any:
    here = scopes.current()
    if here is None or here.attempt is not None:
        _refuse_stray(step)
        value = step.function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value
    caller = caller_in_app(scopes.of_task)
    attempt = attempting(caller, step, args, kwargs)
    return await drive_async(_operation(caller, step, attempt, asking_async), caller.port)


def _operation(caller: Caller, step: StepFunction, attempt: Try, ask: Asking) -> Operation[Any]:
    workflow = caller.workflow
    assert workflow is not None
    slot = workflow.begin(step.name)
    policy = step.policy
    if policy.should_retry is not None:
        policy = dataclasses.replace(policy, should_retry=functools.partial(ask, policy.should_retry, workflow, slot))
    return steps.step(slot, functools.partial(attempt, workflow, slot), policy)


def _step_from(options: StepOptions | None, func: Callable[..., Any]) -> StepFunction:
    given = options or StepOptions()
    if not isinstance(given, dict):  # A TypedDict, to mypy; anything, to who left it out.
        raise TypeError(f"the first argument of run_step is a dict of options, or None, not {options!r}")
    if not callable(func):
        raise TypeError(f"the second argument of run_step is the function to run, not {func!r}")
    unknown = set(given) - set(StepOptions.__annotations__)
    if unknown:
        known = ", ".join(sorted(StepOptions.__annotations__))
        raise TypeError(f"unknown step options {sorted(unknown)}; known are {known}")
    decorated = getattr(func, "__tidings_step__", None)
    if isinstance(decorated, StepFunction):
        if inspect.ismethod(func):
            decorated = dataclasses.replace(decorated, function=MethodType(decorated.function, func.__self__))
        if not given:
            return decorated
        func = decorated.function
    name = given.get("name", decorated.name if isinstance(decorated, StepFunction) else _name_of(func))
    policy = _policy(
        given.get("retries_allowed", False),
        given.get("interval_seconds", 1.0),
        given.get("max_attempts", 3),
        given.get("backoff_rate", 2.0),
        given.get("should_retry"),
    )
    limit = check_time_limit(given.get("timeout_seconds"), "timeout_seconds")
    return StepFunction(_step_name(name), func, inspect.iscoroutinefunction(func), policy, limit)


def _name_of(func: Callable[..., Any]) -> str:
    name: str = getattr(func, "__qualname__", None) or type(func).__qualname__
    return name


def _step_name(name: str) -> str:
    if check_id(name, "step name").startswith("DBOS."):
        raise ValueError(f"a step may not be named {name!r}: names that begin with 'DBOS.' are the library's own")
    return name


def _policy(
    retries_allowed: bool,
    interval_seconds: float,
    max_attempts: int,
    backoff_rate: float,
    should_retry: ShouldRetry | None,
) -> RetryPolicy:
    if type(max_attempts) is not int:
        raise TypeError(f"max_attempts must be a whole number, not {max_attempts!r}")
    if max_attempts < 1:
        raise ValueError(f"max_attempts must be 1 or more, not {max_attempts}")
    if should_retry is not None and not callable(should_retry):
        raise TypeError(f"should_retry must be a function, not {should_retry!r}")
    return RetryPolicy(
        max_attempts if retries_allowed else 1,
        _amount(interval_seconds, "interval_seconds"),
        _amount(backoff_rate, "backoff_rate"),
        should_retry,
    )


def _amount(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not 0 <= value < math.inf:  # Nor is NaN.
        raise ValueError(f"{what} must be 0 or more, and finite, not {value}")
    return value
