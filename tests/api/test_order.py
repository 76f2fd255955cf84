"""Code that lets branches go on, cancels them or gives up waiting: after a crash it sees what it saw first (W2)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

from tests.api.test_replay import go_on_with, run_until_last
from tests.support.app import App
from tests.support.face import Awaiting
from tidings import DBOS
from tidings.engine.process import REGISTRY
from tidings.engine.runs import turns
from tidings.engine.runs.rest import Rest
from tidings.error import DBOSUnexpectedStepError

MOMENT = 0.002  # seconds: about as long as a commit takes

Seen = list[Any]
Code = Callable[[Seen], Awaitable[None]]


async def seen_twice(app: App, awaiting: Awaiting, code: Code) -> tuple[Seen, Seen]:
    """Run `code` as a workflow, and once more after a crash. Returns what it saw at first, and then."""
    told: list[Seen] = []

    @awaiting.workflow()
    async def order() -> None:
        seen: Seen = []
        await code(seen)
        told.append(list(seen))
        await DBOS.recv_async("last", None)

    await awaiting.start(order, workflow_id="order")
    await app.waiting("message", "order", "last")
    await app.crash_and_restart()
    await DBOS.send_async("order", None, "last")
    await DBOS.get_result_async("order")
    assert len(told) == 2
    return told[0], told[1]


@pytest.fixture(params=["a loop that shows what is ready", "a loop that does not"])
def on_each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the event loop show what is ready to run, or not, as uvloop does not."""
    if request.param == "a loop that does not":
        monkeypatch.setattr(Rest, "_ready", lambda _: None)


@pytest.mark.parametrize("begins_another", [False, True])
async def test_w2_tasks_of_a_cancelled_branch_go_on_in_their_turns(
    app: App, awaiting: Awaiting, begins_another: bool
) -> None:
    @awaiting.step()
    async def nap(moments: float) -> None:
        await asyncio.sleep(moments * MOMENT)

    async def code(seen: Seen) -> None:
        async def child(name: int) -> None:
            for _ in range(3):
                await nap(name)
                seen.append(name)

        async def parent() -> None:
            await nap(0)
            children.extend(asyncio.create_task(child(name)) for name in (1, 2))
            if begins_another:
                await nap(0)
            await asyncio.shield(asyncio.wait(children))

        children: list[asyncio.Task[None]] = []
        cancelled = asyncio.create_task(parent())
        while len(seen) < 1:
            await nap(1)
        cancelled.cancel()
        for _ in range(4):
            await nap(1.5)
            seen.append("beside")
        await asyncio.wait(children)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


@pytest.mark.usefixtures("on_each_loop")
async def test_w2_what_passes_through_many_tasks_comes_first_though_others_wait(app: App, awaiting: Awaiting) -> None:
    """A branch at a queue, and the workflow itself at an event, do not hide that another one is on its way."""

    @awaiting.step()
    async def nap() -> None:
        await asyncio.sleep(MOMENT)

    async def through(tasks: int) -> None:
        await (asyncio.gather(through(tasks - 1)) if tasks else nap())

    async def code(seen: Seen) -> None:
        async def far(queue: asyncio.Queue[None], is_over: asyncio.Event) -> None:
            await through(5)
            seen.append("far")
            queue.put_nowait(None)
            is_over.set()

        async def near() -> None:
            await DBOS.sleep_async(4 * MOMENT)
            seen.append("near")

        for _ in range(3):
            queue: asyncio.Queue[None] = asyncio.Queue()
            is_over = asyncio.Event()
            tasks = [asyncio.create_task(each) for each in (queue.get(), far(queue, is_over), near())]
            await is_over.wait()
            await asyncio.wait(tasks)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


# --- sets of tasks ------------------------------------------------------------------------------------------------

Work = Callable[[int], Coroutine[Any, Any, None]]
NUMBERS = range(6)


class Stop(Exception):
    """What ends a group."""


async def by_group(wait: Work) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for number in NUMBERS:
                group.create_task(wait(number))
            await DBOS.sleep_async(MOMENT)
            raise Stop
    except* Stop:
        pass


async def by_anyio(wait: Work) -> None:
    async with anyio.create_task_group() as group:
        for number in NUMBERS:
            group.start_soon(wait, number)
        await DBOS.sleep_async(MOMENT)
        group.cancel_scope.cancel()


async def by_scopes_of_anyio(wait: Work) -> None:
    async def within_scope(number: int) -> None:
        with anyio.CancelScope():
            await wait(number)

    await by_anyio(within_scope)


async def by_wait(wait: Work) -> None:
    first = asyncio.create_task(DBOS.sleep_async(MOMENT))
    tasks = [asyncio.create_task(wait(number)) for number in NUMBERS]
    _, pending = await asyncio.wait([*tasks, first], return_when=asyncio.FIRST_COMPLETED)
    await stop(pending)


async def by_own_set(wait: Work) -> None:
    tasks = set()
    for number in NUMBERS:
        task = asyncio.create_task(wait(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await DBOS.sleep_async(MOMENT)
    await stop(tasks)


async def by_gathers(wait: Work) -> None:
    first = asyncio.ensure_future(DBOS.sleep_async(MOMENT))
    gathered: list[asyncio.Future[Any]] = [asyncio.gather(wait(number)) for number in NUMBERS]
    _, pending = await asyncio.wait([*gathered, first], return_when=asyncio.FIRST_COMPLETED)
    await stop(pending)


async def stop(futures: set[Any]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(list(futures))


WAYS: list[Callable[[Work], Awaitable[None]]] = [
    by_group,
    by_anyio,
    by_scopes_of_anyio,
    by_wait,
    by_own_set,
    by_gathers,
]


@pytest.mark.parametrize("cancels", WAYS)
async def test_w2_cancelled_branches_clean_up_in_one_order_and_get_their_own_results(
    app: App, awaiting: Awaiting, cancels: Callable[[Work], Awaitable[None]]
) -> None:
    @awaiting.step()
    async def clean_up(number: int) -> int:
        return number

    async def code(seen: Seen) -> None:
        async def wait(number: int) -> None:
            try:
                await (asyncio.Queue[None]().get() if number % 2 else asyncio.Event().wait())
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True):
                    seen.append((number, await clean_up(number)))
                raise

        for _ in range(3):
            await cancels(wait)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after
    assert all(number == cleaned for number, cleaned in after)


@pytest.mark.parametrize("futures", ["tasks", "gathers", "shields"])
async def test_w2_what_wait_found_done_comes_in_one_order(app: App, awaiting: Awaiting, futures: str) -> None:
    @awaiting.step()
    async def handle(number: int) -> int:
        return number

    async def ended(number: int) -> int:
        await DBOS.sleep_async(0)
        return number

    def future(number: int) -> asyncio.Future[Any]:
        if futures == "gathers":
            return asyncio.gather(ended(number))
        task = asyncio.create_task(ended(number))
        return asyncio.shield(task) if futures == "shields" else task

    async def code(seen: Seen) -> None:
        for _ in range(3):
            done, _ = await asyncio.wait([future(number) for number in NUMBERS])
            for each in done:
                seen.append((each.result(), await handle(each.result())))

    before, after = await seen_twice(app, awaiting, code)
    assert before == after
    assert all(result == handled for result, handled in after)


async def test_w2_a_set_of_tasks_is_in_the_same_order_whatever_other_workflows_make(
    app: App, awaiting: Awaiting
) -> None:
    """The tasks of a child, which its parent starts at first and not in the replay, are none of the parent's."""

    @awaiting.workflow()
    async def child() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))

    async def code(seen: Seen) -> None:
        await (await DBOS.start_workflow_async(child)).get_result()
        tasks = {asyncio.create_task(asyncio.sleep(0, number)) for number in range(20)}
        await asyncio.wait(tasks)
        seen.extend(task.result() for task in tasks)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


# --- time limits --------------------------------------------------------------------------------------------------

LIMIT = 20 * MOMENT
Operation = Callable[[], Coroutine[Any, Any, Any]]


async def limit_of_gather(operation: Operation, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.gather(operation(), operation())


async def limit_of_group(operation: Operation, seconds: float) -> None:
    async def run() -> None:
        await operation()

    async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
        group.create_task(run())
        group.create_task(run())


async def limit_of_wait(operation: Operation, seconds: float) -> None:
    task = asyncio.ensure_future(operation())
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        raise TimeoutError
    await task


async def limit_of_as_completed(operation: Operation, seconds: float) -> None:
    for ended in asyncio.as_completed([operation(), operation()], timeout=seconds):
        await ended


async def limit_of_shield(operation: Operation, seconds: float) -> None:
    await asyncio.wait_for(asyncio.shield(operation()), seconds)


async def limit_of_queue(operation: Operation, seconds: float) -> None:
    async def feed() -> None:
        await operation()
        queue.put_nowait(None)

    queue: asyncio.Queue[None] = asyncio.Queue()
    feeding = asyncio.create_task(feed())
    async with asyncio.timeout(seconds):
        await queue.get()
    await feeding


async def limit_of_anyio(operation: Operation, seconds: float) -> None:
    with anyio.fail_after(seconds):
        async with anyio.create_task_group() as group:
            group.start_soon(operation)
            group.start_soon(operation)


async def limit_of_limit(operation: Operation, seconds: float) -> None:
    async with asyncio.timeout(2 * seconds):
        await asyncio.wait_for(operation(), seconds)


async def limit_of_callback(operation: Operation, seconds: float) -> None:
    task = asyncio.ensure_future(operation())
    is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = asyncio.get_running_loop().call_later(seconds, is_over.set_result, None)
    done, _ = await asyncio.wait([task, is_over], return_when=asyncio.FIRST_COMPLETED)
    if task not in done:
        raise TimeoutError
    timer.cancel()


LIMITS = [
    limit_of_gather,
    limit_of_group,
    limit_of_wait,
    limit_of_as_completed,
    limit_of_shield,
    limit_of_queue,
    limit_of_anyio,
    limit_of_limit,
    limit_of_callback,
]


class Timed:
    """Code that awaits something under a limit, and what it says of it in a step: the same step in either case."""

    def __init__(self, awaiting: Awaiting, limit: Callable[[Operation, float], Awaitable[None]]) -> None:
        self._limit = limit

        @awaiting.step()
        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)

        @awaiting.step()
        async def say(what: str) -> str:
            return what

        self.nap, self._say = nap, say

    async def run(self, operation: Operation, seconds: float, seen: Seen) -> None:
        try:
            await self._limit(operation, seconds)
            what = "in time"
        except TimeoutError:
            what = "too late"
        seen.append((what, await self._say(what)))


@pytest.mark.parametrize("limit", LIMITS)
async def test_w2_what_came_in_time_does_so_in_a_replay_that_is_held_up(
    app: App, awaiting: Awaiting, limit: Callable[[Operation, float], Awaitable[None]]
) -> None:
    timed = Timed(awaiting, limit)
    seconds_of_hold = 0.0

    async def code(seen: Seen) -> None:
        nonlocal seconds_of_hold
        asyncio.get_running_loop().call_soon(time.sleep, seconds_of_hold)
        seconds_of_hold = 3 * LIMIT
        await timed.run(lambda: timed.nap(0), LIMIT, seen)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


@pytest.mark.parametrize("limit", LIMITS)
async def test_w2_what_came_too_late_does_so_in_a_replay(
    app: App, awaiting: Awaiting, limit: Callable[[Operation, float], Awaitable[None]]
) -> None:
    """Also where the result is recorded by then, and what the code did in the same round took long."""
    timed = Timed(awaiting, limit)

    async def code(seen: Seen) -> None:
        async def until_later() -> None:
            await timed.nap(MOMENT)
            time.sleep(2 * MOMENT)  # noqa: ASYNC251  (so that the loop is late)

        for _ in range(3):
            await timed.run(until_later, 2 * MOMENT, seen)
        await timed.run(lambda: timed.nap(2 * MOMENT), MOMENT, seen)
        await timed.nap(3 * MOMENT)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


@pytest.mark.parametrize("has_branches", [False, True])
async def test_w2_of_two_limits_the_same_one_ends_first(app: App, awaiting: Awaiting, has_branches: bool) -> None:
    """In a replay what was awaited between the two takes no time, and the loop may be held up beyond both."""
    hold = 0.0

    @awaiting.step()
    async def nap(moments: float) -> None:
        await asyncio.sleep(moments * MOMENT)

    async def code(seen: Seen) -> None:
        if has_branches:
            await asyncio.gather(nap(0), nap(0))
        for moments_before in (0, 9):
            try:
                async with asyncio.timeout(10 * MOMENT):
                    if len(seen) == 0:
                        asyncio.get_running_loop().call_soon(time.sleep, hold)
                    await nap(moments_before)
                    try:
                        async with asyncio.timeout(5 * MOMENT):
                            await DBOS.recv_async("never", None)
                    except TimeoutError:
                        await nap(0)
                        seen.append("inner")
            except TimeoutError:
                await nap(0)
                seen.append("outer")

    async def held_up_later(seen: Seen) -> None:
        nonlocal hold
        await code(seen)
        hold = 20 * MOMENT

    before, after = await seen_twice(app, awaiting, held_up_later)
    assert before == after


async def test_w2_what_is_given_up_between_two_results_is_so_in_a_replay(app: App, awaiting: Awaiting) -> None:
    """Though nothing is called in between: only what the branches share tells of it."""

    async def code(seen: Seen) -> None:
        async def give_up() -> None:
            for _ in range(6):
                try:
                    async with asyncio.timeout(MOMENT):
                        await asyncio.Event().wait()
                except TimeoutError:
                    seen.append("given up")

        async def go_on() -> None:
            for _ in range(6):
                await DBOS.sleep_async(1.2 * MOMENT)
                seen.append("slept")

        await asyncio.gather(give_up(), go_on())

    before, after = await seen_twice(app, awaiting, code)
    assert before == after


async def test_w2_own_pauses_overtake_no_recorded_result(app: App, awaiting: Awaiting) -> None:
    """A pause of the code's own is not recorded. But what came before it does so in a replay that is held up."""
    hold = 0.0

    async def code(seen: Seen) -> None:
        async def pause() -> None:
            await asyncio.sleep(LIMIT)
            seen.append("paused")

        async def go_on() -> None:
            for _ in range(3):
                await DBOS.sleep_async(0)
                seen.append("slept")

        asyncio.get_running_loop().call_soon(time.sleep, hold)
        await asyncio.gather(pause(), go_on())
        await DBOS.sleep_async(0)

    async def held_up_later(seen: Seen) -> None:
        nonlocal hold
        await code(seen)
        hold = 2 * LIMIT

    before, after = await seen_twice(app, awaiting, held_up_later)
    assert before == after


async def test_w4_a_limit_that_was_reached_and_is_not_set_any_more_is_noticed(
    app: App, awaiting: Awaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FIRST_LOOK_SECONDS", "_LAST_LOOK_SECONDS"):
        monkeypatch.setattr(turns, name, 0.01)
    sets_limit = True

    async def code() -> None:
        task = asyncio.create_task(DBOS.recv_async("never", None))
        if sets_limit:
            await asyncio.wait([task], timeout=MOMENT)
        await DBOS.sleep_async(0)
        await DBOS.recv_async("last", None)
        await stop({task})

    await run_until_last(app, awaiting, code)
    sets_limit = False
    await go_on_with(app, awaiting, code)
    with pytest.raises(
        DBOSUnexpectedStepError, match=r"recorded with a time limit at number 1 of the time limits that it sets"
    ):
        await DBOS.get_result_async("order")
    await app.crash()
    REGISTRY.clear()
    sets_limit = True
    await go_on_with(app, awaiting, code)
    await DBOS.send_async("order", None, "last")
    await DBOS.get_result_async("order")
