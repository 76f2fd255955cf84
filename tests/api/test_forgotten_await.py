"""A forgotten `await` is asked for, by the name of the function, wherever its coroutine gets to."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Face, off_loop
from tidings import DBOS, JSONSerializer, PickleSerializer, SendMessage, SetWorkflowID, WorkflowHandle
from tidings.error import DBOSRunEndedError, DBOSSerializationError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.serialization import dump
from tidings.slips import called_name, slip_of


async def fetch(name: str = "") -> str:
    """Fetch something."""
    return name


class Bank:
    """Something with a method to await."""

    async def balance(self) -> int:
        return 1


async def numbers() -> AsyncIterator[int]:
    """Give numbers."""
    yield 1


def lines() -> Iterator[str]:
    """Give lines."""
    yield ""


class Later:
    """Something to await that is no coroutine."""

    def __await__(self) -> Any:
        yield


@dataclasses.dataclass
class Order:
    """Holds anything."""

    price: Any


async def _task() -> Any:
    task = asyncio.ensure_future(Bank().balance())
    await task
    return task


async def _future() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    return future


async def _gathered() -> Any:
    gathered = asyncio.gather(fetch(), fetch())
    await gathered
    return gathered


async def _plain(make: Callable[[], Any]) -> Any:
    return make()


@contextlib.contextmanager
def opened() -> Iterator[str]:
    """Be a context manager."""
    yield ""


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[str]:
    """Be a context manager to enter with `async with`."""
    yield ""


WAITING: dict[str, tuple[Callable[[], Any], str]] = {
    "coroutine": (partial(_plain, fetch), r"the coroutine fetch\(\) .*await missing\? Write: await fetch\(\.\.\.\)"),
    "method": (
        partial(_plain, lambda: Bank().balance()),
        r"the coroutine Bank\.balance\(\) .*await missing\? Write: await Bank\.balance\(\.\.\.\)",
    ),
    "operation": (
        partial(_plain, lambda: DBOS.get_event_async("w", "key")),
        r"the coroutine DBOS\.get_event_async\(\) .*await missing\? Write: await DBOS\.get_event_async\(\.\.\.\)",
    ),
    "task": (_task, r"the task of Bank\.balance\(\) .*await missing\? Await it, and pass its result"),
    "future": (_future, r"a future .*await missing\?"),
    "gather": (_gathered, r"a future .*await missing\?"),
    "awaitable": (partial(_plain, Later), r"an awaitable \(Later\) .*await missing\?"),
    "thread's": (partial(_plain, concurrent.futures.Future), r"a future .*pass what its result\(\) returns"),
    "async generator": (
        partial(_plain, numbers),
        r"the async generator numbers\(\) .*\[each async for each in numbers\(\.\.\.\)\]",
    ),
    "generator": (partial(_plain, lines), r"the generator lines\(\) .*list\(lines\(\.\.\.\)\)"),
    "stream": (
        partial(_plain, lambda: DBOS.read_stream_async("w", "log")),
        r"the values of the stream 'log' of workflow 'w' .*\[each async for each in \.\.\.\]",
    ),
    "handle": (
        partial(_plain, lambda: WorkflowHandle("w", DBOS)),
        r"the handle on workflow 'w' .*pass its workflow_id, or what its get_result\(\) returns",
    ),
}


@contextlib.asynccontextmanager
async def forgotten(make: Callable[[], Any]) -> AsyncIterator[Any]:
    """Give what was not awaited; at the end nobody is warned of it."""
    value = await make()
    yield value
    if asyncio.iscoroutine(value):
        value.close()


def _within(value: Any) -> list[tuple[Any, str]]:
    return [
        (value, "$"),
        ({"a": [1, value]}, "$.a[1]"),
        ((1, {"b": (value,)}), "$[1].b[0]"),
        (Order(value), "$.price"),
        ([Order([value])], "$[0].price[0]"),
    ]


@pytest.mark.parametrize(("make", "says"), WAITING.values(), ids=WAITING)
async def test_wherever_it_lies_in_a_value(make: Callable[[], Any], says: str) -> None:
    async with forgotten(make) as value:
        for whole, path in _within(value):
            with pytest.raises(DBOSSerializationError, match=says) as raised:
                dump(JSONSerializer(), whole, "the message")
            assert str(raised.value).startswith(f"the message: {path}: ")
            assert raised.value.path == path
            assert " at 0x" not in str(raised.value)


async def test_a_def_is_not_told_to_await(app: App) -> None:
    """Where no event loop runs, the code is in a def. What can be written there is named."""
    cases: list[tuple[Callable[[], Any], str]] = [
        (fetch, r"the coroutine fetch\(\).*; a def cannot await it\. .*: DBOS\.run_step\(None, fetch, \.\.\.\)"),
        (lambda: Bank().balance(), r"DBOS\.run_step\(None, Bank\.balance, \.\.\.\); or make the def an async def"),
        (lambda: DBOS.recv_async("t"), r"a def cannot await it\. Write: DBOS\.recv\(\.\.\.\)$"),
        (Later, r"an awaitable \(Later\).*; a def cannot await it\. Make it an async def"),
    ]

    @DBOS.workflow()
    def order(number: int) -> None:
        make, says = cases[number]
        value = make()
        for call in (lambda: DBOS.set_event("key", [value]), lambda: DBOS.recv(value)):
            with pytest.raises((DBOSSerializationError, TypeError), match=says) as raised:
                call()
            assert "await missing" not in str(raised.value)
        if asyncio.iscoroutine(value):
            value.close()

    for number in range(len(cases)):
        await off_loop(order, number)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (map(str, "ab"), r"an object of map cannot be stored; make it a list: list\(\.\.\.\)"),
        (zip("ab", "cd", strict=True), r"an object of zip .*: list"),
        (filter(None, "ab"), r"an object of filter .*: list"),
        (enumerate("ab"), r"an object of enumerate .*: list"),
        (reversed([1]), r"an object of list_reverseiterator .*: list"),
        (iter({1}), r"an object of set_iterator .*: list"),
        (itertools.chain("ab", "cd"), r"an object of chain .*: list"),
        (range(3), r"an object of range .*: list"),
        ({1: 2}.keys(), r"an object of dict_keys .*: list"),
        ({1: 2}.values(), r"an object of dict_values .*: list"),
        ({1: 2}.items(), r"an object of dict_items .*: list"),
        (opened(), r"the context manager opened\(\) .*; write with opened\(\.\.\.\) as value, and pass the value"),
        (connected(), r"the context manager connected\(\) .*; write async with connected\(\.\.\.\) as value"),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_what_is_gone_through_or_entered_is_no_value(value: Any, says: str) -> None:
    for whole, path in _within(value):
        with pytest.raises(DBOSSerializationError, match=says) as raised:
            dump(JSONSerializer(), whole, "the message")
        assert str(raised.value).startswith(f"the message: {path}: ")


@pytest.mark.parametrize("kind", ["coroutine", "method", "task", "future", "async generator", "generator", "thread's"])
async def test_another_serializer_asks_too(kind: str) -> None:
    make, says = WAITING[kind]
    async with forgotten(make) as value:
        for whole, path in _within(value):
            with pytest.raises(DBOSSerializationError, match=says) as raised:
                dump(PickleSerializer(), whole, "the message")
            assert str(raised.value).startswith(f"the message: {path}: ")


def test_another_serializer_says_what_else_it_cannot_take() -> None:
    circle: list[Any] = [len]  # A function, which pickle takes.
    circle.append(circle)
    with pytest.raises(DBOSSerializationError, match=r"the message cannot be stored: PickleSerializer failed with"):
        dump(PickleSerializer(), [circle, {1: DBOS}, memoryview(b"")], "the message")
    deep: Any = memoryview(b"")
    for _ in range(400):
        deep = [deep]
    with pytest.raises(DBOSSerializationError, match=r"cannot be stored"):
        dump(PickleSerializer(), deep, "the message")


async def test_wherever_a_value_is_given(app: App, face: Face) -> None:
    """Arguments, results of workflows and steps, messages, events, items of streams: nothing is written."""
    remedy = r"await missing\? Write: await fetch\(" if isinstance(face, Awaiting) else r"a def cannot await it\. "
    says = rf"the coroutine fetch\(\) cannot be stored; {remedy}"
    refused: list[str] = []

    async def refuse(what: str, call: Callable[[], Any]) -> None:
        with pytest.raises(DBOSSerializationError, match=says) as raised:
            await call()
        assert what in str(raised.value)
        refused.append(what)

    async with forgotten(partial(_plain, fetch)) as value:

        @face.step()
        async def step() -> Any:
            return [value]  # Alone, it would be awaited.

        @face.workflow()
        async def returns_it(*_: Any) -> Any:
            return {"price": value}

        @face.workflow()
        async def order(*_: Any) -> None:
            await refuse("the event 'key'", partial(face.set_event, "key", value))
            await refuse("the value for the stream 'log'", partial(face.write_stream, "log", value))
            await refuse("the message to workflow 'w'", partial(face.send, "w", value))
            await refuse("the result of step", step)
            await refuse("the arguments of workflow", partial(face.start, returns_it, value))

        await (await face.start(order, workflow_id="w")).get_result()
        await refuse("the message to workflow 'w'", partial(face.send, "w", [value]))
        bulk = [SendMessage("w", 1), SendMessage("w", value)]
        await refuse("message 1 to workflow 'w'", partial(face.send_bulk, bulk))
        await refuse("the arguments of workflow", partial(face.start, order, 1, value))
        await refuse("the result of workflow 'r'", (await face.start(returns_it, workflow_id="r")).get_result)
    counts = app.rows.counts()
    assert (counts["workflows"], counts["messages"], counts["events"], counts["stream_items"]) == (2, 0, 0, 0)
    assert len(refused) == 9


@pytest.mark.parametrize(("make", "says"), WAITING.values(), ids=WAITING)
async def test_wherever_an_id_a_key_or_a_time_is_given(app: App, make: Callable[[], Any], says: str) -> None:
    async with forgotten(make) as value:
        calls: dict[str, Callable[[], Any]] = {
            "destination_id": lambda: DBOS.send_async(value, 1),
            "topic": lambda: DBOS.send_async("w", 1, value),
            "idempotency_key": lambda: DBOS.send_async("w", 1, idempotency_key=value),
            "workflow_id": lambda: DBOS.get_event_async(value, "key"),
            "event key": lambda: DBOS.get_event_async("w", value),
            "timeout_seconds": lambda: DBOS.get_event_async("w", "key", value),
            "offset": lambda: DBOS.read_stream_offset_async("w", "log", value),
            "wait_first": lambda: DBOS.wait_first_async([value]),
            "limit": lambda: DBOS.list_workflows_async(limit=value),
        }
        if "handle" in says:
            del calls["wait_first"]
        for what, call in calls.items():
            with pytest.raises(TypeError, match=says.replace(" .*", ".*")) as raised:
                await call()
            assert what in str(raised.value)
        with pytest.raises(TypeError, match="workflow_id must be a string"), SetWorkflowID(value):
            pass


@pytest.mark.parametrize("value", [1, None, "text", b"", [], {}, (), Order(1), object(), 1.5, True, ValueError()])
def test_a_value_is_no_slip(value: Any) -> None:
    assert slip_of(value) is None


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (fetch, "fetch"),
        (partial(fetch, "a"), "fetch"),
        (Bank().balance, "Bank.balance"),
        (Bank.balance, "Bank.balance"),
        (len, "len"),
        (DBOS.send, "DBOS.send"),
    ],
)
def test_a_function_is_called_by_its_name(function: Any, name: str) -> None:
    assert called_name(function) == name


# --- tasks that fail and that no code awaits -------------------------------------------------------------------


@pytest.mark.parametrize("calls", ["a step", "nothing"])
async def test_a_failed_task_that_a_workflow_does_not_await_is_logged_with_the_workflow(
    app: App, log: Sightings, calls: str
) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def lose() -> None:
        if calls == "a step":
            await DBOS.run_step_async({"name": "len"}, len, "")
        raise ValueError("lost")

    async def awaited() -> None:
        raise KeyError("found")

    @DBOS.workflow(name="losing")
    async def losing() -> None:
        left = asyncio.create_task(lose())
        while not left.done():
            await DBOS.sleep_async(0)
        del left
        gc.collect()
        with contextlib.suppress(KeyError):
            await asyncio.create_task(awaited())

    with SetWorkflowID("w"):
        await losing()
    while not reported:  # The thread that ran the step may hold the task for a moment.
        gc.collect()
        await asyncio.sleep(0)
    said = (
        f"a task of workflow 'w', which runs {lose.__qualname__}(), has failed, and no code of the workflow awaits it: "
        "ValueError: lost. So the workflow did not notice. Await the task, or create it in an asyncio.TaskGroup"
    )
    assert [line for line in log.seen if "a task of" in line] == [said]
    assert len(reported) == 1, "asyncio reports its traceback"


async def test_tasks_of_other_code_and_of_steps_are_asyncios_alone(app: App, log: Sightings) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def lose() -> None:
        raise ValueError("lost")

    @DBOS.step(name="losing in a step")
    async def step() -> None:
        await asyncio.wait([asyncio.create_task(lose())])

    @DBOS.workflow(name="losing")
    async def losing() -> None:
        await step()

    await losing()
    await asyncio.wait([asyncio.create_task(lose())])
    gc.collect()
    assert len(reported) == 2
    assert not [line for line in log.seen if "a task of" in line]


@pytest.mark.parametrize("end", [DBOSShutdownError(), DBOSRunEndedError("w", "gone"), DBOSWorkflowCancelledError("w")])
async def test_a_task_that_ends_with_its_run_has_not_failed(app: App, log: Sightings, end: BaseException) -> None:
    """The process stops, say, and another one continues the workflow."""
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def ends() -> None:
        raise end

    @DBOS.workflow(name="leaving")
    async def leaving() -> None:
        await asyncio.wait([asyncio.create_task(ends())])

    await leaving()
    gc.collect()
    assert len(reported) == 1
    assert not [line for line in log.seen if "a task of" in line]
