"""Streams: writing, reading what is written, and many readers of a stream that is being written."""

from __future__ import annotations

import asyncio
import gc
import time

from bench.library import DBOS
from bench.meter import Window, measuring, resident_bytes, rounds
from bench.size import Size

READERS = 100
ITEMS_PER_SECOND = 1_000
ITEMS_PER_BURST = 10
# Memory is measured only now and then while reading, because that takes a moment.
ITEMS_PER_LOOK = 1_000


@DBOS.workflow()
def write_many(seconds: float, count: int, value: str) -> int:
    """Write to a stream until the time is over, or `count` items are written."""
    return _write(seconds, count, value)


@DBOS.step()
def write_step(seconds: float, count: int, value: str) -> int:
    """The same, in a step."""
    return _write(seconds, count, value)


@DBOS.workflow()
def write_in_step(seconds: float, count: int, value: str) -> int:
    """Write in a step."""
    return write_step(seconds, count, value)


@DBOS.workflow()
async def write_steadily(seconds: float) -> int:
    """Write the current time, `ITEMS_PER_SECOND` times a second or as fast as possible; return how many."""
    window = Window()
    began = time.perf_counter()
    for now in rounds(seconds, window):
        for _ in range(ITEMS_PER_BURST):
            await DBOS.write_stream_async("values", time.monotonic_ns())
            window.operations += 1
        await asyncio.sleep(max(0.0, began + window.operations / ITEMS_PER_SECOND - now))
    return window.operations


def _write(seconds: float, count: int, value: str) -> int:
    window = Window()
    for _ in rounds(seconds, window, count):
        DBOS.write_stream("values", value)
        window.operations += 1
    return window.operations


def stream_written(size: Size) -> None:
    """Write a stream in a workflow. The workflow's end is included, because only then all items are durable."""
    write_many(size.seconds / 10, size.count, size.value)
    with measuring("stream_written") as window:
        window.operations = write_many(size.seconds, size.count, size.value)


def stream_written_in_step(size: Size) -> None:
    """Write a stream in a step."""
    write_in_step(size.seconds / 10, size.count, size.value)
    with measuring("stream_written_in_step") as window:
        window.operations = write_in_step(size.seconds, size.count, size.value)


def stream_read(size: Size) -> None:
    """Read a written stream, blocking and awaited."""
    handle = DBOS.start_workflow(write_in_step, size.seconds, size.count, size.value)
    handle.get_result()
    with measuring("stream_read") as window:
        for _ in DBOS.read_stream(handle.workflow_id, "values"):
            window.operations += 1

    async def read() -> None:
        with measuring("stream_read_async") as window:
            async for _ in DBOS.read_stream_async(handle.workflow_id, "values"):
                window.operations += 1

    asyncio.run(read())


def stream_read_memory(size: Size) -> None:
    """Measure how much memory reading a long stream takes at most."""
    handle = DBOS.start_workflow(write_many, size.seconds, size.count, size.value)
    handle.get_result()
    gc.collect()
    before = highest = resident_bytes()
    with measuring("stream_read_memory") as window:
        for _ in DBOS.read_stream(handle.workflow_id, "values"):
            window.operations += 1
            if window.operations % ITEMS_PER_LOOK == 0:
                highest = max(highest, resident_bytes())
        window.memory_bytes = highest - before


def stream_readers(size: Size) -> None:
    """Many readers of a stream that is written at a steady rate: the age of each item when it arrives."""

    async def read(window: Window, workflow_id: str) -> None:
        async for written in DBOS.read_stream_async(workflow_id, "values"):
            window.took((time.monotonic_ns() - written) / 1e9)

    async def all_read() -> None:
        handle = await DBOS.start_workflow_async(write_steadily, size.seconds)
        with measuring("stream_readers") as window:
            await asyncio.gather(*(read(window, handle.workflow_id) for _ in range(READERS)))
        await handle.get_result()

    asyncio.run(all_read())
