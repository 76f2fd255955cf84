"""Reads the URL of a PostgreSQL database as libpq does, and refuses a URL that libpq would misread.

A password that is not percent-encoded shifts the borders of the parts after it. A part of the password may be taken for
the host, the port, the database or a parameter, and errors and log messages would show it. So a URL is read only if its
one `@` is at the right place. An error about any other URL repeats no part of it.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from tidings.error import DBOSInitializationError
from tidings.store.postgres.settings import NEWER, PINNED, PREFERRED
from tidings.store.urls import Address

Value = str | int | None

_QUOTE: Final = (
    "percent-encode special characters in user and password: @ is %40, : %3A, / %2F, ? %3F, # %23, % %25, a space %20 "
    "(urllib.parse.quote(password, safe='') does it)"
)
_FORM: Final = "the form is postgresql://user:password@host:5432/database"

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOSTS: Final = re.compile(r"(?P<host>\[[^]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)
_LAST_PORT: Final = 65_535

# What a name of a host, a directory with a socket, a database or a role looks like. Other text may be shown nowhere.
HOST: Final = re.compile(r"[\w.-]+|/[\w./-]*|@[\w./-]+")
NAME: Final = re.compile(r"[^\W\d][\w.-]{0,62}")

# A user without a password is shown nowhere. Other characters than these are probably meant to separate the two.
_USER: Final = re.compile(r"[\w.@$+ -]+")
_SECRET: Final = re.compile(r"pass|secret|key", re.IGNORECASE)  # in the name of a parameter

_SCHEMA: Final = "name the schema in the configuration ('dbos_system_schema'), and leave the parameter out"
_POOL: Final = "it is for another library's pool; leave it out"
_SSL: Final = "write sslmode=require, or another sslmode"
_PINNED: Final = "tidings sets that itself; leave it out"

# Parameters of other libraries, and what to write instead.
_FOREIGN: Final = {
    "schema": _SCHEMA,
    "currentSchema": _SCHEMA,
    "search_path": _SCHEMA,
    "ssl": _SSL,
    "sslrequire": _SSL,
    "sslaccept": _SSL,
    "tls": _SSL,
    "uselibpqcompat": "leave it out",
    "pgbouncer": "tidings notices a pooler itself; leave it out",
    "prepareThreshold": "tidings notices a pooler itself; leave it out",
    "prepared_statement_cache_size": "tidings notices a pooler itself; leave it out",
    "statement_cache_size": "tidings notices a pooler itself; leave it out",
    "connection_limit": _POOL,
    "pool_timeout": _POOL,
    "pool_size": _POOL,
    "max_overflow": _POOL,
    "poolclass": _POOL,
    "max_connections": _POOL,
    "min_size": _POOL,
    "max_size": _POOL,
    "command_timeout": _PINNED,
    "socket_timeout": _PINNED,
    "statement_timeout": "write options=-c%20statement_timeout%3D60s",
    "timezone": _PINNED,
    "charset": _PINNED,
    "encoding": _PINNED,
    "serverVersion": "leave it out",
    "timeout": "write connect_timeout=10",
    "connection_timeout": "write connect_timeout=10",
    "loginTimeout": "write connect_timeout=10",
    "ApplicationName": "write application_name=...",
    "database": "write the database after the host, or dbname=...",
    "username": "write user=..., or the user before the host",
    "server_settings": "write options=-c%20name%3Dvalue",
    "replication": "tidings reads no replication stream; leave it out",
}
_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
}
# Parameters that are whole numbers, and what each number counts.
_NUMBERS: Final = {
    "connect_timeout": "of seconds, without a unit: connect_timeout=10",
    "keepalives": "0 or 1",
    "keepalives_idle": "of seconds, without a unit",
    "keepalives_interval": "of seconds, without a unit",
    "keepalives_count": "of packets",
    "tcp_user_timeout": "of milliseconds, without a unit",
}
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)


class Conninfo(dict[str, Value]):
    """The values in a URL, by libpq's keywords. Its `repr` shows no values, because one of them is the password."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


def read(url: Address) -> Conninfo:
    """Return the values in `url`.

    Raises:
        DBOSInitializationError: it cannot be read, or is ambiguous. The message repeats nothing that may be secret.
    """
    found = _read(url)
    if isinstance(found, str):
        raise DBOSInitializationError(f"{url.called} {found}; {_FORM}")
    return found


def _read(url: Address) -> Conninfo | str:
    """Return the values in `url`, or its first fault."""
    for fault in _faults(url):
        return fault
    try:
        found = Conninfo(conninfo_to_dict(url))
    except (psycopg.Error, ValueError):
        return f"cannot be read: {_QUOTE}"  # The error's text may contain parts of the password.
    return next(_faults_of_values(found), found)


def _faults(url: Address) -> Iterator[str]:
    """Yield the faults of a URL; each is certain only if none came before it."""
    text = url.partition("://")[2]
    if text.count("@") > 1:
        yield f"has more than one '@', and only the one before the host may be unencoded: {_QUOTE}"
    login, at, rest = text.rpartition("@")
    if at and "/" in login:
        yield f"has an '@' after a '/': if the user or the password contains the '/', {_QUOTE}"
    if re.search(r"[\x00-\x1f\x7f]", text):
        yield "contains a line break, a tab or another control character: remove it"
    if re.search(r"\s", text.partition("?")[0]):
        yield f"contains a space: {_QUOTE}"
    if re.search(r"\s", text):
        yield (
            "contains a space among its parameters: write %20 for it there, and %3D for a '=', as in "
            f"?options=-c%20work_mem%3D64MB; if it is part of a password, {_QUOTE}"
        )
    if _BAD_PERCENT.search(text) or "%00" in text:
        yield f"has a '%' that does not begin a percent-encoded character: {_QUOTE}"
    if not _is_utf_8(text):
        yield f"has percent-encoded bytes that are not UTF-8 (é is %C3%A9, and not %E9): {_QUOTE}"
    hosts = re.split(r"[/?]", rest, maxsplit=1)[0]
    yield from _faults_of_hosts(hosts, is_known=bool(at))
    if re.search(r"[=&;]", rest.partition("?")[0]):
        yield "has '=', '&' or ';' before any '?': parameters begin with a '?', as in /database?sslmode=require"
    yield from _faults_of_query(rest.partition("?")[2])


def _faults_of_hosts(hosts: str, *, is_known: bool) -> Iterator[str]:
    """Yield the faults of the ports. If no `@` comes before them, a host may be a user, and its port the password."""
    for each in hosts.split(","):
        if each.startswith("[") and "]" not in each:
            yield "has a '[' without its ']' around a host's address"
        port = (_HOSTS.fullmatch(each) or {"port": None})["port"]
        if port and not is_port(port):
            if is_known:
                yield f"has a port that is not a number from 1 to {_LAST_PORT}"
            else:
                yield f"has no '@', and no number where the port belongs: the host may be missing; {_QUOTE}"


def _faults_of_values(found: Conninfo) -> Iterator[str]:
    """Yield the faults of values, wherever in the URL they are given."""
    user, database = str(found.get("user") or ""), str(found.get("dbname") or "")
    for each in str(found.get("port") or "").split(","):
        if each and not is_port(each):
            yield f"has a port that is not a number from 1 to {_LAST_PORT}"
    for each in str(found.get("hostaddr") or "").split(","):
        if each and not is_address(each):
            yield "has a 'hostaddr' that is no IP address: give the host's name before the database, or as host=..."
    for each in str(found.get("host") or "").split(","):
        if not each.startswith(("/", "@")) and each and not is_host(each):
            yield f"has a host with a character that no host's name has: {_QUOTE}"
    if user and not found.get("password") and not _USER.fullmatch(user):
        yield (
            "has no password, and its user has a character that no name should have: between user and password "
            f"belongs a ':' (of ASCII, not percent-encoded), and {_QUOTE}. If the name is right, leave it out, and "
            "give it in the environment's PGUSER"
        )
    if re.search(r"://|[\"'`]\w+:", database):
        yield "has another URL where the name of its database belongs"


def is_port(text: str) -> bool:
    """Tell whether a text is the number of a port."""
    return text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= _LAST_PORT


def is_choice(keyword: str, value: str) -> bool:
    """Tell whether a value is one of the few that this parameter may have, or a number."""
    return value in _CHOICES.get(keyword, ()) or (keyword in _NUMBERS and _NUMBER.fullmatch(value) is not None)


def is_host(text: str) -> bool:
    """Tell whether a text looks like the name or the address of a host, or like the directory of a socket."""
    return HOST.fullmatch(text) is not None or is_address(text)


def _is_utf_8(text: str) -> bool:
    try:
        urllib.parse.unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def is_address(text: str) -> bool:
    """Tell whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _faults_of_query(query: str) -> Iterator[str]:
    known = _known_parameters()
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    # After an unquoted password anything may be a part of it. Then only known names are repeated.
    is_secret = any(_SECRET.search(name) for name, _, _ in pairs)
    for name, equals, value in pairs:
        foreign = _foreign(name)
        if foreign is not None and name not in known and not (name == "ssl" and value == "true"):
            yield f"has the parameter {name!r}: {foreign}"
        elif name not in known and name != "ssl":
            near = difflib.get_close_matches(name.lower(), known, n=1)
            # A password may have got here. So the name is shown only if it looks like a parameter's.
            is_name = near if re.fullmatch(r"[A-Za-z_]{1,40}", name) else ()
            named = f" {name!r}" if not is_secret and (is_name or re.fullmatch(r"[a-z_]{1,20}", name)) else ""
            hint = f"did you mean {near[0]!r}?" if near and not is_secret else "leave it out"
            hint += f"; if it is part of a password, {_QUOTE}" if is_secret else ""
            yield f"has a parameter{named} that PostgreSQL does not know: {hint}"
        elif not equals or "=" in value:
            yield "has a parameter that is not of the form name=value: write '=' or '&' in a value as %3D or %26"
        elif value not in _CHOICES.get(name, (value,)):
            yield f"has {_a(name)} that PostgreSQL does not know; it may be {', '.join(_CHOICES[name])}"
        elif name in _NUMBERS and not _NUMBER.fullmatch(value):
            yield f"has {_a(name)} that is no whole number; it must be one, {_NUMBERS[name]}"


def _a(name: str) -> str:
    return f"an {name!r}" if name.startswith("ssl") else f"a {name!r}"


def _foreign(name: str) -> str | None:
    """Return what to write instead of a parameter that is none of libpq's; `None` if it is not one that we know."""
    if name in _FOREIGN:
        return _FOREIGN[name]
    if name in PINNED or name in NEWER:
        return _PINNED
    return f"write options=-c%20{name}%3Dvalue" if name in PREFERRED else None


def _known_parameters() -> Mapping[str, None]:
    return dict.fromkeys(each.keyword.decode() for each in pq.Conninfo.get_defaults())
