"""Describes this machine, as far as it matters for the figures, without naming it."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path

GIGA = 1 << 30


def describe_machine() -> dict[str, str]:
    """Return the description, by title."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{_processor_model()}, {os.cpu_count()} cores",
        "memory": f"{memory / GIGA:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
