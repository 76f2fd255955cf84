"""Loads the named queries of a backend: SQL lives in `queries/<subject>.sql`, not in Python.

A file looks like this. Comment lines say why; the database never sees them.

    -- name: renew_lease
    -- The first statement of every batch: no row means that the fence has moved.
    update tidings_executors set last_batch = ? where executor_id = ? and fence = ?;

One header, then one statement. Each name is used once per backend, and both backends use the same names.

Text that several statements share is a part, `-- part: columns`, and they refer to it as `{columns}`. All files of a
backend see its parts, and a part may use others. So each statement is complete when it is loaded; none is assembled
later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
    files = sorted(resources.files(package).joinpath("queries").iterdir(), key=lambda file: file.name)
    return MappingProxyType(
        parse(
            {f"{package}: queries/{file.name}": file.read_text("utf-8") for file in files if file.name.endswith(".sql")}
        )
    )


def parse(files: Mapping[str, str]) -> dict[str, str]:
    """Return the statements of these files (where it is: its text) by name, without comments, parts filled in."""
    parts: dict[str, str] = {}
    queries: dict[str, str] = {}
    for where, text in files.items():
        for kind, name, statement in _blocks(text, where):
            found = queries if kind == "name" else parts
            if name in found:
                raise ValueError(f"{where}: there are two {'queries' if kind == 'name' else 'parts'} named {name!r}")
            found[name] = statement
    return {name: _filled_in(statement, parts, ()) for name, statement in queries.items()}


def _blocks(text: str, where: str) -> Iterator[tuple[str, str, str]]:
    """Split a file into (kind, name, statement), without comment lines and the closing semicolons."""
    preamble, *blocks = _HEADER.split(text)
    if without_comments(preamble):
        raise ValueError(f"{where}: a statement comes before the first '-- name:'")
    for kind, header, body in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        name, statement = header.strip(), without_comments(body)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no name for a query; use letters, digits and _")
        if not statement:
            raise ValueError(f"{where}: the query {name!r} has no statement")
        yield kind, name, statement


def _filled_in(statement: str, parts: Mapping[str, str], within: tuple[str, ...]) -> str:
    """Put parts where they are used; other names in braces are the backend's."""

    def fill(use: re.Match[str]) -> str:
        name = use[1]
        if name in within:
            raise ValueError(f"the part {name!r} uses itself")
        return use[0] if name not in parts else _filled_in(parts[name], parts, (*within, name))

    return _USE.sub(fill, statement)


def without_comments(text: str) -> str:
    """Return `text` without the lines that are comments, and without its last semicolon."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().rstrip(";").rstrip()
