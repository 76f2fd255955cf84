"""Events: E1 to E6 of the requirements, from workflows, steps and application code."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face, Gate
from tidings import DBOS
from tidings.engine.hooks import Point
from tidings.error import DBOSContextError, DBOSNonExistentWorkflowError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


async def test_e1_the_latest_value_is_always_retrievable(app: App, face: Face) -> None:
    @face.step()
    async def publish_in_a_step() -> None:
        await face.set_event("stage", "in a step")

    @face.workflow()
    async def order() -> None:
        await face.set_event("stage", "begun")
        await face.set_event("stage", "begun again")
        await face.recv("1", FOREVER)
        await publish_in_a_step()
        await face.recv("2", FOREVER)
        await face.set_event("stage", {"ended": True})

    handle = await face.start(order)
    stage = handle.workflow_id, "stage", FOREVER
    await app.waiting("message", handle.workflow_id, "1")
    assert await face.get_event(*stage) == "begun again"
    await face.send(handle.workflow_id, None, "1")
    await app.waiting("message", handle.workflow_id, "2")
    assert await face.get_event(*stage) == "in a step"
    await face.send(handle.workflow_id, None, "2")
    await handle.get_result()
    assert await face.get_event(*stage) == {"ended": True}
    await app.crash_and_restart()
    assert await face.get_event(*stage) == {"ended": True}


async def test_e1_only_a_workflow_and_its_steps_publish(app: App, face: Face) -> None:
    with pytest.raises(DBOSContextError, match="outside of any workflow"):
        await face.set_event("key", 1)
    assert app.rows.counts()["events"] == 0


@pytest.mark.parametrize("where", ["application", "workflow", "step"])
async def test_e2_get_event_waits_until_there_is_a_value(app: App, face: Face, where: str) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv("go", FOREVER)
        await face.set_event("key", "value")
        await face.recv("end", FOREVER)

    @face.step()
    async def read_in_a_step() -> Any:
        return await face.get_event("order", "key", FOREVER)

    @face.workflow()
    async def reader() -> Any:
        if where == "step":
            return await read_in_a_step()
        return await face.get_event("order", "key", FOREVER)

    read = face.get_event("order", "key", FOREVER) if where == "application" else reader()
    reading = asyncio.ensure_future(read)
    await app.waiting("event", "order", "key")  # Before there is such a workflow.
    await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    await face.send("order", None, "go")
    assert await reading == "value"


async def test_e2_get_event_returns_none_at_its_timeout(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv("end", None)

    @face.workflow()
    async def reader() -> Any:
        return [await face.get_event("order", "key"), await face.get_event("order", "key", 0)]

    await face.start(order, workflow_id="order")
    reading = asyncio.ensure_future(face.get_event("order", "key"))
    await app.waiting("event", "order", "key")
    clock.advance(60)
    assert await reading is None
    handle = await face.start(reader)
    await app.waiting("event", "order", "key", times=2)
    clock.advance(60)
    assert await handle.get_result() == [None, None]
    assert await face.get_event("order", "key", 0) is None


async def test_e2_the_timeout_in_a_workflow_goes_on_where_the_crash_left_it(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def reader(key: str) -> Any:
        return await face.get_event("order", key, 8)

    @face.workflow()
    async def order() -> None:
        await face.set_event("early", "in time")
        await face.recv("end", None)

    for key in ("early", "late"):
        await face.start(reader, key, workflow_id=key)
        await app.waiting("event", "order", key)
    clock.advance(5)
    await app.crash_and_restart()
    for key in ("early", "late"):
        await app.waiting("event", "order", key)
    clock.advance(2.999)
    await face.start(order, workflow_id="order")
    assert await face.get_result("early") == "in time"
    clock.advance(0.001)
    assert await face.get_result("late") is None


async def test_e3_the_value_read_in_a_workflow_is_recorded(app: App, face: Face, clock: ManualClock) -> None:
    """Also the `None` of a timeout, and of an ended workflow: a recovery sees what was seen."""

    @face.workflow()
    async def order() -> None:
        await face.set_event("changes", "before")
        await face.recv("go", None)
        await face.set_event("changes", "after")
        await face.set_event("comes late", "after")
        await face.recv("go", None)

    @face.workflow()
    async def reader() -> list[Any]:
        read = [
            await face.get_event("order", "changes"),
            await face.get_event("order", "comes late", 0),
            await face.get_event("order", "comes late", 5, default="nothing yet"),
            await face.get_all_events("order"),
        ]
        await face.recv("go", None)
        return [*read, await face.get_event("order", "changes")]

    await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    await face.start(reader, workflow_id="reader")
    await app.waiting("event", "order", "comes late")
    clock.advance(5)
    await app.waiting("message", "reader", "go")
    await face.send("order", None, "go")
    await app.waiting("message", "order", "go", times=2)
    assert await face.get_all_events("order") == {"changes": "after", "comes late": "after"}
    await app.crash_and_restart()
    await face.send("reader", None, "go")
    assert await face.get_result("reader") == ["before", None, "nothing yet", {"changes": "before"}, "after"]


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_e4_publishing_is_exactly_once_and_in_order_whatever_crashes(app: App, face: Face, point: Point) -> None:
    @face.step()
    async def step() -> None: ...

    @face.workflow()
    async def order() -> str:
        for number in range(4):
            await face.set_event("number", number)
            await face.set_event(f"at {number}", number)
            await step()
        await face.set_event("number", "last")
        return "ended"

    async def run(name: str) -> None:
        await face.start(order, workflow_id=name)
        assert await face.get_result(name) == "ended"
        latest = {"number": "last"} | {f"at {number}": number for number in range(4)}
        assert await face.get_all_events(name) == latest

    commits = await app.crash_at_every_commit(point, run)
    assert commits >= 5
    published = app.rows.run("select value, count(*) from {events} where key = 'number' group by value order by value")
    expected = ['"last"', "0", "1", "2", "3"]
    assert published == [(value, commits + 1) for value in expected]


async def test_e4_an_event_is_there_before_the_step_behind_it_begins(app: App, face: Face) -> None:
    seen = []

    @face.step()
    async def charge() -> None:
        seen.extend(app.rows.run("select value from {events} order by version"))

    @face.workflow()
    async def order() -> None:
        for number in range(50):
            await face.set_event("number", number)
        await charge()

    await order()
    assert seen == [(str(number),) for number in range(50)]


async def test_e5_an_ended_workflow_without_the_key_gives_none_at_once(app: App, face: Face) -> None:
    """Also the peer's defect 5. However it ended; asked before its end or after it; from code and from a workflow."""

    @face.workflow()
    async def order(fails: bool) -> None:
        await face.set_event("other key", 1)
        await face.recv("go", FOREVER)
        if fails:
            raise ValueError("no")

    @face.workflow()
    async def reader(name: str) -> Any:
        return await face.get_event(name, "key", FOREVER, default="none")

    for name, fails in (("succeeds", False), ("fails", True), ("is cancelled", False)):
        await face.start(order, fails, workflow_id=name)
        reading = asyncio.ensure_future(face.get_event(name, "key", FOREVER, default="none"))
        handle = await face.start(reader, name)
        await app.waiting("event", name, "key", times=2)
        await (face.cancel_workflow(name) if name == "is cancelled" else face.send(name, None, "go"))
        assert await reading == "none"
        assert await handle.get_result() == "none"
        assert await face.get_event(name, "key", FOREVER, default="none") == "none"
        assert await reader(name) == "none"
        assert await face.get_event(name, "other key", FOREVER) == 1


async def test_e6_get_all_events_returns_the_latest_of_each_key(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None:
        for key, value in (("a", 1), ("b", [2]), ("a", None), ("", "empty"), ("🦊", (3,))):
            await face.set_event(key, value)

    @face.workflow()
    async def reader() -> Any:
        return await face.get_all_events("order")

    handle = await face.start(order, workflow_id="order")
    await handle.get_result()
    expected = {"a": None, "b": [2], "": "empty", "🦊": (3,)}
    assert await face.get_all_events("order") == expected
    assert await reader() == expected
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.get_all_events("nobody")


async def test_e6_a_workflow_without_events_has_none(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None: ...

    await (await face.start(order, workflow_id="order")).get_result()
    assert await face.get_all_events("order") == {}


async def test_m10_a_none_event_is_told_from_a_timeout(app: App, face: Face) -> None:
    """Also the peer's defect 5, and across a crash."""

    @face.workflow()
    async def order() -> None:
        await face.set_event("none", None)
        await face.recv("go", FOREVER)

    @face.workflow()
    async def reader() -> list[Any]:
        read = [await face.get_event("order", key, 0, default="timeout") for key in ("none", "missing")]
        await face.recv("go", FOREVER)
        return read

    await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    await face.start(reader, workflow_id="reader")
    await app.waiting("message", "reader", "go")
    await app.crash_and_restart()
    assert await face.get_event("order", "none", FOREVER, default="timeout") is None
    assert await face.get_event("order", "missing", 0, default="timeout") == "timeout"
    await face.send("reader", None, "go")
    assert await face.get_result("reader") == [None, "timeout"]


async def test_e1_threads_of_a_step_that_carry_its_context_publish(app: App, face: Face) -> None:
    @face.step()
    async def publish_in_threads() -> None:
        def publish(number: int) -> None:
            for _ in range(10):
                DBOS.set_event(f"thread {number}", number)

        contexts = [contextvars.copy_context() for _ in range(4)]
        threads = [threading.Thread(target=context.run, args=(publish, i)) for i, context in enumerate(contexts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @face.workflow()
    async def order() -> None:
        await publish_in_threads()

    handle = await face.start(order, workflow_id="order")
    await handle.get_result()
    assert await face.get_all_events("order") == {f"thread {number}": number for number in range(4)}
    assert app.rows.counts()["events"] == 40


async def test_e1_to_thread_in_an_async_step_carries_the_context(app: App, awaiting: Awaiting) -> None:
    @DBOS.step()
    async def publish() -> None:
        await asyncio.to_thread(DBOS.set_event, "key", "from a thread")

    @DBOS.workflow()
    async def order() -> None:
        await publish()

    handle = await awaiting.start(order)
    await handle.get_result()
    assert await DBOS.get_event_async(handle.workflow_id, "key", FOREVER) == "from a thread"


async def test_e1_what_is_left_of_a_finished_try_cannot_write(app: App, face: Face) -> None:
    go_on, refused = Gate(), Gate()
    errors: list[Exception] = []

    @face.step()
    async def leave_a_thread_behind() -> None:
        def publish_late() -> None:
            go_on.wait()
            for write in (DBOS.set_event, DBOS.send):
                try:
                    write("order", "late")
                except DBOSContextError as error:
                    errors.append(error)
            refused.open()

        threading.Thread(target=contextvars.copy_context().run, args=(publish_late,), daemon=True).start()
        await face.set_event("key", "in time")

    @face.workflow()
    async def order() -> None:
        await leave_a_thread_behind()
        await face.recv("go", FOREVER)

    handle = await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    go_on.open()
    await refused.opened()
    await face.send("order", None, "go")
    await handle.get_result()
    assert [str(error)[:31] for error in errors] == ["try 1 of step 'test_e1_what_is_"] * 2
    assert await face.get_all_events("order") == {"key": "in time"}
    assert app.rows.counts()["messages"] == 1
