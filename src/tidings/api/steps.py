"""Steps: the decorator, and running any function as a step."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, ParamSpec, TypeVar, cast, overload

from tidings.api.caller import refuse_running_loop
from tidings.api.decorating import STEP, check_function, gives_values_one_by_one, is_async, name_for, refuse_bare
from tidings.api.naming import meant_retry
from tidings.api.retries import (
    DEFAULT_ATTEMPTS,
    DEFAULT_BACKOFF_RATE,
    DEFAULT_INTERVAL_SECONDS,
    RetryOptions,
    ShouldRetry,
    as_dict,
    as_keywords,
    policy_from,
)
from tidings.engine.caller import Caller, caller_in_app, refuse_stray
from tidings.engine.process import REGISTRY, current_host, is_running
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.attempts import StepCall, run_step, run_step_async
from tidings.engine.runs.loops import running_loop
from tidings.engine.runs.registry import StepFunction
from tidings.engine.runs.scope import Attempt
from tidings.engine.runs.thread_calls import call_here
from tidings.limits import Seconds, check_id, check_time_limit
from tidings.slips import called_name, nearest, plainly

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("tidings")

# A step that blocks an event loop for longer is logged.
_SLOW_MS = 100


class StepOptions(RetryOptions, total=False):
    """Options of `DBOS.run_step`. `@DBOS.step` describes them."""

    name: str
    timeout_seconds: Seconds | None


@dataclasses.dataclass(frozen=True, slots=True)
class StepStatus:
    """The running step, and its current try.

    Attributes:
        step_id: its number in its workflow, from 1: the order in which operations began.
        current_attempt: the number of the try, from 0; `None` if the step is not retried.
        max_attempts: the greatest number of tries; `None` if the step is not retried.
    """

    step_id: int
    current_attempt: int | None
    max_attempts: int | None


def step_status_of(attempt: Attempt) -> StepStatus:
    """Return the status of a try."""
    if attempt.max_attempts == 1:
        return StepStatus(attempt.slot.ordinal, None, None)
    return StepStatus(attempt.slot.ordinal, attempt.number - 1, attempt.max_attempts)


class Steps:
    """Functions whose result is recorded: once completed, they never run again."""

    @classmethod
    def step(
        cls,
        nothing: None = None,
        /,
        *,
        name: str | None = None,
        retries_allowed: bool | None = None,
        interval_seconds: Seconds = DEFAULT_INTERVAL_SECONDS,
        max_attempts: int = DEFAULT_ATTEMPTS,
        backoff_rate: float = DEFAULT_BACKOFF_RATE,
        should_retry: ShouldRetry | None = None,
        timeout_seconds: Seconds | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function a step. In a workflow its result is recorded; elsewhere it is a plain function.

        A `def` step that is called in an async workflow blocks the event loop, as any function does. If that takes more
        than 0.1 s, it is logged once. `await DBOS.run_step_async(None, function)` runs it in a thread.

        Args:
            nothing: leave this out; the decorator takes keywords only.
            name: the name that it is recorded under; by default the function's qualified name.
            retries_allowed: whether a failed step is retried; if not, it is tried once. The four options below need it:
                without it, options that ask for retries are refused. `False` switches them off.
            interval_seconds: the pause before the second try, 1 s by default.
            max_attempts: tries in all, the first included, 3 by default.
            backoff_rate: the factor by which each further pause grows, 2 by default; the longest pause is one hour.
            should_retry: is called with each error; the step is retried while it returns True. It must call no
                operation, because a replay does not call it again.
            timeout_seconds: how long each try may take; `None` means no limit. A try that takes longer has failed, like
                any other. An `async def` step is then cancelled. Its cleanup is waited for, but whatever it then
                returns or raises is ignored. A `def` step with a limit runs in a thread of its own, with the context
                variables of the workflow. A thread cannot be interrupted: the workflow continues, and the thread runs
                until it ends by itself. DBOSContextError refuses what the thread still tries to write. Give whatever
                the step waits for (a socket, a lock) a timeout too, or these threads accumulate.

        Returns:
            A decorator. The decorated function is called like the function itself.

        Raises:
            TypeError, ValueError: at the decorator: an option has a bad value, or has no effect without
                `retries_allowed=True`.
            DBOSConflictingRegistrationError: at the decorator: the module has another step of that name, with other
                code.
            DBOSStepTimeoutError: in the workflow: the step took longer than `timeout_seconds`.
            DBOSMaxStepRetriesExceeded: in the workflow: the step failed `max_attempts` times; `.errors` has all errors.
            DBOSSerializationError: in the workflow: the result cannot be stored. The error names the path inside it.

        Durable: when it returns. A step that completed never runs again: a replay returns its value,
        or raises its final error. If the process dies during a step, the step runs again.
        """
        refuse_bare(STEP, nothing)
        retrying = RetryOptions(
            retries_allowed=retries_allowed,
            interval_seconds=interval_seconds,
            max_attempts=max_attempts,
            backoff_rate=backoff_rate,
            should_retry=should_retry,
        )

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if isinstance(function, (classmethod, staticmethod)):  # The order of the decorators does not matter.
                return cast(Callable[P, R], type(function)(decorate(function.__func__)))
            check_function(function, STEP, name)
            step_name = _step_name(name_for(function, name, STEP))
            policy = policy_from(retrying, step_name, as_keywords)
            limit = check_time_limit(timeout_seconds, f"step {step_name!r}: timeout_seconds")
            registered = StepFunction(step_name, function, is_async(function), policy, limit)
            REGISTRY.add_step(registered)
            wrapper = _awaiting_wrapper(registered) if registered.is_async else _blocking_wrapper(registered)
            functools.update_wrapper(wrapper, function)
            wrapper.__tidings_step__ = registered  # type: ignore[attr-defined]
            return cast(Callable[P, R], wrapper)

        return decorate

    @overload
    @classmethod
    def run_step(
        cls,
        options: StepOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    @classmethod
    def run_step(cls, options: StepOptions | None, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @classmethod
    def run_step(cls, options: StepOptions | None, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run any function as a step of this workflow.

        An async function runs on the event loop of `DBOS.launch_async` while that loop runs, else on a loop of tidings.

        Args:
            options: a dict of `StepOptions`, or `None` for the defaults.
            func: the function; it need not be decorated.
            *args: its positional arguments.
            **kwargs: its keyword arguments.

        Returns:
            What the function returned.

        Raises:
            TypeError, ValueError: an option has a bad value.
            DBOSStepTimeoutError, DBOSMaxStepRetriesExceeded, DBOSSerializationError: as `DBOS.step`.

        Durable: as a function decorated with `DBOS.step`.
        """
        return _run(_step_from(options, func), args, kwargs)

    @overload
    @classmethod
    async def run_step_async(
        cls,
        options: StepOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    @classmethod
    async def run_step_async(
        cls, options: StepOptions | None, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @classmethod
    async def run_step_async(
        cls, options: StepOptions | None, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Await `run_step`. A plain `def` function runs in a worker thread, not on the event loop.

        With `timeout_seconds` its time begins when its thread begins. After a timeout the thread runs until it ends by
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
        return call.perform(functools.partial(_run_async, step, args, kwargs, stays_in_thread=True))
    return run_step(_begin(caller_in_app(scopes.of_thread, _called(step)), step, args, kwargs))


def _run_plain(step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a step as a plain function: outside of workflows, or in another step."""
    if scopes.current() is None:
        refuse_stray(_called(step))
    value = step.function(*args, **kwargs)
    if step.is_async and running_loop() is None and is_running():
        caller = caller_in_app(scopes.of_thread, _called(step))
        return current_host().coroutines.finish(value, caller.port)
    return value


def _run_on_loop(step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a step that is called in a coroutine. Until it returns, it blocks the event loop."""
    if step.is_async:
        refuse_running_loop(f"the step {step.name!r}", "DBOS.run_step_async")
    caller = caller_in_app(scopes.of_task, _called(step))
    call = _begin(caller, step, args, kwargs)
    clock, said = caller.engine.clock, current_host().slow_steps
    begun_ms = clock.now_ms()
    try:
        return run_step(call)
    finally:
        _say_if_slow(step, caller, said, clock.now_ms() - begun_ms)


def _say_if_slow(step: StepFunction, caller: Caller, said: set[str], ms: int) -> None:
    if ms > _SLOW_MS and step.name not in said:
        said.add(step.name)
        logger.warning(
            "step %r of workflow %r blocked its event loop for %.1f s: it is a plain function that was called in a "
            "coroutine. Await DBOS.run_step_async(None, function, ...), which runs it in a thread, or make it an async "
            "def. This is logged once for each step",
            step.name,
            caller.workflow_id,
            ms / 1_000,
            extra={"workflow_id": caller.workflow_id},
        )


async def _run_async(
    step: StepFunction, args: tuple[Any, ...], kwargs: dict[str, Any], *, stays_in_thread: bool = False
) -> Any:
    here = scopes.current()
    if here is None or here.attempt is not None:
        if here is None:
            refuse_stray(_called(step))
        value = step.function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value
    caller = caller_in_app(scopes.of_task, _called(step))
    return await run_step_async(_begin(caller, step, args, kwargs, stays_in_thread=stays_in_thread))


def _begin(
    caller: Caller,
    step: StepFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    stays_in_thread: bool = False,
) -> StepCall:
    """Take the step's place in the workflow, and describe the call."""
    workflow, host = caller.workflow, caller.host
    assert workflow is not None
    assert host is not None
    return StepCall(
        step=step,
        code=functools.partial(step.function, *args, **kwargs),
        workflow=workflow,
        parts=host.step_parts,
        slot=workflow.begin(step.name),
        stays_in_thread=stays_in_thread,
    )


def _called(step: StepFunction) -> str:
    return f"step {step.name!r}"


def _step_from(options: StepOptions | None, func: Callable[..., Any]) -> StepFunction:
    _check_options(options)
    _check_runnable(func)
    given = options or StepOptions()
    decorated = getattr(func, "__tidings_step__", None)
    if isinstance(decorated, StepFunction):
        if inspect.ismethod(func):
            decorated = dataclasses.replace(decorated, function=MethodType(decorated.function, func.__self__))
        if not given:
            return decorated
        func = decorated.function
    name = given.get("name", decorated.name if isinstance(decorated, StepFunction) else _name_of(func))
    policy = policy_from(given, _step_name(name), as_dict)
    limit = check_time_limit(given.get("timeout_seconds"), f"step {name!r}: timeout_seconds")
    return StepFunction(name, func, is_async(func), policy, limit)


def _check_options(options: object) -> None:
    if options is None:
        return
    if callable(options) or inspect.iscoroutine(options):
        raise TypeError(f"write DBOS.run_step(None, {called_name(options)}, ...): options, or None, come first")
    if not isinstance(options, dict):
        raise TypeError(f"the first argument of DBOS.run_step is a dict of options, or None, not {plainly(options)}")
    known = StepOptions.__optional_keys__
    for key in options:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near!r}?{meant_retry(key, near)}" if near else f"options: {', '.join(sorted(known))}"
            raise TypeError(f"DBOS.run_step has no option {key!r}; {hint}")


def _check_runnable(func: Any) -> None:
    if inspect.iscoroutine(func):
        name = called_name(func)
        raise TypeError(f"write DBOS.run_step(None, {name}, ...), not {name}(...): run_step calls the function itself")
    if not callable(func):
        raise TypeError(f"the second argument of DBOS.run_step is the function to run, not {plainly(func)}")
    if gives_values_one_by_one(func):
        raise TypeError(
            f"{called_name(func)} has a yield, so it cannot be a step: what a step returns is recorded as one value. "
            "Instead of yield, return a list"
        )


def _name_of(func: Callable[..., Any]) -> str:
    name: str = getattr(func, "__qualname__", None) or type(func).__qualname__
    return name


def _step_name(name: str) -> str:
    if check_id(name, "step name").startswith("DBOS."):
        raise ValueError(f"a step may not be named {name!r}: names that begin with 'DBOS.' are reserved for tidings")
    return name
