"""A database that comes back with less than it had acknowledged: a backup, or a standby that lagged.

It is put back under a running process. What the process knows of its runs may then be wrong, so it drops them, and goes
on as another executor from what the database has.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.clock import ManualClock
from tests.support.engines import aside, die, launched, make_engine, running, wait_until
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.records import read_records
from tests.support.rows import Rows
from tidings import DBOS, DBOSClient, SetWorkflowID
from tidings.error import DBOSNonExistentWorkflowError
from tidings.store.sqlite.lock import SideLock

HOUR = 3_600.0

_steps: Counter[tuple[str, int]] = Counter()


def _note(workflow_id: str, number: int) -> int:
    _steps[workflow_id, number] += 1
    return number


async def _note_async(workflow_id: str, number: int) -> int:
    return _note(workflow_id, number)


@DBOS.workflow(name="restored.count")
def count(workflow_id: str) -> list[Any]:
    """Record a step, say so, and receive, three times."""
    seen: list[Any] = []
    for number in range(3):
        seen.append(DBOS.run_step({"name": "note"}, _note, workflow_id, number))
        DBOS.write_stream("seen", number)
        seen.append(DBOS.recv("topic", HOUR))
    return seen


@DBOS.workflow(name="restored.count_async")
async def count_async(workflow_id: str) -> list[Any]:
    """The same, awaiting."""
    seen: list[Any] = []
    for number in range(3):
        seen.append(await DBOS.run_step_async({"name": "note"}, _note_async, workflow_id, number))
        await DBOS.write_stream_async("seen", number)
        seen.append(await DBOS.recv_async("topic", HOUR))
    return seen


@pytest.fixture(autouse=True)
def _registered() -> None:
    _steps.clear()


def start(workflow: Any, workflow_id: str) -> Any:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(workflow, workflow_id)


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of a database that has lost something."""
    return [each.getMessage() for each in caplog.records if each.levelno == logging.CRITICAL]


def snapshot(url: str, directory: Path) -> Callable[[], None]:
    """Keep all that the database has; what this gives puts it back, in one transaction, while others are at work."""
    return _snapshot_of_file(url, directory) if url.startswith("sqlite") else _snapshot_of_tables(url)


def _snapshot_of_file(url: str, directory: Path) -> Callable[[], None]:
    path, backup = url.removeprefix("sqlite:///"), directory / "backup"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)

    def put_back() -> None:
        """Write over the file, in place, as SQLite's own shell does: it stays the same file."""
        with SideLock(path), closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
            target.execute("pragma wal_autocheckpoint = 0")
            source.backup(target)

    return put_back


def _snapshot_of_tables(url: str) -> Callable[[], None]:
    with psycopg.connect(url) as connection:
        found = connection.execute("select tablename from pg_tables where schemaname = 'tidings'").fetchall()
        tables = [sql.Identifier(name) for (name,) in found]
        connection.execute("create schema backup")
        for each in tables:
            connection.execute(sql.SQL("create table backup.{0} as table tidings.{0}").format(each))

    def put_back() -> None:
        while True:  # A statement of the process may hold one of these tables and wait for another.
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                return put_back_once()

    def put_back_once() -> None:
        with psycopg.connect(url) as connection:
            for each in tables:
                connection.execute(sql.SQL("lock table tidings.{} in access exclusive mode").format(each))
            for each in tables:  # All before the first is filled: what belongs to a workflow goes with its row.
                connection.execute(sql.SQL("delete from tidings.{}").format(each))
            for each in tables:
                connection.execute(sql.SQL("insert into tidings.{0} table backup.{0}").format(each))

    return put_back


@pytest.mark.parametrize("workflow", [count, count_async], ids=["blocking", "async"])
def test_what_the_database_has_when_it_is_back_counts(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, workflow: Any
) -> None:
    with running(database_url) as here:
        over = here.executions_over()
        start(workflow, "both")
        here.await_waiting(1)
        put_back = snapshot(database_url, tmp_path)
        former = here.executor_id
        start(workflow, "lost")
        here.await_waiting(2)
        DBOS.send("both", "forgotten", "topic")
        wait_until(lambda: _steps["both", 1] == 1)
        here.await_waiting(2)
        assert losses(caplog) == []

        put_back()

        # It stands there as it stood at the first message, and goes on from there.
        DBOS.send("both", "one", "topic")
        for body in ("two", "three"):
            DBOS.send("both", body, "topic")
        assert DBOS.get_result("both") == [0, "one", 1, "two", 2, "three"]
        assert list(DBOS.read_stream("both", "seen")) == [0, 1, 2]
        wait_until(lambda: sorted(over) == ["both", "both", "lost"])
        with pytest.raises(DBOSNonExistentWorkflowError):
            DBOS.send("lost", "nobody", "topic")
        assert here.executor_id != former
        assert _steps == {("both", 0): 1, ("both", 1): 2, ("both", 2): 1, ("lost", 0): 1}
        [said] = losses(caplog)
        assert "has lost changes that it had confirmed" in said
        assert not here.engine.has_runs()
    assert [(each.workflow_id, each.status) for each in read_records(database_url).workflows] == [("both", "SUCCESS")]


def test_every_process_of_the_database_finds_it_out(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = make_engine(database_url)
    with launched(there):
        start(count, "there")
        there.await_waiting(1)
        with running(database_url) as here:
            start(count, "here")
            here.await_waiting(1)
            put_back = snapshot(database_url, tmp_path)
            formers = {here.executor_id, there.executor_id}
            for workflow_id in ("here", "there"):
                DBOS.send(workflow_id, "forgotten", "topic")
                wait_until(lambda workflow_id=workflow_id: _steps[workflow_id, 1] == 1)  # type: ignore[misc]
            here.await_waiting(1)
            there.await_waiting(1)
            put_back()
            for workflow_id in ("here", "there"):
                for body in ("one", "two", "three"):
                    DBOS.send(workflow_id, body, "topic")
            for workflow_id in ("here", "there"):
                assert DBOS.get_result(workflow_id) == [0, "one", 1, "two", 2, "three"]
            # The other one hears of it with its next batch, the next probe at the latest.
            wait_until(lambda: len(losses(caplog)) == 2)
            wait_until(lambda: not formers & {here.executor_id, there.executor_id})


def test_a_process_that_is_not_even_known_any_more_says_so_too(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It came after the time to which the database was put back, and runs nothing: it has only sent."""
    with running(database_url, lease_ms=3_600_000) as here:  # No probe comes in between.
        start(count, "w")
        here.await_waiting(1)
        put_back = snapshot(database_url, tmp_path)
        client = DBOSClient(system_database_url=database_url)
        for body in ("forgotten", "as well"):
            client.send("w", body, "other")
        put_back()
        client.send("w", "one", "other")
        client.destroy()
        [said] = losses(caplog)
    assert re.search(r"it has no row for this process, and it had confirmed batches up to \d+", said)
    assert [each.body for each in read_records(database_url).messages] == ['"one"']


def test_a_process_that_was_silent_for_a_day_was_forgotten_and_has_lost_nothing(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Others remove what they find dead for so long, if it owns nothing."""
    clock = ManualClock()
    with running(database_url, clock=clock) as here:
        start(count, "w")
        for body in ("one", "two", "three"):
            DBOS.send("w", body, "topic")
        DBOS.get_result("w")
        held, former = here.hold_committer(), here.executor_id
        clock.advance(25 * HOUR)
        Rows(database_url).run("delete from {executors}")
        held.open()
        DBOS.send("w", "late", "topic")
        assert here.executor_id != former
    assert losses(caplog) == []
    assert [each.body for each in read_records(database_url).messages][-1] == '"late"'


def test_a_claim_that_is_lost_is_found_out_with_the_next_batch(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No batch of its process is lost with it. The database says that the workflow is the dead one's still."""
    with running(database_url, lease_ms=3_600_000) as here:  # No probe comes in between.
        over = here.executions_over()
        claiming = here.store.hold("claim")
        dying = make_engine(database_url, lease_ms=3_600_000)
        with launched(dying):
            start(count, "w")
            dying.await_waiting(1)
            die(dying)
        claiming.await_reached()
        put_back = snapshot(database_url, tmp_path)
        noting = here.store.hold("commit")
        claiming.open()
        noting.await_reached()
        put_back()
        noting.open()
        wait_until(lambda: over == ["w"])
        with running(database_url):
            for body in ("one", "two", "three"):
                DBOS.send("w", body, "topic")
            assert DBOS.get_result("w") == [0, "one", 1, "two", 2, "three"]
    assert _steps == {("w", 0): 1, ("w", 1): 1, ("w", 2): 1}
    assert not [each for each in losses(caplog) if "lost" in each]  # Nobody was told of anything that is gone.


def test_a_start_that_was_still_on_its_way_counts_in_the_database_as_it_is_now(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it was in the database, so nothing of it is lost."""

    @DBOS.workflow(name="restored.brief")
    def brief() -> str:
        return "over"

    with running(database_url, lease_ms=3_600_000) as here:  # No probe comes in between.
        start(count, "w")
        here.await_waiting(1)
        put_back = snapshot(database_url, tmp_path)
        DBOS.send("w", "forgotten", "other")
        held = here.hold_committer()
        starting = aside(lambda: DBOS.start_workflow(brief).get_result(timeout_seconds=20))
        here.await_queued(2)  # Its start and its end.
        put_back()
        held.open()
        assert starting.result(timeout=30) == "over"
    assert len(losses(caplog)) == 1


@pytest.mark.parametrize("since", ["before it", "long before", "never"])
def test_a_commit_that_may_have_landed_meets_a_database_that_was_put_back(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, since: str
) -> None:
    """It landed, its answer was lost, and while it is in doubt the database is put back to a time before it, or is not.

    Where nothing else is gone, nobody has been told of anything that is: the batch is written once more.
    """
    with running(database_url, lease_ms=3_600_000) as here:  # No probe comes in between.
        start(count, "w")
        here.await_waiting(1)
        former = here.executor_id
        early = snapshot(database_url, tmp_path) if since == "long before" else None
        if early is not None:
            DBOS.send("w", "forgotten", "other")
        held = here.hold_committer()
        put_back = early or snapshot(database_url, tmp_path)  # Nothing comes between this and the batch in doubt.
        here.store.lose(landed=True)
        gate = here.store.hold("reconnect")
        sending = aside(lambda: DBOS.send("w", "once", "note"))
        here.await_queued(1)
        held.open()
        gate.await_reached()
        if since != "never":
            put_back()
        gate.open()
        sending.result(timeout=PATIENCE_SECONDS)
        DBOS.send("w", "one", "topic")
        wait_until(lambda: _steps["w", 1] == 1)
        is_lost = since == "long before"
        assert len(losses(caplog)) == is_lost
        assert (here.executor_id != former) == is_lost
        bodies = [each.body for each in read_records(database_url).messages]
    assert bodies == ['"once"', '"one"']
