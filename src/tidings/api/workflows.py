"""Workflows: the decorator, calling and starting them, and `sleep`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast, overload

from tidings.api.caller import Face, refuse_running_loop, require_loop
from tidings.api.context import limit_for_start, take_id
from tidings.api.decorating import WORKFLOW, check_function, is_async, name_for, not_a_workflow, refuse_bare
from tidings.api.handle import (
    WorkflowHandle,
    WorkflowHandleAsync,
    get_result,
)
from tidings.api.naming import meant_in
from tidings.blocks import contextmanager
from tidings.core.effects import Operation, Wait
from tidings.core.operations import timers
from tidings.core.operations.recorded import within
from tidings.engine.caller import Caller, caller_in_app
from tidings.engine.process import REGISTRY, current_host
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.drive import drive, drive_async
from tidings.engine.runs.loops import running_loop
from tidings.engine.runs.receivers import Receiver
from tidings.engine.runs.registry import WorkflowFunction, is_defined_in
from tidings.engine.runs.starting import Start
from tidings.engine.runs.thread_calls import call_here
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSRunEndedError,
    DBOSShutdownError,
    DBOSWorkflowCancelledError,
)
from tidings.limits import (
    DEFAULT_RECOVERY_ATTEMPTS,
    Seconds,
    check_id,
    check_recovery_attempts,
    check_seconds,
)
from tidings.slips import called_name, given, is_workflow

P = ParamSpec("P")
R = TypeVar("R")


class Workflows(Face):
    """Durable functions: after a crash they resume from the last recorded step."""

    @classmethod
    def workflow(
        cls,
        nothing: None = None,
        /,
        *,
        name: str | None = None,
        max_recovery_attempts: int | None = DEFAULT_RECOVERY_ATTEMPTS,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function a durable workflow. It stays callable: a call runs it durably.

        Args:
            nothing: leave this out; the decorator takes keywords only.
            name: the name that it is recorded under; by default the function's qualified name. Recovery finds the
                function by this name.
            max_recovery_attempts: how often the workflow is recovered in a row if each process that executes it dies
                before anything new is recorded; `None` means no limit. After one more death the workflow is a dead
                letter: its status is MAX_RECOVERY_ATTEMPTS_EXCEEDED, and awaiting its result raises
                `MaxRecoveryAttemptsExceededError`. Deaths while it waits (for a message, an event, a result, a time) do
                not count.

        Returns:
            A decorator. The decorated function is called like the function itself.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another function, or to the same code bound to other
                values: a closure of the same factory, a method of another instance, other default arguments. Running a
                notebook cell again, or reloading a module, replaces the earlier definition.
            DBOSLimitError: `max_recovery_attempts` is negative.
            TypeError: the decorator was written without parentheses, or above something that cannot be a workflow (a
                generator, a class, a property, a step, a workflow); or the function has no name and none was given. The
                error says what to write.
        """
        refuse_bare(WORKFLOW, nothing)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if isinstance(function, (classmethod, staticmethod)):  # The order of the decorators does not matter.
                return cast(Callable[P, R], type(function)(decorate(function.__func__)))
            check_function(function, WORKFLOW, name)
            workflow_name = check_id(name_for(function, name, WORKFLOW), "workflow name")
            attempts = check_recovery_attempts(
                max_recovery_attempts, f"workflow {workflow_name!r}: max_recovery_attempts"
            )
            registered = WorkflowFunction(
                workflow_name,
                function,
                is_async(function),
                inspect.signature(function),
                attempts,
            )
            REGISTRY.add_workflow(registered)
            wrapper = _awaiting_wrapper(registered) if registered.is_async else _blocking_wrapper(registered)
            functools.update_wrapper(wrapper, function)
            wrapper.__tidings_workflow__ = registered  # type: ignore[attr-defined]
            return cast(Callable[P, R], wrapper)

        return decorate

    @overload
    @classmethod
    def start_workflow(
        cls, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    @classmethod
    def start_workflow(cls, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    @classmethod
    def start_workflow(cls, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a workflow in the background and return a handle on it.

        In a workflow it starts a child. The id is random, or set by `SetWorkflowID`. If a workflow with that id exists
        already, this returns a handle on it.

        In a step it starts a child of the step's workflow too. Like anything that a step does, this is not recorded. So
        each try of the step starts another child, unless all tries set the same id, such as `SetWorkflowID(f"charge
        {DBOS.workflow_id}")`.

        Once a workflow has been cancelled, neither its code nor a running step of it can start workflows.

        Args:
            func: a function decorated with `DBOS.workflow`.
            *args: its positional arguments: any values that can be stored.
            **kwargs: its keyword arguments, likewise.

        Returns:
            A handle, for the result and the status.

        Raises:
            DBOSSerializationError, DBOSLimitError: an argument cannot be stored; nothing was started.
            DBOSConflictingWorkflowError: the id belongs to another function.
            DBOSWorkflowFunctionNotFoundError: the function is no longer registered, so a recovery would not find it.
            DBOSConflictingRegistrationError: another function is registered under its name now.

        Durable: when it returns. In a workflow the child and the record of its start are one change, and a replay
        returns a handle on the same child. A step whose result is recorded starts nothing again.

        It may be called in a coroutine too: it blocks the event loop for no longer than a commit.
        """
        call = call_here()
        if call is not None:
            started_there = call.perform(lambda: cls.start_workflow_async(func, *args, **kwargs))
            return WorkflowHandle(started_there.workflow_id, cls)
        loop = running_loop()
        caller = caller_in_app(scopes.of_thread if loop is None else scopes.of_task, "DBOS.start_workflow")
        function, args = _registered(func, args, "DBOS.start_workflow")
        started = drive(_start(caller, function, args, kwargs, loop), caller.port)
        if started.live is not None and started.live.starting is not None:
            with _ended_as_shut_down():
                started.live.starting.result()
            started.live.starting = None
        return WorkflowHandle(started.workflow_id, cls)

    @overload
    @classmethod
    async def start_workflow_async(
        cls, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]: ...

    @overload
    @classmethod
    async def start_workflow_async(
        cls, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]: ...

    @classmethod
    async def start_workflow_async(
        cls, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> WorkflowHandleAsync[Any]:
        """Await `start_workflow`. An async workflow runs as its own task on this event loop."""
        require_loop("DBOS.start_workflow_async", "DBOS.start_workflow")
        caller = caller_in_app(scopes.of_task, "DBOS.start_workflow_async")
        function, args = _registered(func, args, "DBOS.start_workflow_async")
        started = await drive_async(_start(caller, function, args, kwargs, asyncio.get_running_loop()), caller.port)
        if started.live is not None and started.live.starting is not None:
            with _ended_as_shut_down():
                await started.live.starting
            started.live.starting = None
        return WorkflowHandleAsync(started.workflow_id, cls)

    @classmethod
    def sleep(cls, seconds: Seconds) -> None:
        """Pause. In a workflow the wake-up time is recorded, so a crash does not restart the pause.

        Args:
            seconds: how long, as a number or a `timedelta`: from 0 to a hundred years.

        Raises:
            TypeError, DBOSLimitError: `seconds` is something else; nothing was recorded.

        Durable: in a workflow, before the pause begins; a replay pauses only for the rest.
        """
        cls._block("sleep", lambda caller: _sleep(caller, seconds))

    @classmethod
    async def sleep_async(cls, seconds: Seconds) -> None:
        """Await `sleep`."""
        await cls._await(lambda caller: _sleep(caller, seconds))


# --- calling a workflow function --------------------------------------------------------------------


def _blocking_wrapper(function: WorkflowFunction) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        refuse_running_loop(
            f"the workflow {function.name!r}",
            "DBOS.start_workflow_async",
            "and then its handle's get_result(), or make it an async def",
        )
        thread_call = call_here()
        if thread_call is not None:
            return thread_call.perform(partial(_call_async, function, args, kwargs))
        caller = caller_in_app(scopes.of_thread, f"the workflow {function.name!r}")
        # A child runs in a thread of its own: if it ran in the parent's, cancelling the parent could not wake that.
        in_caller = caller.workflow is None
        started = drive(_start(caller, function, args, kwargs, in_caller=in_caller), caller.port)
        live = started.live
        if live is not None and in_caller:
            try:
                return live.ended.result()
            except DBOSRunEndedError:
                pass  # Another run continues the workflow.
            except DBOSWorkflowCancelledError:
                raise DBOSAwaitedWorkflowCancelledError(started.workflow_id) from None
        return drive(get_result(caller, started.workflow_id, None), caller.port)

    return call


def _awaiting_wrapper(function: WorkflowFunction) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _call_async(function, args, kwargs)

    is_workflow(cast(FunctionType, call))
    return call


async def _call_async(function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if running_loop() is None:
        require_loop(f"the workflow {called_name(function.function)}", "DBOS.start_workflow")
    caller = caller_in_app(scopes.of_task, f"the workflow {function.name!r}")
    started = await drive_async(_start(caller, function, args, kwargs, asyncio.get_running_loop()), caller.port)
    live = started.live
    if live is not None and caller.workflow is None:
        try:
            return await live.ended
        except DBOSRunEndedError:
            pass  # Another run continues the workflow.
        except DBOSWorkflowCancelledError:  # For the awaiting code, that is an ordinary error.
            raise DBOSAwaitedWorkflowCancelledError(started.workflow_id) from None
    return await drive_async(get_result(caller, started.workflow_id, None), caller.port)


@contextmanager
def _ended_as_shut_down() -> Iterator[None]:
    """Turn the end of a run whose start is awaited into an ordinary error."""
    try:
        yield
    except DBOSRunEndedError as error:
        raise DBOSShutdownError(f"the workflow may not have been started: {error}") from None


def _registered(
    func: Callable[..., Any], args: tuple[Any, ...], called: str
) -> tuple[WorkflowFunction, tuple[Any, ...]]:
    """Return the workflow to start, and all its arguments."""
    registered = getattr(func, "__tidings_workflow__", None)
    if not isinstance(registered, WorkflowFunction):
        raise not_a_workflow(func, called)
    return registered, (func.__self__, *args) if inspect.ismethod(func) else args


def _start(
    caller: Caller,
    function: WorkflowFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    in_caller: bool = False,
) -> Operation[Start]:
    caller.port.chain.check()  # Before a run is planned, because a dead caller's plan would be given up.
    try:
        function.check_call(args, kwargs)  # A wrong argument fails here, not in a recorded workflow.
    except TypeError as error:
        takes = f"{called_name(function.function)}{function.signature}"
        hint = meant_in(str(error), function.signature)
        raise TypeError(f"workflow {function.name!r}: {error}{hint}; it takes {takes}") from None

    def choose_id() -> str | None:
        caller.check_attempt()  # Again: dumping large arguments takes time.
        return take_id()

    receiver = _receiver(function, args)
    if receiver is not None:
        args = args[1:]
    return current_host().starter.start(
        function, receiver, args, kwargs, choose_id, limit_for_start(), caller.scope, loop, in_caller
    )


def _receiver(function: WorkflowFunction, args: tuple[Any, ...]) -> Receiver | None:
    """Return the class or instance that a workflow is called on, if it is a method."""
    if not REGISTRY.is_method(function):
        _refuse_class_that_is_not_registered(function, args)
        return None
    if not args:
        raise TypeError(f"workflow {function.name!r} is a method: call it on an object of its class, or on the class")
    receiver = REGISTRY.receivers.of(args[0])
    if receiver is None:
        raise TypeError(
            f"workflow {function.name!r} is a method and was called on {_shown(args[0])}, which is not registered, so "
            f"a recovery could not find it: {_how_to_register(args[0])}"
        )
    return receiver


def _refuse_class_that_is_not_registered(function: WorkflowFunction, args: tuple[Any, ...]) -> None:
    """Refuse a class method of a class that is not decorated. The class would count as an argument, to be stored."""
    if args and isinstance(args[0], type) and is_defined_in(function.function, args[0]):
        raise TypeError(
            f"workflow {function.name!r} is a class method of {called_name(args[0])}, which is not registered, so a "
            f"recovery could not find it: {_how_to_register(args[0])}"
        )


def _shown(target: object) -> str:
    return given(target) if isinstance(target, type) else f"an object of {called_name(type(target))}"


def _how_to_register(target: object) -> str:
    cls = target if isinstance(target, type) else type(target)
    name = called_name(cls)
    if not REGISTRY.receivers.has_class(cls):
        derive = "" if isinstance(target, type) else f", and derive {name} from DBOSConfiguredInstance"
        return f"write @DBOS.dbos_class() above class {name}{derive}"
    if hasattr(target, "config_name"):
        return f"another {name} is registered under its config_name {target.config_name!r}; give it its own"
    return f"call super().__init__(config_name) in {name}.__init__, or DBOS.register_instance(...)"


def _sleep(caller: Caller, seconds: Seconds) -> Operation[None]:
    checked = check_seconds(seconds, "seconds")
    if caller.workflow is not None:
        return timers.sleep(caller.workflow.begin(timers.SLEEP), checked)
    return _pause(checked)


def _pause(seconds: float) -> Operation[None]:
    yield Wait(due=within(seconds))
