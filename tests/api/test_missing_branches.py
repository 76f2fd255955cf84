"""What branches have recorded and nothing begins any more: W4 of the requirements. And code that is only slow."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.api.test_replay import go_on_with, run_until_last, steps
from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Blocking
from tidings import DBOS
from tidings.engine.process import REGISTRY
from tidings.engine.runs import stuck, turns
from tidings.error import DBOSAwaitedWorkflowCancelledError, DBOSUnexpectedStepError, DBOSWorkflowCancelledError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

Code = Callable[[], Coroutine[Any, Any, Any]]


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])


def let_fail(task: asyncio.Task[Any]) -> None:
    """Let a task that nobody awaits end with whatever it ends with."""
    task.add_done_callback(lambda _: task.cancelled() or task.exception())


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Sightings:
    """How often a replay was looked at whether it is stuck, and what was seen. It is looked at soon."""
    sightings = Sightings()

    def motion_of(*args: Any) -> Any:
        motion = real(*args)
        sightings.note(motion)
        return motion

    real = stuck.motion_of
    monkeypatch.setattr(turns, "motion_of", motion_of)
    monkeypatch.setattr(turns, "_FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(turns, "_LAST_LOOK_SECONDS", 0.02)
    return sightings


def changes(awaiting: Awaiting) -> dict[str, tuple[Code, Code, str]]:
    """Original code, changed code, and what the error must name as recorded."""
    step = steps(awaiting)
    one, two = step["one"], step["two"]

    async def last() -> None:
        await DBOS.recv_async("last", FOREVER)

    async def both() -> None:
        await one()
        await two()

    async def in_tasks() -> None:
        await asyncio.create_task(one())
        await asyncio.create_task(last())

    async def in_place() -> None:
        await one()
        await last()

    async def gathered() -> None:
        await asyncio.gather(one(), two())
        await last()

    async def one_is_gathered() -> None:
        await asyncio.gather(one())
        await last()

    async def one_is_waited_for() -> None:
        await asyncio.wait([asyncio.create_task(one())])
        await last()

    async def one_is_shielded() -> None:
        await asyncio.shield(one())
        await last()

    async def one_in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(one())
        await last()

    async def one_within_time() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.create_task(one()), FOREVER)
        await last()

    async def all_gathered() -> None:
        await asyncio.gather(one(), two(), last())

    async def one_after_the_other() -> None:
        await one()
        await two()
        await last()

    async def last_in_a_task() -> None:
        await asyncio.create_task(last())

    async def shorter() -> None:
        await asyncio.gather(one(), last())

    async def longer() -> None:
        are_recorded = asyncio.Event()

        async def both_then_signal() -> None:
            await both()
            are_recorded.set()

        async def last_after() -> None:
            await are_recorded.wait()
            await last()

        await asyncio.gather(both_then_signal(), last_after())

    async def nothing() -> None:
        pass

    async def begun_by_two(code: Code) -> None:
        await two()
        await code()

    async def deep() -> None:
        await asyncio.gather(begun_by_two(in_tasks))

    async def shallow() -> None:
        await asyncio.gather(begun_by_two(in_place))

    async def waits_again_and_again() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(last(), 0.001)

    at_1, at_2 = "one at operation 1 of branch 1,", "two at operation 1 of branch 2,"
    return {
        "no task": (in_tasks, in_place, at_1),
        "one of two": (gathered, one_is_gathered, at_2),
        "one, by wait": (gathered, one_is_waited_for, at_2),
        "one, shielded": (gathered, one_is_shielded, at_2),
        "one in a group": (gathered, one_in_a_group, at_2),
        "one, by wait_for": (gathered, one_within_time, at_2),
        "one after the other": (all_gathered, one_after_the_other, at_1),
        "what only waits": (last_in_a_task, last, "DBOS.recv at operation 1 of branch 1,"),
        "a shorter branch": (longer, shorter, "two at operation 2 of branch 1,"),
        "nothing": (in_tasks, nothing, at_1),
        "a branch of a branch": (deep, shallow, "one at operation 1 of branch 1.1,"),
        "given up again and again": (in_tasks, waits_again_and_again, at_1),
    }


CHANGES = [
    "no task",
    "one of two",
    "one, by wait",
    "one, shielded",
    "one in a group",
    "one, by wait_for",
    "one after the other",
    "what only waits",
    "a shorter branch",
    "nothing",
    "a branch of a branch",
    "given up again and again",
]


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize("change", CHANGES)
async def test_w4_what_a_branch_recorded_and_nothing_begins_is_noticed(
    app: App, awaiting: Awaiting, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    original, changed, recorded = changes(awaiting)[change]
    await run_until_last(app, awaiting, original)
    before = app.rows.run("select * from {entries} order by ordinal")
    await go_on_with(app, awaiting, changed)
    with pytest.raises(DBOSUnexpectedStepError) as raised:
        await DBOS.get_result_async("order")
    assert f"was recorded with {recorded} but the code now calls nothing there" in str(raised.value)
    assert caplog.messages.count(str(raised.value)) == 1
    assert (await awaiting.get_workflow_status("order")).status == "PENDING"
    assert app.rows.run("select * from {entries} order by ordinal") == before
    await app.crash()
    REGISTRY.clear()
    await go_on_with(app, awaiting, original)
    await DBOS.send_async("order", None, "last")
    assert await DBOS.get_result_async("order") is None


async def test_w4_a_blocking_function_is_told_from_one_with_branches(app: App, awaiting: Awaiting) -> None:
    step = steps(awaiting)

    async def gathered() -> None:
        await asyncio.gather(step["one"](), step["two"]())
        await DBOS.recv_async("last", FOREVER)

    async def nothing() -> str:
        await Blocking().recv("last", FOREVER)
        return "ended"

    await run_until_last(app, awaiting, gathered)
    await go_on_with(app, Blocking(), nothing)
    with pytest.raises(DBOSUnexpectedStepError, match="recorded with one at operation 1 of branch 1"):
        await DBOS.get_result_async("order")
    assert (await awaiting.get_workflow_status("order")).status == "PENDING"


@pytest.mark.usefixtures("looks")
async def test_w4_an_operation_that_was_cut_off_is_missed_where_a_result_came_after_it(
    app: App, awaiting: Awaiting
) -> None:
    """It has left no record. But it had begun, and what came after it may depend on that."""
    step = steps(awaiting)
    is_whole, begun, never = True, asyncio.Event(), asyncio.Event()

    @awaiting.step()
    async def cut_off() -> None:
        begun.set()
        await never.wait()

    async def two_after_it() -> None:
        await step["one"]()
        await begun.wait()
        await step["two"]()
        await DBOS.recv_async("last", FOREVER)

    async def code() -> None:
        await asyncio.gather(two_after_it(), *([cut_off()] if is_whole else []))

    await run_until_last(app, awaiting, code)
    is_whole = False
    await go_on_with(app, awaiting, code)
    with pytest.raises(
        DBOSUnexpectedStepError, match=r"with 3 operations begun at result 2, .* now calls only 2 \(version '1'\);"
    ):
        await DBOS.get_result_async("order")


# --- code that is only slow -------------------------------------------------------------------------------


class Holds:
    """Ways in which a branch may be slow, each until the test lets it go on."""

    def __init__(self) -> None:
        self.are_over = threading.Event()
        self._events: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def let_go(self) -> None:
        self.are_over.set()
        for loop, event in self._events:  # What was recovered runs on a loop of its own.
            loop.call_soon_threadsafe(event.set)

    async def in_a_thread(self) -> None:
        await asyncio.to_thread(self.are_over.wait)

    async def for_a_time(self) -> None:
        while not self.are_over.is_set():  # noqa: ASYNC110  (so slow)
            await asyncio.sleep(0.01)

    async def for_an_event(self) -> None:
        event = asyncio.Event()
        self._events.append((asyncio.get_running_loop(), event))
        if not self.are_over.is_set():
            await event.wait()

    async def behind_another_task(self) -> None:
        await asyncio.create_task(self.for_an_event())

    async def in_a_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.for_an_event())

    async def for_the_first(self) -> None:
        tasks = [asyncio.create_task(self.for_an_event()), asyncio.create_task(asyncio.sleep(FOREVER))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await stop(tasks[1])

    async def with_a_blocked_loop(self) -> None:
        while not self.are_over.is_set():
            time.sleep(0.002)  # noqa: ASYNC251  (so blocked)
            await asyncio.sleep(0)

    async def for_a_queue(self) -> None:
        queue: asyncio.Queue[None] = asyncio.Queue()

        async def feed() -> None:
            await self.in_a_thread()
            queue.put_nowait(None)

        feeding = asyncio.create_task(feed())
        await queue.get()
        await feeding


@pytest.mark.parametrize(
    "hold",
    [
        "in_a_thread",
        "for_a_time",
        "for_an_event",
        "behind_another_task",
        "in_a_group",
        "for_the_first",
        "with_a_blocked_loop",
        "for_a_queue",
    ],
)
async def test_w4_right_code_that_is_slow_is_not_taken_for_changed(
    app: App, awaiting: Awaiting, hold: str, looks: Sightings, monkeypatch: pytest.MonkeyPatch, log: Sightings
) -> None:
    monkeypatch.setattr(turns, "_SAY_AFTER_SECONDS", 0.03)
    step = steps(awaiting)
    holds = Holds()
    holds.let_go()

    async def slow() -> Any:
        await getattr(holds, hold)()
        first = await step["one"]()
        await getattr(holds, hold)()
        await DBOS.recv_async("never", FOREVER)
        return first

    async def quick() -> list[Any]:
        return [await step["two"](), await DBOS.recv_async("last", FOREVER)]

    async def code() -> list[Any]:
        slowly = asyncio.create_task(slow())
        found = await quick()
        await stop(slowly)
        return found

    await run_until_waiting(app, awaiting, code, "never", "last")
    holds = Holds()
    await go_on_with(app, awaiting, code)
    await looks.until(lambda seen: len(seen) >= 8)
    branch = "t1" if hold == "in_a_thread" else "1"
    said = f"waits for one at operation 1 of branch {branch}, as recorded"
    await log.until(lambda seen: any(said in each for each in seen))
    holds.let_go()
    await DBOS.send_async("order", "gone on", "last")
    assert await DBOS.get_result_async("order") == [2, "gone on"]


async def run_until_waiting(app: App, awaiting: Awaiting, code: Code, *topics: str) -> None:
    """Start `code` as the workflow "order", and die when it waits for messages on all these topics."""
    await awaiting.start(awaiting.workflow(name="order")(code), workflow_id="order")
    for topic in topics:
        await app.waiting("message", "order", topic)
    await app.crash()
    REGISTRY.clear()


async def test_w4_a_task_that_a_timer_will_make_is_waited_for(app: App, awaiting: Awaiting, looks: Sightings) -> None:
    step = steps(awaiting)
    seconds = 0.0
    made: list[asyncio.Task[None]] = []

    async def branch() -> None:
        await step["one"]()
        await DBOS.recv_async("never", FOREVER)

    def make() -> None:
        made.append(asyncio.get_running_loop().create_task(branch()))
        let_fail(made[-1])

    async def code() -> Any:
        asyncio.get_running_loop().call_later(seconds, make)
        return await DBOS.recv_async("last", FOREVER)

    await run_until_waiting(app, awaiting, code, "never", "last")
    seconds = 0.5
    await go_on_with(app, awaiting, code)
    await looks.until(lambda seen: len(seen) >= 5)
    assert stuck.Motion.WAITS in looks.seen
    await DBOS.send_async("order", "gone on", "last")
    assert await DBOS.get_result_async("order") == "gone on"


@pytest.mark.usefixtures("looks")
async def test_w4_the_end_waits_for_what_tasks_recorded_that_nobody_awaits(app: App, awaiting: Awaiting) -> None:
    """They had recorded it before the end, and will come to it again."""
    step = steps(awaiting)
    holds = Holds()
    ran: list[str] = []
    left_alone: list[Any] = []

    @awaiting.step()
    async def note(what: str) -> None:
        ran.append(what)

    async def aside() -> None:
        await note("a")
        await asyncio.sleep(0.01)
        await note("b")
        await DBOS.recv_async("last", FOREVER)

    async def code() -> str:
        left_alone.append(asyncio.create_task(aside()))
        let_fail(left_alone[-1])
        await step["one"]()
        await holds.for_an_event()
        return "ended"

    await run_until_last(app, awaiting, code)
    holds.let_go()
    await go_on_with(app, awaiting, code)
    assert await DBOS.get_result_async("order") == "ended"
    assert ran == ["a", "b"]


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize("then", ["goes on", "ends"])
async def test_w4_a_branch_that_is_cancelled_earlier_than_before_is_not_missed(
    app: App, awaiting: Awaiting, then: str
) -> None:
    """When a cancellation comes may depend on the time, and so be a little earlier than in the recorded execution."""
    step = steps(awaiting)
    is_slow, begun = False, asyncio.Event()

    async def until_cancelled() -> None:
        await step["one"]()
        begun.set()
        if is_slow and then == "goes on":
            await asyncio.sleep(FOREVER)
        await step["two"]()
        if is_slow:
            await asyncio.sleep(FOREVER)
        await DBOS.recv_async("last", FOREVER)

    async def code() -> str:
        aside = asyncio.create_task(until_cancelled())
        if is_slow:
            await begun.wait()
        else:
            await asyncio.sleep(FOREVER)
        if then == "ends":  # By then it was no longer waited for that the branch comes to what it recorded.
            await DBOS.recv_async("gone on", FOREVER)
        await stop(aside)
        return str(await DBOS.recv_async("gone on", FOREVER)) if then == "goes on" else "gone on"

    await run_until_last(app, awaiting, code)
    is_slow, begun = True, asyncio.Event()
    await go_on_with(app, awaiting, code)
    await DBOS.send_async("order", "gone on", "gone on")
    assert await DBOS.get_result_async("order") == "gone on"


# --- what waits for its turn ------------------------------------------------------------------------------


async def test_w5_a_replay_that_waits_for_a_slow_branch_can_be_cancelled(
    app: App, awaiting: Awaiting, looks: Sightings
) -> None:
    step = steps(awaiting)
    holds = Holds()
    holds.let_go()

    async def slow() -> None:
        await holds.for_an_event()
        await step["one"]()

    async def code() -> None:
        aside = asyncio.create_task(slow())
        await DBOS.recv_async("last", FOREVER)
        await aside

    await run_until_last(app, awaiting, code)
    holds = Holds()
    await go_on_with(app, awaiting, code)
    await looks.until(bool)
    await DBOS.cancel_workflow_async("order")
    with pytest.raises((DBOSWorkflowCancelledError, DBOSAwaitedWorkflowCancelledError)):
        await DBOS.get_result_async("order")


async def test_w4_what_waits_for_a_turn_in_a_group_ends_when_another_branch_left_its_path(
    app: App, awaiting: Awaiting
) -> None:
    """A group waits for all its tasks; and a recorded result, which wins over a cancellation, would never come."""
    step = steps(awaiting)
    first = "one"

    async def walk() -> None:
        await step[first]()

    async def after_it() -> None:
        await asyncio.create_task(step["two"]())
        await DBOS.recv_async("last", FOREVER)

    async def code() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(walk())
            group.create_task(after_it())

    await run_until_last(app, awaiting, code)
    first = "two"
    await go_on_with(app, awaiting, code)
    with pytest.raises(DBOSUnexpectedStepError, match="recorded with one at operation 1 of branch 1"):
        await DBOS.get_result_async("order")


async def test_m4_what_is_given_up_before_its_turn_comes_so_when_all_has_come_again(
    app: App, awaiting: Awaiting
) -> None:
    step = steps(awaiting)
    slowly, hastily = Holds(), Holds()
    slowly.let_go()
    seen: list[str] = []

    async def slow() -> None:
        await step["two"]()
        await slowly.for_an_event()
        await step["one"]()
        seen.append("one")
        await DBOS.recv_async("never", FOREVER)

    async def hasty() -> str:
        await step["two"]()
        await hastily.for_an_event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await DBOS.recv_async("first", FOREVER)
        seen.append("given up")
        return str(await DBOS.recv_async("last", FOREVER))

    async def code() -> str:
        aside = asyncio.create_task(slow())
        try:
            return await asyncio.create_task(hasty())
        finally:
            await stop(aside)

    def receives() -> list[Any]:
        return app.rows.run(
            "select branch, position, state from {entries} where name = 'DBOS.recv' order by branch, position"
        )

    await run_until_waiting(app, awaiting, code, "never")
    assert receives() == [("1", 3, "OPEN")]
    slowly = Holds()
    hastily.let_go()
    seen.clear()
    await go_on_with(app, awaiting, code)
    slowly.let_go()
    await app.waiting("message", "order", "last")
    assert seen == ["one", "given up"]
    assert receives() == [("1", 3, "OPEN"), ("2", 2, "ABANDONED"), ("2", 3, "OPEN")]
    await app.crash_and_restart()
    await DBOS.send_async("order", "gone on", "last")
    assert await DBOS.get_result_async("order") == "gone on"


async def test_w4_a_loop_that_is_held_up_again_and_again_gives_nobody_up(
    app: App, awaiting: Awaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each round the looks of the round before are due. Whose turn it is must get it all the same."""
    for name in ("_FIRST_LOOK_SECONDS", "_LAST_LOOK_SECONDS"):
        monkeypatch.setattr(turns, name, 0.0)
    step = steps(awaiting)
    is_over = asyncio.Event()

    async def hold_up() -> None:
        while not is_over.is_set():
            time.sleep(0.01)  # noqa: ASYNC251  (so held up)
            await asyncio.sleep(0)

    async def branch() -> list[Any]:
        return [await step["one"]() for _ in range(4)]

    async def code() -> list[Any]:
        return [await asyncio.gather(*(branch() for _ in range(3))), await DBOS.recv_async("last", FOREVER)]

    await run_until_waiting(app, awaiting, code, "last")
    holding = asyncio.create_task(hold_up())
    try:
        await go_on_with(app, awaiting, code)
        await DBOS.send_async("order", "last", "last")
        found, last = await DBOS.get_result_async("order")
    finally:
        is_over.set()
        await holding
    assert (len(found), last) == (3, "last")
