"""Functions that a workflow has other threads call without its context: all that they would do unrecorded is refused.

What the same threads do for other code is not.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from tests.support.app import App
from tests.support.engines import running
from tests.support.face import off_loop
from tests.support.records import read_records
from tidings import DBOS, DBOSClient, SendMessage, SetWorkflowID, WorkflowHandle
from tidings.error import DBOSContextError

FOREVER = 3_600.0

Function = Callable[[], Any]
Way = Callable[[Function], Any]


@DBOS.workflow(name="child of a stray")
def child() -> None: ...


@DBOS.workflow(name="async child of a stray")
async def async_child() -> None: ...


CALLS: dict[str, Function] = {
    "DBOS.send": lambda: DBOS.send("other", 1),
    "DBOS.send_bulk": lambda: DBOS.send_bulk([SendMessage("other", 1)]),
    "DBOS.recv": lambda: DBOS.recv(timeout_seconds=0),
    "DBOS.set_event": lambda: DBOS.set_event("key", 1),
    "DBOS.get_event": lambda: DBOS.get_event("other", "key", 0),
    "DBOS.get_all_events": lambda: DBOS.get_all_events("other"),
    "DBOS.write_stream": lambda: DBOS.write_stream("log", 1),
    "DBOS.close_stream": lambda: DBOS.close_stream("log"),
    "DBOS.read_stream": lambda: list(DBOS.read_stream("other", "log")),
    "DBOS.read_stream_offset": lambda: DBOS.read_stream_offset("other", "log", 0),
    "DBOS.sleep": lambda: DBOS.sleep(0),
    "DBOS.start_workflow": lambda: DBOS.start_workflow(child),
    "the workflow 'child of a stray'": child,
    "DBOS.get_result": lambda: WorkflowHandle("other", DBOS).get_result(),
    "DBOS.get_workflow_status": lambda: DBOS.get_workflow_status("other"),
    "DBOS.retrieve_workflow": lambda: DBOS.retrieve_workflow("other"),
    "DBOS.as_completed": lambda: list(DBOS.as_completed([WorkflowHandle("other", DBOS)])),
    "DBOS.wait_first": lambda: DBOS.wait_first([WorkflowHandle("other", DBOS)]),
    "DBOS.list_workflows": DBOS.list_workflows,
    "DBOS.cancel_workflow": lambda: DBOS.cancel_workflow("other"),
    "DBOS.run_parallel": lambda: DBOS.run_parallel(lambda: None),
    "step 'len'": lambda: DBOS.run_step({"name": "len"}, len, ""),
}


async def _read_stream() -> list[Any]:
    return [each async for each in DBOS.read_stream_async("other", "log")]


ASYNC_CALLS: dict[str, Callable[[], Any]] = {
    "DBOS.send_async": lambda: DBOS.send_async("other", 1),
    "DBOS.get_event_async": lambda: DBOS.get_event_async("other", "key", 0),
    "DBOS.set_event_async": lambda: DBOS.set_event_async("key", 1),
    "DBOS.sleep_async": lambda: DBOS.sleep_async(0),
    "DBOS.start_workflow_async": lambda: DBOS.start_workflow_async(async_child),
    "the workflow 'async child of a stray'": async_child,
    "DBOS.read_stream_async": _read_stream,
    "DBOS.retrieve_workflow_async": lambda: DBOS.retrieve_workflow_async("other"),
    "step 'len'": lambda: DBOS.run_step_async({"name": "len"}, len, ""),
}


def refused(called: str, function: Function) -> str:
    """Call a function that is refused, and return which call the error names."""
    with pytest.raises(DBOSContextError) as caught:
        function()
    text = str(caught.value)
    assert text.startswith(f"{called} was called in a thread that workflow 'w' has started, which does not have the")
    assert (
        "it would not be recorded, and would be done again at each recovery. Run the function with DBOS.run_paral"
        in text
    )
    assert "await asyncio.to_thread(function)" in text
    return called


def all_refused() -> list[str]:
    """Make all calls."""
    said = [refused(called, function) for called, function in CALLS.items()]
    said += [refused(called, partial(_run, make)) for called, make in ASYNC_CALLS.items()]
    return said


def _run(make: Function) -> None:
    async def awaits() -> None:
        await make()

    asyncio.run(awaits())


# --- how a workflow gets other threads to call a function -------------------------------------------------


def by_executor(function: Function) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def settling(result: Future[Any], function: Function) -> Callable[..., None]:
    """Return a function that settles `result` with what `function` returns or raises."""

    def settle(_: object = None) -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    return settle


def by_thread(function: Function) -> Any:
    result: Future[Any] = Future()
    thread = threading.Thread(target=settling(result, function))
    thread.start()
    thread.join()
    return result.result()


def by_timer(function: Function) -> Any:
    result: Future[Any] = Future()
    threading.Timer(0, settling(result, function)).start()
    return result.result()


def by_callback(function: Function) -> Any:
    result: Future[Any] = Future()
    may_end = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(may_end.wait)
        future.add_done_callback(settling(result, function))
        may_end.set()
    return result.result()


def by_thread_of_executor(function: Function) -> Any:
    return by_executor(lambda: by_thread(function))


def by_thread_pool(function: Function) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(function)


WAYS: list[Way] = [by_executor, by_thread, by_timer, by_callback, by_thread_of_executor, by_thread_pool]


@pytest.mark.parametrize("by", WAYS, ids=lambda way: way.__name__)
def test_all_operations_are_refused_in_a_thread_without_the_context_of_the_workflow(database_url: str, by: Way) -> None:
    @DBOS.workflow(name="straying")
    def straying() -> list[str]:
        said: list[str] = by(all_refused)
        return said

    with running(database_url), SetWorkflowID("w"):
        assert straying() == [*CALLS, *ASYNC_CALLS]
        assert [each.workflow_id for each in DBOS.list_workflows()] == ["w"]
    assert read_records(database_url).entries == []


def test_a_thread_pool_that_is_there_already_is_no_way_around(database_url: str) -> None:
    with ThreadPool(1) as pool, running(database_url), SetWorkflowID("w"):
        ways: list[Way] = [
            pool.apply,
            lambda function: pool.apply_async(func=function).get(),
            lambda function: pool.map(lambda _: function(), [0]),
            lambda function: pool.starmap_async(lambda _: function(), [(0,)]).get(),
            lambda function: list(pool.imap(lambda _: function(), [0])),
            lambda function: list(pool.imap_unordered(func=lambda _: function(), iterable=[0])),
            lambda function: _by_callback_of(pool, function),
        ]

        @DBOS.workflow(name="straying")
        def straying() -> None:
            for way in ways:
                way(lambda: refused("DBOS.sleep", CALLS["DBOS.sleep"]))

        straying()
        pool.apply(DBOS.sleep, (0,))  # Outside of the workflow its threads are free.


def _by_callback_of(pool: ThreadPool, function: Function) -> None:
    result: Future[Any] = Future()
    pool.apply_async(int, callback=settling(result, function))
    result.result()


def test_a_client_is_refused_with_the_remedy_for_clients(database_url: str) -> None:
    with running(database_url), DBOSClient(system_database_url=database_url) as client, SetWorkflowID("w"):

        @DBOS.workflow(name="straying")
        def straying() -> None:
            by_executor(lambda: client.send("w", 1))

        with pytest.raises(
            DBOSContextError, match=r"^DBOSClient\.send was called in a thread .*Call the client in a s"
        ):
            straying()
        assert DBOS.list_messages("w") == []


async def test_a_function_in_an_executor_of_an_async_workflow_is_refused(app: App) -> None:
    @DBOS.workflow(name="straying")
    async def straying() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: refused("DBOS.send", CALLS["DBOS.send"]))
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, lambda: refused("DBOS.send", CALLS["DBOS.send"]))

    with SetWorkflowID("w"):
        await straying()


# --- other code --------------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_threads_and_loops_that_a_workflow_starts_are_free_for_other_code(
    app: App, gate: threading.Event
) -> None:
    """A library may start its pool, or a thread with an event loop, when a workflow is the first to use it."""
    shared: list[Any] = []

    @DBOS.workflow(name="straying")
    def straying() -> None:
        loop, pool, thread_pool = asyncio.new_event_loop(), ThreadPoolExecutor(1), ThreadPool(1)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        pool.submit(abs, 1).result()
        thread_pool.apply(abs, (1,))
        shared.extend((loop, pool, thread_pool, thread))
        DBOS.set_event("begun", True)
        DBOS.recv("go", FOREVER)

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(straying)
    await DBOS.get_event_async("w", "begun")
    loop, pool, thread_pool, thread = shared

    def other_code() -> None:
        asyncio.run_coroutine_threadsafe(DBOS.send_async("w", 1), loop).result()
        pool.submit(DBOS.send, "w", 2).result()
        thread_pool.apply(DBOS.send, ("w", 3))
        DBOS.send("w", None, "go")

    await off_loop(other_code)
    await handle.get_result()
    assert [each.value for each in await DBOS.list_messages_async("w")][:3] == [1, 2, 3]
    loop.call_soon_threadsafe(loop.stop)
    await off_loop(thread.join)
    pool.shutdown()
    thread_pool.close()
    thread_pool.join()
    loop.close()


@pytest.mark.parametrize("by", WAYS, ids=lambda way: way.__name__)
def test_outside_of_workflows_and_in_steps_all_threads_are_free(database_url: str, by: Way) -> None:
    def work() -> str:
        by(lambda: DBOS.send("w", "from a thread"))
        by(lambda: asyncio.run(DBOS.send_async("w", "from a loop")))
        return "sent"

    @DBOS.workflow(name="straying")
    def straying() -> str:
        return DBOS.run_step({"name": "work"}, work)

    with running(database_url):
        with SetWorkflowID("w"):
            assert straying() == "sent"
        assert work() == "sent"
        assert len(DBOS.list_messages("w")) == 4


def test_a_thread_that_outlives_its_workflow_is_free(database_url: str, gate: threading.Event) -> None:
    sent: Future[None] = Future()

    def later() -> None:
        gate.wait()
        DBOS.send("w", 1)
        sent.set_result(None)

    @DBOS.workflow(name="straying")
    def straying() -> None:
        threading.Thread(target=later).start()

    with running(database_url):
        with SetWorkflowID("w"):
            straying()
        gate.set()
        sent.result(timeout=60)
