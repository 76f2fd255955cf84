"""The reading side of the store: every query, on a connection of its own. For the reader's thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from tidings.error import DBOSInitializationError
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
from tidings.store.protocol import MOST_COUNTED, Unavailable
from tidings.store.refusals import States
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
from tidings.store.sqlite import schema
from tidings.store.sqlite.connect import classified, connect_reader
from tidings.store.sqlite.identity import Identity
from tidings.store.sqlite.writer import not_connected

_SQL: Final = schema.SQL


class ReadingSide:
    """The queries of `Store`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader: sqlite3.Connection | None = None
        self._read: Identity | None = None  # the file that `_reader` reads

    def now_ms(self) -> int:
        """See `Store.now_ms`. All processes that use a file are on one host, so the host's clock is the store's."""
        return time.time_ns() // 1_000_000

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """See `Store.histories`."""
        ids = (many(list(workflow_ids)),)
        with self._reading() as db:
            found = {name: db.execute(_SQL[name], ids).fetchall() for name in HISTORY}
        return histories_of(workflow_ids, found)

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """See `Store.workflows`."""
        with self._reading() as db:
            return read_workflows(db, workflow_ids)

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """See `Store.statuses`."""
        with self._reading() as db:
            return {each: Status.of(status) for each, (status, _) in read_states(db, set(workflow_ids)).items()}

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        """See `Store.ends`."""
        with self._reading() as db:
            return {row[0]: end_of(row) for row in db.execute(_SQL["workflow_ends"], (many(list(workflow_ids)),))}

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        """See `Store.pending_below`."""
        wanted = {"workflow_ids": many(list(workflow_ids)), "limit": limit}
        with self._reading() as db:
            return [workflow_id for (workflow_id,) in db.execute(_SQL["pending_below"], wanted)]

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """See `Store.list_workflows`."""
        search = search_for(wanted)
        if search is None:
            return []
        values = {name: many(list(each)) if isinstance(each, tuple) else each for name, each in search.values.items()}
        with self._reading() as db:
            return [workflow_of(row) for row in db.execute(_SQL[search.query], values)]

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        """See `Store.steps`."""
        values = {"workflow_id": workflow_id, "limit": limit, "offset": offset, "with_outputs": int(with_outputs)}
        with self._reading() as db:
            return steps_of(db.execute(_SQL["read_steps"], values).fetchall())

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        """See `Store.messages`."""
        values = {"workflow_id": workflow_id, "limit": limit, "offset": offset}
        with self._reading() as db:
            return messages_of(db.execute(_SQL["read_messages"], values).fetchall())

    def count_unread(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        """See `Store.count_unread`."""
        with self._reading() as db:
            return dict(db.execute(_SQL["count_unread"], (MOST_COUNTED, many(list(workflow_ids)))).fetchall())

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """See `Store.latest_events`."""
        with self._reading() as db:
            found = db.execute(_SQL["latest_events"], (many(list(keys)),)).fetchall()
        return [EventRead(value, None if status is None else Status.of(status)) for value, status in found]

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """See `Store.all_events`."""
        with self._reading() as db:
            found = db.execute(_SQL["all_events"], (workflow_id,)).fetchall()
        return {key: value for key, value in found if key is not None} if found else None

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """See `Store.read_streams`. Readers at the same offset share a page."""
        different = dict.fromkeys(wanted)
        streams = many([(workflow_id, key) for workflow_id, key, _ in different])
        with self._reading() as db:
            states = db.execute(_SQL["stream_states"], (streams,)).fetchall()
            pages = {
                each: page_of(_items(db, seq, last, *each[1:], limit, max_bytes), (last, *rest))
                for each, (seq, last, *rest) in zip(different, states, strict=True)
            }
        return [pages[each] for each in wanted]

    def executors(self) -> list[Executor]:
        """See `Store.executors`."""
        with self._reading() as db:
            return [executor_of(row) for row in db.execute(_SQL["read_executors"])]

    def pending_groups(self) -> list[PendingGroup]:
        """See `Store.pending_groups`."""
        with self._reading() as db:
            return [group_of(tuple(group)) for *group, _ in db.execute(_SQL["pending_groups"])]

    def reconnect_reader(self) -> None:
        """See `Store.reconnect_reader`."""
        reader, self._reader = self._reader, None
        with classified(self._path):
            if reader is not None:
                reader.close()
            with unfit_for_now():
                self._open_reader()

    def _open_reader(self) -> None:
        identity = Identity(self._path)
        reader = connect_reader(self._path)
        try:
            schema.check(reader, self._path)
            identity.check()
        except BaseException:
            reader.close()
            raise
        self._reader, self._read = reader, identity

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot. It ends with the body, because an open snapshot keeps the log from starting again."""
        if self._reader is None or self._read is None:
            raise not_connected(self._path)
        with classified(self._path):
            self._read.check()
            self._reader.execute("begin")
            try:
                yield self._reader
            finally:
                self._reader.rollback()


@contextmanager
def unfit_for_now() -> Iterator[None]:
    """Treat an error that would prevent a start as one that may pass: the right file may be put back."""
    try:
        yield
    except DBOSInitializationError as error:
        raise Unavailable(str(error)) from error


def read_states(db: sqlite3.Connection, workflow_ids: set[str]) -> States:
    """Read the statuses and epochs of workflows."""
    if not workflow_ids:
        return {}
    found = db.execute(_SQL["workflow_states"], (many(list(workflow_ids)),))
    return {workflow_id: (status, epoch) for workflow_id, status, epoch in found}


def read_workflows(db: sqlite3.Connection, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
    """Read the records of workflows."""
    return workflows_by_id(db.execute(_SQL["read_workflows"], (many(list(workflow_ids)),)))


def _items(
    db: sqlite3.Connection, seq: int, last: int | None, key: str, offset: int, limit: int, max_bytes: int
) -> list[str]:
    """Read a page of a stream up to its given last item, until the page is full or a gap comes."""
    if last is None or offset > last:
        return []
    values: list[str] = []
    size = 0
    for expected, (found, value) in enumerate(db.execute(_SQL["read_items"], (seq, key, offset, limit)), offset):
        if found != expected:
            break
        values.append(value)
        size += utf8_length(value)
        if size >= max_bytes:
            break
    return values


def utf8_length(text: str | None) -> int:
    """Measure a value. A damaged value may be no text; the code that decodes it reports that."""
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode())


def many(values: list[str] | list[tuple[str, str]]) -> str:
    """Encode many values as one parameter, which SQLite reads using `json_each`."""
    return msgspec.json.encode(values).decode()
