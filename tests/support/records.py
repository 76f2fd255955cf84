"""The contents of a database, read without the library, in one form for both stores."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg


class WorkflowRow(NamedTuple):
    """A workflow as it is stored."""

    workflow_id: str
    status: str
    name: str
    output: str | None
    error: str | None
    epoch: int
    executor_id: str | None
    parent_id: str | None
    class_name: str | None
    config_name: str | None
    timeout_ms: int | None
    deadline_ms: int | None


class EntryRow(NamedTuple):
    """An entry as it is stored."""

    workflow_id: str
    branch: str
    position: int
    ordinal: int
    name: str
    state: str
    output: str | None
    error: str | None
    child_workflow_id: str | None
    message_seq: int | None
    deadline_ms: int | None
    started_at_ms: int | None
    completed_at_ms: int | None


class MessageRow(NamedTuple):
    """A message as it is stored."""

    seq: int
    destination_id: str
    topic: str | None
    body: str
    sender_id: str | None
    read_by_branch: str | None
    read_by_position: int | None


class EventRow(NamedTuple):
    """A version of an event as it is stored."""

    workflow_id: str
    key: str
    version: int
    value: str
    branch: str | None
    position: int | None


class ItemRow(NamedTuple):
    """An item of a stream as it is stored. An item that a step wrote has the number of its attempt."""

    workflow_id: str
    key: str
    offset: int
    value: str
    branch: str
    position: int
    ordinal: int
    attempt: int | None


class ClosedStreamRow(NamedTuple):
    """A stream that was closed."""

    workflow_id: str
    key: str


class Records(NamedTuple):
    """All rows of a database."""

    workflows: list[WorkflowRow]
    entries: list[EntryRow]
    messages: list[MessageRow]
    events: list[EventRow]
    items: list[ItemRow]
    closed_streams: list[ClosedStreamRow]

    def workflow(self, workflow_id: str) -> WorkflowRow:
        """Return the workflow of this id."""
        [found] = [each for each in self.workflows if each.workflow_id == workflow_id]
        return found

    def entries_of(self, workflow_id: str) -> list[EntryRow]:
        """Return the entries of a workflow, by place."""
        return [each for each in self.entries if each.workflow_id == workflow_id]

    def events_of(self, workflow_id: str) -> dict[str, str]:
        """Return the latest value of each event of a workflow."""
        return {each.key: each.value for each in self.events if each.workflow_id == workflow_id}

    def stream_of(self, workflow_id: str, key: str) -> list[str]:
        """Return the values of a stream, in order; its offsets must be without gaps."""
        items = [each for each in self.items if (each.workflow_id, each.key) == (workflow_id, key)]
        assert [each.offset for each in items] == list(range(len(items)))
        return [each.value for each in items]


_QUERIES = (
    """select {id}, status, name, output, error, epoch, executor_id, parent_id, class_name, config_name, timeout_ms,
    deadline_ms from {p}workflows as w order by seq""",
    """select {id}, branch, position, ordinal, e.name, state, e.output, e.error, child_workflow_id, message_seq,
    e.deadline_ms, started_at_ms, completed_at_ms from {p}entries as e {join_e} order by {id}, branch, position""",
    """select m.seq, {destination}, topic, body, sender_id, read_by_branch, read_by_position
    from {p}messages as m {join_m} order by m.seq""",
    "select {id}, key, version, value, branch, position from {p}events as e {join_e} order by {id}, key, version",
    """select {id}, key, item_offset, value, branch, position, ordinal, attempt from {p}stream_items as e {join_e}
    order by {id}, key, item_offset""",
    "select {id}, key from {p}closed_streams as e {join_e} order by {id}, key",
)
_TABLES = ("workflows", "entries", "messages", "events", "stream_items", "closed_streams", "executors")
_SQLITE = {
    "p": "tidings_",
    "id": "w.workflow_id",
    "destination": "w.workflow_id",
    "join_e": "join tidings_workflows as w on w.seq = e.workflow_seq",
    "join_m": "join tidings_workflows as w on w.seq = m.destination_seq",
}
_POSTGRES = {"p": "tidings.", "id": "workflow_id", "destination": "destination_id", "join_e": "", "join_m": ""}


class Inspector:
    """The test's own connection to a database, for many cheap queries."""

    def __init__(self, url: str) -> None:
        self._sqlite: sqlite3.Connection | None = None
        self._postgres: psycopg.Connection[Any] | None = None
        if url.startswith("sqlite"):
            self._sqlite = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            # Only the library checkpoints: see its notes on SQLite's WAL-reset bug.
            self._sqlite.execute("pragma wal_autocheckpoint = 0")
        else:
            self._postgres = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in (self._sqlite, self._postgres):
            if connection is not None:
                connection.close()

    def read(self) -> Records:
        """Read all rows."""
        workflows, entries, messages, events, items, closed_streams = (self._run(query) for query in _QUERIES)
        return Records(
            [WorkflowRow(*row) for row in workflows],
            [EntryRow(*row) for row in entries],
            [MessageRow(*row) for row in messages],
            [EventRow(*row) for row in events],
            [ItemRow(*row) for row in items],
            [ClosedStreamRow(*row) for row in closed_streams],
        )

    def clear(self) -> None:
        """Delete all rows; the tables stay."""
        for table in _TABLES:
            self._run(f"delete from {{p}}{table}")

    def _run(self, query: str) -> list[tuple[Any, ...]]:
        if self._sqlite is not None:
            return self._sqlite.execute(query.format_map(_SQLITE)).fetchall()
        assert self._postgres is not None
        cursor = self._postgres.execute(query.format_map(_POSTGRES).encode())
        return cursor.fetchall() if cursor.description else []


def read_records(url: str) -> Records:
    """Read all rows of the database at `url`."""
    with Inspector(url) as inspector:
        return inspector.read()
