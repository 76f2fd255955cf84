"""Databases whose sessions begin with the worst possible settings for tidings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from harness.postgres import new_database
from tidings.store.postgres import options
from tidings.store.postgres.settings import PINNED

# Each setting has the worst possible value.
HOSTILE = {
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "search_path": "evil, public",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "client_min_messages": "error",
    "row_security": "on",
    "lock_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "1min",
    "exit_on_error": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "session_replication_role": "replica",
}
# There is only this one, unless an extension adds others.
UNTRIED = {"default_table_access_method"}

# The server's own settings. They prevent an administrator from changing one of the hostile settings.
BENIGN = options.write(PINNED)


def hostile(database: str) -> dict[str, str]:
    """The hostile settings that this server knows."""
    with psycopg.connect(database) as connection:
        return HOSTILE | ({"transaction_timeout": "1min"} if connection.info.server_version >= 170_000 else {})


def alter(url: str, kind: LiteralString, name: str, settings: Mapping[str, str]) -> None:
    """Set the settings with which sessions of a role, or of a database, begin."""
    with psycopg.connect(url, autocommit=True, options=BENIGN) as admin:
        for setting, value in settings.items():
            values = [value] if setting not in ("search_path",) else value.split(", ")
            admin.execute(
                sql.SQL("alter {} {} set {} = {}").format(
                    sql.SQL(kind),
                    sql.Identifier(name),
                    sql.Identifier(setting.lower()),
                    sql.SQL(", ").join(map(sql.Literal, values)),
                )
            )


# Objects that shadow the server's own: an equality that is never true, an `unnest` without rows, a wrong clock.
EVIL = """
create schema evil;
create function evil.never(text, text) returns boolean language sql immutable as 'select false';
create operator evil.= (leftarg = text, rightarg = text, function = evil.never);
create function evil.unnest(text[]) returns setof text language sql immutable as 'select null::text where false';
create function evil.unnest(bigint[]) returns setof bigint language sql immutable as 'select null::bigint where false';
create function evil.clock_timestamp() returns timestamptz language sql as $$select 'epoch'::timestamptz$$;
create function evil.pg_notify(text, text) returns void language sql as '';
create domain evil.text as pg_catalog.text check (length(value) < 3);
"""


@contextmanager
def hostile_database(server_url: str) -> Iterator[str]:
    """Yield the URL of a new database with all of these; drop it at the end."""
    with new_database(server_url) as url:
        with psycopg.connect(url, autocommit=True, options=BENIGN) as admin:
            admin.execute(EVIL)
        settings = {**hostile(url), "search_path": "evil, pg_catalog"}
        del settings["exit_on_error"]  # It would not work with a pooler, whose sessions mix prepared statements up.
        alter(url, "database", url.rpartition("/")[2], settings)
        yield url
