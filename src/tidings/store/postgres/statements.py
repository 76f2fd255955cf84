"""Our statements in the form that PostgreSQL takes: parameters numbered, the schema's name filled in.

In the files a parameter is `:name`, as in SQLite, and the quoted schema is `{schema}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from tidings.store.postgres.arrays import Array
from tidings.store.queries import load

PACKAGE: Final = "tidings.store.postgres"

Value = str | int | Array | None

_PARAMETER: Final = re.compile(r"(?<!:):([a-z]\w*)")  # and no cast, `::text`


class Statement(Struct, frozen=True):
    """One statement. `parameters` are the names of $1, $2 and so on."""

    name: str
    sql: bytes
    parameters: tuple[str, ...]


class Call(Struct, frozen=True):
    """A statement to run, by name, and the values of its parameters."""

    name: str
    values: Mapping[str, Value] = {}


Statements = Mapping[str, Statement]


def prepare(schema: str) -> Statements:
    """Return all statements for the tables in `schema`."""
    return {name: _statement(name, in_schema(text, schema)) for name, text in load(PACKAGE).items()}


def in_schema(sql: str, schema: str) -> str:
    """Fill in the name of the schema, quoted as an identifier."""
    quoted = '"' + schema.replace('"', '""') + '"'
    # Inside a string constant (a sequence's name) an apostrophe must be doubled as well.
    sql = re.sub(r"'\{schema\}([^']*)'", lambda match: "'" + quoted.replace("'", "''") + match[1] + "'", sql)
    return sql.replace("{schema}", quoted)


def _statement(name: str, sql: str) -> Statement:
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    return Statement(name, _PARAMETER.sub(number, sql).encode(), tuple(numbers))
