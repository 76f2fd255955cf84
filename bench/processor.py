"""Processor time of a process and all its descendants, as the kernel counts it (Linux)."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def processor_seconds(root: int) -> float:
    """Return the processor time so far of this process and its descendants, including ended ones."""
    stats = _stats()
    tree = {root} & stats.keys()
    while more := {pid for pid, (parent, _) in stats.items() if parent in tree} - tree:
        tree |= more
    return sum(_own_seconds(pid) + stats[pid][1] for pid in tree)


def _stats() -> dict[int, tuple[int, float]]:
    """Return the parent of each process, and the seconds of its ended children."""
    stats = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                text = (directory / "stat").read_text()
            except OSError:
                continue  # The process has ended meanwhile.
            # The name, in parentheses, may contain anything; count the fields after it.
            fields = text.rpartition(")")[2].split()
            stats[int(directory.name)] = int(fields[1]), (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND
    return stats


def _own_seconds(pid: int) -> float:
    """Return the time of one process. `stat` counts in steps of 10 ms; the process's clock is exact."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # As in clock_getcpuclockid(3).
    except OSError:
        return 0.0
