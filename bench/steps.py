"""Durable steps per second: many workflows at once, and one alone, beside raw inserts of the same run.

    python -m bench.steps [URL ...]

Without a URL: a SQLite file, and a PostgreSQL server of its own with its default settings (fsync on).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from pathlib import Path

from bench.raw import inserts_per_second
from tests.support.postgres import postgres_server
from tidings import DBOS

WORKFLOWS = 100
STEPS = 50
ALONE_STEPS = 2_000
ROUNDS = 3
RAW_SECONDS = 1.0


@DBOS.step()
async def add(total: int, number: int) -> int:
    return total + number


@DBOS.step()
def add_blocking(total: int, number: int) -> int:
    return total + number


@DBOS.workflow()
async def sum_up(steps: int) -> int:
    total = 0
    for number in range(steps):
        total = await add(total, number)
    return total


@DBOS.workflow()
def sum_up_blocking(steps: int) -> int:
    total = 0
    for number in range(steps):
        total = add_blocking(total, number)
    return total


async def concurrent_steps_per_second() -> float:
    began = time.perf_counter()
    await asyncio.gather(*(sum_up(STEPS) for _ in range(WORKFLOWS)))
    return WORKFLOWS * STEPS / (time.perf_counter() - began)


async def alone_steps_per_second() -> float:
    began = time.perf_counter()
    await sum_up(ALONE_STEPS)
    return ALONE_STEPS / (time.perf_counter() - began)


def alone_blocking_steps_per_second() -> float:
    began = time.perf_counter()
    sum_up_blocking(ALONE_STEPS)
    return ALONE_STEPS / (time.perf_counter() - began)


def measure(url: str) -> None:
    name = url.partition(":")[0]
    DBOS(config={"name": "bench", "system_database_url": url})
    with DBOS.launch():
        asyncio.run(concurrent_steps_per_second())  # Not counted: statements are prepared, caches filled.
        concurrent = [asyncio.run(concurrent_steps_per_second()) for _ in range(ROUNDS)]
        alone = [asyncio.run(alone_steps_per_second()) for _ in range(ROUNDS)]
        blocking = [alone_blocking_steps_per_second() for _ in range(ROUNDS)]
    print(f"\n{name}: durable no-op steps per second, median of {ROUNDS} (lowest … highest)")
    show(f"{WORKFLOWS} async workflows x {STEPS} steps", concurrent)
    show(f"one async workflow, {ALONE_STEPS} steps", alone)
    show(f"one blocking workflow, {ALONE_STEPS} steps", blocking)
    print(f"{name}: raw durable inserts per second, rows per commit")
    for rows in (1, 16, 64, 100, 256):
        print(f"  {rows:>4} rows {inserts_per_second(url, rows, RAW_SECONDS):>44,.0f}")


def show(case: str, figures: list[float]) -> None:
    median = statistics.median(figures)
    print(f"  {case:<38} {median:>15,.0f}  ({min(figures):,.0f} … {max(figures):,.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="*", help="sqlite:///file.sqlite or postgresql://user@host/database")
    urls = parser.parse_args().url
    logging.getLogger("tidings").setLevel(logging.ERROR)
    for url in urls:
        measure(url)
    if not urls:
        with tempfile.TemporaryDirectory() as folder:
            measure(f"sqlite:///{Path(folder) / 'bench.sqlite'}")
        with postgres_server() as url:
            measure(url)


if __name__ == "__main__":
    main()
