"""From rows to records, for both stores: their queries name the same columns in the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tidings.model import (
    SET_EVENT,
    Entry,
    EntryState,
    History,
    RecordedEntry,
    Status,
    StoredMessage,
    Taken,
    WorkflowRecord,
)

Row = tuple[Any, ...]

_STATES: Final = {state.value: state for state in EntryState}


def workflow_of(row: Row) -> WorkflowRecord:
    """Build a workflow from a row of `read_workflows`, or of a query that claims."""
    return WorkflowRecord(row[0], Status(row[1]), *row[2:])


def workflows_by_id(found: Iterable[Row]) -> dict[str, WorkflowRecord]:
    """Build workflows from rows of `read_workflows`."""
    return {row[0]: workflow_of(row) for row in found}


def histories_of(workflow_ids: Sequence[str], entries: Iterable[Row], events: Iterable[Row]) -> list[History]:
    """Build histories, in the order of the ids, from rows of `read_entries` and `read_event_places`.

    Operations are put into the order in which they began. An event that a workflow published is an
    operation of its own; one that a step published only counts its key's versions.
    """
    recorded: defaultdict[str, list[RecordedEntry]] = defaultdict(list)
    versions: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in entries:
        recorded[row[0]].append(_entry_of(row[1:]))
    for workflow_id, key, version, branch, position, ordinal, at_ms in events:
        highest = versions[workflow_id]
        highest[key] = max(version, highest.get(key, version))
        if branch is not None:
            recorded[workflow_id].append(_event_of(key, branch, position, ordinal, at_ms))
    return [
        History(
            workflow_id,
            tuple(sorted(recorded.get(workflow_id, ()), key=lambda each: each.entry.ordinal)),
            tuple(versions.get(workflow_id, {}).items()),
        )
        for workflow_id in workflow_ids
    ]


def steps_of(found: Sequence[Row]) -> list[RecordedEntry] | None:
    """Build a part of a history from rows of `read_steps`, which stand in its order."""
    if not found:
        return None
    return [_step_of(row) for row in found if row[2] is not None]


def messages_of(found: Sequence[Row]) -> list[StoredMessage] | None:
    """Build messages from rows of `read_messages`."""
    if not found:
        return None
    return [StoredMessage(*row) for row in found if row[0] is not None]


def _step_of(row: Row) -> RecordedEntry:
    *entry, event_key = row
    if event_key is None:
        return _entry_of(tuple(entry))
    branch, position, ordinal, at_ms = *row[:3], row[9]
    return _event_of(event_key, branch, position, ordinal, at_ms)


def _entry_of(row: Row) -> RecordedEntry:
    branch, position, ordinal, name, state, *rest = row[:13]
    entry = Entry(branch, position, ordinal, name, _STATES[state], *rest)
    return RecordedEntry(entry, Taken(*row[13:]) if row[13] is not None else None)


def _event_of(key: str, branch: str, position: int, ordinal: int, at_ms: int) -> RecordedEntry:
    entry = Entry(branch, position, ordinal, SET_EVENT, started_at_ms=at_ms, completed_at_ms=at_ms)
    return RecordedEntry(entry, key=key)
