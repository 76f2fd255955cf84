"""Workflows and steps: W1 to W3 of the requirements."""

import ast
import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

import tidings
from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Body, Face, Gate, _plain, off_loop
from tidings import DBOS, DBOSConfiguredInstance, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.error import (
    DBOSContextError,
    DBOSMaxStepRetriesExceeded,
    DBOSNonExistentWorkflowError,
    DBOSRecordedError,
)

R = TypeVar("R")

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


class OutOfStock(Exception):
    """An error of the application's that can be rebuilt."""


class Vague(Exception):
    """One that cannot: it holds on to something that no database can keep."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.connection = threading.Lock()


@dataclass(frozen=True)
class Shop:
    """Somebody with methods."""

    name: str

    async def greet(self, who: str) -> str:
        return f"{self.name} greets {who}"


# --- W1: workflows and handles ------------------------------------------------------------------------


async def test_w1_a_workflow_function_stays_callable_and_runs_durably(app: App, face: Face) -> None:
    @face.workflow()
    async def add(first: int, *, second: int = 2) -> int:
        """Add."""
        return first + second

    assert await add(1, second=3) == 4
    assert add.__doc__ == "Add."
    assert app.rows.run("select status, output from {workflows}") == [("SUCCESS", "4")]


async def test_w1_start_workflow_returns_a_handle(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow(name="adding")
    async def add(first: int, second: timedelta) -> Any:
        await face.recv("go", FOREVER)
        return first * second

    handle = await face.start(add, 2, timedelta(seconds=1), workflow_id="sum")
    await app.waiting("message", "sum", "go")
    before = await handle.get_status()
    assert (before.workflow_id, before.status, before.name) == ("sum", "PENDING", "adding")
    assert before.input == {"args": [2, timedelta(seconds=1)], "kwargs": {}}
    assert (before.output, before.error, before.parent_workflow_id, before.app_version) == (None, None, None, "1")
    clock.advance(1)
    await face.send("sum", None, "go")
    assert await handle.get_result() == timedelta(seconds=2)
    after = await handle.get_status()
    assert (after.status, after.output, after.created_at) == ("SUCCESS", timedelta(seconds=2), before.created_at)
    assert after.updated_at == before.created_at + 1_000
    retrieved = await face.retrieve_workflow("sum")
    assert await retrieved.get_result() == timedelta(seconds=2)
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.retrieve_workflow("nobody")
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.get_result("nobody")
    assert await face.get_workflow_status("nobody") is None


async def test_w1_get_result_gives_up_at_its_timeout_and_the_workflow_goes_on(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def order() -> str:
        await face.recv("go", None)
        return "ended"

    handle = await face.start(order)
    waiting = asyncio.ensure_future(handle.get_result(timeout_seconds=5))
    await app.waiting("end", handle.workflow_id)
    clock.advance(5)
    with pytest.raises(TimeoutError, match="did not end within 5 s; it is running, in process"):
        await waiting
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result(timeout_seconds=5) == "ended"


@pytest.mark.parametrize(
    ("error", "classes", "message"),
    [
        (OutOfStock("shoes", 3), [OutOfStock], "('shoes', 3)"),
        (KeyError("a"), [KeyError], "'a'"),
        (StopIteration("odd"), [RuntimeError], "coroutine raised StopIteration"),
        (Vague("lost"), [Vague, DBOSRecordedError], "lost"),
    ],
    ids=["kept", "built in", "StopIteration", "recorded"],
)
async def test_w1_an_error_is_raised_alike_by_call_handle_and_after_a_crash(
    app: App, face: Face, error: Exception, classes: list[type[Exception]], message: str
) -> None:
    @face.workflow()
    async def fails() -> None:
        raise error

    with pytest.raises(classes[0]) as called:
        await fails()
    handle = await face.start(fails, workflow_id="fails")
    with pytest.raises(classes[0]) as by_handle:
        await handle.get_result()
    await app.crash_and_restart()
    with pytest.raises(classes[0]) as afterwards:
        await face.get_result("fails")
    status = await face.get_workflow_status("fails")
    assert status.status == "ERROR"
    for each in (called.value, by_handle.value, afterwards.value, status.error):
        assert (str(each), [isinstance(each, kind) for kind in classes]) == (message, [True] * len(classes))


async def test_w1_a_workflow_id_is_an_idempotency_key(app: App, face: Face) -> None:
    runs = []

    @face.workflow()
    async def order(number: int) -> int:
        runs.append(number)
        await face.recv("go", FOREVER)
        return number

    first = await face.start(order, 1, workflow_id="order")
    second = await face.start(order, 2, workflow_id="order")
    called = asyncio.ensure_future(face.start(order, 3, workflow_id="order"))
    await called
    await face.send("order", None, "go")
    assert [await first.get_result(), await second.get_result()] == [1, 1]
    with SetWorkflowID("order"):
        assert await order(4) == 1
    await app.crash_and_restart()
    assert await (await face.start(order, 5, workflow_id="order")).get_result() == 1
    assert runs == [1]


async def test_w1_of_many_starts_at_once_under_one_id_one_counts(app: App, face: Face) -> None:
    runs = []

    @face.workflow()
    async def order(number: int) -> int:
        runs.append(number)
        return number

    starts = (face.start(order, number, workflow_id="order") for number in range(20))
    handles = await asyncio.gather(*starts)
    assert {await handle.get_result() for handle in handles} == {*runs}
    assert len(runs) == 1


async def test_w1_set_workflow_id_names_the_first_workflow_of_its_block(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> str | None:
        return DBOS.workflow_id

    with SetWorkflowID("first"):
        assert await order() == "first"
        assert await order() not in ("first", None)
        with SetWorkflowID("inner"):
            assert await order() == "inner"
    assert await order() not in ("first", "inner", None)


async def test_w1_code_can_ask_where_it_is(app: App, face: Face) -> None:
    @face.step()
    async def where() -> Any:
        return [DBOS.workflow_id, DBOS.step_id]

    @face.workflow()
    async def order() -> Any:
        return [await where(), [DBOS.workflow_id, DBOS.step_id], await where(), DBOS.application_version]

    handle = await face.start(order, workflow_id="order")
    assert await handle.get_result() == [["order", 1], ["order", None], ["order", 2], "1"]
    assert await where() == [None, None]


async def test_w1_steps_may_be_methods_and_any_function(app: App, face: Face) -> None:
    shop = Shop("Ada")

    class Till:
        @face.step()
        async def take(self, amount: int) -> int:
            return amount + 1

    till = Till()

    @face.workflow()
    async def order() -> list[Any]:
        return [
            await till.take(1),
            await face.run_step({"name": "sum"}, sum, [1, 2]),
            await face.run_step(None, len, "abc"),
        ]

    handle = await face.start(order)
    assert await handle.get_result() == [2, 3, 3]
    names = app.rows.run("select name from {entries} order by ordinal")
    assert [name.rpartition(".")[2] for (name,) in names] == ["take", "sum", "len"]
    assert await shop.greet("Bob") == "Ada greets Bob"


async def test_w1_a_method_can_be_a_workflow_where_its_object_is_a_value(app: App, face: Face) -> None:
    greet = face.workflow(name="Shop.greet")(Shop.greet)
    assert await greet(Shop("Ada"), "Bob") == "Ada greets Bob"
    handle = await face.start(greet, Shop("Ada"), "Eve", workflow_id="greeting")
    assert await handle.get_result() == "Ada greets Eve"


def _names_of_parameters() -> set[str]:
    """Return what the library calls any parameter of its own, and what Python's own functions in between do."""
    sources = Path(tidings.__file__).parent.rglob("*.py")
    found = {
        node.arg for each in sources for node in ast.walk(ast.parse(each.read_text())) if isinstance(node, ast.arg)
    }
    assert {"func", "options", "self", "cls", "args", "kwargs"} <= found
    return found | {"callable", "fn", "callback", "context", "coro", "name", "loop", "target", "executor", "msg"}


async def test_w1_no_name_of_a_parameter_is_taken(app: App, face: Face) -> None:
    """Whatever the library itself calls a parameter, a workflow or step of the user's may have one of that name."""
    names = {each: f"the {each}" for each in sorted(_names_of_parameters())}
    own = {each: text for each, text in names.items() if each not in {"self", "where"}}

    @face.workflow()
    async def echo(func: str, self: str, cls: str, options: str, **more: str) -> dict[str, str]:
        return {"func": func, "self": self, "cls": cls, "options": options, **more}

    @face.step()
    async def step(func: str, self: str, cls: str, options: str, **more: str) -> dict[str, str]:
        return {"func": func, "self": self, "cls": cls, "options": options, **more}

    async def plain(**given: str) -> dict[str, str]:
        return given

    @face.workflow()
    async def caller() -> list[dict[str, str]]:
        return [
            await echo(**names),
            await (await face.start_workflow(echo, **names)).get_result(),
            await step(**names),
            await face.run_step(None, step, **names),
            await face.run_step({"timeout_seconds": FOREVER}, step, **names),
            await face.run_step({"name": "plain"}, _in_colour_of(face, plain), **names),
        ]

    @DBOS.dbos_class("Parrot")
    class Parrot(DBOSConfiguredInstance):
        @face.workflow()
        async def echo(self, **given: str) -> dict[str, str]:
            return given

    assert await echo(**names) == names
    assert await (await face.start_workflow(echo, **names)).get_result() == names
    assert await step(**names) == names
    assert await face.run_step(None, step, **names) == names
    assert await caller() == [names] * 6
    parrot = Parrot("polly")
    assert await parrot.echo(**own) == own
    assert await (await face.start_workflow(parrot.echo, **own)).get_result() == own


def _in_colour_of(face: Face, body: Body[..., R]) -> Callable[..., Any]:
    """Return a function that the face can run as a step."""
    return body if isinstance(face, Awaiting) else _plain(body)


async def test_w1_a_def_workflow_is_started_from_a_loop_and_an_async_one_from_a_thread(app: App) -> None:
    @DBOS.workflow()
    def blocks() -> int:
        return DBOS.run_step(None, lambda: 1)

    @DBOS.workflow()
    async def awaits() -> int:
        return await DBOS.run_step_async(None, lambda: 2)

    assert await (await DBOS.start_workflow_async(blocks)).get_result() == 1
    handle = await off_loop(DBOS.start_workflow, awaits)
    assert await off_loop(handle.get_result) == 2


# --- W2: what is done is done ---------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_w2_a_completed_step_never_runs_again(app: App, face: Face, point: Point) -> None:
    runs: dict[str, list[int]] = {}
    completed: dict[str, list[int]] = {}

    @face.step()
    async def work(name: str, number: int) -> int:
        runs[name].append(number)
        return number * 10

    @face.workflow()
    async def order(name: str) -> list[int]:
        results = []
        for number in range(4):
            results.append(await work(name, number))
            completed[name].append(number)
        return results

    async def run(name: str) -> None:
        runs.setdefault(name, [])
        completed.setdefault(name, [])
        await face.start(order, name, workflow_id=name)
        assert await face.get_result(name) == [0, 10, 20, 30]
        # What returned to the workflow before the crash did not run after it.
        assert sum(runs[name].count(number) for number in range(4)) <= 5
        assert all(
            runs[name].count(number) == 1 or number == max(runs[name], key=runs[name].count) for number in range(4)
        )

    commits = await app.crash_at_every_commit(point, run)
    assert commits == 6  # The start, four steps, the end.


async def test_w2_a_step_that_finally_failed_is_not_run_again_either(app: App, face: Face) -> None:
    runs = []

    @face.step()
    async def fails(error: Exception) -> None:
        runs.append(error)
        raise error

    @face.workflow()
    async def order() -> list[str]:
        errors = []
        for error in (OutOfStock("shoes", 3), Vague("lost")):
            try:
                await fails(error)
            except Exception as raised:
                errors.append(f"{type(raised).__name__}: {raised}")
        await face.recv("go", FOREVER)
        return errors

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    expected = ["OutOfStock: ('shoes', 3)", "Vague: lost"]
    assert await face.get_result(handle.workflow_id) == expected
    assert len(runs) == 2


async def test_w2_a_step_that_a_crash_cut_short_runs_again(app: App, face: Face) -> None:
    begun, gate = Gate(), Gate()
    runs = []

    @face.step()
    async def work() -> int:
        runs.append(1)
        begun.open()
        await gate.opened()
        return len(runs)

    @face.workflow()
    async def order() -> int:
        return await work()

    handle = await face.start(order)
    await begun.opened()
    await app.crash()
    gate.open()
    await app.launch()
    assert await face.get_result(handle.workflow_id) == 2


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
async def test_w2_parallel_branches_replay_right_whatever_crashes(app: App, awaiting: Awaiting, point: Point) -> None:
    """Coroutines of several steps each, of one name, that overtake each other differently at each run."""
    pace = 0

    @DBOS.step()
    async def step(branch: int, number: int) -> str:
        for _ in range((branch * 7 + number * 5 + pace) % 11):
            await asyncio.sleep(0)  # A turn of the loop, not a time.
        return f"{branch}.{number}"

    async def walk(branch: int) -> list[Any]:
        walked: list[Any] = [await step(branch, number) for number in range(3)]
        await DBOS.set_event_async(f"branch {branch}", walked[-1])
        if branch < 2:
            walked.append(await asyncio.gather(*(step(branch * 10, number) for number in range(2))))
        walked.append(await DBOS.recv_async(f"topic {branch}", FOREVER))
        return walked

    @DBOS.workflow()
    async def order() -> list[Any]:
        nonlocal pace
        pace += 1
        return [await asyncio.gather(*(walk(branch) for branch in range(3))), await step(9, 9)]

    async def run(name: str) -> None:
        await awaiting.start(order, workflow_id=name)
        for branch in range(3):
            await DBOS.send_async(name, branch, f"topic {branch}", idempotency_key=f"{branch}")
        branches = [[f"{branch}.{number}" for number in range(3)] for branch in range(3)]
        expected = [
            [*branches[0], ["0.0", "0.1"], 0],
            [*branches[1], ["10.0", "10.1"], 1],
            [*branches[2], 2],
        ]
        assert await DBOS.get_result_async(name) == [expected, "9.9"]
        assert await DBOS.get_all_events_async(name) == {f"branch {branch}": f"{branch}.2" for branch in range(3)}

    assert await app.crash_at_every_commit(point, run) > 5


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
@pytest.mark.parametrize("how", ["call", "start"])
async def test_w2_a_child_workflow_is_not_started_twice(app: App, face: Face, how: str, point: Point) -> None:
    @face.workflow()
    async def child(number: int) -> str:
        return f"child {number} of {DBOS.workflow_id is not None}"

    @face.workflow()
    async def parent() -> list[str]:
        if how == "call":
            return [await child(number) for number in range(2)]
        handles = [await face.start_workflow(child, number) for number in range(2)]
        return [await handle.get_result() for handle in handles]

    async def run(name: str) -> None:
        await face.start(parent, workflow_id=name)
        assert await face.get_result(name) == ["child 0 of True", "child 1 of True"]

    commits = await app.crash_at_every_commit(point, run)
    assert commits >= 5
    children = app.rows.run(
        "select parent_id, count(*) from {workflows} where parent_id is not null group by parent_id"
    )
    assert sorted(children) == sorted((str(number), 2) for number in range(1, commits + 2))


async def test_w2_a_child_has_the_id_it_was_given_and_its_errors_reach_the_parent(app: App, face: Face) -> None:
    @face.workflow()
    async def child(error: Exception | None) -> str | None:
        if error is not None:
            raise error
        return DBOS.workflow_id

    @face.workflow()
    async def parent() -> list[Any]:
        with SetWorkflowID("child"):
            named = await child(None)
        failed = ""
        try:
            await child(OutOfStock("shoes"))
        except OutOfStock as error:
            failed = str(error)
        handle = await face.start(child, None, workflow_id="child")
        return [named, failed, await handle.get_result(), (await handle.get_status()).parent_workflow_id]

    handle = await face.start(parent, workflow_id="parent")
    assert await handle.get_result() == ["child", "shoes", "child", "parent"]


# --- W3: retries and sleep --------------------------------------------------------------------------------


async def test_w3_a_failed_step_is_tried_again_after_longer_and_longer_pauses(
    app: App, face: Face, clock: ManualClock
) -> None:
    tries: list[int] = []

    @face.step(retries_allowed=True, interval_seconds=2, backoff_rate=3, max_attempts=4)
    async def flaky() -> int:
        tries.append(clock.now_ms())
        if len(tries) < 4:
            raise ConnectionError(len(tries))
        return len(tries)

    @face.workflow()
    async def order() -> int:
        return await flaky()

    handle = await face.start(order)
    for pause in (2, 6, 18):
        await clock.awaited(clock.now_ms() + pause * 1_000)
        clock.advance(pause)
    assert await handle.get_result() == 4
    assert [later - earlier for earlier, later in itertools.pairwise(tries)] == [2_000, 6_000, 18_000]


async def test_w3_a_step_that_failed_as_often_as_it_may_says_so_with_all_errors(app: App, face: Face) -> None:
    runs = []

    @face.step(retries_allowed=True, interval_seconds=0, max_attempts=3, name="flaky")
    async def flaky() -> None:
        runs.append(1)
        raise OutOfStock(len(runs))

    @face.workflow()
    async def order() -> list[Any]:
        try:
            await flaky()
        except DBOSMaxStepRetriesExceeded as error:
            await face.recv("go", FOREVER)
            return [str(error), [repr(each) for each in error.errors]]
        return []

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    text, errors = await face.get_result(handle.workflow_id)
    assert text.startswith("step 'flaky' failed 3 times")
    assert errors == ["OutOfStock(1)", "OutOfStock(2)", "OutOfStock(3)"]
    assert len(runs) == 3


async def test_w3_errors_that_cannot_be_kept_do_not_hide_that_a_step_failed_as_often_as_it_may(
    app: App, face: Face
) -> None:
    @face.step(retries_allowed=True, interval_seconds=0, max_attempts=2, name="vague")
    async def vague() -> None:
        raise Vague("no")

    @face.workflow()
    async def order() -> list[Any]:
        try:
            await vague()
        except DBOSMaxStepRetriesExceeded as error:
            await face.recv("go", FOREVER)
            return [f"{type(each).__name__} {each}" for each in error.errors]
        return []

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == ["Vague no"] * 2


async def test_w3_without_retries_the_first_error_is_the_steps(app: App, face: Face) -> None:
    @face.step(retries_allowed=False, max_attempts=5)
    async def fails() -> None:
        raise OutOfStock("shoes")

    @face.workflow()
    async def order() -> None:
        await fails()

    with pytest.raises(OutOfStock, match="shoes"):
        await order()


@pytest.mark.parametrize("awaitable", [False, True])
async def test_w3_should_retry_decides_by_the_error(app: App, face: Face, awaitable: bool) -> None:
    asked = []

    def should_retry(error: BaseException) -> bool:
        asked.append(repr(error))
        return isinstance(error, ConnectionError)

    async def should_retry_async(error: BaseException) -> bool:
        return should_retry(error)

    is_async = awaitable and isinstance(face, Awaiting)
    errors = [ConnectionError("1"), ConnectionError("2"), OutOfStock("3")]

    @face.step(
        retries_allowed=True,
        interval_seconds=0,
        max_attempts=10,
        should_retry=should_retry_async if is_async else should_retry,
    )
    async def fails() -> None:
        raise errors[len(asked)]

    @face.workflow()
    async def order() -> None:
        await fails()

    with pytest.raises(OutOfStock, match="3"):
        await order()
    assert asked == [repr(error) for error in errors]


async def test_w3_should_retry_may_call_no_operation(app: App, face: Face) -> None:
    """It would take a place in the workflow, of which a replay, which does not ask again, knew nothing."""

    async def should_retry_async(error: BaseException) -> bool:
        await DBOS.set_event_async("asked", True)
        return False

    def should_retry(error: BaseException) -> bool:
        DBOS.start_workflow(other)
        return False

    decide = should_retry_async if isinstance(face, Awaiting) else should_retry

    @face.workflow()
    async def other() -> None:
        """Do nothing."""

    @face.step(name="work", retries_allowed=True, should_retry=decide)
    async def fails() -> None:
        raise OutOfStock("shoes")

    @face.workflow()
    async def order() -> Any:
        with pytest.raises(DBOSContextError, match=f"{decide.__name__}'.*should_retry of step 'work'"):
            await fails()
        await face.set_event("here", True)
        return await face.recv("go", 3_600)

    handle = await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await face.send("w", "on", "go")
    assert await face.get_result("w") == "on"
    names = [step["function_name"] for step in await DBOS.list_workflow_steps_async(handle.workflow_id)]
    assert names == ["work", "DBOS.set_event", "DBOS.recv"]


def test_a_decorator_without_parentheses_says_what_to_write() -> None:
    def work() -> None:
        """Do nothing."""

    for decorator, name in ((DBOS.workflow, "workflow"), (DBOS.step, "step")):
        with pytest.raises(TypeError, match=rf"write @DBOS.{name}\(\), with parentheses, above .*work"):
            decorator(work)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"write @DBOS.{name}\(\), with parentheses, above .*work"):
            decorator(staticmethod(work))  # type: ignore[arg-type]

        with pytest.raises(TypeError, match=rf"@DBOS.{name} takes keywords only; write @DBOS.{name}\(name='work'\)"):
            decorator("work")  # type: ignore[arg-type]


async def test_w3_sleep_goes_on_where_the_crash_left_it(app: App, face: Face, clock: ManualClock) -> None:
    woke = []

    @face.workflow()
    async def order(seconds: float) -> str:
        await face.sleep(seconds)
        woke.append(clock.now_ms())
        return "slept"

    began = clock.now_ms()
    await face.start(order, 8, workflow_id="8")
    await face.start(order, 7.999, workflow_id="7.999")
    await app.waiting_for_time(2)
    clock.advance(5)
    await app.crash_and_restart()
    await app.waiting_for_time(2)
    clock.advance(2.999)
    assert await face.get_result("7.999") == "slept"
    clock.advance(0.001)
    assert await face.get_result("8") == "slept"
    assert [at - began for at in woke] == [7_999, 8_000]


async def test_w3_a_sleep_that_was_over_before_the_recovery_does_not_begin_anew(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def order() -> str:
        await face.sleep(FOREVER)
        await face.sleep(0)
        await face.recv("go", None)
        return "slept"

    handle = await face.start(order)
    await app.waiting_for_time()
    await app.crash()
    clock.advance(FOREVER)
    await app.launch()
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == "slept"


async def test_w3_sleep_outside_of_a_workflow_just_waits(app: App, face: Face, clock: ManualClock) -> None:
    sleeping = asyncio.ensure_future(face.sleep(FOREVER))
    await app.waiting_for_time()
    clock.advance(FOREVER)
    assert await sleeping is None
