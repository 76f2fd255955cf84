"""What only the SQLite store has: the file, its connections, the side lock, the log, its errors, its plans."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.store.driver import (
    Process,
    appending,
    ending,
    entry,
    item,
    message,
    new,
    recording,
    sending,
    streaming,
    taking,
)
from tests.support.rights import without_rights
from tidings.error import DBOSInitializationError
from tidings.model import APPLIED, Executor, NoSuchWorkflow, Taken, Unit, WorkflowFilter
from tidings.store import migrate as migrations
from tidings.store.protocol import DataError, Unavailable
from tidings.store.queries import load
from tidings.store.sqlite import SqliteStore, connect, schema, writer
from tidings.store.sqlite.lock import SideLock

QUERIES = load("tidings.store.sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or is to be."""
    return tmp_path / "tidings.sqlite"


@pytest.fixture
def database_url(path: Path) -> str:
    """Where the stores of this file are: on a disk."""
    return f"sqlite:///{path}"


def writing_connection(store: SqliteStore) -> sqlite3.Connection:
    assert store._writer is not None
    return store._writer._connection


def reading_connection(store: SqliteStore) -> sqlite3.Connection:
    assert store._reader is not None
    return store._reader


@contextmanager
def instructions(connection: sqlite3.Connection) -> Iterator[list[None]]:
    """Count the instructions of SQLite's machine that the body takes."""
    executed: list[None] = []
    connection.set_progress_handler(lambda: executed.append(None), 1)
    yield executed
    connection.set_progress_handler(None, 1)


def is_locked(path: Path) -> bool:
    """Whether anybody holds the side lock."""
    fd = os.open(f"{path}-lock", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def size_of_log(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


# --- connections ---------------------------------------------------------------------------------------


def test_both_connections_are_durable_and_never_checkpoint_by_themselves(store: SqliteStore) -> None:
    for connection in (writing_connection(store), reading_connection(store)):
        found = {
            name: connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint")
        }
        assert found == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0}
        assert connection.isolation_level is None


def test_the_reader_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reading_connection(store).execute("delete from tidings_workflows")


def test_reading_leaves_no_transaction_open(process: Process, store: SqliteStore) -> None:
    process.start("w")
    store.workflows(["w"])
    store.histories(["w"])
    assert not reading_connection(store).in_transaction


# --- the side lock ---------------------------------------------------------------------------------------


def test_everything_that_writes_happens_under_the_side_lock(
    path: Path, process: Process, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 0)
    store.reconnect()
    seen: list[tuple[str, bool]] = []
    writing_connection(store).set_trace_callback(lambda statement: seen.append((statement, is_locked(path))))
    batch = process.batch(Unit(start=new("w")), sending(message("w")), taking("w", 1))
    store.commit(batch)
    store.recall(batch)
    store.enlist(Executor("dead", "label", 0, 0))
    process.claim("dead")
    process.reclaim("w")
    store.refence(process.executor_id)
    store.retire(process.executor_id, process.fence)
    assert all(locked for _, locked in seen)
    assert [each for each, _ in seen].count("begin immediate") == 7
    assert sum(each.startswith("pragma wal_checkpoint(") for each, _ in seen) == 7
    assert not is_locked(path)


def test_the_lock_is_given_back_after_an_error(path: Path, process: Process) -> None:
    with pytest.raises(DataError):
        process.commit(sending(message("\ud800")))
    assert not is_locked(path)


def test_two_locks_of_one_process_keep_each_other_out(path: Path) -> None:
    with closing(SideLock(str(path))) as lock, lock:
        assert is_locked(path)
    assert not is_locked(path)


def test_a_link_to_the_database_has_the_same_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    with closing(SideLock(str(link))) as lock, lock:
        assert is_locked(path)


# --- the log ---------------------------------------------------------------------------------------------


def test_a_log_that_has_grown_large_begins_anew_in_the_same_blocks(
    path: Path, process: Process, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.start("w")
    assert size_of_log(path) > 0
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1_000_000)
    store.reconnect()
    process.commit(*recording("w", entry(1, "x" * 900_000)))
    assert 900_000 < size_of_log(path) < 1_000_000
    process.commit(*recording("w", entry(2, "x" * 300_000)))
    assert size_of_log(path) > 1_200_000  # And it was checkpointed.
    for position in range(3, 11):
        process.commit(*recording("w", entry(position, "x" * 100_000)))
        assert size_of_log(path) == 1_000_000
    for position in range(11, 21):
        process.commit(*recording("w", entry(position, "x" * 100_000)))
        assert 1_000_000 <= size_of_log(path) < 1_200_000
    [history] = store.histories(["w"])
    assert len(history.entries) == 20


def test_a_log_that_another_program_begins_anew_brings_no_checkpoint_with_each_commit(
    path: Path, process: Process, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.start("w")
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1_000_000)
    store.reconnect()
    statements: list[str] = []
    writing_connection(store).set_trace_callback(statements.append)
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.execute("pragma wal_autocheckpoint = 0")
        program.execute("create table theirs (number integer)")
        for position in range(1, 31):
            process.commit(*recording("w", entry(position, "x" * 100_000)))
            program.execute("insert into theirs values (1)")
    assert sum("wal_checkpoint" in each for each in statements) < 8
    assert size_of_log(path) < 1_300_000


def test_a_reader_in_the_way_delays_the_checkpoint_and_nothing_else(
    path: Path, process: Process, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 100_000)
    store.reconnect()
    process.start("w")
    statements: list[str] = []
    with closing(connect.connect(str(path))) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from tidings_workflows").fetchall()
        process.commit(*recording("w", entry(1, "x" * 110_000)))
        in_the_way = size_of_log(path)
        assert in_the_way > 100_000
        writing_connection(store).set_trace_callback(statements.append)
        process.commit(*recording("w", entry(2)))
        assert not any("checkpoint" in each for each in statements)  # not at every commit
        reader.rollback()
    process.commit(*recording("w", entry(3, "x" * 110_000)))
    process.commit(*recording("w", entry(4)))
    assert size_of_log(path) == 100_000
    [history] = store.histories(["w"])
    assert len(history.entries) == 4


def test_a_checkpoint_that_fails_does_not_fail_the_commit(
    store: SqliteStore, process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 0)
    store.reconnect()
    failing(store, "pragma wal_checkpoint(restart)", error(sqlite3.SQLITE_IOERR))
    assert process.commit(Unit(start=new("w"))) == [APPLIED]
    assert "to be tried again" in caplog.text


def test_the_last_connection_to_close_leaves_one_file(path: Path, store: SqliteStore, process: Process) -> None:
    process.start("w")
    store.close()
    assert not Path(f"{path}-wal").exists()


# --- errors ------------------------------------------------------------------------------------------------


def error(code: int) -> sqlite3.Error:
    """An error as SQLite raises it."""
    made = sqlite3.OperationalError("made by the test")
    made.sqlite_errorcode = code
    return made


class FailingConnection:
    """A connection on which one statement fails, before it is executed or after."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: Exception, execute_first: bool) -> None:
        self._connection = connection
        self._failing = (statement, error, execute_first)

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        """Execute, or fail."""
        failing, error, execute_first = self._failing
        if statement == failing:
            if execute_first:
                self._connection.execute(statement, *parameters)
            raise error
        return self._connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def failing(store: SqliteStore, statement: str, error: Exception, *, execute_first: bool = False) -> None:
    """Let a statement of the writer fail from now on."""
    assert store._writer is not None
    fake: Any = FailingConnection(store._writer._connection, statement, error, execute_first)
    store._writer._connection = fake


@pytest.mark.parametrize("execute_first", [True, False], ids=["landed", "did not land"])
def test_an_error_in_commit_is_ambiguous_and_recall_tells(
    store: SqliteStore, process: Process, execute_first: bool
) -> None:
    process.start("w")
    failing(store, "commit", error(sqlite3.SQLITE_IOERR_FSYNC), execute_first=execute_first)
    batch = process.batch(sending(message("w")), taking("w", 1), sending(message("no")))
    with pytest.raises(Unavailable, match=r"tidings\.sqlite: made by the test") as raised:
        store.commit(batch)
    assert raised.value.ambiguous
    store.reconnect()
    answers = store.recall(batch)
    if not execute_first:
        assert answers is None
        answers = store.commit(batch)
    assert answers is not None
    assert (answers[0], answers[2]) == (APPLIED, NoSuchWorkflow(("no",)))
    assert isinstance(answers[1], Taken)
    assert answers[1].body == "hello"


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    ],
)
def test_what_may_pass_is_unavailable_and_rolled_back(store: SqliteStore, process: Process, code: int) -> None:
    connection = writing_connection(store)
    failing(store, QUERIES["workflow_states"], error(code))
    with pytest.raises(Unavailable) as raised:
        process.commit(Unit(start=new("w")))
    assert not raised.value.ambiguous
    assert not connection.in_transaction
    store.reconnect()
    assert process.commit(Unit(start=new("w"))) == [APPLIED]


def test_a_mistake_of_ours_is_not_dressed_up(store: SqliteStore, process: Process) -> None:
    connection = writing_connection(store)
    failing(store, QUERIES["workflow_states"], error(sqlite3.SQLITE_ERROR))
    with pytest.raises(sqlite3.OperationalError, match="made by the test"):
        process.commit(Unit(start=new("w")))
    assert not connection.in_transaction


def test_a_disk_that_is_full_is_survived(store: SqliteStore, process: Process) -> None:
    process.start("w")
    (pages,) = writing_connection(store).execute("pragma page_count").fetchone()
    writing_connection(store).execute(f"pragma max_page_count = {pages}")
    with pytest.raises(Unavailable, match="full"):
        process.commit(*recording("w", entry(1, "x" * 100_000)))
    writing_connection(store).execute(f"pragma max_page_count = {pages + 100}")
    assert process.commit(*recording("w", entry(1, "x" * 100_000))) == [APPLIED]


def test_another_programs_transaction_makes_the_store_unavailable(
    path: Path, process: Process, store: SqliteStore
) -> None:
    writing_connection(store).execute("pragma busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as another:
        another.execute("begin immediate")
        with pytest.raises(Unavailable, match="locked"):
            process.start("w")
        another.execute("rollback")
    process.start("w")


def test_what_does_not_fit_an_integer_or_a_limit_is_a_data_error(store: SqliteStore, process: Process) -> None:
    process.start("w")
    with pytest.raises(DataError):
        process.commit(*recording("w", entry(2**63)))
    writing_connection(store).setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    with pytest.raises(DataError):
        process.commit(*recording("w", entry(1, "x" * 10_001)))
    assert process.commit(*recording("w", entry(1))) == [APPLIED]


def test_an_entry_of_an_unknown_workflow_is_a_data_error(process: Process) -> None:
    with pytest.raises(DataError):
        process.commit(*recording("unknown", entry(1)))


def test_without_a_connection_the_store_is_unavailable(path: Path, store: SqliteStore, process: Process) -> None:
    store.close()
    path.rename(path.with_suffix(".away"))
    calls: list[Callable[[], object]] = [
        process.commit,
        store.executors,
        store.reconnect,
        store.reconnect_reader,
        process.commit,
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()
    path.with_suffix(".away").rename(path)
    store.reconnect()
    store.reconnect_reader()
    assert process.commit(Unit(start=new("w")), ending("w")) == [APPLIED, APPLIED]


# --- a file that cannot be ---------------------------------------------------------------------------------


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "missing" / "tidings.sqlite"))
    for start in (store.migrate, store.connect):
        with pytest.raises(DBOSInitializationError, match=r"there is no directory .*/missing: create it first"):
            start()


def test_a_missing_file_is_not_made_by_connecting(path: Path) -> None:
    with pytest.raises(DBOSInitializationError, match="migrate it first"):
        SqliteStore(str(path)).connect()
    assert list(path.parent.iterdir()) == []


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(DBOSInitializationError, match="this is a directory"):
        SqliteStore(str(tmp_path)).migrate()


def test_another_kind_of_file_is_left_alone(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1_000)
    with pytest.raises(DBOSInitializationError, match="not an SQLite database"):
        SqliteStore(str(path)).migrate()
    assert path.read_text() == "Dear diary,\n" * 1_000


def test_a_file_that_may_not_be_written_is_refused() -> None:
    directory = Path(tempfile.mkdtemp())  # not pytest's, into which nobody else may look
    try:
        path = directory / "tidings.sqlite"
        SqliteStore(str(path)).migrate()
        path.chmod(0o444)
        directory.chmod(0o555)
        with without_rights(), pytest.raises(DBOSInitializationError, match=r"this program cannot write to it"):
            SqliteStore(str(path)).migrate()
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


# --- the schema --------------------------------------------------------------------------------------------


def test_a_file_of_an_application_keeps_what_it_has(path: Path) -> None:
    with closing(sqlite3.connect(path)) as application:
        application.execute("pragma user_version = 42")
        application.execute("create table orders (id integer)")
        application.execute("insert into orders values (7)")
        application.commit()
    SqliteStore(str(path)).migrate()
    with closing(sqlite3.connect(path)) as application:
        assert application.execute("pragma user_version").fetchone() == (42,)
        assert application.execute("select * from orders").fetchall() == [(7,)]


def test_a_schema_of_the_future_is_refused(path: Path, store: SqliteStore) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as future:
        future.execute("update tidings_schema set version = ?", (migrations.SCHEMA_VERSION + 1,))
        future.commit()
    for start in (store.migrate, store.connect):
        with pytest.raises(
            DBOSInitializationError, match=r"schema version \d+ is newer than this library's \d+: upgrade"
        ):
            start()


def test_a_migration_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = migrations.Migration(2, "0002_broken.sql", "create table tidings_more (a);\nnonsense;\n")
    everything = [*migrations.pending("tidings.store.sqlite", 0, ""), broken]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "pending", lambda *_: everything)
        with pytest.raises(DBOSInitializationError, match="nonsense"):
            SqliteStore(str(path)).migrate()
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("select name from sqlite_master where name like 'tidings%'").fetchall() == []
    SqliteStore(str(path)).migrate()


@pytest.mark.parametrize(("version", "is_strict"), [((3, 35, 0), False), ((3, 36, 0), False), ((3, 37, 0), True)])
def test_tables_are_strict_where_sqlite_knows_the_word(version: tuple[int, int, int], is_strict: bool) -> None:
    tables = [
        schema.understood(statement, version)
        for migration in migrations.pending("tidings.store.sqlite", 0, "")
        for statement in schema.statements(migration.sql)
        if statement.startswith("create table")
    ]
    assert tables
    for table in tables:
        assert bool(re.search(r"\bstrict\b", table)) is is_strict
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in tables if version <= sqlite3.sqlite_version_info else ():
            connection.execute(table)
            connection.execute(f"drop table {table.split()[2]}")


def test_a_schema_that_this_sqlite_cannot_read_is_said_to_be_newer(path: Path, store: SqliteStore) -> None:
    """As a strict table is to SQLite before 3.37."""
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("update sqlite_schema set sql = sql || ' of the future' where name = 'tidings_schema'")
    with pytest.raises(DBOSInitializationError, match=rf"made by a newer SQLite than {sqlite3.sqlite_version}"):
        schema.migrate(str(path))


def test_a_script_is_split_into_statements() -> None:
    script = "-- what\ncreate table a (b text default ';');  -- why; so\n\ncreate trigger t after insert on a begin\n"
    script += "  delete from a; select 1;\nend;\n-- the end\n"
    assert [each.split()[:2] for each in schema.statements(script)] == [["create", "table"], ["create", "trigger"]]
    with pytest.raises(ValueError, match="is not complete"):
        list(schema.statements("create table a (b)"))


# --- statements --------------------------------------------------------------------------------------------


def nulls_for(statement: str) -> dict[str, None] | list[None]:
    """Parameters that bind, whatever they mean."""
    named = re.findall(r":([a-z_]+)", statement)
    return dict.fromkeys(named) if named else [None] * statement.count("?")


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_every_query_prepares_on_a_migrated_database(store: SqliteStore, name: str) -> None:
    statement = QUERIES[name]
    writing_connection(store).execute(f"explain {statement}", nulls_for(statement)).fetchall()


def plan_of(store: SqliteStore, name: str) -> str:
    statement = QUERIES[name]
    found = writing_connection(store).execute(f"explain query plan {statement}", nulls_for(statement))
    # Before 3.36 a table had this word before its name, and kept its name beside its alias.
    return "\n".join(re.sub(r"(SCAN|SEARCH) TABLE (?:\w+ AS )?", r"\1 ", row[3]) for row in found)


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_parameters_have_no_number_and_are_all_named_or_all_nameless(name: str) -> None:
    # Python 3.12.0 to 3.12.3 take a numbered parameter for a named one, and warn if it is given in a sequence.
    text = re.sub(r"'[^']*'", "''", QUERIES[name])
    assert not re.findall(r"\?\d", text)
    assert not ("?" in text and re.search(r"[:@$][a-z]", text))


def test_a_take_searches_the_index_of_the_unread(store: SqliteStore) -> None:
    plan = plan_of(store, "take_message")
    assert "SEARCH m USING INDEX tidings_messages_unread (destination_seq=? AND topic=?)" in plan
    assert "TEMP B-TREE" not in plan


OF_STREAMS = ["read_item_places", "stream_lengths", "closed_streams", "stream_states", "read_items"]


@pytest.mark.parametrize(
    "name", ["claimable_workflows", "owned_workflows", "disown_workflows", "release_stuck", "pending_groups"]
)
def test_pending_workflows_are_found_by_their_index(store: SqliteStore, name: str) -> None:
    plan = plan_of(store, name)
    assert "tidings_workflows_pending" in plan
    assert "SCAN tidings_workflows\n" not in f"{plan}\n"


@pytest.mark.parametrize("name", ["read_entries", "read_event_places", "latest_events", "all_events", *OF_STREAMS])
def test_what_workflows_recorded_is_found_by_their_numbers(store: SqliteStore, name: str) -> None:
    assert not re.search(r"SCAN (e|w|m|i|c|latest|tidings_\w+)\b", plan_of(store, name))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("list_by_ids", "SEARCH tidings_workflows USING INDEX sqlite_autoindex_tidings_workflows_1 (workflow_id=?)"),
        ("list_by_parent", "SEARCH tidings_workflows USING INDEX tidings_workflows_by_parent (parent_id=?)"),
        ("list_by_prefix", "USING INDEX sqlite_autoindex_tidings_workflows_1 (workflow_id>? AND workflow_id<?)"),
        ("list_pending", "SCAN tidings_workflows USING INDEX tidings_workflows_pending"),
    ],
)
def test_a_list_goes_by_an_index(store: SqliteStore, name: str, way: str) -> None:
    plan = plan_of(store, name)
    assert way in plan
    assert "SCAN tidings_workflows\n" not in f"{plan}\n"


@pytest.mark.parametrize("name", ["list_newest", "list_oldest"])
def test_a_list_of_all_walks_through_the_table_and_sorts_nothing(store: SqliteStore, name: str) -> None:
    plan = plan_of(store, name)
    assert plan.startswith("SCAN tidings_workflows\n")
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_page_of_all_costs_the_same_beside_many(process: Process, store: SqliteStore, newest_first: bool) -> None:

    def cost() -> int:
        with instructions(reading_connection(store)) as executed:
            found = store.list_workflows(WorkflowFilter(limit=10, newest_first=newest_first))
        assert len(found) == 10
        return len(executed)

    process.start(*(f"first {number}" for number in range(20)))
    first = cost()
    process.start(*(f"w{number}" for number in range(2_000)))
    assert cost() <= first + 20


def test_messages_are_listed_by_the_index_of_the_unread_and_by_entries(store: SqliteStore) -> None:
    plan = plan_of(store, "read_messages")
    assert "SEARCH tidings_messages USING INDEX tidings_messages_unread (destination_seq=?)" in plan
    assert "SEARCH e USING INDEX sqlite_autoindex_tidings_entries_1 (workflow_seq=?)" in plan
    assert not re.search(r"SCAN (m|e|tidings_\w+)\b", plan)


def test_steps_are_listed_by_the_number_of_their_workflow(store: SqliteStore) -> None:
    assert not re.search(r"SCAN (m|e|v|i|tidings_\w+)\b", plan_of(store, "read_steps"))


def test_large_values_stand_last_in_their_rows(store: SqliteStore) -> None:
    """A row is read from its beginning, so what stands before them is read without them.

    `stuck` is nearly always NULL, which the head of the row shows.
    """
    last = {"workflows": {"error", "output", "inputs"}, "entries": {"error", "output"}, "messages": {"body"}}
    last |= {"events": {"value"}, "stream_items": {"value"}}
    for table, values in last.items():
        columns = [row[1] for row in reading_connection(store).execute(f"pragma table_info(tidings_{table})")]
        columns = [each for each in columns if each != "stuck"]
        assert set(columns[-len(values) :]) == values


def test_lengths_of_streams_are_looked_up_in_the_index_and_nothing_is_sorted_for_them(store: SqliteStore) -> None:
    for name in ("stream_lengths", "read_items"):
        assert "TEMP B-TREE" not in plan_of(store, name)
    for name in ("stream_lengths", "stream_states"):
        assert "SEARCH i USING COVERING INDEX" in plan_of(store, name)
        assert "SEARCH i USING INDEX" not in plan_of(store, name)
    page = "USING INDEX sqlite_autoindex_tidings_stream_items_1 (workflow_seq=? AND key=? AND item_offset>?)"
    assert page in plan_of(store, "read_items")


def test_a_page_costs_the_same_wherever_it_is_and_what_it_does_not_return_is_not_read(
    process: Process, store: SqliteStore
) -> None:
    process.start("short", "w")
    process.commit(*streaming("short", "k", *["v"] * 10))
    process.commit(*streaming("w", "k", *["v"] * 3_000))

    def cost(workflow_id: str, offset: int, limit: int, max_bytes: int, count: int) -> int:
        with instructions(reading_connection(store)) as executed:
            [page] = store.read_streams([(workflow_id, "k", offset)], limit, max_bytes)
        assert len(page.values) == count
        return len(executed)

    first = cost("short", 0, 10, 1_000, 10)
    assert cost("w", 0, 10, 1_000, 10) <= first + 20
    assert cost("w", 2_980, 10, 1_000, 10) <= first + 20
    assert cost("w", 0, 3_000, 10, 10) <= first + 20  # ten bytes
    assert cost("w", 3_000, 10, 1_000, 0) <= first


def test_lengths_cost_the_same_however_long_streams_are(process: Process, store: SqliteStore) -> None:
    process.start("short", "w")
    for workflow_id, count in (("short", 2), ("w", 2_000)):
        for key in ("k", "l"):
            process.commit(*appending(workflow_id, *(item(key, n, "v", 1, attempt=1) for n in range(count))))

    def cost(workflow_id: str) -> int:
        connection = reading_connection(store)
        with instructions(connection) as executed:
            found = connection.execute(QUERIES["stream_lengths"], (f'["{workflow_id}"]',)).fetchall()
        assert [key for _, key, _ in found] == ["k", "l"]
        return len(executed)

    assert cost("w") <= cost("short") + 20


@pytest.mark.parametrize("topic", [None, "t"])
def test_a_take_costs_the_same_after_many_read_messages(
    process: Process, store: SqliteStore, topic: str | None
) -> None:
    process.start("w", "v")

    def cost(workflow_id: str, position: int) -> int:
        with instructions(writing_connection(store)) as executed:
            assert isinstance(process.take(workflow_id, position, topic), Taken)
        return len(executed)

    process.commit(sending(message("v", topic=topic)))
    first = cost("v", 1)
    process.commit(sending(*(message("w", topic=topic) for _ in range(2_001))))
    process.commit(*(taking("w", position, topic) for position in range(1, 2_001)))
    assert cost("w", 2_001) <= first + 20


# --- which SQLite this is ------------------------------------------------------------------------------------


def test_an_old_sqlite_is_refused() -> None:
    connect.check_version()
    with pytest.raises(DBOSInitializationError, match=r"has SQLite 3\.34\.1, and tidings needs 3\.35\.0"):
        connect.check_version((3, 34, 1))


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOSPC, "No space left")]
)
@pytest.mark.parametrize("moment", ["before the commit", "behind the commit"])
def test_a_lack_of_the_process_is_an_outage_and_in_doubt_where_it_is(path: Path, error: Exception, moment: str) -> None:
    """SQLite's own lack of memory comes as a MemoryError, which is no error of SQLite to Python."""
    schema.migrate(str(path))
    with closing(writer.Writer(str(path))) as one, ExitStack() as patched:

        def write() -> None:
            with one.transaction():
                if moment == "before the commit":
                    raise error
                patched.enter_context(mock.patch.object(one, "_tend_log", mock.Mock(side_effect=error)))

        with pytest.raises(Unavailable) as raised:
            write()
    assert raised.value.ambiguous == (moment == "behind the commit")
