"""The code that calls an operation, and what it may call there.

Each public operation is a function that takes a `Caller` and returns an operation (`tidings.api.caller` runs it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tidings.core.effects import Operation
from tidings.core.history import Slot
from tidings.core.operations.recorded import observed
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.process import current_host
from tidings.engine.runs.executors import stray_of
from tidings.engine.runs.port import Port
from tidings.engine.runs.scope import Attempt, Scope
from tidings.error import DBOSContextError
from tidings.serialization import Serializer

_CALL_IT_IN: Final = (
    "Run the function with DBOS.run_parallel(function, ...), or in an async workflow with "
    "await asyncio.to_thread(function); or call it in the workflow's own code, or start the thread in a step"
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

    def check_attempt(self) -> None:
        """Raise if the caller is in an attempt of a step that is over."""
        if self.attempt is not None:
            self.attempt.check_running()

    @property
    def workflow_id(self) -> str | None:
        """The id of the workflow that the caller is in, in a step too."""
        return self.scope.run.workflow_id if self.scope is not None else None

    def observed(self, name: str, body: Operation[Any], what: str) -> Operation[Any]:
        """Return an operation that has no record of its own, recorded as `name` if a workflow itself calls it."""
        return body if self.workflow is None else observed(self.workflow.begin(name), body, what)

    def begin_in_workflow(self, name: str, called: str, target: str) -> Slot:
        """Take the next place in the caller's workflow, for an operation that is recorded as `name`.

        Raises:
            DBOSContextError: the caller is in a step, or in no workflow. The error says what was `called`, as the user
                wrote it.
        """
        return self.workflow_scope(called).begin(name, target=target)

    def workflow_scope(self, called: str) -> Scope:
        """Return the scope of the caller, which must be workflow code.

        Raises:
            DBOSContextError: see `begin_in_workflow`.
        """
        if self.workflow is not None:
            return self.workflow
        if self.attempt is None:
            raise outside_of_workflows(called, "only the code of a workflow itself may call it")
        raise DBOSContextError(
            f"{called} was called in the step {self.attempt.name!r}; only the code of a workflow itself may call it. "
            f"Call {called} in the workflow, and pass what it returns to the step"
        )


def outside_of_workflows(called: str, why: str) -> DBOSContextError:
    """Return the error for an operation that needs a workflow and was called outside of any."""
    return DBOSContextError(
        f"{called} was called outside of any workflow; {why}. Call it in a function that is decorated with "
        "@DBOS.workflow()"
    )


def refuse_stray(called: str, remedy: str = _CALL_IT_IN) -> None:
    """Refuse code that a workflow has another thread call, without the workflow's context.

    Its operations would not be recorded, and a recovery would call them again.

    Raises:
        DBOSContextError: the calling code is of this kind. The error says what was `called`, and the `remedy`.
    """
    workflow_id = stray_of()
    if workflow_id is not None:
        raise DBOSContextError(
            f"{called} was called in a thread that workflow {workflow_id!r} has started, which does not have the "
            f"workflow's context: it would not be recorded, and would be done again at each recovery. {remedy}"
        )


def caller_in_app(find_scope: Callable[[], Scope | None], called: str) -> Caller:
    """Return the caller of `DBOS`. If the caller's run has ended, this raises first, whatever host runs now.

    Args:
        find_scope: finds the scope of the calling code.
        called: what it calls, as users write it.
    """
    scope = find_scope()
    if scope is None:
        refuse_stray(called)
    else:
        scope.port.chain.check()
        if scope.attempt is not None:
            scope.attempt.check_running()
    host = current_host()
    return Caller(host.engine, host.port if scope is None else scope.port, host.settings.serializer, scope, host)
