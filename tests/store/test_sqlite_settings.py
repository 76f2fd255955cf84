"""What the SQLite store rests on is set by it, whatever a file, a build of SQLite or the program begins with."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tidings.store
from tests.store.driver import (
    Process,
    ending,
    entry,
    message,
    new,
    recording,
    sending,
    streaming,
)
from tests.store.driver import (
    closing as closing_stream,
)
from tidings.error import DBOSInitializationError
from tidings.model import APPLIED, Status, StreamPage, Unit, WorkflowFilter
from tidings.store.sqlite import SqliteStore

# What a build of SQLite may begin with (SQLITE_DEFAULT_SYNCHRONOUS, and so on), each other than tidings needs it.
BUILDS = {
    "synchronous": ("off", 2),
    "locking_mode": ("exclusive", "normal"),
    "wal_autocheckpoint": ("1", 0),
    "query_only": ("on", 0),
    "read_uncommitted": ("on", 0),
    "ignore_check_constraints": ("on", 0),
    "foreign_keys": ("on", 0),
    "recursive_triggers": ("on", 0),
    "legacy_alter_table": ("on", 0),
    "mmap_size": ("1000000000", 0),
    "temp_store": ("file", 2),
    "cache_size": ("10", -32_768),
    "automatic_index": ("off", 1),
    "encoding": ("'UTF-16be'", "UTF-8"),
}
# And what it may begin with that makes no difference.
OF_NO_MATTER = {
    "case_sensitive_like": "on",
    "reverse_unordered_selects": "on",
    "trusted_schema": "off",
    "secure_delete": "on",
    "auto_vacuum": "full",
    "page_size": "512",
    "cell_size_check": "on",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tidings.sqlite"


@pytest.fixture
def _strange_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each connection begin as it does in a build of SQLite that was made for something else."""
    connect = sqlite3.connect

    def connect_strangely(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        for name, value in (OF_NO_MATTER | {name: value for name, (value, _) in BUILDS.items()}).items():
            connection.execute(f"pragma {name} = {value}")
        return connection

    monkeypatch.setattr("tidings.store.sqlite.connect.sqlite3.connect", connect_strangely)


def use(store: SqliteStore) -> None:
    """Do a little of everything."""
    store.migrate()
    store.connect()
    process = Process(store)
    process.start("w", "v", "gone")
    assert process.commit(sending(message("w", "one"), message("w", "two")), *recording("v", entry(1))) == [APPLIED] * 2
    assert process.commit(*streaming("v", "k", "a", "b"), closing_stream("v", "k")) == [APPLIED] * 3
    assert process.drain("w") == ["one", "two"]
    assert process.commit(ending("gone")) == [APPLIED]
    assert [each.workflow_id for each in store.list_workflows(WorkflowFilter(newest_first=True))] == ["gone", "v", "w"]
    assert [each.workflow_id for each in store.list_workflows(WorkflowFilter(id_prefix="go"))] == ["gone"]
    assert store.read_streams([("v", "k", 0)], 9, 99) == [StreamPage(("a", "b"), 2, True, Status.PENDING)]
    other = tidings.store.open(f"sqlite:///{store._path}")
    other.connect()
    assert Process(other, "other").commit(Unit(start=new("beside"))) == [APPLIED]
    other.close()


@pytest.mark.usefixtures("_strange_build")
def test_a_build_of_sqlite_may_begin_with_anything(path: Path) -> None:
    store = SqliteStore(str(path))
    use(store)
    assert store._writer is not None
    assert store._reader is not None
    for connection, differs in ((store._writer._connection, {}), (store._reader, {"query_only": 1})):
        for name, (_, expected) in BUILDS.items():
            found = connection.execute(f"pragma {name}").fetchall()
            assert found in ([(differs.get(name, expected),)], []), name  # Some builds know no memory map.
        assert connection.execute("pragma journal_mode").fetchall() == [("wal",)]
    store.close()


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("start", ["migrate", "connect"])
def test_a_file_whose_text_is_not_utf_8_is_refused(path: Path, encoding: str, start: str) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"pragma encoding = '{encoding}'")
        file.execute("create table theirs (text)")
    before = path.read_bytes()
    with pytest.raises(DBOSInitializationError, match=rf"text in {encoding}.*name another file"):
        getattr(SqliteStore(str(path)), start)()
    assert path.read_bytes() == before


@pytest.mark.parametrize("variable", ["TMPDIR", "SQLITE_TMPDIR"])
def test_no_temporary_directory_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, str(path.parent / "nowhere"))
    store = SqliteStore(str(path))
    use(store)
    store.close()


@pytest.fixture
def _adapter_of_truth_values() -> Iterator[None]:
    sqlite3.register_adapter(bool, lambda value: "yes" if value else "no")
    yield
    del sqlite3.adapters[bool, sqlite3.PrepareProtocol]


@pytest.mark.usefixtures("_adapter_of_truth_values")
def test_adapters_of_the_program_change_nothing(path: Path) -> None:
    store = SqliteStore(str(path))
    use(store)
    [workflow] = store.list_workflows(WorkflowFilter(workflow_ids=("gone",), with_inputs=True))
    assert workflow.inputs
    assert store.steps("v", None, 0, True)
    Process(store, "former").start("left", app_version="former")
    assert Process(store, "heir").claim("former", reserved=()) == ["left"]
    store.close()


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = tidings.store.open("sqlite:///here.sqlite")
    os.chdir("/")
    store.migrate()
    assert (tmp_path / "here.sqlite").exists()
