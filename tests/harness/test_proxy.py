"""The proxy itself: what it forwards, and that a cut is at the right place."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from harness.postgres import PostgresServer
from harness.proxy import Proxy
from tests.support.engines import aside, wait_until
from tidings.store.postgres.connect import Database
from tidings.store.postgres.statements import StatementCall
from tidings.store.postgres.wire import Lost, Wire

pytestmark = pytest.mark.direct("stands before the server itself")


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with Proxy.before(postgres_url) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: Proxy, postgres_url: str) -> str:
    return proxy.url(postgres_url)


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True)


def rows(url: str) -> int:
    """Count the rows on a direct connection, without the proxy."""
    with connect(url) as connection:
        [(count,)] = connection.execute("select count(*) from numbers").fetchall()
        return int(count)


def test_all_that_is_said_gets_through(url: str) -> None:
    with connect(url) as connection:
        [(text,)] = connection.execute("select repeat('é', %s)", [3_000_000]).fetchall()
        assert text == "é" * 3_000_000
        assert connection.execute("select length(%s)", [text]).fetchall() == [(3_000_000,)]
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("so not")


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
def test_a_cut_before_and_after_a_commit(
    proxy: Proxy, url: str, postgres_url: str, answered: bool, prepared: bool
) -> None:
    with connect(postgres_url) as admin:
        admin.execute("create table numbers (n int)")
    database = Database(url, "tidings")
    wire = Wire(database.open(), database.statements, prepared=prepared)
    wire._connection.execute("begin")
    wire._connection.execute("insert into public.numbers values (1)")
    wire.run([StatementCall("commit")])  # It is prepared from now on: the next message has no text.
    wire._connection.execute("begin")
    wire._connection.execute("insert into public.numbers values (2)")
    cut = proxy.cut_at("COMMIT", answered=answered)
    with pytest.raises(Lost):
        wire.run([StatementCall("commit")])
    assert cut.count == 1
    wait_until(lambda: proxy.connections == 0)
    assert rows(postgres_url) == 1 + answered
    with connect(url) as connection:  # The cut happens only once.
        connection.execute("begin")
        connection.execute("insert into numbers values (3)")
        connection.execute("commit")
    assert rows(postgres_url) == 2 + answered


def test_every_third_statement(proxy: Proxy, url: str) -> None:
    cut = proxy.cut_at("select 7", every=3, times=2)
    for _ in range(2):
        with connect(url) as connection:
            connection.execute("select 7")
            connection.execute("select 7")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 7")
    with connect(url) as connection:
        for _ in range(4):
            connection.execute("select 7")
    cut.wait(2)
    assert cut.count == 2


def test_a_cut_of_some_connections(proxy: Proxy, url: str) -> None:
    with connect(url) as one, connect(url) as other:
        one.execute("listen some_channel")
        other.execute("select 1")
        assert proxy.connections == proxy.accepted == 2
        assert proxy.cut("LISTEN") == 1
        with pytest.raises(psycopg.OperationalError):
            one.execute("select 1")
        other.execute("select 1")
        assert proxy.cut() == 1
        with pytest.raises(psycopg.OperationalError):
            other.execute("select 1")


def test_new_connections_are_refused_for_a_while(proxy: Proxy, url: str) -> None:
    with connect(url) as old:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            connect(url)
        old.execute("select 1")
        proxy.accept()
        connect(url).close()


def test_a_black_hole(proxy: Proxy, url: str) -> None:
    with connect(url) as old:
        proxy.hold()
        answer = aside(lambda: old.execute("select 1").fetchall())
        new = aside(lambda: connect(url))
        wait_until(lambda: proxy.accepted == 2)
        assert not answer.done()
        assert not new.done()
        proxy.release()
        assert answer.result(60) == [(1,)]
        new.result(60).close()


def test_notifications_are_swallowed(proxy: Proxy, url: str) -> None:
    with connect(url) as connection:
        connection.execute("listen here")
        proxy.swallow_notifications = True
        connection.execute("notify here, 'unheard'")
        proxy.swallow_notifications = False
        connection.execute("notify here, 'heard'")
        assert [each.payload for each in connection.notifies(timeout=0, stop_after=1)] == ["heard"]


def test_prepared_statements_are_lost(proxy: Proxy, url: str) -> None:
    with connect(url) as connection:
        for _ in range(3):
            connection.execute("select %s", [1], prepare=True)
        proxy.forget_prepared()
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            connection.execute("select %s", [1], prepare=True)
        assert connection.execute("select 2", prepare=False).fetchall() == [(2,)]


def test_a_server_that_is_down_and_another_one(proxy: Proxy, postgres_url: str) -> None:
    given = psycopg.conninfo.conninfo_to_dict(postgres_url)
    with Proxy("127.0.0.1", 9) as lost:  # Nothing listens there.
        with pytest.raises(psycopg.OperationalError):
            connect(lost.url(postgres_url))
        lost.lead_to(str(given["host"]), int(given["port"] or 5432))
        connect(lost.url(postgres_url)).close()


def test_a_server_that_listens_at_a_socket(tmp_path: Path) -> None:
    with PostgresServer(fsync="off", unix_socket_directories="/tmp") as server:
        given = server.url.replace("127.0.0.1", "").replace(f":{server.port}", "") + f"?host=/tmp&port={server.port}"
        connect(given).close()
        with Proxy.before(given) as proxy, connect(proxy.url(given)) as connection:
            assert proxy.cut() == 1
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
