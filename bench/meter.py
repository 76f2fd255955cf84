"""Sends a program's measurements to the harness that started it: one line of JSON for each window of time.

At both ends of a window the harness reads its own counters (processor time, transactions). The program waits until it
has done so.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

WARM_UP_ROUNDS = 2


@dataclass(slots=True)
class Window:
    """What happened in a window of time.

    Attributes:
        operations: how many operations there were, of the row's kind.
        latencies_ms: how long each took, if measured.
        seconds: how long they took together; the length of the window, if not set.
        memory_bytes: how much of this process's memory they took together.
    """

    operations: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    seconds: float | None = None
    memory_bytes: int | None = None

    def took(self, seconds: float) -> None:
        """Count one operation that took this long."""
        self.operations += 1
        self.latencies_ms.append(seconds * 1e3)


class _Harness:
    """The harness, at the other end of the program's standard output; nothing else may write to it."""

    def __init__(self) -> None:
        self._lines: TextIO | None = None

    def say(self, line: dict[str, Any]) -> None:
        """Say something."""
        if self._lines is None:
            self._lines = os.fdopen(os.dup(1), "w")
            os.dup2(2, 1)
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def ask(self, line: dict[str, Any]) -> None:
        """Send a line, and wait until the harness has read it."""
        self.say(line)
        sys.stdin.readline()


HARNESS = _Harness()


@contextmanager
def measuring(row: str | None, at: float | None = None) -> Iterator[Window]:
    """Measure what is done in the block.

    Args:
        row: the name of the row in the catalogue; `None` measures nothing, for warming up.
        at: the number at which it is measured, for rows with a series.
    """
    window = Window()
    if row is None:
        yield window
        return
    HARNESS.ask({"begin": row})
    began = time.perf_counter()
    yield window
    seconds = time.perf_counter() - began if window.seconds is None else window.seconds
    latencies = sorted(window.latencies_ms)
    HARNESS.ask(
        {
            "row": row,
            "at": at,
            "operations": window.operations,
            "seconds": seconds,
            "p50_ms": statistics.median(latencies) if latencies else None,
            "p99_ms": latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] if latencies else None,
            "memory_bytes": window.memory_bytes,
            "threads": threading.active_count(),
        }
    )


def rounds(seconds: float, window: Window, at_most: int | None = None) -> Iterator[float]:
    """Yield the time at the start of each round, until the time is over or there were `at_most` rounds."""
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until and (at_most is None or window.operations < at_most):
        yield now


def resident_bytes() -> int:
    """Return how much memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
