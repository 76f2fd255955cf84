"""Steps side by side in blocking workflows: `DBOS.run_parallel`; and threads that would not record them, refused."""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.engines import running
from tests.support.records import read_records
from tests.support.scarce import failing
from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import DBOSAwaitedWorkflowCancelledError, DBOSContextError

FOREVER = 3_600.0

calls: list[int] = []


@DBOS.step(name="pay")
def pay(number: int) -> int:
    calls.append(number)
    return number


@DBOS.step(name="pay later")
async def pay_later(number: int) -> int:
    calls.append(number)
    return number


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


# --- threads of the program's own ---------------------------------------------------------------------


def by_map(function: Callable[[int], Any]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(function, range(3)))


def by_submit(function: Callable[[int], Any]) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(lambda: function(0)).result()


def by_thread(function: Callable[[int], Any]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function(0)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def by_thread_of_thread(function: Callable[[int], Any]) -> None:
    by_thread(lambda _: by_map(function))


def by_thread_pool(function: Callable[[int], Any]) -> None:
    with ThreadPool(1) as pool:
        pool.map(function, range(3))


BY: dict[str, Callable[[Callable[[int], Any]], None]] = {
    each.__name__: each for each in (by_map, by_submit, by_thread, by_thread_of_thread, by_thread_pool)
}
STEPS: dict[str, Callable[[int], Any]] = {
    "step": pay,
    "async step": lambda number: asyncio.run(pay_later(number)),
    "run_step": lambda number: DBOS.run_step({"name": "pay"}, pay, number),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("by", BY)
def test_a_step_in_a_thread_that_a_workflow_starts_is_refused_with_the_remedy(
    sqlite_url: str, by: str, step: str
) -> None:
    @DBOS.workflow(name="paying")
    def paying() -> str:
        with pytest.raises(DBOSContextError, match=r"in a thread that workflow 'w' has started.*DBOS\.run_parallel"):
            BY[by](STEPS[step])
        return "unharmed"

    with running(sqlite_url), SetWorkflowID("w"):
        assert paying() == "unharmed"
    assert calls == []
    assert read_records(sqlite_url).entries == []


async def test_a_step_in_an_executor_without_the_context_of_an_async_workflow_is_refused(app: App) -> None:
    @DBOS.workflow(name="paying")
    async def paying() -> None:
        await asyncio.get_running_loop().run_in_executor(None, pay, 1)

    with pytest.raises(DBOSContextError, match=r"await asyncio\.to_thread\(function\)"):
        await paying()
    assert calls == []


def test_a_pool_outside_of_workflows_and_in_a_step_calls_steps_as_plain_functions(database_url: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def outer() -> int:
        with ThreadPoolExecutor() as inside:
            return sum(inside.map(pay, range(3)))

    @DBOS.workflow(name="waiting")
    def waiting() -> int:
        list(pool.map(abs, range(8)))  # Its threads are started by the workflow, and serve others too.
        begun.set()
        go.wait()
        return DBOS.run_step({"name": "outer"}, outer)

    with ThreadPoolExecutor(2) as pool, running(database_url), SetWorkflowID("w"):
        handle = DBOS.start_workflow(waiting)
        begun.wait()
        assert list(pool.map(pay, range(3))) == [0, 1, 2]
        assert list(pool.map(lambda number: asyncio.run(pay_later(number)), range(2))) == [0, 1]
        go.set()
        assert handle.get_result() == 3
    assert [entry.name for entry in read_records(database_url).entries] == ["outer"]


# --- run_parallel -------------------------------------------------------------------------------------


@DBOS.workflow(name="doubling in parallel")
async def doubling(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_functions_in_parallel_replay_right_whenever_the_process_dies(app: App, point: Point) -> None:
    runs: list[str] = []

    @DBOS.step(name="work")
    def work(name: str) -> str:
        runs.append(name)
        return f"{name}, run {runs.count(name)}"

    def tool(name: str, number: int) -> list[Any]:
        DBOS.send(name, number, f"topic {number}")
        return [
            work(f"{name} {number} first"),
            DBOS.recv(f"topic {number}", FOREVER),
            DBOS.start_workflow(doubling, number).get_result(),
            work(f"{name} {number} second"),
        ]

    @DBOS.workflow(name="order")
    def order(name: str) -> list[Any]:
        found: list[Any] = [work(f"{name} before")]
        found += DBOS.run_parallel(*(partial(tool, name, number) for number in range(3)))
        found += DBOS.run_parallel(partial(work, f"{name} again"), lambda: "plain")
        DBOS.set_event("found", found)
        DBOS.recv("go", FOREVER)
        return found

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            await DBOS.start_workflow_async(order, name)
        seen = await DBOS.get_event_async(name, "found", FOREVER)
        await DBOS.send_async(name, None, "go", idempotency_key="go")
        assert await DBOS.get_result_async(name) == seen
        assert [each[1:3] for each in seen[1:4]] == [[0, 0], [1, 2], [2, 4]]
        assert seen[5] == "plain"

    assert await app.crash_at_every_commit(point, run) > 10


def test_they_run_at_once_and_their_places_do_not_depend_on_which_is_quicker(database_url: str) -> None:
    both = threading.Barrier(2)

    def meet(name: str) -> str:
        return DBOS.run_step({"name": name}, lambda: (both.wait(), name)[1])

    @DBOS.workflow(name="order")
    def order() -> list[str]:
        return DBOS.run_parallel(partial(meet, "a"), partial(meet, "b"))

    with running(database_url), SetWorkflowID("w"):
        assert order() == ["a", "b"]
    entries = read_records(database_url).entries
    assert {entry.name: entry.branch for entry in entries} == {"a": "t1", "b": "t2"}


def test_one_that_fails_fails_the_call_when_all_have_ended(database_url: str) -> None:
    ended: list[str] = []

    def fail(name: str) -> None:
        DBOS.run_step({"name": name}, lambda: None)
        raise ValueError(name)

    def end() -> None:
        DBOS.run_step({"name": "last"}, lambda: ended.append("last"))

    @DBOS.workflow(name="order")
    def order() -> str:
        try:
            DBOS.run_parallel(end, partial(fail, "first"), partial(fail, "second"), end)
        except ValueError as error:
            return str(error)
        return "nothing"

    with running(database_url):
        assert order() == "first"
    assert ended == ["last", "last"]


def test_it_needs_no_more_than_one_thread_and_is_for_steps_and_other_code_too(database_url: str) -> None:
    def twice() -> list[int]:
        return DBOS.run_parallel(partial(pay, 1), partial(pay, 2))

    @DBOS.workflow(name="order")
    def order() -> list[list[int]]:
        return [twice(), DBOS.run_step({"name": "twice"}, twice)]

    with running(database_url, max_executor_threads=1):
        assert twice() == [1, 2]
        assert DBOS.start_workflow(order).get_result() == [[1, 2], [1, 2]]
        assert DBOS.run_parallel() == []
        with pytest.raises(RuntimeError, match=r"asyncio\.gather\(asyncio\.to_thread\(function\), \.\.\.\)"):
            asyncio.run(_call(twice))
    assert [entry.name for entry in read_records(database_url).entries].count("pay") == 2


async def _call(function: Callable[[], Any]) -> Any:
    return function()


async def test_a_cancellation_ends_all_of_them(app: App) -> None:
    @DBOS.workflow(name="order")
    def order() -> list[Any]:
        return DBOS.run_parallel(*(partial(DBOS.recv, f"topic {number}", FOREVER) for number in range(3)))

    with SetWorkflowID("order"):
        await DBOS.start_workflow_async(order)
    for number in range(3):
        await app.waiting("message", "order", f"topic {number}")
    await DBOS.cancel_workflow_async("order")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await DBOS.get_result_async("order")


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_it_may_be_called_within_itself_and_replays_right(app: App, colour: str) -> None:
    told: list[list[Any]] = []

    def inner(name: str) -> list[Any]:
        found = [DBOS.run_step({"name": f"{name} before"}, lambda: f"{name} before")]
        found += DBOS.run_parallel(*(partial(leaf, f"{name}{number}") for number in range(2)))
        return [*found, DBOS.run_step({"name": f"{name} after"}, lambda: f"{name} after")]

    def leaf(name: str) -> str:
        return DBOS.run_step({"name": name}, lambda: name)

    def only_inner() -> list[str]:
        return DBOS.run_parallel(partial(leaf, "x"), partial(leaf, "y"))

    def all_of_them() -> list[Any]:
        return DBOS.run_parallel(partial(inner, "a"), partial(inner, "b"), only_inner)

    @DBOS.workflow(name="order")
    def order() -> None:
        told.append(all_of_them())
        DBOS.recv("go", FOREVER)

    @DBOS.workflow(name="async order")
    async def async_order() -> None:
        told.append(await asyncio.to_thread(all_of_them))
        await DBOS.recv_async("go", FOREVER)

    with SetWorkflowID("order"):
        await DBOS.start_workflow_async(order if colour == "blocking" else async_order)
    await app.waiting("message", "order", "go")
    branches = {entry.name: entry.branch for entry in read_records(app.database_url).entries}
    assert branches["a1"] == f"{branches['a before']}.t2"
    await app.crash_and_restart()
    await DBOS.send_async("order", None, "go")
    await DBOS.get_result_async("order", timeout_seconds=30)
    first, again = told
    assert first == again == [*([f"{n} before", f"{n}0", f"{n}1", f"{n} after"] for n in "ab"), ["x", "y"]]


async def test_one_within_another_fails_with_the_error_of_its_function_and_needs_no_more_threads(app: App) -> None:
    def fail() -> None:
        raise ValueError(DBOS.run_step({"name": "why"}, lambda: "no"))

    def inner() -> str:
        try:
            DBOS.run_parallel(fail, partial(pay, 1))
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    @DBOS.workflow(name="order")
    def order() -> list[Any]:
        return DBOS.run_parallel(inner, inner)

    await app.relaunch(max_executor_threads=1)
    handle = await DBOS.start_workflow_async(order)
    assert await handle.get_result(timeout_seconds=30) == ["caught no"] * 2


async def test_n2_it_waits_for_descriptors_and_its_workflow_sees_nothing_of_it(app: App, log: Sightings) -> None:
    @DBOS.workflow(name="order")
    def order() -> list[int]:
        return DBOS.run_parallel(partial(pay, 1), partial(pay, 2))

    with failing(socket, "socketpair", lambda: OSError(errno.EMFILE, "Too many open files")) as refused:
        handle = await DBOS.start_workflow_async(order)
        await refused.until(lambda seen: len(seen) > 2)
    assert await handle.get_result(timeout_seconds=30) == [1, 2]
    await log.until(lambda seen: any("works again" in each for each in seen))
    assert sum("event loop for DBOS.run_parallel has failed" in each for each in log.seen) == 1
