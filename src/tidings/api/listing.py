"""Lists for those who operate workflows: the workflows, their steps, their messages, and the processes.

The values in a list may come from any program, and from any version of it. So a value that cannot be rebuilt here does
not fail the list: it is shown as text (`UndecodedValue`), with the reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypedDict

from tidings.api.filters import count, flag
from tidings.api.handle import WorkflowStatus, status_of
from tidings.core.effects import (
    NOW,
    ExecutorList,
    ListExecutors,
    ListMessages,
    ListSteps,
    ListWorkflows,
    Operation,
    Read,
)
from tidings.core.places import LIMITS
from tidings.engine.caller import Caller
from tidings.error import DBOSDamagedWorkflowError, DBOSNonExistentWorkflowError
from tidings.limits import check_id
from tidings.model import RecordedEntry, StoredMessage, WorkflowFilter, WorkflowRecord
from tidings.serialization import Serializer, show, show_error

LIST_WORKFLOWS = "DBOS.list_workflows"
LIST_STEPS = "DBOS.list_workflow_steps"
LIST_MESSAGES = "DBOS.list_messages"
LIST_EXECUTORS = "DBOS.list_executors"


class StepInfo(TypedDict):
    """One operation that a workflow recorded. Times are in ms since the epoch.

    If this program lacks a class, an `UndecodedValue` shows the output as text, and a `DBOSRecordedError` shows the
    error.

    Keys:
        function_id: its number, from 1: the order in which operations began.
        function_name: the name of the step, or of the operation, as in `DBOS.recv`.
        output: its result; `None` while it waits, and for an event that was set.
        error: the exception it raised, or `None`.
        child_workflow_id: the workflow that it started, or `None`.
        started_at_epoch_ms: when it began, or `None` if that is not recorded.
        completed_at_epoch_ms: when it ended, or `None` while it waits, or if the program gave it up.
    """

    function_id: int
    function_name: str
    output: Any
    error: BaseException | None
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """One message that was sent to a workflow.

    Attributes:
        message_id: unique in the store; later messages of a topic have greater numbers.
        topic: its topic, or `None` if it was sent without one.
        value: what was sent; an `UndecodedValue` if this program lacks its class.
        sender_id: the id of the workflow that sent it, or `None`.
        idempotency_key: the key it was sent with, or `None`.
        sent_at_epoch_ms: when it was sent, in ms on the store's clock.
        age_seconds: the message's age at the time the list was read.
        read_by: the `function_id` of the operation that received it, `None` while it is unread.
    """

    message_id: str
    topic: str | None
    value: Any
    sender_id: str | None
    idempotency_key: str | None
    sent_at_epoch_ms: int
    age_seconds: float
    read_by: int | None


@dataclass(frozen=True, slots=True)
class ExecutorInfo:
    """A process that uses the database, from one launch on. Times are in ms on the store's clock.

    Attributes:
        executor_id: its unique id, as in `WorkflowStatus.executor_id`.
        label: its name for people: the configured `executor_id`.
        host, pid: where it runs.
        app_version: the version of the code with which it executes workflows; `None` if it executes none, such as a
            program that only uses `DBOSClient`.
        program: the configured `name` of the program whose workflows it executes; `None` if it executes none.
        started_at_epoch_ms: when it began.
        lease_expires_at_epoch_ms: when its lease ends, unless it is renewed before.
        is_alive: whether it counts as alive. Other processes take over the workflows of a dead one, one lease length
            later.
        pending_workflows: how many workflows it owns.
    """

    executor_id: str
    label: str
    host: str
    pid: int
    app_version: str | None
    program: str | None
    started_at_epoch_ms: int
    lease_expires_at_epoch_ms: int
    is_alive: bool
    pending_workflows: int


def list_executors(caller: Caller) -> Operation[list[ExecutorInfo]]:
    """List executors; recorded in a workflow."""
    return caller.observed(LIST_EXECUTORS, _read_executors(), "the list of executors")


def _read_executors() -> Operation[list[ExecutorInfo]]:
    listed: ExecutorList = yield Read(ListExecutors())
    now: int = yield NOW
    alive = {each.executor_id for each in listed.alive(now)}
    pending: Counter[str | None] = Counter()
    for group in listed.pending:
        pending[group.executor_id] += group.count
    return [
        ExecutorInfo(
            executor_id=each.executor_id,
            label=each.label,
            host=each.host,
            pid=each.pid,
            app_version=each.app_version,
            program=each.program,
            started_at_epoch_ms=each.started_at_ms,
            lease_expires_at_epoch_ms=each.lease_until_ms,
            is_alive=each.executor_id in alive,
            pending_workflows=pending[each.executor_id],
        )
        for each in sorted(listed.executors, key=lambda each: (each.started_at_ms, each.executor_id))
    ]


def list_workflows(caller: Caller, wanted: WorkflowFilter) -> Operation[list[WorkflowStatus]]:
    """List workflows; recorded in a workflow."""
    return caller.observed(LIST_WORKFLOWS, _read_workflows(caller.serializer, wanted), "the list of workflows")


def _read_workflows(serializer: Serializer, wanted: WorkflowFilter) -> Operation[list[WorkflowStatus]]:
    found: list[WorkflowRecord] = yield Read(ListWorkflows(wanted))
    return [status_of(serializer, each) for each in found]


def list_steps(
    caller: Caller, workflow_id: str, load_output: bool, limit: int | None, offset: int | None
) -> Operation[list[StepInfo]]:
    """List the operations of a workflow; recorded in a workflow."""
    check_id(workflow_id, "workflow_id")
    query = ListSteps(
        workflow_id, count(limit, "limit"), count(offset, "offset") or 0, flag(load_output, "load_output")
    )
    return caller.observed(LIST_STEPS, _read_steps(caller.serializer, query), f"the steps of workflow {workflow_id!r}")


def _read_steps(serializer: Serializer, query: ListSteps) -> Operation[list[StepInfo]]:
    found: list[RecordedEntry] | None = yield Read(query)
    if found is None:
        raise DBOSNonExistentWorkflowError(query.workflow_id)
    return [_step(serializer, each, query) for each in found]


def _step(serializer: Serializer, recorded: RecordedEntry, query: ListSteps) -> StepInfo:
    entry = recorded.entry
    output = entry.output
    if entry.branch == LIMITS:
        output = None  # Its output is data for replays.
    elif recorded.message is not None and query.with_outputs:
        output = recorded.message.body
    what = f"the result of {entry.name} in workflow {query.workflow_id!r}"
    error: BaseException | None = None
    if recorded.damage is not None:
        error = DBOSDamagedWorkflowError(query.workflow_id, recorded.damage)
    elif entry.error is not None:
        error = show_error(serializer, entry.error, f"the error of {entry.name} in workflow {query.workflow_id!r}")
    return StepInfo(
        function_id=entry.ordinal,
        function_name=entry.name,
        output=None if output is None else show(serializer, output, what),
        error=error,
        child_workflow_id=entry.child_workflow_id,
        started_at_epoch_ms=entry.started_at_ms,
        completed_at_epoch_ms=entry.completed_at_ms,
    )


def list_messages(
    caller: Caller, workflow_id: str, limit: int | None, offset: int | None
) -> Operation[list[MessageInfo]]:
    """List the messages sent to a workflow; recorded in a workflow."""
    check_id(workflow_id, "workflow_id")
    query = ListMessages(workflow_id, count(limit, "limit"), count(offset, "offset") or 0)
    read = _read_messages(caller.serializer, query)
    return caller.observed(LIST_MESSAGES, read, f"the messages to workflow {workflow_id!r}")


def _read_messages(serializer: Serializer, query: ListMessages) -> Operation[list[MessageInfo]]:
    found: list[StoredMessage] | None = yield Read(query)
    if found is None:
        raise DBOSNonExistentWorkflowError(query.workflow_id)
    now: int = yield NOW
    return [
        MessageInfo(
            message_id=str(each.seq),
            topic=each.topic,
            value=_value_of(serializer, each, query.workflow_id),
            sender_id=each.sender_id,
            idempotency_key=each.idempotency_key,
            sent_at_epoch_ms=each.sent_at_ms,
            age_seconds=max(now - each.sent_at_ms, 0) / 1_000,
            read_by=each.read_by,
        )
        for each in found
    ]


def _value_of(serializer: Serializer, message: StoredMessage, workflow_id: str) -> Any:
    what = f"message {message.seq} to workflow {workflow_id!r}"
    if message.damage is not None:
        return DBOSDamagedWorkflowError(workflow_id, f"{what} is damaged: {message.damage}")
    return show(serializer, message.body, what)
