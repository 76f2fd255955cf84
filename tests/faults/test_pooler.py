"""Behind a pooler in transaction mode whose sessions others have used: whatever opens a connection goes on unprepared.

The pooler here gives each transaction another session, so that what gets mixed up only now and then is mixed up always.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import pq

from harness.postgres import with_options
from tests.faults.load import Load
from tests.store.driver import VERSION, Process, message, new, sending
from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop
from tests.support.pooler import Pooler
from tests.support.rows import Rows
from tidings import DBOSClient
from tidings.error import DBOSInitializationError
from tidings.model import APPLIED, Executor, InUse, Unit
from tidings.store.postgres.connect import Database
from tidings.store.postgres.statements import StatementCall
from tidings.store.postgres.store import PostgresStore
from tidings.store.postgres.wire import ServerError, Wire

pytestmark = pytest.mark.direct("stands before the server itself")

LEASE_MS = 3_600_000


@pytest.fixture
def pooler(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pooler]:
    """A pooler of two sessions. This process knows nothing of it yet."""
    forget_poolers(monkeypatch)
    with Pooler(postgres_url) as pooler:
        yield pooler


@pytest.fixture
def url(pooler: Pooler, postgres_url: str) -> str:
    """The test's database through the pooler."""
    return pooler.url(postgres_url)


@pytest.fixture(params=[False, True], ids=["fresh", "used"])
def pooled_url(request: pytest.FixtureRequest, url: str) -> str:
    """The same, with our tables. In a used pool other processes have left their statements in all sessions."""
    store = PostgresStore(url, "tidings")
    store.migrate()
    if request.param:
        with psycopg.connect(url) as one, psycopg.connect(url) as two:
            for each in (one, two):
                each.execute("select 1")  # From here to its commit it keeps one of the two sessions.
            for each in (one, two):
                for statement in store._database.statements.values():
                    assert each.pgconn.prepare(statement.key, statement.sql).status == pq.ExecStatus.COMMAND_OK
    return url


def forget_poolers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stores of this process try to prepare again, as those of a new process do."""
    monkeypatch.setattr("tidings.store.postgres.line._unprepared", set())


def mix_ups(seen: list[str]) -> list[str]:
    return [each for each in seen if "mixes prepared statements up" in each]


# --- the application --------------------------------------------------------------------------------------------------


async def test_an_application_runs_behind_a_pool(
    pooled_url: str, postgres_url: str, face: Face, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        log.seen.clear()
        forget_poolers(monkeypatch)
        app = App(pooled_url)
        app.rows = Rows(postgres_url)
        await app.launch(notification_listener_polling_interval_sec=0.02)
        if number == 0:
            load = Load(face, workflows=4)
            await load.run()
            await load.check(app.rows)
        await app.close()
        said = mix_ups(log.seen)
        assert len(said) <= 1  # Who writes and who reads share it.
        if number == 0:
            assert said[0].startswith("WARNING PostgreSQL database")
            assert "From now on tidings does not prepare statements" in said[0]
        assert not [each for each in log.seen if "; trying again, nothing is lost" in each]  # It is no outage.


async def test_clients_work_behind_a_pool(
    pooled_url: str, postgres_url: str, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(postgres_url, "tidings")
    store.connect()
    Process(store).start("w")
    store.close()
    for number in range(4):
        if number < 2:  # The others know of it, and say nothing.
            forget_poolers(monkeypatch)
        client = await off_loop(DBOSClient, system_database_url=pooled_url)
        await off_loop(client.check_connection)
        await off_loop(client.send, "w", f"{number}", "topic")
        await off_loop(client.destroy)
        assert len(mix_ups(log.seen)) == min(number, 1) + 1


async def test_what_reconnects_after_an_outage_stays_unprepared(
    pooler: Pooler, pooled_url: str, postgres_url: str, face: Face, log: Sightings
) -> None:
    app = App(pooled_url)
    await app.launch(notification_listener_polling_interval_sec=0.02)
    app.rows = Rows(postgres_url)
    load = Load(face, workflows=4)
    await load.run(lambda: off_loop(pooler.end_sessions))
    await load.check(app.rows)
    await app.close()
    assert len(mix_ups(log.seen)) == 1
    assert not [each for each in log.seen if "42P05" in each and each not in mix_ups(log.seen)]


# --- the store --------------------------------------------------------------------------------------------------------


def fence_of(store: PostgresStore, name: str) -> int:
    state = store.refence(name)
    assert state is not None
    return state.fence


def enlisted(store: PostgresStore, name: str) -> Executor:
    executor = Executor(name, name, store.now_ms() + LEASE_MS, 0, LEASE_MS)
    return replace(executor, fence=store.enlist(executor))


def test_what_takes_several_round_trips_is_done_again_as_a_whole(
    postgres_url: str, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mix-up is noticed in the middle of a transaction, which is rolled back and begun again."""
    store = PostgresStore(postgres_url, "tidings")
    store.migrate()
    store.connect()
    me = enlisted(store, "me")
    process = Process(store)
    process.start("a", "b")

    def noticing(name: str) -> PostgresStore:
        """The store, when somebody else has prepared this statement in the session that it writes with."""
        forget_poolers(monkeypatch)
        store.reconnect()
        statement = store._database.statements[name]
        assert store._writer.wire is not None
        assert store._writer.wire._pq.prepare(statement.key, statement.sql).status == pq.ExecStatus.COMMAND_OK
        return store

    batch = process.batch(Unit(start=new("a")), sending(message("b")))
    in_use, applied = noticing("workflow_states").commit(batch)  # One is refused, and so it goes in two.
    assert isinstance(in_use, InUse)
    assert applied == APPLIED
    claimed = noticing("claim_workflows").claim(me, ["here"], ["flow"], VERSION, 10)
    assert {each.workflow_id for each in claimed} == {"a", "b"}
    me = replace(me, fence=fence_of(store, "me"))
    assert [each.workflow_id for each in noticing("reclaim_workflows").reclaim(me, ["a"])] == ["a"]
    noticing("remove_executor").retire("me", fence_of(store, "me"))
    assert store.executors() == []
    assert store.messages("b", None, 0) != []
    store.close()
    noticed = [each.split('"')[1].rpartition("_")[0] for each in mix_ups(log.seen)]
    assert noticed == ["workflow_states", "claim_workflows", "reclaim_workflows", "remove_executor"]


def test_a_statement_of_another_schema_is_never_run_in_place_of_ours(pooler: Pooler, url: str) -> None:
    """Both have prepared it, each in the session that it had; then one gets the session of the other."""
    one, two = (PostgresStore(url, schema) for schema in ("one", "two"))
    for store in (one, two):
        store.migrate()
    one.connect()
    enlisted(one, "of one")
    one.close()
    ask = StatementCall("read_executors")
    wires = [Wire(store._database.open(), store._database.statements) for store in (one, two)]
    for wire in wires:
        wire._pin = None  # That one is the same for both.
        wire.run([ask])
    transactions = pooler.transactions
    with pytest.raises(ServerError, match="26000"):
        wires[1].run([ask])
    assert pooler.transactions == transactions + 1
    for wire in wires:
        wire.close()


def test_a_rollback_needs_nothing_prepared(postgres_url: str) -> None:
    """Not even where a session has a statement of that name already."""
    store = PostgresStore(postgres_url, "tidings")
    store.migrate()
    store.connect()
    assert store._writer.wire is not None
    key = store._database.statements["rollback"].key.decode()
    store._writer.wire._connection.execute(f'prepare "{key}" as select 1'.encode())
    process = Process(store)
    process.start("w")
    with store._writer.transaction():
        store._writer.write(StatementCall("now_ms"))
    assert not store._writer.wire.in_transaction
    assert process.commit(Unit(start=new("w")), sending(message("w")))[1] == APPLIED
    store.close()


def test_notifications_that_come_over_another_ones_session_are_not_kept(url: str, postgres_url: str) -> None:
    """A session that somebody listened in goes on listening, whoever has it."""
    database = Database(url, "tidings")
    PostgresStore(url, "tidings").migrate()
    for _ in range(4):
        with psycopg.connect(url, autocommit=True) as listener:
            listener.execute("listen here")
    wire = Wire(database.open(), database.statements, prepared=False)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for _ in range(10):
            admin.execute("notify here, 'for nobody'")
            wire.run([StatementCall("now_ms")])
    wire.run([StatementCall("now_ms")])
    assert wire._pq.notifies() is None
    wire.close()


# --- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", " -c geqo=off   --search_path=a,\\ b ", "\t-cgeqo=off\n"])
def test_a_pooler_that_reads_the_settings_can_read_ours(url: str, pooler: Pooler, given: str) -> None:
    store = PostgresStore(with_options(url, given), "tidings")
    store.migrate()
    store.connect()
    store.listen("me").close()
    store.close()
    assert pooler.refused == 0


def test_settings_that_a_pooler_cannot_read_are_refused_with_advice(url: str, pooler: Pooler) -> None:
    store = PostgresStore(with_options(url, "-e"), "tidings")
    with pytest.raises(DBOSInitializationError, match="as -c name=value"):
        store.migrate()
    assert pooler.refused == 1


# --- answers to what nobody has asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opens", ["migrate", "connect", "reconnect", "reconnect_reader", "listen"])
def test_a_session_that_is_out_of_step_is_not_used(url: str, pooler: Pooler, opens: str) -> None:
    store = PostgresStore(url, "tidings")
    store.migrate()
    store.connect()
    pooler.out_of_step = 2
    opened = getattr(store, opens)(*(["me"] if opens == "listen" else []))
    assert pooler.out_of_step == 0
    enlisted(store, "me")
    assert [each.executor_id for each in store.executors()] == ["me"]
    if opened is not None:
        opened.close()
    store.close()


def test_a_pooler_that_is_always_out_of_step_is_unavailable(url: str, pooler: Pooler) -> None:
    store = PostgresStore(url, "tidings")
    pooler.out_of_step = 1_000
    with pytest.raises(DBOSInitializationError, match="answers to other questions: restart the pooler"):
        store.migrate()


def test_a_listener_that_is_closed_listens_no_more_in_its_session(postgres_url: str) -> None:
    """A pooler may take a notification for the end of its own query, with which it cleans a session up."""
    with Pooler(postgres_url, sessions=1) as pooler:
        url = pooler.url(postgres_url)
        listener = PostgresStore(url, "tidings").listen("me")
        with psycopg.connect(url, autocommit=True) as next_client:
            listening = next_client.execute("select count(*) from pg_listening_channels()")
            assert listening.fetchone() == (1,)
            listener.close()
            listening = next_client.execute("select count(*) from pg_listening_channels()")
            assert listening.fetchone() == (0,)
