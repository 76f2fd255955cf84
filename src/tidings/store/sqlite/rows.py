"""Between the store's records and the rows of its tables. The order of columns is that of the queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tidings.model import (
    Entry,
    EntryState,
    NewWorkflow,
    PublishedEvent,
    RecordedEntry,
    Status,
    Taken,
    WorkflowRecord,
)

Row = tuple[Any, ...]

# What a publishing operation is called in the history: its row is in `tidings_events`, without a name.
SET_EVENT: Final = "DBOS.set_event"

_STATES: Final = {state.value: state for state in EntryState}


def row_of_start(start: NewWorkflow, executor_id: str) -> Row:
    """Parameters of `start_workflow`."""
    return (
        start.workflow_id,
        start.name,
        start.inputs,
        start.serialization,
        executor_id,
        start.app_version,
        start.parent_id,
        start.created_at_ms,
    )


def row_of_entry(workflow_id: str | None, entry: Entry, message_seq: int | None, anyway: bool) -> Row:
    """Parameters of `write_entry`; `anyway` replaces also an entry that is not open."""
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


def workflow_of(row: Row) -> WorkflowRecord:
    """Build a workflow from a row of `read_workflows` or `claim_workflow`."""
    return WorkflowRecord(row[0], Status(row[1]), *row[2:])


def recorded_entry_of(row: Row) -> RecordedEntry:
    """Build an entry, with the message it took, from a row of `read_entries` without the workflow's id."""
    branch, position, ordinal, name, state, *rest = row[:11]
    entry = Entry(branch, position, ordinal, name, _STATES[state], *rest)
    return RecordedEntry(entry, Taken(*row[11:]) if row[11] is not None else None)


def recorded_event_of(key: str, branch: str, position: int, ordinal: int, at_ms: int) -> RecordedEntry:
    """Build the entry that a published event is."""
    entry = Entry(branch, position, ordinal, SET_EVENT, started_at_ms=at_ms, completed_at_ms=at_ms)
    return RecordedEntry(entry, event_key=key)


def by_ordinal(entries: Iterable[RecordedEntry]) -> tuple[RecordedEntry, ...]:
    """Put entries into the order in which their operations began."""
    return tuple(sorted(entries, key=lambda each: each.entry.ordinal))
