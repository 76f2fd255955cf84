"""One engine for each database of this process, shared by all that use it alike: `DBOS` and clients.

An engine is opened for its first user and stopped after its last. It is not shared across a fork,
nor with who wants another way to hear of changes, nor once its committer has died.

Opening may take long, and holds up only those who want the same database: nobody's release waits.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading

from tidings import store as stores
from tidings.engine.checking import check
from tidings.engine.drive import drive
from tidings.engine.engine import Engine
from tidings.engine.port import Port
from tidings.engine.settings import Connection

_Key = tuple[str, Connection]

_lock = threading.Lock()  # around the tables; never held for long
_doors: dict[_Key, threading.Lock] = {}  # each held while the engine of that key is opened
_shared: dict[_Key, Engine] = {}
_users: dict[Engine, int] = {}


def acquire(connection: Connection, label: str, *, migrate: bool) -> Engine:
    """Return an open engine; to be released by each who acquired it.

    Args:
        connection: the database, and how to talk with it.
        label: how people call this process, should the engine be opened now.
        migrate: whether to bring the schema up to date, should the engine be opened now.

    Raises:
        DBOSInitializationError: the database is down, unfit, or newer than this library.
    """
    identity = stores.open(connection.database_url, connection.schema).identity  # Nothing is opened yet.
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
        drive(check(engine), Port(engine.parts))  # As an engine that is opened would notice.
    except BaseException:
        release(engine)
        raise
    return engine


def release(engine: Engine) -> bool:
    """Give an engine back. It is stopped after its last user. Tells whether it was."""
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


def _join(key: _Key) -> Engine | None:
    """Become one more user of the engine that is there, if it can still be used."""
    with _lock:
        engine = _shared.get(key)
        if engine is None or engine.pid != os.getpid() or engine.committer.died is not None:
            return None
        _users[engine] += 1
        return engine


def _begin_in_child() -> None:
    _doors.clear()  # Whoever opened an engine at that moment does not exist here.
    _lock.release()


if sys.platform != "win32":
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_in_child)
