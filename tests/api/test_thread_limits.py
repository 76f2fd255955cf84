"""Time limits of the code around functions in threads: on time at first, and a replay takes the same path (W2)."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from tests.support.app import App
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.engine.runs import thread_calls

FOREVER = 3_600.0
PATIENCE = 30.0
MOMENT = 0.002

Code = Callable[[Callable[[], None]], Awaitable[None]]
Main = Callable[[], Coroutine[Any, Any, Any]]


async def by_timeout(function: Callable[[], None]) -> None:
    async with asyncio.timeout(5 * MOMENT):
        await asyncio.to_thread(function)


async def by_wait_for(function: Callable[[], None]) -> None:
    await asyncio.wait_for(asyncio.to_thread(function), 5 * MOMENT)


async def by_anyio(function: Callable[[], None]) -> None:
    with anyio.fail_after(5 * MOMENT):
        await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


async def by_gather(function: Callable[[], None]) -> None:
    async with asyncio.timeout(5 * MOMENT):
        await asyncio.gather(asyncio.to_thread(function), asyncio.to_thread(function))


async def by_wait(function: Callable[[], None]) -> None:
    task = asyncio.create_task(asyncio.to_thread(function))
    done, _ = await asyncio.wait([task], timeout=5 * MOMENT)
    if not done:
        task.cancel()
        await asyncio.wait([task])
        raise TimeoutError


LIMITS: list[Code] = [by_timeout, by_wait_for, by_anyio, by_gather, by_wait]


class Tools:
    """A function in a thread under a limit, again and again, and what the code says of it."""

    def __init__(self, limit: Code) -> None:
        self.limit = limit
        self.executions = 0
        self.told: list[list[str]] = []

    async def run(self, rounds: int) -> list[str]:
        self.executions += 1
        seen: list[str] = []

        def function(number: int) -> None:
            # At first it is on its way when the limit comes, or in a step, before its first one or after its last.
            time.sleep(MOMENT * ((number + self.executions) % 4))
            for index in range(number % 3 + 1):
                DBOS.run_step({"name": "step"}, time.sleep, MOMENT)
                time.sleep(MOMENT * ((index + number + self.executions) % 3))

        for number in range(rounds):
            try:
                await self.limit(lambda number=number: function(number))  # type: ignore[misc]
                seen.append("in time")
            except TimeoutError:
                seen.append("too late")
            await DBOS.run_step_async({"name": "step"}, seen.append, "said")
        self.told.append(seen)
        return seen


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_w2_a_limit_around_a_thread_takes_the_same_path(app: App, limit: Code, colour: str) -> None:
    tools = Tools(limit)

    await app.play_twice(lambda: tools.run(12), colour)
    first, again = tools.told
    assert [each for each in again if each != "said"] == [each for each in first if each != "said"]


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_w2_a_limit_around_a_thread_replays_right_whenever_the_process_dies(app: App, point: Point) -> None:
    tools = {limit.__name__: Tools(limit) for limit in LIMITS}

    @DBOS.workflow(name="order")
    async def order(name: str) -> list[str]:
        return await tools[name].run(4)

    async def program(name: str) -> None:
        with SetWorkflowID(name):
            handle = await DBOS.start_workflow_async(order, app.in_turn({each: each for each in tools}, point, name))
        assert len(await handle.get_result(timeout_seconds=PATIENCE)) >= 4

    assert await app.crash_at_every_commit(point, program) > 4


# --- a thread that waits is not waited for ------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run wait for a function in a thread for ever at first: what comes when that is given up does not come."""
    monkeypatch.setattr(thread_calls, "_MOST_LOOKS", 1_000_000)


async def started(app: App, code: Main, colour: str) -> Any:
    """Run `code` as a workflow, and once more after a crash. Returns what it gave then."""

    @DBOS.workflow(name="order")
    async def order() -> Any:
        found = await code()
        await DBOS.recv_async("go", FOREVER)
        return found

    @DBOS.workflow(name="blocking order")
    def blocking_order() -> Any:
        found: Any = asyncio.run(code())
        DBOS.recv("go", FOREVER)
        return found

    with SetWorkflowID("order"):
        await DBOS.start_workflow_async(order if colour == "async" else blocking_order)
    await app.waiting("message", "order", "go")
    await app.crash()
    thread_calls._MOST_LOOKS = 1  # type: ignore[misc]
    await app.launch()
    await DBOS.send_async("order", None, "go")
    return await DBOS.get_result_async("order", timeout_seconds=PATIENCE)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("colour", ["async", "blocking"])
@pytest.mark.parametrize("has_branch", [False, True])
async def test_a_limit_comes_though_a_function_in_a_thread_runs(app: App, colour: str, *, has_branch: bool) -> None:
    """Also where another branch has a result, which would come after the function has ended."""

    async def code() -> str:
        is_over = threading.Event()

        async def beside() -> None:
            await DBOS.run_step_async({"name": "beside"}, lambda: None)

        try:
            async with asyncio.timeout(10 * MOMENT):
                function = asyncio.to_thread(is_over.wait, PATIENCE)
                await (asyncio.gather(function, beside()) if has_branch else function)
        except TimeoutError:
            is_over.set()
            return await DBOS.run_step_async({"name": "late"}, lambda: "late")
        return "in time"

    assert await started(app, code, colour) == "late"


async def run_from_thread(code: Main) -> Any:
    return await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(code))


async def run_threadsafe(code: Main) -> Any:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(code(), loop).result())


async def run_in_portal(code: Main) -> Any:
    async with anyio.from_thread.BlockingPortal() as portal:
        return await anyio.to_thread.run_sync(lambda: portal.call(code))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("colour", ["async", "blocking"])
@pytest.mark.parametrize("run", [run_from_thread, run_threadsafe, run_in_portal])
async def test_a_thread_that_awaits_a_coroutine_is_not_waited_for(
    app: App, colour: str, run: Callable[[Main], Awaitable[Any]]
) -> None:
    async def code() -> Any:
        async def two_steps() -> list[str]:
            return [await DBOS.run_step_async({"name": f"{each}"}, str, each) for each in range(2)]

        return await run(two_steps)

    assert await started(app, code, colour) == ["0", "1"]


async def one_after_the_other_by_anyio(functions: list[Callable[[], Any]]) -> None:
    limiter = anyio.CapacityLimiter(1)
    async with anyio.create_task_group() as group:
        for each in functions:
            group.start_soon(lambda each=each: anyio.to_thread.run_sync(each, limiter=limiter))  # type: ignore[misc]


async def one_after_the_other_in_pool(functions: list[Callable[[], Any]]) -> None:
    pool = ThreadPoolExecutor(1)

    async def call(function: Callable[[], Any]) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, function)

    await asyncio.gather(*map(call, functions))
    pool.shutdown(wait=False)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("colour", ["async", "blocking"])
@pytest.mark.parametrize("one_after_the_other", [one_after_the_other_by_anyio, one_after_the_other_in_pool])
async def test_a_function_that_no_thread_calls_yet_is_not_waited_for(
    app: App, colour: str, one_after_the_other: Callable[[list[Callable[[], Any]]], Awaitable[None]]
) -> None:
    async def code() -> list[int]:
        seen: list[int] = []

        def function(number: int) -> None:
            seen.extend(DBOS.run_step({"name": f"{number}"}, lambda: number) for _ in range(2))

        await one_after_the_other([partial(function, number) for number in range(4)])
        return seen

    assert await started(app, code, colour) == [0, 0, 1, 1, 2, 2, 3, 3]
