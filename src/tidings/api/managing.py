"""Finding, listing, awaiting and cancelling workflows by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Unpack

from tidings.api.caller import Face, refuse_running_loop, shared
from tidings.api.filters import WorkflowFilters, filter_from, flag
from tidings.api.handle import (
    WorkflowHandle,
    WorkflowHandleAsync,
    WorkflowStatus,
    check_exists,
    get_result,
    get_status,
)
from tidings.api.listing import (
    ExecutorInfo,
    MessageInfo,
    StepInfo,
    list_executors,
    list_messages,
    list_steps,
    list_workflows,
)
from tidings.core.effects import Operation
from tidings.core.operations.cancelling import CANCEL, CANCEL_SEVERAL, Cancellation, Order
from tidings.engine import cancelling
from tidings.engine.caller import Caller
from tidings.limits import Seconds, check_id
from tidings.slips import given


class Management(Face):
    """Queries about workflows that were started, and their cancellation."""

    @shared
    def retrieve_workflow(cls, workflow_id: str, existing_workflow: bool = True) -> WorkflowHandle[Any]:
        """Return a handle on a workflow by its id.

        Args:
            workflow_id: its id.
            existing_workflow: whether to check that the workflow exists.

        Returns:
            A handle, for the result and the status.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: in a workflow the result of the check is recorded, and a replay gets the same one.
        """
        check_id(workflow_id, "workflow_id")
        refuse_running_loop(f"{cls._called}.retrieve_workflow")
        if flag(existing_workflow, "existing_workflow"):
            cls._block("retrieve_workflow", lambda caller: check_exists(caller, workflow_id))
        return WorkflowHandle(workflow_id, cls)

    @shared
    async def retrieve_workflow_async(
        cls, workflow_id: str, existing_workflow: bool = True
    ) -> WorkflowHandleAsync[Any]:
        """Await `retrieve_workflow`."""
        check_id(workflow_id, "workflow_id")
        if flag(existing_workflow, "existing_workflow"):
            await cls._await(lambda caller: check_exists(caller, workflow_id))
        return WorkflowHandleAsync(workflow_id, cls)

    @shared
    def get_workflow_status(cls, workflow_id: str) -> WorkflowStatus | None:
        """Return the status of a workflow.

        Args:
            workflow_id: its id.

        Returns:
            A `WorkflowStatus`, or `None` if no workflow has that id. If this program lacks the class of a value, the
            value is shown as text (`UndecodedValue`).

        Raises:
            DBOSLimitError: the id is outside its limits.

        Durable: in a workflow the status is recorded, and a replay returns the same one.
        """
        check_id(workflow_id, "workflow_id")
        return cls._block("get_workflow_status", lambda caller: get_status(caller, workflow_id))

    @shared
    async def get_workflow_status_async(cls, workflow_id: str) -> WorkflowStatus | None:
        """Await `get_workflow_status`."""
        check_id(workflow_id, "workflow_id")
        return await cls._await(lambda caller: get_status(caller, workflow_id))

    @shared
    def get_result(cls, workflow_id: str, *, timeout_seconds: Seconds | None = None) -> Any:
        """Wait for a workflow to end; return its result or raise its error, as `WorkflowHandle.get_result`.

        Args:
            workflow_id: its id.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.

        Returns:
            What the workflow returned.

        Raises:
            TimeoutError: the workflow had not ended after `timeout_seconds`. It keeps running.
            DBOSAwaitedWorkflowCancelledError: the workflow was cancelled.
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSSerializationError: this program lacks the class of the result or error. The error says which class, and
                what to do.

        Durable: in a workflow the outcome is recorded, and a replay returns or raises it.
        """
        check_id(workflow_id, "workflow_id")
        return cls._block("get_result", lambda caller: get_result(caller, workflow_id, timeout_seconds))

    @shared
    async def get_result_async(cls, workflow_id: str, *, timeout_seconds: Seconds | None = None) -> Any:
        """Await `get_result`."""
        check_id(workflow_id, "workflow_id")
        return await cls._await(lambda caller: get_result(caller, workflow_id, timeout_seconds))

    @shared
    def list_workflows(cls, **filters: Unpack[WorkflowFilters]) -> list[WorkflowStatus]:
        """List workflows, in the order in which they were started.

        Args:
            **filters: keywords, see `WorkflowFilters`. A workflow is listed if it matches all of them.

        Returns:
            A list of `WorkflowStatus`. If this program lacks the class of a value, an `UndecodedValue` shows the value
            as text and says why.

        Raises:
            TypeError, ValueError: a filter is unknown or has a bad value.

        Durable: in a workflow the list is recorded, and a replay returns it.
        """
        return cls._block("list_workflows", lambda caller: list_workflows(caller, filter_from(filters)))

    @shared
    async def list_workflows_async(cls, **filters: Unpack[WorkflowFilters]) -> list[WorkflowStatus]:
        """Await `list_workflows`."""
        return await cls._await(lambda caller: list_workflows(caller, filter_from(filters)))

    @shared
    def list_workflow_steps(
        cls, workflow_id: str, *, load_output: bool = True, limit: int | None = None, offset: int | None = None
    ) -> list[StepInfo]:
        """List the operations that a workflow has recorded, in the order in which they began.

        These are steps and all other durable operations: messages sent and received, events set and read, children
        started, pauses. An operation that still waits is listed too, without an end.

        Args:
            workflow_id: its id.
            load_output: whether to read results and errors, which may be large.
            limit: the greatest number to list; all by default.
            offset: how many to skip first.

        Returns:
            A list of `StepInfo`. If this program lacks the class of a value, an `UndecodedValue` shows the value as
            text and says why.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: in a workflow the list is recorded, and a replay returns it.
        """
        return cls._block(
            "list_workflow_steps", lambda caller: list_steps(caller, workflow_id, load_output, limit, offset)
        )

    @shared
    async def list_workflow_steps_async(
        cls, workflow_id: str, *, load_output: bool = True, limit: int | None = None, offset: int | None = None
    ) -> list[StepInfo]:
        """Await `list_workflow_steps`."""
        return await cls._await(lambda caller: list_steps(caller, workflow_id, load_output, limit, offset))

    @shared
    def list_messages(
        cls, workflow_id: str, *, limit: int | None = None, offset: int | None = None
    ) -> list[MessageInfo]:
        """List the messages sent to a workflow, read and unread, in the order in which they were sent.

        Args:
            workflow_id: the id of that workflow.
            limit: the greatest number to list; all by default.
            offset: how many to skip first.

        Returns:
            A list of `MessageInfo`. If this program lacks the class of a value, an `UndecodedValue` shows the value as
            text and says why.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: in a workflow the list is recorded, and a replay returns it.
        """
        return cls._block("list_messages", lambda caller: list_messages(caller, workflow_id, limit, offset))

    @shared
    async def list_messages_async(
        cls, workflow_id: str, *, limit: int | None = None, offset: int | None = None
    ) -> list[MessageInfo]:
        """Await `list_messages`."""
        return await cls._await(lambda caller: list_messages(caller, workflow_id, limit, offset))

    @shared
    def list_executors(cls) -> list[ExecutorInfo]:
        """List the processes that use the database: whether each is alive, and how many workflows it owns.

        A process that shut down in order is not listed. A process that died is listed for a day. Workflows without an
        owner were given back at a shutdown; the next process of their version resumes them.

        Returns:
            A list of `ExecutorInfo`, the oldest first.

        Durable: in a workflow the list is recorded, and a replay returns it.
        """
        return cls._block("list_executors", list_executors)

    @shared
    async def list_executors_async(cls) -> list[ExecutorInfo]:
        """Await `list_executors`."""
        return await cls._await(list_executors)

    @shared
    def cancel_workflow(cls, workflow_id: str, *, cancel_children: bool = False) -> Cancellation:
        """Cancel a workflow if it is pending. If it has ended, this does nothing.

        Any wait of the workflow ends at once. A running step is not interrupted, but its result is not recorded, and it
        can no longer start workflows.

        Args:
            workflow_id: the id of the workflow.
            cancel_children: whether to cancel all workflows below it too: its children, started by its code or its
                steps, their children, and so on, in any process. They are cancelled even if the workflow itself has
                ended. This is done in parts, each of them atomic; workflows that are started meanwhile are included.

        Returns:
            A `Cancellation`: which workflows were cancelled, and whether this one had already ended. That is logged
            too.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: when it returns. In a workflow the result is recorded; a replay cancels nothing and returns the same.
        After a crash in the middle the rest is cancelled, and the result names all workflows.
        """
        operation = partial(_cancel, CANCEL, [workflow_id], cancel_children, must_exist=True)
        report: Cancellation = cls._block("cancel_workflow", operation)
        return report

    @shared
    async def cancel_workflow_async(cls, workflow_id: str, *, cancel_children: bool = False) -> Cancellation:
        """Await `cancel_workflow`."""
        report: Cancellation = await cls._await(
            partial(_cancel, CANCEL, [workflow_id], cancel_children, must_exist=True)
        )
        return report

    @shared
    def cancel_workflows(cls, workflow_ids: Iterable[str], *, cancel_children: bool = False) -> Cancellation:
        """Cancel several workflows in few commits, as `cancel_workflow` does for one.

        Args:
            workflow_ids: their ids. The result names those that do not exist.
            cancel_children: whether to cancel all workflows below them too.

        Returns:
            A `Cancellation`: which workflows were cancelled, which had already ended, and which do not exist.

        Raises:
            TypeError: `workflow_ids` is not a list of ids.
            DBOSLimitError: an id is outside its limits; nothing was cancelled.

        Durable: as `cancel_workflow`.
        """
        ids = _ids(workflow_ids)
        report: Cancellation = cls._block("cancel_workflows", partial(_cancel, CANCEL_SEVERAL, ids, cancel_children))
        return report

    @shared
    async def cancel_workflows_async(
        cls, workflow_ids: Iterable[str], *, cancel_children: bool = False
    ) -> Cancellation:
        """Await `cancel_workflows`."""
        ids = _ids(workflow_ids)
        report: Cancellation = await cls._await(partial(_cancel, CANCEL_SEVERAL, ids, cancel_children))
        return report


def _ids(workflow_ids: Iterable[str]) -> list[str]:
    several: object = workflow_ids
    if isinstance(several, str) or not isinstance(several, Iterable):
        hint = f"; for one, write [{several!r:.100}]" if isinstance(several, str) else ""
        raise TypeError(f"workflow_ids must be a list of ids, not {given(several)}{hint}")
    return list(workflow_ids)


def _cancel(
    name: str, workflow_ids: list[str], children: bool, caller: Caller, *, must_exist: bool = False
) -> Operation[Any]:
    for each in workflow_ids:
        check_id(each, "workflow_id")
    flag(children, "cancel_children")
    return cancelling.cancel(
        caller, name, Order(workflow_ids, children=children, must_exist=must_exist, me=caller.workflow_id)
    )
