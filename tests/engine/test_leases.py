"""Who is alive: by a lock on a file on this host, by the lease elsewhere."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clock import ManualClock
from tests.support.faulty import move_fence
from tidings.engine import leases
from tidings.engine.leases import Lease, forget, is_dead, sweep
from tidings.model import Executor
from tidings.store import open as open_store
from tidings.store.protocol import Store

_HOLD = """
import sys
from tidings.engine.leases import _lock, _path
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
    assert not is_dead(row, clock.now_ms())
    lease.release()
    assert is_dead(row, clock.now_ms()), "whatever the row says"
    lease.release()
    forget(executor.executor_id)


def test_retiring_gives_everything_back(store: Store, clock: ManualClock) -> None:
    lease = Lease(10_000, clock)
    executor = lease.enlist(store, "label")
    assert leases._path(executor.executor_id).exists()
    lease.retire(store, executor)
    assert store.executors() == []
    assert not leases._path(executor.executor_id).exists()


def test_retiring_gives_everything_back_though_the_fence_has_moved(store: Store, clock: ManualClock) -> None:
    """Another process took some of its workflows, and this one has not noticed."""
    clock.advance(10**10)  # Else the row would go with the claim: its lease is long over.
    lease = Lease(10_000, clock)
    executor = lease.enlist(store, "label")
    move_fence(store, executor.executor_id, names=[], version="1", lease_until_ms=2**60)
    lease.retire(store, executor)
    assert [each.executor_id for each in store.executors()] == ["claimer"]
    assert not leases._path(executor.executor_id).exists()


def test_to_enlist_again_is_to_be_another_one(store: Store, clock: ManualClock) -> None:
    lease = Lease(10_000, clock)
    former = lease.enlist(store, "label")
    present = lease.enlist(store, "label")
    assert former.executor_id != present.executor_id
    assert is_dead(former, clock.now_ms())
    assert not is_dead(present, clock.now_ms())
    lease.retire(store, present)
    forget(former.executor_id)


def test_on_another_host_only_the_lease_tells() -> None:
    elsewhere = Executor(uuid.uuid4().hex, "label", 1_000, 1)
    assert not is_dead(elsewhere, 1_000)
    assert is_dead(elsewhere, 1_001)


def test_another_process_is_alive_until_it_is_killed() -> None:
    executor = Executor(uuid.uuid4().hex, "label", 2**60, 1)
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, executor.executor_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert not is_dead(executor, 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert is_dead(executor, 0)
    forget(executor.executor_id)
    forget(executor.executor_id)
    assert not is_dead(executor, 0), "without a file, the lease tells"


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
