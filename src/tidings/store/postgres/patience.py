"""A limit for what psycopg itself asks a server, which waits for the answer for ever.

The network may be sound, and the server at its other end stopped, or a pooler in between out of its mind: then nothing
is ever answered, and no keepalive notices. What goes through a `Wire` has a limit of its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from tidings.shortage import reason_of

# An answer that takes longer than the server allows a statement will not come.
ANSWER_TIMEOUT_SECONDS = 45.0


class NothingLeft(psycopg.OperationalError):
    """This process has no thread or descriptor left to see to a limit. Nothing was asked."""


@contextmanager
def impatient(connection: psycopg.Connection, longer_by_seconds: float = 0.0) -> Iterator[None]:
    """Break the connection if the body takes longer than an answer may, and this.

    Raises:
        psycopg.OperationalError: saying so.
        NothingLeft: who asked tries again, as after any failure of the database.
    """
    seconds = ANSWER_TIMEOUT_SECONDS + longer_by_seconds
    try:
        end = socket.socket(fileno=os.dup(connection.fileno()))
    except OSError as error:
        raise NothingLeft(f"this process can open nothing more: {reason_of(error)}") from error
    broken = threading.Event()

    def break_it() -> None:
        broken.set()
        with suppress(OSError):  # It may be closed by now.
            end.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, break_it)
    timer.daemon = True
    try:
        timer.start()
    except (RuntimeError, MemoryError) as error:
        end.close()
        raise NothingLeft(f"this process can start no thread: {reason_of(error)}") from error
    try:
        yield
    except psycopg.OperationalError as error:
        if broken.is_set():
            raise psycopg.OperationalError(f"the server gave no answer for {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()
        end.close()
