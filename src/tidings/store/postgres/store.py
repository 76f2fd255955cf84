"""The `Store` of `store.protocol` on a PostgreSQL database; that docstring is the contract.

It has one connection for writing and one for reading, each a `Wire`. A batch is sent in one round trip, on the
assumption that all its units apply. If one does not, the statement that notices it ends the transaction. Only then the
batch is sent again in two round trips: lock and read, decide (`refusals`), and write the units that apply. So a normal
commit never waits for an extra read, and decisions are made in one place.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import psycopg
from msgspec.structs import replace

from tidings.model import (
    APPLIED,
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
    Taken,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store import refusals
from tidings.store.lists import search_for
from tidings.store.postgres import changes, numbers, schema
from tidings.store.postgres.arrays import bigints, texts
from tidings.store.postgres.connect import (
    FENCE_MOVED,
    LEFTOVERS_FOUND,
    MESSAGE_GONE,
    MESSAGES_PKEY,
    NUMBERS_USED_UP,
    UNIQUE_VIOLATION,
    UNIT_REFUSED,
    Database,
    classify,
    lost_prepared,
)
from tidings.store.postgres.listener import PostgresListener
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.statements import StatementCall, Value
from tidings.store.postgres.wire import Lost, ServerError, Wire
from tidings.store.protocol import KEEP_EXECUTORS_MS, MOST_COUNTED, Batch, DataError, Fenced, Severed, Unavailable
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

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("tidings")

_BEGIN = StatementCall("begin")
_COMMIT = StatementCall("commit")

_TRIES: Final = 5  # to commit, each after removing an obstacle

_LEFTOVERS: Final = ("messages", "entries", "events", "items", "closings")

# Larger offsets are replaced by this one. No stream has an item at either.
_LAST_OFFSET: Final = 2**63 - 1

# The databases whose pooler mixes up prepared statements, by their stores' identity. This process no longer prepares
# statements there. So later stores of a database need not detect the pooler again, and the log says it once.
_unprepared: set[str] = set()
_unprepared_lock: Final = threading.Lock()

_Answers = Mapping[str, list[Row]]


class _UnitRefused(Exception):
    """Some unit of the batch does not apply. The transaction is rolled back."""


class _NumberTaken(Exception):
    """The sequence of messages gave a number that is in use. The transaction is rolled back."""


class _LeftoversFound(Exception):
    """A new workflow's id has rows of an earlier workflow. The transaction is rolled back."""


class _MixedUp(Exception):
    """Prepared statements got mixed up within a transaction. It is rolled back; nothing is prepared from now on."""


def _again_if_mixed_up(transact: Callable[P, T]) -> Callable[P, T]:
    """Let a method run its one transaction again, unprepared, if prepared statements got mixed up.

    The first try wrote nothing: it failed before its commit, and the server rolled it back.
    """

    @wraps(transact)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return transact(*args, **kwargs)
        except _MixedUp:
            return transact(*args, **kwargs)

    return again


class PostgresStore:
    """Workflows, their entries, messages, events and streams in one schema of a PostgreSQL database."""

    def __init__(self, url: str, schema: str) -> None:
        """Note where the tables are; no connection is opened yet.

        Raises:
            DBOSInitializationError: the URL or the schema's name is not valid.
        """
        self._database = Database(url, schema)
        self.identity = self._database.identity
        self.name = self._database.name
        self._writer: Wire | None = None
        self._reader: Wire | None = None
        self._has_just_migrated = False  # If so, this user's rights were checked already.
        self._number: int | None = None  # The number of the batch that is being committed, or was committed last.
        self._in_doubt: int | None = None  # The number of the last batch that may have landed without an answer.

    # --- before and after -----------------------------------------------------------------------

    def migrate(self) -> None:
        """See `Store.migrate`."""
        schema.migrate(self._database)
        self._has_just_migrated = True

    def reset(self, *, truncate: bool) -> None:
        """See `Store.reset`."""
        schema.reset(self._database, truncate=truncate)

    def connect(self) -> None:
        """See `Store.connect`."""
        self.close()
        check = schema.check_version if self._has_just_migrated else schema.check
        self._has_just_migrated = False
        try:
            self._writer = self._open(check=check)
            self._reader = self._open(only_reads=True)
            self._put_numbers_right()
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise self._database.unfit(error) from error
            raise

    def close(self) -> None:
        """See `Store.close`."""
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        for wire in (writer, reader):
            if wire is not None:
                wire.close()

    # --- writing: the committer's thread ----------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """See `Store.commit`."""
        self._number = batch.number
        try:
            for _ in range(_TRIES):
                try:
                    return self._commit_once(batch)
                except _NumberTaken:
                    self._put_numbers_right()
                except _LeftoversFound:
                    self._remove_leftovers(batch)
            raise self._database.unavailable(
                "rows in its table of messages have the numbers that messages_seq gives, or rows of deleted workflows "
                "come back; find out which program writes them"
            )
        except Unavailable as error:
            if error.ambiguous:
                self._in_doubt = batch.number
            raise
        except Fenced:
            # A batch in doubt may land after `recall` said that it had not: see `renew_executor`.
            answers = self.recall(batch) if batch.number == self._in_doubt else None
            if answers is None:
                raise
            return answers
        except (UnicodeEncodeError, OverflowError) as error:
            raise DataError(str(error)) from error

    def recall(self, batch: Batch) -> list[Answer] | None:
        """See `Store.recall`."""
        last_batch = StatementCall("last_batch", {"executor_id": batch.executor_id})
        row = _only(self._write(last_batch)["last_batch"])
        if row is None or row[0] != batch.number:
            return None
        refused = refusals.decode(row[1])
        applied = [unit for index, unit in enumerate(batch.units) if index not in refused]
        answers = self._write(
            _workflow_states(refusals.destinations(batch.units)),
            StatementCall("messages_taken_at", changes.places_of_takes(applied)),
            _read_workflows(refusals.ids_in_use(refused)),
        )
        decision = BatchDecision(refused, _states(answers["workflow_states"]))
        taken = {"take_messages": answers["messages_taken_at"]}
        return _answers(batch, decision, taken, answers["read_workflows"])

    def reconnect(self) -> None:
        """See `Store.reconnect`. It may reach a server to which rows were copied, but not sequences."""
        writer, self._writer = self._writer, None
        self._writer = self._replace(writer)
        self._put_numbers_right()

    def enlist(self, executor: Executor) -> int:
        """See `Store.enlist`."""
        row: dict[str, Value] = {
            "executor_id": executor.executor_id,
            "label": executor.label,
            "lease_until_ms": executor.lease_until_ms,
            "lease_ms": executor.lease_ms,
            "host": executor.host,
            "pid": executor.pid,
            "started_at_ms": executor.started_at_ms,
            "app_version": executor.app_version,
            "program": executor.program,
        }
        return int(self._write(StatementCall("add_executor", row))["add_executor"][0][0])

    @_again_if_mixed_up
    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """See `Store.retire`."""
        with self._transaction():
            if self._lock_executors([executor_id]) == {executor_id: fence}:
                this: dict[str, Value] = {"executor_id": executor_id}
                self._write(
                    StatementCall("disown_workflows", this),
                    StatementCall("remove_executor", this),
                    *changes.wake(executor_id, wakes, self._database.channel),
                    _COMMIT,
                )

    def refence(self, executor_id: str) -> ExecutorState | None:
        """See `Store.refence`. The second statement sees the changes that the first one waited for."""
        answers = self._write(
            _BEGIN,
            StatementCall("lock_executors", {"executor_ids": texts([executor_id])}),
            StatementCall("owned_workflows", {"executor_id": executor_id}),
            _COMMIT,
        )
        row = _only(answers["lock_executors"])
        return None if row is None else ExecutorState(row[1], row[2], dict(answers["owned_workflows"]))

    @_again_if_mixed_up
    def claim(
        self, executor: Executor, dead: Collection[str], names: Collection[str], app_version: str, limit: int
    ) -> list[WorkflowRecord]:
        """See `Store.claim`."""
        others = set(dead) - {executor.executor_id}
        gone = texts(others)
        wanted: dict[str, Value] = {
            "dead": gone,
            "names": texts(names),
            "app_version": app_version,
            "program": executor.program,
            "limit": limit,
        }
        with self._transaction():
            self._check_fence(executor, self._lock_executors([executor.executor_id, *others]))
            answers = self._write(
                StatementCall("raise_fences", {"executor_ids": texts([executor.executor_id, *others])}),
                StatementCall("claim_workflows", wanted | {"executor_id": executor.executor_id}),
                StatementCall("remove_idle_executors", {"executor_ids": gone, "keep_ms": KEEP_EXECUTORS_MS}),
                _COMMIT,
            )
        return [workflow_of(row) for row in answers["claim_workflows"]]

    @_again_if_mixed_up
    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """See `Store.reclaim`."""
        wanted: dict[str, Value] = {
            "workflow_ids": texts(workflow_ids),
            "executor_id": executor.executor_id,
            "program": executor.program,
            "pending": Status.PENDING,
        }
        with self._transaction():
            self._check_fence(executor, self._lock_executors([executor.executor_id]))
            own: dict[str, Value] = {"executor_ids": texts([executor.executor_id])}
            answers = self._write(
                StatementCall("raise_fences", own), StatementCall("reclaim_workflows", wanted), _COMMIT
            )
        return [workflow_of(row) for row in answers["reclaim_workflows"]]

    # --- reading: the reader's thread --------------------------------------------------------------

    def now_ms(self) -> int:
        """See `Store.now_ms`."""
        return int(self._read(StatementCall("now_ms"))["now_ms"][0][0])

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """See `Store.histories`."""
        ids = {"workflow_ids": texts(workflow_ids)}
        return histories_of(workflow_ids, self._read(*(StatementCall(name, ids) for name in HISTORY)))

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """See `Store.workflows`."""
        return workflows_by_id(self._read(_read_workflows(workflow_ids))["read_workflows"])

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """See `Store.statuses`."""
        found = self._read(_workflow_states(workflow_ids))["workflow_states"]
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
        reader, self._reader = self._reader, None
        self._reader = self._replace(reader, only_reads=True)

    # --- hearing: the listener's thread ------------------------------------------------------------

    def listen(self, executor_id: str) -> PostgresListener:
        """See `Store.listen`."""
        return PostgresListener(self._database, executor_id)

    # --- the two ways to commit a batch ------------------------------------------------------------

    def _commit_once(self, batch: Batch) -> list[Answer]:
        try:
            return self._commit_if_all_apply(batch)
        except _UnitRefused:
            return self._commit_what_applies(batch)

    def _commit_if_all_apply(self, batch: Batch) -> list[Answer]:
        answers = self._write(
            _BEGIN,
            _renew(batch),
            *changes.start(batch.units, batch.executor_id),
            *changes.lock(batch.units),
            *changes.write(batch.units, batch),
            *changes.wake(batch.executor_id, batch.wakes, self._database.channel),
            _COMMIT,
        )
        decision = BatchDecision({}, _states(answers.get("check_destinations", ())))
        return _answers(batch, decision, answers, ())

    @_again_if_mixed_up
    def _commit_what_applies(self, batch: Batch) -> list[Answer]:
        """Decide under locks which units apply, and write those.

        The starts come first, because only an insert shows whether an id is free. Then the states are read by a later
        statement, so it sees the changes that the starts and the locks waited for.
        """
        with self._transaction():
            answers = self._write(
                _renew(batch),
                *changes.start(batch.units, batch.executor_id, all_or_nothing=False),
                *changes.lock(batch.units, all_or_nothing=False),
                _workflow_states(refusals.workflows_in_question(batch.units)),
            )
            started = {workflow_id for (workflow_id,) in answers.get("start_workflows", ())}
            before = _states(row for row in answers["workflow_states"] if row[0] not in started)
            decision = refusals.decide(batch.units, before)
            applied = [unit for index, unit in enumerate(batch.units) if index not in decision.refusals]
            noted: dict[str, Value] = {"refusals": refusals.encode(decision.refusals), "executor_id": batch.executor_id}
            answers = self._write(
                # Withdrawn and started again, because a unit that started a workflow may be refused after all.
                StatementCall("withdraw_workflows", {"workflow_ids": texts(started)}),
                *changes.start(applied, batch.executor_id),
                *changes.write(applied, batch),
                *changes.wake(batch.executor_id, batch.wakes, self._database.channel),
                StatementCall("note_refusals", noted),
                _read_workflows(refusals.ids_in_use(decision.refusals)),
                _COMMIT,
            )
        return _answers(batch, decision, answers, answers["read_workflows"])

    # --- connections -------------------------------------------------------------------------------

    def _write(self, *calls: StatementCall) -> _Answers:
        in_transaction = self._writer is not None and self._writer.in_transaction
        try:
            return self._run(self._writer, calls)
        except Severed:
            if _COMMIT in calls:
                # A pooler says that the session ended before it read this. It may have sent the batch on nevertheless.
                self._in_doubt = self._number
            if in_transaction:
                raise  # Earlier calls of the same transaction are lost with the session.
            self.reconnect()
            return self._run(self._writer, calls)

    def _read(self, *calls: StatementCall) -> _Answers:
        try:
            return self._run(self._reader, calls)
        except Severed:
            self.reconnect_reader()
            return self._run(self._reader, calls)

    def _run(self, wire: Wire | None, calls: Sequence[StatementCall]) -> _Answers:
        """Run `calls` in one round trip, and raise what their errors mean to the store's caller."""
        if wire is None:
            raise self._database.unavailable("there is no connection")
        if wire.server != self._database.servers.current:
            wire.close()
            raise self._database.unavailable(
                "a newer connection leads to another of its servers, so this connection is closed; tidings reconnects"
            )
        try:
            return self._run_prepared_or_not(wire, calls)
        except Lost as lost:
            if lost.ended_by is not None and lost_prepared(lost.ended_by):
                self._stop_preparing(lost.ended_by)  # With `exit_on_error`, an error ends the session.
            elif lost.ended_by is not None and (severed := self._database.severed(str(lost.ended_by))) is not None:
                raise severed from lost
            raise self._database.unavailable(lost, ambiguous=_COMMIT in calls) from lost
        except ServerError as error:
            if error.sqlstate == FENCE_MOVED:
                raise Fenced("the fence of this executor has moved") from error
            if error.sqlstate == UNIT_REFUSED:
                raise _UnitRefused from error
            if error.sqlstate == NUMBERS_USED_UP or (
                error.sqlstate == UNIQUE_VIOLATION and error.constraint == MESSAGES_PKEY
            ):
                raise _NumberTaken from error
            if error.sqlstate == LEFTOVERS_FOUND:
                raise _LeftoversFound from error
            if error.sqlstate == MESSAGE_GONE:
                raise DataError("a message that was seen before can no longer be taken") from error
            meaning = classify(error, self._database)
            if meaning is None:
                raise
            raise meaning from error

    def _run_prepared_or_not(self, wire: Wire, calls: Sequence[StatementCall]) -> _Answers:
        """Run `calls`; if prepared statements got mixed up, run them again unprepared. A failed call wrote nothing.

        Raises:
            _MixedUp: this happened within a transaction; its earlier calls must be run again too.
        """
        if self.identity in _unprepared:
            wire.stop_preparing()
        within = wire.in_transaction
        try:
            return wire.run(calls)
        except ServerError as error:
            if not (wire.keeps_prepared and lost_prepared(error)):
                raise
            self._stop_preparing(error)
            wire.stop_preparing()
            if within:
                raise _MixedUp from error
        return wire.run(calls)

    def _stop_preparing(self, error: ServerError) -> None:
        with _unprepared_lock:
            is_known = self.identity in _unprepared
            _unprepared.add(self.identity)
        if not is_known:
            logger.warning(
                "%s: a pooler in transaction mode, such as PgBouncer, mixes prepared statements up (%s). From now on "
                "tidings does not prepare statements, which is slower. To avoid this, use PgBouncer 1.21 or newer and "
                "set max_prepared_statements",
                self._database.name,
                error,
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin a transaction that the body commits; if the body does not, it is rolled back."""
        self._write(_BEGIN)
        writer = self._writer
        assert writer is not None
        try:
            yield
        finally:
            writer.rollback()

    def _lock_executors(self, executor_ids: Sequence[str]) -> dict[str, int]:
        found = self._write(StatementCall("lock_executors", {"executor_ids": texts(executor_ids)}))["lock_executors"]
        return {executor_id: fence for executor_id, fence, _ in found}

    def _check_fence(self, executor: Executor, fences: Mapping[str, int]) -> None:
        if fences.get(executor.executor_id) != executor.fence:
            raise Fenced(f"the fence of executor {executor.executor_id} has moved from {executor.fence}")

    @_again_if_mixed_up
    def _put_numbers_right(self) -> None:
        numbers.put_right(self._database, self._write, self._transaction)

    def _remove_leftovers(self, batch: Batch) -> None:
        """Remove the leftovers of deleted workflows under the ids that this batch is about to start."""
        chosen = [unit.start.workflow_id for unit in batch.units if unit.start is not None and unit.start.is_id_chosen]
        ids: dict[str, Value] = {"workflow_ids": texts(chosen)}
        self._write(*(StatementCall(f"remove_left_{what}", ids) for what in _LEFTOVERS))
        logger.warning(
            "%s: removed rows of deleted workflows whose ids are used again. The first of these ids may be %r",
            self._database.name,
            chosen[0],
        )

    def _open(self, check: Callable[[Session, Database], None] | None = None, *, only_reads: bool = False) -> Wire:
        return self._database.wire(prepared=self.identity not in _unprepared, check=check, only_reads=only_reads)

    def _replace(self, wire: Wire | None, *, only_reads: bool = False) -> Wire:
        if wire is not None:
            wire.close()
        try:
            return self._open(only_reads=only_reads)
        except psycopg.Error as error:
            raise self._database.unavailable(error) from error


# --- calls and answers that several methods need -----------------------------------------------------


def _renew(batch: Batch) -> StatementCall:
    return StatementCall(
        "renew_executor",
        {
            "number": batch.number,
            "lease_until_ms": batch.now_ms + batch.lease_ms,
            "executor_id": batch.executor_id,
            "fence": batch.fence,
            "landed": batch.landed,
        },
    )


def _workflow_states(workflow_ids: Iterable[str]) -> StatementCall:
    return StatementCall("workflow_states", {"workflow_ids": texts(workflow_ids)})


def _states(found: Iterable[Row]) -> States:
    return {workflow_id: (status, epoch) for workflow_id, status, epoch in found}


def _read_workflows(workflow_ids: Collection[str]) -> StatementCall:
    return StatementCall("read_workflows", {"workflow_ids": texts(workflow_ids)})


def _answers(batch: Batch, decision: BatchDecision, found: _Answers, in_use: Sequence[Row]) -> list[Answer]:
    """Build the answers. Takes are numbered from 1: which message each got, and which messages wait after it."""
    refused, states = decision
    ahead: defaultdict[int, list[Taken]] = defaultdict(list)
    for number, *message in found.get("see_messages", ()):
        ahead[number].append(taken_of(tuple(message)))
    answers: list[Answer] = [
        refusals.applied(unit, states) if unit.messages and index not in refused else APPLIED
        for index, unit in enumerate(batch.units)
    ]
    takes = [index for index, unit in enumerate(batch.units) if unit.take is not None and index not in refused]
    for index in takes:
        answers[index] = NOTHING
    for number, *message in found.get("take_messages", ()):
        taken = taken_of(tuple(message))
        answers[takes[number - 1]] = replace(taken, ahead=tuple(ahead[number])) if number in ahead else taken
    if refused:
        records = workflows_by_id(in_use)
        for index, refusal in refused.items():
            answers[index] = refusals.refused(refusal, records)
    return answers


def _only(found: Sequence[Row]) -> Row | None:
    return found[0] if found else None
