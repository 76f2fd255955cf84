"""The `Store` of `store.protocol` on a PostgreSQL database; that docstring is the contract.

It has a line for writing (`writer`), on which it also commits batches (`batches`), and one for reading (`reading`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import psycopg

from tidings.model import Answer, Executor, ExecutorState, Status, WorkflowRecord
from tidings.store.postgres import changes, schema
from tidings.store.postgres.arrays import texts
from tidings.store.postgres.batches import Batches
from tidings.store.postgres.connect import Database
from tidings.store.postgres.line import BEGIN, COMMIT, only
from tidings.store.postgres.listener import PostgresListener
from tidings.store.postgres.reading import ReadingSide
from tidings.store.postgres.statements import StatementCall, Value
from tidings.store.postgres.writer import Writer, again_if_mixed_up
from tidings.store.protocol import KEEP_EXECUTORS_MS, Batch, Fenced
from tidings.store.rows import workflow_of


class PostgresStore(ReadingSide):
    """Workflows, their entries, messages, events and streams in one schema of a PostgreSQL database."""

    def __init__(self, url: str, schema: str) -> None:
        """Note where the tables are; no connection is opened yet.

        Raises:
            DBOSInitializationError: the URL or the schema's name is not valid.
        """
        database = self._database = Database(url, schema)
        super().__init__(database)
        self.identity = database.identity
        self.name = database.name
        self._writer = Writer(database)
        self._batches = Batches(database, self._writer)
        self._has_just_migrated = False  # If so, this user's rights were checked already.

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
            self._writer.open(check)
            self._reader.open()
            self._writer.put_numbers_right()
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise self._database.unfit(error) from error
            raise

    def close(self) -> None:
        """See `Store.close`."""
        self._writer.close()
        self._reader.close()

    # --- writing: the committer's thread ----------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """See `Store.commit`."""
        return self._batches.commit(batch)

    def recall(self, batch: Batch) -> list[Answer] | None:
        """See `Store.recall`."""
        return self._batches.recall(batch)

    def reconnect(self) -> None:
        """See `Store.reconnect`."""
        self._writer.reopen()

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
            "code_hash": executor.code_hash,
            "takes_other_versions": executor.takes_other_versions,
        }
        return int(self._writer.write(StatementCall("add_executor", row))["add_executor"][0][0])

    @again_if_mixed_up
    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """See `Store.retire`."""
        with self._writer.transaction():
            if self._writer.lock_executors([executor_id]) == {executor_id: fence}:
                this: dict[str, Value] = {"executor_id": executor_id}
                self._writer.write(
                    StatementCall("disown_workflows", this),
                    StatementCall("remove_executor", this),
                    *changes.wake(executor_id, wakes, self._database.channel),
                    COMMIT,
                )

    def refence(self, executor_id: str) -> ExecutorState | None:
        """See `Store.refence`. The second statement sees the changes that the first one waited for."""
        answers = self._writer.write(
            BEGIN,
            StatementCall("lock_executors", {"executor_ids": texts([executor_id])}),
            StatementCall("owned_workflows", {"executor_id": executor_id}),
            COMMIT,
        )
        row = only(answers["lock_executors"])
        return None if row is None else ExecutorState(row[1], row[2], dict(answers["owned_workflows"]))

    @again_if_mixed_up
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
        others = set(dead) - {executor.executor_id}
        gone = texts(others)
        wanted: dict[str, Value] = {
            "dead": gone,
            "names": texts(names),
            "app_version": app_version,
            "code_hash": executor.code_hash,
            "any_version": reserved is not None,
            "reserved": texts(reserved or ()),
            "program": executor.program,
            "limit": limit,
        }
        with self._writer.transaction():
            _check_fence(executor, self._writer.lock_executors([executor.executor_id, *others]))
            answers = self._writer.write(
                StatementCall("raise_fences", {"executor_ids": texts([executor.executor_id, *others])}),
                StatementCall("claim_workflows", wanted | {"executor_id": executor.executor_id}),
                StatementCall("release_stuck", {"executor_ids": gone}),
                StatementCall("remove_idle_executors", {"executor_ids": gone, "keep_ms": KEEP_EXECUTORS_MS}),
                COMMIT,
            )
        return [workflow_of(row) for row in answers["claim_workflows"]]

    @again_if_mixed_up
    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """See `Store.reclaim`."""
        wanted: dict[str, Value] = {
            "workflow_ids": texts(workflow_ids),
            "executor_id": executor.executor_id,
            "program": executor.program,
            "pending": Status.PENDING,
        }
        with self._writer.transaction():
            _check_fence(executor, self._writer.lock_executors([executor.executor_id]))
            own: dict[str, Value] = {"executor_ids": texts([executor.executor_id])}
            answers = self._writer.write(
                StatementCall("raise_fences", own), StatementCall("reclaim_workflows", wanted), COMMIT
            )
        return [workflow_of(row) for row in answers["reclaim_workflows"]]

    # --- hearing: the listener's thread ------------------------------------------------------------

    def listen(self, executor_id: str) -> PostgresListener:
        """See `Store.listen`."""
        return PostgresListener(self._database, executor_id)


def _check_fence(executor: Executor, fences: Mapping[str, int]) -> None:
    if fences.get(executor.executor_id) != executor.fence:
        raise Fenced(f"the fence of executor {executor.executor_id} has moved from {executor.fence}")
