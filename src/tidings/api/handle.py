"""Handles on workflows, and their status."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tidings.api.absent import missing_of_handle
from tidings.api.caller import Face, refuse_running_loop
from tidings.api.naming import as_users_write_it
from tidings.core import targets
from tidings.core.effects import FindWorkflow, Operation, Read
from tidings.core.operations import results
from tidings.engine.caller import Caller
from tidings.engine.runs import scope as scopes
from tidings.error import DBOSContextError, DBOSDamagedWorkflowError, DBOSNonExistentWorkflowError
from tidings.lifecycle import stuck_now
from tidings.limits import Seconds, check_timeout
from tidings.model import WorkflowRecord
from tidings.serialization import Serializer, show, show_error

R = TypeVar("R")

GET_STATUS = "DBOS.get_status"


@dataclass(frozen=True, slots=True)
class StuckInfo:
    """Why a version of the code could not continue a workflow.

    Attributes:
        version: that version.
        operation: where its code left the recorded path: "operation 3", or "operation 1 of branch 2".
        recorded: the operation that is recorded there.
        called: what the code called instead.
        at_epoch_ms: when, in ms since the epoch.
    """

    version: str
    operation: str
    recorded: str
    called: str
    at_epoch_ms: int


@dataclass(frozen=True, slots=True)
class WorkflowStatus:
    """The status of a workflow in the store. Times are in ms since the epoch.

    Attributes:
        workflow_id: its id.
        status: PENDING, SUCCESS, ERROR, CANCELLED or MAX_RECOVERY_ATTEMPTS_EXCEEDED; or another text, if a newer
            version or a person wrote it.
        name: the name of its function.
        class_name, config_name: the class whose method it is, and the configured instance it was
            called on; `None` where there is none.
        input: `{"args": [...], "kwargs": {...}}`.
        output: its result, if it succeeded.
        error: the exception it ended with, if it failed; a `DBOSDamagedWorkflowError` if its row is damaged.
            If this program lacks the class of one of these three, an `UndecodedValue` shows the value as text, and a
            `DBOSRecordedError` shows the exception.
        created_at, updated_at: when it was started, and when its status last changed.
        executor_id: the process that runs or ran it.
        app_version: the version of the code that started it, or that last continued it.
        workflow_timeout_ms: how long it may take from its start, if a limit was set for it.
        workflow_deadline_epoch_ms: when it is cancelled if it has not ended, by its own timeout or
            its parent's.
        parent_workflow_id: the workflow that started it, in its code or in a step, or `None`.
        recovery_attempts: how many processes died while they executed it, since it last recorded something new.
        program: the configured `name` of its program; only that program's processes execute it. `None` if it was
            started by an early version of tidings, which did not record it.
        stuck: why no process executes it, although it is PENDING: the last version of the code that could not continue
            it, and where. `None` otherwise.
    """

    workflow_id: str
    status: str
    name: str
    class_name: str | None
    config_name: str | None
    input: Any
    output: Any
    error: BaseException | None
    created_at: int
    updated_at: int
    executor_id: str | None
    app_version: str
    workflow_timeout_ms: int | None
    workflow_deadline_epoch_ms: int | None
    parent_workflow_id: str | None
    recovery_attempts: int
    program: str | None
    stuck: StuckInfo | None = None


class _Handle(Generic[R]):
    __slots__ = ("_face", "workflow_id")

    def __init__(self, workflow_id: str, face: Face | type[Face] | None = None) -> None:
        if face is None or not isinstance(workflow_id, str):
            raise TypeError(
                f"a {type(self).__name__} cannot be created directly; write DBOS.retrieve_workflow(workflow_id), or "
                "await DBOS.retrieve_workflow_async(workflow_id)"
            )
        self.workflow_id = workflow_id
        self._face = face

    def get_workflow_id(self) -> str:
        """Return the workflow's id."""
        return self.workflow_id

    if not TYPE_CHECKING:  # A type checker would accept any name.

        def __getattr__(self, name: str) -> Any:
            of_face = () if name.startswith("_") else dir(self._face)
            raise missing_of_handle(type(self).__name__, name, of_face)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.workflow_id!r})"

    def __tidings_slip__(self) -> tuple[str, str]:
        return f"the handle on workflow {self.workflow_id!r}", "pass its workflow_id, or what its get_result() returns"


@as_users_write_it
class WorkflowHandle(_Handle[R]):
    """A handle on a workflow, for its result and its status."""

    __slots__ = ()

    def get_result(self, *, timeout_seconds: Seconds | None = None) -> R:
        """Wait for the workflow to end; return its result or raise its error.

        Args:
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.

        Returns:
            What the workflow returned.

        Raises:
            TimeoutError: the workflow had not ended after `timeout_seconds`. It keeps running.
            DBOSAwaitedWorkflowCancelledError: the workflow was cancelled.
            DBOSNonExistentWorkflowError: no workflow has the handle's id.
            DBOSSerializationError: this program lacks the class of the result or error. The error says which class,
                and what to do.

        Durable: in a workflow the outcome is recorded, and a replay returns or raises it.
        """
        refuse_running_loop("handle.get_result()", f"{self._face._called}.get_result_async", "with its workflow_id")
        operation = partial(get_result, workflow_id=self.workflow_id, timeout_seconds=timeout_seconds)
        return cast(R, self._face._block("get_result", operation))

    def get_status(self) -> WorkflowStatus:
        """Return the current status of the workflow.

        Returns:
            A `WorkflowStatus`.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has the handle's id; it may have been deleted.

        Durable: in a workflow the status is recorded, and a replay returns the same one.
        """
        called = f"{self._face._called}.get_workflow_status_async"
        refuse_running_loop("handle.get_status()", called, "with its workflow_id")
        operation = partial(get_status, workflow_id=self.workflow_id)
        return existing(self._face._block("get_workflow_status", operation), self.workflow_id)


@as_users_write_it
class WorkflowHandleAsync(_Handle[R]):
    """A handle on a workflow, for its result and its status, with `await`."""

    __slots__ = ()

    async def get_result(self, *, timeout_seconds: Seconds | None = None) -> R:
        """Await `WorkflowHandle.get_result`. Cancelling it ends only the wait; the workflow keeps running."""
        operation = partial(get_result, workflow_id=self.workflow_id, timeout_seconds=timeout_seconds)
        return cast(R, await self._face._await(operation, "get_result_async"))

    async def get_status(self) -> WorkflowStatus:
        """Await `WorkflowHandle.get_status`."""
        operation = partial(get_status, workflow_id=self.workflow_id)
        return existing(await self._face._await(operation, "get_workflow_status_async"), self.workflow_id)


def existing(status: WorkflowStatus | None, workflow_id: str) -> WorkflowStatus:
    """Return the status, or raise if there is none."""
    if status is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return status


def get_result(caller: Caller, workflow_id: str, timeout_seconds: Seconds | None) -> Operation[Any]:
    """Await the end of a workflow; recorded in a workflow."""
    timeout = check_timeout(timeout_seconds)
    refuse_own_end({workflow_id})
    if caller.workflow is not None:
        slot = caller.workflow.begin(results.GET_RESULT, target=targets.of_workflow(workflow_id, timeout))
        return results.get_result_recorded(slot, workflow_id, timeout, caller.engine.who_executes)
    return results.get_result(caller.serializer, workflow_id, timeout, caller.engine.who_executes)


def refuse_own_end(workflow_ids: Collection[str]) -> None:
    """Refuse a wait that is only for the end of the workflow that the calling code is in.

    Raises:
        DBOSContextError: that wait would never end.
    """
    scope = scopes.current()
    if scope is None or any(each != scope.run.workflow_id for each in workflow_ids):
        return
    where = "" if scope.attempt is None else f" in its step {scope.attempt.name!r}"
    raise DBOSContextError(
        f"workflow {scope.run.workflow_id!r} would wait{where} for its own end, which can never come. Wait for it "
        "outside of the workflow, or for another workflow"
    )


def check_exists(caller: Caller, workflow_id: str) -> Operation[None]:
    """Check that a workflow exists. Outside of workflows its values are not rebuilt: that may need its classes.

    Raises:
        DBOSNonExistentWorkflowError: no workflow has that id.
    """
    if caller.workflow is not None:
        found = yield from get_status(caller, workflow_id)
    else:
        found = yield Read(FindWorkflow(workflow_id))
    if found is None:
        raise DBOSNonExistentWorkflowError(workflow_id)


def get_status(caller: Caller, workflow_id: str) -> Operation[WorkflowStatus | None]:
    """Read the status of a workflow; recorded in a workflow."""
    read = _read_status(caller.serializer, workflow_id)
    return caller.observed(GET_STATUS, read, f"the status of workflow {workflow_id!r}")


def _read_status(serializer: Serializer, workflow_id: str) -> Operation[WorkflowStatus | None]:
    found: WorkflowRecord | None = yield Read(FindWorkflow(workflow_id))
    if found is None:
        return None
    return status_of(serializer, found)


def status_of(serializer: Serializer, found: WorkflowRecord) -> WorkflowStatus:
    """Return the status in a workflow's record. A value that this program cannot decode is shown as text."""
    what = f"workflow {found.workflow_id!r}"
    error: BaseException | None = None
    if found.damage is not None:
        error = DBOSDamagedWorkflowError(found.workflow_id, found.damage)
    elif found.error is not None:
        error = show_error(serializer, found.error, f"the error of {what}")
    return WorkflowStatus(
        workflow_id=found.workflow_id,
        status=found.status.value,
        name=found.name,
        class_name=found.class_name,
        config_name=found.config_name,
        input=None if found.inputs is None else show(serializer, found.inputs, f"the arguments of {what}"),
        output=None if found.output is None else show(serializer, found.output, f"the result of {what}"),
        error=error,
        created_at=found.created_at_ms,
        updated_at=found.updated_at_ms,
        executor_id=found.executor_id,
        app_version=found.app_version,
        workflow_timeout_ms=found.timeout_ms,
        workflow_deadline_epoch_ms=found.deadline_ms,
        parent_workflow_id=found.parent_id,
        recovery_attempts=found.recovery_attempts,
        program=found.program,
        stuck=_stuck_info(found),
    )


def _stuck_info(found: WorkflowRecord) -> StuckInfo | None:
    stuck = stuck_now(found)
    if stuck is None:
        return None
    return StuckInfo(stuck.version, stuck.operation, stuck.recorded, stuck.called, stuck.at_ms)
