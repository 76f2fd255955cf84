"""Workflows that a step starts: children of the step's workflow, one for each try unless an id is set."""

from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Face
from tidings import DBOS, SetWorkflowID, SetWorkflowTimeout
from tidings.error import DBOSAwaitedWorkflowCancelledError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


async def parents(face: Face, **filters: Any) -> list[tuple[str, str | None]]:
    return [(each.name, each.parent_workflow_id) for each in await face.list_workflows(**filters)]


@pytest.mark.parametrize("how", ["start_workflow", "a call", "run_step"])
async def test_each_try_starts_a_child_and_a_recorded_step_starts_none(app: App, face: Face, how: str) -> None:
    tries: list[str | None] = []

    @face.workflow(name="charge")
    async def charge() -> str:
        return "charged"

    async def work() -> int:
        tries.append(DBOS.workflow_id)
        if how == "a call":
            assert await charge() == "charged"
        else:
            assert await (await face.start_workflow(charge)).get_result() == "charged"
        if len(tries) < 3:
            raise OSError
        return len(tries)

    step = face.step(name="step", retries_allowed=True, interval_seconds=0, max_attempts=5)(work)

    @face.workflow(name="order")
    async def order() -> int:
        count = await (face.run_step(None, step) if how == "run_step" else step())
        await face.recv("go", FOREVER)
        return int(count)

    await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    await app.crash_and_restart()
    await face.send("order", None, "go")
    assert await face.get_result("order") == 3
    assert tries == ["order"] * 3
    assert await parents(face, parent_workflow_id="order") == [("charge", "order")] * 3
    assert await parents(face, name="order") == [("order", None)]


async def test_under_an_id_all_tries_start_one(app: App, face: Face) -> None:
    """Also the try that runs again because the process died during it."""
    ran: list[str] = []
    tries: list[int] = []

    @face.workflow(name="charge")
    async def charge() -> str:
        ran.append("charge")
        return "charged"

    @face.step(name="step", retries_allowed=True, interval_seconds=0, max_attempts=9)
    async def step() -> str:
        tries.append(1)
        with SetWorkflowID(f"charge of {DBOS.workflow_id}"):
            handle = await face.start_workflow(charge)
        found = await handle.get_result()
        if len(tries) in {1, 3}:
            raise OSError
        return str(found)

    @face.workflow(name="order")
    async def order() -> str:
        return await step()

    await face.start(order, workflow_id="order")
    assert await face.get_result("order") == "charged"
    assert (len(tries), ran) == (2, ["charge"])
    assert await parents(face) == [("order", None), ("charge", "order")]


async def test_a_child_of_a_step_has_its_workflows_deadline(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow(name="child")
    async def child() -> None:
        await face.recv("never", FOREVER)

    @face.step(name="step")
    async def step() -> list[str]:
        inherits = await face.start_workflow(child)
        with SetWorkflowTimeout(60):
            limited = await face.start_workflow(child)
        with SetWorkflowTimeout(None):
            free = await face.start_workflow(child)
        return [inherits.workflow_id, limited.workflow_id, free.workflow_id]

    @face.workflow(name="order")
    async def order() -> list[str]:
        return await step()

    began = clock.now_ms()
    with SetWorkflowTimeout(5):
        handle = await face.start(order)
    ids = await handle.get_result()
    found = {each.workflow_id: each.workflow_deadline_epoch_ms for each in await face.list_workflows()}
    assert [found[each] for each in ids] == [began + 5_000, began + 60_000, None]
    clock.advance(5)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await face.get_result(ids[0])
