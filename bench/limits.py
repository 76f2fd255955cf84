"""Measures bare drivers on the same machine: the limits with which each figure of tidings is compared.

    python -m bench.limits '{"url": "sqlite:///x.sqlite", "size": {"seconds": 1}}'

The rows are like those that a library keeps: an id, a branch, a number and a value of 100 characters.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg

from bench.meter import Window, measuring, rounds
from bench.size import Size
from bench.values import values

ROWS_PER_COMMIT = (1, 16, 64, 256, 1_024)
CONNECTIONS = 16
ROWS_TO_READ = 10_000
VALUE = "x" * 100

_CREATE = """
    create table bare_entries (workflow_id text, branch text, position bigint, output text,
        primary key (workflow_id, branch, position))
"""


class Bare(Protocol):
    """A connection without a library above it."""

    def execute(self, statement: str) -> None:
        """Execute a statement; outside a transaction it is durable afterwards."""

    def insert(self, workflow_id: str, first: int, count: int) -> None:
        """Insert `count` rows, durably."""

    def read_one(self) -> None:
        """Read one row by its key."""

    def read(self) -> int:
        """Read all rows."""

    def close(self) -> None:
        """Close it."""


class BareSQLite:
    """SQLite with a write-ahead log that is synced at every commit."""

    def __init__(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def insert(self, workflow_id: str, first: int, count: int) -> None:
        rows = [(workflow_id, "", first + index, VALUE) for index in range(count)]
        self._connection.execute("begin immediate")
        self._connection.executemany("insert into bare_entries values (?, ?, ?, ?)", rows)
        self._connection.execute("commit")

    def read_one(self) -> None:
        self._connection.execute(
            "select output from bare_entries where workflow_id = ? and branch = '' and position = 0", ("rows-1",)
        ).fetchone()

    def read(self) -> int:
        return len(self._connection.execute("select * from bare_entries limit ?", (ROWS_TO_READ,)).fetchall())

    def close(self) -> None:
        self._connection.close()


class BarePostgres:
    """PostgreSQL, one commit for each statement."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def execute(self, statement: str) -> None:
        self._connection.execute(statement.encode())

    def insert(self, workflow_id: str, first: int, count: int) -> None:
        self._connection.execute(
            "insert into bare_entries select * from unnest(%b::text[], %b::text[], %b::bigint[], %b::text[])",
            ([workflow_id] * count, [""] * count, list(range(first, first + count)), [VALUE] * count),
        )

    def read_one(self) -> None:
        self._connection.execute(
            "select output from bare_entries where workflow_id = %b and branch = '' and position = 0", ("rows-1",)
        ).fetchone()

    def read(self) -> int:
        return len(self._connection.execute("select * from bare_entries limit %b", (ROWS_TO_READ,)).fetchall())

    def close(self) -> None:
        self._connection.close()


def connect(url: str) -> Bare:
    """Connect with the driver of the URL."""
    return BareSQLite(url) if urlsplit(url).scheme == "sqlite" else BarePostgres(url)


def commits(url: str, size: Size) -> None:
    """Insert rows, more and more of them in a commit."""
    with closing(connect(url)) as bare:
        for count in ROWS_PER_COMMIT:
            with measuring("bare_commits", count) as window:
                for began in rounds(size.seconds, window):
                    bare.insert(f"rows-{count}", window.operations, count)
                    window.latencies_ms.append((time.perf_counter() - began) * 1e3)
                    window.operations += count


def commits_together(url: str, size: Size) -> None:
    """Commit one row at a time, over many connections."""

    def one_after_the_other(number: int) -> int:
        own = Window()
        with closing(connect(url)) as bare:
            for _ in rounds(size.seconds, own):
                bare.insert(f"connection-{number}", own.operations, 1)
                own.operations += 1
        return own.operations

    with ThreadPoolExecutor(CONNECTIONS) as threads, measuring("bare_commits_together", CONNECTIONS) as window:
        window.operations = sum(threads.map(one_after_the_other, range(CONNECTIONS)))


def reads(url: str, size: Size) -> None:
    """Read a row by its key, and many rows at once."""
    with closing(connect(url)) as bare:
        with measuring("bare_point_reads") as window:
            for began in rounds(size.seconds, window):
                bare.read_one()
                window.took(time.perf_counter() - began)
        with measuring("bare_rows_read") as window:
            for _ in rounds(size.seconds, window):
                window.operations += bare.read()


def notifications(url: str, size: Size) -> None:
    """Measure from before a commit that notifies until another connection has received the notification."""
    heard: SimpleQueue[float] = SimpleQueue()
    listening = threading.Event()

    def listen() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("listen bare")
            listening.set()
            for notification in connection.notifies():
                if not notification.payload:
                    return
                heard.put((time.monotonic_ns() - int(notification.payload)) / 1e9)

    listener = threading.Thread(target=listen)
    listener.start()
    listening.wait()
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        with measuring("bare_notifications") as window:
            for _ in rounds(size.seconds, window):
                connection.execute(
                    "with row as (insert into bare_entries values ('notified', '', %b, %b)) "
                    "select pg_notify('bare', %t::text)",
                    (window.operations, VALUE, time.monotonic_ns()),
                )
                window.took(heard.get())
        connection.execute("notify bare")
    listener.join()


def looks(url: str, size: Size) -> None:
    """Measure a check whether another process has committed."""
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, measuring("bare_looks") as window:
        for began in rounds(size.seconds, window):
            connection.execute("pragma data_version").fetchone()
            window.took(time.perf_counter() - began)


def main() -> None:
    """Measure all limits."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    url, size = given["url"], Size(**given["size"])
    with closing(connect(url)) as bare:
        bare.execute(_CREATE)
    commits(url, size)
    commits_together(url, size)
    reads(url, size)
    if urlsplit(url).scheme == "sqlite":
        looks(url, size)
        values(size)  # It does not depend on the store: once is enough.
    else:
        notifications(url, size)


if __name__ == "__main__":
    main()
