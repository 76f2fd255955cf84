"""Chaos in short, on each store: real processes are killed, paused and cut off, and every promise is kept.

The long form is `make chaos`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chaos import faults
from chaos.conductor import Plan, Report, conduct
from chaos.databases import Database, postgres_database, sqlite_file

SECONDS = 8.0
FIRST = (faults.KILL, faults.PAUSE, faults.KILL, faults.TERMINATE)
ON_SQLITE = (faults.LOCK, faults.KILL_CLIENT)
ON_POSTGRESQL = (faults.RESTART, faults.CUT, faults.CRASH, faults.HOLE)


def run(tmp_path: Path, opened: AbstractContextManager[Database], *more: str) -> Report:
    """Let these things fail, and whatever else there is time for."""
    plan = Plan(SECONDS, 7, tmp_path, lease_ms=1_500, pauses=(0.4, 1.2), first=(*FIRST, *more), patience_seconds=40.0)
    with opened as database:
        return asyncio.run(conduct(plan, database, lambda *_: None))


def check(report: Report, tmp_path: Path) -> None:
    """Make sure that much happened, and nothing bad."""
    assert not report.violations, f"{tmp_path}\n" + "\n".join(map(str, report.violations))
    assert report.counts[faults.KILL] >= 2
    assert report.counts[faults.PAUSE] >= 1
    assert report.counts["takeovers by another process"] > 0
    assert report.counts["messages received"] > 0
    assert report.counts["stream items read live"] > 0


@pytest.mark.long
def test_chaos_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    check(run(tmp_path, sqlite_file(Path(urlsplit(sqlite_url).path).parent), *ON_SQLITE), tmp_path)


@pytest.mark.long
def test_chaos_on_postgresql(tmp_path: Path) -> None:
    settings = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
    check(run(tmp_path, postgres_database(None, **settings), *ON_POSTGRESQL), tmp_path)
