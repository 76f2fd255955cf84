"""The reading side of the store: every query, on a line of its own. For the reader's thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tidings.model import (
    End,
    EventRead,
    Executor,
    History,
    PendingGroup,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store.lists import search_for
from tidings.store.postgres.arrays import bigints, texts
from tidings.store.postgres.connect import Database
from tidings.store.postgres.line import Answers, Line
from tidings.store.postgres.statements import StatementCall, Value
from tidings.store.protocol import MOST_COUNTED, Severed
from tidings.store.rows import (
    HISTORY,
    end_of,
    executor_of,
    group_of,
    histories_of,
    messages_of,
    page_of,
    steps_of,
    workflow_of,
    workflows_by_id,
)

# Larger offsets are replaced by this one. No stream has an item at either.
_LAST_OFFSET: Final = 2**63 - 1


class ReadingSide:
    """The queries of `Store`."""

    def __init__(self, database: Database) -> None:
        self._reader = Line(database, only_reads=True)

    def now_ms(self) -> int:
        """See `Store.now_ms`."""
        return int(self._read(StatementCall("now_ms"))["now_ms"][0][0])

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """See `Store.histories`."""
        ids = {"workflow_ids": texts(workflow_ids)}
        return histories_of(workflow_ids, self._read(*(StatementCall(name, ids) for name in HISTORY)))

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """See `Store.workflows`."""
        return workflows_by_id(self._read(read_workflows(workflow_ids))["read_workflows"])

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """See `Store.statuses`."""
        found = self._read(workflow_states(workflow_ids))["workflow_states"]
        return {workflow_id: Status.of(status) for workflow_id, status, _ in found}

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        """See `Store.ends`."""
        found = self._read(StatementCall("workflow_ends", {"workflow_ids": texts(workflow_ids)}))["workflow_ends"]
        return {row[0]: end_of(row) for row in found}

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        """See `Store.pending_below`."""
        wanted: dict[str, Value] = {"workflow_ids": texts(workflow_ids), "limit": limit}
        return [workflow_id for (workflow_id,) in self._read(StatementCall("pending_below", wanted))["pending_below"]]

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """See `Store.list_workflows`."""
        search = search_for(wanted)
        if search is None:
            return []
        values = {name: texts(value) if isinstance(value, tuple) else value for name, value in search.values.items()}
        return [workflow_of(row) for row in self._read(StatementCall(search.query, values))[search.query]]

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        """See `Store.steps`."""
        values: dict[str, Value] = {
            "workflow_id": workflow_id,
            "limit": limit,
            "offset": offset,
            "with_outputs": with_outputs,
        }
        return steps_of(self._read(StatementCall("read_steps", values))["read_steps"])

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        """See `Store.messages`."""
        values: dict[str, Value] = {"workflow_id": workflow_id, "limit": limit, "offset": offset}
        return messages_of(self._read(StatementCall("read_messages", values))["read_messages"])

    def count_unread(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        """See `Store.count_unread`."""
        wanted: dict[str, Value] = {"workflow_ids": texts(workflow_ids), "most": MOST_COUNTED}
        return dict(self._read(StatementCall("count_unread", wanted))["count_unread"])

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """See `Store.latest_events`."""
        wanted = {"workflow_id": texts(each for each, _ in keys), "key": texts(key for _, key in keys)}
        found = self._read(StatementCall("latest_events", wanted))["latest_events"]
        return [EventRead(value, None if status is None else Status.of(status)) for value, status in found]

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """See `Store.all_events`."""
        found = self._read(StatementCall("all_events", {"workflow_id": workflow_id}))["all_events"]
        return {key: value for key, value in found if key is not None} if found else None

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """See `Store.read_streams`. Readers at the same offset share a page."""
        different = dict.fromkeys(wanted)
        values: dict[str, Value] = {
            "workflow_id": texts(workflow_id for workflow_id, _, _ in different),
            "key": texts(key for _, key, _ in different),
            "item_offset": bigints(min(offset, _LAST_OFFSET) for _, _, offset in different),
            "limit": limit,
            "max_bytes": max_bytes,
        }
        found = self._read(StatementCall("read_streams", values))["read_streams"]
        pages = {each: page_of(row[0], row[1:]) for each, row in zip(different, found, strict=True)}
        return [pages[each] for each in wanted]

    def executors(self) -> list[Executor]:
        """See `Store.executors`."""
        return [executor_of(row) for row in self._read(StatementCall("read_executors"))["read_executors"]]

    def pending_groups(self) -> list[PendingGroup]:
        """See `Store.pending_groups`."""
        return [group_of(row) for row in self._read(StatementCall("pending_groups"))["pending_groups"]]

    def reconnect_reader(self) -> None:
        """See `Store.reconnect_reader`."""
        self._reader.reopen()

    def _read(self, *calls: StatementCall) -> Answers:
        try:
            return self._reader.run(calls)
        except Severed:
            self._reader.reopen()
            return self._reader.run(calls)


def workflow_states(workflow_ids: Iterable[str]) -> StatementCall:
    """Return the call that reads the statuses and epochs of workflows."""
    return StatementCall("workflow_states", {"workflow_ids": texts(workflow_ids)})


def read_workflows(workflow_ids: Collection[str]) -> StatementCall:
    """Return the call that reads the records of workflows."""
    return StatementCall("read_workflows", {"workflow_ids": texts(workflow_ids)})
