"""Workflows and steps: how many of them in a second."""

from __future__ import annotations

import asyncio
import time

from bench.library import DBOS
from bench.meter import WARM_UP_ROUNDS, Window, measuring, rounds
from bench.size import Size

CONCURRENT_STARTS = 64
CONCURRENT_RUNS = 100


@DBOS.workflow()
def nothing_blocking() -> None:
    """Start and finish."""


@DBOS.workflow()
async def nothing() -> None:
    """Start and finish."""


@DBOS.step()
def give_back_blocking(value: str) -> str:
    """Do nothing, durably."""
    return value


@DBOS.step()
async def give_back(value: str) -> str:
    """Do nothing, durably."""
    return value


@DBOS.workflow()
def steps_blocking(seconds: float, value: str) -> int:
    """Run steps one after the other, until the time is over."""
    window = Window()
    for _ in rounds(seconds, window):
        give_back_blocking(value)
        window.operations += 1
    return window.operations


@DBOS.workflow()
async def steps(seconds: float, value: str) -> int:
    """Run steps one after the other, until the time is over."""
    window = Window()
    for _ in rounds(seconds, window):
        await give_back(value)
        window.operations += 1
    return window.operations


@DBOS.workflow()
async def one_step(value: str) -> None:
    """Run one step."""
    await give_back(value)


def started_alone(size: Size) -> None:
    """Start and finish one workflow after the other."""
    for _ in range(WARM_UP_ROUNDS):
        nothing_blocking()
    with measuring("started_alone") as window:
        for began in rounds(size.seconds, window):
            nothing_blocking()
            window.took(time.perf_counter() - began)


def started_together(size: Size) -> None:
    """Start and finish workflows, many at the same time."""

    async def one_after_the_other(window: Window, seconds: float) -> None:
        for began in rounds(seconds, window):
            await nothing()
            window.took(time.perf_counter() - began)

    async def together() -> None:
        await asyncio.gather(*(nothing() for _ in range(CONCURRENT_STARTS)))
        with measuring("started_together") as window:
            await asyncio.gather(*(one_after_the_other(window, size.seconds) for _ in range(CONCURRENT_STARTS)))

    asyncio.run(together())


def steps_alone(size: Size) -> None:
    """Run steps in one async workflow."""
    asyncio.run(steps(size.seconds / 10, size.value))
    with measuring("steps_alone") as window:
        window.operations = asyncio.run(steps(size.seconds, size.value))


def steps_alone_blocking(size: Size) -> None:
    """Run steps in one blocking workflow."""
    steps_blocking(size.seconds / 10, size.value)
    with measuring("steps_alone_blocking") as window:
        window.operations = steps_blocking(size.seconds, size.value)


def steps_together(size: Size) -> None:
    """Run steps in many workflows at the same time."""

    async def together() -> None:
        await asyncio.gather(*(one_step(size.value) for _ in range(CONCURRENT_RUNS)))
        with measuring("steps_together") as window:
            counts = await asyncio.gather(*(steps(size.seconds, size.value) for _ in range(CONCURRENT_RUNS)))
            window.operations = sum(counts)

    asyncio.run(together())
