"""Versions of the code: which one continues a workflow, and what happens where it calls something else (V)."""

import asyncio
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Face
from tidings import DBOS, SetWorkflowID
from tidings.engine.process import REGISTRY
from tidings.error import DBOSUnexpectedStepError

FOREVER = 3_600
PATIENCE = 30.0


async def run_until_last(app: App, face: Face, code: Any) -> None:
    """Start `code` as the workflow "order" of version 1, and die when it waits for its last message."""
    await face.start(face.workflow(name="order")(code), workflow_id="order")
    await app.waiting("message", "order", "last")
    await app.crash()
    REGISTRY.clear()


async def deploy(app: App, face: Face, code: Any, version: str, **config: Any) -> Any:
    """Launch with this code for the workflow "order", and return the workflow."""
    REGISTRY.clear()
    workflow = face.workflow(name="order")(code)
    await app.launch(application_version=version, **config)
    return workflow


def waiting_for(face: Face, topic: str, says: str) -> Any:
    """Code that receives on this topic, and then its last message."""

    async def order() -> str:
        await face.recv(topic, 0)
        await face.recv("last", FOREVER)
        return says

    return order


async def test_v1_another_version_continues_what_it_can_replay(app: App, face: Face) -> None:
    await run_until_last(app, face, waiting_for(face, "first", "old"))
    await deploy(app, face, waiting_for(face, "first", "new"), "2", recover_versions="compatible")
    await app.waiting("message", "order", "last")
    await face.send("order", None, "last")
    assert await DBOS.get_result_async("order", timeout_seconds=PATIENCE) == "new"
    [found] = await DBOS.list_workflows_async()
    assert (found.app_version, found.stuck) == ("2", None)


async def test_v2_what_another_version_cannot_continue_says_why_and_the_old_code_finishes_it(
    app: App, face: Face, log: Sightings
) -> None:
    await run_until_last(app, face, waiting_for(face, "first", "old"))
    other = waiting_for(face, "second", "new")
    app.code_hash = "other"
    changed = await deploy(app, face, other, "2", recover_versions="compatible")
    with pytest.raises(
        DBOSUnexpectedStepError, match=r"recv on 'first' at operation 1, but the code now .* \(version '2'\)"
    ):
        await DBOS.get_result_async("order", timeout_seconds=PATIENCE)
    with pytest.raises(DBOSUnexpectedStepError, match="version '2'"):
        await face.start(changed, workflow_id="order")
    [found] = await DBOS.list_workflows_async(stuck=True)
    assert found.stuck is not None
    assert (found.status, found.executor_id, found.stuck.version) == ("PENDING", None, "2")
    assert (found.stuck.operation, found.stuck.recorded) == ("operation 1", "DBOS.recv on 'first'")
    assert found.stuck.called == "DBOS.recv on 'second'"
    assert await DBOS.list_workflows_async(stuck=False) == []
    await app.crash()
    log.seen.clear()
    await deploy(app, face, other, "2")
    await looked_for_more(app)
    assert [each.stuck for each in await DBOS.list_workflows_async()] == [found.stuck], "it is not tried again"
    assert not any("was recorded with" in each for each in log.seen)
    await app.crash()
    await deploy(app, face, waiting_for(face, "first", "old again"), "1")
    await app.waiting("message", "order", "last")
    await face.send("order", None, "last")
    assert await DBOS.get_result_async("order", timeout_seconds=PATIENCE) == "old again"
    [found] = await DBOS.list_workflows_async()
    assert (found.status, found.stuck) == ("SUCCESS", None)


async def looked_for_more(app: App) -> None:
    """Wait until the process has looked for workflows to take over, twice from now on."""
    begun = asyncio.Event()
    takeover, loop = app.host.supervisor._takeover, asyncio.get_running_loop()
    look, count = takeover.look, 0

    def counted(*, thorough: bool) -> None:
        nonlocal count
        look(thorough=True)
        count += 1
        if count == 2:
            loop.call_soon_threadsafe(begun.set)

    takeover.look = counted  # type: ignore[method-assign]
    await asyncio.wait_for(begun.wait(), PATIENCE)


async def test_v4_a_process_may_keep_to_its_own_version(app: App, face: Face, log: Sightings) -> None:
    code = waiting_for(face, "first", "says")
    await run_until_last(app, face, code)
    await deploy(app, face, code, "2", recover_versions="same")
    await log.until(lambda seen: any("not recovered here" in each for each in seen))
    [found] = await DBOS.list_workflows_async()
    assert (found.status, found.app_version, found.stuck) == ("PENDING", "1", None)


AIMS: dict[str, tuple[Any, str, str]] = {
    "destination": (lambda face, one: face.send("a" if one else "b", 1), "DBOS.send to 'a'", "DBOS.send to 'b'"),
    "topic": (
        lambda face, one: face.send("a", 1, "x" if one else "y"),
        "DBOS.send to 'a' on 'x'",
        "DBOS.send to 'a' on 'y'",
    ),
    "awaited id": (
        lambda face, one: face.get_result("a" if one else "b"),
        "DBOS.get_result of 'a'",
        "DBOS.get_result of 'b'",
    ),
    "key": (
        lambda face, one: face.get_event("a", "k" if one else "l", 0),
        "DBOS.get_event of 'k' of 'a'",
        "DBOS.get_event of 'l' of 'a'",
    ),
    "time limit": (
        lambda face, one: face.get_event("a", "k", 0 if one else None),
        "DBOS.get_event of 'k' of 'a' with a time limit",
        "DBOS.get_event of 'k' of 'a'",
    ),
}


@pytest.mark.parametrize("aim", AIMS)
async def test_v2_a_replay_compares_what_an_operation_is_aimed_at(app: App, awaiting: Awaiting, aim: str) -> None:
    """Where a name alone would be the same."""
    call, recorded, called = AIMS[aim]

    @DBOS.workflow(name="child")
    async def child() -> None:
        return None

    def code(*, one: bool) -> Any:
        async def order() -> None:
            await call(awaiting, one)
            await awaiting.recv("last", FOREVER)

        return order

    for each in ("a", "b"):
        with SetWorkflowID(each):
            await (await DBOS.start_workflow_async(child)).get_result()
    await run_until_last(app, awaiting, code(one=True))
    await deploy(app, awaiting, code(one=False), "1")
    with pytest.raises(DBOSUnexpectedStepError) as raised:
        await DBOS.get_result_async("order", timeout_seconds=PATIENCE)
    assert (raised.value.operation, raised.value.recorded, raised.value.called) == ("operation 1", recorded, called)
