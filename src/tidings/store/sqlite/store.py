"""The `Store` of `store.protocol` on an SQLite file; that docstring is the contract.

It has one writing connection under the side lock (`writer`) and one for reading (`reading`). Each method is one
transaction. A batch first reads the states of the workflows that its conditions need. Then it decides which units apply
(`store.refusals`), and writes one kind of change after the other (`batches`), so that most kinds are one `executemany`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tidings.model import Answer, Executor, ExecutorState, WorkflowRecord
from tidings.store import refusals
from tidings.store.protocol import KEEP_EXECUTORS_MS, Batch, Fenced
from tidings.store.refusals import BatchDecision
from tidings.store.rows import Row, taken_of, workflow_of
from tidings.store.sqlite import batches, numbers, place, rows, schema
from tidings.store.sqlite.connect import check_version, classified, unfit
from tidings.store.sqlite.listener import SqliteListener
from tidings.store.sqlite.place import database_name
from tidings.store.sqlite.reading import ReadingSide, many, read_states, unfit_for_now
from tidings.store.sqlite.wal_reset import tell_of_wal_reset_bug
from tidings.store.sqlite.writer import Writer, not_connected

_SQL: Final = schema.SQL

# How long wakes are kept. A listener that did not look for longer wakes all waiters.
KEEP_WAKES_MS: Final = 10_000


class SqliteStore(ReadingSide):
    """Workflows, their entries, messages, events and streams in one SQLite file."""

    def __init__(self, path: str) -> None:
        """Take the file's absolute path; nothing is opened yet."""
        super().__init__(path)
        self.identity = os.path.realpath(path)
        self.name = database_name(path)
        self._writer: Writer | None = None
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
        place.check(self._path, makes=False)
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
            decision = refusals.decide(batch.units, read_states(db, refusals.workflows_in_question(batch.units)))
            units = [(index, unit) for index, unit in enumerate(batch.units) if index not in decision.refusals]
            batches.write_workflows(db, units, batch)
            batches.send(db, units)
            taken = batches.take(db, units)
            batches.write_history(db, units, taken)
            batches.write_streams(db, units, batch.now_ms)
            self._wake(db, batch.executor_id, batch.wakes, batch.now_ms)
            if decision.refusals:
                db.execute(_SQL["note_refusals"], (refusals.encode(decision.refusals), batch.executor_id))
            return batches.answers(db, batch.units, decision, taken)

    def recall(self, batch: Batch) -> list[Answer] | None:
        """See `Store.recall`. A failed connection takes its transaction with it, so there is nothing to wait for."""
        with self._writing() as db:
            row = db.execute(_SQL["last_batch"], (batch.executor_id,)).fetchone()
            if row is None or row[0] != batch.number:
                return None
            decision = BatchDecision(refusals.decode(row[1]), read_states(db, refusals.destinations(batch.units)))
            taken = {}
            for index, unit in enumerate(batch.units):
                if unit.take is not None and index not in decision.refusals:
                    found = db.execute(_SQL["message_taken_at"], (unit.workflow_id, *batches.place_of(unit))).fetchone()
                    taken[index] = taken_of(found) if found else None
            return batches.answers(db, batch.units, decision, taken)

    def reconnect(self) -> None:
        """See `Store.reconnect`."""
        writer, self._writer = self._writer, None
        with classified(self._path):
            if writer is not None:
                writer.close()
            with unfit_for_now():
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
        self,
        executor: Executor,
        dead: Collection[str],
        names: Collection[str],
        app_version: str,
        limit: int,
        reserved: Collection[str] | None = None,
    ) -> list[WorkflowRecord]:
        """See `Store.claim`."""
        with self._writing() as db:
            self._check_not_stranded(executor.executor_id)
            _check_fence(db, executor)
            gone = many(list(set(dead) - {executor.executor_id}))
            db.execute(_SQL["raise_fences"], (many([executor.executor_id, *dead]),))
            wanted = {
                "dead": gone,
                "names": many(list(names)),
                "app_version": app_version,
                "code_hash": executor.code_hash,
                "any_version": int(reserved is not None),
                "reserved": many(list(reserved or ())),
                "program": executor.program,
                "limit": limit,
            }
            seqs = db.execute(_SQL["claimable_workflows"], wanted).fetchall()
            claimed = _raise_epochs(db, executor, seqs, app_version)
            db.execute(_SQL["release_stuck"], (gone,))
            db.execute(_SQL["remove_idle_executors"], (gone, self.now_ms() - KEEP_EXECUTORS_MS))
            return claimed

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """See `Store.reclaim`."""
        with self._writing() as db:
            self._check_not_stranded(executor.executor_id)
            _check_fence(db, executor)
            db.execute(_SQL["raise_fences"], (many([executor.executor_id]),))
            wanted = {"workflow_ids": many(list(workflow_ids)), "executor_id": executor.executor_id}
            return _raise_epochs(db, executor, db.execute(_SQL["reclaimable_workflows"], wanted).fetchall())

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
