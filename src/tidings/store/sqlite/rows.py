"""From records to the parameters of statements, in the queries' order."""

from __future__ import annotations

from tidings.model import Entry, Executor, NewWorkflow, PublishedEvent, StreamItem
from tidings.store.rows import Row


def row_of_executor(executor: Executor) -> Row:
    """Parameters of `add_executor`."""
    return (
        executor.executor_id,
        executor.label,
        executor.lease_until_ms,
        executor.lease_ms,
        executor.host,
        executor.pid,
        executor.started_at_ms,
        executor.app_version,
        executor.program,
        executor.code_hash,
        int(executor.takes_other_versions),  # A program may have registered an adapter for `bool`.
    )


def row_of_start(start: NewWorkflow, executor_id: str) -> Row:
    """Parameters of `start_workflow`."""
    return (
        start.workflow_id,
        start.name,
        start.inputs,
        start.serialization,
        int(start.is_owned),  # `epoch`
        executor_id if start.is_owned else None,
        start.app_version,
        start.parent_id,
        start.created_at_ms,
        start.created_at_ms,  # `updated_at_ms`
        start.class_name,
        start.config_name,
        start.timeout_ms,
        start.deadline_ms,
        start.program,
    )


def row_of_entry(workflow_id: str | None, entry: Entry, message_seq: int | None, anyway: bool) -> Row:
    """Parameters of `write_entry`; with `anyway` it also replaces an entry that is not open."""
    return (
        workflow_id,
        entry.branch,
        entry.position,
        entry.ordinal,
        entry.name,
        entry.state.value,
        entry.output,
        entry.error,
        entry.child_workflow_id,
        message_seq,
        entry.deadline_ms,
        entry.started_at_ms,
        entry.completed_at_ms,
        entry.finished,
        entry.begun,
        entry.target,
        anyway,
    )


def row_of_event(workflow_id: str | None, event: PublishedEvent) -> Row:
    """Parameters of `publish_event`."""
    return (
        workflow_id,
        event.key,
        event.version,
        event.branch,
        event.position,
        event.ordinal,
        event.at_ms,
        event.value,
    )


def row_of_item(workflow_id: str | None, item: StreamItem) -> Row:
    """Parameters of `append_item`."""
    return (
        workflow_id,
        item.key,
        item.offset,
        item.branch,
        item.position,
        item.ordinal,
        item.attempt,
        item.at_ms,
        item.value,
    )
