"""The schema of an SQLite file: made, brought up to date, and checked.

The version stands in a table of our own, not in `user_version`: the file may belong to an
application that keeps its own version there.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from tidings.store.migrate import SCHEMA_VERSION, check_current, pending
from tidings.store.queries import load
from tidings.store.sqlite.connect import check_version, connect, database_name, unfit, use_log
from tidings.store.sqlite.lock import SideLock

PACKAGE: Final = "tidings.store.sqlite"
SQL: Final = load(PACKAGE)

_STRICT_TABLES: Final = (3, 37, 0)
_STRICT: Final = re.compile(r"\) strict(?:,(?P<other> without rowid))?;\s*\Z")


def migrate(path: str) -> None:
    """Bring the file's schema to this library's version, making the file if there is none.

    However many processes do this at once, each migration is applied once: they queue on the side
    lock, and look at the version inside the transaction that changes it.

    Raises:
        DBOSInitializationError: the schema is newer than the library, or the file is unfit.
    """
    check_version()
    with unfit(path), closing(SideLock(path)) as lock, lock, closing(connect(path, "rwc")) as connection:
        use_log(connection)
        # Closing the connection rolls back what an error left unfinished.
        connection.execute("begin immediate")
        for migration in pending(PACKAGE, _version(connection), database_name(path)):
            for statement in statements(migration.sql):
                connection.execute(understood(statement))
        connection.execute(SQL["set_schema_version"], (SCHEMA_VERSION,))
        connection.execute("commit")


def check(connection: sqlite3.Connection, path: str) -> None:
    """Raise `DBOSInitializationError` unless the file has the schema this library needs."""
    check_current(_version(connection), database_name(path))


def understood(statement: str, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """Return the statement as this SQLite understands it.

    Strict tables came with 3.37. They keep out values of another type; tidings writes none, so without the word
    everything is the same.
    """
    return statement if version >= _STRICT_TABLES else _STRICT.sub(lambda found: f"){found['other'] or ''};", statement)


def statements(script: str) -> Iterator[str]:
    """Split a script into its statements.

    `executescript` would do, but it commits the transaction it is called in.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        if statement or (line.strip() and not line.lstrip().startswith("--")):
            statement += line
        if statement and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"a statement without its end: {statement!r}")


def _version(connection: sqlite3.Connection) -> int:
    if not connection.execute(SQL["has_schema"]).fetchone():
        return 0
    (version,) = connection.execute(SQL["schema_version"]).fetchone()
    return int(version)
