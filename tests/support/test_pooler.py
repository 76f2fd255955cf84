"""The pooler itself: it mixes sessions up, and refuses some settings."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.engines import aside
from tests.support.pooler import Pooler

pytestmark = pytest.mark.direct("stands before the server itself")


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[Pooler]:
    with Pooler(postgres_url) as pooler:
        yield pooler


def connect(pooler: Pooler, postgres_url: str, options: str = "") -> psycopg.Connection:
    return psycopg.connect(pooler.url(postgres_url), autocommit=True, options=options, prepare_threshold=None)


def backend(connection: psycopg.Connection) -> int:
    [(pid,)] = connection.execute("select pg_backend_pid()").fetchall()
    return int(pid)


def test_each_transaction_runs_on_another_session(pooler: Pooler, postgres_url: str) -> None:
    with connect(pooler, postgres_url) as connection:
        pids = [backend(connection) for _ in range(4)]
        assert pids[:2] == pids[2:]
        assert len(set(pids)) == 2
        with connection.transaction():
            assert len({backend(connection) for _ in range(4)}) == 1


def test_all_that_is_said_gets_through(pooler: Pooler, postgres_url: str) -> None:
    with connect(pooler, postgres_url) as connection:
        [(text,)] = connection.execute("select repeat('é', %s)", [3_000_000]).fetchall()
        assert connection.execute("select length(%s)", [text]).fetchall() == [(3_000_000,)]
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("so not")


def test_a_session_keeps_what_others_prepared(pooler: Pooler, postgres_url: str) -> None:
    for number in range(3):
        with connect(pooler, postgres_url) as connection:
            result = connection.pgconn.prepare(b"one", b"select 1")
        expected = None if number < 2 else b"42P05"
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == expected


def test_a_client_waits_for_a_session(pooler: Pooler, postgres_url: str) -> None:
    with connect(pooler, postgres_url) as one, connect(pooler, postgres_url) as two, two.transaction():
        one.execute("begin")
        backend(two)
        with connect(pooler, postgres_url) as three:
            waiting = aside(lambda: backend(three))
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
            one.execute("commit")
            assert waiting.result(60)


def test_a_client_that_leaves_in_a_transaction_takes_its_session_along(pooler: Pooler, postgres_url: str) -> None:
    one = connect(pooler, postgres_url)
    one.execute("begin")
    lost = backend(one)
    one.close()
    with connect(pooler, postgres_url) as two:
        assert lost not in {backend(two) for _ in range(4)}


def test_sessions_that_are_ended_are_replaced(pooler: Pooler, postgres_url: str) -> None:
    with connect(pooler, postgres_url) as idle, connect(pooler, postgres_url) as busy:
        before = {backend(idle) for _ in range(2)}
        busy.execute("begin")
        pooler.end_sessions()
        with pytest.raises(psycopg.OperationalError):
            busy.execute("select 1")
        assert backend(idle) not in before


@pytest.mark.parametrize("options", [" -c geqo=off --jit=off", "-cgeqo=off", "-c search_path=a,\\ b"])
def test_settings_are_ignored(pooler: Pooler, postgres_url: str, options: str) -> None:
    with connect(pooler, postgres_url, options) as connection:
        assert connection.execute("show geqo").fetchone() == ("on",)


@pytest.mark.parametrize("options", ["-c geqo=off ", "-c geqo", "-e", "-c", "geqo=off"])
def test_settings_that_cannot_be_read_are_refused(pooler: Pooler, postgres_url: str, options: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="unsupported options"):
        connect(pooler, postgres_url, options)
    assert pooler.refused == 1
