"""No operation of a thread waits in a replay for something that waits for it (W2)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.app import App
from tidings import DBOS, SetWorkflowID
from tidings.engine.runs import thread_calls
from tidings.error import DBOSSerializationError

FOREVER = 3_600.0
PATIENCE = 30.0


async def replayed(app: App, order: Callable[[], Any]) -> Any:
    """Return the result of a workflow that was replayed after it had begun to wait for the message "go"."""
    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(order)
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await app.waiting("message", "w", "go")
    await DBOS.send_async("w", None, "go")
    return await asyncio.wait_for(DBOS.get_result_async("w"), PATIENCE)


async def test_a_call_is_numbered_within_its_branch(app: App) -> None:
    """Of two tasks, the other one is first to call its second function in the replay. One outlasts a time limit."""
    executions = 0
    is_over, has_called = ({execution: threading.Event() for execution in (1, 2)} for _ in range(2))

    def first(name: str, execution: int) -> None:
        if (name == "a") != (execution == 1):
            has_called[execution].wait(PATIENCE)

    def second(name: str, execution: int) -> None:
        has_called[execution].set()
        if name == "b":
            is_over[execution].wait(PATIENCE)

    async def both(name: str, execution: int) -> None:
        await asyncio.to_thread(first, name, execution)
        await asyncio.to_thread(second, name, execution)

    def note() -> str:
        return DBOS.run_step({"name": "note"}, lambda: "noted")

    @DBOS.workflow(name="order")
    async def order() -> str:
        nonlocal executions
        executions += 1
        try:
            async with asyncio.timeout(0.3):
                await asyncio.gather(both("a", executions), both("b", executions))
        except TimeoutError:
            is_over[executions].set()
        found = await asyncio.to_thread(note)
        await DBOS.recv_async("go", FOREVER)
        return found

    assert await replayed(app, order) == "noted"


async def test_an_operation_that_takes_no_place_holds_nothing_up(app: App) -> None:
    """What cannot be stored is refused before it takes a place, so no record says when it was called."""
    refused: list[str] = []

    def publish() -> None:
        try:
            DBOS.set_event("x", lambda: 1)
        except DBOSSerializationError as error:
            refused.append(str(error))

    @DBOS.workflow(name="order")
    async def order() -> str:
        is_refused = asyncio.Event()

        async def tell() -> None:
            await asyncio.to_thread(publish)
            is_refused.set()

        async def note() -> str:
            await is_refused.wait()
            return await DBOS.run_step_async({"name": "note"}, lambda: "noted")

        _, found = await asyncio.gather(tell(), note())
        await DBOS.recv_async("go", FOREVER)
        return found

    assert await replayed(app, order) == "noted"
    assert len(refused) == 2


@pytest.mark.parametrize("is_awaited", [True, False])
async def test_an_operation_called_in_the_last_round_of_a_loop_holds_nothing_up(app: App, *, is_awaited: bool) -> None:
    """Its task is cancelled before its first line, as the loop's owner does with whatever is left."""
    is_last = threading.Event()
    ended: list[BaseException] = []

    def note(begins: Callable[[], object]) -> None:
        begins()
        is_last.wait(PATIENCE)
        try:
            DBOS.run_step({"name": "note"}, lambda: None)
        except BaseException as error:
            ended.append(error)

    async def until_last_round() -> None:
        loop: Any = asyncio.get_running_loop()
        has_begun = asyncio.Event()
        call = asyncio.create_task(asyncio.to_thread(note, partial(loop.call_soon_threadsafe, has_begun.set)))
        await has_begun.wait()
        if not is_awaited:
            call.cancel()
            await asyncio.wait([call])
        is_last.set()
        while not loop._ready:  # The thread's call is the only thing that can come: nothing else runs on this loop.
            pass

    @DBOS.workflow(name="order")
    def order() -> None:
        is_last.clear()
        asyncio.run(until_last_round())
        DBOS.recv("go", FOREVER)

    await replayed(app, order)
    assert len(ended) == 2


async def test_a_loop_may_be_run_again_after_parallel_functions(app: App) -> None:
    """A task stays pending on a loop of the program's own while `run_parallel` runs another one."""

    def step(name: str) -> str:
        return DBOS.run_step({"name": name}, lambda: name)

    async def later() -> str:
        await DBOS.sleep_async(0.05)
        return await DBOS.run_step_async({"name": "later"}, lambda: "later")

    async def begin() -> asyncio.Task[str]:
        task = asyncio.create_task(later())
        await DBOS.run_step_async({"name": "first"}, lambda: "first")
        return task

    async def end(task: asyncio.Task[str]) -> str:
        return await task

    @DBOS.workflow(name="order")
    def order() -> list[str]:
        loop = asyncio.new_event_loop()
        try:
            task = loop.run_until_complete(begin())
            found = DBOS.run_parallel(partial(step, "a"), partial(step, "b"))
            found.append(loop.run_until_complete(end(task)))
        finally:
            loop.close()
        DBOS.recv("go", FOREVER)
        return found

    assert await replayed(app, order) == ["a", "b", "later"]


@pytest.mark.parametrize("publish", [DBOS.set_event, DBOS.write_stream])
async def test_two_threads_never_run_at_the_same_time(
    app: App, publish: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation without a numbered result returns at once, but not while another thread runs the workflow's code."""
    monkeypatch.setattr(thread_calls, "_MOST_LOOKS", 4)
    has_result, runs_beside, is_done = (threading.Event() for _ in range(3))
    found: list[bool] = []

    def first() -> None:
        DBOS.run_step({"name": "first"}, lambda: None)
        has_result.set()
        found.append(runs_beside.wait(0.05))
        is_done.set()

    def second() -> None:
        has_result.wait(PATIENCE)  # Counts as slow meanwhile, so the other function gets its result.
        publish("x", "published")
        runs_beside.set()
        assert is_done.is_set()

    @DBOS.workflow(name="order")
    async def order() -> None:
        await asyncio.gather(asyncio.to_thread(first), asyncio.to_thread(second))

    await asyncio.wait_for(order(), PATIENCE)
    assert found == [False]
