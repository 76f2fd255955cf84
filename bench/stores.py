"""The databases: an empty one for each run of a program, and the counters of their server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Self

import psycopg

from bench.catalogue import POSTGRESQL, SQLITE
from bench.processor import processor_seconds
from harness.postgres import PostgresServer, new_database


class Store(Protocol):
    """A kind of database."""

    name: str

    @property
    def version(self) -> str:
        """Its version, for readers."""

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of a new, empty database; remove it at the end."""

    def processor_seconds(self) -> float | None:
        """Return the processor time of its server so far, if it can be measured."""

    def transactions(self) -> int | None:
        """Return a number that grows by one with each transaction that writes."""


class SQLiteStore:
    """A file in a temporary directory."""

    name = SQLITE

    @property
    def version(self) -> str:
        """Empty: `bench.machine` shows the interpreter's SQLite."""
        return ""

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of a new file."""
        with tempfile.TemporaryDirectory(prefix="tidings-bench-", ignore_cleanup_errors=True) as directory:
            yield f"sqlite:///{Path(directory) / 'bench.sqlite'}"

    def processor_seconds(self) -> None:
        """There is no server."""

    def transactions(self) -> None:
        """SQLite does not count them."""


class PostgresStore:
    """A temporary server with its default settings (fsync on), or the server at a URL."""

    name = POSTGRESQL

    def __init__(self, url: str | None) -> None:
        self._given = url
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        self._postmaster: int | None = None
        self._url = self._given or ""
        if not self._given:
            server = self._resources.enter_context(PostgresServer())
            self._url = server.url
            self._postmaster = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
        self._watch = self._resources.enter_context(psycopg.connect(self._url, autocommit=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self._watch.info.parameter_status("server_version"))

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of a new database on the server."""
        with new_database(self._url) as url:
            yield url

    def processor_seconds(self) -> float | None:
        """Return the sum over all processes of our own server."""
        return None if self._postmaster is None else processor_seconds(self._postmaster)

    def transactions(self) -> int:
        """Return the next transaction's number: only transactions that write get one."""
        row = self._watch.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
        assert row is not None
        return int(row[0])
