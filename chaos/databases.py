"""The database of a run: what it is, how each process reaches it, and which faults can hit it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from harness.postgres import PostgresServer, new_database
from harness.proxy import Proxy

SQLITE, POSTGRESQL = "sqlite", "postgresql"

# How long the other program waits for the write lock.
LOCK_SECONDS = 60


class Database(Protocol):
    """A database under chaos."""

    store: str
    url: str  # a direct one, without faults

    def url_for(self, slot: str) -> str:
        """Return the URL for the processes in a slot."""


class SQLiteFile:
    """An SQLite file; another program may hold its write lock."""

    store = SQLITE

    def __init__(self, directory: Path) -> None:
        self._path = directory / "chaos.sqlite"
        self.url = f"sqlite:///{self._path}"

    def url_for(self, _: str) -> str:
        """Return the file's URL, the same for all slots."""
        return self.url

    async def hold(self, seconds: float) -> None:
        """Hold the write lock, like a slow other program. Gives up if it never gets the lock."""
        holder = sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        with closing(holder), suppress(sqlite3.OperationalError):
            # As tidings asks of other programs: see `warn_of_stranger`.
            holder.execute("pragma wal_autocheckpoint = 0")
            await asyncio.to_thread(holder.execute, "begin immediate")
            await asyncio.sleep(seconds)
            holder.execute("rollback")


class PostgresDatabase:
    """A database on its own server, or on a given one that is not restarted; each slot connects through a proxy."""

    store = POSTGRESQL

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self.url = url
        self.server = server
        self.proxies: dict[str, Proxy] = {}
        self._resources = ExitStack()

    def url_for(self, slot: str) -> str:
        """Return the URL through this slot's proxy."""
        if slot not in self.proxies:
            self.proxies[slot] = self._resources.enter_context(Proxy.before(self.url))
        return self.proxies[slot].url(self.url)

    def close(self) -> None:
        """Close the proxies."""
        self._resources.close()

    async def crash(self, seconds: float) -> None:
        """Crash the server, and start it again after this time."""
        await self._restart(seconds, crashes=True)

    async def restart(self, seconds: float) -> None:
        """Shut the server down cleanly, although clients are connected, and start it again after this time."""
        await self._restart(seconds, crashes=False)

    async def _restart(self, seconds: float, *, crashes: bool) -> None:
        assert self.server is not None
        await asyncio.to_thread(self.server.kill if crashes else self.server.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.server.start)


@contextmanager
def sqlite_file(directory: Path) -> Iterator[SQLiteFile]:
    """Yield a new file in this directory."""
    yield SQLiteFile(directory)


@contextmanager
def postgres_database(server_url: str | None, **settings: str) -> Iterator[PostgresDatabase]:
    """Yield a new database on this server, or on a new server with these settings."""
    with ExitStack() as resources:
        server = None if server_url else resources.enter_context(PostgresServer(max_connections="200", **settings))
        url = server.url if server is not None else resources.enter_context(new_database(server_url or ""))
        database = PostgresDatabase(url, server)
        resources.callback(database.close)
        yield database
