"""Time limits of the code do in workflows what they do on any event loop, and in a replay the same (W2)."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.api.test_order import MOMENT, Seen, seen_twice
from tests.support.app import App
from tests.support.engines import running
from tests.support.face import Awaiting
from tidings import DBOS
from tidings.engine.hooks import Point


async def branches() -> None:
    """Let the run have branches, and so an order of what comes to them."""
    await asyncio.gather(DBOS.sleep_async(0), DBOS.sleep_async(0))


# --- as on any loop -----------------------------------------------------------------------------------------------


async def whose_time_is_up() -> list[str]:
    found = []
    for seconds in (0, -1, 0.0):
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(0)
            found.append("in time")
        except TimeoutError:
            found.append("too late")
    return found


async def one_in_the_other() -> list[bool]:
    when = asyncio.get_running_loop().time() + 5 * MOMENT
    limits = [asyncio.timeout_at(when), asyncio.timeout_at(when)]
    with contextlib.suppress(TimeoutError):
        async with limits[0], limits[1]:
            await asyncio.Event().wait()
    return [each.expired() for each in limits]


async def that_fail() -> list[str]:
    loop, said, is_over = asyncio.get_running_loop(), [], asyncio.Event()

    def hear(_: object, context: dict[str, Any]) -> None:
        said.append(f"{context['message']}, {context['exception']!r}")
        said.append(repr(context["handle"]).partition(" when=")[0])
        is_over.set()

    def fail(why: str) -> None:
        raise ValueError(why)

    former = loop.get_exception_handler()
    loop.set_exception_handler(hear)
    try:
        loop.call_later(MOMENT, fail, "why")
        await is_over.wait()
    finally:
        loop.set_exception_handler(former)
    return said


@pytest.mark.parametrize("has_branches", [False, True])
@pytest.mark.parametrize("code", [whose_time_is_up, one_in_the_other, that_fail])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_limits_do_what_they_do_outside_of_workflows(
    database_url: str, code: Callable[[], Awaitable[Any]], run: Callable[[Any], Any], *, has_branches: bool
) -> None:
    async def within() -> Any:
        if has_branches:
            await branches()
        return await code()

    @DBOS.workflow()
    def order() -> Any:
        return run(within())

    async def plainly() -> Any:
        return await code()

    with running(database_url):
        found = order()
    expected = run(plainly())
    if run is asyncio.run or code is whose_time_is_up:
        assert found == expected
    elif code is that_fail:  # uvloop writes the callback otherwise.
        assert "that_fail.<locals>.fail" in found[0]
    else:  # Its timers count whole milliseconds, each from when it is set.
        assert any(found)


@pytest.mark.parametrize("has_branches", [False, True])
async def test_w2_limits_that_are_up_at_once_are_so_in_a_replay(
    app: App, awaiting: Awaiting, *, has_branches: bool
) -> None:
    async def code(seen: Seen) -> None:
        if has_branches:
            await branches()
        seen.extend(await one_in_the_other())
        await DBOS.sleep_async(0)
        seen.extend(await whose_time_is_up())
        await DBOS.sleep_async(0)

    before, after = await seen_twice(app, awaiting, code)
    assert before == after == [True, True, "too late", "too late", "too late"]


# --- watchdogs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_branches", [False, True])
@pytest.mark.parametrize("operation", ["step", "event", "message"])
async def test_w2_a_limit_is_put_off_after_each_operation(
    app: App, awaiting: Awaiting, operation: str, *, has_branches: bool
) -> None:
    """Also where it was up while the result was being committed, which wins."""

    @awaiting.step()
    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def operate(number: int) -> None:
        if operation == "step":
            await nap(MOMENT * (number % 3) / 2)
        elif operation == "event":
            await DBOS.set_event_async("key", number)
        else:
            assert DBOS.workflow_id is not None
            await DBOS.send_async(DBOS.workflow_id, number, "own")
            await DBOS.recv_async("own", 1.0)

    async def code(seen: Seen) -> None:
        loop = asyncio.get_running_loop()
        if has_branches:
            await branches()
        for _ in range(6):
            try:
                async with asyncio.timeout(MOMENT) as limit:
                    for number in range(5):
                        await operate(number)
                        seen.append(number)
                        limit.reschedule(loop.time() + MOMENT)
            except TimeoutError:
                seen.append("too late")

    commits = 0

    def hold(_: object) -> None:
        nonlocal commits
        commits += 1
        time.sleep(MOMENT * (commits % 3))

    app.engine.hooks.set(Point.BATCH_TAKEN, hold)
    before, after = await seen_twice(app, awaiting, code)
    assert before == after
