"""From rows of the tables to the store's records. The order of columns is that of the queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tidings.model import Entry, EntryState, RecordedEntry, Status, Taken, WorkflowRecord
from tidings.store.postgres.wire import Row

# What a publishing operation is called in the history: its row is in `events`, without a name.
SET_EVENT: Final = "DBOS.set_event"

_STATES: Final = {state.value: state for state in EntryState}


def workflow_of(row: Row) -> WorkflowRecord:
    """Build a workflow from a row of `read_workflows`, `claim_workflows` or `reclaim_workflows`."""
    return WorkflowRecord(row[0], Status(row[1]), *row[2:])


def recorded_entry_of(row: Row) -> RecordedEntry:
    """Build an entry, with the message it took, from a row of `read_entries`."""
    _, branch, position, ordinal, name, state, *rest = row[:12]
    entry = Entry(branch, position, ordinal, name, _STATES[state], *rest)
    return RecordedEntry(entry, Taken(*row[12:]) if row[12] is not None else None)


def recorded_event_of(key: str, branch: str, position: int, ordinal: int, at_ms: int) -> RecordedEntry:
    """Build the entry that a published event is."""
    entry = Entry(branch, position, ordinal, SET_EVENT, started_at_ms=at_ms, completed_at_ms=at_ms)
    return RecordedEntry(entry, event_key=key)


def by_ordinal(entries: Iterable[RecordedEntry]) -> tuple[RecordedEntry, ...]:
    """Put entries into the order in which their operations began."""
    return tuple(sorted(entries, key=lambda each: each.entry.ordinal))
