"""Messages: M1 to M10 of the requirements, from workflows, steps and application code."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Blocking, Face, Gate
from tests.support.visitor import Visitor
from tidings import DBOS, Message, SendMessage
from tidings.engine.hooks import Point
from tidings.error import DBOSContextError, DBOSNonExistentWorkflowError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


async def test_m1_a_message_is_there_whatever_crashes_after_send_returned(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> Any:
        await face.recv("go", FOREVER)
        return await face.recv(timeout_seconds=0)

    handle = await face.start(order)
    await face.send(handle.workflow_id, "hello")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == "hello"


@pytest.mark.parametrize(("point", "arrived"), [(Point.BATCH_TAKEN, None), (Point.BATCH_COMMITTED, "hello")])
async def test_m1_a_send_that_was_cut_short_was_made_whole_or_not_at_all(
    app: App, face: Face, point: Point, arrived: str | None
) -> None:
    @face.workflow()
    async def order() -> Any:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=0), await face.recv(timeout_seconds=0)]

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    crash = app.crash_at(1, point)
    with pytest.raises(Exception, match="tidings stopped in this process"):
        await face.send(handle.workflow_id, "hello")
    await app.restart_after(crash)
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == [arrived, None]


async def test_m2_recv_waits_for_the_next_message_of_its_topic_alone(app: App, face: Face) -> None:
    topics = [None, "", "a", "a ", "A"]

    @face.workflow()
    async def order() -> list[Any]:
        return [await face.recv(topic, FOREVER) for topic in topics]

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, None)
    for topic in reversed(topics):
        await face.send(handle.workflow_id, f"on {topic!r}", topic)
    assert await handle.get_result() == [f"on {topic!r}" for topic in topics]


async def test_m2_recv_returns_none_at_its_timeout(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def order() -> Any:
        return [await face.recv(), await face.recv("other", 5)]

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, None)
    clock.advance(60)
    await app.waiting("message", handle.workflow_id, "other")
    clock.advance(5)
    assert await handle.get_result() == [None, None]


async def test_m2_only_a_workflow_itself_may_receive(app: App, face: Face) -> None:
    @face.step()
    async def receive_in_a_step() -> Any:
        return await face.recv()

    @face.workflow()
    async def order() -> Any:
        try:
            await receive_in_a_step()
        except DBOSContextError as error:
            return str(error)

    assert "in the step" in await order()
    with pytest.raises(DBOSContextError, match="outside of any workflow"):
        await face.recv()
    with pytest.raises(DBOSContextError, match="outside of any workflow"):
        await face.recv_message()


@pytest.mark.timeout(600)  # Thousands of round trips, on a machine that may have other things to do.
@pytest.mark.long
async def test_m3_thousands_of_sends_in_sequence_arrive_in_sequence(app: App) -> None:
    """Also the peer's defect 1: its order is that of a clock. One face sends and the other receives."""
    sending, receiving, count = Blocking(), Awaiting(), 4_000

    @receiving.workflow()
    async def order() -> list[int]:
        return [await receiving.recv(timeout_seconds=FOREVER) for _ in range(count)]

    async def send_all() -> None:
        for number in range(count):
            await sending.send(handle.workflow_id, number)

    handle = await receiving.start(order)
    await sending.run(send_all)
    assert await handle.get_result() == list(range(count))


async def test_m3_200_bulks_of_100_arrive_in_sequence(app: App) -> None:
    """Also the peer's defect 1. Each bulk is for ten workflows, in turns. The faces change roles."""
    sending, receiving = Awaiting(), Blocking()
    names = [f"order {number}" for number in range(10)]
    numbers = range(200 * 100)

    @receiving.workflow()
    async def order(count: int) -> list[int]:
        return [await receiving.recv("bulk", FOREVER) for _ in range(count)]

    async def send_all() -> None:
        for first in numbers[::100]:
            bulk = [SendMessage(names[number % 10], number, "bulk") for number in numbers[first : first + 100]]
            await sending.send_bulk(bulk)

    for name in names:
        await receiving.start(order, len(numbers) // 10, workflow_id=name)
    await sending.run(send_all)
    for index, name in enumerate(names):
        assert await receiving.get_result(name) == list(numbers[index::10])


async def test_m3_the_order_is_that_of_the_sends_whoever_sent_and_whatever_the_clock_said(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=0) for _ in range(6)]

    @face.step()
    async def send_from_a_step(destination: str, message: str) -> None:
        await face.send(destination, message)

    @face.workflow()
    async def sender(destination: str) -> None:
        await face.send(destination, "b, from a workflow")
        clock.advance(-7_200)
        await send_from_a_step(destination, "c, from a step")

    handle = await face.start(order)
    await face.send(handle.workflow_id, "a, from the application")
    clock.advance(-3_600)
    await sender(handle.workflow_id)
    await face.send_bulk([SendMessage(handle.workflow_id, "d"), SendMessage(handle.workflow_id, "e")])
    await app.crash_and_restart()
    clock.advance(-3_600)
    await face.send(handle.workflow_id, "f, after a crash")
    await face.send(handle.workflow_id, None, "go")
    received = await face.get_result(handle.workflow_id)
    assert [message[0] for message in received] == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_m4_m5_no_crash_loses_or_repeats_a_message(app: App, face: Face, point: Point) -> None:
    """Two workflows exchange messages, and the process dies at each commit in turn, before it or right after it."""
    rounds = 3

    @face.workflow()
    async def pong(ping_id: str) -> list[Any]:
        received = []
        for _ in range(rounds):
            received.append(await face.recv(timeout_seconds=FOREVER))
            await face.send(ping_id, received[-1] * 10)
        return received

    @face.workflow()
    async def ping(pong_id: str) -> list[Any]:
        received = []
        for number in range(1, rounds + 1):
            await face.send(pong_id, number)
            received.append(await face.recv(timeout_seconds=FOREVER))
        return received

    async def exchange(name: str) -> None:
        by, to = f"ping {name}", f"pong {name}"
        await face.start(pong, by, workflow_id=to)
        await face.start(ping, to, workflow_id=by)
        assert await face.get_result(by) == [10, 20, 30]
        assert await face.get_result(to) == [1, 2, 3]

    commits = await app.crash_at_every_commit(point, exchange)
    assert commits > 2 * rounds


async def test_m4_a_cancelled_recv_consumes_nothing(app: App, awaiting: Awaiting) -> None:
    waits = Gate()

    @DBOS.step()
    async def wait_for_the_test() -> None:
        await waits.opened()

    @DBOS.workflow()
    async def order() -> list[Any]:
        receiving = asyncio.create_task(DBOS.recv_async(timeout_seconds=FOREVER))
        await wait_for_the_test()
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        return [await DBOS.recv_async(timeout_seconds=FOREVER), await DBOS.recv_async("last", FOREVER)]

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, None)
    waits.open()
    await app.waiting("message", handle.workflow_id, None, times=2)
    await DBOS.send_async(handle.workflow_id, "hello")
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await DBOS.send_async(handle.workflow_id, "bye", "last")
    assert await DBOS.get_result_async(handle.workflow_id) == ["hello", "bye"]


@pytest.mark.parametrize("how", ["wait_for", "timeout"])
async def test_m4_a_recv_that_asyncio_timed_out_replays_as_timed_out(app: App, awaiting: Awaiting, how: str) -> None:
    async def receive_for(seconds: float) -> Any:
        if how == "wait_for":
            return await asyncio.wait_for(DBOS.recv_async(timeout_seconds=FOREVER), seconds)
        async with asyncio.timeout(seconds):
            return await DBOS.recv_async(timeout_seconds=FOREVER)

    @DBOS.workflow()
    async def order() -> list[Any]:
        received: list[Any] = []
        for _ in range(2):
            try:
                received.append(await receive_for(0.001))
            except TimeoutError:
                received.append("timed out")
        await DBOS.recv_async("go", FOREVER)
        received.append(await DBOS.recv_async(timeout_seconds=0))
        await DBOS.recv_async("last", FOREVER)
        return received

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await DBOS.send_async(handle.workflow_id, "hello")
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, "go")
    await DBOS.send_async(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await DBOS.send_async(handle.workflow_id, None, "last")
    assert await DBOS.get_result_async(handle.workflow_id) == ["timed out", "timed out", "hello"]


async def test_m4_a_recv_cancelled_while_its_message_is_being_taken_returns_it(app: App, awaiting: Awaiting) -> None:
    being_taken, go_on = Gate(), threading.Event()

    def hold_the_take(jobs: list[Any]) -> None:
        if any(job.unit.take is not None and job.unit.take.topic == "held" for job in jobs):
            being_taken.open()
            go_on.wait()

    @DBOS.workflow()
    async def order() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        receiving = asyncio.create_task(DBOS.recv_async("held", FOREVER))
        await being_taken.opened()
        receiving.cancel()
        go_on.set()
        received = await receiving
        return [received, await DBOS.recv_async("last", FOREVER), await DBOS.recv_async("held", 0)]

    handle = await awaiting.start(order)
    app.engine.hooks.set(Point.BATCH_TAKEN, hold_the_take)
    await DBOS.send_async(handle.workflow_id, "hello", "held")
    await DBOS.send_async(handle.workflow_id, None, "go")
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await DBOS.send_async(handle.workflow_id, "bye", "last")
    assert await DBOS.get_result_async(handle.workflow_id) == ["hello", "bye", None]


async def test_m4_a_cancellation_meant_for_more_than_the_recv_is_delivered_after_its_message(
    app: App, awaiting: Awaiting
) -> None:
    being_taken, go_on = Gate(), threading.Event()
    received = []

    def hold_the_take(jobs: list[Any]) -> None:
        if any(job.unit.take is not None and job.unit.take.topic == "held" for job in jobs):
            being_taken.open()
            go_on.wait()

    async def receive_for_ever() -> None:
        while True:
            received.append(await DBOS.recv_async("held", FOREVER))

    @DBOS.workflow()
    async def order() -> None:
        await DBOS.recv_async("go", FOREVER)
        receiving = asyncio.create_task(receive_for_ever())
        await being_taken.opened()
        receiving.cancel()
        go_on.set()
        await asyncio.wait([receiving])
        assert receiving.cancelled()

    handle = await awaiting.start(order)
    app.engine.hooks.set(Point.BATCH_TAKEN, hold_the_take)
    await DBOS.send_async(handle.workflow_id, "hello", "held")
    await DBOS.send_async(handle.workflow_id, None, "go")
    await handle.get_result()
    assert received == ["hello"]


async def test_m5_a_recovered_workflow_does_not_send_again(app: App, face: Face) -> None:
    @face.workflow()
    async def receiver() -> list[Any]:
        return [await face.recv(timeout_seconds=FOREVER) for _ in range(3)] + [await face.recv("end", FOREVER)]

    @face.workflow()
    async def sender(destination: str) -> None:
        await face.send(destination, 1)
        await face.send_bulk([SendMessage(destination, 2), SendMessage(destination, 3)])
        await face.recv("go", FOREVER)
        await face.send(destination, "end", "end")

    to = await face.start(receiver)
    by = await face.start(sender, to.workflow_id)
    await app.waiting("message", by.workflow_id, "go")
    for _ in range(3):
        await app.crash_and_restart()
        await app.waiting("message", by.workflow_id, "go")
    await face.send(by.workflow_id, None, "go")
    assert await face.get_result(to.workflow_id) == [1, 2, 3, "end"]
    assert app.rows.counts()["messages"] == 5


@pytest.mark.parametrize(("key", "arrived"), [(None, ["a", "a", "a"]), ("key", ["a"])])
async def test_m5_a_send_in_a_step_repeats_with_its_tries_unless_it_has_a_key(
    app: App, face: Face, key: str | None, arrived: list[str]
) -> None:
    tries = []

    @face.step(retries_allowed=True, interval_seconds=0)
    async def send_in_a_step(destination: str) -> None:
        await face.send(destination, "a", idempotency_key=key)
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError

    @face.workflow()
    async def sender(destination: str) -> None:
        await send_in_a_step(destination)

    @face.workflow()
    async def receiver() -> list[str]:
        await face.recv("go", FOREVER)
        received = []
        while message := await face.recv(timeout_seconds=0):
            received.append(message)
        return received

    handle = await face.start(receiver)
    await sender(handle.workflow_id)
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == arrived


async def test_m6_an_idempotency_key_makes_repeats_no_ops_per_destination(app: App, face: Face) -> None:
    @face.workflow()
    async def receiver() -> list[Any]:
        first = await face.recv("topic", FOREVER)
        await face.recv("go", FOREVER)
        return [first, await face.recv("topic", 0), await face.recv(timeout_seconds=0)]

    @face.workflow()
    async def sender(destination: str) -> None:
        await face.send(destination, "from a workflow", "topic", idempotency_key="key")

    handles = [await face.start(receiver, workflow_id=name) for name in ("a", "b")]
    for handle in handles:
        await face.send(handle.workflow_id, "first", "topic", idempotency_key="key")
        await face.send(handle.workflow_id, "repeat", "topic", idempotency_key="key")
        await app.waiting("message", handle.workflow_id, "go")  # The first has been read.
        await face.send(handle.workflow_id, "repeat of what was read", "topic", idempotency_key="key")
        await face.send(handle.workflow_id, "repeat on another topic", idempotency_key="key")
        await sender(handle.workflow_id)
        await face.send_bulk([SendMessage(handle.workflow_id, "in bulk", "topic", "key")])
    await app.crash_and_restart()
    for handle in handles:
        await face.send(handle.workflow_id, "after a crash", "topic", idempotency_key="key")
        await face.send(handle.workflow_id, None, "go")
        assert await face.get_result(handle.workflow_id) == ["first", None, None]


@pytest.mark.parametrize(
    ("bulk", "positions"),
    [
        ([("a", "first", None, "k"), ("a", "second", None, "k")], (0, 1)),
        ([("a", "same", None, "k"), ("b", "same", None, "k"), ("a", "same", None, "k")], (0, 2)),
        ([("a", 1, "x", "k"), ("a", 2, None, None), ("a", 3, "y", "k"), ("a", 4, "z", "k")], (0, 2)),
        ([("a", 1, None, "l"), ("a", 2, None, ""), ("b", 3, None, ""), ("a", 4, None, "")], (1, 3)),
        ([("no such workflow", 1, None, "k"), ("no such workflow", 2, None, "k")], (0, 1)),
    ],
    ids=["twice", "the same message", "on several topics", "the empty key", "to nobody"],
)
async def test_m6_a_bulk_that_has_a_key_twice_for_a_destination_is_refused(
    app: App,
    face: Face,
    client: Visitor,
    bulk: list[tuple[str, Any, str | None, str | None]],
    positions: tuple[int, int],
) -> None:
    messages = [SendMessage(*each) for each in bulk]
    destination, key = bulk[positions[0]][0], bulk[positions[0]][3]
    why = (
        rf"messages at index {positions[0]} and {positions[1]} have the same destination_id \('{destination}'\) and "
        rf"the same idempotency_key \('{key}'\), so the second one would be dropped; nothing was sent"
    )

    @face.workflow()
    async def receiver() -> list[Any]:
        return [await face.recv("x", FOREVER), await face.recv("x", 0)]

    @face.step()
    async def step() -> None:
        with pytest.raises(ValueError, match=why):
            await face.send_bulk(messages)

    @face.workflow()
    async def sender() -> str:
        with pytest.raises(ValueError, match=why):
            await face.send_bulk(messages)
        await step()
        return "it goes on"

    handles = [await face.start(receiver, workflow_id=name) for name in ("a", "b")]
    assert await sender() == "it goes on"
    for send_bulk in (face.send_bulk, client.send_bulk):
        with pytest.raises(ValueError, match=why):
            await send_bulk(messages)
    assert app.rows.counts()["messages"] == 0
    # One key for several destinations, and no key at all, are no repetition.
    await face.send_bulk([SendMessage(each, 1, "x", "k") for each in ("a", "b")])
    await face.send_bulk([SendMessage(each, 2, "x") for each in ("a", "a", "b", "b")])
    assert [(await handle.get_result())[0] for handle in handles] == [1, 1]


async def test_m7_the_timeout_goes_on_where_the_crash_left_it(app: App, face: Face, clock: ManualClock) -> None:
    """`recv(timeout_seconds=8)` waits 5 s, the process dies: 3 s are left, no more and no less."""

    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=8)

    for name in ("early", "late"):
        await face.start(order, workflow_id=name)
        await app.waiting("message", name, None)
    clock.advance(5)
    await app.crash()
    clock.waits.seen.clear()
    await app.launch()
    await clock.awaited(clock.now_ms() + 3_000)
    for name in ("early", "late"):
        await app.waiting("message", name, None)
    clock.advance(2.999)
    await face.send("early", "in time")
    assert await face.get_result("early") == "in time"
    clock.advance(0.001)
    assert await face.get_result("late") is None


async def test_m7_time_that_passed_while_nothing_ran_counts(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, None)
    await app.crash()
    clock.advance(FOREVER)
    await app.launch()
    assert await face.get_result(handle.workflow_id) is None


async def test_m7_a_timeout_of_0_looks_once(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        first = await face.recv(timeout_seconds=0)
        await face.recv("go", FOREVER)
        return [first, await face.recv(timeout_seconds=0), await face.recv(timeout_seconds=0)]

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await face.send(handle.workflow_id, "hello")
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == [None, "hello", None]


async def test_m7_none_waits_without_limit(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def approval() -> Any:
        return await face.recv(timeout_seconds=None)

    handle = await face.start(approval)
    await app.waiting("message", handle.workflow_id, None)
    clock.advance(400 * 86_400)
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, None)
    clock.advance(400 * 86_400)
    await face.send(handle.workflow_id, "approved")
    assert await face.get_result(handle.workflow_id) == "approved"


async def test_m8_sending_to_an_unknown_id_names_it_and_sends_nothing(app: App, face: Face) -> None:
    @face.workflow()
    async def known() -> None:
        await face.recv("go", FOREVER)

    @face.workflow()
    async def sender(bulk: bool) -> tuple[str, ...]:
        try:
            await (face.send_bulk(mixed) if bulk else face.send("nobody", 1))
        except DBOSNonExistentWorkflowError as error:
            return error.workflow_ids
        return ()

    await face.start(known, workflow_id="known")
    mixed = [SendMessage("known", 1), SendMessage("nobody", 2), SendMessage("known", 3), SendMessage("no one", 4)]
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.send("nobody", 1)
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody', 'no one'"):
        await face.send_bulk(mixed)
    assert await sender(False) == ("nobody",)
    assert await sender(True) == ("nobody", "no one")
    assert app.rows.counts()["messages"] == 0


async def test_m8_a_refusal_is_recorded_so_that_a_replay_takes_the_same_path(app: App, face: Face) -> None:
    @face.workflow()
    async def late() -> None:
        await face.recv("go", FOREVER)

    @face.workflow()
    async def sender() -> str:
        try:
            await face.send("late", 1)
            outcome = "sent"
        except DBOSNonExistentWorkflowError as error:
            outcome = f"refused: {error.workflow_ids}"
        await face.recv("go", FOREVER)
        return outcome

    handle = await face.start(sender)
    await app.waiting("message", handle.workflow_id, "go")
    await face.start(late, workflow_id="late")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == "refused: ('late',)"
    assert app.rows.counts()["messages"] == 1


async def test_m8_a_message_to_a_workflow_that_has_ended_is_accepted_kept_and_logged(
    app: App, face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    @face.workflow()
    async def brief() -> None: ...

    @face.workflow()
    async def sender() -> None:
        await face.send("brief", 2)

    handle = await face.start(brief, workflow_id="brief")
    await handle.get_result()
    with caplog.at_level(logging.WARNING):
        await face.send("brief", 1)
        await sender()
    assert sum("'brief', which has ended" in message for message in caplog.messages) == 2
    assert app.rows.run("select body from {messages} where read_by_branch is null order by seq") == [("1",), ("2",)]


async def test_m8_any_number_of_messages_at_once(app: App, face: Face) -> None:
    """Also the peer's defect 7: its driver fails beyond 13,107 messages."""

    @face.workflow()
    async def order() -> list[Any]:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=0) for _ in range(3)]

    handle = await face.start(order)
    await face.send_bulk([])
    await face.send_bulk([SendMessage(handle.workflow_id, number) for number in range(14_000)])
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == [0, 1, 2]
    assert app.rows.counts()["messages"] == 14_001


async def test_m9_several_recv_at_once_each_get_a_message(app: App, awaiting: Awaiting) -> None:
    """Also the peer's defect 3. Two of four wait on one topic; after a crash each still has its own."""

    @DBOS.workflow()
    async def order() -> list[Any]:
        topics = ["same", "same", "other", None]
        received = await asyncio.gather(*(DBOS.recv_async(topic, FOREVER) for topic in topics))
        await DBOS.recv_async("last", FOREVER)
        return received

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, "same", times=2)
    await app.waiting("message", handle.workflow_id, "other")
    await app.waiting("message", handle.workflow_id, None)
    await DBOS.send_async(handle.workflow_id, 1, "same")
    await DBOS.send_async(handle.workflow_id, 3, "other")
    await app.crash_and_restart()
    await DBOS.send_bulk_async([SendMessage(handle.workflow_id, 2, "same"), SendMessage(handle.workflow_id, 4)])
    await app.waiting("message", handle.workflow_id, "last")
    await app.crash_and_restart()
    await DBOS.send_async(handle.workflow_id, None, "last")
    received = await DBOS.get_result_async(handle.workflow_id)
    assert [sorted(received[:2]), *received[2:]] == [[1, 2], 3, 4]


async def test_m9_100_recv_at_once_on_one_topic_none_hangs(app: App, awaiting: Awaiting) -> None:
    """Also the peer's defect 3."""

    @DBOS.workflow()
    async def order() -> Any:
        return await asyncio.gather(*(DBOS.recv_async(timeout_seconds=FOREVER) for _ in range(100)))

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, None, times=50)
    await DBOS.send_bulk_async([SendMessage(handle.workflow_id, number) for number in range(100)])
    assert sorted(await handle.get_result()) == list(range(100))


async def test_m9_an_id_and_a_topic_are_never_run_together(app: App, face: Face) -> None:
    """Also the peer's defect 3: there, workflow `a` on topic `b::c` is workflow `a::b` on topic `c`."""

    @face.workflow()
    async def order(topic: str) -> Any:
        return await face.recv(topic, FOREVER)

    first = await face.start(order, "b::c", workflow_id="a")
    second = await face.start(order, "c", workflow_id="a::b")
    await app.waiting("message", "a", "b::c")
    await app.waiting("message", "a::b", "c")
    await face.send("a::b", "to a::b", "c")
    await face.send("a", "to a", "b::c")
    assert [await first.get_result(), await second.get_result()] == ["to a", "to a::b"]


STRANGE = [
    "::",
    "'",
    '"',
    "''; drop table workflows --",
    "%s",
    "{}",
    "\\",
    "\n",
    " ",
    "🦊",
    "é",
    "e\u0301",
    "\uffff",
    "x" * 512,
]


async def test_m9_any_string_is_an_id_a_topic_and_a_key(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        received = [await face.recv_message(topic, FOREVER) for topic in STRANGE]
        return [(message.topic, message.value) for message in received]

    for workflow_id in STRANGE:
        await face.start(order, workflow_id=workflow_id)
    for workflow_id in STRANGE:
        for topic in STRANGE:
            for _ in range(2):
                await face.send(workflow_id, f"{workflow_id} {topic}", topic, idempotency_key=topic)
    for workflow_id in STRANGE:
        assert await face.get_result(workflow_id) == [(topic, f"{workflow_id} {topic}") for topic in STRANGE]
    assert app.rows.counts()["messages"] == len(STRANGE) ** 2


async def test_m10_a_none_message_is_told_from_a_timeout(app: App, face: Face, clock: ManualClock) -> None:
    """Also the peer's defect 5, and across a crash."""

    @face.workflow()
    async def order() -> list[Any]:
        received = [await face.recv(timeout_seconds=60, default="timeout") for _ in range(2)]
        for _ in range(2):
            message = await face.recv_message(timeout_seconds=60)
            received.append("timeout" if message is None else message.value)
        await face.recv("go", FOREVER)
        return received

    handle = await face.start(order)
    for times in (1, 2):
        await app.waiting("message", handle.workflow_id, None, times=2 * times - 1)
        await face.send(handle.workflow_id, None)
        await app.waiting("message", handle.workflow_id, None, times=2 * times)
        clock.advance(60)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == [None, "timeout", None, "timeout"]


async def test_m10_recv_message_tells_all_of_a_message(app: App, face: Face, clock: ManualClock) -> None:
    received: dict[str, list[Message]] = {}

    @face.workflow()
    async def order() -> None:
        received[run] = [await face.recv_message(topic, FOREVER) for topic in ("t", None, "t")]
        await face.recv("go", FOREVER)

    @face.step()
    async def send_in_a_step(destination: str) -> None:
        await face.send(destination, [3], "t")

    @face.workflow()
    async def sender(destination: str) -> None:
        await face.send(destination, {"two": 2})
        await send_in_a_step(destination)

    run = "first"
    handle = await face.start(order)
    sent_at = clock.now_ms()
    await face.send(handle.workflow_id, 1, "t")
    clock.advance(1)
    await (await face.start(sender, handle.workflow_id, workflow_id="sender")).get_result()
    await app.waiting("message", handle.workflow_id, "go")
    first, second, third = received["first"]
    assert (first.value, first.topic, first.sender_id, first.sent_at_epoch_ms) == (1, "t", None, sent_at)
    assert (second.value, second.topic, second.sender_id) == ({"two": 2}, None, "sender")
    assert (third.value, third.topic, third.sender_id, third.sent_at_epoch_ms) == ([3], "t", "sender", sent_at + 1_000)
    assert len({first.message_id, second.message_id, third.message_id}) == 3
    run = "again"
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, "go")
    assert received["again"] == received["first"]
