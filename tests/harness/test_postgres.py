"""The launcher itself: its methods, which other tests use, do what their names say."""

import asyncio
import importlib.util
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from harness import postgres
from harness.postgres import PostgresError, PostgresServer, empty_database
from tests.support import programs

_DIES_WITH_A_SERVER = """
import os, signal
from harness.postgres import PostgresServer
server = PostgresServer()
server.start()
print(server.port, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def test_a_server_runs_with_the_settings_given() -> None:
    with PostgresServer(fsync="off", work_mem="3MB") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("show fsync").fetchone() == ("off",)
        assert connection.execute("show work_mem").fetchone() == ("3MB",)


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
def test_what_was_committed_is_there_after_the_server_ended_and_started_again(
    server: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    _write(server, 1)
    with psycopg.connect(server.url, autocommit=True) as connection:
        end(server)
        with pytest.raises(psycopg.OperationalError):  # None of its processes answers.
            connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)
    server.start()
    assert _read(server) == [1]


def test_a_restart_keeps_address_and_data(server: PostgresServer) -> None:
    _write(server, 1)
    url = server.url
    server.restart()
    assert server.url == url
    assert _read(server) == [1]


def test_an_unknown_setting_is_an_error_that_shows_the_servers_log() -> None:
    server = PostgresServer(no_such_setting="1")
    with pytest.raises(PostgresError, match="no_such_setting"):
        server.start()
    server.close()
    assert not server.directory.exists()


def test_nothing_outlives_a_process_that_was_killed() -> None:
    # The guard shares the output of that process, so `run` returns only after the guard has ended.
    died = programs.run(*programs.python("-c", _DIES_WITH_A_SERVER), stderr=None)
    assert died.returncode == -signal.SIGKILL
    port, directory = died.stdout.split()
    assert not Path(directory).exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres")


def test_no_server_at_all_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(postgres, "_SYSTEM_DIRECTORIES", ())
    with pytest.raises(PostgresError, match="set TEST_POSTGRES_URL"):
        PostgresServer()


def test_a_given_server_is_used_and_none_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POSTGRES_URL", "postgresql://elsewhere/postgres")
    with postgres.postgres_server() as url:
        assert url == "postgresql://elsewhere/postgres"


@pytest.mark.unmigrated
def test_each_test_gets_an_empty_database_of_its_own(database_url: str) -> None:
    match database_url.partition(":"):
        case "sqlite", _, path:
            with closing(sqlite3.connect(path.removeprefix("///"))) as file:
                assert file.execute("select count(*) from sqlite_schema").fetchone() == (0,)
        case _:
            with psycopg.connect(database_url) as connection:
                tables = "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
                assert connection.execute(tables).fetchone() == (0,)


@pytest.mark.unmigrated
def test_emptying_a_database_removes_what_is_in_it_and_whoever_is_connected(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as idle, psycopg.connect(postgres_url, autocommit=True) as writer:
        writer.execute("create schema tidings create table tidings.workflows (id int)")
        writer.execute("create table own (id int)")
        idle.execute("select count(*) from tidings.workflows")
        empty_database(postgres_url)
        for connection in (idle, writer):
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
    with psycopg.connect(postgres_url) as connection:
        schemas = connection.execute("select nspname from pg_namespace where nspname !~ '^(pg_|information)'")
        assert schemas.fetchall() == [("public",)]
        assert connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)


async def test_async_tests_run_on_asyncio() -> None:
    assert asyncio.get_running_loop().is_running()


def _write(server: PostgresServer, value: int) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept (value int)")
        connection.execute("insert into kept values (%s)", [value])


def _read(server: PostgresServer) -> list[int]:
    with psycopg.connect(server.url) as connection:
        return [value for (value,) in connection.execute("select value from kept")]
