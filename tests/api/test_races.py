"""Branches that race: after a crash the code sees the results in the order in which it first saw them (W2).

What it saw goes into a step. A step that was cut off runs again, and must be given the same.
"""

import asyncio
import itertools
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from tests.support.app import App
from tests.support.face import Awaiting
from tidings import DBOS, SetWorkflowID
from tidings.api.messages import SendMessage
from tidings.engine.hooks import Point
from tidings.error import DBOSShutdownError

PATIENCE = 60  # seconds
TIMES = 2  # Each branch does its operation so often.
MOMENT = 0.002  # seconds: about as long as a commit takes

Seen = list[Any]
Branch = Callable[[Seen], Coroutine[Any, Any, str]]
Together = Callable[[list[Branch], Seen], Awaitable[None]]


# --- ways to run branches side by side ----------------------------------------------------------------------


async def by_gather(branches: list[Branch], seen: Seen) -> None:
    seen.append(await asyncio.gather(*(branch(seen) for branch in branches)))


async def by_wait(branches: list[Branch], seen: Seen) -> None:
    await first_by_first({asyncio.create_task(branch(seen)) for branch in branches}, seen)


async def first_by_first(left: set[asyncio.Task[str]], seen: Seen) -> None:
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        seen.append(sorted(task.result() for task in done))


async def by_as_completed(branches: list[Branch], seen: Seen) -> None:
    for ended in asyncio.as_completed([branch(seen) for branch in branches]):
        seen.append(f"ended: {await ended}")


async def by_group(branches: list[Branch], seen: Seen) -> None:
    async with asyncio.TaskGroup() as group:
        for branch in branches:
            group.create_task(branch(seen))


async def by_anyio(branches: list[Branch], seen: Seen) -> None:
    async with anyio.create_task_group() as group:
        for branch in branches:
            group.start_soon(branch, seen)


async def by_first_of_anyio(branches: list[Branch], seen: Seen) -> None:
    """The first one cancels the others."""

    async def until_first(branch: Branch) -> None:
        seen.append(f"first: {await branch(seen)}")
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for branch in branches:
            group.start_soon(until_first, branch)


async def by_queue(branches: list[Branch], seen: Seen) -> None:
    """The branches feed a queue, and what is taken from it is seen with what is left."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def feed(branch: Branch) -> None:
        queue.put_nowait(await branch(seen))

    async with asyncio.TaskGroup() as group:
        for branch in branches:
            group.create_task(feed(branch))
        for _ in branches:
            seen.append((await queue.get(), queue.qsize()))


async def by_hops(branches: list[Branch], seen: Seen) -> None:
    """What ends first reaches the code through many rounds of the loop."""

    async def hop(branch: Branch) -> str:
        name = await branch(seen)
        for _ in range(5):
            await asyncio.sleep(0)
        return name

    async def within(branch: Branch) -> str:
        return (await asyncio.gather(asyncio.shield(hop(branch))))[0]

    tasks = {asyncio.create_task(within(branch)) for branch in branches}
    for task in tasks:  # After a crash nobody awaits them, and asyncio would say so.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await first_by_first(tasks, seen)


async def by_eager_tasks(branches: list[Branch], seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    tasks = [asyncio.Task(branch(seen), loop=loop, eager_start=True) for branch in branches]  # type: ignore[call-arg]
    await first_by_first(set(tasks), seen)


WAYS: list[Together] = [
    by_gather,
    by_wait,
    by_as_completed,
    by_group,
    by_anyio,
    by_first_of_anyio,
    by_queue,
    by_hops,
    *([by_eager_tasks] if sys.version_info >= (3, 12) else []),
]


# --- what races -----------------------------------------------------------------------------------------------


class Races:
    """A workflow that lets two operations race, and another one that feeds it."""

    def __init__(self, awaiting: Awaiting, together: Together) -> None:
        self.number = WAYS.index(together)
        self.told: defaultdict[str, list[Seen]] = defaultdict(list)  # what each execution of the last step was given

        @awaiting.step()
        async def nap() -> None:
            await asyncio.sleep(MOMENT)

        @awaiting.step()
        async def tell(seen: Seen) -> None:
            self.told[str(DBOS.workflow_id)].append(seen)

        @awaiting.workflow()
        async def leaf() -> None:
            await nap()

        @awaiting.workflow()
        async def feeder(fed: str) -> None:
            for number in range(TIMES):
                await DBOS.sleep_async(MOMENT)
                await DBOS.set_event_async(f"{number}", number)
                await DBOS.write_stream_async("values", number)
                await DBOS.send_bulk_async([SendMessage(fed, number, "topic")] * 2)  # Two may receive.

        async def child(_: str, __: int) -> None:
            handle = await DBOS.start_workflow_async(leaf)
            await handle.get_result()

        async def too_late(_: str, __: int) -> None:
            try:
                async with asyncio.timeout(MOMENT):
                    await DBOS.recv_async("never", None)
            except TimeoutError:
                pass

        async def next_value(fed_by: str, number: int) -> None:
            async for _ in DBOS.read_stream_async(fed_by, "values", offset=number):
                return

        self.operations: dict[str, Callable[[str, int], Awaitable[Any]]] = {
            "step": lambda _, __: nap(),
            "sleep": lambda _, __: DBOS.sleep_async(MOMENT),
            "recv": lambda _, __: DBOS.recv_async("topic", PATIENCE),
            "event": lambda fed_by, number: DBOS.get_event_async(fed_by, f"{number}", PATIENCE),
            "value": next_value,
            "child": child,
            "timeout": too_late,
        }

        def branch(name: str, title: str, fed_by: str) -> Branch:
            async def run(seen: Seen) -> str:
                for number in range(TIMES):
                    await self.operations[name](fed_by, number)
                    seen.append(f"{title}: {number}")
                return title

            return run

        @awaiting.workflow()
        async def race(one: str, other: str) -> Seen:
            fed_by = (await DBOS.start_workflow_async(feeder, str(DBOS.workflow_id))).workflow_id
            seen: Seen = []
            await together([branch(one, f"1 {one}", fed_by), branch(other, f"2 {other}", fed_by)], seen)
            await tell(seen)
            await nap()
            return seen

        self._race = race

    async def run(self, one: str, other: str, workflow_id: str) -> Seen:
        """Let two race, or go on with them."""
        with SetWorkflowID(workflow_id):
            handle = await DBOS.start_workflow_async(self._race, one, other)
        return await handle.get_result()


@pytest.fixture(params=WAYS)
async def races(request: pytest.FixtureRequest, app: App, awaiting: Awaiting) -> Races:
    return Races(awaiting, request.param)


def _crash_no_more(app: App, point: Point, _: object) -> None:
    app.engine.hooks.set(point, None)


async def test_w2_what_raced_is_replayed_as_it_was_seen(app: App, races: Races) -> None:
    """Each way to run them side by side with a third of all pairs; all of them with some."""
    dice = Random(races.number)
    crashes = 0
    pairs = list(itertools.combinations_with_replacement(races.operations, 2))
    for one, other in pairs[races.number % 3 :: 3]:
        workflow_id = f"{one} and {other}"
        count, point = dice.randint(2, 16), dice.choice([Point.BATCH_TAKEN, Point.BATCH_COMMITTED])
        crash = app.crash_at(count, point)
        try:
            seen = await races.run(one, other, workflow_id)
            # The race may end before its crash, and its feeder may still write. Between two batches, so that the crash
            # comes either before this or not at all.
            await app.engine.committer.call(partial(_crash_no_more, app, point))
        except DBOSShutdownError:
            crashes += 1
            await app.restart_after(crash)
            seen = await races.run(one, other, workflow_id)
        assert all(told == seen for told in races.told[workflow_id]), workflow_id
    assert crashes
