"""The `Store` of `store.protocol` on an SQLite file; that docstring is the contract.

It has one writing connection under the side lock (`writer`) and one for reading. Each method is one transaction. A
batch first reads the states of the workflows that its conditions need. Then it decides which units apply
(`store.refusals`), and writes one kind of change after the other, so that most kinds are one `executemany`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec.structs import replace

from tidings.error import DBOSInitializationError
from tidings.limits import MAX_AHEAD_BYTES
from tidings.model import (
    NOTHING,
    Answer,
    End,
    EventRead,
    Executor,
    ExecutorState,
    History,
    PendingGroup,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Take,
    Taken,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store import refusals
from tidings.store.lists import search_for
from tidings.store.protocol import KEEP_EXECUTORS_MS, MOST_COUNTED, Batch, DataError, Fenced, Unavailable
from tidings.store.refusals import BatchDecision, States
from tidings.store.rows import (
    HISTORY,
    Row,
    end_of,
    executor_of,
    group_of,
    histories_of,
    messages_of,
    page_of,
    steps_of,
    taken_of,
    workflow_of,
    workflows_by_id,
)
from tidings.store.sqlite import numbers, rows, schema
from tidings.store.sqlite.connect import (
    check_version,
    classified,
    connect_reader,
    database_name,
    unfit,
)
from tidings.store.sqlite.identity import Identity
from tidings.store.sqlite.listener import SqliteListener
from tidings.store.sqlite.wal_reset import tell_of_wal_reset_bug
from tidings.store.sqlite.writer import Writer, not_connected

_SQL: Final = schema.SQL

# How long wakes are kept. A listener that did not look for longer wakes all waiters.
KEEP_WAKES_MS: Final = 10_000

_Numbered = list[tuple[int, Unit]]  # units that apply, with their index in the batch


class SqliteStore:
    """Workflows, their entries, messages, events and streams in one SQLite file."""

    def __init__(self, path: str) -> None:
        """Take the file's absolute path; nothing is opened yet."""
        self._path = path
        self.identity = os.path.realpath(path)
        self.name = database_name(path)
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._read: Identity | None = None  # the file that `_reader` reads
        self._written: tuple[int, int] | None = None  # the file that was last written to
        self._enlisted: set[str] = set()  # our executors in that file
        self._stranded: set[str] = set()  # our executors in files that were replaced
        self._prune_at_ms = 0

    # --- before and after -----------------------------------------------------------------------

    def migrate(self) -> None:
        """See `Store.migrate`."""
        schema.migrate(self._path)

    def reset(self, *, truncate: bool) -> None:
        """See `Store.reset`."""
        schema.reset(self._path, truncate=truncate)

    def connect(self) -> None:
        """See `Store.connect`."""
        check_version()
        self.close()
        try:
            with unfit(self._path):
                self._open_reader()
                self._open_writer()
        except BaseException:
            self.close()
            raise
        tell_of_wal_reset_bug(self._path)

    def close(self) -> None:
        """See `Store.close`."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            reader.close()
        if writer is not None:
            writer.close()

    # --- writing: the committer's thread ----------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """See `Store.commit`."""
        with self._writing() as db:
            self._check_not_stranded(batch.executor_id)
            renewal = (batch.number, batch.now_ms + batch.lease_ms, batch.executor_id, batch.fence, batch.landed)
            if not db.execute(_SQL["renew_executor"], renewal).rowcount:
                raise Fenced(
                    f"executor {batch.executor_id} no longer has fence {batch.fence} and last batch {batch.landed}"
                )
            decision = refusals.decide(batch.units, _states(db, refusals.workflows_in_question(batch.units)))
            units = [(index, unit) for index, unit in enumerate(batch.units) if index not in decision.refusals]
            _write_workflows(db, units, batch)
            _send(db, units)
            taken = _take(db, units)
            _write_history(db, units, taken)
            _write_streams(db, units, batch.now_ms)
            self._wake(db, batch.executor_id, batch.wakes, batch.now_ms)
            if decision.refusals:
                db.execute(_SQL["note_refusals"], (refusals.encode(decision.refusals), batch.executor_id))
            return _answers(db, batch.units, decision, taken)

    def recall(self, batch: Batch) -> list[Answer] | None:
        """See `Store.recall`. A failed connection takes its transaction with it, so there is nothing to wait for."""
        with self._writing() as db:
            row = db.execute(_SQL["last_batch"], (batch.executor_id,)).fetchone()
            if row is None or row[0] != batch.number:
                return None
            decision = BatchDecision(refusals.decode(row[1]), _states(db, refusals.destinations(batch.units)))
            taken = {}
            for index, unit in enumerate(batch.units):
                if unit.take is not None and index not in decision.refusals:
                    found = db.execute(_SQL["message_taken_at"], (unit.workflow_id, *_place(unit))).fetchone()
                    taken[index] = taken_of(found) if found else None
            return _answers(db, batch.units, decision, taken)

    def reconnect(self) -> None:
        """See `Store.reconnect`."""
        writer, self._writer = self._writer, None
        with classified(self._path):
            if writer is not None:
                writer.close()
            with _unfit_for_now():
                self._open_writer()

    def enlist(self, executor: Executor) -> int:
        """See `Store.enlist`."""
        with self._writing() as db:
            # Fetch all rows, here and wherever a change returns rows: the statement ends only with the last one.
            [(fence,)] = db.execute(_SQL["add_executor"], rows.row_of_executor(executor)).fetchall()
            self._enlisted.add(executor.executor_id)
            return int(fence)

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """See `Store.retire`."""
        with self._writing() as db:
            if db.execute(_SQL["remove_executor"], (executor_id, fence)).rowcount:
                db.execute(_SQL["disown_workflows"], (executor_id,))
                self._wake(db, executor_id, wakes, self.now_ms())

    def refence(self, executor_id: str) -> ExecutorState | None:
        """See `Store.refence`. An executor's row in another file says nothing about its runs in this one."""
        with self._writing() as db:
            if executor_id in self._stranded:
                return None
            row = db.execute(_SQL["read_fence"], (executor_id,)).fetchone()
            if row is None:
                return None
            return ExecutorState(row[0], row[1], dict(db.execute(_SQL["owned_workflows"], (executor_id,)).fetchall()))

    def claim(
        self, executor: Executor, dead: Collection[str], names: Collection[str], app_version: str, limit: int
    ) -> list[WorkflowRecord]:
        """See `Store.claim`."""
        with self._writing() as db:
            self._check_not_stranded(executor.executor_id)
            _check_fence(db, executor)
            gone = _json(list(dead))
            db.execute(_SQL["raise_fences"], (_json([executor.executor_id, *dead]),))
            wanted = {
                "dead": gone,
                "names": _json(list(names)),
                "app_version": app_version,
                "program": executor.program,
                "limit": limit,
            }
            seqs = db.execute(_SQL["claimable_workflows"], wanted).fetchall()
            claimed = _raise_epochs(db, executor, seqs, app_version)
            db.execute(_SQL["remove_idle_executors"], (gone, self.now_ms() - KEEP_EXECUTORS_MS))
            return claimed

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """See `Store.reclaim`."""
        with self._writing() as db:
            self._check_not_stranded(executor.executor_id)
            _check_fence(db, executor)
            db.execute(_SQL["raise_fences"], (_json([executor.executor_id]),))
            wanted = {"workflow_ids": _json(list(workflow_ids)), "executor_id": executor.executor_id}
            return _raise_epochs(db, executor, db.execute(_SQL["reclaimable_workflows"], wanted).fetchall())

    # --- reading: the reader's thread --------------------------------------------------------------

    def now_ms(self) -> int:
        """See `Store.now_ms`. All processes that use a file are on one host, so the host's clock is the store's."""
        return time.time_ns() // 1_000_000

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """See `Store.histories`."""
        ids = (_json(list(workflow_ids)),)
        with self._reading() as db:
            found = {name: db.execute(_SQL[name], ids).fetchall() for name in HISTORY}
        return histories_of(workflow_ids, found)

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """See `Store.workflows`."""
        with self._reading() as db:
            return _read_workflows(db, workflow_ids)

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """See `Store.statuses`."""
        with self._reading() as db:
            return {each: Status.of(status) for each, (status, _) in _states(db, set(workflow_ids)).items()}

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        """See `Store.ends`."""
        with self._reading() as db:
            return {row[0]: end_of(row) for row in db.execute(_SQL["workflow_ends"], (_json(list(workflow_ids)),))}

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        """See `Store.pending_below`."""
        wanted = {"workflow_ids": _json(list(workflow_ids)), "limit": limit}
        with self._reading() as db:
            return [workflow_id for (workflow_id,) in db.execute(_SQL["pending_below"], wanted)]

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """See `Store.list_workflows`."""
        search = search_for(wanted)
        if search is None:
            return []
        values = {name: _json(list(each)) if isinstance(each, tuple) else each for name, each in search.values.items()}
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
            return dict(db.execute(_SQL["count_unread"], (MOST_COUNTED, _json(list(workflow_ids)))).fetchall())

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """See `Store.latest_events`."""
        with self._reading() as db:
            found = db.execute(_SQL["latest_events"], (_json(list(keys)),)).fetchall()
        return [EventRead(value, None if status is None else Status.of(status)) for value, status in found]

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """See `Store.all_events`."""
        with self._reading() as db:
            found = db.execute(_SQL["all_events"], (workflow_id,)).fetchall()
        return {key: value for key, value in found if key is not None} if found else None

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """See `Store.read_streams`. Readers at the same offset share a page."""
        different = dict.fromkeys(wanted)
        streams = _json([(workflow_id, key) for workflow_id, key, _ in different])
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
            with _unfit_for_now():
                self._open_reader()

    # --- hearing: the listener's thread ------------------------------------------------------------

    def listen(self, executor_id: str) -> SqliteListener:
        """See `Store.listen`."""
        return SqliteListener(self._path, executor_id)

    # --- connections ---------------------------------------------------------------------------------

    def _wake(self, db: sqlite3.Connection, executor_id: str, names: Sequence[str], now_ms: int) -> None:
        """Add names for the listeners; now and then remove rows that all listeners have had time to read."""
        if not names:
            return
        db.execute(_SQL["add_wakes"], (executor_id, now_ms, " ".join(names)))
        if not self._prune_at_ms - KEEP_WAKES_MS < now_ms < self._prune_at_ms:  # Also if the clock was set back.
            self._prune_at_ms = now_ms + KEEP_WAKES_MS // 2
            db.execute(_SQL["prune_wakes"], (now_ms - KEEP_WAKES_MS, now_ms + KEEP_WAKES_MS))

    def _open_writer(self) -> None:
        """Open the file for writing. If it is a new file, none of our executors owns anything in it."""
        writer = Writer(self._path)
        if writer.identity.of_file != self._written:
            self._written = writer.identity.of_file
            self._stranded |= self._enlisted
            self._enlisted.clear()
        try:
            numbers.put_right(writer, self._path)
        except BaseException:
            writer.close()
            raise
        self._writer = writer

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

    def _check_not_stranded(self, executor_id: str) -> None:
        """Fence an executor whose file was replaced: even if the new file has its row, its runs are elsewhere."""
        if executor_id in self._stranded:
            raise Fenced(f"executor {executor_id} is not known to the file that replaced its own")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One durable change, under the side lock."""
        if self._writer is None:
            raise not_connected(self._path)
        with self._writer.transaction() as db:
            yield db

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
def _unfit_for_now() -> Iterator[None]:
    """Treat an error that would prevent a start as one that may pass: the right file may be put back."""
    try:
        yield
    except DBOSInitializationError as error:
        raise Unavailable(str(error)) from error


# --- the parts of a batch, in their order ------------------------------------------------------------


def _states(db: sqlite3.Connection, workflow_ids: set[str]) -> States:
    if not workflow_ids:
        return {}
    found = db.execute(_SQL["workflow_states"], (_json(list(workflow_ids)),))
    return {workflow_id: (status, epoch) for workflow_id, status, epoch in found}


def _write_workflows(db: sqlite3.Connection, units: _Numbered, batch: Batch) -> None:
    starts = [rows.row_of_start(unit.start, batch.executor_id) for _, unit in units if unit.start is not None]
    ends = [
        (end.status.value, end.output, end.error, end.at_ms, unit.workflow_id)
        for _, unit in units
        if (end := unit.outcome) is not None
    ]
    cancels = [(batch.now_ms, each) for _, unit in units for each in unit.cancels]
    recoveries = [
        (noted.attempts, noted.progress, unit.workflow_id, unit.epoch)
        for _, unit in units
        if (noted := unit.recovery) is not None
    ]
    _write_all(db, "start_workflow", starts)
    _write_all(db, "end_workflow", ends)
    _write_all(db, "cancel_workflow", cancels)
    _write_all(db, "note_recovery", recoveries)


def _send(db: sqlite3.Connection, units: _Numbered) -> None:
    messages = [
        (each.destination_id, each.topic, each.body, each.sender_id, each.idempotency_key, each.sent_at_ms)
        for _, unit in units
        for each in unit.messages
    ]
    _write_all(db, "send_message", messages)


def _take(db: sqlite3.Connection, units: _Numbered) -> dict[int, Taken | None]:
    seen = [(*_place(unit), unit.take_seen, unit.workflow_id) for _, unit in units if unit.take_seen is not None]
    if seen and db.executemany(_SQL["take_seen_message"], seen).rowcount != len(seen):
        raise DataError("a message that was seen before can no longer be taken")
    taken: dict[int, Taken | None] = {}
    for index, unit in units:
        if unit.take is not None:
            wanted = (*_place(unit), unit.workflow_id, unit.take.topic)
            found = db.execute(_SQL["take_message"], wanted).fetchall()
            taken[index] = taken_of(found[0]) if found else None
    for index, unit in units:
        if unit.take is not None and unit.take.ahead and (message := taken[index]) is not None:
            taken[index] = replace(message, ahead=_look_ahead(db, unit.workflow_id, unit.take))
    return taken


def _look_ahead(db: sqlite3.Connection, workflow_id: str | None, take: Take) -> tuple[Taken, ...]:
    """Read the messages that wait for a run on a topic, up to the limit in bytes."""
    seen: list[Taken] = []
    size = 0
    for row in db.execute(_SQL["see_messages"], (workflow_id, take.topic, take.ahead)):
        message = taken_of(row)
        size += _utf8_length(message.body)
        if size > MAX_AHEAD_BYTES:
            break
        seen.append(message)
    return tuple(seen)


def _write_history(db: sqlite3.Connection, units: _Numbered, taken: dict[int, Taken | None]) -> None:
    put_back = [(unit.put_back, unit.workflow_id) for _, unit in units if unit.put_back is not None]
    _write_all(db, "put_back_message", put_back)
    entries = []
    for index, unit in units:
        entry, seq = unit.entry, unit.take_seen
        if unit.take is not None:
            message = taken[index]
            if message is None:
                entry = unit.take.otherwise
            else:
                seq = message.seq
        if entry is not None:
            entries.append(rows.row_of_entry(unit.workflow_id, entry, seq, unit.put_back is not None))
    _write_all(db, "write_entry", entries)
    events = [rows.row_of_event(unit.workflow_id, unit.event) for _, unit in units if unit.event is not None]
    _write_all(db, "publish_event", events)


def _write_streams(db: sqlite3.Connection, units: _Numbered, now_ms: int) -> None:
    items = [rows.row_of_item(unit.workflow_id, unit.item) for _, unit in units if unit.item is not None]
    _write_all(db, "append_item", items)
    _write_all(db, "close_stream", [(unit.workflow_id, key, now_ms) for _, unit in units for key in unit.closes])


def _answers(
    db: sqlite3.Connection, units: Sequence[Unit], decision: BatchDecision, taken: dict[int, Taken | None]
) -> list[Answer]:
    records = _read_workflows(db, refusals.ids_in_use(decision.refusals)) if decision.refusals else {}
    answers: list[Answer] = []
    for index, unit in enumerate(units):
        if index in decision.refusals:
            answers.append(refusals.refused(decision.refusals[index], records))
        elif index in taken:
            answers.append(taken[index] or NOTHING)
        else:
            answers.append(refusals.applied(unit, decision.states))
    return answers


# --- statements that several methods need -----------------------------------------------------------


def _check_fence(db: sqlite3.Connection, executor: Executor) -> None:
    row = db.execute(_SQL["read_fence"], (executor.executor_id,)).fetchone()
    if row is None or row[0] != executor.fence:
        raise Fenced(f"the fence of executor {executor.executor_id} has moved from {executor.fence}")


def _raise_epochs(
    db: sqlite3.Connection, executor: Executor, seqs: list[Row], app_version: str | None = None
) -> list[WorkflowRecord]:
    mine = {"executor_id": executor.executor_id, "program": executor.program, "app_version": app_version}
    claimed = (db.execute(_SQL["claim_workflow"], mine | {"seq": seq}).fetchall() for (seq,) in seqs)
    return [workflow_of(row) for [row] in claimed]


def _read_workflows(db: sqlite3.Connection, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
    return workflows_by_id(db.execute(_SQL["read_workflows"], (_json(list(workflow_ids)),)))


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
        size += _utf8_length(value)
        if size >= max_bytes:
            break
    return values


def _utf8_length(text: str | None) -> int:
    """Measure a value. A damaged value may be no text; the code that decodes it reports that."""
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _write_all(db: sqlite3.Connection, query: str, parameters: Sequence[Row]) -> None:
    if parameters:
        db.executemany(_SQL[query], parameters)


def _place(unit: Unit) -> tuple[str, int]:
    if unit.entry is None:
        raise ValueError(f"a unit that takes a message needs an entry to keep it: {unit!r}")
    return unit.entry.branch, unit.entry.position


def _json(values: list[str] | list[tuple[str, str]]) -> str:
    """Encode many values as one parameter, which SQLite reads using `json_each`."""
    return msgspec.json.encode(values).decode()
