"""What is PostgreSQL's own: plans, locks, lost connections, migrations. The contract is in `test_conformance`.

Races are forced, not hoped for: a second session holds a lock, and the server says who waits for whom.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, LiteralString, Protocol
from unittest import mock

import psycopg
import pytest
from psycopg import pq, sql

from harness.password import PASSWORD
from harness.postgres import PostgresServer, new_database
from tests.store.driver import (
    Process,
    ending,
    entry,
    event,
    message,
    new,
    opened,
    publishing,
    recording,
    sending,
    streaming,
    taking,
)
from tests.support.crowd import await_crowd, start_crowd
from tidings.error import DBOSInitializationError
from tidings.model import APPLIED, Answer, Entry, InUse, NoSuchWorkflow, Stale, Status, Taken, Unit
from tidings.store import open as open_store
from tidings.store.migrate import SCHEMA_VERSION
from tidings.store.postgres import connect
from tidings.store.postgres.connect import Database, classify
from tidings.store.postgres.statements import Statement, StatementCall, in_schema, prepare
from tidings.store.postgres.store import PostgresStore
from tidings.store.postgres.wire import Lost, ServerError
from tidings.store.protocol import Batch, DataError, Fenced, Unavailable
from tidings.store.rows import Row

pytestmark = [
    pytest.mark.unmigrated,
    pytest.mark.direct("looks into the server's sessions: plans, locks, process ids"),
]

SCHEMA = "tidings"
STATEMENTS = prepare(SCHEMA)


class OpenStore(Protocol):
    """Opens one more store on the test's database, as another process would."""

    def __call__(self, schema: str = SCHEMA) -> PostgresStore: ...


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """Where the stores of this file are."""
    return postgres_url


@pytest.fixture
def admin(postgres_url: str, store: PostgresStore) -> Iterator[psycopg.Connection]:
    """A session of somebody else on the same database, in autocommit mode."""
    with psycopg.connect(postgres_url, autocommit=True, options=f"-c search_path={SCHEMA}") as connection:
        yield connection


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def pid_of(store: PostgresStore) -> int:
    """The server's process that serves the store's writing connection."""
    assert store._writer.wire is not None
    return store._writer.wire.backend_pid


def await_waiting(admin: psycopg.Connection, pid: int) -> None:
    """Return once this backend waits for a lock."""
    while admin.execute("select pg_blocking_pids(%s) <> '{}'", (pid,)).fetchone() != (True,):
        pass


def cut(store: PostgresStore) -> None:
    """Break the store's writing connection at the client's end; the server does not notice while it is busy."""
    assert store._writer.wire is not None
    with socket.socket(fileno=os.dup(store._writer.wire._pq.socket)) as wire:
        wire.shutdown(socket.SHUT_RDWR)


def entries_of(store: PostgresStore, workflow_id: str) -> list[Entry]:
    [history] = store.histories([workflow_id])
    return [recorded.entry for recorded in history.entries]


# --- statements and their plans -----------------------------------------------------------------------


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=lambda statement: statement.name)
def test_every_statement_can_be_prepared(store: PostgresStore, postgres_url: str, statement: Statement) -> None:
    with psycopg.connect(postgres_url) as connection:
        result = connection.pgconn.prepare(b"", statement.sql)
        assert result.status == pq.ExecStatus.COMMAND_OK, result.error_message


def plan_of(connection: psycopg.Connection, name: str, options: LiteralString = "costs") -> list[dict[str, Any]]:
    """Every node of the plan that is kept for a statement."""
    statement = STATEMENTS[name]
    connection.execute(b"prepare plan_of as " + statement.sql)
    arguments = sql.SQL("({})").format(sql.SQL(",").join([sql.NULL] * len(statement.parameters)))
    explain = sql.SQL(f"explain ({options}, format json) execute plan_of") + (
        arguments if statement.parameters else sql.SQL("")
    )
    row = connection.execute(explain).fetchone()
    connection.execute("deallocate plan_of")
    assert row is not None
    return list(nodes_of(row[0][0]["Plan"]))


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes_of(child)


def scans_without_condition(plan: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scans of our tables without a key. How catalogs are read depends on their statistics."""
    ours = [node for node in plan if not node.get("Relation Name", "").startswith("pg_")]
    return [node for node in ours if node["Node Type"] in SCANS and "Index Cond" not in node]


SCANS = {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan"}

# They read a table that has one row for each process, or all that is pending because that is asked for; or one row
# from the end of an index.
READ_ALL = {"numbers_amiss", "read_executors", "pending_groups", "schema_version", "set_schema_version"}

# They walk through an index until their page is full, or look at all that is pending. See their test below.
WALKS = {"list_newest", "list_oldest", "list_pending", "list_stuck"}

# While the tables are empty, reading all that is pending is as good. See the test of claims below.
SETTLE_LATER = {"claim_workflows", "remove_idle_executors"}

NO_PLAN = {
    "begin", "begin_reading", "commit", "rollback", "create_schema", "lock_migrations", "lock_messages", "lock_starts",
    "define_messages_seq", "define_workflows_seq",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - READ_ALL - WALKS - SETTLE_LATER - NO_PLAN))
def test_plans_made_for_empty_tables_look_only_into_indexes(store: PostgresStore, name: str) -> None:
    """They are kept while the tables grow, so each table must be entered by a key."""
    with store._database.open() as connection:
        assert scans_without_condition(plan_of(connection, name)) == []


def test_a_claim_does_not_read_what_living_executors_own(store: PostgresStore, admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into executors (executor_id, label, lease_until_ms, fence) select 'e' || n, '', 0, 1"
        " from generate_series(1, 20) n"
    )
    admin.execute(
        "insert into workflows (workflow_id, seq, status, name, inputs, serialization, epoch, executor_id, app_version,"
        " created_at_ms, updated_at_ms)"
        " select 'w' || n, n, 'PENDING', 'flow', '', '', 1, 'e' || n % 20 + 1, 'v', 0, 0"
        " from generate_series(1, 20000) n"
    )
    admin.execute("analyze workflows")
    with store._database.open() as connection:
        for name in SETTLE_LATER:
            assert scans_without_condition(plan_of(connection, name)) == []


@pytest.mark.parametrize("name", sorted(WALKS))
def test_a_list_goes_by_an_index_and_sorts_at_most_what_is_pending(
    store: PostgresStore, admin: psycopg.Connection, name: str
) -> None:
    with store._database.open() as connection:
        made_for_an_empty_table = plan_of(connection, name)
        admin.execute(
            "insert into workflows (workflow_id, seq, status, name, inputs, serialization, epoch, app_version,"
            " created_at_ms, updated_at_ms)"
            " select 'w' || n, n, case when n % 1000 = 0 then 'PENDING' else 'SUCCESS' end, 'f', '', '', 1, 'v', n, n"
            " from generate_series(1, 20000) n"
        )
        admin.execute("analyze workflows")
        made_for_a_full_table = plan_of(connection, name)
    index = {"list_pending": "workflows_pending", "list_stuck": "workflows_stuck"}.get(name, "workflows_in_order")
    direction = "Backward" if name == "list_newest" else "Forward"
    for plan in (made_for_an_empty_table, made_for_a_full_table):
        [scan] = [node for node in plan if node["Node Type"] in SCANS]
        assert (scan["Node Type"], scan["Index Name"], scan["Scan Direction"]) == ("Index Scan", index, direction)
        assert ("Sort" in {node["Node Type"] for node in plan}) == (name in ("list_pending", "list_stuck"))


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("list_by_ids", {"workflows_pkey"}),
        ("list_by_parent", {"workflows_by_parent"}),
        ("list_by_prefix", {"workflows_pkey"}),
        ("read_messages", {"workflows_pkey", "messages_unread", "entries_pkey", "messages_pkey"}),
        ("read_steps", {"workflows_pkey", "entries_pkey", "events_pkey", "stream_items_pkey", "messages_pkey"}),
    ],
)
def test_a_list_of_few_goes_by_their_keys(store: PostgresStore, name: str, indexes: set[str]) -> None:
    with store._database.open() as connection:
        plan = plan_of(connection, name)
    assert {node["Index Name"] for node in plan if "Index Name" in node} == indexes
    assert scans_without_condition(plan) == []


@pytest.mark.parametrize("name", ["read_item_places", "stream_lengths", "read_steps"])
def test_a_history_reads_no_values_of_streams(store: PostgresStore, name: str) -> None:
    """A value that no node of the plan puts out is not fetched from where large ones are kept."""
    with store._database.open() as connection:
        plan = plan_of(connection, name, "verbose")
    put_out = {column for node in plan for column in node.get("Output", ())}
    assert not [column for column in put_out if column.endswith("value")]


def test_a_page_costs_the_same_wherever_it_is_and_what_it_does_not_return_is_not_read(
    process: Process, store: PostgresStore, admin: psycopg.Connection
) -> None:
    process.start("w")
    admin.execute(
        "insert into stream_items (workflow_id, key, item_offset, branch, position, ordinal, at_ms, value)"
        " select 'w', 'k', n, '', n, n, 0, repeat('x', 400) from generate_series(0, 50000) n"
    )
    # Incompressible, so that each is a few rows of another table.
    admin.execute(
        "insert into stream_items (workflow_id, key, item_offset, branch, position, ordinal, at_ms, value)"
        " select 'w', 'large', n, '', n, n, 0, string_agg(md5(n::text || m), '')"
        " from generate_series(0, 500) n, generate_series(1, 1000) m group by n"
    )
    vacuum(admin, "stream_items")
    with store._database.open() as connection:

        def cost(key: str, offset: int, limit: int, max_bytes: int) -> int:
            return blocks_of_page(connection, key, offset, limit, max_bytes)

        cost("k", 0, 1, 1)  # plans are made once
        first = cost("k", 0, 100, 1_000_000)
        assert first < 40
        assert cost("k", 49_000, 100, 1_000_000) <= first + 5
        assert cost("k", 50_001, 100, 1_000_000) <= 15  # nobody has written there yet
        assert cost("k", 0, 50_000, 400 * 10) <= first  # ten values, and what is fetched ahead
        one_large = cost("large", 0, 1, 1)
        assert cost("large", 0, 500, 1) <= one_large + 10


def vacuum(admin: psycopg.Connection, table: LiteralString) -> None:
    """Vacuum a table once no session sees it as it was: the server may be at its own look, and then nothing goes."""
    others = "datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null"
    while admin.execute(f"select pg_sleep(0.01) from pg_stat_activity where {others} limit 1").fetchall():
        pass
    admin.execute(f"vacuum {table}")


def blocks_of_page(connection: psycopg.Connection, key: str, offset: int, limit: int, max_bytes: int) -> int:
    """Read a page, and count the blocks that the server looked at."""
    given = {"workflow_id": ["w"], "key": [key], "item_offset": [offset], "limit": limit, "max_bytes": max_bytes}
    return blocks_of(connection, "read_streams", given)


def test_a_page_is_read_in_the_snapshot_of_its_statement(admin: psycopg.Connection) -> None:
    """A function that is VOLATILE would see items that were committed after the length was read."""
    assert admin.execute("select provolatile from pg_proc where proname = 'page_of_stream'").fetchall() == [("s",)]


def test_a_thousand_items_are_one_statement(
    process: Process, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.start("w")
    assert store._writer.wire is not None
    run = store._writer.wire.run
    names: list[str] = []

    def note(calls: Sequence[StatementCall]) -> dict[str, list[Row]]:
        names.extend(call.name for call in calls)
        return run(calls)

    monkeypatch.setattr(store._writer.wire, "run", note)
    process.commit(*streaming("w", "k", *["v"] * 1_000))
    assert names == ["begin", "renew_executor", "lock_workflows", "append_items", "commit"]


@pytest.mark.parametrize("topic", [None, "topic"])
def test_a_take_costs_the_same_after_many_read_messages(
    process: Process, store: PostgresStore, admin: psycopg.Connection, topic: str | None
) -> None:
    process.start("w")
    admin.execute(
        "insert into messages (seq, destination_id, topic, body, sent_at_ms)"
        " select nextval('messages_seq'), 'w', %s, 'read', 0 from generate_series(1, 100000)",
        (topic,),
    )
    admin.execute("update messages set read_by_branch = '', read_by_position = seq")
    vacuum(admin, "messages")  # as autovacuum does: till then a take steps over what was read since
    process.commit(*(sending(message("w", str(each), topic)) for each in range(3)))
    with store._database.open() as connection, connection.transaction(force_rollback=True):
        plan = plan_of(connection, "take_messages")
        indexes = [node["Index Name"] for node in plan if "Index Name" in node]
        assert indexes == ["messages_unread", "messages_unread", "messages_pkey"]  # with a topic, without; the update
        assert blocks_of_takes(connection, topic) < 200
    assert process.drain("w", topic) == ["0", "1", "2"]


def blocks_of_takes(connection: psycopg.Connection, topic: str | None) -> int:
    """Take three messages, and count the blocks that the server looked at."""
    given: dict[str, list[Any]] = {"workflow_id": ["w"] * 3, "topic": [topic] * 3, "name": ["recv"] * 3}
    given |= {"branch": [""] * 3, "position": [1, 2, 3], "ordinal": [1, 2, 3], "state": ["DONE"] * 3}
    missing = dict.fromkeys(STATEMENTS["take_messages"].parameters, [None] * 3)
    return blocks_of(connection, "take_messages", missing | given, rows=3)


def blocks_of(connection: psycopg.Connection, name: str, given: dict[str, Any], rows: int = 1) -> int:
    """Execute a statement, and count the blocks that the server looked at."""
    statement = STATEMENTS[name]
    connection.execute(b"prepare blocks_of as " + statement.sql)
    arguments = sql.SQL(",").join(sql.Literal(given[each]) for each in statement.parameters)
    explain = sql.SQL("explain (analyze, buffers, format json) execute blocks_of ({})").format(arguments)
    row = connection.execute(explain).fetchone()
    connection.execute("deallocate blocks_of")
    assert row is not None
    top = row[0][0]["Plan"]
    assert top["Actual Rows"] == rows
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


# --- order --------------------------------------------------------------------------------------------


def test_numbers_are_drawn_in_the_order_of_the_units(process: Process, admin: psycopg.Connection) -> None:
    process.start("w")
    order = [f"{(each * 7919) % 500:03}" for each in range(500)]  # neither rising nor falling
    process.commit(*(sending(message("w", each, key=each if int(each) % 2 else None)) for each in order))
    assert [body for (body,) in admin.execute("select body from messages order by seq")] == order
    process.start(*order)
    started = admin.execute("select workflow_id from workflows where workflow_id <> 'w' order by seq")
    assert [workflow_id for (workflow_id,) in started] == order


# --- the fence ----------------------------------------------------------------------------------------


def test_a_batch_that_waits_for_a_raise_of_its_fence_writes_nothing(
    process: Process, store: PostgresStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    process.start("w")
    with admin.transaction():
        admin.execute("update executors set fence = fence + 1")
        committing = threads.submit(process.commit, Unit("w", 1, entry(1)), sending(message("w")), ending("w"))
        await_waiting(admin, pid_of(store))
    with pytest.raises(Fenced):
        committing.result()
    assert entries_of(store, "w") == []
    assert store.workflows(["w"])["w"].status == "PENDING"
    assert admin.execute("select count(*) from messages").fetchone() == (0,)


def test_a_batch_that_waits_for_a_raise_that_is_rolled_back_is_written(
    process: Process, store: PostgresStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    process.start("w")
    with admin.transaction(force_rollback=True):
        admin.execute("update executors set fence = fence + 1")
        committing = threads.submit(process.commit, Unit("w", 1, entry(1)))
        await_waiting(admin, pid_of(store))
    assert committing.result() == [APPLIED]
    assert entries_of(store, "w") == [entry(1)]


def test_a_claim_waits_for_the_batch_in_flight_and_reads_what_it_wrote(
    process: Process, open_store: OpenStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    """The batch is paused between its check of the fence and its commit; what it starts is claimed too."""
    store = process.store
    assert isinstance(store, PostgresStore)
    heir = Process(heirs := open_store(), "heir")
    process.start("w")
    with admin.transaction():
        admin.execute("lock table entries in share mode")
        committing = threads.submit(process.commit, Unit("w", 1, entry(1)), Unit(start=new("late")))
        await_waiting(admin, pid_of(store))
        claiming = threads.submit(heir.claim, "here")
        await_waiting(admin, pid_of(heirs))
    assert committing.result() == [APPLIED, APPLIED]
    assert claiming.result() == ["w", "late"]
    assert entries_of(heirs, "w") == [entry(1)]
    with pytest.raises(Fenced):
        process.commit(Unit("w", 1, entry(2)))


def test_two_executors_that_take_each_other_for_dead_do_not_deadlock(
    open_store: OpenStore, threads: ThreadPoolExecutor
) -> None:
    a, b = Process(open_store(), "a"), Process(open_store(), "b")
    a.start("w")
    for _ in range(50):
        both = [threads.submit(a.claim, "b"), threads.submit(b.claim, "a")]
        outcomes = [future.exception() for future in both]
        assert all(each is None or isinstance(each, Fenced) for each in outcomes)
        assert None in outcomes
        for process in (a, b):
            found = process.store.refence(process.executor_id)
            process.fence = found.fence if found else process.store.enlist(process.executor)


# --- lost connections ------------------------------------------------------------------------------------


def every_kind_of_answer(process: Process) -> tuple[Batch, Callable[[list[Answer]], None]]:
    process.start("w", "v", "gone")
    process.commit(ending("gone"), sending(message("w", "first")))
    batch = process.batch(
        Unit("w", 1, entry(1)),
        Unit(start=new("w")),
        sending(message("w"), message("unknown")),
        ending("gone"),
        taking("w", 2),
        taking("v", 1, otherwise=opened(1)),
        Unit(start=new("fresh")),
    )

    def check(answers: list[Answer]) -> None:
        assert [type(each).__name__ for each in answers] == [
            "Applied", "InUse", "NoSuchWorkflow", "Stale", "Taken", "Nothing", "Applied",
        ]  # fmt: skip
        assert isinstance(answers[1], InUse)
        assert answers[1].workflow.workflow_id == "w"
        assert answers[2] == NoSuchWorkflow(("unknown",))
        assert isinstance(answers[3], Stale)
        assert isinstance(answers[4], Taken)
        assert answers[4].body == "first"

    return batch, check


def test_a_batch_whose_backend_was_killed_before_the_commit_did_not_land(
    process: Process, store: PostgresStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    batch, check = every_kind_of_answer(process)
    with admin.transaction():
        admin.execute("lock table entries in share mode")
        committing = threads.submit(store.commit, batch)
        await_waiting(admin, pid_of(store))
        admin.execute("select pg_terminate_backend(%s)", (pid_of(store),))
        with pytest.raises(Unavailable) as caught:
            committing.result()
    assert caught.value.ambiguous
    with pytest.raises(Unavailable):
        store.commit(batch)
    store.reconnect()
    assert store.recall(batch) is None
    assert entries_of(store, "w") == []
    answers = store.commit(batch)
    check(answers)
    assert store.recall(batch) == answers


def test_a_recall_waits_for_the_old_backend_and_repeats_its_answers(
    process: Process, store: PostgresStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    """The connection breaks while the server works on the batch, and the server goes on."""
    batch, check = every_kind_of_answer(process)
    with admin.transaction():
        admin.execute("lock table entries in share mode")
        committing = threads.submit(store.commit, batch)
        await_waiting(admin, pid_of(store))
        cut(store)
        with pytest.raises(Unavailable) as caught:
            committing.result()
        assert caught.value.ambiguous
        store.reconnect()
        recalling = threads.submit(store.recall, batch)
        await_waiting(admin, pid_of(store))
    answers = recalling.result()
    assert answers is not None
    check(answers)
    assert [each.position for each in entries_of(store, "w")] == [1, 2]


def test_a_batch_that_lands_after_its_recall_is_not_written_twice(
    process: Process, store: PostgresStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    """The old backend stalls before it touches its row. It goes on when the batch is being sent again."""
    process.start("w")
    batch = process.batch(sending(message("w", "once")))
    with admin.transaction():
        admin.execute("lock table executors in share mode")  # lets recall look, and nobody write
        committing = threads.submit(store.commit, batch)
        await_waiting(admin, pid_of(store))
        cut(store)
        with pytest.raises(Unavailable):
            committing.result()
        store.reconnect()
        assert store.recall(batch) is None
        again = threads.submit(store.commit, batch)
        await_waiting(admin, pid_of(store))
    assert again.result() == [APPLIED]
    assert process.drain("w") == ["once"]


def test_a_store_whose_reader_was_killed_reads_again(store: PostgresStore, admin: psycopg.Connection) -> None:
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name = 'tidings'"
    )
    with pytest.raises(Unavailable):
        store.executors()
    store.reconnect_reader()
    assert store.executors() == []


def test_a_pooler_that_loses_prepared_statements_is_survived(process: Process, store: PostgresStore) -> None:
    """Without a failure that anybody sees; see `faults/test_pooler`."""
    process.start("w")
    for _ in range(2):
        assert store._writer.wire is not None
        store._writer.wire._connection.execute("deallocate all")
        assert process.commit(Unit("w", 1, entry(1))) == [APPLIED]


def test_a_database_that_takes_no_writes_is_unavailable() -> None:
    """As a server is that has become a replica."""
    with PostgresServer(fsync="off") as server:
        store = PostgresStore(server.url, SCHEMA)
        store.migrate()
        store.connect()
        process = Process(store)
        process.start("w")
        server.demote()
        store.reconnect()
        store.reconnect_reader()
        with pytest.raises(Unavailable, match="it is read-only, as a standby is") as caught:
            process.commit(Unit("w", 1, entry(1)))
        assert not caught.value.ambiguous
        assert [*store.workflows(["w"])] == ["w"]
        with pytest.raises(DBOSInitializationError, match="it is a standby; give the URL of the server that takes"):
            PostgresStore(server.url, SCHEMA).migrate()
        server.promote()
        assert process.commit(Unit("w", 1, entry(1))) == [APPLIED]
        store.close()


@pytest.mark.parametrize("bad", ["lone \ud800 surrogate", "a \0 NUL"])
def test_text_that_cannot_be_stored_is_a_fault_of_the_data(process: Process, store: PostgresStore, bad: str) -> None:
    process.start("w")
    with pytest.raises(DataError):
        process.commit(Unit("w", 1, entry(1)), Unit("w", 1, entry(2, bad)))
    assert entries_of(store, "w") == []
    assert process.commit(Unit("w", 1, entry(1))) == [APPLIED]


def test_text_is_not_cut_off_where_it_is_looked_for(process: Process, store: PostgresStore) -> None:
    process.start("w")
    for ask in (lambda: store.steps("w\0", None, 0, True), lambda: store.all_events("w\0")):
        with pytest.raises(DataError):
            ask()


def test_a_number_beyond_64_bits_is_a_fault_of_the_data(process: Process) -> None:
    process.start("w")
    with pytest.raises(DataError):
        process.commit(Unit("w", 1, entry(1 << 63)))


# --- committers of several processes -----------------------------------------------------------------------


def test_committers_whose_batches_cross_never_deadlock(open_store: OpenStore) -> None:
    """Each sends to the other's workflows, starts the same ids and cancels the same runs, in its own order."""
    ids = [f"w{each}" for each in range(8)]
    a, b = Process(open_store(), "a"), Process(open_store(), "b")
    a.start(*ids)
    meet = threading.Barrier(2)
    rounds = 150

    def run(process: Process, order: list[str]) -> None:
        for turn in range(rounds):
            if process is a:
                process.commit(*(Unit(start=new(f"{each}/{turn}")) for each in ids))
            meet.wait()
            units = [sending(*(message(each, key=f"{turn}") for each in order))]
            units += [Unit(cancels=(f"{each}/{turn}",)) for each in order]
            units += [Unit(start=new(f"{each}/{turn}/child")) for each in order]
            process.commit(*units)
            meet.wait()

    with ThreadPoolExecutor() as pool:
        futures: list[Future[None]] = [pool.submit(run, a, ids), pool.submit(run, b, ids[::-1])]
        for future in futures:
            future.add_done_callback(lambda done: meet.abort() if done.exception() else None)
        for future in futures:
            future.result()
    assert len(a.drain("w0")) == rounds


def test_committers_that_publish_for_what_the_other_one_cancels_never_deadlock(
    open_store: OpenStore, threads: ThreadPoolExecutor
) -> None:
    """Each sends to the other's workflows, publishes for its own, and cancels one of the other's."""
    a, b = Process(open_store(), "a"), Process(open_store(), "b")
    a.start("in a")
    b.start("in b")
    meet = threading.Barrier(2)
    rounds = 150

    def run(process: Process, other: Process) -> int:
        refused = 0
        for turn in range(rounds):
            mine, theirs = f"{process.executor_id}/{turn}", f"{other.executor_id}/{turn}"
            process.start(mine)
            meet.wait()
            answers = process.commit(
                sending(message(f"in {other.executor_id}", key=f"{turn}"), message(theirs)),
                *streaming(f"in {process.executor_id}", "k", "v", offset=turn),
                Unit(cancels=(theirs,)),
                *publishing(mine, event("k", 1, "v")),
                Unit(start=new(f"{theirs}/child")),
            )
            refused += answers[3] == Stale(Status.CANCELLED)
            assert answers[1:3] == [APPLIED] * 2
            meet.wait()
        return refused

    futures = [threads.submit(run, a, b), threads.submit(run, b, a)]
    for future in futures:
        future.add_done_callback(lambda done: meet.abort() if done.exception() else None)
    assert sum(future.result() for future in futures) == rounds, "one batch of two comes second, and hears of the first"
    assert [page.length for page in a.store.read_streams([("in a", "k", 0), ("in b", "k", 0)], 1, 1)] == [rounds] * 2


@pytest.mark.parametrize("first", ["publisher", "canceller"])
def test_of_a_publication_and_a_cancellation_the_first_one_counts(
    open_store: OpenStore, admin: psycopg.Connection, threads: ThreadPoolExecutor, first: str
) -> None:
    """The second waits for the first to be committed, between its check and the end of its batch."""
    a, b = open_store(), open_store()
    owner, other = Process(a, "owner"), Process(b, "other")
    owner.start("w")
    with psycopg.connect(admin.info.dsn, options=f"-c search_path={SCHEMA}") as blocker:
        # Behind its check, and before the end of its batch, the first one waits here.
        if first == "publisher":
            blocker.execute("lock table stream_items in exclusive mode")
            publishing = threads.submit(owner.commit, *streaming("w", "k", "v"))
            await_waiting(admin, pid_of(a))
            cancelling = threads.submit(other.commit, Unit(cancels=("w",)))
            await_waiting(admin, pid_of(b))
        else:
            blocker.execute("lock table messages in exclusive mode")
            cancelling = threads.submit(other.commit, Unit(cancels=("w",)), sending(message("w")))
            await_waiting(admin, pid_of(b))
            publishing = threads.submit(owner.commit, *streaming("w", "k", "v"))
            await_waiting(admin, pid_of(a))
        [page] = a.read_streams([("w", "k", 0)], 9, 9)
        assert (page.length, page.status) == (0, Status.PENDING)
        blocker.rollback()
    assert cancelling.result()[0] == APPLIED
    assert publishing.result() == [APPLIED if first == "publisher" else Stale(Status.CANCELLED)]
    [page] = a.read_streams([("w", "k", 0)], 9, 9)
    assert (page.length, page.status) == (1 if first == "publisher" else 0, Status.CANCELLED)


def test_a_row_that_is_published_for_is_locked_though_another_one_does_not_fit(
    open_store: OpenStore, admin: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    """All are locked before any is decided on, whatever plan the server makes: or batches would meet in two orders."""
    a = open_store()
    owner = Process(a, "owner")
    owner.start("a", "m", "z")
    owner.commit(Unit(cancels=("a",)))
    with psycopg.connect(admin.info.dsn, options=f"-c search_path={SCHEMA}") as blocker:
        blocker.execute("select from workflows where workflow_id = 'z' for update")
        publishing = threads.submit(owner.commit, *(unit for each in "zam" for unit in streaming(each, "k", "v")))
        await_waiting(admin, pid_of(a))
        blocker.rollback()
    assert publishing.result() == [APPLIED, Stale(Status.CANCELLED), APPLIED]


def test_one_start_wins_and_the_other_sees_it(open_store: OpenStore, threads: ThreadPoolExecutor) -> None:
    a, b = Process(open_store(), "a"), Process(open_store(), "b")
    for turn in range(50):
        both = [threads.submit(each.commit, Unit(start=new(f"w{turn}", name=each.executor_id))) for each in (a, b)]
        answers = [answer for future in both for answer in future.result()]
        [lost] = [answer for answer in answers if isinstance(answer, InUse)]
        [winner] = [each for each, answer in zip((a, b), answers, strict=True) if answer == APPLIED]
        assert lost.workflow.name == lost.workflow.executor_id == winner.executor_id


# --- the schema, and starting ----------------------------------------------------------------------------------


def test_sixteen_processes_migrate_at_once(postgres_url: str) -> None:
    """All wait for one lock, that of the migrations, until the last one is there."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        with admin.transaction():
            admin.execute("select pg_advisory_xact_lock(hashtextextended('tidings: migrate tidings', 0))")
            crowd = start_crowd("migrate", 16, postgres_url)
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            while admin.execute(waiting).fetchone() != (16,):
                assert crowd.poll() is None
        await_crowd(crowd)
        assert admin.execute("select version from tidings.schema_version").fetchall() == [(SCHEMA_VERSION,)]


SCHEMAS = {
    "plain": "plain",
    "a space": "Upper Case",
    "double quotes": 'quote"d""',
    "quotes": "it's ''",
    "braces": "{schema}",
    "a colon": ":name",
    "percent": "100%s",
    "the longest": "ü" * 31,
    "a line break": "two\nlines",
    "a line break of Windows": "two\r\nlines\r\n",
    "a comment": "a -- b\n; c /* d",
    "a backslash": "back\\slash\\",
    "an escape": "E'\\n\\'",
    "dollars": "$$ $b0$ $1",
    "a tab": "\ttab",
    "the end of a statement": '"; select 1; --',
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_may_have_any_name(
    open_store: OpenStore, admin: psycopg.Connection, caplog: pytest.LogCaptureFixture, schema: str
) -> None:
    """Also for its functions, its sequences, and who opens it again."""
    store = open_store(schema)
    process = Process(store)
    process.start("w", "gone")
    store.listen("somebody else").close()
    assert process.commit(sending(message("w"))) == [APPLIED]
    assert process.drain("w") == ["hello"]
    admin.execute(in_schema("alter sequence {schema}.messages_seq restart with 1 cache 7", schema).encode())
    process.commit(sending(message("w", "kept")))
    store.reconnect()
    assert [each for each in caplog.messages if "sequence messages_seq" in each]
    admin.execute(in_schema("delete from {schema}.workflows where workflow_id = 'w'", schema).encode())
    assert admin.execute(in_schema("select count(*) from {schema}.messages", schema).encode()).fetchone() == (0,)
    assert [*open_store(schema).workflows(["w", "gone"])] == ["gone"]


@pytest.mark.parametrize("schema", ["", "x" * 64, "ü" * 32, "a\0b"])
def test_a_name_that_postgresql_would_change_is_refused(schema: str) -> None:
    with pytest.raises(DBOSInitializationError, match="schema"):
        PostgresStore("postgresql://localhost/x", schema)


def test_a_database_without_the_schema_must_be_migrated_first(postgres_url: str) -> None:
    with pytest.raises(DBOSInitializationError, match="migrate it first"):
        PostgresStore(postgres_url, SCHEMA).connect()


def test_a_newer_schema_is_refused(store: PostgresStore, admin: psycopg.Connection, postgres_url: str) -> None:
    admin.execute("update schema_version set version = version + 1")
    other = PostgresStore(postgres_url, SCHEMA)
    for start in (other.migrate, other.connect):
        with pytest.raises(DBOSInitializationError, match="newer"):
            start()


def test_a_current_schema_asks_for_no_right_to_create(store: PostgresStore, admin: psycopg.Connection) -> None:
    name = f"{admin.info.dbname}_user"
    admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    try:
        url = f"postgresql://{name}@127.0.0.1:{admin.info.port}/{admin.info.dbname}"
        admin.execute(sql.SQL("grant usage on schema tidings to {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("grant all on all tables in schema tidings to {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("grant all on all sequences in schema tidings to {}").format(sql.Identifier(name)))
        other = PostgresStore(url, SCHEMA)
        other.migrate()
        other.connect()
        Process(other).start("w")
        other.close()
        with pytest.raises(DBOSInitializationError, match=r"permission denied.*may create"):
            PostgresStore(url, "another").migrate()
    finally:
        admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def test_a_session_keeps_the_promises_whatever_the_servers_defaults_are(store: PostgresStore) -> None:
    with store._database.open() as connection:
        for name, value in (("synchronous_commit", "on"), ("default_transaction_isolation", "read committed")):
            assert connection.execute(sql.SQL("show {}").format(sql.Identifier(name))).fetchone() == (value,)


def test_a_server_that_is_too_old_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OLDEST_SERVER", 99)
    with pytest.raises(DBOSInitializationError, match="needs 99 or newer"):
        PostgresStore(postgres_url, SCHEMA).migrate()


def test_a_database_that_is_not_unicode_is_refused(postgres_server: str) -> None:
    with new_database(postgres_server) as url, psycopg.connect(url, autocommit=True) as admin:
        name = sql.Identifier(f"{admin.info.dbname}_ascii")
        make = sql.SQL("create database {} template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'")
        admin.execute(make.format(name))
        try:
            with pytest.raises(DBOSInitializationError, match=r"SQL_ASCII.*UTF8"):
                PostgresStore(f"{url}_ascii", SCHEMA).migrate()
        finally:
            admin.execute(sql.SQL("drop database {} with (force)").format(name))


def refused(url: str) -> str:
    """What both ways to start say about this URL."""
    said = []
    for start in (PostgresStore.migrate, PostgresStore.connect):
        with pytest.raises(DBOSInitializationError) as caught:
            start(PostgresStore(url, SCHEMA))
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


def test_a_database_that_does_not_exist_is_named(postgres_server: str) -> None:
    url = postgres_server.rpartition("/")[0] + "/nowhere"
    said = refused(url)
    assert 'database "nowhere" does not exist' in said
    assert PASSWORD not in said


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        said = refused(f"postgresql://me:h1dden@127.0.0.1:{port}/db")
    assert f"127.0.0.1:{port}" in said
    assert "Connection refused" in said
    assert PASSWORD not in said


def test_a_wrong_password_is_not_repeated(threads: ThreadPoolExecutor) -> None:
    reply = b'SFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'

    def refuse_twice(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"E" + (len(reply) + 4).to_bytes(4, "big") + reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threads.submit(refuse_twice, listener)
        port = listener.getsockname()[1]
        said = refused(f"postgresql://me:h1dden@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable")
        serving.result()
    assert "password authentication failed" in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:h1dden@more@host/db",
        "postgresql://me:h1dden@host:port/db",
        "postgresql://me:h1dden@host/db?nonsense=1",
        "postgresql://me:h1dden%zz@host/db",
        "postgresql://me:h1dden@[::1/db",
    ],
)
def test_a_url_that_cannot_be_says_so_without_the_password(url: str) -> None:
    with pytest.raises(DBOSInitializationError) as caught:
        PostgresStore(url, SCHEMA).migrate()
    assert PASSWORD not in str(caught.value)


def test_several_units_of_one_place_merge(process: Process, store: PostgresStore) -> None:
    process.start("w")
    process.commit(*recording("w", opened(1), entry(1, "done"), opened(1), opened(2, 5), opened(2, 6)))
    assert entries_of(store, "w") == [entry(1, "done"), opened(2, 6)]


@pytest.mark.parametrize("lacks", ["thread", "descriptor"])
def test_a_reconnect_waits_for_a_thread_and_a_descriptor(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """Both are needed to see to a server that never answers. A pooler, or the server, is not to blame."""
    store = open_store(postgres_url)
    store.migrate()
    store.connect()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    def no_descriptor(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        if lacks == "thread":
            patched.setattr("tidings.store.postgres.patience.threading.Timer.start", no_thread)
        else:
            patched.setattr("tidings.store.postgres.patience.os.dup", no_descriptor)
        thread, file = "cannot start a thread: .*limit on threads", "cannot open another socket: .*open files"
        said = thread if lacks == "thread" else file
        for reconnect in (store.reconnect, store.reconnect_reader, lambda: store.listen("me")):
            with pytest.raises(Unavailable, match=f"this process {said}"):
                reconnect()
        with pytest.raises(Unavailable, match="there is no connection"):
            store.now_ms()
    store.reconnect()
    store.reconnect_reader()
    assert store.now_ms()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    store.close()


@pytest.mark.parametrize("sqlstate", ["53000", "53100", "53200", "53300", "53400", "58030"])
def test_a_server_that_lacks_something_is_an_outage(sqlstate: str) -> None:
    """Its disk is full, its memory, its connections are used up, a file cannot be read."""
    database = Database("postgresql://host/database", "tidings")
    assert isinstance(classify(ServerError(sqlstate, "no room"), database), Unavailable)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), InterruptedError()])
def test_a_wire_whose_process_lacks_something_is_lost_and_not_broken(postgres_url: str, error: Exception) -> None:
    wire = Database(postgres_url, "public").wire(prepared=False)

    def fail(*_: object, **__: object) -> None:
        raise error

    with mock.patch.object(wire, "_exchange", fail), pytest.raises(Lost):
        wire.run([StatementCall("now_ms")])
    with pytest.raises(Lost, match="the connection is closed"):
        wire.run([StatementCall("now_ms")])
