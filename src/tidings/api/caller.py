"""From a public call to an operation: which engine, where the calling code stands, which driver.

Each public operation is a function that takes a `Caller` and gives an operation. `blocking` and
`awaiting` run it, one for each form of the call. Neither knows what the operation does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from tidings.core.effects import Operation
from tidings.core.history import Slot
from tidings.engine import scope as scopes
from tidings.engine.drive import drive, drive_async
from tidings.engine.engine import Engine
from tidings.engine.port import Port
from tidings.engine.scope import Attempt, Scope
from tidings.error import DBOSContextError, DBOSShutdownError
from tidings.serialization import Serializer

T = TypeVar("T")


class Process:
    """The engine that this process runs, if it does."""

    engine: Engine | None = None
    lock = threading.RLock()  # Held while it is launched or destroyed.


def is_running() -> bool:
    """Tell whether tidings runs in this process. An engine that was forked along does not."""
    return Process.engine is not None and Process.engine.pid == os.getpid()


def current_engine() -> Engine:
    """Return the running engine.

    Raises:
        DBOSShutdownError: there is none.
    """
    engine = Process.engine
    if engine is None:
        raise DBOSShutdownError("tidings is not running in this process; call DBOS(config=...) and DBOS.launch() first")
    if engine.pid != os.getpid():
        raise DBOSShutdownError(
            f"this process ({os.getpid()}) was forked from the one that called DBOS.launch() ({engine.pid}); "
            "threads and connections do not survive a fork: call DBOS.launch() after it"
        )
    return engine


class Caller:
    """Who calls an operation: workflow code, a step, or code outside of both."""

    __slots__ = ("engine", "scope")

    def __init__(self, scope: Scope | None) -> None:
        """Take where the code stands. A run that has ended learns that first, whatever engine runs now."""
        if scope is not None:
            scope.port.chain.check()
            if scope.attempt is not None:
                scope.attempt.check_running()
        self.scope = scope
        self.engine = current_engine()

    @property
    def port(self) -> Port:
        return self.engine.port if self.scope is None else self.scope.port

    @property
    def serializer(self) -> Serializer:
        return self.engine.settings.serializer

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


def refuse_running_loop(name: str, awaited: str | None = None) -> None:
    """Refuse to block a running event loop.

    Raises:
        RuntimeError: naming the form to await instead.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name} would block the running event loop; use: await {awaited or name + '_async'}(...)")


def blocking(name: str, make: Callable[[Caller], Operation[T]], awaited: str | None = None) -> T:
    """Run an operation for the calling thread. `awaited` names the form to await, if not `name`_async."""
    refuse_running_loop(name, awaited)
    caller = Caller(scopes.of_thread())
    return drive(make(caller), caller.port)


async def awaiting(make: Callable[[Caller], Operation[T]]) -> T:
    """Run an operation for the calling task."""
    caller = Caller(scopes.of_task())
    return await drive_async(make(caller), caller.port)
