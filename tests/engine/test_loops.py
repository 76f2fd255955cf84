"""Telling an event loop that closes from a program that cancels, and workflows whose loop has gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from tests.support.engines import aside, running, wait_until
from tests.support.face import Gate
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.runs import loops
from tidings.engine.runs.loops import BackgroundLoop, is_closing, watch_loop

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


class Hanging:
    """What keeps a loop from being closed, each in its way. Everything else on the loop is closed all the same."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.is_over = False
        self.tasks: list[asyncio.Task[None]] = []
        self.closed: list[str] = []
        self.streams: list[AsyncGenerator[str, None]] = []
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def source(self, name: str, hang: Callable[[], Awaitable[None]] | None = None) -> AsyncGenerator[str, None]:
        try:
            yield name
        finally:
            self.closed.append(f"{name} begins")
            if hang is not None:
                await hang()
            self.closed.append(name)

    async def open(self, name: str, hang: Callable[[], Awaitable[None]] | None = None) -> None:
        """Leave a generator open on this loop."""
        self.loops.append(asyncio.get_running_loop())
        stream = self.source(name, hang)
        self.streams.append(stream)  # Referred to from here, so that its end is not that of the last reference.
        assert await anext(stream) == name

    async def for_ever(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def stubbornly(self) -> None:
        while not self.is_over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()

    async def badly(self) -> None:
        raise RuntimeError("cannot be closed")

    async def in_a_thread(self) -> None:
        await asyncio.to_thread(self.gate.wait)

    async def blocking(self) -> None:
        self.gate.wait()


HANGS = {
    "for ever": Hanging.for_ever,
    "stubbornly": Hanging.stubbornly,
    "badly": Hanging.badly,
    "in a thread": Hanging.in_a_thread,
}


def of_background() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tidings-loop"]


@pytest.mark.parametrize("how", HANGS)
@pytest.mark.parametrize("what", ["a generator", "a task"])
def test_what_hangs_at_the_end_of_the_background_loop_keeps_nothing_else_open(
    database_url: str, what: str, how: str
) -> None:
    hanging = Hanging()
    hang = partial(HANGS[how], hanging)

    @DBOS.workflow(name="reader")
    async def reader() -> None:
        await hanging.open("good")
        if what == "a generator":
            await hanging.open("hangs", hang)
        else:
            hanging.tasks.append(asyncio.ensure_future(end_badly()))
            await asyncio.sleep(0)

    async def end_badly() -> None:
        try:
            await hanging.for_ever()
        finally:
            await hang()

    with running(database_url):
        DBOS.start_workflow(reader).get_result()
        threads = of_background()
    assert "good" in hanging.closed
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert all(loop.is_closed() for loop in hanging.loops)
    hanging.is_over = True
    hanging.gate.open()


def test_a_cleanup_that_blocks_the_background_loop_does_not_hold_up_the_shutdown(database_url: str) -> None:
    hanging = Hanging()

    @DBOS.workflow(name="reader")
    async def reader() -> None:
        await hanging.open("blocks", hanging.blocking)

    with running(database_url):
        DBOS.start_workflow(reader).get_result()
        (thread,) = of_background()
    assert thread.is_alive(), "the shutdown has returned, though the loop is held up"
    hanging.gate.open()
    thread.join(PATIENCE_SECONDS)
    assert hanging.loops[0].is_closed()


def test_functions_in_threads_may_end_with_the_background_loop(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_THREADS_SECONDS", "_STOP_SECONDS"):
        monkeypatch.setattr(loops, bound, PATIENCE_SECONDS)
    ended = threading.Event()
    begun = Gate()
    working: list[asyncio.Future[None]] = []

    def work() -> None:
        begun.open()
        ended.wait(0.05)
        ended.set()

    @DBOS.workflow(name="reader")
    async def reader() -> None:
        working.append(asyncio.get_running_loop().run_in_executor(None, work))
        await asyncio.to_thread(begun.wait)

    with running(database_url):
        DBOS.start_workflow(reader).get_result()
    assert ended.is_set()
