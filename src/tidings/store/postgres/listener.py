"""Hears the notifications of other processes, on a connection of its own.

A payload is the id of the executor that sent it, and the names it wakes. Notifications are hints: a
connection that is lost loses some, and who listens anew must look for itself.
"""

from __future__ import annotations

import os
import selectors

import psycopg
from psycopg import sql

from tidings.store.postgres.connect import Database


class PostgresListener:
    """See `store.protocol.Listener`."""

    def __init__(self, database: Database, executor_id: str) -> None:
        self._database = database
        self._executor_id = executor_id
        self._interrupt, self._ring = os.pipe()
        os.set_blocking(self._interrupt, False)
        self._selector = selectors.DefaultSelector()
        try:
            self._connection = database.open()
            self._connection.execute(sql.SQL("listen {}").format(sql.Identifier(database.channel)))
        except psycopg.Error as error:
            self._close_pipe()
            raise database.unavailable(error) from error
        self._selector.register(self._connection.pgconn.socket, selectors.EVENT_READ)
        self._selector.register(self._interrupt, selectors.EVENT_READ)

    def hear(self, timeout_seconds: float, *, eager: bool) -> list[str]:  # a look costs nothing here
        """See `Listener.hear`."""
        names: list[str] = []
        try:
            for key, _ in self._selector.select(timeout_seconds):
                if key.fd == self._interrupt:
                    os.read(self._interrupt, 1_024)
                else:
                    self._connection.pgconn.consume_input()
            while (notification := self._connection.pgconn.notifies()) is not None:
                by, *named = notification.extra.decode().split()
                if by != self._executor_id:
                    names += named
        except (psycopg.Error, OSError) as error:
            raise self._database.unavailable(error) from error
        return names

    def interrupt(self) -> None:
        """See `Listener.interrupt`."""
        os.write(self._ring, b"!")

    def close(self) -> None:
        """See `Listener.close`."""
        self._selector.close()
        self._connection.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._interrupt)
        os.close(self._ring)
