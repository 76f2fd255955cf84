"""Hears the notifications of other processes, on a connection of its own.

A payload is the id of the executor that sent it, and the names that it wakes. Notifications are hints. A lost
connection loses some, so after a reconnect all waiters must look again. Any user who can connect can send a
notification: a malformed one is ignored, and a name is never more than a reason to look.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import sql

from tidings.shortage import reason_of
from tidings.store.postgres.connect import Database
from tidings.store.postgres.patience import impatient
from tidings.store.wakes import audible

_LONGEST_SELECT_SECONDS: Final = 3_600.0
_GOODBYE_SECONDS: Final = 0.5


class PostgresListener:
    """See `store.protocol.Listener`."""

    obstacle = (
        "a pooler in transaction mode, such as PgBouncer, delivers no notifications: "
        "give tidings a URL that bypasses it, or use session pooling"
    )

    def __init__(self, database: Database, executor_id: str) -> None:
        self._database = database
        self._executor_id = executor_id
        self._closing = threading.Lock()
        self._last_words = ""  # what the server said when it ended the session
        try:
            with contextlib.ExitStack() as opened:
                self._connection = opened.enter_context(contextlib.closing(database.open()))
                self._connection.add_notice_handler(self._heed)
                with impatient(self._connection):
                    self._connection.execute(sql.SQL("listen {}").format(sql.Identifier(database.channel)))
                # Not blocking: if the socket is full, one byte more makes no difference.
                self._bell, self._rope = map(opened.enter_context, socket.socketpair())
                self._bell.setblocking(False)
                self._rope.setblocking(False)
                self._selector = opened.enter_context(selectors.DefaultSelector())
                self._selector.register(self._connection.pgconn.socket, selectors.EVENT_READ)
                self._selector.register(self._bell, selectors.EVENT_READ)
                opened.pop_all()
        except (psycopg.Error, OSError, MemoryError) as error:
            raise database.unavailable(reason_of(error) if isinstance(error, OSError) else error) from error

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        """See `Listener.hear`. The server pushes notifications, so `is_awaited` is not needed."""
        names: list[str] = []
        try:
            for key, _ in self._selector.select(min(timeout_seconds, _LONGEST_SELECT_SECONDS)):
                if key.fileobj is self._bell:
                    self._bell.recv(1_024)
                else:
                    self._connection.pgconn.consume_input()
            while (notification := self._connection.pgconn.notifies()) is not None:
                by, *named = notification.extra.decode(errors="replace").split() or [""]
                names += audible(named, by, self._executor_id)
        except (psycopg.Error, OSError, MemoryError) as error:
            with contextlib.suppress(psycopg.Error):
                self._connection.pgconn.notifies()  # Reads what the server sent last, into `_last_words`.
            severed = self._database.severed(self._last_words)
            raise severed or self._database.unavailable(self._last_words or error) from error
        return names

    def interrupt(self) -> None:
        """See `Listener.interrupt`."""
        with self._closing, contextlib.suppress(OSError):  # The socket is full or closed.
            self._rope.send(b"!")

    def close(self) -> None:
        """See `Listener.close`."""
        with self._closing:
            self._selector.close()
            with contextlib.suppress(psycopg.Error, OSError, MemoryError):
                self._stop_listening()
            self._connection.close()
            self._bell.close()
            self._rope.close()

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        """Note why the session ends. The first reason counts: it is the server's; a pooler may add its own."""
        if (notice.severity_nonlocalized or notice.severity) in ("FATAL", "PANIC"):
            self._last_words = self._last_words or f"{notice.message_primary} (SQLSTATE {notice.sqlstate})"

    def _stop_listening(self) -> None:
        """Stop notifications, since a pooler may clean this session up for other clients: see `sessions.settle`.

        Waits only briefly, because the server may not answer.
        """
        server = self._connection.pgconn
        if self._connection.closed:
            return
        server.send_query(b"unlisten *")
        deadline = time.monotonic() + _GOODBYE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(server.socket, selectors.EVENT_READ)
            while server.is_busy() and (left := deadline - time.monotonic()) > 0:
                selector.select(left)
                if time.monotonic() < deadline:
                    server.consume_input()
