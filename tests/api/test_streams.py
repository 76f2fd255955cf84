"""Streams: S1 to S8 of the requirements."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.support.app import App, Crash, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face, Gate, off_loop
from tidings import DBOS, DBOSClient, JSONSerializer, limits
from tidings.engine.hooks import Point
from tidings.error import (
    DBOSContextError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSStreamClosedError,
    DBOSStreamTimeoutError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


class _Unstorable:
    """What no database can keep."""


# --- S1, S2: writing ------------------------------------------------------------------------------------


async def test_s1_a_workflow_and_its_steps_append_and_anybody_reads(app: App, face: Face) -> None:
    @face.step()
    async def work() -> None:
        await face.write_stream("log", "from a step")
        await face.write_stream("other", 1)

    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", {"from": "a workflow"})
        await work()
        await face.write_stream("log", None)
        await face.close_stream("log")

    @face.step()
    async def read_in_step(workflow_id: str) -> Any:
        return await face.read(workflow_id, "log")

    @face.workflow()
    async def read(workflow_id: str) -> Any:
        return [await face.read(workflow_id, "log"), await read_in_step(workflow_id)]

    handle = await face.start(flow)
    await handle.get_result()
    expected = [{"from": "a workflow"}, "from a step", None]
    assert await face.read(handle.workflow_id, "log") == expected
    assert await face.read(handle.workflow_id, "other") == [1]
    assert await face.read(handle.workflow_id, "never written") == []
    assert await (await face.start(read, handle.workflow_id)).get_result() == [expected, expected]


async def test_s2_offsets_count_from_0_without_gaps(app: App, face: Face) -> None:
    @face.step()
    async def work(start: int) -> None:
        for number in range(start, start + 3):
            await face.write_stream("a", number)

    @face.workflow()
    async def flow() -> None:
        for number in range(3):
            await face.write_stream("a", number)
            await face.write_stream("b", -number)
        await work(3)
        await face.write_stream("a", 6)

    handle = await face.start(flow, workflow_id="w")
    await handle.get_result()
    for offset in range(7):
        assert await face.read_stream_offset("w", "a", offset) == offset
        assert await face.read("w", "a", offset=offset) == list(range(offset, 7))
    assert await face.read("w", "a", offset=7) == []
    assert await face.read("w", "a", offset=2**40) == []
    assert await face.read("w", "b") == [0, -1, -2]
    with pytest.raises(DBOSStreamClosedError, match="has ended and has no value at offset 7"):
        await face.read_stream_offset("w", "a", 7)


async def test_s2_writers_that_run_side_by_side_never_collide(app: App, awaiting: Awaiting) -> None:
    @DBOS.step()
    async def work(name: str) -> None:
        for number in range(50):
            await DBOS.write_stream_async("log", (name, number))

    @DBOS.workflow()
    async def flow() -> None:
        async def branch(name: str) -> None:
            for number in range(50):
                await DBOS.write_stream_async("log", (name, number))
                await asyncio.sleep(0)

        await asyncio.gather(work("a"), work("b"), branch("c"), branch("d"))

    handle = await awaiting.start(flow)
    await handle.get_result()
    values = await awaiting.read(handle.workflow_id, "log")
    assert len(values) == 200
    for name in "abcd":
        assert [number for who, number in values if who == name] == list(range(50))


async def test_s2_threads_of_a_step_that_carry_its_context_write(app: App) -> None:
    @DBOS.step()
    def work() -> None:
        def write(name: int) -> None:
            for number in range(50):
                DBOS.write_stream("log", (name, number))

        contexts = [contextvars.copy_context() for _ in range(4)]
        threads = [threading.Thread(target=context.run, args=(write, name)) for name, context in enumerate(contexts)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    @DBOS.workflow()
    def flow() -> None:
        work()

    handle = await off_loop(DBOS.start_workflow, flow)
    values = await off_loop(lambda: list(DBOS.read_stream(handle.workflow_id, "log")))
    for name in range(4):
        assert [number for who, number in values if who == name] == list(range(50))


# --- S3: exactly once, at least once ----------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_s3_a_workflow_writes_exactly_once_whatever_crashes(app: App, face: Face, point: Point) -> None:
    @face.step()
    async def work(number: int) -> int:
        return number

    @face.workflow()
    async def flow() -> None:
        for number in range(3):
            await face.write_stream("a", number)
            await face.write_stream("b", await work(number))
        await face.close_stream("a")
        await face.write_stream("b", "last")

    async def program(name: str) -> None:
        await (await face.start(flow, workflow_id=name)).get_result()

    crashes = await app.crash_at_every_commit(point, program)
    assert crashes > 3
    for count in range(1, crashes + 2):
        assert await face.read(f"{count}", "a") == [0, 1, 2]
        assert await face.read(f"{count}", "b") == [0, 1, 2, "last"]


async def test_s3_readers_see_the_values_of_every_try_of_a_step(app: App, face: Face) -> None:
    tries: list[int] = []

    @face.step(retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def work() -> None:
        tries.append(len(tries) + 1)
        await face.write_stream("log", f"try {tries[-1]} began")
        if len(tries) < 3:
            raise ValueError(tries[-1])
        await face.write_stream("log", "done")

    @face.workflow()
    async def flow() -> None:
        await work()
        await face.write_stream("log", "after")

    handle = await face.start(flow)
    await handle.get_result()
    expected = ["try 1 began", "try 2 began", "try 3 began", "done", "after"]
    assert await face.read(handle.workflow_id, "log") == expected
    rows = app.rows.run("select attempt from {stream_items} order by item_offset")
    assert [attempt for (attempt,) in rows] == [1, 2, 3, 3, None]


async def test_s3_a_step_during_which_the_process_died_appends_again(app: App, face: Face) -> None:
    @face.step()
    async def work() -> None:
        await face.write_stream("log", "begun")
        await face.write_stream("log", "working")

    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", "first")
        await work()
        await face.write_stream("log", "last")

    crash = _crash_at_the_end_of_a_step(app)
    handle = await face.start(flow, workflow_id="w")
    await app.restart_after(crash)
    await (await face.retrieve_workflow(handle.workflow_id)).get_result()
    values = await face.read("w", "log")
    assert values[0] == "first"
    assert values[-3:] == ["begun", "working", "last"]
    assert values[1:-3] in (["begun", "working"], ["begun"], [])


def _crash_at_the_end_of_a_step(app: App) -> Sightings:
    """Die with the record of a step's result, behind what it wrote."""
    seen = Sightings()

    def pass_by(jobs: list[Any]) -> None:
        if any(job.unit.entry is not None and "work" in job.unit.entry.name for job in jobs):
            seen.note(jobs)
            raise Crash

    app.engine.hooks.set(Point.BATCH_TAKEN, pass_by)
    return seen


async def test_s3_what_a_step_wrote_is_durable_before_its_result(app: App, face: Face) -> None:
    seen = []

    @face.step()
    async def work() -> None:
        for number in range(100):
            await face.write_stream("log", number)

    @face.workflow()
    async def flow() -> None:
        await work()
        seen.extend(app.rows.run("select count(*) from {stream_items}"))

    await (await face.start(flow)).get_result()
    assert seen == [(100,)]


async def test_s3_a_late_write_of_a_try_that_is_over_is_refused(app: App) -> None:
    context: list[contextvars.Context] = []

    @DBOS.step()
    async def work() -> None:
        context.append(contextvars.copy_context())

    @DBOS.workflow()
    async def flow() -> None:
        await work()
        await DBOS.recv_async("go", FOREVER)

    handle = await DBOS.start_workflow_async(flow)
    await app.waiting("message", handle.workflow_id, "go")
    with pytest.raises(DBOSContextError, match="is over, so it can write no more"):
        await asyncio.create_task(DBOS.write_stream_async("log", 1), context=context[0])
    assert app.rows.run("select * from {stream_items}") == []


# --- S4, S5: reading live -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["success", "error", "cancel", "close"])
async def test_s4_a_live_reader_ends_with_the_stream_however_that_ends(app: App, face: Face, how: str) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", 1)
        await face.recv("go", FOREVER)
        await face.write_stream("log", 2)
        if how == "error":
            raise ValueError("no")
        if how == "close":
            await face.close_stream("log")
            await face.recv("never", FOREVER)

    await face.start(flow, workflow_id="w")
    readers = [asyncio.ensure_future(face.read("w", "log")) for _ in range(3)]
    await app.waiting("stream", "w", "log", times=3)
    if how == "cancel":
        await face.cancel_workflow("w")
    else:
        await face.send("w", None, "go")
    expected = [1] if how == "cancel" else [1, 2]
    assert await asyncio.gather(*readers) == [expected] * 3


async def test_s5_values_are_read_live(app: App, face: Face) -> None:
    @face.workflow()
    async def echo() -> None:
        while (text := await face.recv("say", FOREVER)) is not None:
            await face.write_stream("said", text)

    await face.start(echo, workflow_id="w")
    for number in range(5):
        reading = asyncio.ensure_future(face.read_stream_offset("w", "said", number))
        await app.waiting("stream", "w", "said", times=number + 1)
        await face.send("w", f"text {number}", "say")
        assert await reading == f"text {number}"
    await face.send("w", None, "say")
    assert await face.read("w", "said", offset=3) == ["text 3", "text 4"]


async def test_s5_a_stream_longer_than_many_pages_is_read_whole(
    app: App, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.core.operations.streams.MAX_PAGE_ITEMS", 7)

    @face.workflow()
    async def flow() -> None:
        for number in range(100):
            await face.write_stream("log", number)

    @face.workflow()
    async def read() -> Any:
        return await face.read("w", "log", offset=1)

    await (await face.start(flow, workflow_id="w")).get_result()
    assert await face.read("w", "log") == list(range(100))
    assert await face.read("w", "log", 50, offset=10) == list(range(10, 60))
    assert await (await face.start(read, workflow_id="r")).get_result() == list(range(1, 100))
    assert len(await face.list_workflow_steps("r")) == 15, "an entry for each page, not for each value"


async def test_s5_values_of_any_size_are_read_in_pages_of_some(app: App, face: Face) -> None:
    @face.workflow()
    async def flow() -> None:
        for number in range(20):
            await face.write_stream("log", f"{number}" * (300_000 if number % 7 else 1))

    handle = await face.start(flow)
    values = await face.read(handle.workflow_id, "log")
    assert [len(value) for value in values] == [len(f"{n}") * (300_000 if n % 7 else 1) for n in range(20)]


async def test_s5_the_timeout_is_for_each_value(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", 1)
        await face.recv("go", FOREVER)
        await face.write_stream("log", 2)
        await face.recv("never", FOREVER)

    await face.start(flow, workflow_id="w")
    await app.waiting("message", "w", "go")  # The first value is there.
    reading = asyncio.ensure_future(face.read("w", "log", timeout_seconds=10))
    await app.waiting("stream", "w", "log")
    clock.advance(9)
    await face.send("w", None, "go")
    await app.waiting("stream", "w", "log", times=2)
    clock.advance(9.999)
    assert not reading.done()
    clock.advance(0.001)
    message = "no value was written at offset 2 of the stream 'log' of workflow 'w' within 10 seconds"
    with pytest.raises(DBOSStreamTimeoutError, match=message):
        await reading
    with pytest.raises(DBOSStreamTimeoutError, match="offset 2"):
        await face.read_stream_offset("w", "log", 2, timeout_seconds=0)
    assert await face.read_stream_offset("w", "log", 1, timeout_seconds=0) == 2


async def test_s5_a_reader_that_stops_early_leaves_nothing_behind(app: App, face: Face) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", 1)
        await face.recv("never", FOREVER)

    await face.start(flow, workflow_id="w")
    await app.waiting("message", "w", "never")
    assert await face.read("w", "log", 1) == [1]
    assert len(app.engine.waiters) == 1, "the workflow itself"
    if isinstance(face, Awaiting):
        reading = asyncio.ensure_future(face.read("w", "log", 2))
        await app.waiting("stream", "w", "log")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert len(app.engine.waiters) == 1


async def test_s5_the_last_value_of_workflows_that_end_at_once_is_never_lost(app: App, awaiting: Awaiting) -> None:
    @DBOS.workflow()
    async def flow(number: int) -> None:
        await DBOS.recv_async("go", FOREVER)
        await DBOS.write_stream_async("log", number)

    ids = [f"w{number}" for number in range(300)]
    for number, workflow_id in enumerate(ids):
        await awaiting.start(flow, number, workflow_id=workflow_id)
    readers = [asyncio.ensure_future(awaiting.read(workflow_id, "log")) for workflow_id in ids]
    await app.waits.until(lambda seen: sum(("stream", each, "log") in keys for keys in seen for each in ids) >= 300)
    for workflow_id in ids:
        await DBOS.send_async(workflow_id, None, "go")
    assert await asyncio.gather(*readers) == [[number] for number in range(300)]


async def test_s5_reading_an_unknown_workflow_is_an_error(app: App, face: Face) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.read("nobody", "log")
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.read_stream_offset("nobody", "log", 0)


# --- S6: closing ----------------------------------------------------------------------------------------------


async def test_s6_no_value_can_end_a_stream(app: App, face: Face) -> None:
    """Also the peer's defect 6."""
    markers: list[Any] = [None, "", "__DBOS_STREAM_CLOSED__", {"closed": True}, [], StopIteration("end"), False]

    @face.workflow()
    async def flow() -> None:
        for value in markers:
            await face.write_stream("log", value)

    handle = await face.start(flow)
    assert repr(await face.read(handle.workflow_id, "log")) == repr(markers)


async def test_s6_writing_to_a_closed_stream_is_an_error_and_closing_twice_is_harmless(app: App, face: Face) -> None:
    @face.step()
    async def work() -> str:
        try:
            await face.write_stream("log", "too late")
        except DBOSStreamClosedError as error:
            return str(error)
        return "written"

    @face.workflow()
    async def flow() -> Any:
        await face.write_stream("log", 1)
        await face.close_stream("log")
        await face.close_stream("log")
        refusals = [await work()]
        try:
            await face.write_stream("log", "too late")
        except DBOSStreamClosedError as error:
            refusals.append(str(error))
        await face.close_stream("log")
        await face.write_stream("other", "is open")
        await face.recv("go", FOREVER)
        return refusals

    await face.start(flow, workflow_id="w")
    await app.waiting("message", "w", "go")
    assert await face.read("w", "log") == [1]
    await app.crash_and_restart()
    await face.send("w", None, "go")
    refusal = (
        "the stream 'log' of workflow 'w' is closed, so nothing was written; write before DBOS.close_stream, or to "
        "another stream"
    )
    assert await face.get_result("w") == [refusal, refusal]
    assert await face.read("w", "log") == [1]
    assert await face.read("w", "other") == ["is open"]


async def test_s6_a_close_in_a_step_takes_effect_with_its_result(app: App, face: Face) -> None:
    tries = []
    closed, may_end = Gate(), Gate()

    @face.step(retries_allowed=True, max_attempts=2, interval_seconds=0)
    async def work() -> str:
        tries.append(1)
        await face.write_stream("log", f"try {len(tries)}")
        await face.close_stream("log")
        with pytest.raises(DBOSStreamClosedError):
            await face.write_stream("log", "no")
        if len(tries) == 1:
            raise ValueError("again")
        closed.open()
        may_end.wait() if not isinstance(face, Awaiting) else await may_end.opened()
        return "done"

    @face.workflow()
    async def flow() -> str:
        await work()
        try:
            await face.write_stream("log", "no")
        except DBOSStreamClosedError:
            return "refused"
        return "written"

    handle = await face.start(flow, workflow_id="w")
    await closed.opened()
    reading = asyncio.ensure_future(face.read("w", "log"))
    await app.waiting("stream", "w", "log")
    assert app.rows.run("select * from {closed_streams}") == []
    may_end.open()
    assert await handle.get_result() == "refused"
    assert await reading == ["try 1", "try 2"]
    assert len(app.rows.run("select * from {closed_streams}")) == 1


async def test_s6_a_step_that_failed_has_closed_nothing(app: App, face: Face) -> None:
    @face.step()
    async def work() -> None:
        await face.close_stream("log")
        raise ValueError("no")

    @face.workflow()
    async def flow() -> None:
        try:
            await work()
        except ValueError as error:
            await face.write_stream("log", str(error))

    handle = await face.start(flow)
    assert await face.read(handle.workflow_id, "log") == ["no"]


# --- S7: the client ---------------------------------------------------------------------------------------


async def test_s7_a_client_reads_streams(app: App, face: Face) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.write_stream("log", 1)
        await face.recv("go", FOREVER)
        await face.write_stream("log", 2)

    await face.start(flow, workflow_id="w")
    with DBOSClient(system_database_url=app.database_url) as client:
        reading = asyncio.ensure_future(face.read("w", "log", of=client))
        await app.waiting("stream", "w", "log")
        await face.send("w", None, "go")
        assert await reading == [1, 2]
        assert await face.read("w", "log", 1, of=client, offset=1) == [2]


# --- S8: reading in a workflow ------------------------------------------------------------------------------


async def test_s8_what_a_workflow_reads_is_recorded(app: App, face: Face) -> None:
    @face.workflow()
    async def writer() -> None:
        await face.write_stream("log", 1)
        await face.write_stream("log", 2)
        await face.recv("go", FOREVER)
        await face.write_stream("log", 3)

    @face.workflow()
    async def reader() -> Any:
        first = await face.read("writer", "log", 2)
        await face.recv("go", FOREVER)
        return [first, await face.read("writer", "log"), await face.read_stream_offset("writer", "log", 0)]

    await face.start(writer, workflow_id="writer")
    await app.waiting("message", "writer", "go")
    await face.start(reader, workflow_id="reader")
    await app.waiting("message", "reader", "go")
    await app.crash_and_restart()
    await face.send("writer", None, "go")
    await face.get_result("writer")
    app.rows.run("update {stream_items} set value = '7'")
    await app.waiting("message", "reader", "go")
    await face.send("reader", None, "go")
    assert await face.get_result("reader") == [[1, 2], [7, 7, 7], 7]


async def test_s8_a_timeout_that_a_workflow_met_is_recorded_and_goes_on_through_a_crash(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def writer() -> None:
        await face.recv("go", FOREVER)
        await face.write_stream("log", 1)
        await face.recv("never", FOREVER)

    @face.workflow()
    async def reader() -> Any:
        try:
            await face.read("writer", "log", 1, timeout_seconds=10)
        except DBOSStreamTimeoutError as error:
            await face.recv("go", FOREVER)
            return str(error)
        return "read"

    await face.start(writer, workflow_id="writer")
    await face.start(reader, workflow_id="reader")
    await app.waiting("stream", "writer", "log")
    clock.advance(6)
    await app.crash_and_restart()
    await app.waiting("stream", "writer", "log")
    clock.advance(4)
    await app.waiting("message", "reader", "go")
    await face.send("writer", None, "go")
    await app.waiting("message", "writer", "never")
    await app.crash_and_restart()
    await face.send("reader", None, "go")
    assert "offset 0 of the stream 'log' of workflow 'writer' within 10 seconds" in await face.get_result("reader")


async def test_s8_reading_live_in_a_workflow_ends_with_the_stream(app: App, face: Face) -> None:
    @face.workflow()
    async def writer() -> None:
        await face.recv("go", FOREVER)
        await face.write_stream("log", 1)

    @face.workflow()
    async def reader() -> Any:
        return await face.read("writer", "log")

    await face.start(writer, workflow_id="writer")
    await face.start(reader, workflow_id="reader")
    await app.waiting("stream", "writer", "log")
    await face.send("writer", None, "go")
    assert await face.get_result("reader") == [1]


async def test_s8_a_workflow_reads_whatever_anybody_may_write(app: App, face: Face) -> None:
    @face.workflow()
    async def writer() -> None:
        await face.write_stream("log", '"' * (6 << 20))
        await face.write_stream("log", "\n")
        await face.write_stream("log", "x" * (limits.MAX_VALUE_BYTES - 2))

    @face.workflow()
    async def reader() -> Any:
        lengths = [len(value) for value in await face.read("writer", "log")]
        await face.recv("go", FOREVER)
        return [*lengths, len(await face.read_stream_offset("writer", "log", 2))]

    await (await face.start(writer, workflow_id="writer")).get_result()
    await face.start(reader, workflow_id="reader")
    await app.waiting("message", "reader", "go")
    await app.crash_and_restart()
    await face.send("reader", None, "go")
    assert await face.get_result("reader") == [6 << 20, 1, limits.MAX_VALUE_BYTES - 2, limits.MAX_VALUE_BYTES - 2]


class _OnlyTexts:
    """A serializer that takes nothing but texts."""

    def serialize(self, value: Any) -> str:
        if isinstance(value, str):
            return f"text {value}"
        return JSONSerializer().serialize(value) if isinstance(value, dict) or value is None else self._refuse()

    def deserialize(self, text: str) -> Any:
        return text[5:] if text.startswith("text ") else JSONSerializer().deserialize(text)

    def name(self) -> str:
        return "only texts"

    def _refuse(self) -> str:
        raise TypeError("only texts")


async def test_s8_reading_in_a_workflow_asks_nothing_of_a_serializer_but_the_values(app: App, face: Face) -> None:
    await app.relaunch(serializer=_OnlyTexts())

    @face.workflow()
    async def writer() -> None:
        await face.write_stream("log", "a")

    @face.workflow()
    async def reader() -> str:
        values = await face.read("writer", "log")
        return str(values[0] + await face.read_stream_offset("writer", "log", 0))

    await (await face.start(writer, workflow_id="writer")).get_result()
    assert await (await face.start(reader)).get_result() == "aa"


async def test_s5_a_reader_whose_time_was_up_can_be_asked_again(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.recv("go", FOREVER)
        await face.write_stream("log", 1)

    await face.start(flow, workflow_id="w")
    if isinstance(face, Awaiting):
        values = DBOS.read_stream_async("w", "log", timeout_seconds=0)
        with pytest.raises(DBOSStreamTimeoutError) as timed_out:
            await anext(values)
        await face.send("w", None, "go")
        await face.get_result("w")
        assert [value async for value in values] == [1]
    else:
        blocking = await face.read_stream("w", "log", timeout_seconds=0)
        with pytest.raises(DBOSStreamTimeoutError) as timed_out:
            await off_loop(next, blocking)
        await face.send("w", None, "go")
        await face.get_result("w")
        assert await off_loop(list, blocking) == [1]
    assert (timed_out.value.key, timed_out.value.offset) == ("log", 0)


# --- bounded, and bad input -----------------------------------------------------------------------------------


async def test_writers_wait_when_too_much_is_in_flight(app: App, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.engine.database.committer.MAX_UNITS_IN_FLIGHT", 100)
    most: list[int] = []

    def note(_: Any) -> None:
        most.append(app.engine.committer._units)

    app.engine.hooks.set(Point.BATCH_TAKEN, note)

    @face.workflow()
    async def flow() -> None:
        for number in range(1_000):
            await face.write_stream("log", number)

    handle = await face.start(flow)
    assert await face.read(handle.workflow_id, "log") == list(range(1_000))
    assert 2 < max(most) <= 110


_BAD: list[tuple[Callable[[Face], Any], type[Exception], str]] = [
    (lambda face: face.read("w", "log", offset=-1), DBOSLimitError, "offset must be 0 .*; got -1"),
    (lambda face: face.read("w", "log", offset=True), TypeError, "offset must be a whole number"),
    (lambda face: face.read("w", "log", offset=1.0), TypeError, "offset must be a whole number"),
    (lambda face: face.read("w", "log", offset=2**63), DBOSLimitError, "offset must be"),
    (lambda face: face.read_stream_offset("w", "log", -1), DBOSLimitError, "offset must be 0 .* or more"),
    (lambda face: face.read("w", "log", timeout_seconds=-1), DBOSLimitError, "timeout_seconds must be 0 or more"),
    (lambda face: face.read("w", cast(str, 7)), TypeError, "stream key must be a string"),
    (lambda face: face.read("", "log"), DBOSLimitError, "workflow_id must not be empty"),
    (lambda face: face.write_stream("log", 1), DBOSContextError, "outside of any workflow; a stream belongs to one"),
    (lambda face: face.close_stream("log"), DBOSContextError, "outside of any workflow; a stream belongs to one"),
]


@pytest.mark.parametrize(("call", "error", "message"), _BAD, ids=range(len(_BAD)))
async def test_bad_calls_are_refused(app: App, face: Face, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await call(face)


async def test_what_cannot_be_written_is_refused_and_nothing_stays(app: App, face: Face) -> None:
    refusals: dict[str, str] = {}

    @face.step()
    async def work() -> None:
        await _note_refusals("step")

    @face.workflow()
    async def flow() -> None:
        await _note_refusals("workflow")
        await work()
        await face.write_stream("log", "fits")

    async def _note_refusals(where: str) -> None:
        for name, key, value in [
            ("value", "log", {"a": [_Unstorable()]}),
            ("size", "log", "x" * (limits.MAX_VALUE_BYTES + 1)),
            ("key", "x" * 1_025, 1),
            ("nul", "a\0b", 1),
        ]:
            try:
                await face.write_stream(key, value)
            except (DBOSSerializationError, DBOSLimitError) as error:
                refusals[f"{where} {name}"] = str(error)

    handle = await face.start(flow)
    await handle.get_result()
    assert await face.read(handle.workflow_id, "log") == ["fits"]
    for where in ("workflow", "step"):
        assert "the value for the stream 'log'" in refusals[f"{where} value"]
        assert "$.a[0]" in refusals[f"{where} value"]
        assert "more than the 16,777,216" in refusals[f"{where} size"]
        assert "more than the 1,024" in refusals[f"{where} key"]
        assert "NUL" in refusals[f"{where} nul"]


async def test_a_value_that_cannot_be_rebuilt_is_an_error_behind_those_before_it(app: App, face: Face) -> None:
    @face.workflow()
    async def flow() -> None:
        for number in range(3):
            await face.write_stream("log", number)

    await (await face.start(flow, workflow_id="w")).get_result()
    app.rows.run("update {stream_items} set value = 'no json' where item_offset = 1")
    assert await face.read("w", "log", 1) == [0]
    with pytest.raises(DBOSSerializationError, match="the value at offset 1 of the stream 'log' of workflow 'w'"):
        await face.read("w", "log")
    assert await face.read("w", "log", offset=2) == [2]


async def test_a_blocking_reader_on_a_running_loop_names_the_form_to_await(app: App) -> None:
    with pytest.raises(RuntimeError, match=r"use: async for value in DBOS\.read_stream_async\("):
        DBOS.read_stream("w", "log")
