"""Finding, awaiting and cancelling workflows, by whoever knows their ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

from tidings.api.caller import Caller, Face, refuse_running_loop, shared
from tidings.api.filters import WorkflowFilters, filter_from
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
from tidings.core.operations import results
from tidings.core.operations.recorded import observed
from tidings.limits import check_id

H = TypeVar("H", bound=WorkflowHandle[Any] | WorkflowHandleAsync[Any])

WAIT_FIRST = "DBOS.wait_first"


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
    def wait_first(cls, handles: Iterable[H]) -> H:
        """Wait until one of these workflows has ended, however, and return its handle.

        Of several that have ended it is the one that stands first among `handles`.

        Raises:
            ValueError: there are no handles.
            DBOSNonExistentWorkflowError: names the ids that no workflow has.

        Durable: in a workflow, which one it was is recorded, and a replay returns the same.
        """
        by_id = _by_id(handles)
        return by_id[cls._block("wait_first", lambda caller: _wait_first(caller, tuple(by_id)))]

    @shared
    async def wait_first_async(cls, handles: Iterable[H]) -> H:
        """Await `wait_first`."""
        by_id = _by_id(handles)
        return by_id[await cls._await(lambda caller: _wait_first(caller, tuple(by_id)))]

    @shared
    def list_workflows(cls, **filters: Unpack[WorkflowFilters]) -> list[WorkflowStatus]:
        """List workflows, in the order in which they were started.

        Args:
            **filters: keywords; a workflow is listed if it matches all that are given.
                See `WorkflowFilters`.

        Returns:
            A list of `WorkflowStatus`. Where a value cannot be rebuilt here stands the
            `DBOSSerializationError` that says why.

        Raises:
            TypeError, ValueError: a filter is unknown, or not what it should be.

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
        """List what a workflow has recorded, in the order in which its operations began.

        Steps and all other durable operations: messages sent and received, events set and read, children
        started, pauses. One that waits is listed too, without an end.

        Args:
            workflow_id: whose steps.
            load_output: whether to read results and errors, which may be large.
            limit: how many at most; all by default.
            offset: how many to leave out first.

        Returns:
            A list of `StepInfo`. Where a value cannot be rebuilt here stands the `DBOSSerializationError`
            that says why.

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
            workflow_id: the workflow they were sent to.
            limit: how many at most; all by default.
            offset: how many to leave out first.

        Returns:
            A list of `MessageInfo`. Where a value cannot be rebuilt here stands the
            `DBOSSerializationError` that says why.

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
        """List the processes that use the database: which live, and how many workflows each owns.

        The oldest first. A process that ended in good order is not among them; one that died is, for a
        day. Workflows without an owner were given back, and go on in the next process of their version.

        Durable: in a workflow the list is recorded, and a replay returns it.
        """
        return cls._block("list_executors", list_executors)

    @shared
    async def list_executors_async(cls) -> list[ExecutorInfo]:
        """Await `list_executors`."""
        return await cls._await(list_executors)

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


def _by_id(handles: Iterable[H]) -> dict[str, H]:
    by_id: dict[str, H] = {}
    for each in handles:
        if not isinstance(each, (WorkflowHandle, WorkflowHandleAsync)):
            raise TypeError(f"wait_first takes a list of handles, not of {type(each).__name__} ({each!r:.100})")
        by_id.setdefault(each.workflow_id, each)
    if not by_id:
        raise ValueError("wait_first needs one handle or more: of none, none will ever end")
    return by_id


def _wait_first(caller: Caller, workflow_ids: tuple[str, ...]) -> Operation[Any]:
    waiting = results.wait_first(workflow_ids)
    if caller.workflow is None:
        return (yield from waiting)
    slot = caller.workflow.begin(WAIT_FIRST)
    first = yield from observed(slot, waiting, "which workflow ended first")
    if isinstance(first, str) and first not in workflow_ids:
        called = f"{WAIT_FIRST} of {', '.join(map(repr, workflow_ids))}"
        raise slot.run.diverge(slot.branch, slot.number, f"{WAIT_FIRST}, which gave {first!r},", called)
    return first


def _cancel(caller: Caller, workflow_id: str) -> Operation[Any]:
    cancelling = results.cancel(check_id(workflow_id, "workflow_id"))
    return caller.observed("DBOS.cancel_workflow", cancelling, "whether it was pending")
