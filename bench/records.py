"""The records of a benchmark, one line of JSON each: the run itself, each measurement, each failure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

OURS = "tidings"
PEER = "dbos"
BARE = "bare"


class Run(msgspec.Struct, frozen=True, tag="run"):
    """The run: when, in which form, on what machine; the machine's entries are only for readers."""

    started: str
    form: str
    repetitions: int
    payload: int
    machine: dict[str, str]


class Reported(msgspec.Struct, frozen=True):
    """A program's report of one window (`bench.meter`)."""

    row: str
    at: float | None
    operations: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    memory_bytes: int | None
    threads: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """One window, with the harness' own counters. `cpu_us` and `transactions` are per operation.

    The processor time is that of the program and its neighbours; `server_cpu_us` that of the database server.
    `transactions` counts those that wrote. The load is the machine's average over a minute, before and after.
    """

    store: str
    library: str
    repetition: int
    window: Reported
    cpu_us: float
    server_cpu_us: float | None
    transactions: float | None
    load_before: float
    load_after: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A program that failed or was killed."""

    store: str
    library: str
    repetition: int
    program: str
    error: str


Record = Run | Measured | Failed


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the records, one on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

    Raises:
        msgspec.DecodeError: The file contains something else.
    """
    decoder = msgspec.json.Decoder(Record)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
