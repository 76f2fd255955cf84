"""The schema of an SQLite file: create it, migrate it, check it.

The version is in a table of our own, not in `user_version`: the file may belong to an application that keeps its own
version there.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from tidings.error import DBOSInitializationError
from tidings.store.migrate import SCHEMA_VERSION, check_current, pending, reset_script
from tidings.store.queries import load
from tidings.store.sqlite import place
from tidings.store.sqlite.connect import check_version, connect, unfit, use_log
from tidings.store.sqlite.lock import SideLock
from tidings.store.sqlite.place import database_name

PACKAGE: Final = "tidings.store.sqlite"
SQL: Final = load(PACKAGE)

_STRICT_TABLES: Final = (3, 37, 0)
_STRICT: Final = re.compile(r"\) strict(?:,(?P<other> without rowid))?;\s*\Z")


def migrate(path: str) -> None:
    """Bring the file's schema to this library's version, creating the file if it is missing.

    If many processes do this at once, each migration is still applied once: the processes queue on the side lock, and
    read the version inside the transaction that changes it.

    Raises:
        DBOSInitializationError: the schema is newer than the library, or the file is unfit.
    """
    check_version()
    place.check(path, makes=True)
    with unfit(path), closing(SideLock(path)) as lock, lock, closing(connect(path, "rwc")) as connection:
        _check_encoding(connection, path)
        use_log(connection)
        # Closing the connection rolls back unfinished changes after an error.
        connection.execute("begin immediate")
        migrations = pending(PACKAGE, _version(connection), database_name(path))
        for migration in migrations:
            for statement in statements(migration.sql):
                connection.execute(understood(statement))
        if migrations:
            connection.execute(SQL["set_schema_version"], (SCHEMA_VERSION,))
        connection.execute("commit")


def reset(path: str, *, truncate: bool) -> None:
    """Remove the tables, or only their rows, as one change. Their schema must be of this library's version.

    Raises:
        DBOSInitializationError: the file is unfit, or another process holds its lock for too long.
    """
    with unfit(path), closing(SideLock(path)) as lock, lock, closing(connect(path)) as connection:
        connection.execute("begin immediate")
        for statement in statements(reset_script(PACKAGE, truncate=truncate)):
            connection.execute(statement)
        connection.execute("commit")


def check(connection: sqlite3.Connection, path: str) -> None:
    """Raise `DBOSInitializationError` unless the file has the schema this library needs."""
    _check_encoding(connection, path)
    check_current(_version(connection), database_name(path))


def understood(statement: str, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """Return the statement as this SQLite understands it.

    Strict tables exist since SQLite 3.37. They reject values of another type. tidings writes no such values, so nothing
    changes without the word.
    """
    return statement if version >= _STRICT_TABLES else _STRICT.sub(lambda found: f"){found['other'] or ''};", statement)


def statements(script: str) -> Iterator[str]:
    """Split a script into its statements.

    `executescript` would do that, but it commits the current transaction.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        if statement or (line.strip() and not line.lstrip().startswith("--")):
            statement += line
        if statement and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"a statement is not complete: {statement!r}")


def _check_encoding(connection: sqlite3.Connection, path: str) -> None:
    """Raise `DBOSInitializationError` if the file's text is not UTF-8: its order would not be the one we rely on."""
    (encoding,) = connection.execute("pragma encoding").fetchone()
    if encoding != "UTF-8":
        raise DBOSInitializationError(
            f"{database_name(path)}: another program created this file with text in {encoding}, which cannot be "
            "changed, and tidings needs UTF-8: name another file"
        )


def _version(connection: sqlite3.Connection) -> int:
    if not connection.execute(SQL["has_schema"]).fetchone():
        return 0
    (version,) = connection.execute(SQL["schema_version"]).fetchone()
    return int(version)
