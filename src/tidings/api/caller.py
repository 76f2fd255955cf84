"""From a public call to an operation: which engine, where the calling code stands, which driver.

Each public operation is a function that takes a `Caller` and gives an operation. A *face* runs it in
one of two forms, blocking or awaiting, and neither knows what the operation does. There are two faces:
the class `DBOS`, which runs workflows, and objects of `DBOSClient`, which do not. Operations that both
have are written once, in mixins, as `shared` methods.
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
from tidings.engine import scope as scopes
from tidings.engine.drive import drive, drive_async
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.loops import running_loop
from tidings.engine.port import Port
from tidings.engine.scope import Attempt, Scope
from tidings.engine.thread_calls import call_here
from tidings.error import DBOSContextError, DBOSShutdownError
from tidings.serialization import Serializer
from tidings.shortage import is_shortage

T = TypeVar("T")


class Process:
    """The host that this process runs, if it does."""

    host: Host | None = None
    lock = threading.RLock()  # Held while it comes and goes, but not while a database is waited for.
    launch_lock = threading.RLock()  # Held while one is launched.
    launch: object | None = None  # The launch that goes on; one that finds another here, or none, was destroyed.


def _begin_in_child() -> None:
    Process.lock = threading.RLock()  # Whoever held it at the fork does not exist here.
    Process.launch_lock = threading.RLock()
    Process.launch = None


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)


def is_running() -> bool:
    """Tell whether `DBOS` runs in this process. A host that was forked along does not."""
    return Process.host is not None and Process.host.engine.pid == os.getpid()


def current_host() -> Host:
    """Return the running host.

    Raises:
        DBOSShutdownError: there is none.
    """
    host = Process.host
    if host is None:
        raise DBOSShutdownError("tidings is not running in this process; call DBOS(config=...) and DBOS.launch() first")
    check_not_forked(host.engine, "called DBOS.launch()", "call DBOS.launch()")
    return host


def check_not_forked(engine: Engine, did: str, remedy: str) -> None:
    """Refuse an engine of the process that this one was forked from.

    Raises:
        DBOSShutdownError: saying what to do.
    """
    if engine.pid != os.getpid():
        raise DBOSShutdownError(
            f"this process ({os.getpid()}) was forked from the one that {did} ({engine.pid}); "
            f"threads and connections do not survive a fork: {remedy} after it"
        )


class Caller:
    """Who calls an operation: workflow code, a step, or code outside of both."""

    __slots__ = ("engine", "port", "scope", "serializer")

    def __init__(self, engine: Engine, port: Port, serializer: Serializer, scope: Scope | None = None) -> None:
        self.engine = engine
        self.port = port
        self.serializer = serializer
        self.scope = scope

    @property
    def workflow(self) -> Scope | None:
        """Where the caller stands in a workflow function; `None` in a step and outside."""
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

    def begin_in_workflow(self, name: str) -> Slot:
        """Take the next place of the workflow the caller is in.

        Raises:
            DBOSContextError: it is in none, or in a step.
        """
        if self.workflow is None:
            attempt = self.attempt
            where = "outside of any workflow" if attempt is None else f"in the step {attempt.name!r}"
            raise DBOSContextError(f"{name} was called {where}; only the code of a workflow itself may call it")
        return self.workflow.begin(name)


def caller_in_app(find_scope: Callable[[], Scope | None]) -> Caller:
    """Return who calls `DBOS`. Code of a run that has ended learns that first, whatever host runs now."""
    scope = find_scope()
    if scope is not None:
        scope.port.chain.check()
        if scope.attempt is not None:
            scope.attempt.check_running()
    host = current_host()
    return Caller(host.engine, host.port if scope is None else scope.port, host.settings.serializer, scope)


def refuse_running_loop(name: str, awaited: str | None = None, more: str = "") -> None:
    """Refuse to block a running event loop.

    Raises:
        RuntimeError: naming the form to await instead.
    """
    if running_loop() is not None:
        form = f"{awaited or name + '_async'}(...)"
        raise RuntimeError(f"{name} would block the running event loop; use: await {form}{more and ', ' + more}")


if TYPE_CHECKING:
    shared = classmethod
else:

    class shared(classmethod):  # noqa: N801  (a decorator)
        """A method of a face: called on the class `DBOS`, or on an object of another class.

        To a type checker it is a class method, and so it uses of `cls` only what both have.
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            return MethodType(self.__func__, owner if instance is None or owner.is_one else instance)


class Face:
    """Where operations come in.

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
        caller = cls._caller(scopes.of_task)
        return await drive_async(_made(make, caller), caller.port)


def _made(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    """Return the operation that `make` gives. Storing its values may have to wait."""
    try:
        return make(caller)
    except Exception as error:
        if not is_shortage(error):
            raise
    return _made_later(make, caller)


def _made_later(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    operation = yield from patiently(make, caller)
    return (yield from operation)
