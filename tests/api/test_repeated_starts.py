"""A workflow is started under an id that exists: the same execution (W1), and a word where the arguments differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face
from tidings import DBOS, SetWorkflowID

SAID = "was started again with other arguments. The recorded arguments count"


def said(log: Sightings) -> list[str]:
    return [line for line in log.seen if SAID in line]


async def register(face: Face) -> Callable[..., Any]:
    @face.workflow(name="order")
    async def order(item: Any, number: int = 1, **more: Any) -> list[Any]:
        return [item, number, *sorted(more)]

    return order


@pytest.mark.parametrize(
    ("how", "executes", "args", "kwargs"),
    [
        ("start", True, ("milk",), {}),
        ("start", False, ("tea", 2), {}),
        ("call", True, ("tea",), {"size": 1}),
        ("call", False, (["tea"],), {}),
    ],
)
async def test_w1_other_arguments_are_said_once_and_the_recorded_ones_count(
    app: App, face: Face, log: Sightings, args: Any, kwargs: Any, how: str, executes: bool
) -> None:
    order = await register(face)
    first = await face.start(order, "tea", workflow_id="order-1")
    assert await first.get_result() == ["tea", 1]
    app.executes = executes
    await app.relaunch()
    for _ in range(2):
        with SetWorkflowID("order-1"):
            if how == "call":
                assert await order(*args, **kwargs) == ["tea", 1]
            else:
                assert await (await face.start_workflow(order, *args, **kwargs)).get_result() == ["tea", 1]
    [line] = said(log)
    assert line.startswith(f"workflow 'order-1' (order) exists, and {SAID}: the call returned the existing ")


async def test_w1_the_same_arguments_otherwise_written_are_not_said(app: App, face: Face, log: Sightings) -> None:
    order = await register(face)
    with SetWorkflowID("order-1"):
        await order({"b", "a"}, 1, x=1, y=2)
    repeats: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (({"a", "b"},), {"y": 2, "x": 1}),
        (({"a", "b"}, 1), {"x": 1, "y": 2}),
        ((), {"item": {"b", "a"}, "number": 1, "x": 1, "y": 2}),
    ]
    for args, kwargs in repeats:
        with SetWorkflowID("order-1"):
            assert await order(*args, **kwargs) == [{"a", "b"}, 1, "x", "y"]
    assert said(log) == []


async def test_w1_a_child_and_a_start_in_a_step_with_other_arguments_are_said(
    app: App, face: Face, log: Sightings
) -> None:
    order = await register(face)

    @face.step()
    async def start_in_step() -> str:
        return (await face.start(order, "step", workflow_id="order-1")).workflow_id

    @face.workflow()
    async def parent() -> list[Any]:
        handle = await face.start(order, "child", workflow_id="order-2")
        return [await start_in_step(), await face.get_result(handle.workflow_id)]

    for number in (1, 2):
        await face.start(order, "tea", workflow_id=f"order-{number}")
    assert await parent() == ["order-1", ["tea", 1]]
    assert [line.split()[1] for line in said(log)] == ["'order-2'", "'order-1'"]


async def test_w1_a_method_with_other_arguments_is_said(app: App, log: Sightings) -> None:
    @DBOS.dbos_class()
    class Shop:
        @classmethod
        @DBOS.workflow()
        async def order(cls, item: str) -> str:
            return item

    for item in ("tea", "tea", "milk"):
        with SetWorkflowID("order-1"):
            assert await Shop.order(item) == "tea"
    assert len(said(log)) == 1


async def test_w1_a_replay_of_a_start_compares_nothing(app: App, face: Face, log: Sightings) -> None:
    order = await register(face)
    calls: list[str] = []

    @face.workflow()
    async def parent() -> None:
        calls.append("milk" if calls else "tea")
        await face.start(order, calls[-1], workflow_id="order-1")
        await face.recv("go", 3_600)

    handle = await face.start(parent, workflow_id="parent")
    await app.waiting("message", "parent", "go")
    await app.crash_and_restart()
    await face.send("parent", None, "go")
    await face.get_result(handle.workflow_id)
    assert calls == ["tea", "milk"]
    assert said(log) == []
