"""The database of a run: what it is, how each process reaches it, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.support.postgres import PostgresServer, new_database
from tests.support.proxy import Proxy

SQLITE, POSTGRESQL = "sqlite", "postgresql"

# How long another program waits for the write lock.
LOCK_SECONDS = 60


class Database(Protocol):
    """A database under chaos."""

    store: str
    url: str  # for whoever is to see no faults

    def url_for(self, slot: str) -> str:
        """Return the URL for the processes of a slot."""


class SQLiteFile:
    """A file, which another program may hold the write lock of."""

    store = SQLITE

    def __init__(self, directory: Path) -> None:
        self._path = directory / "chaos.sqlite"
        self.url = f"sqlite:///{self._path}"

    def url_for(self, _: str) -> str:
        """It is the same for all."""
        return self.url

    async def hold(self, seconds: float) -> None:
        """Hold the write lock, as another program would that takes its time. One that never gets it gives up."""
        holder = sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        with closing(holder), suppress(sqlite3.OperationalError):
            # As the library asks of other programs: see `warn_of_wal_reset_bug`.
            holder.execute("pragma wal_autocheckpoint = 0")
            await asyncio.to_thread(holder.execute, "begin immediate")
            await asyncio.sleep(seconds)
            holder.execute("rollback")


class PostgresDatabase:
    """A database on a server of its own, or on one that was given and is left alone; each slot has a proxy to it."""

    store = POSTGRESQL

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self.url = url
        self.server = server
        self.proxies: dict[str, Proxy] = {}
        self._resources = ExitStack()

    def url_for(self, slot: str) -> str:
        """Return the URL through the proxy of this slot."""
        if slot not in self.proxies:
            self.proxies[slot] = self._resources.enter_context(Proxy.before(self.url))
        return self.proxies[slot].url(self.url)

    def close(self) -> None:
        """Close the proxies."""
        self._resources.close()

    async def crash(self, seconds: float) -> None:
        """Let the server die, and start again after this time."""
        await self._restart(seconds, crashes=True)

    async def restart(self, seconds: float) -> None:
        """Shut the server down in order, though people are connected, and start it again after this time."""
        await self._restart(seconds, crashes=False)

    async def _restart(self, seconds: float, *, crashes: bool) -> None:
        assert self.server is not None
        await asyncio.to_thread(self.server.kill if crashes else self.server.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.server.start)


@contextmanager
def sqlite_file(directory: Path) -> Iterator[SQLiteFile]:
    """Give a new file in this directory."""
    yield SQLiteFile(directory)


@contextmanager
def postgres_database(server_url: str | None, **settings: str) -> Iterator[PostgresDatabase]:
    """Give a new database on this server, or on a new one with these settings."""
    with ExitStack() as resources:
        server = None if server_url else resources.enter_context(PostgresServer(max_connections="200", **settings))
        url = server.url if server is not None else resources.enter_context(new_database(server_url or ""))
        database = PostgresDatabase(url, server)
        resources.callback(database.close)
        yield database
