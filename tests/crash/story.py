"""Two workflows that talk: everything one process can do, in one story with one possible end.

`left` is async and has parallel branches; `right` is told twice, once in each face. They exchange messages
on topics and without, some of which are drained, events, steps, sleeps, a child each, refusals, timeouts and
an abandoned receive; `right` loops over a crew, of one child so that there is one order, and cancels another. All that
they compute follows from what they receive, so however often the process dies, the end is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Literal

from tidings import DBOS, SendMessage, SetWorkflowID
from tidings.error import DBOSNonExistentWorkflowError

Face = Literal["blocking", "async"]

# Every wait has an hour: whoever misses a wake-up stands still, and the watchdog ends the test.
FOREVER = 3_600.0

LEFT, RIGHT = "left", "right"
ENDS: dict[str, Any] = {
    LEFT: {
        "branches": [3, 30],
        "answer": 40,
        "offer": 40,
        "pair": ["twin", "twin"],
        "items": [*range(6)],
        "nothing": "late",
        "child": 8,
    },
    RIGHT: {
        "status": "begun",
        "child": 41,
        "refused": ["nobody"],
        "bye": None,
        "never": "ended",
        "failed": "40",
        "crew": [41],
        "stopped": [1, 0],
    },
}

# Each run of a step's code, in order. A step that is recorded must not come up again.
executed: list[str] = []


def _work(key: str, value: Any) -> Any:
    executed.append(key)
    return value


def _fail(key: str, value: Any) -> Any:
    executed.append(key)
    raise ValueError(str(value))


async def _step(key: str, value: Any) -> Any:
    async def work() -> Any:
        return _work(key, value)

    return await DBOS.run_step_async({"name": key}, work)


# --- left --------------------------------------------------------------------------------------------


@DBOS.workflow(name="story.left")
async def left(right_id: str) -> Any:
    """Greet, work in two branches, receive the answer, and say good-bye."""
    await DBOS.set_event_async("status", "begun")
    await DBOS.send_async(right_id, await _step("order", 7), "greeting")
    branches = await asyncio.gather(_branch(right_id, "a", 1), _branch(right_id, "b", 10))
    answer = await DBOS.recv_async("answer", FOREVER)
    offer = await DBOS.get_event_async(right_id, "offer", FOREVER)
    await DBOS.sleep_async(0.001)
    pair = await asyncio.gather(DBOS.recv_async("pair", FOREVER), DBOS.recv_async("pair", FOREVER))
    items = [await DBOS.recv_async("item", FOREVER) for _ in range(6)]
    nothing = await DBOS.recv_async("never", 0, default="late")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(DBOS.recv_async("never", FOREVER), 0.001)
    child = await child_async("left child", 8)
    await DBOS.send_async(right_id, None)
    await DBOS.set_event_async("status", "left")
    return {
        "branches": branches,
        "answer": answer,
        "offer": offer,
        "pair": pair,
        "items": items,
        "nothing": nothing,
        "child": child,
    }


async def _branch(right_id: str, name: str, value: int) -> int:
    first = await _step(f"{name} first", value)
    await DBOS.set_event_async(f"branch {name}", first)
    second = await _step(f"{name} second", 2 * value)
    await DBOS.send_async(right_id, first + second, name)
    return int(first + second)


@DBOS.workflow(name="story.child_async")
async def child_async(key: str, value: int) -> Any:
    """Do one step."""
    await DBOS.set_event_async("child", value)
    return await _step(key, value)


def _gifts(left_id: str) -> list[SendMessage]:
    """What left receives side by side, and what it drains."""
    twins = [SendMessage(left_id, "twin", "pair")] * 2
    return twins + [SendMessage(left_id, number, "item") for number in range(6)]


# --- right, in both faces ----------------------------------------------------------------------------


@DBOS.workflow(name="story.right_blocking")
def right_blocking(left_id: str) -> Any:
    """Collect what left sends, answer, and wait for its end."""
    greeting = DBOS.recv("greeting", FOREVER)
    a, b = DBOS.recv("a", FOREVER), DBOS.recv("b", FOREVER)
    total = DBOS.run_step({"name": "reserve"}, _work, "reserve", greeting + a + b)
    DBOS.set_event("offer", 1)
    DBOS.set_event("offer", total)
    status = DBOS.get_event(left_id, "status", FOREVER)
    DBOS.send(left_id, total, "answer")
    DBOS.sleep(0.001)
    child = DBOS.start_workflow(child_blocking, "right child", total + 1).get_result()
    DBOS.send_bulk(_gifts(left_id))
    crew = [DBOS.start_workflow(child_blocking, "crew", total + 1)]
    found = [handle.get_result() for handle in DBOS.as_completed(crew)]
    report = DBOS.cancel_workflow(DBOS.start_workflow(idle).workflow_id, cancel_children=True)
    try:
        DBOS.send("nobody", 1)
        refused: tuple[str, ...] = ()
    except DBOSNonExistentWorkflowError as error:
        refused = error.workflow_ids
    try:
        failed = DBOS.run_step({"name": "fail"}, _fail, "fail", total)
    except ValueError as error:
        failed = str(error)
    bye = DBOS.recv(None, FOREVER, default="nothing came")
    never = DBOS.get_event(left_id, "never set", FOREVER, default="ended")
    return {
        "status": status,
        "child": child,
        "refused": list(refused),
        "bye": bye,
        "never": never,
        "failed": failed,
        "crew": found,
        "stopped": [len(report.cancelled), len(report.already_ended)],
    }


@DBOS.workflow(name="story.idle")
def idle() -> Any:
    """Wait to be cancelled."""
    return DBOS.recv("never", FOREVER)


@DBOS.workflow(name="story.child_blocking")
def child_blocking(key: str, value: int) -> Any:
    """Do one step."""
    DBOS.set_event("child", value)
    return DBOS.run_step({"name": key}, _work, key, value)


@DBOS.workflow(name="story.right_async")
async def right_async(left_id: str) -> Any:
    """Do what `right_blocking` does."""
    greeting = await DBOS.recv_async("greeting", FOREVER)
    a, b = await DBOS.recv_async("a", FOREVER), await DBOS.recv_async("b", FOREVER)
    total = await DBOS.run_step_async({"name": "reserve"}, _work, "reserve", greeting + a + b)
    await DBOS.set_event_async("offer", 1)
    await DBOS.set_event_async("offer", total)
    status = await DBOS.get_event_async(left_id, "status", FOREVER)
    await DBOS.send_async(left_id, total, "answer")
    await DBOS.sleep_async(0.001)
    handle = await DBOS.start_workflow_async(child_async, "right child", total + 1)
    child = await handle.get_result()
    await DBOS.send_bulk_async(_gifts(left_id))
    crew = [await DBOS.start_workflow_async(child_async, "crew", total + 1)]
    found = [await each.get_result() async for each in DBOS.as_completed_async(crew)]
    idler = await DBOS.start_workflow_async(idle)
    report = await DBOS.cancel_workflow_async(idler.workflow_id, cancel_children=True)
    try:
        await DBOS.send_async("nobody", 1)
        refused: tuple[str, ...] = ()
    except DBOSNonExistentWorkflowError as error:
        refused = error.workflow_ids
    try:
        failed = await DBOS.run_step_async({"name": "fail"}, _fail, "fail", total)
    except ValueError as error:
        failed = str(error)
    bye = await DBOS.recv_async(None, FOREVER, default="nothing came")
    never = await DBOS.get_event_async(left_id, "never set", FOREVER, default="ended")
    return {
        "status": status,
        "child": child,
        "refused": list(refused),
        "bye": bye,
        "never": never,
        "failed": failed,
        "crew": found,
        "stopped": [len(report.cancelled), len(report.already_ended)],
    }


# --- the program ---------------------------------------------------------------------------------------


def tell_blocking() -> dict[str, Any]:
    """Start both, or find them started, and return their results."""
    with SetWorkflowID(RIGHT):
        right = DBOS.start_workflow(right_blocking, LEFT)
    with SetWorkflowID(LEFT):
        other = DBOS.start_workflow(left, RIGHT)
    return {LEFT: other.get_result(), RIGHT: right.get_result()}


async def tell_async() -> dict[str, Any]:
    """Start both on this event loop, or find them started, and return their results."""
    with SetWorkflowID(RIGHT):
        right = await DBOS.start_workflow_async(right_async, LEFT)
    with SetWorkflowID(LEFT):
        other = await DBOS.start_workflow_async(left, RIGHT)
    return {LEFT: await other.get_result(), RIGHT: await right.get_result()}


def _tell_on_a_loop() -> dict[str, Any]:
    return asyncio.run(tell_async())


TELL: dict[Face, Callable[[], dict[str, Any]]] = {"blocking": tell_blocking, "async": _tell_on_a_loop}
WORKFLOWS = (left, child_async, right_blocking, child_blocking, right_async, idle)
