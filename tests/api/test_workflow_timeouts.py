"""Workflow timeouts: W3 of the requirements. The clock stands still until a test lets it jump."""

import asyncio
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Face, Gate, off_loop
from tidings import DBOS, DBOSConfiguredInstance, SetWorkflowID, SetWorkflowTimeout
from tidings.engine.hooks import Point
from tidings.engine.process import REGISTRY
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSLimitError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


async def test_w3_a_workflow_that_takes_too_long_is_cancelled(app: App, face: Face, clock: ManualClock) -> None:
    swallowed: list[Any] = []

    @face.workflow()
    async def wait() -> None:
        try:
            await face.recv("never", FOREVER)
        except Exception as error:
            swallowed.append(error)
        except DBOSWorkflowCancelledError as error:
            swallowed.append(error.workflow_id)
            raise

    started = clock.now_ms()
    with SetWorkflowTimeout(5):
        await face.start(wait, workflow_id="w")
    handle = await face.retrieve_workflow("w")
    await app.waiting("message", "w", "never")
    status = await handle.get_status()
    assert (status.workflow_timeout_ms, status.workflow_deadline_epoch_ms) == (5_000, started + 5_000)
    clock.advance(4.999)
    assert (await handle.get_status()).status == "PENDING"
    clock.advance(0.001)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    assert (await handle.get_status()).status == "CANCELLED"
    await app.ended("w")
    assert swallowed == ["w"]


async def test_w3_a_direct_call_that_takes_too_long_is_cancelled(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def wait() -> None:
        await face.sleep(FOREVER)

    async def call() -> None:
        with SetWorkflowTimeout(5):
            await wait()

    calling = asyncio.create_task(face.run(call) if isinstance(face, Awaiting) else call())
    await app.waiting_for_time()
    clock.advance(5)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await calling


async def test_w3_a_workflow_that_ends_in_time_is_not_cancelled(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def quick() -> str:
        return "done"

    with SetWorkflowTimeout(5):
        handle = await face.start(quick)
    assert await handle.get_result() == "done"
    # Its end is told when it is durable; until its execution is over, the time may still run out, and harm nothing.
    await app.ended(handle.workflow_id)
    cancels: list[Any] = []
    app.engine.hooks.set(Point.BATCH_TAKEN, lambda jobs: cancels.extend(job for job in jobs if job.unit.cancels))
    clock.advance(5)
    await face.start(quick, workflow_id="later")  # Behind whatever the timer might have handed over.
    await face.get_result("later")
    assert cancels == []
    assert (await handle.get_status()).status == "SUCCESS"


async def test_w3_the_time_of_a_workflow_goes_on_through_a_crash(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def wait() -> None:
        await face.recv("never", FOREVER)

    with SetWorkflowTimeout(8):
        await face.start(wait, workflow_id="w")
    await app.waiting("message", "w", "never")
    clock.advance(5)
    await app.crash_and_restart()
    await app.waiting("message", "w", "never")
    clock.advance(2.999)
    assert (await face.get_workflow_status("w")).status == "PENDING"
    clock.advance(0.001)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await face.get_result("w")


async def test_w3_a_workflow_whose_time_was_up_while_nothing_ran_runs_no_more(
    app: App, face: Face, clock: ManualClock
) -> None:
    ran = []

    @face.workflow()
    async def wait() -> None:
        ran.append("workflow")
        await face.recv("never", FOREVER)

    with SetWorkflowTimeout(8):
        await face.start(wait, workflow_id="w")
    await app.waiting("message", "w", "never")
    await app.crash()
    ran.clear()
    clock.advance(8)
    await app.launch()
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await face.get_result("w")
    assert ran == []


async def test_w3_children_inherit_the_deadline_unless_they_have_their_own(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def child() -> None:
        await face.recv("never", FOREVER)

    @face.workflow()
    async def parent() -> None:
        await face.start(child, workflow_id="inherits")
        with SetWorkflowTimeout(2):
            await face.start(child, workflow_id="shorter")
        with SetWorkflowTimeout(9):
            await face.start(child, workflow_id="longer")
        with SetWorkflowTimeout(None):
            await face.start(child, workflow_id="unlimited")
        await face.recv("never", FOREVER)

    now = clock.now_ms()
    with SetWorkflowTimeout(5):
        await face.start(parent, workflow_id="parent")
    await app.waiting("message", "parent", "never")
    ids = ("parent", "inherits", "shorter", "longer", "unlimited")
    found = {each.workflow_id: each for each in await face.list_workflows()}
    assert [found[each].workflow_deadline_epoch_ms for each in ids] == [
        now + 5_000,
        now + 5_000,
        now + 2_000,
        now + 9_000,
        None,
    ]
    assert [found[each].workflow_timeout_ms for each in ids] == [5_000, None, 2_000, 9_000, None]

    async def cancelled() -> list[str]:
        return [each for each in ids if (await face.get_workflow_status(each)).status == "CANCELLED"]

    clock.advance(2)
    await app.ended("shorter")
    assert await cancelled() == ["shorter"]
    clock.advance(3)
    await app.ended("parent")
    await app.ended("inherits")
    assert await cancelled() == ["parent", "inherits", "shorter"]
    clock.advance(4)
    await app.ended("longer")
    assert await cancelled() == ["parent", "inherits", "shorter", "longer"]
    await face.send("unlimited", None, "never")
    await face.get_result("unlimited")


async def test_w3_a_timeout_is_for_what_the_block_starts_and_nothing_else(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def child() -> None:
        """Do nothing."""

    @face.workflow()
    async def parent() -> None:
        with SetWorkflowTimeout(1):
            pass
        await face.start(child, workflow_id="child")

    with SetWorkflowTimeout(7):
        with SetWorkflowTimeout(None):
            handle = await face.start(parent, workflow_id="parent")
        await handle.get_result()
    await face.start(child, workflow_id="outside")
    deadlines = {each.workflow_id: each.workflow_deadline_epoch_ms for each in await face.list_workflows()}
    assert deadlines == {"parent": None, "child": None, "outside": None}


async def test_w3_a_step_is_not_interrupted_but_what_it_returns_is_not_recorded(
    app: App, face: Face, clock: ManualClock
) -> None:
    begun, may_end = Gate(), Gate()

    @face.step()
    async def work() -> str:
        begun.open()
        may_end.wait() if not isinstance(face, Awaiting) else await may_end.opened()
        return "done"

    @face.workflow()
    async def flow() -> str:
        return await work()

    with SetWorkflowTimeout(5):
        handle = await face.start(flow, workflow_id="w")
    await begun.opened()
    clock.advance(5)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    may_end.open()
    await app.ended("w")
    assert app.rows.counts()["entries"] == 0


async def test_w3_a_workflow_that_left_its_recorded_path_is_cancelled_in_time_all_the_same(
    app: App, face: Face, clock: ManualClock
) -> None:
    topics = ["one", "two"]

    @face.workflow()
    async def flow() -> None:
        for topic in topics:
            await face.recv(topic, FOREVER)

    with SetWorkflowTimeout(8):
        await face.start(flow, workflow_id="w")
    await face.send("w", None, "one")
    await app.waiting("message", "w", "two")
    await app.crash()
    topics[0] = "other"
    await app.launch()
    with pytest.raises(DBOSUnexpectedStepError):
        await face.get_result("w")
    clock.advance(8)
    await _cancelled(app, face, "w")


async def test_w3_a_workflow_that_has_no_function_here_is_cancelled_in_time_all_the_same(
    app: App, face: Face, clock: ManualClock, log: Sightings
) -> None:
    class Missing(DBOSConfiguredInstance):
        @face.workflow()
        async def flow(self) -> None:
            await face.recv("never", FOREVER)

    DBOS.dbos_class("Missing")(Missing)
    with SetWorkflowTimeout(8):
        await face.start(Missing("here").flow, workflow_id="w")
    await app.waiting("message", "w", "never")
    await app.crash()
    REGISTRY.receivers.clear()
    await app.launch()
    await log.until(lambda seen: any("'w' stays PENDING" in line for line in seen))
    clock.advance(8)
    await _cancelled(app, face, "w")


async def _cancelled(app: App, face: Face, workflow_id: str) -> None:
    """Wait until a workflow that nobody executes is cancelled."""
    await off_loop(wait_until, lambda: app.rows.run("select status from {workflows}") == [("CANCELLED",)])
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await face.get_result(workflow_id)


async def test_w3_the_log_says_which_workflow_took_too_long(
    app: App, face: Face, clock: ManualClock, log: Sightings
) -> None:
    @face.workflow()
    async def wait() -> None:
        await face.recv("never", FOREVER)

    with SetWorkflowTimeout(5):
        await face.start(wait, workflow_id="w")
    await app.waiting("message", "w", "never")
    clock.advance(5)
    await log.until(lambda seen: any("has exceeded its timeout" in line for line in seen))


async def test_w3_a_deadline_and_an_end_at_once_one_of_them_counts(app: App, face: Face, clock: ManualClock) -> None:
    """The deadline passes while the end is on its way to the store."""
    committing, may_commit = Gate(), Gate()

    def hold(jobs: list[Any]) -> None:
        if any(job.unit.outcome is not None for job in jobs):
            committing.open()
            may_commit.wait()

    @face.workflow()
    async def quick() -> str:
        return "done"

    app.engine.hooks.set(Point.BATCH_TAKEN, hold)
    with SetWorkflowTimeout(5):
        starting = asyncio.create_task(face.start(quick, workflow_id="w"))
    await committing.opened()
    clock.advance(5)
    may_commit.open()
    await starting
    assert await face.get_result("w") == "done"


async def test_one_timeout_and_one_id_may_be_set_many_times_at_once(app: App, awaiting: Awaiting) -> None:
    limit = SetWorkflowTimeout(60)

    @awaiting.workflow()
    async def quick() -> None:
        """Do nothing."""

    async def start(number: int) -> None:
        with limit, limit, SetWorkflowID(f"w{number}"):
            handle = await DBOS.start_workflow_async(quick)
            await handle.get_result()

    await asyncio.gather(*map(start, range(3)))
    assert {each.workflow_timeout_ms for each in await DBOS.list_workflows_async()} == {60_000}
    handle = await DBOS.start_workflow_async(quick)
    assert (await handle.get_status()).workflow_timeout_ms is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_bad_timeout_is_refused(seconds: Any) -> None:
    with pytest.raises((DBOSLimitError, TypeError), match="workflow_timeout_sec must be"):
        SetWorkflowTimeout(seconds)
