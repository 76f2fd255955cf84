"""Emptying a database that nobody uses: `DBOS.reset_system_database`."""

from __future__ import annotations

from typing import Final

from tidings import store as stores
from tidings.engine import sharing
from tidings.engine.lock_files import has_died_here
from tidings.error import DBOSInitializationError
from tidings.store.protocol import Store, Unavailable

DEFAULT_SCHEMA: Final = "tidings"

_MOST_NAMED: Final = 3


def reset(url: stores.DatabaseURL, schema: str, *, truncate: bool) -> None:
    """Remove all that tidings has in this database; with `truncate` only the rows.

    A process that uses the database meanwhile would report lost data. So this is refused while any process has a
    lease. A client that was idle for longer than its lease is not noticed.

    Raises:
        DBOSInitializationError: a process uses the database, or it is down, unfit, or newer. Nothing was removed.
    """
    store = stores.open(url, schema)
    del url  # A traceback may show local variables, and the URL holds the password.
    if sharing.is_used(store.identity):
        raise DBOSInitializationError(
            f"{store.name} is in use in this process, so it was not reset: call DBOS.destroy(), and destroy "
            "each DBOSClient, before DBOS.reset_system_database()"
        )
    try:
        store.migrate()  # Refuses a newer schema; creates or updates any other, so that it can be read.
        store.connect()
        living = _living(store)
    except Unavailable as error:
        raise DBOSInitializationError(f"{store.name} was not reset: {error}") from error
    finally:
        store.close()
    if living:
        named = ", ".join(living[:_MOST_NAMED]) + (", ..." if len(living) > _MOST_NAMED else "")
        raise DBOSInitializationError(
            f"{store.name} is in use, so it was not reset: {len(living)} "
            f"{'process lives' if len(living) == 1 else 'processes live'} ({named}). Stop them first; a process "
            "that was killed on another host counts until its lease ends"
        )
    store.reset(truncate=truncate)


def _living(store: Store) -> list[str]:
    now_ms = store.now_ms()
    return [
        f"{each.label!r} with pid {each.pid} on {each.host}"
        for each in store.executors()
        if each.lease_until_ms > now_ms and not has_died_here(each)
    ]
