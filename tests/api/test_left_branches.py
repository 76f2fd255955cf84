"""Branches that nobody awaits any more, for their run was cut short: asyncio says nothing of them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import Awaiting
from tidings import DBOS, SetWorkflowID

Reported = list[dict[str, Any]]


@pytest.fixture
async def reported() -> AsyncIterator[Reported]:
    """What asyncio reports to the handler of this loop."""
    loop, reported = asyncio.get_running_loop(), Reported()
    former = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield reported
    loop.set_exception_handler(former)


async def reports(reported: Reported) -> list[str]:
    """What was reported, also of tasks that are collected now. What tidings kept of their runs goes first."""
    await DBOS.destroy_async()
    gc.collect()
    await asyncio.sleep(0)
    return [repr(context.get("exception", context["message"])) for context in reported]


async def shut_down(app: App) -> None:
    await DBOS.destroy_async()


async def cancel(app: App) -> None:
    await DBOS.cancel_workflow_async("w")


async def crash(app: App) -> None:
    await app.crash()


@pytest.mark.parametrize("end", [shut_down, cancel, crash])
async def test_the_end_of_a_run_is_not_reported_for_each_branch(
    app: App, awaiting: Awaiting, reported: Reported, end: Callable[[App], Awaitable[None]]
) -> None:
    cut_short = asyncio.Event()

    @awaiting.workflow()
    async def wait() -> None:
        waits = [DBOS.sleep_async(3_600), DBOS.recv_async("topic", 3_600), DBOS.get_event_async("nobody", "key", 3_600)]
        tasks = [asyncio.create_task(each) for each in waits]
        try:
            await asyncio.wait(tasks)
            await tasks[0]
        finally:
            cut_short.set()

    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(wait)
    await app.waits.until(lambda seen: len(seen) >= 3)
    await end(app)
    await cut_short.wait()
    assert await reports(reported) == []


async def test_an_error_of_the_program_is_reported(app: App, awaiting: Awaiting, reported: Reported) -> None:
    failed = asyncio.Event()

    @awaiting.workflow()
    async def fail() -> None:
        async def branch() -> None:
            await DBOS.sleep_async(0)
            failed.set()
            raise ValueError("of the program")

        branches = [asyncio.create_task(branch())]
        await failed.wait()
        await DBOS.sleep_async(0)
        branches.clear()

    await (await DBOS.start_workflow_async(fail)).get_result()
    assert await reports(reported) == ["ValueError('of the program')"]


async def test_a_branch_that_the_workflow_forgot_is_reported(app: App, awaiting: Awaiting, reported: Reported) -> None:
    @awaiting.workflow()
    async def forget() -> None:
        forgotten.add(asyncio.create_task(DBOS.recv_async("topic", 3_600)))
        await asyncio.wait([asyncio.create_task(DBOS.sleep_async(0))])

    forgotten: set[asyncio.Task[Any]] = set()
    await (await DBOS.start_workflow_async(forget)).get_result()
    await asyncio.wait(forgotten)
    forgotten.clear()
    (report,) = await reports(reported)
    assert "it has ended" in report
