"""Engines for tests: launched on a database that can be made to fail, and stopped at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from unittest import mock

from tests.support.faulty import PATIENCE_SECONDS, FaultyStore, Gate, Killed
from tests.support.pooled import hears
from tidings import store as stores
from tidings.api.config import settings_from
from tidings.engine.engine import Engine
from tidings.engine.hooks import Point
from tidings.engine.host import Host
from tidings.engine.process import REGISTRY, Process
from tidings.engine.waiting.clock import Clock
from tidings.error import DBOSShutdownError
from tidings.store.protocol import Store

VERSION = "tests"

T = TypeVar("T")


class FaultyEngine:
    """An engine with a faulty store, and a host on it, with shortcuts to their parts."""

    def __init__(self, host: Host, store: FaultyStore) -> None:
        self.host = host
        self.engine = host.engine
        self.store = store
        self._is_stopped = False

    def open(self) -> None:
        """Start the engine; `host.recover` then lets it execute recovered workflows."""
        settings = self.host.settings
        self.engine.open(settings.executor_label, migrate=settings.run_migrations)
        try:
            self.host.admit()
        except BaseException:  # The engine was killed already.
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
        """The executor id under which it now owns its runs."""
        return self.engine.committer.executor.executor_id

    def executions_over(self) -> list[str]:
        """Return a list that gets a workflow's id whenever a run of it has ended, in any way."""
        ended: list[str] = []
        self.engine.hooks.set(Point.RUN_ENDED, ended.append)
        return ended

    def hold_committer(self) -> Gate:
        """Stop the committer between two batches; units handed over meanwhile form its next batch."""
        gate = Gate()
        _ = self.engine.committer.call(gate)
        gate.await_reached()
        return gate

    def await_queued(self, count: int) -> None:
        """Wait until so many units and errands are queued after the committer's current work."""
        wait_until(lambda: len(self.engine.committer._inbox._items) == count)

    def await_waiting(self, count: int) -> None:
        """Wait until so many operations have looked, found nothing, and wait for a wake-up."""

        def waiting() -> int:
            ports = [self.host.port, *(live.port for live in self.host.runner.all_live())]
            return sum(len(port.chain._waits) for port in ports)

        wait_until(lambda: waiting() == count)

    def await_watching(self, count: int) -> None:
        """Wait until so many keys are watched."""
        wait_until(lambda: len(self.engine.waiters) == count)


def make_engine(
    url: str,
    *,
    clock: Clock | None = None,
    lease_ms: int = 10_000,
    max_executor_threads: int = 64,
    version: str = VERSION,
    recover_versions: Literal["compatible", "same"] = "compatible",
    migrate: bool = True,
    prepare: Callable[[FaultyStore], None] = lambda _: None,
    **connection_changed: Any,
) -> FaultyEngine:
    """Build an engine on `url`, for all registered workflows, without opening anything.

    `prepare` is called with the engine's store. Any other keyword changes the settings of the connection.
    """
    settings = settings_from(
        {
            "name": "tests",
            "system_database_url": url,
            "application_version": version,
            "recover_versions": recover_versions,
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
    """Start the engine as that of `DBOS`; stop it at the end of the block."""
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
        # The supervisor's first round has ended and the probe was heard, so only the test queues work from now on.
        wait_until(lambda: faulty.store.calls["pending_groups"] > 1)
        if "prepare" not in more and hears(url):
            wait_until(lambda: faulty.engine.hearing.is_proven)
        yield faulty


def die(engine: FaultyEngine) -> None:
    """End the one thread that writes, and release the lock that shows that the process is alive."""

    def end(_: object) -> None:
        raise Killed

    with contextlib.suppress(DBOSShutdownError):
        engine.engine.committer.call(end).result()
    wait_until(lambda: engine.engine.committer.died is not None)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a fact that no event announces: check it repeatedly, without a sleep, until it is true."""
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
