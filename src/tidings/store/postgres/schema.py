"""The schema in a PostgreSQL database: made, brought up to date, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import psycopg

from tidings.error import DBOSInitializationError
from tidings.store.migrate import SCHEMA_VERSION, Migration, check_current, pending
from tidings.store.postgres.connect import MIGRATION_LOCK_SECONDS, Database, check_server
from tidings.store.postgres.patience import impatient
from tidings.store.postgres.statements import PACKAGE, in_schema


def migrate(database: Database) -> None:
    """Bring the schema to this library's version, creating it if there is none.

    However many processes do this at once, each migration is applied once: they queue on an advisory
    lock, and look at the version after they have it, in the transaction that changes it. A schema
    that is current asks for no rights beyond reading it.

    Raises:
        DBOSInitializationError: the schema is newer than the library, or the database is unfit.
    """
    try:
        # Closing the connection rolls back what an error left unfinished.
        with closing(database.open(for_migration=True)) as connection:
            check_server(connection, database)
            with impatient(connection, MIGRATION_LOCK_SECONDS):
                connection.execute("begin")
                _ask(connection, database, "lock_migrations", database.schema)
                _check_rights(connection, database)
                version = _version(connection, database)
            _apply(pending(PACKAGE, version, database.name), connection, database)
            with impatient(connection):
                connection.execute("commit")
    except psycopg.Error as error:
        raise database.unfit(error) from error


def check(connection: psycopg.Connection, database: Database) -> None:
    """Raise `DBOSInitializationError` unless the database has the schema this library needs."""
    check_server(connection, database)
    with impatient(connection):
        _check_rights(connection, database)
        version = _version(connection, database)
    check_current(version, database.name)


def _apply(migrations: Sequence[Migration], connection: psycopg.Connection, database: Database) -> None:
    """Apply what is missing. However long it takes: it may have much to do."""
    if not migrations:
        return
    if not _ask(connection, database, "has_schema", database.schema):
        _ask(connection, database, "create_schema")
    for migration in migrations:
        connection.execute(in_schema(migration.sql, database.schema).encode())
    _ask(connection, database, "set_schema_version", SCHEMA_VERSION)


def _check_rights(connection: psycopg.Connection, database: Database) -> None:
    """Raise `DBOSInitializationError` if this user lacks a right: sooner or later something would wait for it."""
    sql = database.statements["missing_rights"].sql
    row = psycopg.RawCursor(connection).execute(sql, (database.schema,)).fetchone()
    if row is not None and row[0] is not None:
        raise DBOSInitializationError(
            f"{database.name}: user {connection.info.user!r} lacks rights that tidings needs. Let the owner of the "
            f"tables run: {row[0]}"
        )


def _version(connection: psycopg.Connection, database: Database) -> int:
    if not _ask(connection, database, "has_version", database.schema):
        return 0
    return _ask(connection, database, "schema_version")


def _ask(connection: psycopg.Connection, database: Database, name: str, *values: str | int) -> int:
    """Run a statement, its parameters in order, and return the number or truth it answers; else 0."""
    cursor = psycopg.RawCursor(connection).execute(database.statements[name].sql, values)
    row = cursor.fetchone() if cursor.description else None
    return int(row[0] or 0) if row else 0
