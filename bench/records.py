"""What a run of the benchmark leaves behind, one line of JSON each: the run itself, what was measured, what failed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

OURS = "tidings"
PEER = "dbos"
BARE = "bare"


class Run(msgspec.Struct, frozen=True, tag="run"):
    """The run: when, in which form, on what machine; names and values of the machine are for people."""

    started: str
    form: str
    repetitions: int
    payload: int
    machine: dict[str, str]


class Reported(msgspec.Struct, frozen=True):
    """What a program says of one window (`bench.meter`)."""

    row: str
    at: float | None
    operations: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    memory_bytes: int | None
    threads: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """One window, with what the harness saw of it. `cpu_us` and `transactions` are for each operation.

    The processor time is that of the program and its neighbours; `server_cpu_us` that of the database's server.
    `transactions` are those that wrote. The load is the machine's, the average of a minute, before and after.
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
    """A program that came to no end."""

    store: str
    library: str
    repetition: int
    program: str
    error: str


Record = Run | Measured | Failed


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write them, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

    Raises:
        msgspec.DecodeError: The file holds something else.
    """
    decoder = msgspec.json.Decoder(Record)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
