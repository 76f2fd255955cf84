"""Handles on workflows, and what their status says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

from tidings.api.caller import Caller, Face
from tidings.core.effects import FindWorkflow, Operation, Read
from tidings.core.operations import results
from tidings.error import DBOSDamagedWorkflowError, DBOSNonExistentWorkflowError
from tidings.limits import check_timeout
from tidings.model import WorkflowRecord
from tidings.serialization import Serializer, load, load_error

R = TypeVar("R")

GET_STATUS = "DBOS.get_status"


@dataclass(frozen=True, slots=True)
class WorkflowStatus:
    """What the store knows of a workflow. Times are in ms since the epoch.

    Attributes:
        workflow_id: its id.
        status: PENDING, SUCCESS, ERROR, CANCELLED or MAX_RECOVERY_ATTEMPTS_EXCEEDED; or whatever else stands
            there, written by a newer version or by hand.
        name: the name of its function.
        class_name, config_name: the class whose method it is, and the configured instance it was
            called on; `None` where there is none.
        input: `{"args": [...], "kwargs": {...}}`.
        output: its result, if it succeeded.
        error: the exception it ended with, if it failed; a `DBOSDamagedWorkflowError` if its row is damaged.
        created_at, updated_at: when it was started, and last changed its status.
        executor_id: the process that runs or ran it.
        app_version: the version of the code that started it.
        workflow_timeout_ms: how long it may take from its start, if that was set for it.
        workflow_deadline_epoch_ms: when it is cancelled if it has not ended, by its own timeout or
            its parent's.
        parent_workflow_id: the workflow that started it, or `None`.
        recovery_attempts: how many processes died while they executed it, since it last got on.
        program: the configured `name` of the program that it belongs to, whose processes alone execute it; `None`
            if it was started before programs were told apart.
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


class _Handle(Generic[R]):
    __slots__ = ("_face", "workflow_id")

    def __init__(self, workflow_id: str, face: Face | type[Face]) -> None:
        self.workflow_id = workflow_id
        self._face = face

    def get_workflow_id(self) -> str:
        """Return the workflow's id."""
        return self.workflow_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.workflow_id!r})"


class WorkflowHandle(_Handle[R]):
    """A workflow that was started, to be asked for its result."""

    __slots__ = ()

    def get_result(self, *, timeout_seconds: float | None = None) -> R:
        """Wait for the workflow to end; return its result or raise its error.

        Raises:
            TimeoutError: it had not ended after `timeout_seconds`; it goes on.
            DBOSAwaitedWorkflowCancelledError: it was cancelled.

        Durable: in a workflow, what came of it is recorded, and a replay returns or raises it.
        """
        operation = partial(get_result, workflow_id=self.workflow_id, timeout_seconds=timeout_seconds)
        return cast(R, self._face._block("get_result", operation))

    def get_status(self) -> WorkflowStatus:
        """Return what the store knows of the workflow now.

        Durable: in a workflow it is recorded, and a replay returns the same.
        """
        operation = partial(get_status, workflow_id=self.workflow_id)
        return existing(self._face._block("get_workflow_status", operation), self.workflow_id)


class WorkflowHandleAsync(_Handle[R]):
    """A workflow that was started, to be asked for its result with `await`."""

    __slots__ = ()

    async def get_result(self, *, timeout_seconds: float | None = None) -> R:
        """Await `WorkflowHandle.get_result`. Cancelled, only the waiting ends; the workflow goes on."""
        return cast(R, await self._face._await(lambda caller: get_result(caller, self.workflow_id, timeout_seconds)))

    async def get_status(self) -> WorkflowStatus:
        """Await `WorkflowHandle.get_status`."""
        return existing(await self._face._await(lambda caller: get_status(caller, self.workflow_id)), self.workflow_id)


def existing(status: WorkflowStatus | None, workflow_id: str) -> WorkflowStatus:
    """Return the status, which must be there."""
    if status is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return status


def get_result(caller: Caller, workflow_id: str, timeout_seconds: float | None) -> Operation[Any]:
    """Await the end of a workflow; recorded in a workflow."""
    timeout = check_timeout(timeout_seconds)
    if caller.workflow is not None:
        return results.get_result_recorded(caller.workflow.begin(results.GET_RESULT), workflow_id, timeout)
    return results.get_result(caller.serializer, workflow_id, timeout)


def check_exists(caller: Caller, workflow_id: str) -> Operation[None]:
    """Make sure that there is a workflow. Outside of workflows its values are not rebuilt: that may need its classes.

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
    return status_of(serializer, found, load, load_error)


def status_of(
    serializer: Serializer,
    found: WorkflowRecord,
    rebuild: Callable[[Serializer, str, str], Any],
    rebuild_error: Callable[[Serializer, str], BaseException],
) -> WorkflowStatus:
    """Return what a record says of its workflow, its values and its error rebuilt by these."""
    what = f"workflow {found.workflow_id!r}"
    error: BaseException | None = None
    if found.damage is not None:
        error = DBOSDamagedWorkflowError(found.workflow_id, found.damage)
    elif found.error is not None:
        error = rebuild_error(serializer, found.error)
    return WorkflowStatus(
        workflow_id=found.workflow_id,
        status=found.status.value,
        name=found.name,
        class_name=found.class_name,
        config_name=found.config_name,
        input=None if found.inputs is None else rebuild(serializer, found.inputs, f"the arguments of {what}"),
        output=None if found.output is None else rebuild(serializer, found.output, f"the result of {what}"),
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
    )
