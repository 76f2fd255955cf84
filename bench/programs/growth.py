"""How cost grows: with concurrent workflows, consumed messages, the length of a stream, and processes.

A slow library does not reach the end of a series: the series stops when its time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from queue import SimpleQueue

from bench.actor import Neighbour
from bench.library import DBOS, SendMessage
from bench.meter import Window, measuring, rounds
from bench.programs.workflows import one_step
from bench.size import Size

CONCURRENT = (1, 4, 16, 64, 256, 1_024, 4_096)
BEFORE = (100, 1_000, 10_000, 100_000, 1_000_000)
PROCESSES = (1, 2, 4)
CONCURRENT_IN_EACH_PROCESS = 64
MEASURED = 100
MESSAGES_PER_CALL = 500
WAIT_SECONDS = 600.0

_orders: SimpleQueue[int] = SimpleQueue()
_done: SimpleQueue[float] = SimpleQueue()


@DBOS.step()
def be_durable() -> None:
    """Do nothing. A step begins only when everything written before it is durable."""


@DBOS.workflow()
def receive_as_told() -> None:
    """Receive as many messages as told, report how long it took, and repeat."""
    while count := _orders.get():
        began = time.perf_counter()
        for _ in range(count):
            DBOS.recv("inbox", WAIT_SECONDS)
        _done.put(time.perf_counter() - began)


@DBOS.workflow()
def write_as_told(value: str) -> None:
    """Write as many items as told, report how long it took until they were durable, and repeat."""
    while count := _orders.get():
        began = time.perf_counter()
        for _ in range(count):
            DBOS.write_stream("values", value)
        be_durable()
        _done.put(time.perf_counter() - began)


def with_concurrency(size: Size) -> None:
    """Workflows of one step each, more and more of them at once."""
    asyncio.run(_many(CONCURRENT[0], size.seconds / 10, size.value))
    for concurrent in CONCURRENT:
        if concurrent > size.count:
            break
        with measuring("with_concurrency", concurrent) as window:
            asyncio.run(_many(concurrent, size.seconds, size.value, window))


def with_consumed(size: Size) -> None:
    """Receive messages in one workflow, after more and more were consumed."""
    destination = DBOS.start_workflow(receive_as_told)

    def consume(count: int) -> float:
        message = SendMessage(destination.workflow_id, size.value, "inbox")
        for first in range(0, count, MESSAGES_PER_CALL):
            DBOS.send_bulk([message] * min(MESSAGES_PER_CALL, count - first))
        return _ordered(count)

    _with_ever_more(size, consume, lambda before: _record("with_consumed", before, consume(MEASURED)))
    _orders.put(0)
    destination.get_result()


def with_length(size: Size) -> None:
    """Write to a stream and read its end, while it becomes longer."""
    writer = DBOS.start_workflow(write_as_told, size.value)

    def measure(before: int) -> None:
        _record("write_with_length", before, _ordered(MEASURED))
        began = time.perf_counter()
        for _ in islice(DBOS.read_stream(writer.workflow_id, "values", offset=before), MEASURED):
            pass
        _record("read_with_length", before, time.perf_counter() - began)

    _with_ever_more(size, _ordered, measure)
    _orders.put(0)
    writer.get_result()


def with_processes(size: Size) -> None:
    """Workflows of one step each, in more and more processes on one database."""
    for count in PROCESSES:
        neighbours = [Neighbour(f"neighbour-{count}-{number}") for number in range(count)]
        for neighbour in neighbours:
            neighbour.do("many", size.seconds / 10, size.value)
        with measuring("with_processes", count) as window:
            for neighbour in neighbours:
                neighbour.tell("many", size.seconds, size.value)
            window.operations = sum(neighbour.answer() for neighbour in neighbours)
        for neighbour in neighbours:
            neighbour.end()


def many(seconds: float, value: str) -> int:
    """Run as one of the processes."""
    window = Window()
    asyncio.run(_many(CONCURRENT_IN_EACH_PROCESS, seconds, value, window))
    return window.operations


async def _many(concurrent: int, seconds: float, value: str, window: Window | None = None) -> None:
    window = window or Window()

    async def one_after_the_other() -> None:
        for began in rounds(seconds, window):
            await one_step(value)
            window.took(time.perf_counter() - began)

    await asyncio.gather(*(one_after_the_other() for _ in range(concurrent)))


def _with_ever_more(size: Size, add: Callable[[int], float], measure: Callable[[int], None]) -> None:
    add(MEASURED)  # Not counted: it prepares statements and fills caches.
    until = time.perf_counter() + size.seconds
    there = MEASURED
    for before in (number for number in BEFORE if number <= size.count):
        while there < before and time.perf_counter() < until:
            more = min(MESSAGES_PER_CALL, before - there)
            add(more)
            there += more
        if there < before:
            break
        measure(there)
        there += MEASURED


def _ordered(count: int) -> float:
    _orders.put(count)
    return _done.get()


def _record(row: str, before: int, seconds: float) -> None:
    with measuring(row, before) as window:
        window.operations, window.seconds = MEASURED, seconds
