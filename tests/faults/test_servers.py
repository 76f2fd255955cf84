"""Servers that are killed and started again, and servers that take no more writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from harness.postgres import PostgresServer
from harness.proxy import Proxy
from tests.faults.load import HOUR, Load
from tests.store.driver import Process, event, message, publishing, sending
from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop
from tidings import store as stores
from tidings.store.postgres.connect import Database


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    with PostgresServer(fsync="off", max_connections="50") as server:
        yield server


async def test_a_server_killed_and_restarted_under_load(server: PostgresServer, face: Face, log: Sightings) -> None:
    app = App(server.url)
    await app.launch()
    load = Load(face)

    async def kill_and_start() -> None:
        before = len(log.seen)
        sending = asyncio.ensure_future(face.send("w0", "in the midst", "nobody reads it"))
        await off_loop(server.kill)
        late = asyncio.ensure_future(face.send("w0", "while it is down", "nobody reads it"))
        await log.until(lambda seen: any("writing to the database has failed" in each for each in seen[before:]))
        await off_loop(server.start)
        await asyncio.gather(sending, late)
        await log.until(lambda seen: any("writing to the database works again" in each for each in seen[before:]))

    await load.run(kill_and_start)
    [(count,)] = app.rows.run("select count(*) from {messages} where topic = 'nobody reads it'")
    assert count == 6
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)
    said = [each for each in log.seen if "; trying again, nothing is lost" in each]
    assert all("PostgreSQL database 'postgres' at 127.0.0.1" in each and "nothing is lost" in each for each in said)
    assert not [each for each in log.seen if each.startswith(("ERROR", "CRITICAL"))]
    await app.close()


@pytest.mark.usefixtures("only_heard")
async def test_who_waits_looks_as_soon_as_the_server_is_back(proxy: Proxy, postgres_url: str, face: Face) -> None:
    """What changed while this process was cut off nobody told it; and its next look of itself is an hour away."""
    app = App(proxy.url(postgres_url))
    await app.launch()

    @face.workflow(name="faults.receive")
    async def receive() -> Any:
        return await face.recv("topic", HOUR)

    handle = await face.start(receive, workflow_id="w")
    await app.waiting("message", "w", "topic")
    reading = asyncio.ensure_future(face.get_event("elsewhere", "key", HOUR))
    await app.waiting("event", "elsewhere", "key")
    proxy.refuse()
    proxy.cut()
    await off_loop(_speak, postgres_url)
    proxy.accept()
    assert await handle.get_result() == "while you were away"
    assert await reading == "news"
    await app.close()


def _speak(url: str) -> None:
    """Send and publish, as another process would."""
    store = stores.open(url)
    store.connect()
    process = Process(store, "elsewhere")
    process.start("elsewhere")
    said = message("w", '"while you were away"', "topic")
    process.commit(sending(said), *publishing("elsewhere", event("key", 1, '"news"')))
    store.close()


# --- a server that takes no writes ------------------------------------------------------------------------


async def test_a_failover_to_a_server_that_only_reads_and_back(
    server: PostgresServer, face: Face, log: Sightings
) -> None:
    app = App(server.url)
    await app.launch()
    load = Load(face)

    async def fail_over() -> None:
        before = len(log.seen)
        await off_loop(server.demote)
        late = asyncio.ensure_future(face.send("w0", "late", "nobody reads it"))
        await log.until(lambda seen: any("it is read-only, as a standby is" in each for each in seen[before:]))
        assert await face.get_event("w0", "turn", 0) in (None, 0, 1, 2)  # What can be read is.
        assert not late.done()
        await off_loop(server.promote)
        await late
        await log.until(lambda seen: any("writing to the database works again" in each for each in seen[before:]))

    await load.run(fail_over)
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)
    assert not [each for each in log.seen if each.startswith(("ERROR", "CRITICAL"))]
    await app.close()


async def test_a_server_without_our_tables_is_waited_for_too(
    app: App, face: Face, proxy: Proxy, postgres_server: str, postgres_url: str, log: Sightings
) -> None:
    """As while a backup is restored, or where a proxy leads to a server that is not ours."""
    load = Load(face, workflows=4)
    given = conninfo_to_dict(postgres_url)

    async def lead_astray() -> None:
        before = len(log.seen)
        proxy.lead_to("127.0.0.1", elsewhere.port)
        proxy.cut()
        late = asyncio.ensure_future(face.send("w0", "late", "nobody reads it"))
        await log.until(lambda seen: any("when its tables exist again" in each for each in seen[before:]))
        assert not late.done()
        proxy.lead_to(str(given["host"]), int(given["port"] or 5432))
        proxy.cut()
        await late

    with PostgresServer(fsync="off") as elsewhere:
        with psycopg.connect(elsewhere.url, autocommit=True) as admin:
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(str(given["dbname"]))))
        await load.run(lead_astray)
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)


def test_of_several_servers_the_one_that_takes_writes_is_taken(server: PostgresServer, postgres_server: str) -> None:
    """As one says in a URL with several hosts, before and after a failover."""
    port = conninfo_to_dict(postgres_server)["port"]
    both = f"postgresql://postgres@127.0.0.1:{port},127.0.0.1:{server.port}/postgres"
    with psycopg.connect(both) as connection:  # Whoever comes first.
        assert connection.info.port == int(port or 0)
    server.demote()
    reversed_url = f"postgresql://postgres@127.0.0.1:{server.port},127.0.0.1:{port}/postgres"
    with Database(reversed_url, "tidings").open() as connection:
        assert connection.info.port == int(port or 0)
    with (
        pytest.raises(psycopg.OperationalError, match="read-only"),
        Database(f"{server.url}?target_session_attrs=read-write", "tidings").open(),
    ):
        pass
    Database(server.url, "tidings").open().close()  # The only one is taken as it is: it may be read.
