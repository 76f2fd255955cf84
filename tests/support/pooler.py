"""A small pooler before a PostgreSQL server, in transaction mode. It always does the worst that a real one may do.

Each transaction of a client runs on another of a few sessions, which are never reset: the prepared statements and
LISTENs of one client stay for the next one. The settings that a client asks for are read and ignored. Settings that
PgBouncer since 1.20 cannot read are refused. Only the client that has the session at that time hears a notification.

    with Pooler(postgres_url) as pooler:
        DBOS(config={..., "system_database_url": pooler.url(postgres_url)})

It is one thread with an event loop. It has no TLS, and its URLs ask for none.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict

from harness.proxy import through

Client = tuple[bytes, bytes]  # a user and a database: clients with the same pair share sessions

PATIENCE_SECONDS: Final = 60.0

_PROTOCOL: Final = 3 << 16
_ENCRYPTION_REQUESTS: Final = (80877103, 80877104)
# `-c name=value` and `--name=value`, after white space; white space must not follow.
_OPTIONS: Final = re.compile(rb"(?:\s*(?:-c\s*|--)(?:\\.|[^\s\\=])+=(?:\\.|[^\s\\])*)*", re.DOTALL)
# The answer to "discard all".
_CLEANED_UP: Final = b"C\0\0\0\x10DISCARD ALL\0Z\0\0\0\5I"
# The messages that end a round of a client: a query, a Sync, a function call.
_ENDS_ROUND: Final = (b"Q", b"S", b"F")


class Pooler:
    """A pooler before the server that `database_url` names.

    Attributes:
        port: the port on which it listens, on 127.0.0.1.
        transactions: how many rounds that began a transaction were sent to a session.
        refused: how many clients were refused for their settings.
        lends_for_good: whether a client keeps its session, as in session mode, with as many sessions as needed.
        refuses: the error for a client that asks for settings, as from an unconfigured PgBouncer; "" for none.
        out_of_step: how many of the next clients get an unexpected answer before their own.
    """

    def __init__(self, database_url: str, sessions: int = 2) -> None:
        given = conninfo_to_dict(database_url)
        self._server = str(given.get("host") or "127.0.0.1"), int(given.get("port") or 5432)
        self._size = sessions
        self.transactions = 0
        self.refused = 0
        self.refuses = ""
        self.lends_for_good = False
        self.out_of_step = 0
        self._pools: dict[Client, _Pool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Accepted sockets inherit it.
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pooler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def url(self, database_url: str) -> str:
        """Return the URL of the same database through this pooler."""
        return through(database_url, self.port)

    def end_sessions(self) -> None:
        """Close all sessions, as at a restart of the server; clients that use one are disconnected."""

        async def end() -> None:
            for pool in self._pools.values():
                for session in list(pool.sessions):
                    session.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(PATIENCE_SECONDS)

    def end_idle_clients(self) -> None:
        """Disconnect all clients that wait for no answer, as PgBouncer does after its `client_idle_timeout`."""

        async def end() -> None:
            sessions = [session for pool in self._pools.values() for session in pool.sessions]
            for writer in self._clients - {session.client for session in sessions if session.unanswered}:
                writer.write(_refusal("client_idle_timeout"))
                writer.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(PATIENCE_SECONDS)

    # --- its thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(asyncio.start_server(self._accept, sock=self._socket))
            self._loop.run_forever()
            server.close()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            for pool in self._pools.values():
                for session in list(pool.sessions):
                    session.close()
            self._loop.run_until_complete(asyncio.sleep(0))  # The transports' last callbacks.
        finally:
            self._loop.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._attend(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, OSError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it disconnects."""
        parameters = await _startup(reader, writer)
        if parameters is None:
            return
        options = parameters.get(b"options", b"")
        if not _OPTIONS.fullmatch(options) or (self.refuses and options):
            self.refused += 1
            unread = "unsupported options startup parameter: only '-c config=val' is allowed"
            writer.write(_refusal(self.refuses or unread))
            await writer.drain()
            return
        pool = await self._pool(parameters[b"user"], parameters.get(b"database", parameters[b"user"]))
        self._clients.add(writer)
        writer.write(pool.welcome)
        is_out_of_step = self.out_of_step > 0
        self.out_of_step -= is_out_of_step
        session: _Session | None = None
        try:
            while True:
                kind, message = await _message(reader)
                if kind == b"X":
                    return
                if session is None or session.client is not writer:
                    session = await pool.take()
                    session.client = writer
                    self.transactions += 1
                    if is_out_of_step:
                        is_out_of_step = False
                        writer.write(_CLEANED_UP)
                session.unanswered += kind in _ENDS_ROUND
                session.writer.write(message)
                await session.writer.drain()
        finally:
            self._clients.discard(writer)
            if session is not None and session.client is writer:
                session.close()  # In the middle of a transaction.

    async def _pool(self, user: bytes, database: bytes) -> _Pool:
        """Return the sessions of this user in this database. The first client opens them."""
        if (user, database) not in self._pools:
            pool = self._pools[user, database] = _Pool(self._server, user, database, self.lends_for_good)
            await pool.open(self._size)
            pool.is_open.set()
        pool = self._pools[user, database]
        await pool.is_open.wait()
        return pool


class _Pool:
    """The sessions that the clients of one user and one database share."""

    def __init__(self, server: tuple[str, int], user: bytes, database: bytes, lends_for_good: bool) -> None:
        self._server = server
        self.lends_for_good = lends_for_good
        self._startup = b"user\0" + user + b"\0database\0" + database + b"\0\0"
        self._idle: deque[_Session] = deque()
        self._freed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.sessions: set[_Session] = set()
        self.is_open = asyncio.Event()
        self.welcome = b""

    async def open(self, count: int) -> None:
        """Open so many sessions."""
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*self._server)
            body = _PROTOCOL.to_bytes(4) + self._startup
            writer.write((len(body) + 4).to_bytes(4) + body)
            self.welcome = await _welcome(reader)
            session = _Session(self, writer)
            self.sessions.add(session)
            self._idle.append(session)
            task = asyncio.create_task(session.follow(reader))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def take(self) -> _Session:
        """Take the session that was idle for longest, but not the client's last one if there is another."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._idle or not self.sessions or self.lends_for_good)
            if not self._idle:
                await self.open(1)
            return self._idle.popleft()

    async def give_back(self, session: _Session) -> None:
        """Let another client have this session."""
        async with self._freed:
            session.client = None
            self._idle.append(session)
            self._freed.notify()

    async def lose(self, session: _Session) -> None:
        """Note that this session is closed. A new one replaces it when a client needs it."""
        async with self._freed:
            self.sessions.discard(session)
            with suppress(ValueError):
                self._idle.remove(session)
            self._freed.notify_all()


class _Session:
    """One connection to the server."""

    def __init__(self, pool: _Pool, writer: asyncio.StreamWriter) -> None:
        self._pool = pool
        self.writer = writer
        self.client: asyncio.StreamWriter | None = None
        self.unanswered = 0  # rounds of the client

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Forward the server's messages; after each transaction give the session back."""
        try:
            with suppress(asyncio.IncompleteReadError, OSError):
                while True:
                    kind, message = await _message(reader)
                    if self.client is not None:
                        self.client.write(message)
                    if kind == b"Z":
                        self.unanswered -= 1
                        if self.unanswered == 0 and message[5:] == b"I" and not self._pool.lends_for_good:
                            await self._pool.give_back(self)
        finally:
            if self.client is not None:
                self.client.close()
            self.writer.close()
            await self._pool.lose(self)

    def close(self) -> None:
        """Close the connection, and the connection of the client that uses it."""
        self.writer.close()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[bytes, bytes] | None:
    """Read a client's startup message; return `None` for any other request."""
    while True:
        body = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        request = int.from_bytes(body[:4])
        if request in _ENCRYPTION_REQUESTS:
            writer.write(b"N")
            continue
        if request >> 16 != 3:
            return None  # a request to cancel a statement
        texts = body[4:].split(b"\0")
        return dict(zip(texts[::2], texts[1::2], strict=False))


async def _welcome(reader: asyncio.StreamReader) -> bytes:
    """Read the server's messages until it is ready."""
    welcome = b""
    while True:
        kind, message = await _message(reader)
        welcome += message
        if kind == b"Z":
            return welcome


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a message; return its type and the whole message."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _refusal(text: str) -> bytes:
    body = b"SFATAL\0C08P01\0M" + text.encode() + b"\0\0"
    return b"E" + (len(body) + 4).to_bytes(4) + body
