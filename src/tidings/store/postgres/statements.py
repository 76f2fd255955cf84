"""Our statements in the form that PostgreSQL takes: parameters numbered, the schema's name filled in.

In the files a parameter is `:name`, as in SQLite, and the quoted schema is `{schema}`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from tidings.store.postgres.arrays import Array
from tidings.store.queries import load

PACKAGE: Final = "tidings.store.postgres"

Value = str | int | Array | None

_PARAMETER: Final = re.compile(r"(?<!:):([a-z]\w*)")  # and no cast, `::text`
_SCHEMA: Final = re.compile(r"(')?\{schema\}")


class Statement(Struct, frozen=True):
    """One statement. `parameters` are the names of $1, $2 and so on.

    On the server it is prepared as `key`, which is another for another text. A pooler may give us a session in which
    somebody else has prepared statements, for another schema or by another version of tidings: under our key we find
    there what we would have prepared, or nothing.
    """

    name: str
    key: bytes
    sql: bytes
    parameters: tuple[str, ...]


class Call(Struct, frozen=True):
    """A statement to run, by name, and the values of its parameters."""

    name: str
    values: Mapping[str, Value] = {}


Statements = Mapping[str, Statement]


def prepare(schema: str) -> Statements:
    """Return all statements for the tables in `schema`."""
    return {name: _statement(name, text, schema) for name, text in load(PACKAGE).items()}


def in_schema(sql: str, schema: str) -> str:
    """Fill in the name of the schema, quoted as an identifier; in a string constant, as text too."""
    identifier = '"' + schema.replace('"', '""') + '"'
    in_constant = identifier.replace("'", "''")
    return _SCHEMA.sub(lambda match: f"'{in_constant}" if match[1] else identifier, sql)


def _statement(name: str, sql: str, schema: str) -> Statement:
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = in_schema(_PARAMETER.sub(number, sql), schema).encode()
    key = f"{name}_{hashlib.blake2b(text, digest_size=8).hexdigest()}"  # at most 63 bytes
    return Statement(name, key.encode(), text, tuple(numbers))
