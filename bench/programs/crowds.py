"""Many workflows at once: thousands that wait, and thousands that a killed process has left."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import threading
import time
from typing import Any

from bench.actor import Neighbour
from bench.library import DBOS, SendMessage, SetWorkflowID
from bench.meter import measuring, resident_bytes
from bench.size import Size

PROCESSES = 2
STARTERS = 64
MESSAGES_PER_CALL = 500
RECORDED_STEPS = 10
WAIT_SECONDS = 600.0
SETTLE_SECONDS = 0.5


class Crowd:
    """Counts how many workflows of this process have reached a certain point."""

    def __init__(self) -> None:
        self.dying = False
        self._missing = 0
        self._complete = threading.Event()
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """Start counting again, until `count` have arrived."""
        self._missing = count
        self._complete.clear()

    def arrive(self) -> None:
        """Count one more."""
        with self._lock:
            self._missing -= 1
            if self._missing == 0:
                self._complete.set()

    def wait(self) -> None:
        """Wait until all have arrived."""
        self._complete.wait()


CROWD = Crowd()
_part: list[tuple[asyncio.AbstractEventLoop, list[Any]]] = []  # a neighbour's part of a crowd


@DBOS.workflow()
async def wait_for_word() -> None:
    """Wait for a message."""
    CROWD.arrive()
    await DBOS.recv_async("word", WAIT_SECONDS)


@DBOS.step()
async def give_back(number: int) -> int:
    """Do nothing, durably."""
    return number


@DBOS.workflow()
async def survive() -> None:
    """Record some steps; then hang, if this process will be killed."""
    for number in range(RECORDED_STEPS):
        await give_back(number)
    CROWD.arrive()
    if CROWD.dying:
        await asyncio.Event().wait()


def waiting(size: Size) -> None:
    """Let many workflows wait for a message: the memory of each, and how fast all are woken and finished."""

    async def crowd(count: int, memory_row: str | None, finish_row: str | None) -> None:
        numbers = iter(range(count))
        handles = []

        async def start() -> None:
            handles.extend([await DBOS.start_workflow_async(wait_for_word) for _ in numbers])

        CROWD.expect(count)
        gc.collect()
        before = resident_bytes()
        with measuring(memory_row) as window:
            await asyncio.gather(*(start() for _ in range(STARTERS)))
            await asyncio.to_thread(CROWD.wait)
            # The last ones are only about to wait; a message sent too early would be measured.
            await asyncio.sleep(SETTLE_SECONDS)
            gc.collect()
            window.operations = count
            window.memory_bytes = resident_bytes() - before
        messages = [SendMessage(handle.workflow_id, None, "word") for handle in handles]
        with measuring(finish_row) as window:
            for first in range(0, count, MESSAGES_PER_CALL):
                await DBOS.send_bulk_async(messages[first : first + MESSAGES_PER_CALL])
            await asyncio.gather(*(handle.get_result() for handle in handles))
            window.operations = count

    async def after_warm_up() -> None:
        await crowd(STARTERS, None, None)
        await crowd(size.count, "waiting_memory", "waiting_woken")

    asyncio.run(after_warm_up())


def waiting_apart(size: Size) -> None:
    """Let a crowd wait in two processes, and send to all of it from this process, the third."""
    neighbours = [Neighbour(f"neighbour-{number}") for number in range(PROCESSES)]
    each = size.count // PROCESSES
    for number, neighbour in enumerate(neighbours):
        neighbour.tell("let_wait", f"crowd-{number}", each)
    for neighbour in neighbours:
        neighbour.answer()
    ids = [f"crowd-{number}-{one}" for one in range(each) for number in range(PROCESSES)]
    messages = [SendMessage(workflow_id, None, "word") for workflow_id in ids]
    for neighbour in neighbours:
        neighbour.tell("await_crowd")
    with measuring("waiting_woken_apart") as window:
        for first in range(0, len(messages), MESSAGES_PER_CALL):
            DBOS.send_bulk(messages[first : first + MESSAGES_PER_CALL])
        for neighbour in neighbours:
            neighbour.answer()
        window.operations = len(messages)
    for neighbour in neighbours:
        neighbour.end()


# The actions of a neighbour with a part of the crowd.


def let_wait(prefix: str, count: int) -> None:
    """Start `count` workflows; return when they wait."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    _part.append((loop, asyncio.run_coroutine_threadsafe(_start_waiting(prefix, count), loop).result()))


def await_crowd() -> None:
    """Return when all of them have ended."""
    [(loop, handles)] = _part

    async def gather() -> None:
        await asyncio.gather(*(handle.get_result() for handle in handles))

    asyncio.run_coroutine_threadsafe(gather(), loop).result()


async def _start_waiting(prefix: str, count: int) -> list[Any]:
    numbers = iter(range(count))
    handles = []

    async def start() -> None:
        for number in numbers:
            with SetWorkflowID(f"{prefix}-{number}"):
                handles.append(await DBOS.start_workflow_async(wait_for_word))

    CROWD.expect(count)
    await asyncio.gather(*(start() for _ in range(STARTERS)))
    await asyncio.to_thread(CROWD.wait)
    await asyncio.sleep(SETTLE_SECONDS)
    return handles


def recovered(size: Size) -> None:
    """Kill a process with many workflows; measure from the next one's launch until all have finished."""
    victim = Neighbour(executor_id=None)
    victim.do("run_until_killed", size.count)
    victim.kill()
    CROWD.expect(size.count)
    with measuring("recovered") as window:
        DBOS.launch()
        CROWD.wait()
        for number in range(size.count):
            DBOS.retrieve_workflow(f"survivor-{number}").get_result()
        window.operations = size.count


recovered.launches = True  # type: ignore[attr-defined]


def taken_over(size: Size) -> None:
    """Kill a process in which many wait; measure until all are executed again in this process, which was running."""
    _taken_over("taken_over", Neighbour("victim"), size.count)


def taken_over_elsewhere(size: Size) -> None:
    """The same, for a process that counts as one on another host: its lock file is where no process looks."""
    with tempfile.TemporaryDirectory() as elsewhere:
        _taken_over("taken_over_elsewhere", Neighbour("victim", TMPDIR=elsewhere), size.count)


def _taken_over(row: str, victim: Neighbour, count: int) -> None:
    victim.do("let_wait", "left", count)
    CROWD.expect(count)
    with measuring(row) as window:
        killed = time.perf_counter()
        victim.kill()
        CROWD.wait()
        window.took(time.perf_counter() - killed)


def run_until_killed(count: int) -> None:
    """Run as the victim: return when all have recorded their steps, then hang."""
    CROWD.dying = True
    CROWD.expect(count)
    threading.Thread(target=asyncio.run, args=(_start_survivors(count),), daemon=True).start()
    CROWD.wait()


async def _start_survivors(count: int) -> None:
    for number in range(count):
        with SetWorkflowID(f"survivor-{number}"):
            await DBOS.start_workflow_async(survive)
    await asyncio.Event().wait()
