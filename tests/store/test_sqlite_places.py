"""Where an SQLite file can be: every other path is refused with a hint, and nothing is made there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidings.store
from tests.support.rights import without_rights
from tidings.error import DBOSInitializationError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one of each kind of thing in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "my folder").mkdir()
    (tmp_path / "my folder" / "shop.sqlite").touch()
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "nowhere").symlink_to("gone/shop.sqlite")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


ON_DISK = {
    "folder": "this is a directory: name a file in it",
    "": "names no file|this is a directory",
    ".": "this is a directory: name a file in it",
    "gone/shop.sqlite": "there is no directory {folder}/gone: create it first.* three slashes begin a path in the curr",
    "gone/more/shop.sqlite": "there is no directory {folder}/gone/more: create it first",
    "note.txt/shop.sqlite": "{folder}/note.txt is a file, and not a directory: name another path",
    "note.txt/more/shop.sqlite": "{folder}/note.txt is a file, and not a directory: name another path",
    "note.txt": "this file is not an SQLite database: name another file, or a new one",
    "nowhere": "this is a link that leads nowhere, to {folder}/gone/shop.sqlite: correct or remove it",
    "circle": "this is a link that leads nowhere, to {folder}/circle: correct or remove it",
    "pipe": "this is not a file, but a device, a socket or a pipe: name another file",
    "my%20folder/new.sqlite": "no directory .*: create it first. .In the URL of an SQLite file nothing is percent-enc",
    "my%20folder%2Fshop.sqlite": "there is no such file, but there is {folder}/my folder/shop.sqlite: in the URL",
    "$HOME/shop.sqlite": "there is no directory .*: create it first. .Variables of the environment are not filled in",
    "${HOME}/shop.sqlite": "there is no directory .*: create it first. .Variables of the environment are not filled",
}


def everything(folder: Path) -> set[str]:
    return {str(each) for each in folder.rglob("*")}


@pytest.mark.parametrize("path", ON_DISK)
def test_a_launch_is_told_what_is_wrong_with_its_path_and_makes_nothing(path: str, folder: Path) -> None:
    before = everything(folder)
    with pytest.raises(DBOSInitializationError, match=ON_DISK[path].replace("{folder}", str(folder))):
        tidings.store.open(f"sqlite:///{path}").migrate()
    assert everything(folder) == before
    assert (folder / "note.txt").read_text() == "x"


@pytest.mark.parametrize("path", ON_DISK)
def test_a_client_is_told_the_same(path: str, folder: Path) -> None:
    before = everything(folder)
    with pytest.raises(DBOSInitializationError, match=ON_DISK[path].replace("{folder}", str(folder))):
        tidings.store.open(f"sqlite:///{path}").connect()
    assert everything(folder) == before


def test_a_client_in_another_folder_makes_no_file_and_is_told_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidings.store.open("sqlite:///shop.sqlite").migrate()
    monkeypatch.chdir(folder / "folder")
    with pytest.raises(
        DBOSInitializationError,
        match=f"{folder}/folder/shop.sqlite: there is no such file .* If that program runs in another folder, give the "
        "path of the file in full",
    ):
        tidings.store.open("sqlite:///shop.sqlite").connect()
    assert list((folder / "folder").iterdir()) == []


def test_a_new_file_whose_name_is_encoded_is_warned_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        tidings.store.open("sqlite:///my%20shop.sqlite").migrate()
    assert (folder / "my%20shop.sqlite").exists()
    [said] = [each for each in caplog.messages if "nothing is percent-encoded" in each]
    assert "this file is made now, and its name has a '%'" in said


NO_URL = {
    "sqlite://shop.sqlite": "its third slash is missing: write sqlite:///shop.sqlite;",
    "sqlite://data/shop.db": "its third slash is missing: write sqlite:///data/shop.db;",
    "sqlite://u:h1dden@h/shop.db": "its third slash is missing; after",
    "sqlite://:memory:": "a database in memory is lost with its process",
    "sqlite:///:MEMORY:": "a database in memory is lost with its process",
    "sqlite::memory:": "means a database in memory, which is lost with its process",
    ":memory:": "means a database in memory, which is lost with its process",
    "sqlite:///file:shop.sqlite": "SQLite URIs are not supported; leave out 'file:'",
    "sqlite:///FILE:shop.sqlite": "SQLite URIs are not supported; leave out 'file:'",
    "sqlite:////file:/shop.sqlite": "SQLite URIs are not supported; leave out 'file:'",
    "file:shop.sqlite": "is an SQLite URI: write sqlite:/// and the path of the file",
    "C:\\data\\shop.sqlite": "has no scheme: if it is the path of an SQLite file, write sqlite:/// before it",
    "C:/data/shop.db": "has no scheme: if it is the path of an SQLite file, write sqlite:/// before it",
    "sqlite:///data/": r"\('sqlite:///data/'\) is not .*: it ends with a '/', so it names a directory: name a file in",
    "sqlite:///h;app:h1dden@h/d": "SQLite has no user and no password",
    "sqlite:///app;h1dden@h/d": "SQLite has no user and no password",
    "sqlite:///app.h1dden@h/d": "SQLite has no user and no password",
    "sqlite:///d;password=h1dden": "SQLite has no user and no password",
    "sqlite:///a\udce9.sqlite": "contains a lone surrogate, .*: write the URL in UTF-8",
}


@pytest.mark.parametrize("url", NO_URL)
def test_what_is_no_url_of_a_file_is_told_how_to_write_it(url: str, folder: Path) -> None:
    before = everything(folder)
    with pytest.raises(DBOSInitializationError, match=NO_URL[url]):
        tidings.store.open(url).migrate()
    assert everything(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="These are paths there.")
@pytest.mark.parametrize("path", ["C:\\data\\shop.db", "C:/data/shop.sqlite", "/C:/shop.db", "\\\\host\\shop.db"])
def test_a_path_of_windows_is_refused_elsewhere(path: str) -> None:
    for url in (f"sqlite:///{path}", Path(path)):
        with pytest.raises(DBOSInitializationError, match="has a path of Windows, and this system is none"):
            tidings.store.open(url)


@pytest.mark.parametrize(
    "path", ["me@home.sqlite", "100%.sqlite", "a#b.sqlite", "a b+c~d.sqlite", "$5.sqlite", "ünï.sqlite", "a:b.db"]
)
def test_names_with_other_characters_are_fine(path: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tidings.store.open(f"sqlite:///{path}").migrate()
    assert (folder / path).exists()
    assert caplog.messages == []


def test_a_name_that_is_no_utf_8_can_be_printed(folder: Path) -> None:
    store = tidings.store.open(Path(os.fsdecode(b"shop\xe9.sqlite")))
    store.migrate()
    assert store.name.encode() == f"SQLite database {folder}/shop\\udce9.sqlite".encode()


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder into which nobody else may look. It is not pytest's, whose folders are all closed."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    (outer / "closed").mkdir()
    tidings.store.open(outer / "closed" / "shop.sqlite").migrate()
    (outer / "closed").chmod(0)
    yield outer / "closed"
    (outer / "closed").chmod(0o755)
    shutil.rmtree(outer)


def test_a_folder_that_may_not_be_looked_into_is_not_called_missing(closed: Path) -> None:
    for path in (closed / "shop.sqlite", closed / "more" / "shop.sqlite"):
        store = tidings.store.open(path)
        for start in (store.migrate, store.connect):
            with without_rights(), pytest.raises(DBOSInitializationError) as raised:
                start()
            assert "cannot write to it" in str(raised.value)
            assert "create it first" not in str(raised.value)
