"""The records: where workflows, their entries, messages and events are kept.

`open` turns a URL into a `Store` (see `store.protocol`), and this is the only place that names a
backend. A backend is imported when a URL asks for it, because PostgreSQL's driver is optional; its
package offers `open_store(url, schema)`, which parses the rest of the URL and does no I/O.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from typing import Final, cast

from tidings.error import DBOSInitializationError
from tidings.store.protocol import Store

_BACKENDS: Final = {
    "sqlite": "tidings.store.sqlite",
    "postgresql": "tidings.store.postgres",
    "postgres": "tidings.store.postgres",
}
ACCEPTED: Final = (
    "use sqlite:///relative.sqlite, sqlite:////absolute/path.sqlite, or postgresql://user:password@host:5432/database"
)


def open(url: str, schema: str = "tidings") -> Store:  # noqa: A001  (read as `store.open`)
    """Return the store that `url` names; nothing is read or written yet.

    Args:
        url: `sqlite:///file` or `postgresql://…`.
        schema: where PostgreSQL keeps the tables; SQLite has no schemas and prefixes their names.

    Raises:
        DBOSInitializationError: the URL names no store, or its driver is not installed.
    """
    if not isinstance(url, str):
        raise DBOSInitializationError(f"the database URL must be a string, not {type(url).__name__}: {ACCEPTED}")
    package = _package(url)
    if package is None:
        raise DBOSInitializationError(f"{redact(url)!r} is not a database URL that tidings knows: {ACCEPTED}")
    try:
        backend = importlib.import_module(package)
    except ImportError as error:
        # Besides a missing psycopg, this is a psycopg that finds no libpq, which names no module.
        if error.name is not None and not error.name.startswith("psycopg"):
            raise
        raise DBOSInitializationError(
            f"{redact(url)!r} needs the PostgreSQL driver ({error}): install psycopg, "
            "or the extra 'postgres' of tidings"
        ) from error
    return cast(Store, backend.open_store(url, schema))


def prepare(url: str) -> None:
    """Import what `open` needs for that URL: it takes a while. What is wrong with it, `open` says."""
    package = _package(url)
    if package is not None:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)


def _package(url: str) -> str | None:
    scheme, separator, _ = url.partition("://")
    return _BACKENDS.get(scheme.lower()) if separator else None


def redact(url: str) -> str:
    """Return `url` fit for a message: without user, password or secret parameters."""
    without_login = re.sub(r"^(\w[\w+.-]*://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)(pass\w*)=('[^']*'|[^&\s]*)", r"\1=***", without_login)
