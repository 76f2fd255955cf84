"""Telling an event loop that closes from a program that cancels, and workflows whose loop has gone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.support.engines import aside, running, wait_until
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine import loops
from tidings.engine.loops import BackgroundLoop, is_closing, watch_loop

FOREVER = 3_600.0


async def test_a_loop_that_runs_is_not_closing() -> None:
    loop = asyncio.get_running_loop()
    assert not is_closing(loop)
    watch_loop(loop)
    watch_loop(loop)
    await asyncio.sleep(0)
    assert not is_closing(loop)


def test_asyncio_run_is_seen_closing_by_whom_it_cancels() -> None:
    seen: list[bool] = []

    async def bystander() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append(is_closing(asyncio.get_running_loop()))

    async def main(watch_first: bool) -> None:
        loop = asyncio.get_running_loop()
        if watch_first:
            watch_loop(loop)
        others = [loop.create_task(bystander()) for _ in range(2)]
        if not watch_first:
            watch_loop(loop)
        await asyncio.sleep(0)
        others[0].cancel()
        await asyncio.wait(others[:1])
        seen.append(False)

    for watch_first in (True, False):
        seen.clear()
        asyncio.run(main(watch_first))
        assert seen == [False, False, True], "cancelled by the program, then by the end of the loop"


def test_a_closed_loop_is_closing_and_is_forgotten() -> None:
    async def main() -> None:
        watch_loop(asyncio.get_running_loop())
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    [sentinel] = asyncio.all_tasks(loop)
    sentinel.cancel()
    loop.run_until_complete(asyncio.wait([sentinel]))
    assert is_closing(loop)
    loop.close()
    assert is_closing(loop)
    gone = weakref.ref(loop)
    del loop, sentinel
    gc.collect()
    assert gone() is None, "whoever calls asyncio.run a million times keeps a million loops"


def test_many_loops_one_after_the_other_leave_nothing() -> None:
    async def main() -> None:
        watch_loop(asyncio.get_running_loop())

    former = set(loops._sentinels)
    for _ in range(20):
        asyncio.run(main())
    assert set(loops._sentinels) - former == set()


def test_the_background_loop_starts_when_needed_and_stops_with_its_tasks() -> None:
    background = BackgroundLoop()
    given: list[Future[asyncio.AbstractEventLoop]] = [Future(), Future()]
    for each in given:
        assert background.call(each.set_result)
    loop, again = (each.result(PATIENCE_SECONDS) for each in given)
    assert again is loop
    ended: list[str] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("had a last turn")

    future = asyncio.run_coroutine_threadsafe(wait_for_ever(), loop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(20)
    background.stop()
    background.stop()
    wait_until(loop.is_closed)
    assert future.cancelled()
    assert ended == ["had a last turn"]
    assert not background.call(given[0].set_result), "nobody would stop another one"


def test_a_run_goes_on_when_its_loop_ends_however_it_ends(database_url: str) -> None:
    @DBOS.workflow(name="wanderer")
    async def wanderer() -> list[Any]:
        received = [await DBOS.recv_async("topic", FOREVER)]
        received += await asyncio.gather(DBOS.recv_async("left", FOREVER), DBOS.recv_async("right", FOREVER))
        return received

    async def start() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(wanderer)
        await asyncio.to_thread(here.await_waiting, 1)
        await DBOS.send_async("w", "first", "topic")
        await asyncio.to_thread(here.await_waiting, 2)

    with running(database_url) as here:
        asyncio.run(start())
        here.await_waiting(2)  # On the background loop.
        DBOS.send("w", 1, "left")
        here.await_waiting(1)
        DBOS.send("w", 2, "right")
        assert DBOS.get_result("w") == ["first", 1, 2]
        assert len(here.engine.waiters) == 0
    assert {entry.state for entry in read_records(database_url).entries} == {"DONE"}


def test_code_that_swallows_the_cancellation_of_a_closing_loop_records_nothing(database_url: str) -> None:
    caught: list[str] = []

    @DBOS.workflow(name="stubborn")
    async def stubborn() -> Any:
        try:
            return await DBOS.recv_async("topic", FOREVER)
        except asyncio.CancelledError:
            caught.append("cancelled")
        return await DBOS.recv_async("other", FOREVER)

    async def start() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(stubborn)
        await asyncio.to_thread(here.await_waiting, 1)

    with running(database_url) as here:
        asyncio.run(start())
        here.await_waiting(1)
        DBOS.send("w", "kept", "topic")
        assert DBOS.get_result("w") == "kept"
    assert caught == ["cancelled"]


def test_a_caller_that_goes_away_ends_only_its_waiting(database_url: str) -> None:
    @DBOS.workflow(name="persistent")
    async def persistent() -> Any:
        return await DBOS.recv_async("topic", FOREVER)

    async def call_and_leave() -> None:
        with SetWorkflowID("w"):
            calling = asyncio.ensure_future(persistent())
        await asyncio.to_thread(here.await_waiting, 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await DBOS.send_async("w", "alive", "topic")
        assert await DBOS.get_result_async("w") == "alive"

    with running(database_url) as here:
        aside(lambda: asyncio.run(call_and_leave())).result(timeout=PATIENCE_SECONDS)
        assert len(here.engine.waiters) == 0


@pytest.mark.parametrize("how", ["left open", "in use", "in a step"])
def test_the_end_of_the_background_loop_closes_its_async_generators(database_url: str, how: str) -> None:
    closed: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "ready"
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            closed.append(how)

    stream = source()  # Referred to from here, so that its end is not that of the last reference.

    async def read() -> str:
        return await anext(stream)

    @DBOS.workflow(name="reader")
    async def reader() -> str:
        if how == "in a step":
            return await DBOS.run_step_async({"name": "read"}, read)
        first = await anext(stream)
        if how == "in use":
            await DBOS.set_event_async("first", first)
            await anext(stream)
        return first

    with running(database_url), SetWorkflowID("w"):
        DBOS.start_workflow(reader)
        if how == "in use":
            assert DBOS.get_event("w", "first") == "ready"
        else:
            assert DBOS.get_result("w") == "ready"
    assert closed == [how]
