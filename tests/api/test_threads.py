"""Functions in threads that an async workflow awaits, as agents call plain tools: what they call is the workflow's."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest

from tests.support.app import App, Sightings
from tests.support.engines import running
from tests.support.face import Gate
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import DBOSContextError

FOREVER = 3_600.0

InThread = Callable[..., Awaitable[Any]]


async def by_executor(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, function, *args)


async def by_pool(function: Callable[..., Any], *args: Any) -> Any:
    pool = ThreadPoolExecutor(1)
    future = asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, function, *args)
    pool.shutdown(wait=False)
    await asyncio.sleep(0)  # The thread may be quicker than its task is.
    return await future


async def by_anyio(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


HOW: dict[str, InThread] = {
    "to_thread": asyncio.to_thread,
    "executor": by_executor,
    "pool": by_pool,
    "anyio": by_anyio,
}


@pytest.fixture(params=HOW)
def in_thread(request: pytest.FixtureRequest) -> InThread:
    """How a function is called in a thread, and awaited."""
    return HOW[request.param]


@DBOS.workflow(name="doubling in threads")
def doubling(number: int) -> int:
    return 2 * number


def test_what_a_thread_calls_is_at_the_places_of_the_task_that_awaits_it(
    database_url: str, in_thread: InThread
) -> None:
    def step(name: str) -> int:
        return DBOS.run_step({"name": name}, threading.get_ident)

    def two(name: str) -> bool:
        return step(f"{name} 1") == step(f"{name} 2") == threading.get_ident()

    async def nothing() -> None:
        await in_thread(lambda: None)

    async def branch(name: str) -> None:
        await nothing()
        assert await in_thread(two, name)
        await DBOS.run_step_async({"name": f"{name} 3"}, lambda: None)

    async def late() -> None:
        await nothing()
        await DBOS.run_step_async({"name": "late 1"}, lambda: None)
        assert await in_thread(two, "late again")

    @DBOS.workflow(name="threading")
    async def threading_() -> None:
        assert await in_thread(two, "root")
        await nothing()
        await asyncio.gather(nothing(), branch("a"), branch("b"), late(), nothing())
        await in_thread(step, "end")

    with running(database_url), SetWorkflowID("w"):
        DBOS.start_workflow(threading_).get_result()
    assert {entry.name: (entry.branch, entry.position) for entry in read_records(database_url).entries} == {
        "root 1": ("", 1),
        "root 2": ("", 2),
        "a 1": ("t2", 1),
        "a 2": ("t2", 2),
        "a 3": ("t2", 3),
        "b 1": ("t3", 1),
        "b 2": ("t3", 2),
        "b 3": ("t3", 3),
        "late 1": ("t4", 1),
        "late again 1": ("t4", 2),
        "late again 2": ("t4", 3),
        "end": ("", 3),
    }


@pytest.mark.parametrize("quicker", ["first", "second"])
def test_the_branches_of_threads_do_not_depend_on_which_is_quicker(
    database_url: str, in_thread: InThread, quicker: str
) -> None:
    done = threading.Event()

    def pay(name: str) -> str:
        if name != quicker:
            done.wait()
        paid = DBOS.run_step({"name": f"pay {name}"}, lambda: name)
        done.set()
        return paid

    @DBOS.workflow(name="paying")
    async def paying() -> list[str]:
        return list(await asyncio.gather(in_thread(pay, "first"), in_thread(pay, "second")))

    with running(database_url), SetWorkflowID("w"):
        assert DBOS.start_workflow(paying).get_result() == ["first", "second"]
    entries = read_records(database_url).entries
    assert {entry.name: entry.branch for entry in entries} == {"pay first": "t1", "pay second": "t2"}


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_what_threads_call_replays_right_whenever_the_process_dies(app: App, point: Point) -> None:
    runs: list[str] = []

    @DBOS.step(name="weather")
    def weather(city: str) -> str:
        runs.append(city)
        return f"{city}, asked {runs.count(city)} times"

    def in_time(city: str) -> str:
        runs.append(city)
        return f"{city}, asked {runs.count(city)} times"

    async def anywhere(city: str) -> str:
        runs.append(city)
        return f"{city}, asked {runs.count(city)} times"

    def tool(name: str, number: int) -> list[Any]:
        found: list[Any] = [weather(f"{name} {number} {each}") for each in range(2)]
        found.append(DBOS.run_step({"name": "limited", "timeout_seconds": 60}, in_time, f"{name} limited"))
        found.append(DBOS.run_step({"name": "async"}, anywhere, f"{name} async"))
        DBOS.set_event(f"event {number}", number)
        DBOS.send(name, number, f"topic {number}")
        found.append(DBOS.recv(f"topic {number}", FOREVER))
        found.append(doubling(number))
        found.append(DBOS.start_workflow(doubling, number).get_result())
        DBOS.sleep(0)
        return found

    @DBOS.workflow(name="agent")
    async def agent(name: str) -> list[Any]:
        in_thread = app.in_turn(HOW, point, name)
        found = [await in_thread(weather, f"{name} alone")]
        found += await asyncio.gather(*(in_thread(tool, name, number) for number in range(2)))
        await DBOS.set_event_async("found", found)
        await DBOS.recv_async("go", FOREVER)
        return found

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(agent, name)
        seen = await DBOS.get_event_async(name, "found", FOREVER)
        await DBOS.send_async(name, None, "go", idempotency_key="go")
        assert await DBOS.get_result_async(name) == seen
        assert [each[4:] for each in seen[1:]] == [[0, 0, 0], [1, 2, 2]]

    assert await app.crash_at_every_commit(point, run) > 10


async def test_errors_of_a_thread_are_those_of_its_steps(app: App, in_thread: InThread) -> None:
    def fail() -> None:
        raise ValueError("no")

    def tool() -> str:
        try:
            DBOS.run_step({"name": "failing"}, fail)
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    @DBOS.workflow(name="agent")
    async def agent() -> list[str]:
        found = [await in_thread(tool)]
        try:
            await in_thread(DBOS.run_step, {"name": "failing too"}, fail)
        except ValueError as error:
            found.append(f"raised {error}")
        return found

    assert await agent() == ["caught no", "raised no"]


async def test_a_step_whose_await_is_cancelled_is_replayed_as_given_up(app: App, in_thread: InThread) -> None:
    hangs = Gate()
    begun = Sightings()

    def hang() -> None:
        begun.note(1)
        hangs.wait()
        DBOS.set_event("written too late", 1)

    @DBOS.workflow(name="agent")
    async def agent() -> list[Any]:
        found: list[Any] = []
        tool = asyncio.ensure_future(in_thread(DBOS.run_step, {"name": "hanging"}, hang))
        if not begun.seen:
            await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(begun.until(bool)))
        tool.cancel()
        try:
            await tool
        except asyncio.CancelledError:
            found.append("cancelled")
        found.append(await DBOS.run_step_async({"name": "after"}, lambda: "after"))
        await DBOS.recv_async("go", FOREVER)
        return found

    with SetWorkflowID("agent"):
        await DBOS.start_workflow_async(agent)
    await app.waiting("message", "agent", "go")
    hangs.open()
    await DBOS.send_async("agent", None, "go")
    assert await DBOS.get_result_async("agent") == ["cancelled", "after"]
    assert await DBOS.get_all_events_async("agent") == {}
    steps = await DBOS.list_workflow_steps_async("agent")
    assert [step["function_name"] for step in steps] == ["hanging", "after", "DBOS.recv"]


async def test_a_timeout_over_a_thread_that_waits_is_replayed(app: App, in_thread: InThread) -> None:
    @DBOS.workflow(name="agent")
    async def agent() -> list[Any]:
        try:
            async with asyncio.timeout(0.05):
                return [await in_thread(DBOS.recv, "late", None)]
        except TimeoutError:
            found = ["too late", await in_thread(DBOS.recv, "next", FOREVER)]
        await DBOS.recv_async("go", FOREVER)
        return found

    with SetWorkflowID("agent"):
        await DBOS.start_workflow_async(agent)
    await app.waiting("message", "agent", "next")
    for topic in ("late", "next"):
        await DBOS.send_async("agent", topic, topic)
    await app.waiting("message", "agent", "go")
    await app.crash_and_restart()
    await DBOS.send_async("agent", None, "go")
    assert await DBOS.get_result_async("agent") == ["too late", "next"]


def all_of(futures: list[asyncio.Future[Any]]) -> Awaitable[Any]:
    return asyncio.gather(*futures)


async def wait_for_all(futures: list[asyncio.Future[Any]]) -> list[Any]:
    await asyncio.wait(futures)
    return [future.result() for future in futures]


async def as_they_come(futures: list[asyncio.Future[Any]]) -> list[Any]:
    return [await each for each in asyncio.as_completed(futures)]


@pytest.mark.parametrize("how", [all_of, wait_for_all, as_they_come])
async def test_several_threads_of_one_task_are_refused_with_the_remedy(
    app: App, how: Callable[[list[asyncio.Future[Any]]], Awaitable[Any]]
) -> None:
    @DBOS.step(name="pay")
    def pay(number: int) -> int:
        return number

    @DBOS.workflow(name="paying")
    async def paying() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(None, contextvars.copy_context().run, pay, n) for n in range(3)]
        found: list[int] = await how(calls)
        return found

    with pytest.raises(
        DBOSContextError,
        match="awaits that thread together with others",
    ):
        await paying()
    assert app.rows.counts()["entries"] == 0


async def test_several_threads_of_one_task_that_it_awaits_one_after_the_other_are_in_that_order(app: App) -> None:
    @DBOS.step(name="pay")
    def pay(number: int) -> int:
        return number

    @DBOS.workflow(name="paying")
    async def paying() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(None, contextvars.copy_context().run, pay, n) for n in range(3)]
        await DBOS.run_step_async({"name": "before"}, lambda: None)
        return [await call for call in calls[::-1]]

    with SetWorkflowID("paying"):
        assert await paying() == [2, 1, 0]
    steps = await DBOS.list_workflow_steps_async("paying")
    assert [step["output"] for step in steps] == [None, 2, 1, 0]


async def test_threads_of_code_outside_of_workflows_and_of_steps_are_left_alone(app: App, in_thread: InThread) -> None:
    @DBOS.step(name="inner")
    def inner() -> str | None:
        return DBOS.workflow_id

    async def outer() -> Any:
        return await in_thread(inner)

    @DBOS.workflow(name="order")
    async def order() -> Any:
        return await DBOS.run_step_async({"name": "outer"}, outer)

    assert await in_thread(inner) is None
    with SetWorkflowID("order"):
        assert await order() == "order"
    assert [step["function_name"] for step in await DBOS.list_workflow_steps_async("order")] == ["outer"]
