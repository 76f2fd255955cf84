"""PostgreSQL: many processes on many machines, version 14 or newer.

`open_store` is the entry point; `store` implements the contract; `changes` turns units into statements; `wire` sends
them; `connect` opens connections and interprets errors.
"""

from __future__ import annotations

from tidings.store.postgres.store import PostgresStore

__all__ = ["PostgresStore", "open_store"]


def open_store(url: str, schema: str) -> PostgresStore:
    """Return the store in the database that `url` names, in this schema.

    Raises:
        DBOSInitializationError: the URL or the schema's name is not valid.
    """
    return PostgresStore(url, schema)
