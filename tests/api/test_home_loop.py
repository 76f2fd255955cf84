"""Async workflows run on the event loop on which the program launched, while it runs: its pools belong to that loop."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import App
from tests.support.engines import aside, wait_until
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.records import read_records
from tidings import DBOS, DBOSConfig, SetWorkflowID
from tidings.engine.process import REGISTRY

FOREVER = 3_600.0


class Pool:
    """As a database's or a web client's: its futures belong to the loop on which it was opened."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def fetch(self) -> int:
        answer: asyncio.Future[int] = self.loop.create_future()
        self.loop.call_soon_threadsafe(self.loop.call_later, 0.001, answer.set_result, 42)
        return await answer


def order_with(pool: Pool) -> Any:
    @DBOS.step(name="query")
    async def query() -> int:
        return await pool.fetch()

    @DBOS.workflow(name="order")
    async def order() -> int:
        return await query() + await pool.fetch()

    return order


async def test_a_workflow_that_a_thread_starts_runs_on_the_loop_of_the_launch(app: App) -> None:
    order = order_with(Pool())
    handle = await asyncio.to_thread(DBOS.start_workflow, order)
    assert await asyncio.to_thread(handle.get_result) == 84


async def test_a_workflow_that_another_loop_starts_or_awaits_runs_on_the_loop_of_the_launch(app: App) -> None:
    order = order_with(Pool())

    async def elsewhere() -> list[int]:
        handle = await DBOS.start_workflow_async(order)
        return [await handle.get_result(), await order()]

    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == [84, 84]


async def test_a_child_of_a_blocking_workflow_runs_on_the_loop_of_the_launch(app: App) -> None:
    order = order_with(Pool())

    @DBOS.workflow(name="parent")
    def parent() -> int:
        result: int = DBOS.start_workflow(order).get_result()
        return result

    assert await (await DBOS.start_workflow_async(parent)).get_result() == 84


async def test_a_recovered_workflow_runs_on_the_loop_of_the_launch(app: App) -> None:
    pool = Pool()

    @DBOS.workflow(name="order")
    async def order() -> int:
        await DBOS.recv_async("go", FOREVER)
        return await pool.fetch()

    with SetWorkflowID("order"):
        await asyncio.to_thread(DBOS.start_workflow, order)
    await app.waiting("message", "order", "go")
    await app.crash_and_restart()
    await DBOS.send_async("order", None, "go")
    assert await DBOS.get_result_async("order") == 42


async def test_a_blocking_launch_on_a_running_loop_makes_it_that_of_all_workflows(app: App) -> None:
    order = order_with(Pool())
    await DBOS.destroy_async()
    DBOS.launch()
    assert await asyncio.to_thread(lambda: DBOS.start_workflow(order).get_result()) == 84


async def test_it_runs_in_the_context_of_its_starter_wherever_that_is(app: App) -> None:
    @DBOS.workflow(name="asking")
    async def asking() -> tuple[str, str | None]:
        return threading.current_thread().name, DBOS.workflow_id

    def start() -> Any:
        with SetWorkflowID("its own"):
            return DBOS.start_workflow(asking).get_result()

    assert await asyncio.to_thread(start) == (threading.current_thread().name, "its own")


@pytest.fixture
def configured(database_url: str) -> Iterator[DBOSConfig]:
    """tidings, configured and not launched."""
    config: DBOSConfig = {"name": "test", "system_database_url": database_url, "application_version": "1"}
    DBOS(config=config)
    yield config
    DBOS.destroy(destroy_registry=True)
    REGISTRY.clear()


def where() -> str:
    return threading.current_thread().name


def test_after_the_loop_of_the_launch_was_closed_workflows_run_in_the_background(configured: DBOSConfig) -> None:
    @DBOS.workflow(name="waiting")
    async def waiting() -> list[str]:
        return [where(), await DBOS.recv_async("go", FOREVER), where()]

    async def main() -> None:
        await DBOS.launch_async()
        with SetWorkflowID("before"):
            await asyncio.to_thread(DBOS.start_workflow, waiting)

    asyncio.run(main())
    with SetWorkflowID("after"):
        DBOS.start_workflow(waiting)
    for workflow_id in ("before", "after"):
        DBOS.send(workflow_id, "going", "go")
        assert DBOS.get_result(workflow_id) == ["tidings-loop", "going", "tidings-loop"]


def test_after_the_loop_of_the_launch_was_stopped_workflows_run_in_the_background(configured: DBOSConfig) -> None:
    """It is not closed: whether anybody runs it again, nobody knows."""

    @DBOS.workflow(name="waiting")
    async def waiting() -> list[str]:
        return [await DBOS.recv_async("go", FOREVER), where()]

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(DBOS.launch_async())
        DBOS.destroy()

        async def main() -> None:
            await DBOS.launch_async()
            with SetWorkflowID("before"):
                await asyncio.to_thread(DBOS.start_workflow, waiting)
            await asyncio.to_thread(wait_until, has_begun_to_wait)

        def has_begun_to_wait() -> bool:
            return bool(read_records(str(configured["system_database_url"])).entries)

        loop.run_until_complete(main())
        with SetWorkflowID("after"):
            DBOS.start_workflow(waiting)
        for workflow_id in ("before", "after"):
            DBOS.send(workflow_id, "going", "go")
            assert DBOS.get_result(workflow_id) == ["going", "tidings-loop"]
        loop.run_until_complete(asyncio.sleep(0))  # What it had begun finds its execution over.
        assert DBOS.get_result("before") == ["going", "tidings-loop"]
    finally:
        loop.run_until_complete(_cancel_all())
        loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def test_without_a_loop_at_the_launch_a_workflow_runs_on_its_starters(configured: DBOSConfig) -> None:
    @DBOS.workflow(name="asking")
    async def asking() -> str:
        return where()

    DBOS.launch()
    assert DBOS.start_workflow(asking).get_result() == "tidings-loop"
    assert aside(lambda: asyncio.run(_called(asking))).result(timeout=PATIENCE_SECONDS) != "tidings-loop"


async def _called(asking: Any) -> Any:
    return await asking()
