"""Code and history that do not match: W4 of the requirements. More of it, and missing functions: `test_bad_input`."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face
from tidings import DBOS
from tidings.engine.process import REGISTRY
from tidings.error import DBOSSerializationError, DBOSUnexpectedStepError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


async def run_until_last(app: App, face: Face, code: Any, *args: Any) -> None:
    """Start `code` as the workflow "order", and die when it waits for its last message."""
    workflow = face.workflow(name="order")(code)
    await face.start(workflow, *args, workflow_id="order")
    await app.waiting("message", "order", "last")
    await app.crash()
    REGISTRY.clear()


async def go_on_with(app: App, face: Face, code: Any) -> None:
    """Launch with this code for the workflow "order"."""
    face.workflow(name="order")(code)
    await app.launch()


def steps(face: Face) -> dict[str, Any]:
    """Two steps, "one" and "two"."""

    async def one() -> int:
        return 1

    async def two() -> int:
        return 2

    return {"one": face.step(name="one")(one), "two": face.step(name="two")(two)}


def changes(face: Face) -> dict[str, tuple[Any, Any, str, str]]:
    """Original code, changed code, and what the error must say was recorded and is called now."""
    step = steps(face)

    async def last() -> None:
        await face.recv("last", FOREVER)

    async def one_then_two() -> str:
        await step["one"]()
        await step["two"]()
        await last()
        return "ended"

    async def two_then_one() -> str:
        await step["two"]()
        await step["one"]()
        await last()
        return "ended"

    async def one_alone() -> str:
        await step["one"]()
        return "ended"

    async def events(key: str) -> str:
        await face.set_event(key, 1)
        await last()
        return "ended"

    async def event_a() -> str:
        return await events("a")

    async def event_b() -> str:
        return await events("b")

    async def streams(key: str) -> str:
        await face.write_stream(key, 1)
        await last()
        return "ended"

    async def stream_a() -> str:
        return await streams("a")

    async def stream_b() -> str:
        return await streams("b")

    async def sends() -> str:
        await face.send("order", 1, "self")
        await last()
        return "ended"

    async def receives() -> str:
        await face.recv("self", 0)
        await last()
        return "ended"

    return {
        "another order of steps": (one_then_two, two_then_one, "one", "two"),
        "a step that is gone": (one_then_two, one_alone, "two", "nothing: it ended"),
        "another event": (event_a, event_b, "DBOS.set_event of the event 'a'", "DBOS.set_event of the event 'b'"),
        "another stream": (
            stream_a,
            stream_b,
            "DBOS.write_stream of the stream 'a'",
            "DBOS.write_stream of the stream 'b'",
        ),
        "an event for a stream": (
            stream_a,
            event_a,
            "DBOS.write_stream of the stream 'a'",
            "DBOS.set_event of the event 'a'",
        ),
        "another operation": (sends, receives, "DBOS.send to 'order' on 'self'", "DBOS.recv on 'self'"),
    }


@pytest.mark.parametrize(
    "change",
    [
        "another order of steps",
        "a step that is gone",
        "another event",
        "another stream",
        "an event for a stream",
        "another operation",
    ],
)
async def test_w4_changed_code_is_noticed_and_the_workflow_waits_for_the_right_one(
    app: App, face: Face, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    original, changed, recorded, called = changes(face)[change]
    await run_until_last(app, face, original)
    before = app.rows.run("select * from {entries} order by ordinal")
    await go_on_with(app, face, changed)
    with pytest.raises(DBOSUnexpectedStepError) as raised:
        await face.get_result("order")
    assert f"was recorded with {recorded} at operation" in str(raised.value)
    assert f"the code now calls {called}" in str(raised.value)
    assert raised.value.workflow_id == "order"
    assert str(raised.value) in caplog.messages
    assert (await face.get_workflow_status("order")).status == "PENDING"
    assert app.rows.run("select * from {entries} order by ordinal") == before
    await app.crash()
    REGISTRY.clear()
    await go_on_with(app, face, original)
    await face.send("order", None, "last")
    assert await face.get_result("order") == "ended"


async def test_w4_code_that_swallows_the_error_does_not_go_on(app: App, face: Face) -> None:
    step = steps(face)
    swallowed: list[Exception] = []

    async def original() -> str:
        await step["one"]()
        await face.recv("last", FOREVER)
        return "ended"

    async def changed() -> str:
        for _ in range(3):
            try:
                await step["two"]()
            except Exception as error:
                swallowed.append(error)
        return "ended"

    await run_until_last(app, face, original)
    await go_on_with(app, face, changed)
    with pytest.raises(DBOSUnexpectedStepError):
        await face.get_result("order")
    assert [type(error) for error in swallowed] == [DBOSUnexpectedStepError] * 3
    assert (await face.get_workflow_status("order")).status == "PENDING"
    assert app.rows.run("select name, count(*) from {entries} group by name order by name") == [
        ("DBOS.recv", 1),
        ("one", 1),
    ]


async def test_w4_a_changed_topic_is_noticed(app: App, face: Face) -> None:
    async def original() -> str:
        await face.recv("a", FOREVER)
        await face.recv("last", FOREVER)
        return "ended"

    async def changed() -> str:
        await face.recv("b", FOREVER)
        await face.recv("last", FOREVER)
        return "ended"

    workflow = face.workflow(name="order")(original)
    await face.start(workflow, workflow_id="order")
    await face.send("order", 1, "a")
    await app.waiting("message", "order", "last")
    await app.crash()
    REGISTRY.clear()
    await go_on_with(app, face, changed)
    with pytest.raises(DBOSUnexpectedStepError, match=r"recorded with DBOS\.recv on 'a' at operation 1"):
        await face.get_result("order")


@pytest.mark.parametrize("was", ["a step", "a child workflow"])
async def test_w4_a_step_that_became_a_child_workflow_is_noticed_and_the_reverse(
    app: App, face: Face, was: str
) -> None:
    async def one() -> int:
        return 1

    kinds = [face.step(name="one"), face.workflow(name="one")]
    before, after = kinds if was == "a step" else reversed(kinds)
    former = before(one)

    async def original() -> str:
        await former()
        await face.recv("last", FOREVER)
        return "ended"

    await run_until_last(app, face, original)
    present = after(one)

    async def changed() -> str:
        await present()
        return "ended"

    titles = ["one", "the child workflow one"]
    recorded, called = titles if was == "a step" else reversed(titles)
    await go_on_with(app, face, changed)
    with pytest.raises(DBOSUnexpectedStepError, match=rf"recorded with {recorded} .* now calls {called}"):
        await face.get_result("order")


async def test_w4_a_change_in_a_parallel_branch_is_noticed(app: App, awaiting: Awaiting) -> None:
    step = steps(awaiting)
    second = "one"

    async def walk(name: str) -> int:
        await step["one"]()
        return int(await step[name]())

    async def code() -> Any:
        walked = await asyncio.gather(walk("two"), walk(second))
        await DBOS.recv_async("last", FOREVER)
        return walked

    await run_until_last(app, awaiting, code)
    second = "two"
    await go_on_with(app, awaiting, code)
    with pytest.raises(DBOSUnexpectedStepError, match=r"recorded with one at operation 2 of branch 2, .* calls two"):
        await DBOS.get_result_async("order")
    await app.crash()
    REGISTRY.clear()
    second = "one"
    await go_on_with(app, awaiting, code)
    await DBOS.send_async("order", None, "last")
    assert await DBOS.get_result_async("order") == [2, 1]


async def test_w4_workflows_of_another_version_are_reported_and_go_on_with_their_own(
    app: App, face: Face, clock: ManualClock, log: Sightings
) -> None:
    """At once: the clock stands still, so no lease has to run out for it."""

    @face.workflow(name="order")
    async def order() -> str:
        await face.recv("last", FOREVER)
        return DBOS.application_version

    for name in ("order 1", "order 2", "order 3"):
        await face.start(order, workflow_id=name)
        await app.waiting("message", name, "last")
    await app.crash()
    log.seen.clear()
    await app.launch(application_version="2", recover_versions="same")
    await log.until(lambda seen: any("not recovered here" in message for message in seen))
    [report] = [message for message in log.seen if "not recovered here" in message]
    assert report.startswith("3 pending workflows of 'order' are not recovered here, for example 'order 1'")
    assert "started by version '1' of the code, and this is '2'" in report
    await face.send("order 1", None, "last")
    own = await face.start(order)
    await app.waiting("message", own.workflow_id, "last")
    assert app.host.runner.live("order 1") is None
    await app.crash_and_restart(application_version="1")
    assert await face.get_result("order 1") == "1"


@dataclass(frozen=True)
class Parcel:
    name: str


@pytest.mark.parametrize("place", ["step", "recv"])
async def test_a_recorded_value_that_cannot_be_rebuilt_leaves_the_workflow_for_code_that_can(
    app: App, face: Face, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy that lacks a class: the workflow stays as it is, its message taken, and the next deploy goes on."""

    @face.step()
    async def make() -> Any:
        return Parcel("bell")

    @face.workflow()
    async def order() -> Any:
        try:
            parcel = await make() if place == "step" else await face.recv("parcel", FOREVER)
        except Exception:
            return "swallowed"
        await face.recv("go", FOREVER)
        return parcel.name

    await face.start(order, workflow_id="w")
    await face.send("w", Parcel("bell"), "parcel")
    await app.waiting("message", "w", "go")
    await app.crash()
    with monkeypatch.context() as without:
        without.delattr(sys.modules[__name__], "Parcel")
        await app.launch()
        await app.ended("w")
        with pytest.raises(DBOSSerializationError, match="Parcel"):
            await face.get_result("w")
        await app.crash()
    await app.launch()
    await face.send("w", None, "go")
    assert await face.get_result("w") == "bell"
