"""A file that is removed or replaced while it is in use: nothing more is written to it, and nothing read."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.store.conftest import OpenStore
from tests.store.driver import Process, new
from tidings.model import APPLIED, Unit
from tidings.store.protocol import Fenced, Unavailable
from tidings.store.sqlite import SqliteStore
from tidings.store.sqlite.lock import SideLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "tidings.sqlite"


@pytest.fixture
def database_url(path: Path) -> str:
    """Where the stores of this file are: on a disk."""
    return f"sqlite:///{path}"


def copy(path: Path, target: Path) -> None:
    """Copy a database that is in use."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)


def move(path: Path, target: Path) -> None:
    """Move a database with what belongs to it."""
    for side in ("", "-wal", "-shm"):
        if Path(f"{path}{side}").exists():
            Path(f"{path}{side}").rename(f"{target}{side}")


def replace(path: Path) -> None:
    """Put a copy in the place of the file: a backup of this moment."""
    backup = path.with_suffix(".backup")
    copy(path, backup)
    move(path, path.with_suffix(".former"))
    backup.rename(path)


def starts(workflow_id: str) -> Unit:
    return Unit(start=new(workflow_id))


def test_a_removed_file_takes_and_gives_nothing(path: Path, store: SqliteStore, process: Process) -> None:
    listener = store.listen("another")
    away = path.with_suffix(".away")
    move(path, away)
    calls: list[Callable[[], object]] = [
        process.commit,
        store.executors,
        lambda: listener.hear(60, lambda: True),
        lambda: store.refence("here"),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=r"tidings\.sqlite: the file was removed while it was in use"):
            call()
    listener.close()
    for reopen in (store.reconnect, store.reconnect_reader, lambda: store.listen("another")):
        with pytest.raises(Unavailable, match="unable to open"):
            reopen()
    assert not path.exists()
    move(away, path)
    store.reconnect()
    store.reconnect_reader()
    assert process.commit(starts("w")) == [APPLIED]  # The file is the same, so nothing has changed.
    assert set(store.workflows(["w"])) == {"w"}


def test_in_another_file_the_executors_of_the_former_own_nothing(
    path: Path, store: SqliteStore, process: Process
) -> None:
    process.start("w")
    listener = store.listen("another")
    replace(path)
    calls: list[Callable[[], object]] = [process.commit, store.executors, lambda: listener.hear(60, lambda: True)]
    for call in calls:
        with pytest.raises(Unavailable, match=r"tidings\.sqlite: the file was replaced by another while it was in use"):
            call()
    listener.close()
    store.reconnect()
    store.reconnect_reader()
    # The copy has its row and its fence, and yet: who knows what it did between the copy and now.
    assert [each.executor_id for each in store.executors()] == ["here"]
    for fenced in (process.commit, process.claim, lambda: store.reclaim(process.executor, ["w"])):
        with pytest.raises(Fenced):
            fenced()
    assert store.refence("here") is None
    successor = Process(store, "successor")
    assert successor.claim("here") == ["w"]
    assert successor.commit(starts("v")) == [APPLIED]


@pytest.mark.parametrize("has_landed", [True, False], ids=["copied after", "copied before"])
def test_a_file_that_is_replaced_while_a_batch_is_written(
    path: Path, store: SqliteStore, process: Process, has_landed: bool
) -> None:
    """Whether the batch counts, the file that stands there now says."""
    assert store._writer is not None
    check = store._writer.identity.check
    if not has_landed:
        copy(path, path.with_suffix(".backup"))

    def replace_first(*, ambiguous: bool = False) -> None:
        if ambiguous:  # It has committed.
            if has_landed:
                copy(path, path.with_suffix(".backup"))
            move(path, path.with_suffix(".former"))
            path.with_suffix(".backup").rename(path)
        check(ambiguous=ambiguous)

    batch = process.batch(starts("w"))
    with patch.object(store._writer.identity, "check", replace_first), pytest.raises(Unavailable) as raised:
        store.commit(batch)
    assert raised.value.ambiguous
    store.reconnect()
    assert store.recall(batch) == ([APPLIED] if has_landed else None)
    with pytest.raises(Fenced):
        store.commit(batch)


def test_a_strangers_file_is_left_as_it_is(path: Path, store: SqliteStore, process: Process) -> None:
    move(path, path.with_suffix(".away"))
    with closing(sqlite3.connect(path)) as stranger, stranger:
        stranger.execute("create table theirs (n int)")
    content = path.read_bytes()
    for call in (store.reconnect, store.reconnect_reader):
        with pytest.raises(Unavailable, match="no tidings schema"):
            call()
    assert path.read_bytes() == content
    assert not path.with_name("tidings.sqlite-wal").exists()
    path.unlink()
    move(path.with_suffix(".away"), path)
    store.reconnect()
    assert process.commit(starts("w")) == [APPLIED]


def test_a_lock_file_that_was_removed_keeps_nobody_apart(
    path: Path, store: SqliteStore, process: Process, open_store: OpenStore
) -> None:
    """Who still has the former one open takes the new one too."""
    lock_file = Path(f"{path}-lock")
    lock_file.unlink()
    process.commit()
    assert lock_file.exists()
    other = Process(open_store(), "other")
    other.commit()
    assert store._writer is not None
    ours, theirs = store._writer._lock, SideLock(str(path))
    for each in (ours, theirs):
        with each:
            pass
    assert os.path.sameopenfile(ours._fd, theirs._fd)
    theirs.close()


def test_a_store_whose_directory_is_gone_can_be_closed(path: Path, store: SqliteStore, process: Process) -> None:
    shutil.rmtree(path.parent)
    with pytest.raises(Unavailable):
        process.commit()
    store.close()
    path.parent.mkdir()  # For who tidies up.
