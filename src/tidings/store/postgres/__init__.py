"""PostgreSQL: many processes on many machines, version 14 or newer.

`open_store` is the entry point; `store` implements the contract, with the queries of `reading` and the commits of
`batches`; `changes` turns units into statements; `line` runs them over a `wire` and interprets errors; `connect` opens
connections.
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
