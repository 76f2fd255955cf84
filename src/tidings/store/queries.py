"""Loads the named queries of a backend: SQL lives in `queries/<subject>.sql`, not in Python.

A file looks like this. Comment lines say why; the database never sees them.

    -- name: renew_lease
    -- The first statement of every batch: no row means that the fence has moved.
    update tidings_executors set last_batch = ? where executor_id = ? and fence = ?;

One header, then one statement. Each name is used once per backend, and both backends use the same names.

Text that several statements of a file share comes before them as a part, `-- part: columns`, and they refer to it as
`{columns}`. So each statement is complete when it is loaded; none is assembled later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

Queries = Mapping[str, str]

_HEADER = re.compile(r"^-- (name|part):(.*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_USE = re.compile(r"\{(\w+)\}")


@cache
def load(package: str) -> Queries:
    """Read all queries of `package`, by name.

    Args:
        package: the backend's package, as in `tidings.store.sqlite`.

    Raises:
        ValueError: a name is used twice or is no identifier, or a query has no statement.
    """
    found: dict[str, str] = {}
    for file in sorted(resources.files(package).joinpath("queries").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        where = f"{package}: queries/{file.name}"
        for name, statement in parse(file.read_text(encoding="utf-8"), where):
            if name in found:
                raise ValueError(f"{where}: there are two queries named {name!r}")
            found[name] = statement
    return MappingProxyType(found)


def parse(text: str, where: str) -> list[tuple[str, str]]:
    """Split a file into (name, statement), parts filled in, without comment lines and the closing semicolon."""
    preamble, *blocks = _HEADER.split(text)
    if without_comments(preamble):
        raise ValueError(f"{where}: a statement comes before the first '-- name:'")
    queries: list[tuple[str, str]] = []
    parts: dict[str, str] = {}
    for kind, header, body in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        name = header.strip()
        statement = _filled_in(without_comments(body), parts)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no name for a query; use letters, digits and _")
        if not statement:
            raise ValueError(f"{where}: the query {name!r} has no statement")
        if kind == "name":
            queries.append((name, statement))
        elif name in parts:
            raise ValueError(f"{where}: there are two parts named {name!r}")
        else:
            parts[name] = statement
    return queries


def _filled_in(statement: str, parts: Mapping[str, str]) -> str:
    """Put parts where they are used; other names in braces are the backend's."""
    return _USE.sub(lambda use: parts.get(use[1], use[0]), statement)


def without_comments(text: str) -> str:
    """Return `text` without the lines that are comments, and without its last semicolon."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().rstrip(";").rstrip()
