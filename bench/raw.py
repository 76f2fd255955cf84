"""What the same machine does with bare drivers: durable inserts of 100-byte rows, alone and in groups.

The floor beneath every figure of tidings: the same kind of row, the same server, the same run.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

Row = tuple[str, str, int, str]

_COLUMNS = "(workflow_id text, branch text, position bigint, output text, primary key (workflow_id, branch, position))"


def inserts_per_second(url: str, rows_per_commit: int, seconds: float) -> float:
    """Return how many rows per second are inserted, durably, with that many rows in each commit."""
    backend = _sqlite if url.startswith("sqlite") else _postgres
    with backend(url) as insert:
        position = 0
        began = time.perf_counter()
        while (lasted := time.perf_counter() - began) < seconds:
            insert([("workflow", "", position + index, "x" * 100) for index in range(rows_per_commit)])
            position += rows_per_commit
        return position / lasted


@contextmanager
def _sqlite(url: str) -> Iterator[Callable[[list[Row]], None]]:
    with tempfile.TemporaryDirectory(dir=Path(url.removeprefix("sqlite:///")).parent) as folder:
        connection = sqlite3.connect(Path(folder) / "raw.sqlite", isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(f"create table raw_entries {_COLUMNS} without rowid")

        def insert(rows: list[Row]) -> None:
            connection.execute("begin immediate")
            connection.executemany("insert into raw_entries values (?, ?, ?, ?)", rows)
            connection.execute("commit")

        try:
            yield insert
        finally:
            connection.close()


@contextmanager
def _postgres(url: str) -> Iterator[Callable[[list[Row]], None]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists raw_entries")
        connection.execute(f"create table raw_entries {_COLUMNS}")

        def insert(rows: list[Row]) -> None:
            ids, branches, positions, outputs = (list(column) for column in zip(*rows, strict=True))
            connection.execute(
                "insert into raw_entries select * from unnest(%b::text[], %b::text[], %b::bigint[], %b::text[])",
                (ids, branches, positions, outputs),
                prepare=True,
            )

        try:
            yield insert
        finally:
            connection.execute("drop table raw_entries")
