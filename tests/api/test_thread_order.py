"""Functions in threads beside other branches: what the code sees after a crash, and threads that wait (W2, W5)."""

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest
import uvloop

from tests.support.app import App
from tests.support.engines import running
from tests.support.scarce import no_threads
from tidings import DBOS, SetWorkflowID
from tidings.engine.runs import thread_calls

FOREVER = 3_600.0
PATIENCE = 30.0
MOMENT = 0.02  # seconds: in which a loop would long have taken the run for resting

InThread = Callable[..., Awaitable[Any]]


async def by_to_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


async def by_executor(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, function, *args)


async def by_anyio(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


class InPool:
    """Calls functions in a pool that the program has made."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self.pool, contextvars.copy_context().run, function, *args
        )


HOW: dict[str, Callable[[], InThread]] = {
    "to_thread": lambda: by_to_thread,
    "executor": lambda: by_executor,
    "pool": InPool,
    "anyio": lambda: by_anyio,
}


@pytest.fixture(params=HOW)
async def in_thread(request: pytest.FixtureRequest) -> AsyncIterator[InThread]:
    """How a function is called in a thread, and awaited: by no more than two at once where that can be told."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens, tokens = 2, limiter.total_tokens
    how = HOW[request.param]()
    yield how
    limiter.total_tokens = tokens
    if isinstance(how, InPool):
        how.pool.shutdown(wait=False)


# --- order ------------------------------------------------------------------------------------------------


class Beside:
    """Pairs of branches: one awaits a function in a thread, the other a step. Each says when it has its result."""

    def __init__(self, in_thread: InThread) -> None:
        self.in_thread = in_thread
        self.executions = 0

    async def all(self) -> list[list[str]]:
        self.executions += 1
        return [await self.ends_later(), await self.begins_later(), await self.calls_again()]

    async def ends_later(self) -> list[str]:
        """The step ends when the function has: at first that may take any time, in a replay it takes none."""
        seen: list[str] = []
        has_ended = asyncio.Event()

        def function() -> None:
            DBOS.run_step({"name": "first"}, lambda: None)
            time.sleep(MOMENT)

        async def call() -> None:
            await self.in_thread(function)
            seen.append("function")
            has_ended.set()

        async def step() -> None:
            await DBOS.run_step_async({"name": "later"}, has_ended.wait)
            seen.append("step")

        await asyncio.gather(call(), step())
        return seen

    async def begins_later(self) -> list[str]:
        """What the function calls gives its result at once. It is slower to call it in a replay."""
        seen: list[str] = []

        def function() -> None:
            time.sleep(MOMENT * (self.executions - 1))
            DBOS.set_event("key", "value")

        async def call() -> None:
            await self.in_thread(function)
            seen.append("function")

        async def step() -> None:
            await DBOS.run_step_async({"name": "beside"}, lambda: asyncio.sleep(MOMENT / 2))
            seen.append("step")

        await asyncio.gather(call(), step())
        return seen

    async def calls_again(self) -> list[str]:
        """Between two of its operations the function is slower in a replay."""
        seen: list[str] = []

        def function(name: str) -> None:
            for number in range(2):
                DBOS.run_step({"name": f"{name} {number}"}, lambda: None)
                seen.append(f"{name} {number}")
                time.sleep(MOMENT / 4 * (self.executions - 1))

        async def step() -> None:
            for number in range(2):
                await DBOS.run_step_async({"name": f"beside {number}"}, lambda: asyncio.sleep(0.003))
                seen.append(f"step {number}")

        await asyncio.gather(self.in_thread(function, "one"), self.in_thread(function, "other"), step())
        return seen


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_w2_functions_in_threads_and_other_branches_end_in_the_same_order_after_a_crash(
    app: App, in_thread: InThread, colour: str
) -> None:
    beside = Beside(in_thread)
    told: list[list[list[str]]] = []

    async def all_of_it() -> None:
        told.append(await beside.all())

    await app.play_twice(all_of_it, colour)
    first, again = told
    assert again == first
    assert first[:2] == [["function", "step"]] * 2


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_w2_a_task_has_the_same_branch_whichever_thread_is_faster(
    app: App, in_thread: InThread, colour: str
) -> None:
    """Its first operation comes after a function in a thread that calls none."""
    told: list[tuple[str, ...]] = []

    async def both() -> None:
        loop = asyncio.get_running_loop()
        has_fast_begun = asyncio.Event()
        fast, slow = ("a", "b") if not told else ("b", "a")

        def function(name: str) -> None:
            if name == slow:
                asyncio.run_coroutine_threadsafe(has_fast_begun.wait(), loop).result(PATIENCE)

        async def one(name: str) -> str:
            await in_thread(function, name)
            if name == fast:
                loop.call_soon(has_fast_begun.set)  # Right after the next operation has begun.
            return await DBOS.run_step_async({"name": "note"}, lambda: name)

        told.append(tuple(await asyncio.gather(one("a"), one("b"))))

    await app.play_twice(both, colour)
    assert told == [("a", "b")] * 2


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_w2_coroutines_that_threads_run_have_the_same_branch_whichever_is_faster(
    app: App, in_thread: InThread, colour: str
) -> None:
    told: list[tuple[str, ...]] = []

    async def both() -> None:
        loop = asyncio.get_running_loop()
        has_fast_begun = threading.Event()
        fast = "b" if told else "a"

        async def note(name: str) -> str:
            if name == fast:
                loop.call_soon(has_fast_begun.set)  # Right after the next operation has begun.
            return await DBOS.run_step_async({"name": "note"}, lambda: name)

        def function(name: str) -> str:
            if name != fast:
                has_fast_begun.wait(PATIENCE)
            return asyncio.run_coroutine_threadsafe(note(name), loop).result(PATIENCE)

        told.append(tuple(await asyncio.gather(in_thread(function, "a"), in_thread(function, "b"))))

    await app.play_twice(both, colour)
    assert told == [("a", "b")] * 2


async def test_a_function_in_a_thread_that_waits_for_another_branch_is_not_waited_for(
    app: App, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_calls, "_PAUSE_SECONDS", 0.001)

    @DBOS.workflow(name="order")
    async def order() -> list[str]:
        seen: list[str] = []
        first, second = threading.Event(), threading.Event()

        def function() -> None:
            assert first.wait(PATIENCE)
            DBOS.run_step({"name": "function"}, lambda: None)
            assert second.wait(PATIENCE)
            seen.append("function")

        async def other() -> None:
            for number, event in enumerate((first, second)):
                await DBOS.run_step_async({"name": f"other {number}"}, lambda: None)
                seen.append(f"other {number}")
                event.set()

        await asyncio.gather(in_thread(function), other())
        return seen

    assert await order() == ["other 0", "other 1", "function"]


# --- threads that wait ----------------------------------------------------------------------------------------


async def test_w5_replays_do_not_wait_for_each_others_threads(app: App, in_thread: InThread) -> None:
    """Each recorded first what it called last. All that it called first would fill the pool, and wait for its turn."""
    count = 4 if isinstance(in_thread, InPool) or in_thread is by_anyio else 2 * min(32, (os.cpu_count() or 1) + 4)

    @DBOS.workflow(name="agent")
    async def agent() -> list[Any]:
        has_ended = threading.Event()

        def slow() -> str:
            return DBOS.run_step({"name": "slow"}, lambda: str(has_ended.wait(PATIENCE)))

        async def two() -> str:
            await DBOS.run_step_async({"name": "before"}, lambda: None)
            found: str = await in_thread(DBOS.run_step, {"name": "quick"}, lambda: "quick")
            has_ended.set()
            return found

        found = await asyncio.gather(in_thread(slow), two())
        await DBOS.recv_async("go", FOREVER)
        return list(found)

    for number in range(count):
        with SetWorkflowID(f"{number}"):
            await DBOS.start_workflow_async(agent)
        await app.waiting("message", f"{number}", "go")
    await app.crash_and_restart()
    for number in range(count):
        await DBOS.send_async(f"{number}", None, "go")
    for number in range(count):
        assert await DBOS.get_result_async(f"{number}", timeout_seconds=PATIENCE) == ["True", "quick"]


@pytest.mark.parametrize("in_thread", ["to_thread", "executor", "anyio"], indirect=True)
async def test_w5_functions_that_wait_in_an_operation_keep_no_other_from_a_thread(
    app: App, in_thread: InThread
) -> None:
    count = 4 if in_thread is by_anyio else min(32, (os.cpu_count() or 1) + 4) + 1

    @DBOS.workflow(name="waiting")
    async def waiting() -> Any:
        return await in_thread(DBOS.recv, "go", FOREVER)

    @DBOS.workflow(name="waking")
    async def waking() -> None:
        for number in range(count):
            await in_thread(DBOS.send, f"{number}", number, "go")

    for number in range(count):
        with SetWorkflowID(f"{number}"):
            await DBOS.start_workflow_async(waiting)
    handle = await DBOS.start_workflow_async(waking)
    await handle.get_result(timeout_seconds=PATIENCE)
    for number in range(count):
        assert await DBOS.get_result_async(f"{number}", timeout_seconds=PATIENCE) == number


@pytest.mark.parametrize("in_thread", ["to_thread", "executor", "anyio"], indirect=True)
async def test_n2_a_function_waits_for_a_thread_and_its_workflow_sees_nothing_of_it(
    app: App, in_thread: InThread
) -> None:
    @DBOS.workflow(name="order")
    async def order() -> Any:
        return await in_thread(DBOS.run_step, {"name": "step"}, lambda: "done")

    with no_threads("tidings-worker", "AnyIO worker thread") as refused:
        handle = await DBOS.start_workflow_async(order)
        await refused.until(lambda seen: len(seen) > 2)
    assert await handle.get_result(timeout_seconds=PATIENCE) == "done"


# --- where they run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_default_pool_that_a_program_has_chosen_is_used(database_url: str, run: Callable[[Any], Any]) -> None:
    def name() -> str:
        return threading.current_thread().name

    def step(of: str) -> str:
        return DBOS.run_step({"name": of}, name)

    async def main() -> list[str]:
        own = await asyncio.to_thread(step, "own")
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2, thread_name_prefix="chosen"))
        return [own, await asyncio.to_thread(step, "chosen")]

    @DBOS.workflow(name="order")
    def order() -> list[str]:
        found: list[str] = run(main())
        return found

    with running(database_url):
        own, chosen = order()
    assert not own.startswith("chosen")
    assert chosen.startswith("chosen")


def test_the_end_of_a_loop_in_a_blocking_workflow_waits_for_its_threads(database_url: str) -> None:
    ended: list[str] = []
    begun = threading.Event()

    def function() -> None:
        begun.set()
        time.sleep(MOMENT)
        ended.append("function")

    async def main() -> None:
        call = asyncio.ensure_future(asyncio.to_thread(function))
        while not begun.is_set():  # noqa: ASYNC110  (a thread sets it)
            await asyncio.sleep(0)
        call.cancel()

    @DBOS.workflow(name="order")
    def order() -> list[str]:
        asyncio.run(main())
        return ended

    with running(database_url):
        assert order() == ["function"]
