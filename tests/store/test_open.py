"""Which URLs name a store, what the others are told, and how named queries are read."""

import os
import sys
from pathlib import Path

import pytest

import tidings.store
from harness.password import PASSWORD
from tidings.error import DBOSInitializationError
from tidings.store import queries


def test_a_relative_url_names_a_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = tidings.store.open("sqlite:///app data.sqlite")
    os.chdir("/")
    store.migrate()
    assert (tmp_path / "app data.sqlite").exists()


def test_an_absolute_url_names_its_path(tmp_path: Path) -> None:
    path = tmp_path / "100%.sqlite"
    tidings.store.open(f"sqlite:///{path}").migrate()
    assert path.exists()


@pytest.mark.parametrize("url", ["postgresql://u:p@h:5432/d", "postgres://h/d"])
def test_both_names_of_postgresql_open_its_store(url: str) -> None:
    assert type(tidings.store.open(url)).__module__.startswith("tidings.store.postgres")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is empty"),
        ("app.sqlite", "has no scheme: if it is the path of an SQLite file, write sqlite:/// before it"),
        ("mysql://user:h1dden@host/db", "is for another kind of database"),
        ("user:h1dden@host/db", "has an unknown scheme"),
        ("host=h password=h1dden dbname=d", "a keyword connection string"),
        ("mysql://host/db?password=h1dden&a=b", "is for another kind of database"),
        ("sqlite", "has an unknown scheme"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://app.sqlite", "third slash"),
        (f"sqlite:///{'a' * 300}.sqlite", "a name in its path is longer than a file's can be"),
        (f"sqlite:///{'é' * 130}/app.sqlite", "a name in its path is longer than a file's can be"),
        ("sqlite://user:h1dden@host/app.sqlite", "third slash"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:?cache=shared", "in memory"),
        ("sqlite:///app.sqlite?mode=memory", "in memory"),
        ("sqlite:///app.sqlite?mode=ro", "parameters are not supported"),
        ("sqlite:///a\0b", "it contains a NUL character"),
        ("sqlite:///~/app.sqlite", "'~' is not expanded"),
        ("sqlite:///file:app.sqlite", "leave out 'file:'"),
        ("sqlite:///user:h1dden@host/app.sqlite", "no user and no password"),
    ],
)
def test_other_urls_are_refused_with_what_is_accepted(url: str, reason: str) -> None:
    with pytest.raises(DBOSInitializationError, match=reason) as raised:
        tidings.store.open(url)
    assert "sqlite:///relative.sqlite" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_a_url_must_be_text() -> None:
    with pytest.raises(DBOSInitializationError, match="must be a string, not NoneType"):
        tidings.store.open(None)  # type: ignore[arg-type]


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("tidings.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DBOSInitializationError, match=r"pip install .psycopg\[binary\].,? or in a checkout") as raised:
        tidings.store.open("postgresql://user:h1dden@host/db")
    assert PASSWORD not in str(raised.value)


def test_both_stores_have_their_queries() -> None:
    for package in ("tidings.store.sqlite", "tidings.store.postgres"):
        found = queries.load(package)
        assert "renew_executor" in found
        assert queries.load(package) is found
        assert not any("--" in each or each.endswith(";") for each in found.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select 1;", "before the first"),
        ("-- name: a\n-- only a comment\n", "'a' has no statement"),
        ("-- name: a b\nselect 1;", "'a b' is no name"),
        ("-- name:\nselect 1;", "'' is no name"),
        ("-- part: a\n-- only a comment\n", "'a' has no statement"),
        ("-- part: a\n1\n-- part: a\n2\n", "two parts named 'a'"),
    ],
)
def test_a_malformed_file_of_queries_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        queries.parse({"here": text})


def test_a_query_is_what_follows_its_header() -> None:
    text = "-- About all.\n\n-- name: first\n-- Why.\nselect 1,\n    -- inside\n    '--no comment';\n\n"
    text += "-- name: second\nselect 2"
    assert queries.parse({"here": text}) == {"first": "select 1,\n    '--no comment'", "second": "select 2"}


def test_a_part_is_filled_in_where_it_is_used_and_is_no_query_itself() -> None:
    first = "-- name: first\nselect {columns} from {schema}.t;\n-- part: more\n{columns}, c\n"
    second = "-- part: columns\n-- Why.\na,\nb\n\n-- name: second\nselect {more};\n"
    found = queries.parse({"first.sql": first, "second.sql": second})
    assert found == {"first": "select a,\nb from {schema}.t", "second": "select a,\nb, c"}


def test_a_part_that_uses_itself_is_an_error() -> None:
    text = "-- part: a\n{b}\n-- part: b\n{a}\n-- name: c\nselect {a}"
    with pytest.raises(ValueError, match="the part 'a' uses itself"):
        queries.parse({"here": text})


def test_a_name_stands_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "two_of_a_name"
    (package / "queries").mkdir(parents=True)
    (package / "__init__.py").touch()
    for file in ("a.sql", "b.sql"):
        (package / "queries" / file).write_text("-- name: same\nselect 1;\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"queries/b\.sql: there are two queries named 'same'"):
        queries.load("two_of_a_name")
