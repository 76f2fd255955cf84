"""Workflows: the decorator, calling and starting them, and `sleep`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload

from tidings.api.caller import Caller, Face, caller_in_app, current_host, refuse_running_loop
from tidings.api.context import limit_for_start, take_id
from tidings.api.handle import (
    WorkflowHandle,
    WorkflowHandleAsync,
    get_result,
)
from tidings.core.effects import Operation, Wait
from tidings.core.operations import timers
from tidings.core.operations.recorded import within
from tidings.engine import scope as scopes
from tidings.engine.drive import drive, drive_async
from tidings.engine.loops import running_loop
from tidings.engine.receivers import Receiver
from tidings.engine.registry import Registry, WorkflowFunction
from tidings.engine.starting import Start
from tidings.engine.thread_calls import call_here
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSRunEndedError,
    DBOSShutdownError,
    DBOSWorkflowCancelledError,
)
from tidings.limits import (
    DEFAULT_RECOVERY_ATTEMPTS,
    MAX_TIMEOUT_SECONDS,
    check_id,
    check_recovery_attempts,
    check_timeout,
)

P = ParamSpec("P")
R = TypeVar("R")

REGISTRY = Registry()


def refuse_bare(decorator: str, given: object) -> None:
    """Refuse what a decorator is given that takes keywords only.

    Raises:
        TypeError: saying what to write.
    """
    if given is None:
        return
    if callable(given) or isinstance(given, (classmethod, staticmethod)):
        raise TypeError(f"write {decorator}(), with parentheses, above {getattr(given, '__qualname__', given)}")
    raise TypeError(f"{decorator} takes keywords only, such as name=..., not {given!r}")


def name_for(function: Callable[..., Any], name: str | None, decorator: str) -> str:
    """Return what a function is recorded under.

    Raises:
        TypeError: it has no name of its own (a `functools.partial`, an object), and was given none.
    """
    if name is not None:
        return name
    own = getattr(function, "__qualname__", None)
    if not isinstance(own, str):
        raise TypeError(f"{function!r:.100} has no name of its own; give it one with {decorator}(name=...)")
    return own


class Workflows(Face):
    """Durable functions: after a crash they go on from the last recorded step."""

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
            nothing: the decorator is called, with keywords or without.
            name: what it is recorded under; its qualified name by default. A recovered workflow is
                executed by the function of its name.
            max_recovery_attempts: how often it is recovered after a process died while it executed the
                workflow, which had recorded nothing new since the recovery before; `None` for any number.
                After one more such death it is a dead letter: its status is
                MAX_RECOVERY_ATTEMPTS_EXCEEDED, and who awaits its result gets
                `MaxRecoveryAttemptsExceededError`. Deaths while it waits (for a message, an event, a result, a
                time) do not count.

        Raises:
            DBOSConflictingRegistrationError: the name belongs to another function, or to one that is bound to other
                values: a closure of the same factory, a method of another instance, other default arguments.
                A notebook cell that is run again, or a reloaded module, replaces what it defined before.
            DBOSLimitError: `max_recovery_attempts` is negative.
            TypeError: it was written without parentheses, or the function has no name and was given none.
        """
        refuse_bare("@DBOS.workflow", nothing)
        attempts = check_recovery_attempts(max_recovery_attempts)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if isinstance(function, (classmethod, staticmethod)):  # Whichever decorator comes first.
                return cast(Callable[P, R], type(function)(decorate(function.__func__)))
            registered = WorkflowFunction(
                check_id(name_for(function, name, "@DBOS.workflow"), "workflow name"),
                function,
                inspect.iscoroutinefunction(function),
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
        cls, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    @classmethod
    def start_workflow(cls, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    @classmethod
    def start_workflow(cls, func: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a workflow in the background and return a handle on it.

        In a workflow it starts a child. The id is random, or that of `SetWorkflowID`; an id that
        was used before returns a handle on that workflow.

        Raises:
            DBOSSerializationError, DBOSLimitError: an argument cannot be stored; nothing was started.
            DBOSConflictingWorkflowError: the id belongs to another function.
            DBOSWorkflowFunctionNotFoundError: the function is not registered any more, so a recovery would not find it.
            DBOSConflictingRegistrationError: another function is registered under its name now.

        Durable: when it returns. In a workflow the child and the record that it was started are one
        change, and a replay returns a handle on the same child.

        May be called in a coroutine too: it holds the event loop up for no longer than a commit.
        """
        call = call_here()
        if call is not None:
            started_there = call.perform(lambda: cls.start_workflow_async(func, *args, **kwargs))
            return WorkflowHandle(started_there.workflow_id, cls)
        loop = running_loop()
        caller = caller_in_app(scopes.of_thread if loop is None else scopes.of_task)
        function, args = _registered(func, args)
        started = drive(_start(caller, function, args, kwargs, loop), caller.port)
        if started.live is not None and started.live.starting is not None:
            with _ended_as_shut_down():
                started.live.starting.result()
            started.live.starting = None
        return WorkflowHandle(started.workflow_id, cls)

    @overload
    @classmethod
    async def start_workflow_async(
        cls, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]: ...

    @overload
    @classmethod
    async def start_workflow_async(
        cls, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]: ...

    @classmethod
    async def start_workflow_async(
        cls, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> WorkflowHandleAsync[Any]:
        """Await `start_workflow`. An async workflow runs as its own task on this event loop."""
        caller = caller_in_app(scopes.of_task)
        function, args = _registered(func, args)
        started = await drive_async(_start(caller, function, args, kwargs, asyncio.get_running_loop()), caller.port)
        if started.live is not None and started.live.starting is not None:
            with _ended_as_shut_down():
                await started.live.starting
            started.live.starting = None
        return WorkflowHandleAsync(started.workflow_id, cls)

    @classmethod
    def sleep(cls, seconds: float) -> None:
        """Pause. In a workflow the time to wake is recorded, so a crash does not start it anew.

        Durable: in a workflow, before the pause begins; a replay pauses for what is left of it.
        """
        cls._block("sleep", lambda caller: _sleep(caller, seconds))

    @classmethod
    async def sleep_async(cls, seconds: float) -> None:
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
        caller = caller_in_app(scopes.of_thread)
        # A child has a thread of its own: in this one, cancelling the parent could not wake it.
        in_caller = caller.workflow is None
        started = drive(_start(caller, function, args, kwargs, in_caller=in_caller), caller.port)
        live = started.live
        if live is not None and in_caller:
            with contextlib.suppress(DBOSRunEndedError), _cancelled_as_awaited(started.workflow_id):
                return live.ended.result()
        return drive(get_result(caller, started.workflow_id, None), caller.port)

    return call


def _awaiting_wrapper(function: WorkflowFunction) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _call_async(function, args, kwargs)

    return call


async def _call_async(function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    caller = caller_in_app(scopes.of_task)
    started = await drive_async(_start(caller, function, args, kwargs, asyncio.get_running_loop()), caller.port)
    live = started.live
    if live is not None and caller.workflow is None:
        with contextlib.suppress(DBOSRunEndedError), _cancelled_as_awaited(started.workflow_id):
            return await live.ended
    return await drive_async(get_result(caller, started.workflow_id, None), caller.port)


@contextlib.contextmanager
def _cancelled_as_awaited(workflow_id: str) -> Iterator[None]:
    """To who awaits it, a cancelled workflow is an ordinary error."""
    try:
        yield
    except DBOSWorkflowCancelledError:
        raise DBOSAwaitedWorkflowCancelledError(workflow_id) from None


@contextlib.contextmanager
def _ended_as_shut_down() -> Iterator[None]:
    """To ordinary code, the end of a run whose start it waits for is an ordinary error."""
    try:
        yield
    except DBOSRunEndedError as error:
        raise DBOSShutdownError(f"the workflow may not have been started: {error}") from None


def _registered(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[WorkflowFunction, tuple[Any, ...]]:
    """Return the workflow that was given to be started, and all its arguments."""
    registered = getattr(func, "__tidings_workflow__", None)
    if not isinstance(registered, WorkflowFunction):
        raise TypeError(f"{getattr(func, '__qualname__', func)!r} is no workflow: decorate it with @DBOS.workflow()")
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
    caller.port.chain.check()  # Before a run is planned: it would only be given up.
    try:
        function.signature.bind(*args, **kwargs)  # A wrong argument fails here, not in a recorded workflow.
    except TypeError as error:
        raise TypeError(f"workflow {function.name!r}: {error}") from None

    def choose_id() -> str | None:
        if caller.attempt is not None:
            caller.attempt.check_running()  # Again: to store large arguments takes time.
        return take_id()

    receiver = _receiver(function, args)
    if receiver is not None:
        args = args[1:]
    return current_host().starter.start(
        function, receiver, args, kwargs, choose_id, limit_for_start(), caller.scope, loop, in_caller
    )


def _receiver(function: WorkflowFunction, args: tuple[Any, ...]) -> Receiver | None:
    """Return what a workflow is called on, if it is a method."""
    if not REGISTRY.is_method(function):
        return None
    if not args:
        raise TypeError(f"workflow {function.name!r} is a method: call it on its instance or class")
    receiver = REGISTRY.receivers.of(args[0])
    if receiver is None:
        raise TypeError(
            f"workflow {function.name!r} is a method and was called on {args[0]!r:.100}, which is not registered, so a "
            "recovery could not find it: derive its class from DBOSConfiguredInstance and decorate it with "
            "@DBOS.dbos_class()"
        )
    return receiver


def _sleep(caller: Caller, seconds: float) -> Operation[None]:
    if seconds is None:
        raise TypeError("seconds must be a number of seconds, not None")
    checked = check_timeout(seconds, "seconds") or (MAX_TIMEOUT_SECONDS if seconds else 0.0)
    if caller.workflow is not None:
        return timers.sleep(caller.workflow.begin(timers.SLEEP), checked)
    return _pause(checked)


def _pause(seconds: float) -> Operation[None]:
    yield Wait(due=within(seconds))
