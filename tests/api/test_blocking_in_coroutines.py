"""What a coroutine may call in its blocking form: `DBOS.start_workflow` and `def` steps. All of it replays right."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Gate
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import DBOSMaxStepRetriesExceeded, DBOSSerializationError, DBOSStepTimeoutError

FOREVER = 3_600.0


@DBOS.workflow(name="doubling in coroutines")
async def doubling(number: int) -> int:
    return 2 * number


@DBOS.workflow(name="blocking_doubling in coroutines")
def blocking_doubling(number: int) -> int:
    return 2 * number


# --- starting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", [doubling, blocking_doubling])
async def test_a_coroutine_starts_a_workflow_by_the_blocking_form(app: App, workflow: Callable[[int], Any]) -> None:
    handle = DBOS.start_workflow(workflow, 3)
    assert await DBOS.get_result_async(handle.workflow_id) == 6
    for number in (4, 5):
        with SetWorkflowID("chosen"):
            again = DBOS.start_workflow(workflow, number)
        assert again.workflow_id == "chosen"
        assert await DBOS.get_result_async("chosen") == 8
    with pytest.raises(DBOSSerializationError):
        DBOS.start_workflow(workflow, object())  # type: ignore[call-overload]


async def test_a_step_on_the_loop_and_a_callback_of_the_loop_start_workflows_too(app: App) -> None:
    @DBOS.step()
    async def start() -> str:
        return DBOS.start_workflow(doubling, 3).workflow_id

    @DBOS.workflow()
    async def order() -> str:
        return await start()

    assert await DBOS.get_result_async(await order()) == 6
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: started.set_result(DBOS.start_workflow(doubling, 4).workflow_id))
    assert await DBOS.get_result_async(await started) == 8


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_children_that_are_started_so_are_started_once_whenever_the_process_dies(app: App, point: Point) -> None:
    @DBOS.workflow(name="starter")
    async def starter(number: int) -> list[int]:
        async def branch(child: Any, number: int) -> int:
            handle = DBOS.start_workflow(child, number)
            result: int = await DBOS.get_result_async(handle.workflow_id)
            return result

        children = (doubling, blocking_doubling, doubling)
        return await asyncio.gather(*(branch(child, number + n) for n, child in enumerate(children)))

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(starter, 10)
        assert await DBOS.get_result_async(name) == [20, 22, 24]
        assert len(await DBOS.list_workflows_async(parent_workflow_id=name)) == 3

    assert await app.crash_at_every_commit(point, run) >= 4


# --- steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_plain_steps_in_coroutines_replay_right_whenever_the_process_dies(app: App, point: Point) -> None:
    runs: list[str] = []

    @DBOS.step(name="plain")
    def plain(name: str) -> str:
        runs.append(name)
        return f"{name} of run {runs.count(name)}"

    @DBOS.step(name="awaited")
    async def awaited(name: str) -> str:
        await asyncio.sleep(0)
        return name

    @DBOS.workflow(name="order")
    async def order(name: str) -> list[str]:
        log: list[str] = []

        async def branch(number: int) -> None:
            log.append(await awaited(f"awaited {number}"))
            log.append(plain(f"{name}: {number}"))
            await DBOS.sleep_async(0)
            log.append(DBOS.run_step({"name": "lambda"}, lambda: f"lambda {number}"))

        log.append(plain(f"{name}: first"))
        await asyncio.gather(branch(1), branch(2), branch(3))
        await DBOS.set_event_async("log", log)
        await DBOS.recv_async("go", FOREVER)
        return log

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(order, name)
        seen = await DBOS.get_event_async(name, "log", FOREVER)
        await DBOS.send_async(name, None, "go", idempotency_key="go")
        assert await DBOS.get_result_async(name) == seen
        steps = await DBOS.list_workflow_steps_async(name)
        assert len([step for step in steps if step["function_name"] in ("plain", "awaited", "lambda")]) == 10

    assert await app.crash_at_every_commit(point, run) >= 10


async def test_plain_steps_fail_and_are_tried_again_in_coroutines_as_anywhere(app: App) -> None:
    tries: list[int] = []

    @DBOS.step(name="flaky", retries_allowed=True, max_attempts=3, interval_seconds=0)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    @DBOS.step(name="failing", retries_allowed=True, max_attempts=2, interval_seconds=0)
    def failing() -> None:
        raise ValueError("never")

    @DBOS.step(name="hanging", timeout_seconds=0.01)
    def hanging() -> None:
        hangs.wait()

    @DBOS.workflow(name="order")
    async def order() -> list[Any]:
        found: list[Any] = [flaky()]
        for step in (failing, hanging):
            try:
                step()
            except Exception as error:
                found.append(type(error).__name__)
        await DBOS.recv_async("go", FOREVER)
        return found

    hangs = Gate()
    with SetWorkflowID("order"):
        await DBOS.start_workflow_async(order)
    await app.waiting("message", "order", "go")
    await app.crash_and_restart()
    await DBOS.send_async("order", None, "go")
    expected = [3, DBOSMaxStepRetriesExceeded.__name__, DBOSStepTimeoutError.__name__]
    assert await DBOS.get_result_async("order") == expected
    assert len(tries) == 3


async def test_a_method_and_a_step_within_a_step_are_called_in_coroutines_too(app: App) -> None:
    class Shop:
        @DBOS.step(name="price")
        def price(self, item: str) -> int:
            return len(item) + self.inner()

        @DBOS.step(name="inner")
        def inner(self) -> int:
            return 100

    @DBOS.workflow(name="order")
    async def order() -> int:
        return Shop().price("tea") + DBOS.run_step(None, Shop().price, "milk")

    with SetWorkflowID("order"):
        assert await order() == 207
    steps = await DBOS.list_workflow_steps_async("order")
    assert [(step["function_name"], step["output"]) for step in steps] == [("price", 103), ("price", 104)]


async def test_a_step_that_holds_up_the_loop_is_named_in_the_log_once(
    app: App, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    @DBOS.step(name="slow")
    def slow() -> None:
        clock.advance(0.3)

    @DBOS.step(name="quick")
    def quick() -> None:
        clock.advance(0.1)

    @DBOS.workflow(name="order")
    async def order() -> None:
        for step in (slow, quick, slow):
            step()
        await DBOS.run_step_async({"name": "in a thread"}, lambda: clock.advance(0.3))

    for number in range(2):
        with SetWorkflowID(f"order {number}"):
            await order()
    said = [each for each in caplog.messages if "blocked its event loop" in each]
    assert len(said) == 1
    assert said[0].startswith("step 'slow' of workflow 'order 0' blocked its event loop for 0.3 s")
