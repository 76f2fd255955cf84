"""A database that neither answers nor closes for a while: what waits, what is given up, what is told, and going on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from harness.proxy import Proxy
from tests.faults.load import HOUR, Load
from tests.support.app import App, Sightings
from tests.support.engines import aside, wait_until
from tests.support.face import Face, off_loop
from tests.support.rows import Rows
from tidings import DBOS, DBOSClient
from tidings.engine.database import outage
from tidings.engine.process import Process
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.store.postgres import patience
from tidings.store.postgres.connect import Database


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what takes seconds take less, and what would end a wait by itself take an hour."""
    monkeypatch.setattr(outage, "HELD_UP_SECONDS", 0.2)
    monkeypatch.setattr(outage, "SAY_HELD_UP_SECONDS", 0.3)
    monkeypatch.setattr("tidings.engine.database.committer.HELD_UP_SECONDS", 0.2)
    monkeypatch.setattr("tidings.engine.database.committer.STOP_SECONDS", 0.5)
    monkeypatch.setattr("tidings.engine.database.reader._STOP_SECONDS", 0.2)
    monkeypatch.setattr("tidings.engine.database.hearing._STOP_SECONDS", 0.2)
    monkeypatch.setattr("tidings.engine.ownership.supervisor._STOP_SECONDS", 0.2)
    monkeypatch.setattr(patience, "ANSWER_TIMEOUT_SECONDS", HOUR)


@pytest.mark.usefixtures("soon")
@pytest.mark.long
async def test_the_log_says_for_how_long_it_has_not_answered_and_work_goes_on(
    app: App, face: Face, proxy: Proxy, log: Sightings
) -> None:
    load = Load(face)

    async def hold_for_a_while() -> None:
        before = len(log.seen)
        await off_loop(proxy.hold)
        late = asyncio.ensure_future(face.send("w0", "late", "nobody reads it"))
        app.engine.hearing._interrupt()
        await log.until(lambda seen: any("writing to the database has failed" in each for each in seen[before:]))
        assert not late.done()
        await off_loop(proxy.release)
        await late
        await log.until(lambda seen: any("writing to the database works again" in each for each in seen[before:]))

    app.engine.hearing._probe_seconds = 0.05  # How often the listener comes by; else a third of the lease.
    await load.run(hold_for_a_while)
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)
    said = [each for each in log.seen if "has failed" in each]
    assert all("it does not answer" in each and "nothing is lost" in each for each in said)
    assert all("PostgreSQL database 'tidings_" in each and " at 127.0.0.1:" in each for each in said)


async def test_a_batch_that_lands_long_after_it_was_given_up_lands_once(
    proxy: Proxy, postgres_url: str, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was held is forwarded when the client has long begun anew, on another connection."""
    monkeypatch.setattr(patience, "ANSWER_TIMEOUT_SECONDS", 0.3)
    app = App(proxy.url(postgres_url) + "&connect_timeout=2")
    app.rows = Rows(postgres_url)
    await app.launch()
    load = Load(face, workflows=12)

    async def hold() -> None:
        accepted = proxy.accepted
        await off_loop(proxy.hold)
        late = asyncio.ensure_future(face.send("w0", "late", "nobody reads it"))
        await off_loop(wait_until, lambda: proxy.accepted > accepted)  # It has given the first connection up.
        await off_loop(proxy.release)
        await late

    await load.run(hold)
    assert app.rows.run("select count(*) from {messages} where topic = 'nobody reads it'") == [(3,)]
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)
    await app.close()


@pytest.mark.usefixtures("soon")
async def test_an_await_outside_of_workflows_can_be_given_up(app: App, proxy: Proxy) -> None:
    await off_loop(proxy.hold)
    calls: list[Callable[[], Any]] = [
        lambda: DBOS.send_async("w", 1),
        lambda: DBOS.get_event_async("w", "key", HOUR),
        DBOS.list_workflows_async,
    ]
    for call in calls:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call()
    await off_loop(proxy.release)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("what", ["send", "get_event"])
async def test_destroy_is_bounded_and_lets_nobody_wait(app: App, face: Face, proxy: Proxy, what: str) -> None:
    @face.workflow(name="faults.receive")
    async def receive() -> Any:
        return await face.recv("topic", HOUR)

    await face.start(receive, workflow_id="w")
    await app.waiting("message", "w", "topic")
    engine = app.engine
    await off_loop(proxy.hold)
    calls: dict[str, Callable[[], Future[Any]]] = {
        "send": lambda: aside(lambda: DBOS.send("w", 1, "topic")),
        "get_event": lambda: aside(lambda: DBOS.get_event("w", "key", HOUR)),
    }
    calling = calls[what]()
    contact = engine.committer.contact if what == "send" else engine.reader.contact
    await off_loop(wait_until, lambda: contact.held_up_seconds > 0)
    await DBOS.destroy_async()
    with pytest.raises(DBOSShutdownError):
        calling.result(60)
    # What was left behind ends by itself once the database answers, with its connections; and the next launch goes on.
    await off_loop(proxy.release)
    await off_loop(wait_until, lambda: proxy.connections == 0)
    await app.launch()
    await face.send("w", 2, "topic")
    assert await face.get_result("w") in (1, 2)


@pytest.mark.usefixtures("soon")
def test_a_client_is_destroyed_promptly(proxy: Proxy, postgres_url: str) -> None:
    DBOS(config={"name": "faults", "system_database_url": proxy.url(postgres_url)})
    with DBOS.launch(), DBOSClient(system_database_url=proxy.url(postgres_url)) as client:
        engine = client._engine
        proxy.hold()
        sending = aside(lambda: client.send("w", 1))
        wait_until(lambda: engine.committer.contact.held_up_seconds > 0.2)
        client.destroy()  # DBOS keeps the engine.
        with pytest.raises(DBOSShutdownError):
            sending.result(60)
        proxy.release()


# --- a launch that hangs ----------------------------------------------------------------------------------


def test_destroy_ends_a_launch_that_hangs(proxy: Proxy, postgres_url: str) -> None:
    DBOS(config={"name": "faults", "system_database_url": proxy.url(postgres_url), "application_version": "1"})
    proxy.hold()
    launching = aside(DBOS.launch)
    wait_until(lambda: proxy.accepted > 0)
    DBOS.destroy()
    assert not launching.done()
    assert Process.launch is None
    proxy.release()
    with pytest.raises(DBOSInitializationError, match="destroy"):
        launching.result(60)
    assert Process.host is None
    wait_until(lambda: proxy.connections == 0)
    with DBOS.launch():
        pass


def test_destroy_does_not_wait_for_a_client_that_hangs(proxy: Proxy, postgres_url: str) -> None:
    """Of another database: behind the proxy, while `DBOS` speaks to the server itself."""
    DBOS(config={"name": "faults", "system_database_url": postgres_url, "application_version": "1"})
    with DBOS.launch():
        proxy.hold()
        connecting = aside(lambda: DBOSClient(system_database_url=proxy.url(postgres_url)))
        wait_until(lambda: proxy.accepted > 0)
    assert Process.host is None
    assert not connecting.done()
    proxy.release()
    connecting.result(60).destroy()


@pytest.mark.parametrize("stage", ["connect", "begin", "relname", "commit", "insert into", "listen"])
def test_a_launch_on_a_server_that_never_answers_ends(
    proxy: Proxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Wherever it stops answering."""
    url = proxy.url(postgres_url) + "&connect_timeout=2"
    DBOS(config={"name": "faults", "system_database_url": url, "application_version": "1"})
    with DBOS.launch():
        pass
    monkeypatch.setattr(patience, "ANSWER_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("tidings.store.postgres.schema.MIGRATION_LOCK_SECONDS", 0)
    if stage == "connect":
        proxy.hold()
    else:
        proxy.hold_at(stage)
    with pytest.raises(DBOSInitializationError, match=r"timeout|gave no answer"):
        DBOS.launch()
    proxy.release()
    monkeypatch.undo()
    with DBOS.launch():
        pass


# --- a network that is dead without a sign ----------------------------------------------------------------


@pytest.mark.direct("looks at settings of its session, which a pooler ignores")
def test_a_dead_network_is_noticed_within_15_seconds(postgres_url: str) -> None:
    with Database(postgres_url, "tidings").open() as connection:
        end = socket.socket(fileno=socket.dup(connection.fileno()))
        with end:
            option = end.getsockopt
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            probes = option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            silent = option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert silent + probes * option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
            assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        found = connection.execute("select current_setting('tcp_keepalives_idle')").fetchone()
        assert found == ("5",)
