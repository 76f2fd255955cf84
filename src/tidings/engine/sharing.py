"""One engine for each database of this process, shared by all that use it alike: `DBOS` and clients.

An engine is opened for its first user and stopped after its last. It is not shared across a fork,
nor with who wants another way to hear of changes, nor once its committer has died.
"""

from __future__ import annotations

import dataclasses
import os
import threading

from tidings.engine.engine import Engine
from tidings.engine.settings import Connection

_lock = threading.RLock()
_shared: dict[tuple[str, Connection], Engine] = {}
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
    with _lock:
        engine = Engine(connection)  # Nothing is opened yet.
        key = (engine.store.identity, dataclasses.replace(connection, database_url="", schema=""))
        shared = _shared.get(key)
        if shared is not None and shared.pid == os.getpid() and shared.committer.died is None:
            _users[shared] += 1
            return shared
        engine.open(label, migrate=migrate)
        _shared[key] = engine
        _users[engine] = 1
        return engine


def release(engine: Engine) -> bool:
    """Give an engine back. It is stopped after its last user. Tells whether it was."""
    with _lock:
        _users[engine] -= 1
        if _users[engine]:
            return False
        del _users[engine]
        for key in [key for key, each in _shared.items() if each is engine]:
            del _shared[key]
    engine.stop()
    return True
