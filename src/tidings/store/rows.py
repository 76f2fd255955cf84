"""From rows to records, for both stores: their queries name the same columns in the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tidings.model import (
    SET_EVENT,
    WRITE_STREAM,
    Entry,
    EntryState,
    History,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Taken,
    WorkflowRecord,
)

Row = tuple[Any, ...]

# What a history is put together from; each for all workflows at once.
HISTORY: Final = ("read_entries", "read_event_places", "read_item_places", "stream_lengths", "closed_streams")

_STATES: Final = {state.value: state for state in EntryState}


def workflow_of(row: Row) -> WorkflowRecord:
    """Build a workflow from a row of `read_workflows`, or of a query that claims."""
    return WorkflowRecord(row[0], Status(row[1]), *row[2:])


def workflows_by_id(found: Iterable[Row]) -> dict[str, WorkflowRecord]:
    """Build workflows from rows of `read_workflows`."""
    return {row[0]: workflow_of(row) for row in found}


def histories_of(workflow_ids: Sequence[str], found: Mapping[str, Iterable[Row]]) -> list[History]:
    """Build histories, in the order of the ids, from rows of each of the `HISTORY` queries.

    Operations are put into the order in which they began. What a workflow published or wrote to a
    stream is an operation of its own; what a step did so is not, and only counts.
    """
    recorded: defaultdict[str, list[RecordedEntry]] = defaultdict(list)
    versions: defaultdict[str, dict[str, int]] = defaultdict(dict)
    lengths: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    closed: defaultdict[str, list[str]] = defaultdict(list)
    for row in found["read_entries"]:
        recorded[row[0]].append(_entry_of(row[1:]))
    for workflow_id, key, version, *place in found["read_event_places"]:
        highest = versions[workflow_id]
        highest[key] = max(version, highest.get(key, version))
        if place[0] is not None:
            recorded[workflow_id].append(_row_as_entry(SET_EVENT, key, *place))
    for workflow_id, key, *place in found["read_item_places"]:
        recorded[workflow_id].append(_row_as_entry(WRITE_STREAM, key, *place))
    for workflow_id, key, length in found["stream_lengths"]:
        lengths[workflow_id].append((key, length))
    for workflow_id, key in found["closed_streams"]:
        closed[workflow_id].append(key)
    return [
        History(
            workflow_id,
            tuple(sorted(recorded.get(workflow_id, ()), key=lambda each: each.entry.ordinal)),
            tuple(versions.get(workflow_id, {}).items()),
            tuple(lengths.get(workflow_id, ())),
            tuple(closed.get(workflow_id, ())),
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


def page_of(values: Sequence[str] | None, row: Row) -> StreamPage:
    """Build a page from its values and the rest of it: length, closed or not, status."""
    length, is_closed, status = row
    return StreamPage(tuple(values or ()), length, bool(is_closed), None if status is None else Status(status))


def _step_of(row: Row) -> RecordedEntry:
    *entry, event_key, stream_key = row
    place = *row[:3], row[9]
    if event_key is not None:
        return _row_as_entry(SET_EVENT, event_key, *place)
    if stream_key is not None:
        return _row_as_entry(WRITE_STREAM, stream_key, *place)
    return _entry_of(tuple(entry))


def _entry_of(row: Row) -> RecordedEntry:
    branch, position, ordinal, name, state, *rest = row[:13]
    entry = Entry(branch, position, ordinal, name, _STATES[state], *rest)
    return RecordedEntry(entry, Taken(*row[13:]) if row[13] is not None else None)


def _row_as_entry(name: str, key: str, branch: str, position: int, ordinal: int, at_ms: int) -> RecordedEntry:
    """Return the entry that an event or an item of a stream is."""
    entry = Entry(branch, position, ordinal, name, started_at_ms=at_ms, completed_at_ms=at_ms)
    return RecordedEntry(entry, key=key)
