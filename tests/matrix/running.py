"""Runs the suite on one platform and counts the results."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.matrix.platform import REPOSITORY, WORKSHOP, Missing, run
from tests.matrix.rows import Row

LOGS: Final = WORKSHOP / "logs"

_PATIENCE_SECONDS: Final = 60
# The user's own settings, which could make two rows alike.
_OURS: Final = ("TEST_POSTGRES_", "TEST_PGBOUNCER_")

_VERSIONS: Final = """
import re, sqlite3, subprocess, sys, sysconfig
from harness import postgres
said = subprocess.run([postgres.find_programs() / "postgres", "--version"], capture_output=True, text=True).stdout
free = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(f"Python {sys.version.split()[0]}{free}, SQLite {sqlite3.sqlite_version}, PostgreSQL {said.split()[2]}")
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a row.

    Attributes:
        row: Which row.
        versions: The versions it ran on, as the run itself reported them.
        source: The origin of the part in which this row differs from others.
        outcome: The counts, or why it did not run.
        seconds: How long it took; `None` if it did not run.
        failed: The tests that failed, or one sentence about a run that did not finish.
    """

    row: Row
    versions: str
    source: str
    outcome: str
    seconds: float | None = None
    failed: tuple[str, ...] = ()


def run_row(row: Row, arguments: Sequence[str], limit_seconds: float) -> Result:
    """Prepare the platform of this row and run the suite there, with these arguments to pytest."""
    try:
        platform = row.prepare()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment |= platform.environment
        versions = run([*platform.interpreter.command, "-c", _VERSIONS], environment=environment, timeout=60).strip()
    except Missing as error:
        return Result(row, row.title, "", f"not run: {error}")
    except Exception as error:  # An error in the preparation of one row must not stop the others.
        return Result(row, row.title, "", "not run", failed=(f"its preparation failed: {error!r}",))
    versions = ", ".join(filter(None, [platform.besides, versions]))
    LOGS.mkdir(parents=True, exist_ok=True)
    log, report = LOGS / f"{row.name}.log", LOGS / f"{row.name}.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    command = [*platform.interpreter.command, "-m", "pytest", f"--junit-xml={report}", *arguments, *row.selected]
    ended = _run_to_its_end(command, environment, log, limit_seconds)
    seconds = time.monotonic() - began
    outcome, failed = _read(report)
    if ended is not None:
        failed = (ended, *failed)
    return Result(row, versions, platform.source, outcome, seconds, failed)


def _run_to_its_end(command: Sequence[str], environment: Mapping[str, str], log: Path, limit: float) -> str | None:
    """Run pytest with its output in `log`. Return why it did not finish, or `None` if it did, with or without
    failures."""
    with log.open("wb") as output, _group() as group:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=environment,
            process_group=group,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            _interrupt(process)
            return f"it did not end within {limit / 60:g} minutes"
        except BaseException:
            _interrupt(process)
            raise
    return None if code in (0, 1) else f"pytest ended with the exit code {code}"


@contextmanager
def _group() -> Iterator[int]:
    """Yield a process group. Its processes end after the block, and with this process, however this one ends.

    A guard leads the group and holds the other end of a pipe, which closes when this process ends.
    """
    guard = subprocess.Popen(["sh", "-c", "cat > /dev/null; kill -KILL 0"], stdin=subprocess.PIPE, process_group=0)
    try:
        yield guard.pid
    finally:
        guard.communicate()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupt pytest, and give it time to clean up."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)


def _read(report: Path) -> tuple[str, tuple[str, ...]]:
    """Read pytest's report: the counts in words, and the tests that failed."""
    if not report.exists():
        return "no report", ("pytest wrote no report",)
    suites = ET.parse(report).getroot().findall("testsuite")
    total, skipped = (sum(int(suite.get(what, 0)) for suite in suites) for what in ("tests", "skipped"))
    failed = tuple(
        sorted(
            f"{case.get('classname')}::{case.get('name')}"
            for suite in suites
            for case in suite.findall("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        )
    )
    bad = len(set(failed))
    parts = [
        f"{total - bad - skipped:,} passed",
        f"{bad:,} failed" if bad else "",
        f"{skipped} skipped" if skipped else "",
    ]
    return ", ".join(filter(None, parts)), failed
