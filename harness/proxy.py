"""A small proxy before a PostgreSQL server. For a test it cuts connections, holds them, and drops messages.

It reads the protocol, so a cut is exact: before a certain statement reaches the server, or after the server has
executed it but before the answer is returned. It has no TLS, and its URLs ask for none.

    with Proxy.before(postgres_url) as proxy:
        DBOS(config={..., "system_database_url": proxy.url(postgres_url)})
        proxy.cut_at("commit", answered=True)

It is one thread with an event loop. Each method has its effect before it returns.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from psycopg.conninfo import conninfo_to_dict

T = TypeVar("T")

# A test that waits this long has failed.
PATIENCE_SECONDS: Final = 300.0

_TERMINATE: Final = b"X\x00\x00\x00\x04"
_RESET: Final = struct.pack("ii", 1, 0)  # for SO_LINGER: closing resets the connection

# The statement that the proxy itself sends on a connection; its answer is dropped.
_OURS: Final = "deallocate all"


class Cut:
    """Connections to cut, or to hold, at a statement. Counts them."""

    def __init__(self, text: str, answered: bool, every: int, times: int | None, holds: bool = False) -> None:
        self.holds = holds
        self._words = re.compile(rf"\b{re.escape(text)}\b", re.IGNORECASE)
        self._answered = answered
        self._every = every
        self._times = times
        self._seen = 0
        self._changed = threading.Condition()
        self.count = 0

    def springs(self, sql: str, *, answered: bool) -> bool:
        """Tell whether to cut the connection here, and count the statement."""
        if answered is not self._answered or self.count == self._times or not self._words.search(sql):
            return False
        self._seen += 1
        if self._seen % self._every:
            return False
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        return True

    def wait(self, count: int = 1) -> None:
        """Wait until so many connections were cut."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE_SECONDS), f"{self.count} cuts only"


class Proxy:
    """A proxy before the server at `host` and `port`; a host that begins with a slash is the directory of a socket.

    Attributes:
        port: the port on which it listens, on 127.0.0.1. It never changes.
        swallow_notifications: whether the server's notifications are dropped, as by a pooler in transaction mode.
        accepted: how many connections were accepted so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.swallow_notifications = False
        self.accepted = 0
        self._server = (host, port)
        self._refuses = False
        self._holds = False
        self._links: set[_Link] = set()
        self._cuts: list[Cut] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Accepted sockets inherit it.
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @classmethod
    def before(cls, database_url: str) -> Self:
        """Create a proxy before the server that this URL names."""
        given = conninfo_to_dict(database_url)
        return cls(str(given.get("host") or "127.0.0.1"), int(given.get("port") or 5432))

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(lambda: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def url(self, database_url: str) -> str:
        """Return the URL of the same database through this proxy."""
        return through(database_url, self.port)

    # --- what goes wrong ------------------------------------------------------------------------------

    def cut(self, only: str = "") -> int:
        """Reset all connections, or those whose latest statement contains the text `only`. Returns how many."""

        def cut() -> int:
            chosen = [link for link in self._links if only.lower() in link.latest.lower()]
            for link in chosen:
                link.cut()
            return len(chosen)

        return self._do(cut)

    def cut_at(self, text: str, *, answered: bool = False, every: int = 1, times: int | None = 1) -> Cut:
        """Cut the connection that runs a statement with these words (in whatever case).

        Args:
            text: whole words of the statement, or of the prepared statement.
            answered: cut after the server has executed it, before the answer is returned; else before it reaches the
                server.
            every: cut at every `every`th of the statements that match.
            times: how often; `None` means always.
        """
        cut = Cut(text, answered, every, times)
        self._do(lambda: self._cuts.append(cut))
        return cut

    def hold_at(self, text: str) -> Cut:
        """Become a black hole at a statement with these words, before it reaches the server."""
        cut = Cut(text, False, 1, 1, holds=True)
        self._do(lambda: self._cuts.append(cut))
        return cut

    def forget_cuts(self) -> None:
        """Cut nothing more."""
        self._do(self._cuts.clear)

    def refuse(self) -> None:
        """Refuse new connections."""
        self._set_refuses(True)

    def accept(self) -> None:
        """Accept new connections again."""
        self._set_refuses(False)

    def hold(self) -> None:
        """Become a black hole: nothing is forwarded, nothing is closed, and new connections get no answer."""
        self._do(lambda: self.set_holds(True))

    def release(self) -> None:
        """Forward messages again, including the held ones."""
        self._do(lambda: self.set_holds(False))

    def forget_prepared(self) -> None:
        """Let every session lose its prepared statements before its next transaction, as if a pooler changed the
        session."""

        def forget() -> None:
            for link in self._links:
                link.is_to_forget = True

        self._do(forget)

    def lead_to(self, host: str, port: int) -> None:
        """Lead new connections to another server."""

        def lead() -> None:
            self._server = (host, port)

        self._do(lead)

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return self._do(lambda: len(self._links))

    # --- its thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            accepting = self._loop.create_task(self._accept())
            self._loop.run_forever()
            accepting.cancel()
            for link in list(self._links):
                link.cut()
            left = asyncio.all_tasks(self._loop)
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))  # The transports' last callbacks.
        finally:
            self._socket.close()
            self._loop.close()

    async def _accept(self) -> None:
        self._socket.setblocking(False)
        while True:
            client, _ = await self._loop.sock_accept(self._socket)
            self.accepted += 1
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._refuses:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            link = _Link(self)
            self._links.add(link)
            await self._loop.connect_accepted_socket(lambda link=link: _Side(link.client_said, link), client)  # type: ignore[misc]

    async def connect(self, link: _Link) -> None:
        """Connect a link to the server."""
        host, port = self._server

        def side() -> _Side:
            return _Side(link.server_said, link)

        try:
            if host.startswith("/"):
                await self._loop.create_unix_connection(side, f"{host}/.s.PGSQL.{port}")
            else:
                await self._loop.create_connection(side, host, port)
        except OSError:
            link.cut()

    def cuts_at(self, sql: str, *, answered: bool) -> Cut | None:
        """Return the cut that is due at this statement, if any."""
        due = [cut for cut in self._cuts if cut.springs(sql, answered=answered)]  # Each cut must count the statement.
        return due[0] if due else None

    @property
    def holds(self) -> bool:
        """Whether it is a black hole now."""
        return self._holds

    def forget(self, link: _Link) -> None:
        """Forget a closed link."""
        self._links.discard(link)

    def _set_refuses(self, refuses: bool) -> None:
        def set_it() -> None:
            self._refuses = refuses

        self._do(set_it)

    def set_holds(self, holds: bool) -> None:
        """Start or stop holding. Called in the proxy's thread."""
        self._holds = holds
        for link in list(self._links):
            link.go_on()

    def _do(self, function: Callable[[], T]) -> T:
        """Call a function in the proxy's thread."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE_SECONDS)


def through(database_url: str, port: int) -> str:
    """Return the URL of the same database through `port` of this machine, without TLS."""
    parts = urlsplit(database_url)
    login, at, _ = parts.netloc.rpartition("@")
    given = [(name, value) for name, value in parse_qsl(parts.query) if name not in _OF_THE_SERVER]
    query = urlencode([*given, ("sslmode", "disable"), ("gssencmode", "disable")], quote_via=quote)
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}", query=query).geturl()


_OF_THE_SERVER: Final = ("host", "hostaddr", "port", "sslmode", "gssencmode")


class _Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, said: Callable[[bytes], None], link: _Link) -> None:
        self._said = said
        self._link = link
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        self._said(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.close()


class _Link:
    """A client's connection, and its connection to the server."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._sides: list[_Side] = []  # the client's, and then the server's
        self._connecting: asyncio.Task[None] | None = None
        self._is_closed = False
        self._from_client = bytearray()
        self._held = b""  # the client's data held since the proxy became a black hole
        self._from_server = bytearray()
        self._has_begun = False  # the first message has no type
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        # What the server must still answer: statements, and None for the end of each round.
        self._unanswered: deque[str | None] = deque()
        self._is_idle = False
        self.is_to_forget = False
        self.latest = ""

    # --- its life -------------------------------------------------------------------------------------

    def opened(self, side: _Side) -> None:
        """Note that a side is connected. After the client's side, connect the server's."""
        if self._is_closed:
            assert side.transport is not None
            side.transport.abort()
            return
        self._sides.append(side)
        if len(self._sides) == 1:
            self._connecting = asyncio.get_running_loop().create_task(self._proxy.connect(self))
        self.go_on()

    def go_on(self) -> None:
        """Resume or pause reading, according to the state of the proxy."""
        for side in self._sides:
            assert side.transport is not None
            if self._proxy.holds or len(self._sides) < 2:
                side.transport.pause_reading()
            else:
                side.transport.resume_reading()
        if self._held and not self._proxy.holds:
            self.client_said(b"")

    def close(self) -> None:
        """Close both sides, after forwarding what was received."""
        if not self._is_closed:
            self._is_closed = True
            self._proxy.forget(self)
            for side in self._sides:
                assert side.transport is not None
                side.transport.close()

    def cut(self) -> None:
        """Reset both sides now."""
        self._is_closed = True
        self._proxy.forget(self)
        for side in self._sides:
            assert side.transport is not None
            connection = side.transport.get_extra_info("socket")
            with suppress(OSError):
                if connection.family != socket.AF_UNIX:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.transport.abort()

    # --- what is said ---------------------------------------------------------------------------------

    def client_said(self, data: bytes) -> None:
        """Forward the client's messages, up to a cut."""
        if self._is_closed:
            return
        self._from_client += data
        if not self._has_begun:
            whole = int.from_bytes(self._from_client[:4]) if len(self._from_client) >= 4 else 4
            if len(self._from_client) < max(whole, 4):
                return
            self._has_begun = True
            self._send_to_server(bytes(self._from_client[:whole]))
            del self._from_client[:whole]
        onwards, self._held = bytearray(self._held), b""
        while (message := _next_message(self._from_client)) is not None:
            if self.is_to_forget and self._is_idle and message != _TERMINATE:
                self.is_to_forget = False
                onwards += _query(_OURS)
                self._unanswered += [_OURS, None]
            sql = self._note(message)
            cut = self._proxy.cuts_at(sql, answered=False) if sql is not None else None
            if cut is not None:
                # The earlier messages reach the server, and are rolled back there.
                self._send_to_server(bytes(onwards))
                if cut.holds:
                    self._held = message
                    self._proxy.set_holds(True)
                else:
                    self.cut()
                return
            onwards += message
        self._send_to_server(bytes(onwards))

    def server_said(self, data: bytes) -> None:
        """Forward the server's messages, up to a cut."""
        if self._is_closed:
            return
        self._from_server += data
        onwards = bytearray()
        while (message := _next_message(self._from_server)) is not None:
            kind = message[:1]
            is_ours = bool(self._unanswered) and self._unanswered[0] is _OURS
            if kind in (b"C", b"I", b"s") and self._unanswered and self._unanswered[0] is not None:
                answered = self._unanswered[0]
                if not is_ours:
                    self._unanswered.popleft()
                    if self._proxy.cuts_at(answered, answered=True):
                        self._send_to_client(bytes(onwards))
                        self.cut()
                        return
            elif kind == b"Z":
                self._end_round(message)
            if not is_ours and not (kind == b"A" and self._proxy.swallow_notifications):
                onwards += message
        self._send_to_client(bytes(onwards))

    def _note(self, message: bytes) -> str | None:
        """Note a message of the client. Returns the statement that it makes the server execute."""
        kind, body = message[:1], message[5:]
        match kind:
            case b"Q":
                self.latest = _text(body)
                self._unanswered += [self.latest, None]
                self._is_idle = False
                return self.latest
            case b"P":
                name, sql, *_ = body.split(b"\0", 2)
                self._prepared[name] = _text(sql)
            case b"B":
                portal, name, *_ = body.split(b"\0", 2)
                self._portals[portal] = self.latest = self._prepared.get(name, "")
                self._is_idle = False
                return self.latest
            case b"E":
                self._unanswered.append(self._portals.get(body.split(b"\0", 1)[0], ""))
            case b"S":
                self._unanswered.append(None)
            case _:
                pass
        return None

    def _end_round(self, message: bytes) -> None:
        """End a round: the server has skipped all statements that it has not answered, after an error."""
        while self._unanswered and self._unanswered.popleft() is not None:
            pass
        self._is_idle = message[5:6] == b"I" and not self._unanswered

    def _send_to_server(self, data: bytes) -> None:
        self._send(1, data)

    def _send_to_client(self, data: bytes) -> None:
        self._send(0, data)

    def _send(self, side: int, data: bytes) -> None:
        if data:
            transport = self._sides[side].transport
            assert transport is not None
            transport.write(data)


def _next_message(received: bytearray) -> bytes | None:
    """Take the next message with a type, if it is complete."""
    if len(received) < 5:
        return None
    whole = 1 + int.from_bytes(received[1:5])
    if len(received) < whole:
        return None
    message = bytes(received[:whole])
    del received[:whole]
    return message


def _query(sql: str) -> bytes:
    body = sql.encode() + b"\0"
    return b"Q" + (len(body) + 4).to_bytes(4) + body


def _text(raw: bytes) -> str:
    """Return a statement without its comments."""
    lines = raw.rstrip(b"\0").decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))
