"""Runs one program in its own process, in the environment of its library, and adds the harness' own counters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import msgspec

from bench.catalogue import Program
from bench.processor import processor_seconds
from bench.records import BARE, OURS, PEER, Failed, Measured, Reported
from bench.size import Size
from bench.stores import Store

ROOT = Path(__file__).parents[1]
PEER_PYTHON = ROOT / "bench" / ".peer" / "bin" / "python"
LIMIT_SECONDS = 200.0
ERROR_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a program with one library on one store."""

    program: Program
    library: str
    store: Store
    size: Size
    repetition: int


@dataclass(frozen=True, slots=True)
class _Counters:
    """The counters at one end of a window."""

    cpu_seconds: float
    server_cpu_seconds: float | None
    transactions: int | None


def size_of(program: Program, library: str, quick: bool, payload: int, seconds: float | None) -> Size | None:
    """Return the program's size in this form, or `None` if it does not run in it."""
    size = program.quick if quick else program.full
    if size is None:
        return None
    size = replace(size, payload=payload, seconds=size.seconds if seconds is None else seconds)
    if library == PEER and program.peer_count:
        size = replace(size, count=program.peer_count[quick])
    return size


def run(job: Job) -> list[Measured | Failed]:
    """Run the job on a new database; return what it measured, and how it failed if it did."""
    with job.store.database() as url, tempfile.TemporaryFile() as errors:
        process = _start(job, url, errors)
        watchdog = threading.Timer(LIMIT_SECONDS, _kill, [process])
        watchdog.start()
        try:
            records: list[Measured | Failed] = list(_listen(job, process))
            process.wait()
        finally:
            watchdog.cancel()
            _kill(process)
            process.communicate()
        if process.returncode != 0:
            records.append(_failure(job, process.returncode, errors))
        return records


def _start(job: Job, url: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process as the leader of a group, so that its neighbours end with it."""
    python = str(PEER_PYTHON) if job.library == PEER else sys.executable
    module = "bench.limits" if job.library == BARE else "bench.program"
    argument = json.dumps({"program": job.program.name, "url": url, "size": asdict(job.size)})
    # The peer's environment sees the benchmark, but no other code of this project.
    path = str(ROOT) if job.library == PEER else os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.Popen(
        [python, "-m", module, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "BENCH_LIBRARY": PEER if job.library == PEER else OURS},
        start_new_session=True,
    )


def _listen(job: Job, process: subprocess.Popen[bytes]) -> Iterator[Measured]:
    """Yield the measurement of each window; the program continues when the counters have been read."""
    assert process.stdin is not None
    assert process.stdout is not None
    began, load = _count(job, process), os.getloadavg()[0]
    for line in process.stdout:
        now, load_after = _count(job, process), os.getloadavg()[0]
        if b'"row"' in line:
            yield _measured(job, msgspec.json.decode(line, type=Reported), (began, now), (load, load_after))
        began, load = _count(job, process), load_after
        process.stdin.write(b"\n")
        process.stdin.flush()


def _count(job: Job, process: subprocess.Popen[bytes]) -> _Counters:
    return _Counters(processor_seconds(process.pid), job.store.processor_seconds(), job.store.transactions())


def _measured(
    job: Job, window: Reported, counters: tuple[_Counters, _Counters], loads: tuple[float, float]
) -> Measured:
    before, after = counters
    operations = max(1, window.operations)
    server = transactions = None
    if before.server_cpu_seconds is not None and after.server_cpu_seconds is not None:
        server = (after.server_cpu_seconds - before.server_cpu_seconds) * 1e6 / operations
    if before.transactions is not None and after.transactions is not None:
        transactions = (after.transactions - before.transactions) / operations
    cpu_us = (after.cpu_seconds - before.cpu_seconds) * 1e6 / operations
    return Measured(job.store.name, job.library, job.repetition, window, cpu_us, server, transactions, *loads)


def _failure(job: Job, status: int, errors: IO[bytes]) -> Failed:
    """Return why it failed: the last line that it wrote, without the traceback."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    why = lines[-1].replace(f"{ROOT}{os.sep}", "") if lines else ""
    if status < 0:
        why = f"killed after {LIMIT_SECONDS:.0f} s" if -status == signal.SIGKILL else f"signal {-status}"
    return Failed(job.store.name, job.library, job.repetition, job.program.name, why[:ERROR_CHARACTERS])


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # All processes of the group may have ended.
        os.killpg(process.pid, signal.SIGKILL)
