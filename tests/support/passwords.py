"""Checks every test for passwords: none may be shown.

The URLs of the tests' servers contain `PASSWORD` (`harness/password.py`), and so does each password that a test makes
up. So any output of a secret part of a URL contains it too. A test fails if `PASSWORD` is in its captured output or log
(with tracebacks), in the output of a program, in an error that it caught or in one of the causes of that error, or in
what it left in its database: in the tables of PostgreSQL, or anywhere in the files of SQLite.

A password is also found in base64, in which bytes are stored, and in hexadecimal digits.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from harness.password import PASSWORD


def _in_base64(secret: bytes) -> Iterator[str]:
    """Yield what base64 makes of a secret, which may begin at each of three places in a group of bytes."""
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret).decode().rstrip("=")
        # Characters at both ends that hold bits of other bytes too depend on those.
        whole = (before + len(secret)) * 8 // 6
        yield encoded[-(-before * 8 // 6) : whole]


_FORMS: Final = (PASSWORD, *_in_base64(PASSWORD.encode()), PASSWORD.encode().hex())
_AROUND: Final = 150  # characters

_shown: list[str] = []


def look(where: str, text: str) -> None:
    """Note where a password is shown. The note does not contain the password."""
    for form in _FORMS:
        at = text.find(form)
        if at >= 0:
            _shown.append(f"{where}: ...{_without(text[max(0, at - _AROUND) : at + _AROUND])}...")


def _without(text: str) -> str:
    """Return printable text without the password."""
    for form in _FORMS:
        text = text.replace(form, "<the password>" if form == PASSWORD else "<the password, encoded>")
    return "".join(each if each.isprintable() else " " for each in text)


def taken() -> list[str]:
    """Return the notes since the last call."""
    shown = _shown.copy()
    _shown.clear()
    return shown


def look_at_error(error: BaseException) -> None:
    """Check an error, and all its causes."""
    for each in _led_to(error):
        for say in (str, repr):
            with contextlib.suppress(Exception):  # A test's own error may not be printable.
                look(f"an error {type(each).__name__}", say(each))
        look(f"a note of an error {type(each).__name__}", "\n".join(getattr(each, "__notes__", ())))


def look_at_file(path: Path) -> None:
    """Check the files of an SQLite database: also pages that are free again, and what is not checkpointed."""
    for file in path.parent.glob(f"{path.name}*"):
        with contextlib.suppress(FileNotFoundError):  # SQLite removes its files beside the database when it is closed.
            look(f"the file {file.name}", file.read_bytes().decode("latin-1"))


def look_at_tables(url: str) -> None:
    """Check the tables of a PostgreSQL database. A test may have dropped them, stopped its server, or left a lock."""
    with (
        contextlib.suppress(psycopg.OperationalError, psycopg.errors.UndefinedTable),
        psycopg.connect(url, options="-c lock_timeout=2000") as connection,
    ):
        found = connection.execute("select tablename from pg_tables where schemaname = 'tidings'").fetchall()
        rows = [
            sql.SQL("select {}, t::text from {} as t where t::text like any(%(forms)s)").format(
                sql.Literal(name), sql.Identifier("tidings", name)
            )
            for (name,) in found
        ]
        forms = {"forms": [f"%{form}%" for form in _FORMS]}
        for name, row in connection.execute(sql.SQL(" union all ").join(rows), forms) if rows else ():
            look(f"the table {name}", row)


def _led_to(error: BaseException) -> Iterator[BaseException]:
    found, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) in found:
            continue
        found.add(id(each))
        yield each
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
