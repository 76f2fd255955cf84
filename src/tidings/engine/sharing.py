"""One engine for each database of this process, shared by `DBOS` and the clients that use it with equal settings.

An engine is opened for its first user and stopped after its last. It is not shared across a fork, between users with
different settings, or once its committer has died.

Opening may take long. Meanwhile only callers that want the same database wait, and no `release` does.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading

from tidings import store as stores
from tidings.engine.checking import check
from tidings.engine.engine import Engine
from tidings.engine.runs.drive import drive
from tidings.engine.runs.port import Port
from tidings.engine.settings import Connection

_Key = tuple[str, Connection]

_lock = threading.Lock()  # Guards the tables; never held for long.
_doors: dict[_Key, threading.Lock] = {}  # Each is held while the engine of that key opens.
_shared: dict[_Key, Engine] = {}
_users: dict[Engine, int] = {}


def acquire(connection: Connection, label: str, *, migrate: bool) -> Engine:
    """Return an open engine. Each caller that acquired it releases it.

    Args:
        connection: the database, and how to talk with it.
        label: the name of this process, for people. Used if this call opens the engine.
        migrate: whether to bring the schema up to date, if this call opens the engine.

    Raises:
        DBOSInitializationError: the database is down, unfit, or newer than this library.
    """
    identity = stores.open(connection.database_url, connection.schema).identity  # This connects to nothing yet.
    key = identity, dataclasses.replace(connection, database_url="", schema="")
    with _lock:
        door = _doors.setdefault(key, threading.Lock())
    with door:
        engine = _join(key)
        if engine is None:
            engine = Engine(connection)
            engine.open(label, migrate=migrate)
            with _lock:
                _shared[key] = engine
                _users[engine] = 1
            return engine
    try:
        drive(check(engine), Port(engine.parts))  # So a failure is noticed, as by opening an engine.
    except BaseException:
        release(engine)
        raise
    return engine


def release(engine: Engine) -> bool:
    """Give an engine back. Its last user stops it. Returns whether this call did."""
    if engine.pid != os.getpid():
        return True  # A forked child has none of its threads.
    with _lock:
        _users[engine] -= 1
        if _users[engine]:
            return False
        del _users[engine]
        for key in [key for key, each in _shared.items() if each is engine]:
            del _shared[key]
    engine.stop()
    return True


def is_used(identity: str) -> bool:
    """Tell whether this process uses the database with this identity."""
    with _lock:
        return any(key[0] == identity and engine.pid == os.getpid() for key, engine in _shared.items())


def _join(key: _Key) -> Engine | None:
    """Become one more user of the open engine, if there is one that can still be used."""
    with _lock:
        engine = _shared.get(key)
        if engine is None or engine.pid != os.getpid() or engine.committer.died is not None:
            return None
        _users[engine] += 1
        return engine


def _begin_in_child() -> None:
    _doors.clear()  # A thread that was opening an engine does not exist in the child.
    _lock.release()


if sys.platform != "win32":
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_in_child)
