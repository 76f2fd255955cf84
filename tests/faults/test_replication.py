"""A primary that is killed and a standby that takes its place, under applications that go on.

With synchronous replication nothing that was acknowledged is lost. With asynchronous replication some may be, and then
every process says so and goes on with what there is.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.postgres import PostgresServer
from harness.proxy import Proxy
from tests.faults.load import HOUR, Load
from tests.support.app import App, Sightings
from tests.support.engines import aside, make_engine, wait_until
from tests.support.face import Body, Face, Handle, off_loop
from tests.support.replication import ReplicatedPair, ask
from tests.support.rows import Rows
from tidings import DBOSClient
from tidings import store as stores
from tidings.engine.hooks import Point
from tidings.error import DBOSInitializationError, DBOSNonExistentWorkflowError, DBOSShutdownError
from tidings.store.postgres.listener import PostgresListener
from tidings.store.postgres.store import PostgresStore

NOBODY = "nobody reads it"


@pytest.fixture
def synchronous() -> Iterator[ReplicatedPair]:
    """A pair whose primary acknowledges nothing that the standby has not."""
    with ReplicatedPair(synchronous=True) as pair:
        yield pair


@pytest.fixture
def asynchronous() -> Iterator[ReplicatedPair]:
    """A pair whose standby comes after."""
    with ReplicatedPair(synchronous=False) as pair:
        yield pair


@asynccontextmanager
async def launched(url: str) -> AsyncIterator[App]:
    """Launch tidings there, and end it, whatever the test found."""
    app = App(url)
    await app.launch()
    try:
        yield app
    finally:
        await app.close()


def alarms(log: Sightings) -> list[str]:
    """What an operator would be woken for."""
    return [each for each in log.seen if each.startswith(("ERROR", "CRITICAL"))]


# --- synchronous ---------------------------------------------------------------------------------------


async def test_with_synchronous_replication_a_failover_under_load_loses_nothing(
    synchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    async with launched(synchronous.url):
        load = Load(face)
        turns: list[int] = []

        async def fail_over() -> None:
            turns.append(len(turns))
            if len(turns) != 2:
                return
            sending = [asyncio.ensure_future(face.send("w0", number, NOBODY)) for number in range(20)]
            await off_loop(synchronous.primary.kill)
            late = asyncio.ensure_future(face.send("w0", "late", NOBODY))
            await log.until(lambda seen: any("session is read-only" in each for each in seen))
            await off_loop(synchronous.promote)
            await asyncio.gather(*sending, late)

        await load.run(fail_over)
        rows = Rows(synchronous.standby.url)
        assert rows.run("select count(*), count(distinct body) from {messages} where topic = ?", NOBODY) == [(21, 21)]
        rows.run("delete from {messages} where topic = ?", NOBODY)
        await load.check(rows)
        assert alarms(log) == []


async def test_what_waits_for_the_standby_is_not_acknowledged_and_comes_once_after_a_failover(
    synchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    """It is on the primary's disk, and dies with it."""
    async with launched(synchronous.url) as app:
        handle = await face.start(_receiver(face), workflow_id="w")
        await app.waiting("message", "w", "topic")
        await off_loop(synchronous.hold)
        sending = asyncio.ensure_future(face.send("w", "hello", "topic"))
        await off_loop(synchronous.await_held_commit)
        assert not sending.done()
        await _comes_once_after_a_failover(synchronous, sending, handle, log)


async def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged(
    synchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    """PostgreSQL says that it is done then, with a warning: it is not on the standby."""
    async with launched(synchronous.url) as app:
        handle = await face.start(_receiver(face), workflow_id="w")
        await app.waiting("message", "w", "topic")
        await off_loop(synchronous.await_streaming)
        await off_loop(synchronous.hold)
        sending = asyncio.ensure_future(face.send("w", "hello", "topic"))
        cancelled = await off_loop(synchronous.await_held_commit)
        ask(synchronous.primary, "select pg_cancel_backend(%s)", cancelled)
        await log.until(lambda seen: any("writing to the database has failed" in each for each in seen))
        assert await off_loop(synchronous.await_held_commit) != cancelled  # It is asked for, and that waits too.
        assert not sending.done()
        await _comes_once_after_a_failover(synchronous, sending, handle, log)


async def test_a_standby_that_is_not_promoted_yet_is_waited_for_without_haste(
    synchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    """Where one name or address leads to whichever server is said to be the primary, and leads there too early."""
    refused: list[float] = []

    def note(error: Exception) -> None:
        if "it is read-only, as a standby is" in str(error):
            refused.append(time.monotonic())

    with Proxy.before(synchronous.primary.url) as proxy:
        async with launched(proxy.url(synchronous.primary.url)) as app:
            handle = await face.start(_receiver(face), workflow_id="w")
            await app.waiting("message", "w", "topic")
            app.engine.hooks.set(Point.STORE_UNAVAILABLE, note)
            proxy.lead_to("127.0.0.1", synchronous.standby.port)
            proxy.cut()
            await off_loop(synchronous.primary.kill)
            sending = [asyncio.ensure_future(face.send("w", number, "other")) for number in range(10)]
            await off_loop(wait_until, lambda: len(refused) >= 6)
            pauses = [after - before for before, after in itertools.pairwise(refused)]
            assert all(pause >= 0.02 * 2**number for number, pause in enumerate(pauses[:6])), pauses
            assert not any(each.done() for each in sending)
            assert (await handle.get_status()).status == "PENDING"  # What can be read is.
            await off_loop(synchronous.promote)
            await asyncio.gather(*sending)
            await face.send("w", "hello", "topic")
            assert await handle.get_result() == "hello"
            rows = Rows(synchronous.standby.url)
            assert rows.run("select count(*), count(distinct body) from {messages}") == [(11, 11)]
            assert alarms(log) == []


def test_with_synchronous_replication_the_old_primary_acknowledges_nothing_when_it_is_back(
    synchronous: ReplicatedPair,
) -> None:
    """It has no standby any more. Who is led there waits, and is not told what will be lost."""
    stores.open(synchronous.url).migrate()
    with DBOSClient(system_database_url=synchronous.url) as client:
        synchronous.fail_over()
        client.check_connection()  # It goes on at the standby.
        synchronous.primary.start()
        led_astray = aside(lambda: DBOSClient(system_database_url=synchronous.primary.url))
        synchronous.await_held_commit()
        assert not led_astray.done()
        synchronous.primary.kill()
        with pytest.raises(DBOSInitializationError):
            led_astray.result(timeout=60)


async def _comes_once_after_a_failover(
    pair: ReplicatedPair, sending: asyncio.Future[None], handle: Handle, log: Sightings
) -> None:
    await off_loop(pair.fail_over)
    await sending
    assert await handle.get_result() == "hello"
    assert Rows(pair.standby.url).run("select body from {messages}") == [('"hello"',)]
    assert alarms(log) == []


def _receiver(face: Face) -> Body[[], Any]:
    @face.workflow(name="replication.receive")
    async def receive() -> Any:
        return await face.recv("topic", HOUR)

    return receive


# --- asynchronous --------------------------------------------------------------------------------------


async def test_what_the_standby_had_counts_and_every_process_says_what_is_lost(
    asynchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    async with launched(asynchronous.url) as app:
        load = Load(face, workflows=8)
        await load.start()
        await _all_wait(app, 1)
        idle = make_engine(asynchronous.url, lease_ms=600)
        idle.open()
        await off_loop(asynchronous.await_streaming)
        await off_loop(asynchronous.hold)
        # All of this is acknowledged, and will be lost: messages, steps, events, items, a start, a sign of life.
        await load.send(0)
        await _all_wait(app, 2)
        await face.start(load.workflow, 0, workflow_id="lost")
        await app.waiting("message", "lost", "go")
        before = idle.engine.committer.landed or 0
        await off_loop(wait_until, lambda: (idle.engine.committer.landed or 0) > before)
        formers = {app.engine.committer.executor.executor_id, idle.executor_id}

        await off_loop(asynchronous.fail_over)

        for turn in range(3):
            await load.send(turn)
        await load.await_results(again=[1])
        with pytest.raises(DBOSNonExistentWorkflowError):
            await face.send("lost", None, "go")
        rows = Rows(asynchronous.standby.url)
        await load.check(rows)
        await off_loop(wait_until, lambda: not formers & {app.engine.committer.executor.executor_id, idle.executor_id})
        said = alarms(log)
        assert len(said) == 2, said
        for each in said:
            found = re.search(
                r"it has the batches of this process up to (\d+), and it had confirmed batches up to (\d+)", each
            )
            assert found, each
            assert int(found[1]) < int(found[2])
        # Numbers that were drawn and lost may leave a gap; none is drawn again that is there.
        for table in ("workflows", "messages"):
            [(highest, drawn)] = rows.run(f"select max(seq), (select last_value from {{{table}_seq}}) from {{{table}}}")
            assert highest <= drawn
        idle.stop()


async def test_an_asynchronous_failover_under_load_leaves_nothing_hanging(
    asynchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    """Each start is executed to its end, or its caller is told that it is not there."""

    @face.step(name="replication.work")
    async def work(number: int) -> int:
        return number

    @face.workflow(name="replication.child")
    async def child(number: int) -> int:
        await face.set_event("number", number)
        return await work(number)

    @face.workflow(name="replication.parent")
    async def parent(number: int) -> Any:
        handle = await face.start(child, number)
        return await handle.get_result()

    async def call(number: int) -> None:
        try:
            handle = await face.start(parent, number, workflow_id=f"p{number}" if number % 2 else None)
            assert await handle.get_result() == number
        except (DBOSNonExistentWorkflowError, DBOSShutdownError):
            lost.append(number)

    lost: list[int] = []
    async with launched(asynchronous.url):
        calls = [asyncio.ensure_future(call(number)) for number in range(20)]
        await off_loop(asynchronous.hold)
        calls += [asyncio.ensure_future(call(number)) for number in range(20, 40)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await off_loop(asynchronous.primary.kill)
        calls += [asyncio.ensure_future(call(number)) for number in range(40, 60)]
        await off_loop(asynchronous.promote)
        await asyncio.gather(*calls)
        await asyncio.gather(*(call(number) for number in range(60, 80)))
        rows = Rows(asynchronous.standby.url)
        pending = "select 1 from {workflows} where status = 'PENDING'"
        await off_loop(wait_until, lambda: not rows.run(pending))
        assert not [number for number in lost if number >= 60], "these were started when all was well again"
        assert len(alarms(log)) <= 1


async def _all_wait(app: App, times: int) -> None:
    for number in range(8):
        await app.waiting("message", f"w{number}", "outside", times=times)


# --- two primaries -------------------------------------------------------------------------------------


async def test_where_two_servers_take_writes_a_process_stays_with_one(
    asynchronous: ReplicatedPair, face: Face, log: Sightings
) -> None:
    """The old primary is back, and nobody keeps clients from it. In the URL it comes first."""
    async with launched(asynchronous.url) as app:

        @face.workflow(name="replication.publish")
        async def publish() -> Any:
            await face.set_event("before", 1)
            await face.recv("topic", HOUR)
            await face.set_event("after", 2)
            return await face.recv("topic", HOUR)

        handle = await face.start(publish, workflow_id="w")
        await app.waiting("message", "w", "topic")
        await off_loop(asynchronous.await_streaming)
        await off_loop(asynchronous.fail_over)
        await face.send("w", "one", "topic")
        assert await face.get_event("w", "after", HOUR) == 2
        await off_loop(asynchronous.primary.start)
        with pytest.raises(DBOSInitializationError, match="or two of its servers accept writes"):
            await off_loop(lambda: DBOSClient(system_database_url=asynchronous.url))

        # Whichever of its connections is lost, it comes back to the server where the others are.
        for lost in ("reader", "listener", "writer", "all"):
            await off_loop(_end_connections, asynchronous.standby, app, lost)
            assert await face.get_event("w", "after", 0) == 2
            await face.send("w", lost, "nobody reads it")
            assert await face.get_event("w", "after", 0) == 2
            await off_loop(wait_until, lambda: app.engine.hearing.is_proven)
        rows = Rows(asynchronous.standby.url)
        assert rows.run("select count(*) from {messages} where topic = 'nobody reads it'") == [(4,)]
        assert alarms(log) == []

        # Only when that is gone it goes to the other, says what that lacks, and goes on with what that has.
        await off_loop(asynchronous.standby.kill)
        await face.send("w", "two", "topic")
        assert await face.get_event("w", "after", HOUR) == 2
        await face.send("w", "three", "topic")
        assert await handle.get_result() == "three"
        assert len(alarms(log)) == 1
        rows = Rows(asynchronous.primary.url)
        assert rows.run("select body from {messages} order by seq") == [('"two"',), ('"three"',)]


def _end_connections(server: PostgresServer, app: App, which: str) -> None:
    """Let the server end one connection of the process, or all."""
    store, listener = app.engine.store, app.engine.hearing._listener
    assert isinstance(store, PostgresStore)
    assert isinstance(listener, PostgresListener)
    assert store._reader.wire is not None
    assert store._writer.wire is not None
    numbers = {
        "reader": store._reader.wire.backend_pid,
        "writer": store._writer.wire.backend_pid,
        "listener": listener._connection.info.backend_pid,
    }
    chosen = list(numbers.values()) if which == "all" else [numbers[which]]
    ended = ask(server, "select pid from unnest(%s::int[]) as pid where pg_terminate_backend(pid, 10000)", chosen)
    assert len(ended) == len(chosen)
