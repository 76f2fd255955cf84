"""Hears the notifications of other processes, on a connection of its own.

A payload is the id of the executor that sent it, and the names it wakes. Notifications are hints: a
connection that is lost loses some, and who listens anew must look for itself. Anybody who may
connect can notify: what makes no sense is passed over, and no name is more than a reason to look.
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
        "give tidings a URL past it, or pool by session"
    )

    def __init__(self, database: Database, executor_id: str) -> None:
        self._database = database
        self._executor_id = executor_id
        self._closing = threading.Lock()
        try:
            with contextlib.ExitStack() as opened:
                self._connection = opened.enter_context(contextlib.closing(database.open()))
                with impatient(self._connection):
                    self._connection.execute(sql.SQL("listen {}").format(sql.Identifier(database.channel)))
                # Not blocking: one byte is as good as many.
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
        """See `Listener.hear`. The server pushes, so it makes no difference here who waits."""
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
            raise self._database.unavailable(error) from error
        return names

    def interrupt(self) -> None:
        """See `Listener.interrupt`."""
        with self._closing, contextlib.suppress(OSError):  # Full, or closed.
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

    def _stop_listening(self) -> None:
        """Let no notification come while a pooler cleans this session up for others: see `Database.open`.

        It is not waited for long, for the server may be gone.
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
