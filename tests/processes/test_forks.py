"""A process is killed in the middle of a commit, and a child that it made lives on: the child keeps nothing of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.processes.forking import WAYS
from tests.support import programs
from tests.support.engines import running, wait_until
from tidings import DBOS
from tidings.engine.lock_files import has_died_here
from tidings.store import held
from tidings.store import open as open_store
from tidings.store.sqlite import waits
from tidings.store.sqlite.lock import SideLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


_HOLD = """
import fcntl, sys
file = open({!r})
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=WAYS)
def orphan(request: pytest.FixtureRequest, database_url: str) -> Iterator[int]:
    """The child of a process that was killed."""
    command = programs.python("-m", "tests.processes.forking", database_url, request.param)
    parent = programs.start(*command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    said, child = json.loads(parent.stdout.readline())
    assert said == "child"
    parent.kill()
    parent.wait()
    os.kill(child, 0)  # It lives.
    yield child
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    parent.stdout.close()
    for left in Path(tempfile.gettempdir()).glob("pymp-*"):  # Of multiprocessing, in the process that was killed.
        shutil.rmtree(left)


def sessions(url: str) -> int:
    """Count the sessions of tidings in a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'tidings'"
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_child_that_outlives_its_parent_keeps_no_lock_and_no_connection(orphan: int, database_url: str) -> None:
    if database_url.startswith("sqlite"):
        path = database_url.removeprefix("sqlite:///") + "-lock"
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        wait_until(lambda: sessions(database_url) == 0)
    store = open_store(database_url)
    store.connect()
    [parent] = store.executors()
    store.close()
    assert has_died_here(parent)
    with running(database_url, version="1"):
        assert [each.is_alive for each in DBOS.list_executors() if each.pid == parent.pid] in ([], [False])
    os.kill(orphan, 0)


def test_a_child_has_nothing_where_the_lock_was_and_may_use_its_own(tmp_path: Path) -> None:
    database = str(tmp_path / "database")
    lock = SideLock(database)
    with lock:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            is_gone = os.path.samestat(os.fstat(lock._fd), os.stat(os.devnull))
            lock.close()
            os.write(write, b"gone" if is_gone else b"kept")
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read, 4) == b"gone"
        with open(database + "-lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # The parent has it still.
    os.close(read)
    os.close(write)
    lock.close()


def test_forks_are_counted(tmp_path: Path) -> None:
    before = held.forks()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert held.forks() == before + 1


def test_a_lock_that_is_waited_for_for_long_says_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waits, "SAY_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(waits, "_LOOK_SECONDS", 0.001)
    database = str(tmp_path / "database")
    SideLock(database).close()
    holding = _HOLD.format(database + "-lock")
    holder = programs.start(*programs.python("-c", holding), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    lock = SideLock(database)

    def take() -> None:
        with lock:
            pass

    waiting = threading.Thread(target=take)
    waiting.start()
    wait_until(lambda: f"held by process {holder.pid} (" in caplog.text)
    assert f"waiting for the lock on {database}-lock" in caplog.text
    holder.communicate()
    waiting.join()
    wait_until(lambda: f"the lock on {database}-lock is free after" in caplog.text)
    lock.close()
    wait_until(lambda: not waits._has_watcher)
