"""What errors and logs may show of a connection's parameters: only what is safely known to be no password.

In a URL that is not as it should be, any part may be the password: in `app;password@host` it is in the user, whom the
server names in its error. So nothing that was given is shown, unless `_is_safe` says so. In the texts of libpq,
psycopg, servers and poolers, each other value is replaced by its name: `<user>` if the URL gives it, `<PGUSER>` if the
environment does. Every text about a connection passes through `Shown.text`, also psycopg's own log records.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

import psycopg
from psycopg import pq

from tidings.store.postgres import options
from tidings.store.postgres.urls import NAME, Conninfo, is_address, is_choice, is_host, is_port

E = TypeVar("E", bound=psycopg.Error)

# libpq sends these variables as settings. They are no parameters of a connection.
_SETTINGS: Final = {"PGTZ": "TimeZone", "PGDATESTYLE": "DateStyle", "PGGEQO": "geqo"}
_NAMED: Final = {each: f'"{setting}"' for each, setting in _SETTINGS.items()} | {"PGSERVICEFILE": "service file"}

_CALLED: Final = {"dbname": "database"}
_LISTS: Final = ("host", "hostaddr", "port")
_SWITCH: Final = "options, a switch"

# A name or value of a setting, in `options`.
_PLAIN: Final = re.compile(r"[A-Za-z_.]{1,40}|-?[0-9]{1,9} ?[A-Za-z]{0,3}", re.ASCII)

# A password that is no word of a language. Replacing a word that a text has by chance would show the password.
_NO_WORD: Final = re.compile(r"(?=.*[^\W\d_])(?=.*[\W\d_]).{6,}", re.DOTALL)

# Names that texts repeat without quotes, as PgBouncer does. All other values are put into quotes.
_BARE: Final = ("user", "dbname", "host", "password", _SWITCH)
_SHORTEST_BARE: Final = 4
_QUOTES: Final = "\"'«»„“”`"

# Servers cut off longer names.
_MOST_BYTES_OF_NAME: Final = 63

# Fewer characters in a row do not help to guess the rest.
_SIZE_OF_PART: Final = 8

_connecting: Final = threading.local()


class _Value(NamedTuple):
    """A value that was given, or a part of one."""

    keyword: str
    value: str
    called: str


class Shown:
    """What may be shown of one URL, and of the environment.

    Attributes:
        name: how errors and log messages call the database.
    """

    def __init__(self, given: Conninfo, ours: frozenset[str]) -> None:
        """Take the values in the URL, and the parameters that tidings itself gives, whatever the environment says."""
        self._given = given
        self._ours = ours
        self.name = self._name()

    def __repr__(self) -> str:
        return f"<what may be shown of the {self.name}>"

    def text(self, text: str) -> str:
        """Return a text about the connection, with the names of values instead of those that may not be shown."""
        values = self._values()
        safe = {each.value for each in values if self._is_safe(each)}
        hidden = [each for each in values if each.value not in safe]
        for each in sorted(hidden, key=lambda each: -len(each.value)):
            text = _without(text, each)
        for each in hidden:
            text = _without_parts(text, each, safe)
        return text

    def place(self, keyword: str) -> str:
        """Return where a parameter is given, as in "put the right user into the URL"."""
        variable = self._environment().get(keyword)
        return f"the environment's {variable[0]}" if variable is not None else "the URL"

    def clean(self, error: E) -> E:
        """Return an error without what may not be shown: in its text, its causes, and the variables of its frames."""
        cleaned = type(error)(self.text(error.diag.message_primary or str(error)))
        if cleaned.sqlstate != error.sqlstate:
            cleaned.sqlstate = error.sqlstate
        return cleaned

    @contextmanager
    def in_log(self) -> Iterator[None]:
        """Clean psycopg's log records of this thread meanwhile. At DEBUG they repeat what was given."""
        _connecting.shown = self
        try:
            yield
        finally:
            _connecting.shown = None

    # --- what was given -------------------------------------------------------------------------------

    def _values(self) -> list[_Value]:
        given = [(keyword, str(value or ""), _CALLED.get(keyword, keyword)) for keyword, value in self._given.items()]
        given += [(keyword, value, variable) for keyword, (variable, value) in self._environment().items()]
        parts = [(part, f"<{called}>") for keyword, value, called in given for part in _parts(keyword, value)]
        found = [_Value(keyword, value, called) for (keyword, value), called in parts if value]
        return [each for each in found if each.keyword != "password" or _NO_WORD.fullmatch(each.value)]

    def _is_safe(self, given: _Value) -> bool:
        keyword, value = given.keyword, given.value
        match keyword:
            case "host":
                return is_host(value)
            case "hostaddr":
                return is_address(value)
            case "port":
                return is_port(value)
            case "dbname":
                return NAME.fullmatch(value) is not None
            case "user":
                # Without a password elsewhere, this may be the password.
                return NAME.fullmatch(value) is not None and self._has_password
            case "options":
                return _PLAIN.fullmatch(value) is not None
            case _:
                return is_choice(keyword, value) and given.called == f"<{keyword}>"

    @property
    def _has_password(self) -> bool:
        return bool(self._given.get("password") or os.environ.get("PGPASSWORD"))

    def _environment(self) -> dict[str, tuple[str, str]]:
        """Return the variables that libpq reads for this connection, with their values, by libpq's keywords."""
        found = {}
        for option in pq.Conninfo.get_defaults():
            keyword, variable = option.keyword.decode(), (option.envvar or b"").decode()
            if variable and keyword not in self._given and keyword not in self._ours and os.environ.get(variable):
                found[keyword] = variable, os.environ[variable]
        for variable, setting in _SETTINGS.items():
            if os.environ.get(variable):
                found[setting] = variable, os.environ[variable]
        return found

    def _name(self) -> str:
        given = {keyword: str(value) for keyword, value in self._given.items() if value}
        if "service" not in given:
            given = {keyword: value for keyword, (_, value) in self._environment().items()} | given
        database = given.get("dbname") or given.get("user") or ""
        keyword = "dbname" if given.get("dbname") else "user"
        named = f" {database!r}" if database and self._is_safe(_Value(keyword, database, "")) else ""
        kind = next((each for each in ("host", "hostaddr") if given.get(each)), None)
        if kind is None:
            where = "the server of a service" if "service" in given else "the local socket"
        else:
            is_safe = all(self._is_safe(_Value(kind, each, "")) for each in given[kind].split(",") if each)
            where = given[kind] if is_safe else "<host>"
        port = str(self._given.get("port") or "")
        ending = f":{port}" if port and all(map(is_port, port.split(","))) else ""
        return f"PostgreSQL database{named} at {where}{ending}"


def named_in(text: str) -> list[str]:
    """Return the variables of the environment that a text is about, after `Shown.text`."""
    found = {*re.findall(r"<(PG\w+)>", text), *(each for each, words in _NAMED.items() if words in text)}
    return sorted(variable for variable in found if os.environ.get(variable))


def _parts(keyword: str, value: str) -> list[tuple[str, str]]:
    """Return the parts of a value that a text may repeat, each with its keyword."""
    if keyword in _LISTS:
        return [(keyword, each) for each in value.split(",")]
    if keyword != "options":
        return [(keyword, value)]
    settings, others = options.read(value)
    switches = [(_SWITCH, word) for other in others for word in (other, *other.split())]
    return [(_SWITCH, value), *switches, *((keyword, each) for pair in settings.items() for each in pair)]


def _without(text: str, hidden: _Value) -> str:
    """Replace a value, also if it is cut off, or if its quotes and other characters are escaped."""
    value = hidden.value
    cut = value.encode(errors="replace")[:_MOST_BYTES_OF_NAME].decode(errors="ignore")
    forms = {form for each in (value, cut) for form in (each, each.replace('"', '""'), repr(each)[1:-1]) if form}
    is_bare = hidden.keyword in _BARE and len(value) >= _SHORTEST_BARE
    for form in sorted(forms, key=len, reverse=True):
        if is_bare:
            start = r"(?<!\w)" if form[0].isalnum() else ""
            end = r"(?!\w)" if form[-1].isalnum() else ""
        else:
            start, end = f"(?<=[{_QUOTES}])", f"(?=[{_QUOTES}])"
        text = re.sub(f"{start}{re.escape(form)}{end}", hidden.called, text)
    return text


def _without_parts(text: str, hidden: _Value, safe: Collection[str]) -> str:
    """Replace longer parts of a value: a server or a pooler may have changed it. Words of a language are no such part.

    The case of letters makes no difference.
    """
    value = hidden.value.lower()
    known = [each.lower() for each in safe]
    for start in range(len(value) - _SIZE_OF_PART + 1):
        part = value[start : start + _SIZE_OF_PART]
        if not part.replace("_", "").isalpha() and not any(part in each for each in known):
            text = re.sub(re.escape(part), hidden.called, text, flags=re.IGNORECASE)
    return text


def _clean_record(record: logging.LogRecord) -> bool:
    shown: Shown | None = getattr(_connecting, "shown", None)
    if shown is not None:
        record.msg, record.args = shown.text(record.getMessage()), None
    return True


logging.getLogger("psycopg").addFilter(_clean_record)
