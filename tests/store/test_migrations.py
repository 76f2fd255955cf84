"""Databases of earlier versions, with what is in them, brought up to date. On both backends.

An earlier version is made by applying its migrations and no later ones; its rows are written past the
library, which writes today's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

import tidings.store
from tests.store.driver import NOW_MS, VERSION, Process, closing, ending, entry, owned, recording, sending, streaming
from tests.store.driver import message as letter
from tests.support.rows import Rows
from tidings.model import (
    APPLIED,
    Entry,
    History,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Taken,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store import migrate
from tidings.store.postgres import schema as postgres_schema
from tidings.store.protocol import Store
from tidings.store.sqlite import schema as sqlite_schema

pytestmark = pytest.mark.unmigrated

BACKENDS = {"tidings.store.sqlite": sqlite_schema, "tidings.store.postgres": postgres_schema}


def make(url: str, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a database of an earlier version."""
    with monkeypatch.context() as patch:
        for package, schema in BACKENDS.items():
            every = migrate.pending(package, 0, "")
            patch.setattr(schema, "pending", lambda *_, every=every: every[:version])
            patch.setattr(schema, "SCHEMA_VERSION", version)
        tidings.store.open(url).migrate()


def fill(rows: Rows) -> None:
    """Write three workflows, in columns that every version has.

    The newest, a fourth, is gone again, and its number with it.
    """
    number = "" if rows.is_sqlite else ", seq"
    for seq, (workflow_id, status, output, owner, parent_id) in enumerate(
        [
            ("parent", "SUCCESS", '"out"', "old", None),
            ("child", "PENDING", None, "old", "parent"),
            ("lost", "PENDING", None, None, None),
            ("gone", "PENDING", None, None, None),
        ],
        1,
    ):
        values = (workflow_id, status, "flow", "[1]", output, "json", 3, owner, VERSION, parent_id, NOW_MS, NOW_MS + 1)
        drawn = "" if rows.is_sqlite else ", nextval('tidings.workflows_seq')"
        rows.run(
            "insert into {workflows} (workflow_id, status, name, inputs, output, serialization, epoch, executor_id,"
            f" app_version, parent_id, created_at_ms, updated_at_ms{number})"
            f" values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{drawn})",
            *values,
        )
        assert rows.run("select seq from {workflows} where workflow_id = ?", workflow_id) == [(seq,)]
    rows.run("delete from {workflows} where workflow_id = 'gone'")
    child = (2,) if rows.is_sqlite else ("child",)
    of, to = ("workflow_seq", "destination_seq") if rows.is_sqlite else ("workflow_id", "destination_id")
    place = f"insert into {{entries}} ({of}, branch, position, ordinal, name, state, message_seq) values"
    rows.run(f"{place} (?, '', 1, 1, 'recv', 'DONE', 1)", *child)
    for seq, branch, position in ((1, "", 1), (2, None, None)):
        rows.run(
            f"insert into {{messages}} (seq, {to}, body, sent_at_ms, read_by_branch, read_by_position)"
            " values (?, ?, ?, ?, ?, ?)",
            seq,
            *child,
            f"message {seq}",
            NOW_MS,
            branch,
            position,
        )
    if not rows.is_sqlite:
        rows.run("select setval('tidings.messages_seq', 2)")


@pytest.fixture(params=[2, 3, 5], ids=["version 2", "version 3", "version 5"])
def rows(request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """A database of an earlier version that was used."""
    make(database_url, request.param, monkeypatch)
    rows = Rows(database_url)
    fill(rows)
    return rows


def migrated(url: str) -> Store:
    store = tidings.store.open(url)
    store.migrate()
    store.connect()
    return store


def record(
    workflow_id: str, status: Status, output: str | None, owner: str | None, parent: str | None
) -> WorkflowRecord:
    return WorkflowRecord(
        workflow_id, status, "flow", "[1]", output, None, "json", 3, owner, VERSION, parent, NOW_MS, NOW_MS + 1
    )


def test_an_earlier_version_keeps_all_it_had(database_url: str, rows: Rows) -> None:
    store = migrated(database_url)
    parent = record("parent", Status.SUCCESS, '"out"', "old", None)
    child = record("child", Status.PENDING, None, "old", "parent")
    lost = record("lost", Status.PENDING, None, None, None)
    assert store.list_workflows(WorkflowFilter()) == [parent, child, lost]
    assert store.list_workflows(WorkflowFilter(parent_id="parent")) == [child]
    taken = RecordedEntry(Entry("", 1, 1, "recv"), Taken(1, "message 1", None, None, NOW_MS))
    assert store.histories(["child"]) == [History("child", (taken,), ())]
    assert store.steps("child", None, 0, True) == [taken]
    assert store.messages("child", None, 0) == [
        StoredMessage(1, None, "message 1", None, None, NOW_MS, 1),
        StoredMessage(2, None, "message 2", None, None, NOW_MS, None),
    ]
    assert store.read_streams([("child", "k", 0)], 1, 1) == [StreamPage((), 0, False, Status.PENDING)]
    store.close()


def test_version_3_keeps_timeouts_methods_and_events(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(database_url, 3, monkeypatch)
    rows = Rows(database_url)
    fill(rows)
    rows.run(
        "update {workflows} set class_name = 'Shop', config_name = 'north', timeout_ms = 5, deadline_ms = 6"
        " where workflow_id = 'child'"
    )
    of, child = ("workflow_seq", 2) if rows.is_sqlite else ("workflow_id", "child")
    event = f"insert into {{events}} ({of}, key, version, branch, position, ordinal, at_ms, value) values"
    rows.run(f"{event} (?, 'k', 1, '', 2, 2, ?, 'v')", child, NOW_MS)
    store = migrated(database_url)
    found = store.workflows(["child"])["child"]
    assert (found.class_name, found.config_name, found.timeout_ms, found.deadline_ms) == ("Shop", "north", 5, 6)
    assert store.all_events("child") == {"k": "v"}
    [history] = store.histories(["child"])
    assert [each.key for each in history.entries] == [None, "k"]
    store.close()


def test_version_5_keeps_how_often_workflows_were_recovered(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(database_url, 5, monkeypatch)
    rows = Rows(database_url)
    fill(rows)
    rows.run("update {workflows} set recovery_attempts = 7, progress = 8 where workflow_id = 'child'")
    store = migrated(database_url)
    found = store.workflows(["child"])["child"]
    assert (found.recovery_attempts, found.progress, found.program) == (7, 8, None)
    store.close()


@pytest.mark.parametrize("program", ["shop", "mail"])
def test_workflows_of_an_earlier_version_belong_to_the_program_that_takes_them(
    database_url: str, rows: Rows, program: str
) -> None:
    assert rows.run("select count(*) from {workflows}") == [(3,)]
    store = migrated(database_url)
    process = Process(store, program=program)
    assert process.claim("old") == ["child", "lost"]
    assert {each.program for each in store.workflows(["child", "lost"]).values()} == {program}
    assert Process(store, "another", program="another").claim(process.executor_id) == []
    store.close()


def test_a_migrated_database_is_worked_on(database_url: str, rows: Rows) -> None:
    store = migrated(database_url)
    process = Process(store)
    assert process.claim("old") == ["child", "lost"]
    assert process.commit(*recording("child", entry(2)), sending(letter("child", "message 3"))) == [APPLIED] * 2
    assert process.drain("child") == ["message 2", "message 3"]
    assert process.commit(*streaming("child", "k", "a", "b", epoch=4), closing("child", "k", epoch=4)) == [APPLIED] * 3
    assert process.commit(ending("child", epoch=4)) == [APPLIED]
    assert store.read_streams([("child", "k", 0)], 9, 99) == [StreamPage(("a", "b"), 2, True, Status.SUCCESS)]
    process.start("new")
    assert owned(store, process.executor_id) == (process.fence, {"lost": 4, "new": 1})
    # The number of the one that is gone is not used again.
    assert rows.run("select workflow_id from {workflows} where seq > 4") == [("new",)]
    store.close()


# --- databases whose tables are all replicated ------------------------------------------------------------------------

WITHOUT_A_KEY = """
select relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where nspname = 'tidings' and relkind in ('r', 'p')
    and not exists (select from pg_index where indrelid = c.oid and indisprimary)
"""


@contextmanager
def published(url: str) -> Iterator[psycopg.Connection]:
    """Let all tables of a database be published, those to come too: one without an identity takes no update."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("create publication everything for all tables")
        try:
            yield admin
        finally:
            admin.execute("drop publication everything")


@pytest.mark.parametrize("version", [0, 2, 5, 7])
def test_a_database_is_migrated_and_used_while_all_tables_are_published(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    if version:
        make(postgres_url, version, monkeypatch)
    with published(postgres_url) as admin:
        store = migrated(postgres_url)
        process = Process(store)
        process.start("w")
        process.commit(sending(letter("w", "message")), *streaming("w", "k", "a"), closing("w", "k"))
        assert process.drain("w") == ["message"]
        assert process.commit(ending("w")) == [APPLIED]
        store.retire(process.executor_id, process.fence)
        admin.execute("delete from tidings.workflows")  # With all that belongs to it.
        assert admin.execute(WITHOUT_A_KEY).fetchall() == []
        store.close()


def test_all_tables_but_that_of_the_version_have_always_had_a_key(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is replicated is told apart by its key, between two migrations too."""
    package = "tidings.store.postgres"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for version in range(1, migrate.SCHEMA_VERSION + 1):
            with monkeypatch.context() as patch:
                every = migrate.pending(package, version - 1, "")
                patch.setattr(postgres_schema, "pending", lambda *_, every=every: every[:1])
                patch.setattr(postgres_schema, "SCHEMA_VERSION", version)
                tidings.store.open(postgres_url).migrate()
            found = [name for (name,) in admin.execute(WITHOUT_A_KEY)]
            assert found == (["schema_version"] if version < 8 else [])


def test_belongings_are_removed_whatever_the_search_path_of_who_deletes(postgres_url: str) -> None:
    store = migrated(postgres_url)
    process = Process(store)
    process.start("w")
    process.commit(sending(letter("w", "message")), *recording("w", entry(1)))
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("create schema evil")
        admin.execute("create function evil.never(text, text) returns boolean language sql as 'select false'")
        admin.execute("create operator evil.= (leftarg = text, rightarg = text, function = evil.never)")
        admin.execute("set search_path = evil, pg_catalog")
        admin.execute("delete from tidings.workflows")
        for table in ("messages", "entries"):
            assert admin.execute(f"select count(*) from tidings.{table}").fetchall() == [(0,)]
    store.close()
