"""Engines for tests: launched on a database that may be made to fail, and stopped at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from tests.support.faulty import PATIENCE_SECONDS, FaultyStore, Gate, Killed
from tidings import store as stores
from tidings.api.caller import Process
from tidings.api.config import settings_from
from tidings.api.workflows import REGISTRY
from tidings.engine.clock import Clock
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.probes import Point
from tidings.error import DBOSShutdownError
from tidings.store.protocol import Store

VERSION = "tests"

T = TypeVar("T")


class FaultyEngine:
    """An engine whose store is faulty, and a host on it, with short ways to their parts."""

    def __init__(self, host: Host, store: FaultyStore) -> None:
        self.host = host
        self.engine = host.engine
        self.store = store
        self._is_stopped = False

    def open(self) -> None:
        """Start the engine; `host.recover` lets it execute what it finds."""
        settings = self.host.settings
        self.engine.open(settings.executor_label, migrate=settings.run_migrations)
        try:
            self.host.admit()
        except BaseException:  # It was killed already.
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the engine, once."""
        if not self._is_stopped:
            self._is_stopped = True
            self.host.stop()
            self.engine.stop()
            self.host.join()

    @property
    def executor_id(self) -> str:
        """The id under which it owns its runs now."""
        return self.engine.committer.executor.executor_id

    def executions_over(self) -> list[str]:
        """Return a list that grows by a workflow's id whenever an execution is over, however."""
        ended: list[str] = []
        self.engine.probes.set(Point.RUN_ENDED, ended.append)
        return ended

    def hold_committer(self) -> Gate:
        """Stop the committer between two batches; what is handed over meanwhile is its next batch."""
        gate = Gate()
        _ = self.engine.committer.call(gate)
        gate.await_reached()
        return gate

    def await_queued(self, count: int) -> None:
        """Wait until so many units and errands are queued behind what the committer does now."""
        wait_until(lambda: len(self.engine.committer._inbox._items) == count)

    def await_waiting(self, count: int) -> None:
        """Wait until so many operations have looked, found nothing, and wait to be woken."""

        def waiting() -> int:
            ports = [self.host.port, *(live.port for live in self.host.runner.all_live())]
            return sum(len(port.chain._waits) for port in ports)

        wait_until(lambda: waiting() == count)

    def await_watching(self, count: int) -> None:
        """Wait until so many keys are watched for."""
        wait_until(lambda: len(self.engine.waiters) == count)


def make_engine(
    url: str,
    *,
    clock: Clock | None = None,
    lease_ms: int = 10_000,
    max_executor_threads: int = 64,
    version: str = VERSION,
    migrate: bool = True,
    prepare: Callable[[FaultyStore], None] = lambda _: None,
    **connection_changed: Any,
) -> FaultyEngine:
    """Build an engine on `url`, for all registered workflows; nothing is opened yet.

    `prepare` is called with its store, and any other keyword changes how it talks with it.
    """
    settings = settings_from(
        {
            "name": "tests",
            "system_database_url": url,
            "application_version": version,
            "max_executor_threads": max_executor_threads,
            "run_migrations": migrate,
        }
    )
    opened: list[FaultyStore] = []
    real_open = stores.open

    def open_faulty(url: str, schema: str = "tidings") -> Store:
        opened.append(FaultyStore(real_open(url, schema)))
        prepare(opened[0])
        return opened[0]

    with mock.patch.object(stores, "open", open_faulty):
        engine = Engine(dataclasses.replace(settings.connection, lease_ms=lease_ms, **connection_changed), clock)
    return FaultyEngine(Host(engine, settings, REGISTRY), opened[0])


@contextmanager
def launched(faulty: FaultyEngine) -> Iterator[FaultyEngine]:
    """Start the engine, as the one that `DBOS` uses; stop it at the end of the block."""
    former = Process.host
    faulty.open()
    Process.host = faulty.host
    faulty.host.recover()
    try:
        yield faulty
    finally:
        Process.host = former
        faulty.stop()


@contextmanager
def running(
    url: str,
    *,
    clock: Clock | None = None,
    lease_ms: int = 10_000,
    max_executor_threads: int = 64,
    version: str = VERSION,
    **more: Any,
) -> Iterator[FaultyEngine]:
    """Build and launch an engine; see `make_engine`."""
    faulty = make_engine(
        url, clock=clock, lease_ms=lease_ms, max_executor_threads=max_executor_threads, version=version, **more
    )
    with launched(faulty):
        # The supervisor's first round is over, and the probe is heard: what is queued from now on is the test's.
        wait_until(lambda: faulty.store.calls["pending_groups"] > 1)
        if "prepare" not in more:
            wait_until(lambda: faulty.engine.hearing.is_proven)
        yield faulty


def die(engine: FaultyEngine) -> None:
    """End the one thread that writes, and with it the lock that says that the process lives."""

    def end(_: object) -> None:
        raise Killed

    with contextlib.suppress(DBOSShutdownError):
        engine.engine.committer.call(end).result()
    wait_until(lambda: engine.engine.committer.died is not None)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a fact that nothing announces. It is not slept for: the look goes on until it is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        pause.wait(0.001)


def aside(function: Callable[[], T]) -> Future[T]:
    """Call `function` in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def register(*workflows: Any) -> None:
    """Register workflows that a module defined, for other tests may have cleared the registry since."""
    for workflow in workflows:
        REGISTRY.add_workflow(workflow.__tidings_workflow__)
