"""Blocking workflows that run an event loop in their own thread, as the blocking forms of agents do."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
import uvloop

from tests.support.app import App
from tests.support.engines import running, wait_until
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import DBOSUnexpectedStepError

FOREVER = 3_600.0

Main = Callable[[], Coroutine[Any, Any, Any]]


def by_asyncio(main: Main) -> Any:
    return asyncio.run(main())


def by_runner(main: Main) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(main())


def by_loop(main: Main) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def by_anyio(main: Main) -> Any:
    return anyio.run(main)


def by_uvloop(main: Main) -> Any:
    return uvloop.run(main())


HOW = {each.__name__: each for each in (by_asyncio, by_runner, by_loop, by_anyio, by_uvloop)}


@DBOS.workflow(name="child in loops")
async def child(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_what_it_calls_there_replays_right_whenever_the_process_dies(app: App, point: Point) -> None:
    runs: list[str] = []

    @DBOS.step(name="ask")
    async def ask(question: str) -> str:
        runs.append(question)
        await asyncio.sleep(0)
        return f"{question}, asked {runs.count(question)} times"

    @DBOS.step(name="plain")
    def plain(question: str) -> str:
        runs.append(question)
        return f"{question}, asked {runs.count(question)} times"

    @DBOS.workflow(name="chat")
    def chat(name: str) -> list[Any]:
        log: list[Any] = []
        run_loop = app.in_turn(HOW, point, name)

        async def tool(number: int) -> None:
            log.append(await ask(f"{name}: left {number}"))
            await DBOS.sleep_async(0)
            log.append(plain(f"{name}: right {number}"))

        async def main() -> str:
            log.append(await ask(f"{name}: first"))
            await asyncio.gather(tool(1), tool(2))
            async with asyncio.TaskGroup() as group:
                group.create_task(tool(3))
                group.create_task(DBOS.set_event_async("inside", name))
            log.append(await child(21))
            return await ask(f"{name}: last")

        log.append(plain(f"{name}: before"))
        log.append(run_loop(main))
        DBOS.set_event("between", name)
        log.append(run_loop(lambda: ask(f"{name}: again")))
        DBOS.set_event("log", log)
        DBOS.recv("go", FOREVER)
        return log

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(chat, name)
        seen = await DBOS.get_event_async(name, "log", FOREVER)
        await DBOS.send_async(name, None, "go", idempotency_key="go")
        result = await DBOS.get_result_async(name)
        assert result == seen
        assert len(result) == 11
        assert await DBOS.get_event_async(name, "inside") == name

    assert await app.crash_at_every_commit(point, run) > 10


def test_each_loop_opens_branches_of_the_thread_and_a_blocking_call_is_its_own(database_url: str) -> None:
    async def step(name: str) -> None:
        await DBOS.run_step_async({"name": name}, lambda: None)

    async def two() -> None:
        await step("main")
        await asyncio.gather(step("left"), step("right"))

    @DBOS.workflow(name="chat")
    def chat() -> None:
        DBOS.run_step({"name": "before"}, lambda: None)
        asyncio.run(two())
        DBOS.run_step({"name": "between"}, lambda: None)
        asyncio.run(step("again"))

    with running(database_url), SetWorkflowID("w"):
        chat()
    assert {entry.name: (entry.branch, entry.position) for entry in read_records(database_url).entries} == {
        "before": ("", 1),
        "main": ("1", 1),
        "left": ("1.1", 1),
        "right": ("1.2", 1),
        "between": ("", 2),
        "again": ("2", 1),
    }


async def test_what_its_loop_cancels_at_the_end_is_the_programs_own_decision(app: App) -> None:
    @DBOS.workflow(name="chat")
    def chat() -> list[str]:
        log: list[str] = []

        async def forever() -> None:
            try:
                await DBOS.recv_async("never", None)
            finally:
                log.append("cancelled")

        async def main() -> None:
            background = asyncio.create_task(forever())
            await child(1)  # Another workflow on this loop.
            await DBOS.recv_async("first", FOREVER)
            log.append(f"main ends, {background.done()}")

        asyncio.run(main())
        DBOS.recv("go", FOREVER)
        return log

    with SetWorkflowID("chat"):
        await DBOS.start_workflow_async(chat)
    await DBOS.send_async("chat", None, "first")
    await app.waiting("message", "chat", "go")
    await app.crash_and_restart()
    await DBOS.send_async("chat", None, "go")
    assert await DBOS.get_result_async("chat") == ["main ends, False", "cancelled"]


async def test_a_timeout_in_its_loop_is_replayed(app: App) -> None:
    @DBOS.workflow(name="chat")
    def chat() -> str:
        async def main() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await DBOS.recv_async("late", None)
            except TimeoutError:
                return await DBOS.run_step_async({"name": "after"}, lambda: "in vain")
            return "in time"

        found: str = asyncio.run(main())
        DBOS.recv("go", FOREVER)
        return found

    with SetWorkflowID("chat"):
        await DBOS.start_workflow_async(chat)
    await app.waiting("message", "chat", "go")
    await DBOS.send_async("chat", None, "late")
    await app.crash_and_restart()
    await DBOS.send_async("chat", None, "go")
    assert await DBOS.get_result_async("chat") == "in vain"


@pytest.mark.parametrize("changed", ["no loop", "no branch", "another step"])
async def test_code_that_runs_its_loop_no_more_is_noticed(app: App, changed: str) -> None:
    now = ["original"]

    @DBOS.workflow(name="chat")
    def chat() -> str:
        async def step(name: str) -> None:
            await DBOS.run_step_async({"name": name}, lambda: None)

        async def main() -> None:
            await step("one")
            if now[0] != "no branch":
                await asyncio.gather(step("left"), step("right"))
            await step("two" if now[0] != "another step" else "three")

        if now[0] != "no loop":
            asyncio.run(main())
        DBOS.recv("go", FOREVER)
        DBOS.run_step({"name": "effect"}, lambda: effects.append(1))
        return "ended"

    effects: list[int] = []
    with SetWorkflowID("chat"):
        await DBOS.start_workflow_async(chat)
    await app.waiting("message", "chat", "go")
    await app.crash()
    now[0] = changed
    await app.launch()
    await DBOS.send_async("chat", None, "go")
    with pytest.raises(DBOSUnexpectedStepError):
        await DBOS.get_result_async("chat")
    now[0] = "original"
    await app.crash_and_restart()
    assert await DBOS.get_result_async("chat") == "ended"
    assert effects == [1]


def test_ctrl_c_in_its_loop_records_nothing(database_url: str) -> None:
    """`asyncio.run` cancels its task first; that is no decision of the program."""
    tries: list[int] = []

    @DBOS.workflow(name="chat")
    def chat() -> str:
        async def main() -> str:
            tries.append(1)
            if len(tries) == 1:
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            return str(await DBOS.recv_async("topic", FOREVER))

        return asyncio.run(main())

    with running(database_url) as here:
        with pytest.raises(KeyboardInterrupt), SetWorkflowID("w"):
            chat()
        wait_until(lambda: len(tries) == 2)
        here.await_waiting(1)
        DBOS.send("w", "got", "topic")
        assert DBOS.get_result("w") == "got"
