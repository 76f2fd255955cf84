"""The schema in a PostgreSQL database: create it, migrate it, check it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import psycopg
from psycopg import sql

from tidings.error import DBOSInitializationError
from tidings.store.migrate import SCHEMA_VERSION, Migration, check_current, pending, reset_script
from tidings.store.postgres.connect import Database, check_server
from tidings.store.postgres.patience import impatient
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.settings import MIGRATION_LOCK_SECONDS
from tidings.store.postgres.statements import PACKAGE, script


def migrate(database: Database) -> None:
    """Bring the schema to this library's version, creating it if there is none.

    If many processes do this at once, each migration is still applied once: the processes queue on an advisory lock.
    They read the version after they have the lock, in the transaction that changes it. If the schema is current, the
    user needs no right beyond reading it.

    Raises:
        DBOSInitializationError: the schema is newer than the library, or the database is unfit.
    """
    try:
        # Closing the connection rolls back unfinished changes after an error.
        with closing(database.open(for_migration=True)) as connection:
            check_server(connection, database)
            with impatient(connection, MIGRATION_LOCK_SECONDS):
                connection.begin(b"begin isolation level read committed read write")
                _ask(connection, database, "lock_migrations", database.schema)
                _check_rights(connection, database)
                version = _version(connection, database)
            try:
                _apply(pending(PACKAGE, version, database.name), connection, database)
            except psycopg.errors.InsufficientPrivilege as error:
                connection.execute("rollback")
                raise database.unfit(error, _remedy(connection, database, version)) from error
            with impatient(connection):
                connection.execute("commit")
    except psycopg.Error as error:
        raise database.unfit(error) from error


def reset(database: Database, *, truncate: bool) -> None:
    """Remove the tables, or only their rows, as one change. Their schema must be of this library's version.

    Raises:
        DBOSInitializationError: this user lacks a right, other objects depend on the tables, or they are in use.
    """
    try:
        statements = script(reset_script(PACKAGE, truncate=truncate), database.schema)
        with (
            closing(database.open(for_migration=True)) as connection,
            impatient(connection, MIGRATION_LOCK_SECONDS),
        ):
            connection.begin(b"begin isolation level read committed read write")
            _ask(connection, database, "lock_migrations", database.schema)
            connection.execute(statements.encode())
            connection.execute("commit")
    except psycopg.Error as error:
        raise database.unfit(error) from error


def check(connection: Session, database: Database) -> None:
    """Raise `DBOSInitializationError` unless the schema has this library's version and this user may use it."""
    check_server(connection, database)
    with impatient(connection), connection.pinned():
        _check_rights(connection, database)
    check_version(connection, database)


def check_version(connection: Session, database: Database) -> None:
    """Raise `DBOSInitializationError` unless the schema has this library's version."""
    with impatient(connection), connection.pinned():
        version = _version(connection, database)
    check_current(version, database.name)


def _apply(migrations: Sequence[Migration], connection: psycopg.Connection, database: Database) -> None:
    """Apply the missing migrations. There is no time limit: they may have much to do."""
    if not migrations:
        return
    if not _ask(connection, database, "has_schema", database.schema):
        _ask(connection, database, "create_schema")
    for migration in migrations:
        connection.execute(script(migration.sql, database.schema).encode())
    _ask(connection, database, "set_schema_version", SCHEMA_VERSION)


def _remedy(connection: Session, database: Database, version: int) -> str:
    """Return what gives this user the right to migrate, for the end of an error message."""
    schema, user = (sql.Identifier(name).as_string() for name in (database.schema, connection.info.user))
    if not _ask(connection, database, "has_schema", database.schema):
        give = f"the owner of the database run: create schema {schema} authorization {user}"
    elif version == 0:
        give = f"the owner of the schema run: grant usage, create on schema {schema} to {user}"
    else:
        return ": migrate as the owner of its tables, and turn 'run_migrations' off for other users"
    return (
        f". Let {give}. Or migrate as a user who may create objects there, then grant this user the use of the schema"
    )


def _check_rights(connection: psycopg.Connection, database: Database) -> None:
    """Raise `DBOSInitializationError` if this user lacks a right that some operation will need later."""
    query = database.statements["missing_rights"].sql
    row = psycopg.RawCursor(connection).execute(query, (database.schema,)).fetchone()
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
    """Run a statement with these parameters; return the number or truth value it answers, or 0."""
    cursor = psycopg.RawCursor(connection).execute(database.statements[name].sql, values)
    row = cursor.fetchone() if cursor.description else None
    return int(row[0] or 0) if row else 0
