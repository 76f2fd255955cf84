"""From a public call to an operation: its engine, the scope of the calling code, its driver.

Each public operation is a function that takes a `Caller` and returns an operation. A *face* runs it in a blocking or an
awaiting form, without knowing what the operation does. There are two faces: the class `DBOS`, which runs workflows, and
objects of `DBOSClient`, which do not. Operations that both have are written once, in mixins, as `shared` methods.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tidings.core.effects import Operation
from tidings.core.history import Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import observed
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.drive import drive, drive_async
from tidings.engine.runs.executors import stray_of
from tidings.engine.runs.loops import running_loop
from tidings.engine.runs.port import Port
from tidings.engine.runs.scope import Attempt, Scope
from tidings.engine.runs.thread_calls import call_here
from tidings.error import DBOSContextError, DBOSShutdownError
from tidings.serialization import Serializer
from tidings.shortage import is_shortage

T = TypeVar("T")


class Process:
    """The host of this process, if it runs one."""

    host: Host | None = None
    lock = threading.RLock()  # Held while the host is set or removed, but not while waiting for a database.
    launch_lock = threading.RLock()  # Held during a launch.
    launch: object | None = None  # The launch in progress. If it finds another value here, `destroy` has cancelled it.
    is_configured = False  # DBOS(config=...) was called.
    has_run = False  # A launch has succeeded.


def _begin_in_child() -> None:
    Process.lock = threading.RLock()  # The thread that held it at the fork does not exist here.
    Process.launch_lock = threading.RLock()
    Process.launch = None


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)


def is_running() -> bool:
    """Tell whether `DBOS` runs in this process. A host that a fork has copied does not run."""
    return Process.host is not None and Process.host.engine.pid == os.getpid()


def current_host() -> Host:
    """Return the running host.

    Raises:
        DBOSShutdownError: there is none.
    """
    host = Process.host
    if host is None:
        raise DBOSShutdownError(f"tidings is not running in this process: {_why_not_running()}")
    check_not_forked(host.engine, "called DBOS.launch()", "call DBOS.launch()")
    return host


def _why_not_running() -> str:
    if Process.launch is not None:
        return "DBOS.launch() has not returned yet; make this call after it"
    if Process.has_run:
        return "DBOS.destroy() has stopped it; call DBOS.launch() again, or make this call before DBOS.destroy()"
    if Process.is_configured:
        return "DBOS.launch() was not called yet; call it (or await DBOS.launch_async()) before this"
    return "write DBOS(config={'name': ...}) and DBOS.launch() before this call"


def check_not_forked(engine: Engine, did: str, remedy: str) -> None:
    """Refuse an engine of the process that this one was forked from.

    Raises:
        DBOSShutdownError: this process was forked. The error says what to do.
    """
    if engine.pid != os.getpid():
        raise DBOSShutdownError(
            f"this process ({os.getpid()}) was forked from the one that {did} ({engine.pid}); "
            f"threads and connections do not survive a fork: {remedy} after the fork"
        )


class Caller:
    """The code that calls an operation: workflow code, a step, or code outside of both. A client has no host."""

    __slots__ = ("engine", "host", "port", "scope", "serializer")

    def __init__(
        self,
        engine: Engine,
        port: Port,
        serializer: Serializer,
        scope: Scope | None = None,
        host: Host | None = None,
    ) -> None:
        self.engine = engine
        self.port = port
        self.serializer = serializer
        self.scope = scope
        self.host = host

    @property
    def workflow(self) -> Scope | None:
        """The scope of the caller if it is workflow code; `None` in a step and outside."""
        return self.scope if self.scope is not None and self.scope.attempt is None else None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt of a step that the caller is in."""
        return self.scope.attempt if self.scope is not None else None

    @property
    def workflow_id(self) -> str | None:
        """The id of the workflow that the caller is in, in a step too."""
        return self.scope.run.workflow_id if self.scope is not None else None

    def observed(self, name: str, body: Operation[Any], what: str) -> Operation[Any]:
        """Return an operation that has no record of its own, recorded as `name` if a workflow itself calls it."""
        return body if self.workflow is None else observed(self.workflow.begin(name), body, what)

    def begin_in_workflow(self, name: str, called: str) -> Slot:
        """Take the next place in the caller's workflow, for an operation that is recorded as `name`.

        Raises:
            DBOSContextError: the caller is in a step, or in no workflow. The error says what was `called`, as the user
                wrote it.
        """
        if self.workflow is not None:
            return self.workflow.begin(name)
        if self.attempt is None:
            raise outside_of_workflows(called, "only the code of a workflow itself may call it")
        raise DBOSContextError(
            f"{called} was called in the step {self.attempt.name!r}; only the code of a workflow itself may call it. "
            f"Call {called} in the workflow, and pass what it returns to the step"
        )


def outside_of_workflows(called: str, why: str) -> DBOSContextError:
    """Return the error for an operation that needs a workflow and was called outside of any."""
    workflow_id = stray_of()
    if workflow_id is not None:
        return DBOSContextError(
            f"{called} was called in a thread that workflow {workflow_id!r} has started, which does not have the "
            "workflow's context. Call it in the workflow's own code; or run the function with "
            "DBOS.run_parallel(function, ...), or in an async workflow with await asyncio.to_thread(function)"
        )
    return DBOSContextError(
        f"{called} was called outside of any workflow; {why}. Call it in a function that is decorated with "
        "@DBOS.workflow()"
    )


def caller_in_app(find_scope: Callable[[], Scope | None]) -> Caller:
    """Return the caller of `DBOS`. If the caller's run has ended, this raises first, whatever host runs now."""
    scope = find_scope()
    if scope is not None:
        scope.port.chain.check()
        if scope.attempt is not None:
            scope.attempt.check_running()
    host = current_host()
    return Caller(host.engine, host.port if scope is None else scope.port, host.settings.serializer, scope, host)


def refuse_running_loop(name: str, awaited: str | None = None, more: str = "", how: str = "await {}") -> None:
    """Refuse to block a running event loop.

    Raises:
        RuntimeError: an event loop runs here. The error names the form to await instead.
    """
    if running_loop() is not None:
        form = how.format(f"{awaited or name + '_async'}(...)")
        raise RuntimeError(f"{name} would block the running event loop; use: {form}{more and ', ' + more}")


def require_loop(name: str, blocking: str) -> None:
    """Refuse a call that is awaited without asyncio, by trio or by hand.

    Raises:
        RuntimeError: no event loop runs here. The error names the blocking form.
    """
    if running_loop() is None:
        raise RuntimeError(
            f"{name} was awaited where no asyncio event loop runs; call it in a coroutine that asyncio.run(...) runs, "
            f"or use {blocking}"
        )


if TYPE_CHECKING:
    shared = classmethod
else:

    class shared(classmethod):  # noqa: N801  (a decorator)
        """A method of a face: called on the class `DBOS`, or on an object of another class.

        To a type checker it is a class method, so it may use only the members of `cls` that both faces have.
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            return MethodType(self.__func__, owner if instance is None or owner.is_one else instance)


class Face:
    """Where operations enter, in a blocking and an awaiting form.

    Attributes:
        is_one: whether the class itself is the face, and not each of its objects.
    """

    is_one = False
    _called: str
    _caller: Callable[[Callable[[], Scope | None]], Caller]

    @shared
    def _block(cls, name: str, make: Callable[[Caller], Operation[T]]) -> T:
        """Run an operation for the calling thread."""
        refuse_running_loop(f"{cls._called}.{name}")
        call = call_here()
        if call is not None:
            return cast(T, call.perform(lambda: cls._await(make)))
        caller = cls._caller(scopes.of_thread)
        return drive(_made(make, caller), caller.port)

    @shared
    async def _await(cls, make: Callable[[Caller], Operation[T]]) -> T:
        """Run an operation for the calling task."""
        if running_loop() is None:
            awaited = sys._getframe(1).f_code.co_name  # The public coroutine, which calls this one.
            require_loop(f"{cls._called}.{awaited}", f"{cls._called}.{awaited.removesuffix('_async')}")
        caller = cls._caller(scopes.of_task)
        return await drive_async(_made(make, caller), caller.port)


def _made(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    """Return the operation that `make` returns. In a shortage, making it is retried as part of the operation."""
    try:
        return make(caller)
    except Exception as error:
        if not is_shortage(error):
            raise
    return _made_later(make, caller)


def _made_later(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    operation = yield from patiently(make, caller)
    return (yield from operation)
