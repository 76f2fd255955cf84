"""Finding, awaiting and cancelling workflows, by whoever knows their ids."""

from __future__ import annotations

from typing import Any

from tidings.api.caller import Caller, Face, refuse_running_loop, shared
from tidings.api.handle import (
    WorkflowHandle,
    WorkflowHandleAsync,
    WorkflowStatus,
    check_exists,
    get_result,
    get_status,
)
from tidings.core.effects import Operation
from tidings.core.operations import results
from tidings.core.operations.recorded import observed
from tidings.limits import check_id


class Management(Face):
    """What may be asked of workflows that have been started, and done to them."""

    @shared
    def retrieve_workflow(cls, workflow_id: str, existing_workflow: bool = True) -> WorkflowHandle[Any]:
        """Return a handle on a workflow by its id.

        Args:
            workflow_id: its id.
            existing_workflow: whether to check that there is one.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.
        """
        check_id(workflow_id, "workflow_id")
        refuse_running_loop(f"{cls._called}.retrieve_workflow")
        if existing_workflow:
            cls._block("retrieve_workflow", lambda caller: check_exists(caller, workflow_id))
        return WorkflowHandle(workflow_id, cls)

    @shared
    async def retrieve_workflow_async(
        cls, workflow_id: str, existing_workflow: bool = True
    ) -> WorkflowHandleAsync[Any]:
        """Await `retrieve_workflow`."""
        check_id(workflow_id, "workflow_id")
        if existing_workflow:
            await cls._await(lambda caller: check_exists(caller, workflow_id))
        return WorkflowHandleAsync(workflow_id, cls)

    @shared
    def get_workflow_status(cls, workflow_id: str) -> WorkflowStatus | None:
        """Return the status of a workflow, `None` if no workflow has that id.

        Raises:
            DBOSSerializationError: its arguments or its result cannot be rebuilt here.

        Durable: in a workflow it is recorded, and a replay returns the same.
        """
        check_id(workflow_id, "workflow_id")
        return cls._block("get_workflow_status", lambda caller: get_status(caller, workflow_id))

    @shared
    async def get_workflow_status_async(cls, workflow_id: str) -> WorkflowStatus | None:
        """Await `get_workflow_status`."""
        check_id(workflow_id, "workflow_id")
        return await cls._await(lambda caller: get_status(caller, workflow_id))

    @shared
    def get_result(cls, workflow_id: str, *, timeout_seconds: float | None = None) -> Any:
        """Wait for a workflow to end; return its result or raise its error, as `WorkflowHandle.get_result`.

        Raises:
            TimeoutError: it had not ended after `timeout_seconds`; it goes on.
            DBOSAwaitedWorkflowCancelledError: it was cancelled.
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: in a workflow, what came of it is recorded, and a replay returns or raises it.
        """
        check_id(workflow_id, "workflow_id")
        return cls._block("get_result", lambda caller: get_result(caller, workflow_id, timeout_seconds))

    @shared
    async def get_result_async(cls, workflow_id: str, *, timeout_seconds: float | None = None) -> Any:
        """Await `get_result`."""
        check_id(workflow_id, "workflow_id")
        return await cls._await(lambda caller: get_result(caller, workflow_id, timeout_seconds))

    @shared
    def cancel_workflow(cls, workflow_id: str) -> None:
        """Cancel a workflow, if it is pending; harmless if it has ended.

        It is woken at once from whatever it waits for. A step that is running is not interrupted;
        what it returns is not recorded.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: when it returns. In a workflow, a replay does not cancel again.
        """
        cls._block("cancel_workflow", lambda caller: _cancel(caller, workflow_id))

    @shared
    async def cancel_workflow_async(cls, workflow_id: str) -> None:
        """Await `cancel_workflow`."""
        await cls._await(lambda caller: _cancel(caller, workflow_id))


def _cancel(caller: Caller, workflow_id: str) -> Operation[Any]:
    cancelling = results.cancel(check_id(workflow_id, "workflow_id"))
    if caller.workflow is not None:
        return observed(caller.workflow.begin("DBOS.cancel_workflow"), cancelling, "whether it was pending")
    return cancelling
