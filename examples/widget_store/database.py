"""A program's own tables, in SQLite or in PostgreSQL: only transactions.

The programs write the same SQL for both, with `?` for each value. In PostgreSQL the tables are in a schema.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import psycopg
from psycopg import sql

from examples.widget_store.settings import Place


class Transaction(ABC):
    """The operations in a transaction."""

    @abstractmethod
    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a query and return all its rows."""

    @abstractmethod
    def change(self, statement: str, *values: object) -> bool:
        """Run a statement, and return whether it has changed a row."""

    def row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """Run a query and return its first row, `None` if there is none."""
        return next(iter(self.rows(query, *values)), None)


class Database:
    """The tables of one program. They must be opened once before use."""

    def __init__(self) -> None:
        self._place: Place | None = None

    def open(self, place: Place, tables: str) -> None:
        """Create the tables if they do not exist.

        Args:
            place: the place of the tables.
            tables: statements that may be repeated safely, each ended by a semicolon.
        """
        self._place = place
        if place.postgres_url is not None:
            make_schema(place.postgres_url, place.books)
        with self.transaction() as transaction:
            for statement in tables.strip().removesuffix(";").split(";"):
                transaction.change(statement)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction: commit at the end of the block, roll back if the block fails."""
        if self._place is None:
            raise RuntimeError("the database is not open yet: call open() first")
        if self._place.postgres_url is None:
            return _sqlite_transaction(self._place.books)
        return _postgres_transaction(self._place.postgres_url, self._place.books)


def make_schema(url: str, name: str) -> None:
    """Create a schema in a PostgreSQL database if it does not exist."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(name)))


def drop_schema(url: str, name: str) -> None:
    """Drop a schema of a PostgreSQL database, with all its contents."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


class _SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def change(self, statement: str, *values: object) -> bool:
        return self._connection.execute(statement, values).rowcount > 0


class _PostgresTransaction(Transaction):
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.replace("?", "%s"), values).fetchall()

    def change(self, statement: str, *values: object) -> bool:
        return self._connection.execute(statement.replace("?", "%s"), values).rowcount > 0


@contextmanager
def _sqlite_transaction(file: str) -> Iterator[Transaction]:
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection, connection:
        connection.execute("begin immediate")
        yield _SqliteTransaction(connection)


@contextmanager
def _postgres_transaction(url: str, schema: str) -> Iterator[Transaction]:
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(schema)))
        yield _PostgresTransaction(connection)
