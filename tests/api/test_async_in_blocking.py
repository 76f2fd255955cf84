"""Async functions in blocking workflows: `DBOS.run_step` runs them, on the event loop of the launch if there is one."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.app import App
from tests.support.engines import running
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import DBOSMaxStepRetriesExceeded, DBOSRecordedError, DBOSStepTimeoutError

FOREVER = 3_600.0


async def fetch(number: int = 1) -> int:
    await asyncio.sleep(0.001)
    return number + 1


class Fetching:
    async def __call__(self, number: int) -> int:
        return await fetch(number)

    async def fetch(self, number: int) -> int:
        return await fetch(number)


@DBOS.step(name="a step")
async def a_step(number: int) -> int:
    return await fetch(number)


ASYNC: dict[str, Callable[[int], Any]] = {
    "function": fetch,
    "partial": functools.partial(fetch),
    "method": Fetching().fetch,
    "object": Fetching(),
    "lambda": lambda number: fetch(number + 0),
    "step": a_step,
}


@pytest.mark.parametrize("options", [{}, {"timeout_seconds": 60}])
@pytest.mark.parametrize("kind", ASYNC)
def test_a_blocking_workflow_runs_an_async_function_as_a_step(
    database_url: str, kind: str, options: dict[str, Any]
) -> None:
    @DBOS.workflow(name="order")
    def order() -> int:
        return DBOS.run_step({"name": "fetch", **options}, ASYNC[kind], 1)  # type: ignore[call-overload, no-any-return]

    with running(database_url), SetWorkflowID("w"):
        assert order() == 2
    [entry] = read_records(database_url).entries
    assert (entry.name, entry.output) == ("fetch", "2")


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_its_result_is_recorded_and_it_runs_on_the_loop_of_the_launch(app: App, point: Point) -> None:
    here = asyncio.get_running_loop()
    runs: list[str] = []

    async def work(name: str) -> str:
        answer: asyncio.Future[str] = here.create_future()  # As a pool's of this loop.
        here.call_soon(answer.set_result, name)
        runs.append(name)
        await DBOS.set_event_async("from", name)
        return f"{await answer} of {DBOS.workflow_id}, run {runs.count(name)}"

    @DBOS.workflow(name="order")
    def order(name: str) -> list[str]:
        found = [DBOS.run_step({"name": "work"}, work, f"{name}{n}") for n in range(3)]
        DBOS.set_event("found", found)
        DBOS.recv("go", FOREVER)
        return found

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(order, name)
        seen = await DBOS.get_event_async(name, "found", FOREVER)
        await DBOS.send_async(name, None, "go", idempotency_key="go")
        assert await DBOS.get_result_async(name) == seen
        assert await DBOS.get_event_async(name, "from") == f"{name}2"

    assert await app.crash_at_every_commit(point, run) >= 5


def test_it_fails_and_is_tried_again_as_any_step(database_url: str) -> None:
    tries: list[int] = []
    gave_up: list[str] = []

    async def flaky() -> int:
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    async def hang() -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            gave_up.append("cancelled")

    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    async def may_retry(error: BaseException) -> bool:
        await asyncio.sleep(0)
        return len(tries) < 5

    def fail() -> None:
        tries.append(1)
        raise ValueError("never")

    @DBOS.workflow(name="order")
    def order() -> list[Any]:
        found: list[Any] = []
        at_once = {"retries_allowed": True, "interval_seconds": 0}
        tries_of: list[tuple[dict[str, Any], Callable[[], Any]]] = [
            (at_once, flaky),
            ({"timeout_seconds": 0.01}, hang),
            ({}, cancel_itself),
            ({**at_once, "max_attempts": 9, "should_retry": may_retry}, fail),
            ({**at_once, "max_attempts": 2}, fail),
        ]
        for options, function in tries_of:
            try:
                found.append(DBOS.run_step(options, function))  # type: ignore[call-overload]
            except Exception as error:
                found.append(type(error).__name__)
        return found

    with running(database_url):
        found = order()
    errors = (DBOSStepTimeoutError, DBOSRecordedError, ValueError, DBOSMaxStepRetriesExceeded)
    assert found == [3, *(error.__name__ for error in errors)]
    assert gave_up == ["cancelled"]


async def test_a_step_whose_loop_is_closed_is_run_again_elsewhere(app: App) -> None:
    """Its loop is that of the launch; the thread of the workflow learns of its end, and records nothing."""
    runs: list[str] = []
    is_running = threading.Event()

    async def work() -> str:
        runs.append(threading.current_thread().name)
        is_running.set()
        if len(runs) == 1:
            await asyncio.sleep(FOREVER)
        return runs[-1]

    @DBOS.workflow(name="order")
    def order() -> str:
        return DBOS.run_step({"name": "work"}, work)

    await DBOS.destroy_async()

    async def main() -> None:
        await DBOS.launch_async()
        with SetWorkflowID("order"):
            await DBOS.start_workflow_async(order)
        await asyncio.to_thread(is_running.wait)

    await asyncio.to_thread(asyncio.run, main())
    assert await DBOS.get_result_async("order") == "tidings-loop"
    assert len(runs) == 2


def test_outside_of_workflows_and_in_steps_it_is_run_too(database_url: str) -> None:
    def outer() -> int:
        return DBOS.run_step(None, fetch, 5)

    @DBOS.workflow(name="order")
    def order() -> int:
        return DBOS.run_step({"name": "outer"}, outer)

    with running(database_url), SetWorkflowID("w"):
        assert DBOS.run_step(None, fetch, 1) == 2
        assert order() == 6
    assert [entry.name for entry in read_records(database_url).entries] == ["outer"]
