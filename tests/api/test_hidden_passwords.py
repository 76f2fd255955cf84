"""No form of a URL, however wrong, shows its password: not in an error, its causes, its frames, or in the log.

The generator writes URLs as people get them wrong. Their server repeats what it is given.
"""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pytest

from harness.password import PASSWORD
from tests.support.echoing import SAYINGS, EchoingServer
from tidings import DBOS, DBOSClient, store
from tidings.engine.process import Process
from tidings.error import DBOSInitializationError

SECRET = f"{PASSWORD}Xw9kQ2mZ"
LONG_PART = 8

SEPARATORS = [
    *(";", ",", "|", "=", "\uff1a", "/", "\\", "!", "~", " ", "\t", "+", "*", "'", '"', "(", "..", "-", "_", "$", "@"),
    *("#", "?", "&", "[", "%", "%3A", "%3a", "%2F", "%40", "%20", "%E9", "%00", "%EF%BC%9A", "\udce9", "\u200b", "\n"),
]
PARAMETERS = [
    *("user", "port", "hostaddr", "service", "options", "sslmode", "sslrootcert", "sslcert", "passfile"),
    *("connect_timeout", "target_session_attrs", "application_name", "keepalives", "requirepeer", "krbsrvname", "pass"),
    *("require_auth", "load_balance_hosts", "sslpassword", "channel_binding", "client_encoding", "fallback", "passwrd"),
]


def logins(place: str) -> Iterator[str]:
    """URLs whose user and password are not separated by an ASCII colon."""
    for separator in SEPARATORS:
        yield f"postgresql://app{separator}{SECRET}@{place}/db"
        yield f"postgresql://{place}/db?user=app{separator}{SECRET}"
        yield f"postgresql://app:{separator}{SECRET}@{place}/db"
    yield f"postgresql://{SECRET}@{place}/db"
    yield f"postgresql://{SECRET}@{place}"
    yield f"postgresql://{SECRET}:@{place}/db"


def misplaced(place: str) -> Iterator[str]:
    """URLs with a password where something else belongs."""
    host = place.partition(":")[0]
    for name in PARAMETERS:
        yield f"postgresql://app@{place if name != 'port' else host}/db?{name}={SECRET}"
        yield f"postgresql://app:x@{place}/db?{name}=app:{SECRET}@h"
    for switch in (
        SECRET,
        f"-c {SECRET}",
        f"-c a.b={SECRET}",
        f"--{SECRET}=1",
        f"-c work_mem={SECRET}",
        f"-e {SECRET}",
    ):
        yield f"postgresql://app@{place}/db?options={quote(switch, safe='')}"
    inner = f"postgresql://app:{SECRET}@h/d"
    for text in (f"'{inner}'", f'"{inner}"', inner, f"URL={inner}", f"app:{SECRET}", f"db;{SECRET}", f"db {SECRET}"):
        yield f"postgresql://app:x@{place}/{quote(text, safe='')}"
        yield f"postgresql://app:x@{place}/{text}"
        yield f"postgresql://app:x@{place}/?dbname={quote(text, safe='')}"
    for query in (SECRET, f"{SECRET}=1", f"password={SECRET}&{SECRET}", f"password={SECRET}={SECRET}", f"a&{SECRET}"):
        yield f"postgresql://app@{place}/db?{query}"
    yield f"postgresql://app:x@{host}:{SECRET}/db"
    yield f"postgresql://app:{SECRET}"
    yield f"postgresql://app:x@app:{SECRET}/db"
    yield f"postgresql://app:x@h;{SECRET}/db"
    yield f"postgresql://app:x@{host}/db?host=h;{SECRET}"


def wrapped(place: str) -> Iterator[Any]:
    """URLs inside something else, or with something before them."""
    url = f"postgresql://app:{SECRET}@{place}/db"
    yield from (f"'{url}'", f"URL={url}", f"jdbc:{url}", url.replace("://", ":"), url.replace("://", ":/"), f"x{url}")
    yield from (
        f"sqlite:///{url}",
        f"sqlite://{url}",
        f"sqlite:///'{url}'",
        PurePosixPath(url),
        PurePosixPath(f"'{url}'"),
    )
    yield from (
        url.encode() + b"\xe9",
        url.encode("utf-16"),
        [url],
        {"url": url},
        url.partition("//")[2],
        f"{url} {url}",
    )
    for separator in (":", ";", ",", "|", "=", "\uff1a", "%3A"):
        yield f"sqlite:///app{separator}{SECRET}@h/db"
        yield f"sqlite:////app{separator}{SECRET}@h/db"
        yield PurePosixPath(f"app{separator}{SECRET}@h/db")
    yield f"sqlite:///app.{SECRET}@h/db"
    yield f"sqlite:///h/db?password={SECRET}"
    yield f"sqlite:///h/db;password={SECRET}"
    yield f"sqlite:///postgres:{SECRET}@\ud800"
    yield f"host=h user=u password={SECRET}"


def mutated(place: str, seed: int) -> Iterator[str]:
    """URLs that were right, with one character too many, too few, or another."""
    chance = random.Random(seed)
    right = f"postgresql://app:{SECRET}@{place}/db?connect_timeout=5&options=-c%20work_mem%3D64MB"
    colon = right.index(f":{SECRET}")
    characters = "/?#@%&=;,|\\'\" []+~!\uff1a\udce9\x00"
    for _ in range(150):
        at = colon if chance.random() < 0.4 else chance.randrange(len("postgresql://"), len(right))
        before, after = right[:at], right[at + 1 :]
        instead = chance.choice(characters)
        # What comes before a colon is a user. So the password does not get one, and keeps its place after the colon.
        yield (
            before + instead + after if at == colon else chance.choice([before + instead + right[at:], before + after])
        )


def given(place: str) -> list[Any]:
    """All of them, in an order that gives each a saying of the server by chance."""
    urls = [*logins(place), *misplaced(place), *wrapped(place), *mutated(place, 11)]
    random.Random(7).shuffle(urls)
    return urls


class Given:
    """Returns a URL, and shows nothing of it in the frames of a test."""

    def __init__(self, url: Any) -> None:
        self._url = url

    def __call__(self) -> Any:
        return self._url


def configure_and_launch(url: Given) -> None:
    DBOS(config={"name": "app", "system_database_url": url()})
    DBOS.launch()


def launch_from_environment(url: Given) -> None:
    if not isinstance(url(), str) or "\0" in url() or "\ud800" in url():
        configure_and_launch(url)  # No variable can hold it.
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DBOS_SYSTEM_DATABASE_URL", url())
        DBOS(config={"name": "app"})
        DBOS.launch()


WAYS: list[Callable[[Given], object]] = [
    configure_and_launch,
    launch_from_environment,
    lambda url: DBOSClient(system_database_url=url()),
    lambda url: DBOS.reset_system_database(system_database_url=url()),
    lambda url: store.open(url()).connect(),
    lambda url: store.open(url()).migrate(),
]


def shown_by(error: BaseException) -> str:
    """All that can be seen of an error, without the frames of the test, which hold nothing."""
    seen: list[str] = []
    each: BaseException | None = error
    while each is not None:
        seen += [str(each), repr(each), *getattr(each, "__notes__", [])]
        seen += traceback.TracebackException.from_exception(each, capture_locals=True).format()
        each = each.__cause__ or each.__context__
    return "\n".join(seen)


def assert_hidden(seen: str, what: object) -> None:
    parts = {SECRET[start : start + LONG_PART].lower() for start in range(len(SECRET) - LONG_PART + 1)}
    found = [part for part in (PASSWORD, *parts) if part in seen.lower()]
    assert not found, f"{what!r}: {seen.replace(SECRET, '<the password>')}"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(Process, "settings", None)
    monkeypatch.chdir(tmp_path)


def test_no_url_shows_its_password(caplog: pytest.LogCaptureFixture) -> None:
    refused = 0
    with EchoingServer() as server, caplog.at_level(logging.DEBUG):
        place = f"127.0.0.1:{server.port}"
        for number, url in enumerate(given(place)):
            way = WAYS[number % len(WAYS)]
            with pytest.raises((DBOSInitializationError, TypeError)) as raised:
                way(Given(url))
            assert type(raised.value) is DBOSInitializationError, f"{way} {url!r}: {raised.value!r}"
            assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), url)
            said = "\n".join(record.getMessage() + str(record.__dict__) for record in caplog.records)
            assert_hidden(said, url)
            caplog.clear()
            refused += 1
        assert server.count > len(SAYINGS) * 3, "the server said each of its sayings several times"
    assert refused > 300


VARIABLES = {
    "PGUSER": f"app;{SECRET}",
    "PGDATABASE": f"'postgresql://u:{SECRET}@h/d'",
    "PGSERVICE": SECRET,
    "PGHOSTADDR": SECRET,
    "PGSSLMODE": SECRET,
    "PGTZ": SECRET,
    "PGHOST": f"postgresql://u:{SECRET}@h/d",
    "PGPORT": SECRET,
    "PGSSLROOTCERT": f"/{SECRET}",
    "PGREQUIREAUTH": f"postgresql://u:{SECRET}@h/d",
    "PGAPPNAME": SECRET,
    "PGPASSWORD": SECRET,
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_no_variable_of_the_environment_is_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with EchoingServer() as server, caplog.at_level(logging.DEBUG):
        if variable not in ("PGHOST", "PGHOSTADDR", "PGPORT"):
            monkeypatch.setenv("PGHOST", "127.0.0.1")
            monkeypatch.setenv("PGPORT", str(server.port))
        monkeypatch.setenv(variable, VARIABLES[variable])
        for _ in SAYINGS:
            for way in WAYS:
                with pytest.raises(DBOSInitializationError) as raised:
                    way(Given("postgresql://"))
                assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), variable)
    assert_hidden("\n".join(record.getMessage() for record in caplog.records), variable)


URL = f"postgresql://app:{SECRET}@127.0.0.1:1/db"
PLACES: dict[str, Callable[[Given], Any]] = {
    "the whole configuration": lambda url: DBOS(config=url()),
    "by position": lambda url: DBOS(url()),
    "by position, with a configuration": lambda url: DBOS(None, config={"name": "a", "nmae": url()}),  # type: ignore[typeddict-unknown-key]
    "a client by position": lambda url: DBOSClient(url(), system_database_url=url()),
    "a wrong keyword": lambda url: DBOSClient(database_url=url()),  # type: ignore[call-arg]
    "a client's schema": lambda url: DBOSClient(system_database_url=url(), dbos_system_schema=url()),
    "a client's serializer": lambda url: DBOSClient(system_database_url=url(), serializer=url()),
    "a reset": lambda url: DBOS.reset_system_database(system_database_url=url()),
    "a reset's schema": lambda url: DBOS.reset_system_database(system_database_url=url(), schema=url()),
    "a reset's flag": lambda url: DBOS.reset_system_database(system_database_url=url(), truncate=url()),
    "a reset by position": lambda url: DBOS.reset_system_database(url()),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("url", [URL, f"'{URL}'", f"app:{SECRET}@h/db", f"app;{SECRET}@h/db?password={SECRET}"])
@pytest.mark.parametrize("place", PLACES)
def test_a_call_whose_url_is_in_the_wrong_place_shows_no_password(place: str, url: str) -> None:
    with pytest.raises((DBOSInitializationError, TypeError)) as raised:
        PLACES[place](Given(url))
    assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), place)


KEYS = [
    *("name", "dbos_system_schema", "application_version", "recover_versions", "executor_id", "run_migrations"),
    *("max_executor_threads", "use_listen_notify", "notification_listener_polling_interval_sec", "serializer"),
    *("log_level", "no_such_key"),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "kind", [str, lambda url: [url], lambda url: {"url": url}, str.encode], ids=["str", "list", "dict", "bytes"]
)
def test_a_setting_that_gets_the_url_by_mistake_names_its_key_and_shows_nothing(
    key: str, kind: Callable[[str], Any]
) -> None:
    for url in (URL, f"'{URL}'", f"DATABASE_URL={URL}", f"host=h password={SECRET}", f"postgres://app:x{SECRET}@h"):
        config = [{"name": "a", "system_database_url": "sqlite:///a.sqlite"} | {key: kind(url)}]
        with pytest.raises(DBOSInitializationError, match=f"'{key}'") as raised:
            DBOS(config=config.pop())  # type: ignore[arg-type]
        assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), key)
        assert "not not" not in str(raised.value)


@pytest.mark.parametrize("key", ["recover_versions", "log_level", "max_executor_threads", "run_migrations"])
def test_a_login_without_a_scheme_is_not_shown_either(key: str) -> None:
    for text in (f"app:{SECRET}@h/db", f"app;{SECRET}@h/db", f"{SECRET}@h"):
        with pytest.raises(DBOSInitializationError, match=f"'{key}'") as raised:
            DBOS(config={"name": "a", key: text})  # type: ignore[misc]
        assert_hidden(str(raised.value), key)


@pytest.mark.parametrize("variable", ["DBOS__APPVERSION", "DBOS__VMID"])
def test_a_variable_that_gets_the_url_by_mistake_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, URL)
    with pytest.raises(DBOSInitializationError, match=f"environment's {variable} is the URL of a database") as raised:
        DBOS(config={"name": "a"})
    assert_hidden(shown_by(raised.value), variable)


def test_other_urls_are_names_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example that of a build, or of a host."""
    DBOS(config={"name": "a", "application_version": "https://ci/build/7", "executor_id": "http://host:80"})
    assert Process.settings is not None
    assert Process.settings.application_version == "https://ci/build/7"


def test_a_database_that_runs_already_shows_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.api.dbos.is_running", lambda: True)
    config: list[Any] = [{"name": "a", "system_database_url": URL}]
    with pytest.raises(DBOSInitializationError, match="tidings is running") as raised:
        DBOS(config=config.pop())
    assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), "running")


def test_an_interrupt_while_connecting_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("psycopg.connection.conninfo_attempts", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        store.open(URL).connect()
    assert_hidden(shown_by(raised.value.with_traceback(raised.tb.tb_next)), "interrupted")
