"""The stores: where workflows, their entries, messages and events are kept.

`open` turns a URL into a `Store` (see `store.protocol`). Only this file names a backend. A backend is imported when a
URL asks for it, because PostgreSQL's driver is optional. Its package offers `open_store(url, schema)`, which parses the
rest of the URL and does no I/O. `store.urls` accepts the forms in which users give a URL.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Final, cast

from tidings.error import DBOSInitializationError
from tidings.store.protocol import Store
from tidings.store.urls import ACCEPTED, Address, DatabaseURL, address, read

__all__ = ["ACCEPTED", "Address", "DatabaseURL", "address", "open", "prepare", "read"]

_BACKENDS: Final = {"sqlite": "tidings.store.sqlite", "postgresql": "tidings.store.postgres"}


def open(url: DatabaseURL, schema: str = "tidings") -> Store:  # noqa: A001  (read as `store.open`)
    """Return the store that `url` names; nothing is read or written yet.

    Args:
        url: `sqlite:///file` or `postgresql://…`, in any form that `address` takes.
        schema: where PostgreSQL keeps the tables; SQLite has no schemas and uses table names with a prefix.

    Raises:
        DBOSInitializationError: the URL names no store, or its driver is not installed.
    """
    found = read(url)
    del url  # A traceback may show local variables.
    if isinstance(found, DBOSInitializationError):
        raise found
    try:
        backend = importlib.import_module(_BACKENDS[found.scheme])
    except ImportError as error:
        # Not only a missing psycopg: a psycopg that finds no libpq raises an error that names no module.
        if error.name is not None and not error.name.startswith("psycopg"):
            raise
        raise DBOSInitializationError(
            f"a {found.scheme}:// URL needs the PostgreSQL driver psycopg ({error}). Install it: "
            "pip install 'psycopg[binary]', or in a checkout of tidings: pip install '.[postgres]'"
        ) from error
    return cast(Store, backend.open_store(found, schema))


def prepare(url: Address) -> None:
    """Import what `open` needs for that URL, because it takes a while. `open` reports what is wrong with the URL."""
    with contextlib.suppress(ImportError):
        importlib.import_module(_BACKENDS[url.scheme])
