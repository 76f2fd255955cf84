"""The database URLs that users give, in any of several forms, turned into one text that never shows its password.

All of them pass through `address`. Its errors do not repeat the URL: if a URL is not quoted correctly, any part of it
may be part of the password. A backend parses the part after the scheme. An error about it begins with `Address.called`,
which says where the URL was given.
"""

from __future__ import annotations

import os
import re
from typing import Final, Protocol, Self, runtime_checkable

from tidings.error import DBOSInitializationError

ACCEPTED: Final = (
    "use sqlite:///relative.sqlite, sqlite:////absolute/path.sqlite, or postgresql://user:password@host:5432/database"
)

# The database that each scheme means. A scheme with a driver (`postgresql+asyncpg`) means the same database.
_SCHEMES: Final = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
_DRIVERS: Final = {"sqlite": ("pysqlite", "aiosqlite")}  # for PostgreSQL any driver is accepted

_CALLED: Final = "the database URL"

_INVISIBLE: Final = "\ufeff\u200b"  # what editors and web pages add at the ends of a text
_URL_IN_PATH: Final = re.compile(r"(?<![\w.])(?:sqlite|postgres(?:ql)?)(?:\+[\w.-]+)?:", re.ASCII | re.IGNORECASE)
_NO_CHARACTERS: Final = re.compile("[\ud800-\udfff]")  # no UTF-8
_SCHEME: Final = re.compile(r"([a-z][a-z0-9]*)(?:\+([a-z0-9_.-]+))?://", re.ASCII | re.IGNORECASE)
_NO_SLASHES: Final = re.compile(r"(?:sqlite|postgres(?:ql)?)(?:\+[\w.-]+)?:(?!//)", re.ASCII | re.IGNORECASE)

# Common mistakes, and what to do about each. The first pattern that matches counts.
_FAULTS: Final = [
    (re.compile(pattern, re.ASCII | re.IGNORECASE), fault)
    for pattern, fault in (
        (r"\Z", "is empty"),
        (r"[\"'`]", "is in quotes: remove them"),
        (
            r"(?:export\s+)?[a-z_]\w*\s*=\s*[\"']?[a-z][\w+.-]*:",
            "begins with the name of a variable: give only the part after its '='",
        ),
        (r"jdbc:", "is a JDBC URL: leave 'jdbc:' out, and put user and password before the host"),
        (
            r"(?:sqlite:)?:memory:",
            "means a database in memory, which is lost with its process, so nothing could be recovered: name a file",
        ),
        (_NO_SLASHES.pattern, "lacks the two slashes after its first colon"),
        (
            r"sqlite\+[\w.-]+://",
            "names an SQLite driver that tidings does not know: remove the part between 'sqlite' and '://'",
        ),
        (r"(?:pg|pgsql|postgis|postgre|psql|timescaledb)://", "must begin with postgresql://"),
        (
            r"postgres(?:ql)?\W\w[\w.-]*://",
            "has a driver in its scheme without a '+' before it: leave the driver out, and begin with postgresql://",
        ),
        (r"sqlite3://", "must begin with sqlite://"),
        (r"file:", "is an SQLite URI: write sqlite:/// and the path of the file"),
        (
            r"(?:cockroachdb|https?|libsql|mariadb|mongodb|mssql|mysql|oracle|rediss?|redshift)\b[\w+.-]*://",
            "is for another kind of database: tidings supports only SQLite and PostgreSQL",
        ),
        (r"\w+\s*=", "is a keyword connection string (host=... dbname=...): write it as a URL"),
        (
            r"(?:[a-z]:[\\/])?[^@:?]*\.(?:db3?|sqlite3?)\Z",
            "has no scheme: if it is the path of an SQLite file, write sqlite:/// before it",
        ),
        (r"", "has an unknown scheme: it does not begin with sqlite:// or postgresql://"),
    )
]


class Address(str):
    """A database URL. Its `repr` shows only the scheme; logs, tracebacks and dumped settings print the `repr`.

    Attributes:
        called: what an error message calls it, as in `the configuration's 'system_database_url'`.
    """

    __slots__ = ("called",)

    called: str

    def __new__(cls, text: str, called: str = _CALLED) -> Self:
        made = super().__new__(cls, text)
        made.called = called
        return made

    @property
    def scheme(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self.partition("://")[0]

    def __repr__(self) -> str:
        return f"'{self.scheme}://***'"


@runtime_checkable
class Secret(Protocol):
    """A wrapper that hides a value, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> object:
        """Return the value."""


@runtime_checkable
class Rendered(Protocol):
    """A `URL` of SQLAlchemy, whose `str` hides the password."""

    def render_as_string(self, hide_password: bool) -> str:
        """Return the URL as a text."""


@runtime_checkable
class Dsn(Protocol):
    """A URL of pydantic, such as `PostgresDsn`."""

    def unicode_string(self) -> str:
        """Return the URL as a text."""


# What a program may pass. A path means an SQLite file.
DatabaseURL = str | bytes | os.PathLike[str] | Secret | Rendered | Dsn


def address(given: object, what: str = _CALLED) -> Address:
    """Return the database that `given` names, as one URL: `sqlite://` or `postgresql://`, then the rest unchanged.

    White space around it is dropped, because a secret that is read from a file ends with a line break.

    Args:
        given: see `DatabaseURL`.
        what: what an error message calls it, as in `the configuration's 'system_database_url'`.

    Raises:
        DBOSInitializationError: it names no database. The message says why and what to write, not what was given.
    """
    found = read(given, what)
    del given  # A traceback may show local variables.
    if isinstance(found, DBOSInitializationError):
        raise found
    return found


def read(given: object, what: str = _CALLED) -> Address | DBOSInitializationError:
    """Return what `address` returns or raises, so that a caller can forget the input before it raises."""
    try:
        found = _read(given, what)
    except Exception as error:  # Of an object that turns itself into text. Its own text may show the password.
        found = f"cannot be read: {type(error).__name__} was raised in a {type(given).__name__}"
    return found if isinstance(found, Address) else DBOSInitializationError(f"{what} {found}")


def _read(given: object, called: str) -> Address | str:
    """Return the address, or what is wrong with it."""
    if isinstance(given, Address):
        return given
    text = _text(given)
    if text is None:
        given_by = "bytes that are not UTF-8" if isinstance(given, (bytes, bytearray)) else type(given).__name__
        return f"must be a string, not {given_by}: {ACCEPTED}"
    if isinstance(given, os.PathLike):
        if _URL_IN_PATH.search(text):
            return f"is a URL that was turned into a path: give it as a string; {ACCEPTED}"
        return Address(f"sqlite:///{text}", called)
    if _NO_CHARACTERS.search(text):
        return (
            "contains a lone surrogate, which stands for a byte that is not UTF-8: write the URL in UTF-8. (The path "
            f"of an SQLite file may have other bytes if it is given as a pathlib.Path); {ACCEPTED}"
        )
    text = text.strip().strip(_INVISIBLE).strip()
    found = _SCHEME.match(text)
    if found is not None:
        scheme, driver = found[1].lower(), (found[2] or "").lower()
        kind = _SCHEMES.get(scheme)
        if kind is not None and (not driver or driver in _DRIVERS.get(kind, (driver,))):
            return Address(f"{kind}://{text[found.end() :]}", called)
    fault = next(fault for pattern, fault in _FAULTS if pattern.match(text))
    return f"{fault}; {ACCEPTED}"


def _text(given: object) -> str | None:
    match given:
        case str():
            return str.__str__(given)
        case bytes() | bytearray():
            text = bytes(given).decode(errors="replace")
            return None if "\ufffd" in text else text
        case os.PathLike():
            return os.fsdecode(given)
        case Secret():
            return _text(given.get_secret_value())
        case Rendered():
            return given.render_as_string(hide_password=False)
        case Dsn():
            return given.unicode_string()
        case _:
            return None
