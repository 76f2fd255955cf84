"""PostgreSQL databases for consecutive tests: each test gets one with our tables, all of them empty.

Creating the tables takes ten times as long as emptying them, and a run has more than a thousand of these tests. So the
tables are kept from test to test while they are unchanged. If a test changes them, the next one gets new tables.
"""

from __future__ import annotations

from typing import Final

import psycopg

from harness.postgres import DISCONNECT_OTHERS, empty_database
from tidings import store as stores

# Only a few tests leave more. Beyond this size new tables are cheaper, and the next test need not wait for vacuum.
_MOST_BYTES: Final = 8_000_000

# The state of the database's tables, functions and settings: how many rows each catalog has, and which transaction has
# last changed one. Vacuum and analyze change neither.
_CATALOGS: Final = (
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_namespace",
    "pg_proc",
    "pg_publication",
    "pg_trigger",
    "pg_type",
)
_STATE: Final = " union all ".join(f"select count(*), max(xmin::text::bigint) from {name}" for name in _CATALOGS)
_SIZE: Final = "select sum(pg_total_relation_size(oid))::bigint from pg_class where relname = any($1) and relkind = 'r'"
_TABLES: Final = "select tablename from pg_tables where schemaname = 'tidings' order by tablename"
_SEQUENCES: Final = "select sequencename from pg_sequences where schemaname = 'tidings'"
_KEPT: Final = "schema_version"


class MigratedDatabase:
    """A database with the tables of this version of ours."""

    def __init__(self, url: str) -> None:
        """Take the URL of a database that has no other user."""
        self.url = url
        self._state: list[tuple[int, int]] = []
        self._version: list[tuple[int]] = []
        self._tables: list[str] = []
        self._clear = ""
        self._connection: psycopg.Connection | None = None
        self.times_made = 0

    def clear(self) -> None:
        """End all other connections and empty the tables. If the tables were changed, create new ones."""
        connection = self._alone()
        if self._is_as_made(connection):
            connection.execute(self._clear)
        else:
            self._make()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _alone(self) -> psycopg.Connection:
        """Return the only connection. The last one is reused, because it has the catalogs and plans cached."""
        if self._connection is not None:
            try:
                self._connection.execute(DISCONNECT_OTHERS)
            except psycopg.OperationalError:  # The test before has ended all connections.
                self._connection.close()
            else:
                return self._connection
        self._connection = psycopg.connect(self.url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self._connection.execute(DISCONNECT_OTHERS)
        return self._connection

    def _is_as_made(self, connection: psycopg.Connection) -> bool:
        if not self._state or connection.execute(_STATE).fetchall() != self._state:
            return False
        if connection.execute(f"select * from tidings.{_KEPT}").fetchall() != self._version:
            return False
        size = connection.execute(_SIZE, [self._tables]).fetchone()
        return size is not None and size[0] < _MOST_BYTES

    def _make(self) -> None:
        self.close()
        empty_database(self.url)
        store = stores.open(self.url)
        store.migrate()
        store.close()
        self.times_made += 1
        with psycopg.connect(self.url, autocommit=True) as connection:
            self._tables = [name for (name,) in connection.execute(_TABLES)]
            filled = [name for name in self._tables if connection.execute(f"select 1 from tidings.{name}").fetchone()]
            assert filled == [_KEPT], f"a migration fills more than {_KEPT}, and this module has to follow: {filled}"
            deletes = [f"delete from tidings.{name}" for name in self._tables if name != _KEPT]
            resets = [f"select setval('tidings.{name}', 1, false)" for (name,) in connection.execute(_SEQUENCES)]
            self._clear = "; ".join([*deletes, *resets])
            self._version = connection.execute(f"select * from tidings.{_KEPT}").fetchall()
            self._state = connection.execute(_STATE).fetchall()
