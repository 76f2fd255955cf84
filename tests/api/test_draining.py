"""A workflow that drains its mailbox: M3, M4, M5 and M7 for messages that wait already.

From the third on, what waits is seen ahead and received without a commit for each (`core.ahead`).
"""

import asyncio
import itertools
import threading
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face, Gate
from tidings import DBOS, Message, SendMessage
from tidings.engine.hooks import Point
from tidings.error import DBOSSerializationError, DBOSWorkflowCancelledError
from tidings.model import Unit

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

COUNT = 30

HOSTILE = '{"$tidings":"object","cls":"os:system","v":{"command":"exit"}}'


async def fill(face: Face, workflow_id: str, *, count: int = COUNT, first: int = 0, topic: str | None = None) -> None:
    """Send numbers."""
    await face.send_bulk([SendMessage(workflow_id, number, topic) for number in range(first, first + count)])


def unread(app: App, *, topic: str | None = None) -> list[int]:
    """The numbers on a topic that nobody has received."""
    where = "topic is null" if topic is None else f"topic = '{topic}'"
    rows = app.rows.run(f"select body from {{messages}} where {where} and read_by_branch is null order by seq")
    return [int(body) for (body,) in rows]


class Units:
    """What was committed since."""

    def __init__(self, app: App) -> None:
        self._batches = Sightings()
        app.engine.hooks.set(Point.BATCH_COMMITTED, lambda jobs: self._batches.note([job.unit for job in jobs]))

    @property
    def _units(self) -> list[Unit]:
        return [unit for batch in self._batches.seen for unit in batch]

    async def until_the_end(self) -> None:
        """Wait for the unit that ends the workflow: others can read the result before this test sees the unit."""
        await self._batches.until(lambda batches: any(unit.outcome for batch in batches for unit in batch))

    def seen_and_taken(self) -> int:
        return sum(unit.take_seen is not None for unit in self._units)

    def looks(self) -> list[int]:
        """How far each look looked ahead."""
        return [unit.take.ahead for unit in self._units if unit.take is not None]


@pytest.mark.parametrize("timeout_seconds", [0, FOREVER])
async def test_m3_what_waits_is_received_in_order_and_in_few_commits(
    app: App, face: Face, timeout_seconds: float
) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=timeout_seconds) for _ in range(COUNT)]

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    units = Units(app)
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == list(range(COUNT))
    await units.until_the_end()
    assert units.seen_and_taken() == COUNT - 4, "all but those that three looks took, and one that looked further"
    assert unread(app) == []


async def test_m3_what_waits_is_received_in_few_commits_also_within_wait_for(app: App, awaiting: Awaiting) -> None:
    """It makes no branch, on no Python: another branch would be one that may take messages too."""

    @awaiting.workflow()
    async def order() -> list[Any]:
        await awaiting.recv("go", FOREVER)
        return [await asyncio.wait_for(DBOS.recv_async(timeout_seconds=FOREVER), FOREVER) for _ in range(COUNT)]

    handle = await awaiting.start(order)
    await fill(awaiting, handle.workflow_id)
    units = Units(app)
    await awaiting.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == list(range(COUNT))
    assert units.seen_and_taken() == COUNT - 4


async def test_m3_topics_that_are_drained_in_turns_keep_their_orders(app: App, face: Face) -> None:
    topics = [None, "a", ""]

    @face.workflow()
    async def order() -> list[list[Any]]:
        await face.recv("go", FOREVER)
        received: list[list[Any]] = [[] for _ in topics]
        for number in range(3 * COUNT):
            which = number * number % 3 if number < COUNT else number % 3
            received[which].append(await face.recv(topics[which], 0))
        return received

    handle = await face.start(order)
    for topic in topics:
        await fill(face, handle.workflow_id, topic=topic)
    await face.send(handle.workflow_id, None, "go")
    for received in await handle.get_result():
        numbers = [number for number in received if number is not None]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == min(COUNT, len(received))


async def test_m3_what_comes_meanwhile_comes_behind(app: App, face: Face) -> None:
    """Also what the workflow sends to itself."""

    @face.workflow()
    async def order(itself: str) -> list[Any]:
        await face.recv("go", FOREVER)
        received = []
        for number in range(COUNT + 6):
            if number % 5 == 4 and number < COUNT:
                await face.send(itself, COUNT + number // 5)
            received.append(await face.recv(timeout_seconds=0))
        return received

    handle = await face.start(order, "w", workflow_id="w")
    await fill(face, "w")
    units = Units(app)
    await face.send("w", None, "go")
    assert await handle.get_result() == list(range(COUNT + 6))
    await units.until_the_end()
    assert units.seen_and_taken() > COUNT // 2


async def test_m3_who_waits_for_each_message_never_looks_ahead(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        return [await face.recv(timeout_seconds=FOREVER) for _ in range(6)]

    handle = await face.start(order)
    units = Units(app)
    for number in range(6):
        await app.waiting("message", handle.workflow_id, None, times=number + 1)
        await face.send(handle.workflow_id, number)
    assert await handle.get_result() == list(range(6))
    await units.until_the_end()
    assert set(units.looks()) == {0}


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
@pytest.mark.long
async def test_m4_m5_no_crash_loses_or_repeats_what_is_drained(app: App, face: Face, point: Point) -> None:
    """Numbers are passed on, now and then with a step before, and the process dies at each commit in turn.

    A step finds all durable that was received before it.
    """
    count = 8
    early: list[Any] = []

    @face.step()
    async def work(workflow_id: str, number: int) -> int:
        if app.rows.is_sqlite:
            mine = "destination_seq = (select seq from {workflows} where workflow_id = ?)"
        else:
            mine = "destination_id = ?"
        rows = app.rows.run(
            f"select body from {{messages}} where topic is null and read_by_branch is null and {mine}", workflow_id
        )
        early.extend(body for (body,) in rows if int(body) <= number)
        return -number

    @face.workflow()
    async def relay(itself: str, to: str) -> list[Any]:
        await face.recv("go", FOREVER)
        received = []
        for number in range(count):
            received.append(await face.recv(timeout_seconds=FOREVER))
            if number in (4, 6):
                received.append(await work(itself, number))
            if number % 3 == 2:
                await face.set_event("last", number)
            if number % 4 == 3:
                await face.send(to, received)
        return received

    @face.workflow()
    async def sink() -> list[Any]:
        return [await face.recv(timeout_seconds=FOREVER) for _ in range(count // 4)]

    async def exchange(name: str) -> None:
        by, to = f"relay {name}", f"sink {name}"
        await face.start(sink, workflow_id=to)
        await face.start(relay, by, to, workflow_id=by)
        bulk = [SendMessage(by, number, None, f"{number}") for number in range(count)]
        await face.send_bulk([*bulk, SendMessage(by, None, "go", "go")])
        received = [0, 1, 2, 3, 4, -4, 5, 6, -6, 7]
        assert await face.get_result(by) == received
        assert await face.get_result(to) == [received[:4], received]
        assert await face.get_event(by, "last", 0) == 5

    commits = await app.crash_at_every_commit(point, exchange)
    assert commits >= 8
    assert early == []


async def test_m4_what_a_crash_takes_back_is_received_again_in_order(app: App, face: Face) -> None:
    """The process dies with the first batch of messages that were seen: the run goes on where its history ends."""
    executions: list[list[Any]] = []

    @face.workflow()
    async def order() -> list[Any]:
        received: list[Any] = []
        executions.append(received)
        await face.recv("go", FOREVER)
        while len(received) < COUNT:
            received.append(await face.recv(timeout_seconds=FOREVER))
        return received

    def die_with_the_first(jobs: list[Any]) -> None:
        if any(job.unit.take_seen is not None for job in jobs):
            crash.note("died")
            raise SystemError("the process dies")

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    crash = app.crash_at(10**9)
    app.engine.hooks.set(Point.BATCH_TAKEN, die_with_the_first)
    await face.send(handle.workflow_id, None, "go")
    await app.restart_after(crash)
    assert await face.get_result(handle.workflow_id) == list(range(COUNT))
    assert len(executions) == 2
    assert executions[0] == list(range(len(executions[0])))
    assert unread(app) == []


async def test_m4_branches_that_receive_while_a_mailbox_is_drained_take_the_next_messages(
    app: App, awaiting: Awaiting
) -> None:
    @DBOS.workflow()
    async def order() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        received: list[Any] = []

        async def receive(times: int) -> None:
            while times > 0:
                received.append(await DBOS.recv_async(timeout_seconds=FOREVER))
                times -= 1

        for _ in range(3):
            await receive(5)
            await asyncio.gather(receive(1), receive(2), receive(1))
        await asyncio.gather(receive(1), receive(1), asyncio.create_task(receive(1)))
        await DBOS.recv_async("last", FOREVER)
        return received

    handle = await awaiting.start(order)
    await fill(awaiting, handle.workflow_id)
    await DBOS.send_async(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, "last")
    await DBOS.send_async(handle.workflow_id, None, "last")
    assert await DBOS.get_result_async(handle.workflow_id) == list(range(COUNT))


@pytest.mark.parametrize("bad", [2, 7])
async def test_m4_a_message_that_cannot_be_rebuilt_stays_where_it_is_and_so_do_those_behind_it(
    app: App, face: Face, bad: int
) -> None:
    """Before what is seen, and in its midst. It ends as without: refused, recorded so, unread, and replayed alike."""

    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        received: list[Any] = []
        for _ in range(bad + 2):
            try:
                received.append(await face.recv(timeout_seconds=0))
            except DBOSSerializationError as error:
                received.append(type(error).__name__)
        await face.recv("again", FOREVER)
        received += [await face.recv(timeout_seconds=0) for _ in range(COUNT - bad)]
        return received

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    app.rows.run("update {messages} set body = ? where body = ?", HOSTILE, str(bad))
    await face.send(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, "again")
    waiting = app.rows.run("select body from {messages} where topic is null and read_by_branch is null order by seq")
    assert [body for (body,) in waiting[1:]] == [str(number) for number in range(bad + 1, COUNT)]
    assert len(waiting) == COUNT - bad
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, "again")
    app.rows.run("update {messages} set body = ? where body like ?", str(bad), "%system%")
    await face.send(handle.workflow_id, None, "again")
    refused = ["DBOSSerializationError"] * 2
    assert await face.get_result(handle.workflow_id) == [*range(bad), *refused, *range(bad, COUNT)]


async def test_m4_receives_that_are_timed_out_at_once_lose_nothing(app: App, awaiting: Awaiting) -> None:
    """What was seen is received before the time is up; a look is withdrawn, or returns its message."""

    @DBOS.workflow()
    async def order() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        received: list[Any] = []
        for _ in itertools.count():
            try:
                async with asyncio.timeout(0):
                    received.append(await DBOS.recv_async(timeout_seconds=FOREVER))
            except TimeoutError:
                # One look that is waited for, so that it gets on.
                received.append(await DBOS.recv_async(timeout_seconds=0))
            if len(received) >= COUNT or received[-1] is None:
                break
        await DBOS.recv_async("last", FOREVER)
        return received

    handle = await awaiting.start(order)
    await fill(awaiting, handle.workflow_id)
    await DBOS.send_async(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, "last")
    await DBOS.send_async(handle.workflow_id, None, "last")
    assert await DBOS.get_result_async(handle.workflow_id) == list(range(COUNT))


async def test_m4_a_look_that_is_cancelled_while_it_is_committed_returns_its_message_and_keeps_what_it_saw(
    app: App, awaiting: Awaiting
) -> None:
    being_taken, go_on = Gate(), threading.Event()

    def hold_the_look(jobs: list[Any]) -> None:
        if any(job.unit.take is not None and job.unit.take.ahead for job in jobs):
            being_taken.open()
            go_on.wait()

    @DBOS.workflow()
    async def order() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        task = asyncio.current_task()
        assert task is not None
        received: list[Any] = [await DBOS.recv_async(timeout_seconds=FOREVER) for _ in range(2)]

        async def cancel() -> None:
            await being_taken.opened()
            task.cancel()
            go_on.set()

        cancelling = asyncio.create_task(cancel())  # It calls no operation, and so is no branch.
        try:
            received.append(await DBOS.recv_async(timeout_seconds=FOREVER))
            await cancelling
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            task.uncancel()
            received.append("cancelled")
        received += [await DBOS.recv_async(timeout_seconds=0) for _ in range(COUNT - 3)]
        return received

    handle = await awaiting.start(order)
    await fill(awaiting, handle.workflow_id)
    app.engine.hooks.set(Point.BATCH_TAKEN, hold_the_look)
    units = Units(app)
    await DBOS.send_async(handle.workflow_id, None, "go")
    assert await handle.get_result() == [0, 1, 2, "cancelled", *range(3, COUNT)]
    await units.until_the_end()
    assert units.seen_and_taken() == COUNT - 4


async def test_m7_the_timeout_counts_from_the_receive_that_finds_nothing_more(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=8) for _ in range(COUNT + 1)]

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    await face.send(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, None)
    clock.advance(5)
    await app.crash()
    clock.waits.seen.clear()
    await app.launch()
    await clock.awaited(clock.now_ms() + 3_000)
    clock.advance(3)
    assert await face.get_result(handle.workflow_id) == [*range(COUNT), None]


async def test_what_was_seen_is_unread_until_it_is_received(app: App, face: Face) -> None:
    looks, go_on = Gate(), Gate()

    @face.step()
    async def wait_for_the_test() -> None:
        looks.open()
        await go_on.opened()

    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        received = []
        for number in range(COUNT):
            received.append(await face.recv_message(timeout_seconds=0))
            if number == 5:
                await wait_for_the_test()
        return [message.value for message in received if isinstance(message, Message)]

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    units = Units(app)
    await face.send(handle.workflow_id, None, "go")
    await looks.opened()
    assert units.seen_and_taken() == 3
    assert unread(app) == list(range(6, COUNT))
    listed = [each for each in await face.list_messages(handle.workflow_id) if each.topic is None]
    assert [each.read_by is None for each in listed] == [False] * 6 + [True] * (COUNT - 6)
    go_on.open()
    assert await handle.get_result() == list(range(COUNT))


async def test_a_cancelled_workflow_receives_nothing_more_though_it_has_seen_it(app: App, face: Face) -> None:
    looks, go_on = Gate(), Gate()
    received: list[Any] = []

    @face.step()
    async def wait_for_the_test() -> None:
        looks.open()
        await go_on.opened()

    @face.workflow()
    async def order() -> None:
        await face.recv("go", FOREVER)
        for number in range(COUNT):
            received.append(await face.recv(timeout_seconds=0))
            if number == 5:
                await wait_for_the_test()

    handle = await face.start(order)
    await fill(face, handle.workflow_id)
    await face.send(handle.workflow_id, None, "go")
    await looks.opened()
    await face.cancel_workflow(handle.workflow_id)
    go_on.open()
    await app.ended(handle.workflow_id)
    with pytest.raises(Exception, match=handle.workflow_id) as raised:
        await handle.get_result()
    assert not isinstance(raised.value, DBOSWorkflowCancelledError)
    assert received == list(range(6))
    assert unread(app) == list(range(6, COUNT))
