"""Steps that take too long: W3 of the requirements. The time is a clock's that only the tests move.

`face.run_step` with a `def` function is the blocking step of either face: called by a blocking workflow, or in a worker
thread for an awaiting one.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Blocking, Face, Gate, off_loop
from tidings import DBOS, StepOptions
from tidings.engine.runs import scope as scopes
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSContextError,
    DBOSMaxStepRetriesExceeded,
    DBOSStepTimeoutError,
)
from tidings.serialization import dump

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

LIMIT: StepOptions = {"name": "step", "timeout_seconds": 5}


@pytest.fixture
async def never() -> AsyncIterator[Gate]:
    """A gate that stays closed for the length of the test. The threads left behind at it go when it is over."""
    gate = Gate()
    yield gate
    gate.open()


async def let_time_pass(clock: ManualClock, seconds: float = 5) -> None:
    """Let a limit of so many seconds pass, once it has begun to count."""
    await clock.awaited(clock.now_ms() + round(seconds * 1_000))
    clock.advance(seconds)


# --- the try fails, the workflow goes on ------------------------------------------------------------------


async def test_w3_a_step_that_takes_too_long_fails_and_may_be_tried_again(
    app: App, face: Face, clock: ManualClock, never: Gate
) -> None:
    tries: list[int] = []
    asked: list[BaseException] = []

    def should_retry(error: BaseException) -> bool:
        asked.append(error)
        return True

    @face.step(name="work", timeout_seconds=5, retries_allowed=True, interval_seconds=0, should_retry=should_retry)
    async def work() -> str:
        tries.append(len(tries) + 1)
        if len(tries) < 3:
            await never.opened()
        return "in time"

    @face.workflow()
    async def order() -> str:
        return await work()

    handle = await face.start(order, workflow_id="order")
    await let_time_pass(clock)
    await let_time_pass(clock)
    assert await handle.get_result() == "in time"
    assert tries == [1, 2, 3]
    assert [str(error)[:40] for error in asked] == [
        "try 1 of step 'work' in workflow 'order'",
        "try 2 of step 'work' in workflow 'order'",
    ]
    assert isinstance(asked[0], DBOSStepTimeoutError)
    assert "was not done within 5 s" in str(asked[0])


@pytest.mark.parametrize("tries", [1, 2])
async def test_w3_a_step_that_took_too_long_is_recorded_so_and_not_run_again(
    app: App, face: Face, clock: ManualClock, never: Gate, tries: int
) -> None:
    runs = []
    errors: list[list[str]] = []

    @face.step(timeout_seconds=0.35, retries_allowed=True, interval_seconds=0, max_attempts=tries)
    async def work() -> None:
        runs.append(1)
        await never.opened()

    @face.workflow()
    async def order() -> None:
        try:
            await work()
        except (DBOSStepTimeoutError, DBOSMaxStepRetriesExceeded) as error:
            each = error.errors if isinstance(error, DBOSMaxStepRetriesExceeded) else [error]
            errors.append([str(error), *map(repr, each)])
        await face.recv("go", FOREVER)

    handle = await face.start(order)
    for _ in range(tries):
        await let_time_pass(clock, 0.35)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    await face.get_result(handle.workflow_id)
    assert len(runs) == tries
    first, replayed = errors
    assert first == replayed
    assert len([each for each in first if each.startswith("DBOSStepTimeoutError")]) == tries


async def test_w3_a_value_in_time_counts_and_nothing_comes_after_it(app: App, face: Face, clock: ManualClock) -> None:
    place = contextvars.ContextVar("place", default="elsewhere")

    @face.step(timeout_seconds=5)
    async def work(*args: int, **kwargs: int) -> list[Any]:
        await face.set_event("done in", DBOS.workflow_id)
        return [DBOS.step_id, place.get(), args, kwargs]

    @face.workflow()
    async def order() -> list[Any]:
        place.set("the workflow")
        value = await work(1, two=2)
        await face.recv("go", FOREVER)
        return value

    handle = await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    clock.advance(5)
    await face.send("order", None, "go")
    assert await handle.get_result() == [1, "the workflow", (1,), {"two": 2}]
    assert await face.get_event("order", "done in") == "order"


async def test_w3_an_error_in_time_is_the_steps_own_a_timeout_error_too(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.step(timeout_seconds=FOREVER)
    async def fails() -> None:
        raise TimeoutError("of a socket")

    @face.workflow()
    async def order() -> None:
        await fails()

    with pytest.raises(TimeoutError, match="of a socket"):
        await order()


async def test_w3_the_limit_is_for_each_try_and_the_pauses_between_do_not_count(
    app: App, face: Face, clock: ManualClock
) -> None:
    tries = []

    @face.step(timeout_seconds=5, retries_allowed=True, interval_seconds=60)
    async def work() -> int:
        tries.append(clock.now_ms())
        if len(tries) < 3:
            raise ConnectionError
        return len(tries)

    @face.workflow()
    async def order() -> int:
        return await work()

    handle = await face.start(order)
    for pause in (60, 120):
        await let_time_pass(clock, pause)
    assert await handle.get_result() == 3


async def test_w3_without_a_limit_a_blocking_step_runs_where_it_is_called(app: App) -> None:
    face = Blocking()

    @face.step(timeout_seconds=None)
    async def where() -> int:
        return threading.get_ident()

    @face.workflow()
    async def order() -> bool:
        return await where() == threading.get_ident()

    assert await order()


async def test_w3_the_limit_is_ignored_outside_of_workflows_and_in_other_steps(
    app: App, face: Face, clock: ManualClock
) -> None:
    """As the retries are: the step is a plain function there."""

    @face.step(timeout_seconds=0.001)
    async def inner() -> int:
        clock.advance(FOREVER)
        return threading.get_ident()

    @face.step()
    async def outer() -> bool:
        return await inner() == threading.get_ident()

    @face.workflow()
    async def order() -> bool:
        return await outer()

    assert await order()
    assert await face.run(outer)


# --- a thread that is left behind ----------------------------------------------------------------------------


async def test_w3_what_a_step_writes_after_its_time_does_not_count(app: App, face: Face, clock: ManualClock) -> None:
    go_on, refused = Gate(), Gate()
    errors: list[Exception] = []

    def work() -> None:
        DBOS.set_event("key", "in time")
        go_on.wait()
        writes: list[Callable[[], Any]] = [
            lambda: DBOS.set_event("key", "late"),
            lambda: DBOS.send("order", "late"),
            lambda: DBOS.start_workflow(order),
        ]
        for write in writes:
            try:
                write()
            except DBOSContextError as error:
                errors.append(error)
        refused.open()

    @face.workflow()
    async def order() -> None:
        with pytest.raises(DBOSStepTimeoutError):
            await face.run_step(LIMIT, work)
        await face.recv("go", FOREVER)

    handle = await face.start(order, workflow_id="order")
    await let_time_pass(clock)
    await app.waiting("message", "order", "go")
    go_on.open()
    await refused.opened()
    await face.send("order", None, "go")
    await handle.get_result()
    assert [str(error)[:29] for error in errors] == ["try 1 of step 'step' is over,"] * 3
    assert await face.get_all_events("order") == {"key": "in time"}
    assert (app.rows.counts()["messages"], app.rows.counts()["workflows"]) == (1, 1)


async def test_w3_threads_left_behind_keep_nobody_from_running(
    app: App, face: Face, clock: ManualClock, never: Gate
) -> None:
    """With one thread: of three tries two hang. Then others run as if nothing had happened."""
    await app.relaunch(max_executor_threads=1)
    tries = []

    def work() -> int:
        tries.append(1)
        if len(tries) < 3:
            never.wait()
        return len(tries)

    @face.workflow()
    async def order() -> int:
        again: StepOptions = {**LIMIT, "retries_allowed": True, "interval_seconds": 0}
        tried: int = await face.run_step(again, work)
        return tried

    handle = await face.start(order)
    for _ in range(2):
        await let_time_pass(clock)
    assert await handle.get_result() == 3
    assert await (await face.start(order)).get_result() == 4


async def test_w3_a_step_with_a_limit_that_waits_gives_its_thread_to_others(
    app: App, face: Face, clock: ManualClock
) -> None:
    """With one thread, which a child needs that the step waits for."""
    await app.relaunch(max_executor_threads=1)

    @DBOS.workflow()
    def child() -> str:
        return "of the child"

    def work() -> str:
        return DBOS.start_workflow(child).get_result()

    @face.workflow()
    async def order() -> str:
        value: str = await face.run_step(LIMIT, work)
        return value

    assert await (await face.start(order)).get_result() == "of the child"


async def test_w3_a_step_that_waits_past_its_limit_takes_no_thread_when_it_wakes(
    app: App, face: Face, clock: ManualClock
) -> None:
    """With one thread. The step is left behind in a wait, and comes back from it while the thread is taken."""
    await app.relaunch(max_executor_threads=1)
    woken, busy, go_on = Gate(), Gate(), Gate()

    def work() -> None:
        DBOS.get_event("order", "never", FOREVER)
        woken.open()

    @face.workflow()
    async def order() -> None:
        with pytest.raises(DBOSStepTimeoutError):
            await face.run_step(LIMIT, work)
        await face.run_step(None, occupy)
        await face.recv("go", FOREVER)

    def occupy() -> None:
        DBOS.set_event("never", "after all")
        busy.open()
        go_on.wait()

    handle = await face.start(order, workflow_id="order")
    await app.waiting("event", "order", "never")
    await let_time_pass(clock)
    await busy.opened()
    await woken.opened()
    go_on.open()
    await face.send("order", None, "go")
    await handle.get_result()


async def test_w3_a_step_past_its_limit_writes_nothing_while_its_workflow_waits_for_a_thread(
    app: App, clock: ManualClock
) -> None:
    """With one thread, which another workflow took while the step waited: nobody can go on but the step, too late."""
    await app.relaunch(max_executor_threads=1)
    face = Blocking()
    busy, wake, refused, go_on = Gate(), Gate(), Gate(), Gate()

    @face.workflow()
    async def other() -> None:
        busy.open()
        wake.wait()
        DBOS.set_event("woken", True)
        go_on.wait()

    def work() -> None:
        DBOS.get_event("other", "woken", FOREVER)
        with pytest.raises(DBOSContextError, match="try 1 of step 'step' is over"):
            DBOS.set_event("key", "late")
        refused.open()

    @face.workflow()
    async def order() -> None:
        with pytest.raises(DBOSStepTimeoutError):
            DBOS.run_step(LIMIT, work)

    handles = [await face.start(order, workflow_id="order")]
    await app.waiting("event", "other", "woken")
    handles.append(await face.start(other, workflow_id="other"))
    await busy.opened()
    await let_time_pass(clock)
    await off_loop(wait_until, lambda: app.host.workers._returning == 1)
    wake.open()
    await refused.opened()
    go_on.open()
    for handle in handles:
        await handle.get_result()
    assert await face.get_all_events("order") == {}


async def test_w2_a_step_with_a_limit_during_which_the_process_dies_runs_again(
    app: App, face: Face, clock: ManualClock, never: Gate
) -> None:
    begun = Gate()
    runs = []

    @face.step(timeout_seconds=5)
    async def work() -> int:
        runs.append(1)
        if len(runs) == 1:
            begun.open()
            await never.opened()
        return len(runs)

    @face.workflow()
    async def order() -> int:
        return await work()

    await face.start(order, workflow_id="order")
    await begun.opened()
    await app.crash_and_restart()
    assert await face.get_result("order") == 2


async def test_w3_the_time_does_not_count_while_a_step_waits_for_a_thread(app: App, clock: ManualClock) -> None:
    await app.relaunch(max_executor_threads=1)
    busy, go_on = Gate(), Gate()

    def occupy() -> None:
        busy.open()
        go_on.wait()

    @DBOS.workflow()
    async def order() -> list[Any]:
        occupying = asyncio.ensure_future(DBOS.run_step_async(None, occupy))
        await busy.opened()
        queued = asyncio.ensure_future(DBOS.run_step_async(LIMIT, lambda: "in time"))
        await asyncio.sleep(0)
        clock.advance(FOREVER)
        go_on.open()
        return [*await asyncio.gather(occupying, queued)]

    assert await order() == [None, "in time"]


async def test_w3_a_function_in_a_thread_may_give_a_coroutine_which_is_limited_too(
    app: App, clock: ManualClock, never: Gate
) -> None:
    @DBOS.workflow()
    async def order() -> str:
        try:
            await DBOS.run_step_async(LIMIT, never.opened)
        except DBOSStepTimeoutError:
            return await DBOS.run_step_async(LIMIT, lambda: asyncio.sleep(0, "in time"))
        return ""

    handle = await DBOS.start_workflow_async(order)
    await let_time_pass(clock)
    assert await handle.get_result() == "in time"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_w3_what_ends_a_program_ends_it_from_a_step_with_a_limit_too(app: App, error: BaseException) -> None:
    @DBOS.workflow()
    def order(timeout_seconds: float | None) -> None:
        DBOS.run_step({"timeout_seconds": timeout_seconds}, fails)

    def fails() -> None:
        raise error

    def main(timeout_seconds: float | None) -> BaseException | None:
        try:
            order(timeout_seconds)
        except BaseException as raised:
            return raised
        return None

    for timeout_seconds in (None, FOREVER):
        assert await off_loop(main, timeout_seconds) is error
    assert app.rows.run("select status from {workflows}") == [("PENDING",)] * 2
    assert app.rows.counts()["entries"] == 0


# --- a coroutine that is cancelled ---------------------------------------------------------------------------


async def test_w3_an_async_step_past_its_limit_cleans_up(app: App, clock: ManualClock) -> None:
    cleaned = []

    @DBOS.step(timeout_seconds=5)
    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await DBOS.set_event_async("cleaned", "up")
            cleaned.append(DBOS.step_id)

    @DBOS.workflow()
    async def order() -> Any:
        with pytest.raises(DBOSStepTimeoutError):
            await work()
        task = asyncio.current_task()
        assert task is not None
        return [task.cancelling(), await DBOS.get_event_async("order", "cleaned")]

    handle = await Awaiting().start(order, workflow_id="order")
    await let_time_pass(clock)
    assert await handle.get_result() == [0, "up"]
    assert cleaned == [1]


@pytest.mark.parametrize("tries", [1, 3])
@pytest.mark.parametrize(
    "what", ["a value", "None", "an error", "a timeout of its own", "a task's error", "the limit's error"]
)
async def test_w3_what_an_async_step_makes_of_its_cancellation_is_late(
    app: App, face: Face, clock: ManualClock, what: str, tries: int
) -> None:
    """The step has failed with its limit, in each try. A blocking workflow runs it on another loop."""

    async def swallow() -> str | None:
        try:
            if what == "a task's error":
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail_when_cancelled())
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # It goes on for a while.
            if what == "an error":
                raise ConnectionError(what) from None
            if what == "a timeout of its own":
                raise TimeoutError(what) from None
            if what == "the limit's error":
                raise DBOSStepTimeoutError("another", "workflow", 7, 1) from None
        return None if what == "None" else "a value"

    async def fail_when_cancelled() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise ConnectionError(what) from None

    options = LIMIT | StepOptions(retries_allowed=True, max_attempts=tries, interval_seconds=0)

    @face.workflow()
    async def order() -> list[Any]:
        with pytest.raises((DBOSStepTimeoutError, DBOSMaxStepRetriesExceeded)) as raised:
            await face.run_step(options, swallow)
        errors = raised.value.errors if isinstance(raised.value, DBOSMaxStepRetriesExceeded) else [raised.value]
        task = asyncio.current_task() if isinstance(face, Awaiting) else None
        still_cancelled = 0 if task is None else task.cancelling()
        await face.recv("go", FOREVER)
        return [*map(str, errors), still_cancelled, await face.run_step(None, str, "goes on")]

    handle = await face.start(order, workflow_id="order")
    for number in range(tries):
        await clock.waits.until(lambda seen: seen.count(clock.now_ms() + 5_000) > 0)
        clock.advance(5 + number)  # So that each limit ends at a time of its own.
    await app.waiting("message", "order", "go")
    await app.crash_and_restart()
    await face.send("order", None, "go")
    given_up = [
        f"try {number} of step 'step' in workflow 'order' was given up, because it was not done within 5 s; allow "
        "more time (timeout_seconds=) or further tries (retries_allowed=True)"
        for number in range(1, tries + 1)
    ]
    assert await face.get_result("order") == [*given_up, 0, "goes on"]
    assert handle.workflow_id == "order"


@pytest.mark.parametrize("what", ["a value", "an error", "a value after a pause", "an error after a pause"])
async def test_w3_a_step_that_blocks_its_event_loop_past_its_time_has_failed(
    app: App, face: Face, clock: ManualClock, what: str
) -> None:
    """Nobody can cancel it meanwhile. The time passes while its code holds the loop, or the thread, up."""
    tries: list[int] = []

    async def work() -> str:
        if "after a pause" in what and not tries:
            await asyncio.sleep(0)
        tries.append(1)
        clock.advance(5)
        if "an error" in what:
            raise ConnectionError(what)
        return what

    @face.workflow()
    async def order() -> list[str]:
        with pytest.raises(DBOSStepTimeoutError) as raised:
            await face.run_step(LIMIT, work)
        await face.recv("go", FOREVER)
        return [type(raised.value).__name__, str(raised.value)[:33]]

    await face.start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    await app.crash_and_restart()
    await face.send("order", None, "go")
    assert await face.get_result("order") == ["DBOSStepTimeoutError", "try 1 of step 'step' in workflow "]
    assert tries == [1]


async def test_w3_a_function_in_a_thread_that_is_done_after_its_time_has_failed(
    app: App, face: Face, clock: ManualClock
) -> None:
    """Also where its end is noticed before the end of its time is."""

    def work() -> str:
        clock.pass_unnoticed(5)
        return "late"

    @face.workflow()
    async def order() -> None:
        await face.run_step(LIMIT, work)

    with pytest.raises(DBOSStepTimeoutError):
        await (await face.start(order)).get_result()


async def test_w3_what_a_step_leaves_behind_that_swallows_its_limit_writes_nothing(
    app: App, face: Face, clock: ManualClock
) -> None:
    """While the step cleans up it writes as any try that fails. After that its tasks write nothing."""
    left: list[asyncio.Task[str]] = []
    go_on = Gate()

    async def write_later() -> str:
        await go_on.opened()
        try:
            await DBOS.set_event_async("key", "late")
        except DBOSContextError as error:
            return str(error)
        return "written"

    async def swallow() -> str:
        left.append(asyncio.create_task(write_later()))
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await DBOS.set_event_async("key", "cleaning up")
        return "a value"

    @face.workflow()
    async def order() -> None:
        with pytest.raises(DBOSStepTimeoutError):
            await face.run_step(LIMIT, swallow)
        await face.recv("go", FOREVER)

    handle = await face.start(order, workflow_id="order")
    await let_time_pass(clock)
    await app.waiting("message", "order", "go")
    go_on.open()
    loop = left[0].get_loop()
    refused = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(left[0]), FOREVER), loop)
    assert "try 1 of step 'step' is over, so it can write no more" in await asyncio.wrap_future(refused)
    await face.send("order", None, "go")
    await handle.get_result()
    assert await face.get_all_events("order") == {"key": "cleaning up"}


async def test_w3_each_of_parallel_steps_has_its_own_limit(app: App, clock: ManualClock) -> None:
    @DBOS.step(timeout_seconds=5)
    async def short() -> None:
        await asyncio.get_running_loop().create_future()

    @DBOS.step(timeout_seconds=FOREVER)
    async def long(released: asyncio.Event) -> str:
        await released.wait()
        return "in time"

    @DBOS.workflow()
    async def order() -> list[Any]:
        released = asyncio.Event()

        async def branch() -> str:
            with pytest.raises(DBOSStepTimeoutError):
                await short()
            released.set()
            return "too late"

        return list(await asyncio.gather(long(released), branch(), branch()))

    handle = await DBOS.start_workflow_async(order)
    await let_time_pass(clock)
    assert await handle.get_result() == ["in time", "too late", "too late"]


# --- cancellations meanwhile ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["in time", "too late"])
async def test_w5_cancelling_does_not_interrupt_a_step_with_a_limit(
    app: App, face: Face, clock: ManualClock, ends: str
) -> None:
    begun, go_on = Gate(), Gate()
    steps = []

    @face.step(timeout_seconds=5)
    async def work() -> None:
        begun.open()
        await go_on.opened()
        steps.append("ended in time")

    @face.step()
    async def never() -> None:
        steps.append("begun after the cancellation")

    @face.workflow()
    async def order() -> None:
        try:
            await work()
        finally:
            await never()

    handle = await face.start(order, workflow_id="order")
    await begun.opened()
    await face.cancel_workflow("order")
    if ends == "in time":
        go_on.open()
    else:
        await let_time_pass(clock)
    await app.ended("order")
    assert steps == (["ended in time"] if ends == "in time" else [])
    assert app.rows.counts()["entries"] == 0
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    go_on.open()


def hang(begun: Gate, never: Gate) -> None:
    """A blocking step that hangs."""
    begun.open()
    never.wait()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_w3_a_step_with_a_limit_that_the_program_gave_up_replays_as_given_up(
    app: App, clock: ManualClock, never: Gate, in_thread: bool
) -> None:
    begun = Gate()
    seen: list[str] = []

    async def work() -> None:
        begun.open()
        await asyncio.get_running_loop().create_future()

    @DBOS.workflow()
    async def order() -> None:
        try:
            async with asyncio.timeout(None) as timeout:
                waiting = asyncio.get_running_loop().create_task(begun.opened())
                waiting.add_done_callback(lambda _: timeout.reschedule(0))
                if in_thread:
                    await DBOS.run_step_async(LIMIT, hang, begun, never)
                else:
                    await DBOS.run_step_async(LIMIT, work)
        except Exception as error:
            seen.append(type(error).__name__)
        await DBOS.recv_async("go", FOREVER)

    await Awaiting().start(order, workflow_id="order")
    await app.waiting("message", "order", "go")
    clock.advance(5)
    await app.crash_and_restart()
    await app.waiting("message", "order", "go")
    await DBOS.send_async("order", None, "go")
    await DBOS.get_result_async("order")
    assert seen == ["TimeoutError"] * 2
    assert app.rows.run("select state from {entries} where name = 'step'") == [("ABANDONED",)]


@pytest.mark.parametrize("first", ["the program", "the limit"])
async def test_w3_a_cancellation_by_the_program_wins_over_the_limit_whichever_comes_first(
    app: App, clock: ManualClock, first: str
) -> None:
    cancellations: list[int] = []
    twice = Gate()

    @DBOS.step(name="step", timeout_seconds=5)
    async def work(timeout: asyncio.Timeout) -> None:
        async def cancelled_by(cancel: Callable[[], None]) -> None:
            try:
                cancel()
                await asyncio.get_running_loop().create_future()
            finally:
                cancellations.append(1)

        def by_the_program() -> None:
            timeout.reschedule(0)

        def by_the_limit() -> None:
            clock.advance(5)

        both = [by_the_program, by_the_limit]
        if first == "the limit":
            both.reverse()
        try:
            await cancelled_by(both[0])
        finally:
            await cancelled_by(both[1])

    @DBOS.workflow()
    async def order() -> str:
        try:
            async with asyncio.timeout(None) as timeout:
                await work(timeout)
        except TimeoutError:
            task = asyncio.current_task()
            assert task is not None
            return f"given up by the program; still to be cancelled: {task.cancelling()}"
        finally:
            twice.open()
        return ""

    assert await order() == "given up by the program; still to be cancelled: 0"
    assert len(cancellations) == 2
    assert app.rows.run("select state from {entries} where name = 'step'") == [("ABANDONED",)]


async def test_w7_a_run_whose_loop_was_closed_within_a_step_with_a_limit_runs_that_step_again(
    app: App, clock: ManualClock
) -> None:
    await app.relaunch_off_loop()
    begun = Gate()
    runs = []

    @DBOS.step(timeout_seconds=5)
    async def work() -> int:
        runs.append(1)
        begun.open()
        if len(runs) == 1:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                clock.advance(5)  # The loop is closing, and the time is up.
                await asyncio.sleep(0)
        return len(runs)

    @DBOS.workflow()
    async def order() -> int:
        return await work()

    async def first() -> None:
        await Awaiting().start(order, workflow_id="order")
        await begun.opened()

    await off_loop(asyncio.run, first())
    assert await DBOS.get_result_async("order") == 2


@pytest.mark.parametrize("what", ["send", "start"])
async def test_w3_what_takes_so_long_to_store_that_the_try_is_over_is_not_sent(
    app: App, face: Face, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place = f"tidings.{'api.messages' if what == 'send' else 'engine.runs.starting'}"
    real_dump = dump

    def slow_dump(*arguments: Any) -> str:
        scope = scopes.current()
        if scope is not None and scope.attempt is not None:
            scope.attempt.over = True
        return real_dump(*arguments)

    @face.workflow()
    async def other() -> None:
        """Do nothing."""

    @face.step()
    async def work() -> str:
        try:
            await (face.send("w", 1) if what == "send" else face.start(other, workflow_id="other"))
        except DBOSContextError as error:
            return str(error)
        return "sent"

    @face.workflow()
    async def flow() -> str:
        return await work()

    monkeypatch.setattr(f"{place}.dump", slow_dump)
    handle = await face.start(flow, workflow_id="w")
    assert "is over, so it can write no more" in await handle.get_result()
    assert app.rows.counts()["messages"] == 0
    assert app.rows.counts()["workflows"] == 1
