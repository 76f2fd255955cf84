"""Who is alive: by a lock on a file on this host, by the lease elsewhere."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import programs
from tests.support.clock import ManualClock
from tests.support.engines import die, running
from tests.support.faulty import move_fence
from tidings import DBOS, SetWorkflowID
from tidings.engine import lock_files
from tidings.engine.lock_files import forget, has_died_here, sweep
from tidings.engine.ownership import leases
from tidings.engine.ownership.leases import Lease, LeaseObserver
from tidings.model import Executor
from tidings.store import open as open_store
from tidings.store.protocol import Store

_HOLD = """
import sys
from tidings.engine.lock_files import _lock, _path
held = _lock(_path(sys.argv[1]), create=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    store.migrate()
    store.connect()
    yield store
    store.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_an_executor_is_alive_while_it_holds_its_lock_and_its_lease(store: Store, clock: ManualClock) -> None:
    lease = Lease(10_000, clock)
    executor = lease.enlist(store, "label")
    assert executor.lease_until_ms == clock.now_ms() + 10_000
    [row] = store.executors()
    assert row == executor
    assert not has_died_here(row)
    lease.release()
    assert has_died_here(row), "whatever the row says"
    lease.release()
    forget(executor.executor_id)


def test_retiring_gives_everything_back(store: Store, clock: ManualClock) -> None:
    lease = Lease(10_000, clock)
    executor = lease.enlist(store, "label")
    assert lock_files._path(executor.executor_id).exists()
    lease.retire(store, executor)
    assert store.executors() == []
    assert not lock_files._path(executor.executor_id).exists()


def test_retiring_gives_everything_back_though_the_fence_has_moved(store: Store, clock: ManualClock) -> None:
    """Another process took some of its workflows, and this one has not noticed."""
    clock.advance(10**10)  # Else the row would go with the claim: its lease is long over.
    lease = Lease(10_000, clock)
    executor = lease.enlist(store, "label")
    move_fence(store, executor.executor_id, names=[], version="1", lease_until_ms=2**60)
    lease.retire(store, executor)
    assert [each.executor_id for each in store.executors()] == ["claimer"]
    assert not lock_files._path(executor.executor_id).exists()


def test_to_enlist_again_is_to_be_another_one(store: Store, clock: ManualClock) -> None:
    lease = Lease(10_000, clock)
    former = lease.enlist(store, "label")
    present = lease.enlist(store, "label")
    assert former.executor_id != present.executor_id
    assert has_died_here(former)
    assert not has_died_here(present)
    lease.retire(store, present)
    forget(former.executor_id)


def elsewhere(lease_until_ms: int = 0, *, name: str = "elsewhere", lease_ms: int = 900) -> Executor:
    """An executor of another host: there is no file of its name here."""
    return Executor(name, "label", lease_until_ms, 1, lease_ms)


def test_on_another_host_a_lease_without_a_sign_of_life_tells_whatever_its_clock_says() -> None:
    for lease_until_ms in (0, 10**15):
        watch, row = LeaseObserver(900), elsewhere(lease_until_ms)
        looks = [watch.find_dead([row], now_ms) for now_ms in range(5_000, 6_000, 100)]
        assert looks == [[]] * 9 + [[row]]


def test_any_sign_of_life_begins_the_time_anew() -> None:
    watch = LeaseObserver(900)
    for now_ms in range(0, 5_000, 100):
        assert watch.find_dead([elsewhere(now_ms // 800)], now_ms) == []


def test_who_watches_waits_for_the_lease_of_whom_it_watches() -> None:
    watch, slow, quick = (
        LeaseObserver(900),
        elsewhere(name="slow", lease_ms=2_000),
        elsewhere(name="quick", lease_ms=300),
    )
    died: dict[str, int] = {}
    for now_ms in range(0, 2_500, 100):
        for each in watch.find_dead([slow, quick], now_ms):
            died.setdefault(each.executor_id, now_ms)
    assert died == {"quick": 300, "slow": 2_000}


def test_after_an_outage_nobody_counts_as_dead_before_all_had_time_to_come_back() -> None:
    watch, row = LeaseObserver(900), elsewhere()
    for now_ms in range(0, 900, 100):
        assert watch.find_dead([row], now_ms) == []
    # The database, or this very process, was away for an hour.
    for now_ms in range(3_600_000, 3_600_900, 100):
        assert watch.find_dead([row], now_ms) == []
    assert watch.find_dead([row], 3_600_900) == [row]


def test_a_clock_that_was_set_back_begins_the_time_anew_and_no_more() -> None:
    watch, row = LeaseObserver(900), elsewhere()
    for now_ms in (10_000, 10_400):
        assert watch.find_dead([row], now_ms) == []
    for now_ms in (1_000, 1_400, 1_800):
        assert watch.find_dead([row], now_ms) == []
    assert watch.find_dead([row], 1_900) == [row]


def test_another_process_is_alive_until_it_is_killed() -> None:
    executor = Executor(uuid.uuid4().hex, "label", 2**60, 1)
    command = programs.python("-c", _HOLD, executor.executor_id)
    process = programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert not has_died_here(executor)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert has_died_here(executor)
    forget(executor.executor_id)
    forget(executor.executor_id)
    assert not has_died_here(executor), "without a file, the lease tells"


def test_files_of_processes_that_ended_long_ago_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("tidings-old.lock", "tidings-held.lock", "tidings-new.lock", "another-old.lock"):
        (tmp_path / name).touch()
    for name in ("tidings-old.lock", "tidings-held.lock", "another-old.lock"):
        os.utime(tmp_path / name, (1, 1))
    with (tmp_path / "tidings-held.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"tidings-held.lock", "tidings-new.lock", "another-old.lock"}


# --- without a file -----------------------------------------------------------------------------------------


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the log says of files that there cannot be."""
    leases._say_no_file_once.cache_clear()
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "this process has no lock file" in record.getMessage():
                said.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("tidings")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)
    leases._say_no_file_once.cache_clear()


def _without_files(monkeypatch: pytest.MonkeyPatch, trouble: str, tmp_path: Path) -> None:
    """Let this process have no lock file."""
    real_open = os.open

    def fail(code: int) -> None:
        def refuse(path: Any, *more: Any, **others: Any) -> int:
            if str(path).endswith(".lock"):
                raise OSError(code, os.strerror(code), str(path))
            return real_open(path, *more, **others)

        monkeypatch.setattr("tidings.engine.lock_files.os.open", refuse)

    def no_directory() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    match trouble:
        case "no directory":
            monkeypatch.setattr("tidings.engine.lock_files.tempfile.gettempdir", no_directory)
        case "read-only":
            fail(errno.EROFS)
        case "not allowed":
            fail(errno.EACCES)
        case "full":
            fail(errno.ENOSPC)
        case "no descriptor":
            fail(errno.EMFILE)
        case _:
            monkeypatch.setattr("tidings.engine.lock_files.tempfile.gettempdir", lambda: str(tmp_path))
            monkeypatch.setattr(lock_files, "fcntl", SimpleNamespace(flock=no_lock, LOCK_EX=0, LOCK_NB=0))


TROUBLES = ["no directory", "read-only", "not allowed", "full", "no descriptor", "no lock"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_executor_without_a_file_is_alive_to_all_until_its_lease_ends(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, trouble: str, tmp_path: Path, warnings: list[str]
) -> None:
    with monkeypatch.context() as patched:
        _without_files(patched, trouble, tmp_path)
        lease = Lease(10_000, clock)
        executors = [lease.enlist(store, "label") for _ in range(2)]
        assert [has_died_here(each) for each in executors] == [False, False]
        sweep()
    assert [has_died_here(each) for each in executors] == [False, False], "a file that was left would say so"
    assert len(warnings) == 1, "said once"
    lease.release()
    assert not list(tmp_path.glob("tidings-*.lock"))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_work_goes_on_and_is_recovered_without_files(
    database_url: str, monkeypatch: pytest.MonkeyPatch, trouble: str, tmp_path: Path, warnings: list[str]
) -> None:
    @DBOS.workflow(name="leases.order")
    def order() -> Any:
        return DBOS.recv("topic", 3_600)

    _without_files(monkeypatch, trouble, tmp_path)
    with running(database_url, lease_ms=600) as first:
        with SetWorkflowID("w"):
            DBOS.start_workflow(order)
        first.await_waiting(1)
        die(first)
    with running(database_url, lease_ms=600) as second:
        second.await_waiting(1)
        DBOS.send("w", "after the lease", "topic")
        assert DBOS.get_result("w") == "after the lease"
    assert len(warnings) == 1
