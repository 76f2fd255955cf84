"""Our statements in the form that PostgreSQL needs: numbered parameters, and the schema's name filled in.

In the files a parameter is `:name`, as in SQLite, and the quoted schema is `{schema}`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

from tidings.store.postgres.arrays import Array
from tidings.store.queries import load, without_comments

PACKAGE: Final = "tidings.store.postgres"

Value = str | int | Array | None

_PARAMETER: Final = re.compile(r"(?<!:):([a-z]\w*)")  # but not a cast, `::text`
_SCHEMA: Final = re.compile(r"(')?\{schema\}")


class Statement(Struct, frozen=True):
    """One statement. `parameters` are the names of $1, $2 and so on.

    It is prepared on the server under `key`, which depends on the text. In a session lent by a pooler, another client
    may have prepared statements, for another schema or with another version of tidings. Under our key we find either
    the same statement or none.
    """

    name: str
    key: bytes
    sql: bytes
    parameters: tuple[str, ...]


class StatementCall(Struct, frozen=True):
    """A statement to run, by name, and the values of its parameters."""

    name: str
    values: Mapping[str, Value] = {}


Statements = Mapping[str, Statement]


@lru_cache(maxsize=16)
def prepare(schema: str) -> Statements:
    """Return all statements for the tables in `schema`. Cached: making them takes longer than connecting."""
    return {name: _statement(name, text, schema) for name, text in load(PACKAGE).items()}


def in_schema(sql: str, schema: str) -> str:
    """Fill in the schema's name, quoted as an identifier; inside a string constant, escaped for it."""
    identifier = '"' + schema.replace('"', '""') + '"'
    in_constant = identifier.replace("'", "''")
    return _SCHEMA.sub(lambda match: f"'{in_constant}" if match[1] else identifier, sql)


def script(sql: str, schema: str) -> str:
    """Return a migration for the tables in `schema`. The name may contain line breaks, dollars and quotes.

    Comments are removed, because a line break in the name would end them. The dollar quotes around a function's body
    get a tag that does not occur in the name.
    """
    tag = next(f"$b{number}$" for number in itertools.count() if f"$b{number}$" not in schema)
    return in_schema(without_comments(sql).replace("$$", tag), schema)


def _statement(name: str, sql: str, schema: str) -> Statement:
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = in_schema(_PARAMETER.sub(number, sql), schema).encode()
    key = f"{name}_{hashlib.blake2b(text, digest_size=8).hexdigest()}"  # at most 63 bytes
    return Statement(name, key.encode(), text, tuple(numbers))
