"""What people have as the URL of a database: it works, or they are told what to change. No form shows its password."""

from __future__ import annotations

import os
import traceback
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pydantic import PostgresDsn, Secret, SecretBytes, SecretStr

import tidings.store
from harness.password import PASSWORD
from tidings.error import DBOSInitializationError
from tidings.store.urls import address

LOGIN = f"u:{PASSWORD}"
QUOTED = f"u:{PASSWORD}%2F%23%3F%40%3A%25%20"


class FakeURL:
    """As SQLAlchemy's: its text hides the password."""

    def render_as_string(self, hide_password: bool = True) -> str:
        return "postgresql+psycopg://u:***@h/d" if hide_password else f"postgresql+psycopg://{LOGIN}@h/d"

    __str__ = render_as_string


class Text(str):
    """A string whose text is another one for whoever prints it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


WORKING = {
    "plain": f"postgresql://{LOGIN}@h/d",
    "the short scheme": f"postgres://{LOGIN}@h/d",
    "capitals": f"POSTGRESQL://{LOGIN}@h/d",
    "some capitals": f"PostGres://{LOGIN}@h/d",
    "a driver": f"postgresql+psycopg://{LOGIN}@h/d",
    "another driver": f"postgresql+asyncpg://{LOGIN}@h/d",
    "a driver and the short scheme": f"postgres+psycopg2://{LOGIN}@h/d",
    "a driver in capitals": f"Postgresql+PsycoPG://{LOGIN}@h/d",
    "a line break at the end": f"postgresql://{LOGIN}@h/d\n",
    "a line break of Windows at the end": f"postgresql://{LOGIN}@h/d\r\n",
    "space around": f" \tpostgresql://{LOGIN}@h/d ",
    "a mark of the byte order": f"\ufeffpostgresql://{LOGIN}@h/d\n",
    "a quoted password": f"postgresql://{QUOTED}@h/d",
    "an empty query": f"postgresql://{LOGIN}@h/d?",
    "an sslmode": f"postgresql://{LOGIN}@h/d?sslmode=require",
    "what drivers of Java write": f"postgresql://{LOGIN}@h/d?ssl=true",
    "a password among the parameters": f"postgresql://h/d?user=u&password={PASSWORD}",
    "no port behind the colon": f"postgresql://{LOGIN}@h:/d",
    "bytes": f"postgresql://{LOGIN}@h/d\n".encode(),
    "a bytearray": bytearray(f"postgresql://{LOGIN}@h/d".encode()),
    "a string that hides itself": Text(f"postgresql://{LOGIN}@h/d"),
    "pydantic's PostgresDsn": PostgresDsn(f"postgresql://{LOGIN}@h/d"),
    "pydantic's PostgresDsn with a driver": PostgresDsn(f"postgresql+asyncpg://{LOGIN}@h/d"),
    "pydantic's SecretStr": SecretStr(f"postgres://{LOGIN}@h/d\n"),
    "pydantic's SecretBytes": SecretBytes(f"postgres://{LOGIN}@h/d".encode()),
    "pydantic's Secret of a PostgresDsn": Secret[PostgresDsn](PostgresDsn(f"postgresql://{LOGIN}@h/d")),
    "SQLAlchemy's URL": FakeURL(),
    "a driver with a hyphen": f"postgresql+psycopg-binary://{LOGIN}@h/d",
    "a driver with a dot": f"postgres+psycopg2.pool://{LOGIN}@h/d",
    "numbers": f"postgresql://{LOGIN}@h/d?connect_timeout=5&keepalives=1&keepalives_idle=7&target_session_attrs=any",
}


@pytest.mark.parametrize("given", WORKING.values(), ids=WORKING)
def test_a_form_that_people_have_names_the_same_database(given: Any) -> None:
    store = tidings.store.open(given)
    assert store.name == "PostgreSQL database 'd' at h"
    assert PASSWORD not in repr(store) + repr(address(given)) + store.identity
    assert PASSWORD in str(address(given))


@pytest.mark.parametrize(
    "given",
    [
        "SQLite:///{path}",
        "sqlite+aiosqlite:///{path}\n",
        " sqlite:///{path} ",
        b"sqlite:///{path}",
        SecretStr("sqlite:///{path}"),
        Path("{path}"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_forms_of_the_path_of_an_sqlite_file(tmp_path: Path, given: Any) -> None:
    path = str(tmp_path / "here.sqlite")
    match given:
        case bytes():
            given = given.replace(b"{path}", path.encode())
        case SecretStr():
            given = SecretStr(given.get_secret_value().replace("{path}", path))
        case _:
            given = type(given)(str(given).replace("{path}", path))
    assert tidings.store.open(given).name == f"SQLite database {path}"


QUOTE = "percent-encode special characters in user and password: @ is %40"
# Each with what its user is told. Whatever may be a part of a password is marked so.
REFUSED = {
    f"postgresql://{LOGIN}@h/d?schema=public": "the parameter 'schema': name the schema in the .*'dbos_system_schema'",
    f"postgresql://{LOGIN}@h/d?currentSchema=x": "the parameter 'currentSchema': name the schema in the configuration",
    f"postgresql://{LOGIN}@h/d?search_path=x": "the parameter 'search_path': name the schema in the configuration",
    f"postgresql://{LOGIN}@h/d?ssl=require": "the parameter 'ssl': write sslmode=require",
    f"postgresql://{LOGIN}@h/d?ssl=1": "the parameter 'ssl': write sslmode=require",
    f"postgresql://{LOGIN}@h/d?sslmode=no-verify": "an 'sslmode' that PostgreSQL does not know; it may be disable, ",
    f"postgresql://{LOGIN}@h/d?foo=": "a parameter 'foo' that PostgreSQL does not know: leave it out",
    f"postgresql://{LOGIN}@h/d?foo": "a parameter 'foo' that PostgreSQL does not know: leave it out",
    f"postgresql://{LOGIN}@h/d?sslmod=require": "a parameter 'sslmod' .*: did you mean 'sslmode'",
    f"postgresql://{LOGIN}@h/d?SSLMode=require": "a parameter 'SSLMode' .*: did you mean 'sslmode'",
    f"postgresql://{LOGIN}@h/d?pgbouncer=true": "tidings notices a pooler itself; leave it out",
    f"postgresql://{LOGIN}@h/d?connection_limit=1": "for another library's pool; leave it out",
    f"postgresql://{LOGIN}@h/d?timeout=3": "write connect_timeout=10",
    f"postgresql://{LOGIN}@h/d?connect_timeout=5s": "a 'connect_timeout' that is no whole number; .* without a unit",
    f"postgresql://{LOGIN}@h/d?connect_timeout=": "a 'connect_timeout' that is no whole number",
    f"postgresql://{LOGIN}@h/d?keepalives_idle=1min": "a 'keepalives_idle' that is no whole number",
    f"postgresql://{LOGIN}@h/d?keepalives=yes": "a 'keepalives' that is no whole number; it must be one, 0 or 1",
    f"postgresql://{LOGIN}@h/d?target_session_attrs=primry": "a 'target_session_attrs' .*; it may be any, read-write",
    f"postgresql://{LOGIN}@h/d?transaction_timeout=1ms": "'transaction_timeout': tidings sets that itself; leave it",
    f"postgresql://{LOGIN}@h/d?lock_timeout=1ms": "'lock_timeout': tidings sets that itself; leave it out",
    f"postgresql://{LOGIN}@h/d?work_mem=1MB": "'work_mem': write options=-c%20work_mem%3Dvalue",
    f"postgresql-psycopg://{LOGIN}@h/d": "a driver in its scheme without a '\\+' before it",
    f"postgresql://h/d?password={PASSWORD}&foo=1": "a parameter that PostgreSQL does not know",
    f"postgresql://h/d?passwrd={PASSWORD}": f"a parameter that PostgreSQL does not know: .*{QUOTE}",
    f"postgresql://h/d?password={PASSWORD}&{PASSWORD}": "a parameter that PostgreSQL does not know",
    f"postgresql://h/d?password={PASSWORD}={PASSWORD}": "write '=' or '&' in a value as %3D or %26",
    f"postgresql://h/d;user=u;password={PASSWORD}": "parameters begin with a '\\?'",
    f"postgresql://h/d&password={PASSWORD}": "parameters begin with a '\\?'",
    f"postgresql://{LOGIN}@{PASSWORD}@h/d": f"more than one '@', .*: {QUOTE}",
    f"postgresql://{LOGIN}/{PASSWORD}@h/d": f"an '@' after a '/': .*{QUOTE}",
    f"postgresql://{LOGIN}#{PASSWORD}/@h/d": f"an '@' after a '/': .*{QUOTE}",
    f"postgresql://{LOGIN}?{PASSWORD}/@h/d": f"an '@' after a '/': .*{QUOTE}",
    f"postgresql://{LOGIN}%{PASSWORD}@h/d": f"a '%' that does not begin .*: {QUOTE}",
    f"postgresql://{LOGIN}%00@h/d": f"a '%' that does not begin .*: {QUOTE}",
    f"postgresql://{LOGIN} {PASSWORD}@h/d": f"contains a space: {QUOTE}",
    f"postgresql://{LOGIN}@h/d?options=-c jit=on": "a space among its parameters: write %20 for it there, and %3D",
    f"postgresql://{LOGIN}%E9@h/d": f"percent-encoded bytes that are not UTF-8 .*: {QUOTE}",
    f"postgresql://{LOGIN}@h/d?application_name=%ff": f"percent-encoded bytes that are not UTF-8 .*: {QUOTE}",
    f"postgresql://u;{PASSWORD}@h/d": "no password, and its user has a character .*: between .* belongs a ':' .*PGUSER",
    f"postgresql://u%3A{PASSWORD}@h/d": "no password, and its user has a character that no name should have",
    f"postgresql://u\uff1a{PASSWORD}@h/d": "no password, and its user has a character that no name should have",
    f"postgresql://h/d?user=u:{PASSWORD}": "no password, and its user has a character that no name should have",
    f"postgresql://u@h/d?port={PASSWORD}": "a port that is not a number from 1 to 65535",
    f"postgresql://u@h/d?hostaddr={PASSWORD}": "a 'hostaddr' that is no IP address: give the host's name before",
    f"postgresql://{LOGIN}@h;{PASSWORD}/d": "before any '\\?': parameters begin with a '\\?'",
    f"postgresql://{LOGIN}@h!{PASSWORD}/d": f"a host with a character that no host's name has: {QUOTE}",
    f"postgresql://{LOGIN}@h/d?host=h:{PASSWORD}": "a host with a character that no host's name has",
    f"postgresql://{LOGIN}@h/postgresql:%2F%2Fu:{PASSWORD}%40h%2Fd": "another URL where the name of its database bel",
    f"postgresql://{LOGIN}@h/?dbname='postgresql:{PASSWORD}'": "another URL where the name of its database belongs",
    f"postgresql://{LOGIN}\n{PASSWORD}@h/d": "a line break, .*: remove it",
    f"postgresql://{LOGIN}@h/d\x00": "a line break, .*: remove it",
    f"postgresql://{LOGIN}": f"no '@', .* the host may be missing; {QUOTE}",
    f"postgresql://{LOGIN}/d": f"no '@', .* the host may be missing; {QUOTE}",
    f"postgresql://{LOGIN}@h:{PASSWORD}/d": "a port that is not a number from 1 to 65535",
    f"postgresql://{LOGIN}@h:99999/d": "a port that is not a number from 1 to 65535",
    f"postgresql://{LOGIN}@h,g:x/d": "a port that is not a number from 1 to 65535",
    f"postgresql://{LOGIN}@[::1/d": "a '\\[' without its '\\]'",
    f"postgres:{LOGIN}@h/d": "lacks the two slashes after its first colon",
    f"postgresql+psycopg:/{LOGIN}@h/d": "lacks the two slashes after its first colon",
    f"jdbc:postgresql://h/d?user=u&password={PASSWORD}": "is a JDBC URL: leave 'jdbc:' out",
    f"'postgresql://{LOGIN}@h/d'": "is in quotes: remove them",
    f'"postgresql://{LOGIN}@h/d"': "is in quotes: remove them",
    f"DATABASE_URL=postgresql://{LOGIN}@h/d": "begins with the name of a variable",
    f"export DATABASE_URL='postgresql://{LOGIN}@h/d'": "begins with the name of a variable",
    f"host=h password={PASSWORD}": "a keyword connection string .*: write it as a URL",
    f"Server=h;Password={PASSWORD}": "a keyword connection string .*: write it as a URL",
    f"psql://{LOGIN}@h/d": "must begin with postgresql://",
    f"pgsql://{LOGIN}@h/d": "must begin with postgresql://",
    f"mysql+pymysql://{LOGIN}@h/d": "is for another kind of database",
    f"https://{LOGIN}@h/d": "is for another kind of database",
    f"{LOGIN}@h:5432/d": "does not begin with sqlite:// or postgresql://",
    f"//{LOGIN}@h/d": "does not begin with sqlite:// or postgresql://",
    f"{LOGIN}@h/d.sqlite": "does not begin with sqlite:// or postgresql://",
    f"sqlite:///postgresql://{LOGIN}@h/d.sqlite": "SQLite has no user and no password",
    f"sqlite:///shop.sqlite?key={PASSWORD}": "not supported, .*: leave out the '\\?' and what follows it",
    "sqlite:///shop.sqlite?mode=ro": "It must write to the file: to look at workflows, use a DBOSClient",
    "sqlite:///shop.sqlite?cache=shared": "parameters are not supported",
    "sqlite+driver-of-mine:///shop.sqlite": "names an SQLite driver that tidings does not know",
    f"sqlite+pysqlcipher://:{PASSWORD}@/shop.sqlite": "names an SQLite driver that tidings does not know",
}


@pytest.mark.parametrize(("given", "said"), REFUSED.items(), ids=range(len(REFUSED)))
@pytest.mark.parametrize("form", ["text", "bytes", "SecretStr"])
def test_what_cannot_be_is_told_what_to_change_and_shows_no_password(given: str, said: str, form: str) -> None:
    forms: dict[str, Any] = {"text": given, "bytes": given.encode(), "SecretStr": SecretStr(given)}
    with pytest.raises(DBOSInitializationError, match=said) as raised:
        tidings.store.open(forms[form])
    assert "\n" not in str(raised.value)
    # As tools print it that show the variables of each frame; that of this test is left out.
    error = raised.value.with_traceback(raised.tb.tb_next)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert PASSWORD not in "".join(shown.format())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "NoneType"),
        (7, "int"),
        ([f"postgresql://{LOGIN}@h/d"], "list"),
        ({"url": f"postgresql://{LOGIN}@h/d"}, "dict"),
        (b"\xff" + f"postgresql://{LOGIN}@h/d".encode(), "bytes that are not UTF-8"),
    ],
    ids=["None", "int", "list", "dict", "bytes"],
)
def test_what_is_no_text_is_named_by_its_kind(given: Any, named: str) -> None:
    with pytest.raises(DBOSInitializationError, match=f"must be a string, not {named}: use sqlite:///"):
        tidings.store.open(given)


@pytest.mark.parametrize("scheme", ["postgresql://u:", "sqlite:///"])
def test_a_url_with_a_lone_surrogate_is_refused(scheme: str) -> None:
    with pytest.raises(
        DBOSInitializationError, match=r"contains a lone surrogate, .*: write the URL in UTF-8"
    ) as raised:
        tidings.store.open(f"{scheme}{PASSWORD}\udce9@h/d")
    error = raised.value.with_traceback(raised.tb.tb_next)
    assert PASSWORD not in "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_an_object_that_fails_to_give_its_url_is_refused() -> None:
    class Failing:
        def get_secret_value(self) -> str:
            raise ValueError(f"postgresql://{LOGIN}@h/d")

    with pytest.raises(DBOSInitializationError, match="cannot be read: ValueError was raised in a Failing") as raised:
        tidings.store.open(Failing())
    assert raised.value.__context__ is None


SHOWN = {
    f"postgresql://{LOGIN}@h/d": "PostgreSQL database 'd' at h",
    f"postgresql://{LOGIN}@h:1,g:2/d": "PostgreSQL database 'd' at h,g:1,2",
    f"postgresql://{LOGIN}@[::1]:7/my-db": "PostgreSQL database 'my-db' at ::1:7",
    f"postgresql://{LOGIN}@h": "PostgreSQL database 'u' at h",
    "postgresql://u@h": "PostgreSQL database at h",
    f"postgresql://{LOGIN}@h/a%20b": "PostgreSQL database at h",
    f"postgresql://{LOGIN}@h/d%3A{PASSWORD}": "PostgreSQL database at h",
    f"postgresql://{LOGIN}@/d?host=/var/run/pg": "PostgreSQL database 'd' at /var/run/pg",
    f"postgresql://{LOGIN}@/d?host=/{PASSWORD}:x": "PostgreSQL database 'd' at <host>",
    f"postgresql://{LOGIN}@/d?hostaddr=::1": "PostgreSQL database 'd' at ::1",
    f"postgresql://?service={PASSWORD}": "PostgreSQL database at the server of a service",
    "postgresql:///d": "PostgreSQL database 'd' at the local socket",
}


@pytest.mark.parametrize("url", SHOWN)
def test_a_name_shows_only_what_is_surely_no_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    assert tidings.store.open(url).name == SHOWN[url]


def test_a_url_that_was_made_a_path_is_refused() -> None:
    url = f"postgresql://{LOGIN}@h/d"
    for given in map(PurePosixPath, (url, "sqlite:///shop.sqlite", f"'{url}'", f"DATABASE_URL={url}")):
        with pytest.raises(DBOSInitializationError, match="is a URL that was turned into a path: give it as a string"):
            tidings.store.open(given)


def test_a_server_that_is_away_shows_no_password_in_any_frame() -> None:
    store = tidings.store.open(f"postgresql://{LOGIN}@127.0.0.1:1/d?options=-c%20jit%3Don")
    for start in (store.migrate, store.connect):
        with pytest.raises(DBOSInitializationError, match="refused") as raised:
            start()
        error = raised.value.with_traceback(raised.tb.tb_next)
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert PASSWORD not in "".join(shown.format())
