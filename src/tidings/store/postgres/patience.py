"""A time limit for statements that psycopg sends itself: psycopg waits for an answer without limit.

The network may work while the server is stopped or a pooler hangs. Then no answer ever comes, and keepalives do not
notice. A `Wire` has a time limit of its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from tidings.shortage import reason_of

# Longer than the server allows a statement: an answer that takes longer will not come.
ANSWER_TIMEOUT_SECONDS = 45.0


class NothingLeft(psycopg.OperationalError):
    """This process has no thread or descriptor left to set a time limit. Nothing was sent."""


@contextmanager
def impatient(connection: psycopg.Connection, longer_by_seconds: float = 0.0) -> Iterator[None]:
    """Break the connection if the body takes longer than `ANSWER_TIMEOUT_SECONDS` plus `longer_by_seconds`.

    Raises:
        psycopg.OperationalError: the time is over.
        NothingLeft: the caller retries, as after any failure of the database.
    """
    seconds = ANSWER_TIMEOUT_SECONDS + longer_by_seconds
    try:
        end = socket.socket(fileno=os.dup(connection.fileno()))
    except OSError as error:
        raise NothingLeft(f"this process cannot open another socket: {reason_of(error)}") from error
    broken = threading.Event()

    def break_it() -> None:
        broken.set()
        with suppress(OSError):  # It may be closed already.
            end.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, break_it)
    timer.daemon = True
    try:
        timer.start()
    except (RuntimeError, MemoryError) as error:
        end.close()
        raise NothingLeft(f"this process cannot start a thread: {reason_of(error)}") from error
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
