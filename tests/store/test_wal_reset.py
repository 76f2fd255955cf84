"""An SQLite with the WAL-reset bug: what is said of it, when, and how often."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support import programs
from tidings.model import Executor
from tidings.store.protocol import Unavailable
from tidings.store.sqlite import SqliteStore, connect, wal_reset


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "tidings.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A store that is not connected yet."""
    store = SqliteStore(str(path))
    store.migrate()
    with closing(store):
        yield store


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 37, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: tuple[int, int, int], affected: bool) -> None:
    assert wal_reset.has_wal_reset_bug(version) is affected


@pytest.fixture
def affected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this SQLite have the bug, and let this process have said nothing yet, as a new one."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.40.1")
    start_anew()


def start_anew() -> None:
    wal_reset._told.clear()
    wal_reset._warned.clear()


def said_of_the_bug(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the log says of the bug, and forgets it."""
    said = [(each.levelname, each.getMessage()) for each in caplog.records if "WAL-reset bug" in each.getMessage()]
    caplog.clear()
    return said


@pytest.mark.usefixtures("affected")
def test_the_wal_reset_bug_is_told_of_once_for_each_file_and_version(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.connect()
    [(level, text)] = said_of_the_bug(caplog)
    assert level == "INFO"
    assert "SQLite 3.40.1" in text
    assert "PRAGMA wal_autocheckpoint=0" in text
    store.connect()
    start_anew()  # another process
    store.connect()
    assert said_of_the_bug(caplog) == []
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.45.0")
    store.connect()
    assert "SQLite 3.45.0" in said_of_the_bug(caplog)[0][1]
    other = SqliteStore(str(tmp_path / "other.sqlite"))
    other.migrate()
    with closing(other):
        other.connect()
        assert len(said_of_the_bug(caplog)) == 1
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    start_anew()
    store.connect()
    assert said_of_the_bug(caplog) == []


@pytest.mark.usefixtures("affected")
def test_without_a_right_to_write_to_the_lock_file_it_is_told_by_each_process(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(wal_reset, "open", forbidden, raising=False)
    for _ in range(2):
        store.connect()
        assert [level for level, _ in said_of_the_bug(caplog)] == ["INFO"]
        store.connect()
        assert said_of_the_bug(caplog) == []
        start_anew()


OPEN_IT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("select count(*) from sqlite_master").fetchall()
print("open", flush=True)
sys.stdin.read()
"""
OPEN_IT_AS_TIDINGS = """
import sys
from tidings.store.sqlite import open_store
store = open_store(f"sqlite:///{sys.argv[1]}", "tidings")
store.connect()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who has a file open")
@pytest.mark.usefixtures("affected")
def test_another_program_that_has_the_file_open_is_warned_of(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.connect()
    said_of_the_bug(caplog)
    for program, is_other in ((OPEN_IT_AS_TIDINGS, False), (OPEN_IT, True)):
        with programs.start(*programs.python("-c", program, str(path)), stdin=PIPE, stdout=PIPE) as started:
            assert started.stdout is not None
            assert started.stdout.readline().strip() == "open"
            start_anew()
            store.connect()
            store.connect()
            said = said_of_the_bug(caplog)
            assert [level for level, _ in said] == ["WARNING"] * is_other
            assert not is_other or f"process {started.pid} (" in said[0][1]
            assert started.stdin is not None
            started.stdin.close()


@pytest.mark.usefixtures("affected")
def test_another_program_that_holds_up_a_commit_is_warned_of(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_MS", 1)
    store.connect()
    said_of_the_bug(caplog)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.enlist(Executor("p", "p", 0, 1))
    assert [level for level, _ in said_of_the_bug(caplog)] == ["WARNING"]
