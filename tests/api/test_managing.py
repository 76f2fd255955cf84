"""Waiting for the first of several workflows, and the lists: of workflows, their steps, their messages, executors."""

import asyncio
import os
import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face
from tests.support.visitor import Visitor
from tidings import DBOS, MessageInfo, UndecodedValue, WorkflowHandle
from tidings.error import DBOSNonExistentWorkflowError, DBOSRecordedError, DBOSUnexpectedStepError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


def receiver(face: Face) -> Any:
    @face.workflow(name="receive")
    async def receive(topic: str = "go") -> Any:
        return await face.recv(topic, FOREVER)

    return receive


# --- wait_first -----------------------------------------------------------------------------------------


async def test_wait_first_returns_the_handle_of_the_first_that_ends(app: App, face: Face) -> None:
    receive = receiver(face)
    for name in ("a", "b", "c"):
        await face.start(receive, workflow_id=name)
    handles = [await _handle(face, name) for name in ("a", "b", "c", "b")]
    first = asyncio.ensure_future(face.wait_first(handles))
    await app.waiting("end", "b")
    await face.send("b", 1, "go")
    assert (await first).workflow_id == "b"
    assert (await face.wait_first(handles)).workflow_id == "b", "one that has ended before"
    await face.cancel_workflow("a")
    again = await face.wait_first(handles)
    assert again.workflow_id == "a", "of several that have, the first named; a cancelled one counts"
    if isinstance(face, Awaiting):
        assert again is handles[0]


async def test_wait_first_in_a_workflow_is_recorded(app: App, face: Face) -> None:
    receive = receiver(face)

    @face.workflow()
    async def race(*names: str) -> Any:
        handles = [await _handle(face, name) for name in names]
        first = await face.wait_first(handles)
        await face.set_event("first", first.workflow_id)
        await face.recv("go", FOREVER)
        return first.workflow_id

    for name in ("a", "b"):
        await face.start(receive, workflow_id=name)
    await face.start(race, "a", "b", workflow_id="race")
    await app.waiting("end", "b")
    await app.crash_and_restart()
    await app.waiting("end", "b")
    await face.send("b", 1, "go")
    assert await face.get_event("race", "first", FOREVER) == "b"
    await face.send("a", 1, "go")
    await face.get_result("a")
    await app.waiting("message", "race", "go")
    await app.crash_and_restart()
    await face.send("race", 1, "go")
    assert await face.get_result("race") == "b"


async def test_w4_wait_first_of_other_workflows_than_were_recorded_is_noticed(app: App, face: Face) -> None:
    receive = receiver(face)
    names = ["a", "b"]

    @face.workflow()
    async def race() -> Any:
        first = await face.wait_first([await _handle(face, name, existing_workflow=False) for name in names])
        await face.recv("go", FOREVER)
        return first.workflow_id

    for name in ("a", "b", "c"):
        await face.start(receive, workflow_id=name)
    await face.send("a", 1, "go")
    await face.start(race, workflow_id="race")
    await app.waiting("message", "race", "go")
    await app.crash()
    names[0] = "c"
    await app.launch()
    with pytest.raises(DBOSUnexpectedStepError, match=r"wait_first of 'a', 'b' at .* DBOS.wait_first of 'b', 'c'"):
        await face.get_result("race")
    names[0] = "a"
    await app.crash_and_restart()
    await face.send("race", 1, "go")
    assert await face.get_result("race") == "a"


async def test_wait_first_takes_any_iterable(app: App, awaiting: Awaiting) -> None:
    await awaiting.start(receiver(awaiting), workflow_id="w")
    await DBOS.send_async("w", 1, "go")
    handles = [await DBOS.retrieve_workflow_async("w")]
    assert await DBOS.wait_first_async(each for each in handles) is handles[0]


async def test_wait_first_refuses_what_it_cannot_wait_for(app: App, face: Face) -> None:
    with pytest.raises(ValueError, match="was given no handles"):
        await face.wait_first([])
    with pytest.raises(TypeError, match="this list contains str"):
        await face.wait_first(["w"])
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.wait_first([await _handle(face, "nobody", existing_workflow=False)])


async def _handle(face: Face, workflow_id: str, existing_workflow: bool = True) -> Any:
    """Return a handle as `wait_first` takes it."""
    if isinstance(face, Awaiting):
        return await DBOS.retrieve_workflow_async(workflow_id, existing_workflow)
    return WorkflowHandle[Any](workflow_id, DBOS)


# --- list_workflows -------------------------------------------------------------------------------------


async def test_workflows_are_listed_in_the_order_they_were_started(app: App, face: Face, clock: ManualClock) -> None:
    receive = receiver(face)

    @face.workflow(name="fail")
    async def fail() -> None:
        raise ValueError("no")

    @face.workflow(name="parent")
    async def parent() -> str:
        await face.start(receive, workflow_id="x_child")
        return "done"

    began = clock.now_ms()
    await face.start(receive, "topic", workflow_id="x1")
    clock.advance(1)
    await (await face.start(parent, workflow_id="y%2")).get_result()
    clock.advance(1)
    failed = await face.start(fail, workflow_id="X3")
    with pytest.raises(ValueError, match="no"):
        await failed.get_result()
    await face.cancel_workflow("x_child")

    async def ids(**filters: Any) -> list[str]:
        return [each.workflow_id for each in await face.list_workflows(**filters)]

    assert await ids() == ["x1", "y%2", "x_child", "X3"]
    assert await ids(sort_desc=True) == ["X3", "x_child", "y%2", "x1"]
    assert await ids(sort_desc=True, limit=2, offset=1) == ["x_child", "y%2"]
    assert await ids(limit=0) == []
    assert await ids(workflow_ids=["X3", "x1", "nobody"]) == ["x1", "X3"]
    assert await ids(workflow_ids=[]) == []
    assert await ids(status="PENDING") == ["x1"]
    assert await ids(status=["SUCCESS", "ERROR"]) == ["y%2", "X3"]
    assert await ids(name="receive") == ["x1", "x_child"]
    assert await ids(name=["fail", "parent"], status="ERROR") == ["X3"]
    assert await ids(parent_workflow_id="y%2") == ["x_child"]
    assert await ids(workflow_id_prefix="x") == ["x1", "x_child"]
    assert await ids(workflow_id_prefix="x_") == ["x_child"]
    assert await ids(workflow_id_prefix="y%") == ["y%2"]
    assert await ids(app_version="1", workflow_id_prefix="y") == ["y%2"]
    assert await ids(app_version="2") == []
    executor_id = (await face.get_workflow_status("x1")).executor_id
    assert await ids(executor_id=executor_id) == ["x1", "y%2", "x_child", "X3"]
    assert await ids(executor_id="nobody") == []
    at = datetime.fromtimestamp(began / 1_000, UTC).replace(microsecond=0)
    second = at.replace(second=at.second + 1)
    assert await ids(start_time=second.isoformat()) == ["y%2", "x_child", "X3"]
    assert await ids(start_time=second, end_time=second) == ["y%2", "x_child"]
    assert await ids(end_time=at.isoformat().replace("+00:00", "Z")) == ["x1"]
    assert await ids(start_time=second.astimezone().replace(tzinfo=None), end_time=second) == ["y%2", "x_child"]

    listed = {each.workflow_id: each for each in await face.list_workflows()}
    assert listed["x1"].input == {"args": ["topic"], "kwargs": {}}
    assert listed["y%2"].output == "done"
    assert repr(listed["X3"].error) == repr(ValueError("no"))
    assert listed["x_child"].parent_workflow_id == "y%2"
    for each in ("x1", "y%2"):
        assert listed[each] == await face.get_workflow_status(each)
    bare = {each.workflow_id: each for each in await face.list_workflows(load_input=False, load_output=False)}
    assert all((each.input, each.output, each.error) == (None, None, None) for each in bare.values())
    assert bare["X3"].status == "ERROR"


async def test_text_that_is_damaged_does_not_keep_others_from_being_listed(app: App, face: Face) -> None:
    receive = receiver(face)
    for name in ("a", "b"):
        await face.start(receive, workflow_id=name)
        await face.send(name, name, "go")
        assert await face.get_result(name) == name
    app.rows.run("update {workflows} set inputs = 'no json', output = 'no json' where workflow_id = 'a'")
    app.rows.run("update {messages} set body = 'no json'")
    spoilt, good = await face.list_workflows()
    (message,) = await face.list_messages("b")
    (step,) = await face.list_workflow_steps("b")
    for value in (spoilt.input, spoilt.output, message.value, step["output"]):
        assert (type(value), value.type_name, value.text) == (UndecodedValue, None, "no json")
        assert "the stored text is not JSON" in value.reason
    assert good.output == "b"
    app.rows.run("update {workflows} set error = 'no json' where workflow_id = 'a'")
    app.rows.run("update {entries} set error = 'no json'")
    for error in ((await face.list_workflows())[0].error, (await face.list_workflow_steps("b"))[0]["error"]):
        assert type(error) is DBOSRecordedError
        assert str(error).startswith(
            "an error of an unknown class: no json, which cannot be rebuilt here: the error of"
        )


async def test_lists_in_a_workflow_are_recorded(app: App, face: Face) -> None:
    receive = receiver(face)

    @face.workflow()
    async def look() -> Any:
        await face.send("w", "one", "other")
        seen = [
            [each.workflow_id for each in await face.list_workflows(name="receive")],
            len(await face.list_workflow_steps("w")),
            [each.value for each in await face.list_messages("w")],
        ]
        await face.recv("go", FOREVER)
        return seen

    await face.start(receive, workflow_id="w")
    await app.waiting("message", "w", "go")
    await face.start(look, workflow_id="look")
    await app.waiting("message", "look", "go")
    await app.crash_and_restart()
    await face.start(receive, workflow_id="w2")
    await face.send("w", "two", "other")
    await face.send("look", 1, "go")
    assert await face.get_result("look") == [["w"], 1, ["one"]]


# --- list_workflow_steps --------------------------------------------------------------------------------


async def test_steps_are_listed_in_the_order_they_began(app: App, face: Face, clock: ManualClock) -> None:
    receive = receiver(face)

    @face.step(name="work")
    async def work(fails: bool) -> str:
        clock.advance(1)
        if fails:
            raise ValueError("no")
        return "worked"

    @face.workflow()
    async def flow() -> None:
        await work(False)
        await face.set_event("key", "value")
        try:
            await work(True)
        except ValueError:
            await face.start(receive, workflow_id="child")
        await face.recv("first", FOREVER)
        await face.recv("second", FOREVER)

    began = clock.now_ms()
    await face.start(flow, workflow_id="w")
    await face.send("w", "hello", "first")
    await app.waiting("message", "w", "second")
    steps = await face.list_workflow_steps("w")
    assert [each["function_id"] for each in steps] == [1, 2, 3, 4, 5, 6]
    assert [each["function_name"] for each in steps] == [
        "work",
        "DBOS.set_event",
        "work",
        "receive",
        "DBOS.recv",
        "DBOS.recv",
    ]
    assert [each["output"] for each in steps] == ["worked", None, None, None, "hello", None]
    assert [repr(each["error"]) for each in steps if each["error"]] == [repr(ValueError("no"))]
    assert steps[3]["child_workflow_id"] == "child"
    assert (steps[0]["started_at_epoch_ms"], steps[0]["completed_at_epoch_ms"]) == (began, began + 1_000)
    assert steps[4]["completed_at_epoch_ms"] is not None
    assert steps[5]["started_at_epoch_ms"] is not None
    assert steps[5]["completed_at_epoch_ms"] is None, "it waits"
    assert repr(await face.list_workflow_steps("w", limit=2, offset=1)) == repr(steps[1:3])
    bare = await face.list_workflow_steps("w", load_output=False)
    assert [(each["output"], each["error"]) for each in bare] == [(None, None)] * 6
    assert [each["function_name"] for each in bare] == [each["function_name"] for each in steps]


async def test_the_steps_of_an_unknown_workflow_are_an_error(app: App, face: Face) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.list_workflow_steps("nobody")
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.list_messages("nobody")


# --- list_messages --------------------------------------------------------------------------------------


async def test_messages_are_listed_read_and_unread_with_their_age(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def flow() -> None:
        await face.set_event("begun", True)
        await face.recv("a", FOREVER)
        await face.recv("b", FOREVER)

    @face.workflow()
    async def sender() -> None:
        await face.send("w", None)

    await face.start(flow, workflow_id="w")
    assert await face.list_messages("w") == []
    sent = clock.now_ms()
    await face.send("w", {"n": 1}, "a", idempotency_key="key")
    await app.waiting("message", "w", "b")
    clock.advance(2)
    await face.start(sender, workflow_id="sender")
    await face.get_result("sender")
    clock.advance(3)
    first, second = await face.list_messages("w")
    assert isinstance(first, MessageInfo)
    assert (first.value, first.topic, first.idempotency_key, first.sender_id) == ({"n": 1}, "a", "key", None)
    assert (first.sent_at_epoch_ms, first.age_seconds, first.read_by) == (sent, 5, 2)
    assert (second.value, second.topic, second.idempotency_key, second.sender_id) == (None, None, None, "sender")
    assert (second.sent_at_epoch_ms, second.age_seconds, second.read_by) == (sent + 2_000, 3, None)
    assert int(first.message_id) < int(second.message_id)
    assert await face.list_messages("w", limit=1) == [first]
    assert await face.list_messages("w", offset=1) == [second]


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ({"nam": "x"}, TypeError, "has no filter 'nam'; did you mean 'name'?"),
        ({"zzz": "x"}, TypeError, "has no filter 'zzz'; filters: workflow_ids, "),
        ({"workflow_ids": "w"}, TypeError, r"for one, write \['w'\]"),
        ({"workflow_ids": [7]}, TypeError, "each of workflow_ids must be a string, not 7"),
        ({"workflow_ids": 7}, TypeError, "workflow_ids must be a list of strings, not 7"),
        ({"name": b"x"}, TypeError, "each of name must be a string, not 120"),
        ({"name": ["a", None]}, TypeError, "each of name must be a string, not None"),
        ({"limit": 10**30}, ValueError, "limit must be 0 or more, and fit 64 bits"),
        ({"load_output": "false"}, TypeError, "load_output must be True or False, not 'false'"),
        ({"sort_desc": 1}, TypeError, "sort_desc must be True or False, not 1"),
        ({"start_time": "0001-01-01T00:00:00"}, ValueError, "start_time is outside the range of times"),
        ({"status": "pending"}, ValueError, "did you mean 'PENDING'?"),
        ({"status": ["DONE"]}, ValueError, "no workflow has the status 'DONE'; statuses: PENDING, "),
        ({"start_time": "yesterday"}, ValueError, "start_time must be a time in ISO 8601"),
        ({"end_time": 7}, TypeError, "end_time must be a datetime"),
        ({"app_version": 1}, TypeError, "app_version must be a string"),
        ({"limit": -1}, ValueError, "limit must be 0 or more"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number"),
        ({"offset": True}, TypeError, "offset must be a whole number"),
    ],
)
async def test_a_bad_filter_is_refused(app: App, face: Face, filters: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        await face.list_workflows(**filters)


async def test_a_filter_of_none_is_no_filter(app: App, face: Face) -> None:
    await face.start(receiver(face), workflow_id="w")
    (found,) = await face.list_workflows(name=None, load_input=None, load_output=None, sort_desc=None, offset=None)
    assert found.input == {"args": [], "kwargs": {}}


async def test_bad_pages_are_refused(app: App, face: Face) -> None:
    for listing in (face.list_workflow_steps, face.list_messages):
        with pytest.raises(ValueError, match="limit must be 0 or more"):
            await listing("w", limit=-1)
        with pytest.raises(TypeError, match="offset must be a whole number"):
            await listing("w", offset="1")
        with pytest.raises((TypeError, ValueError), match="workflow_id"):
            await listing("")


async def test_texts_that_no_store_can_hold_match_nothing(app: App, face: Face) -> None:
    await face.start(receiver(face), workflow_id="w")
    assert await face.list_workflows(workflow_ids=["a\0b", "\ud800"]) == []
    assert await face.list_workflows(workflow_id_prefix="\0") == []


# --- executors --------------------------------------------------------------------------------------------


async def test_executors_are_listed_with_what_they_own_and_whether_they_live(
    app: App, face: Face, client: Visitor
) -> None:
    await face.start(receiver(face), workflow_id="a")
    await face.start(receiver(face), workflow_id="b")
    await app.waiting("message", "a", "go")
    await app.waiting("message", "b", "go")
    [mine] = [each for each in await client.list_executors() if each.app_version is not None]
    assert mine == (await face.list_executors())[0], "the oldest first"
    status = await face.get_workflow_status("a")
    assert (mine.executor_id, mine.app_version, mine.label) == (status.executor_id, "1", "local")
    assert (mine.is_alive, mine.pending_workflows, mine.host, mine.pid) == (True, 2, socket.gethostname(), os.getpid())
    assert mine.started_at_epoch_ms < mine.lease_expires_at_epoch_ms
    await app.crash()
    [dead] = [each for each in await client.list_executors() if each.executor_id == mine.executor_id]
    assert (dead.is_alive, dead.pending_workflows) == (False, 2)
    await app.launch()
    await app.waiting("message", "a", "go")
    await app.waiting("message", "b", "go")
    owners = {each.executor_id: each.pending_workflows for each in await face.list_executors() if each.is_alive}
    assert sorted(owners.values())[-1] == 2
    assert mine.executor_id not in owners


async def test_a_list_of_executors_in_a_workflow_is_recorded(app: App, face: Face) -> None:
    @face.workflow(name="look")
    async def look() -> list[str]:
        before = [each.executor_id for each in await face.list_executors()]
        await face.recv("go", FOREVER)
        return before

    handle = await face.start(look, workflow_id="w")
    await app.waiting("message", "w", "go")
    [before] = [each.executor_id for each in await face.list_executors()]
    await app.crash_and_restart()
    await face.send("w", 1, "go")
    assert await handle.get_result() == [before]
