"""A process notices that the store's clock stepped or the machine was suspended, and keeps its lease meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.support.engines import running, wait_until
from tidings.engine.hooks import Point
from tidings.engine.waiting import clock as clocks
from tidings.store.postgres.store import PostgresStore
from tidings.store.sqlite.store import SqliteStore

LEASE_MS = 9_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of the process, and of the store."""
    clock = ManualClock(follows=True)
    for store in (SqliteStore, PostgresStore):
        monkeypatch.setattr(store, "now_ms", lambda _: clock.store_ms())
    return clock


def go_on(clock: ManualClock, enough: Callable[[], bool]) -> None:
    """Let time go on, a second whenever somebody waits for it, until it is enough."""

    def look() -> bool:
        clock.advance(1)
        return enough()

    wait_until(look)


@pytest.mark.parametrize("seconds", [-3_600, -20, 3_600])
@pytest.mark.parametrize("listens", [True, False])
def test_an_idle_process_renews_its_lease_whatever_becomes_of_the_clock(
    database_url: str, clock: ManualClock, seconds: int, listens: bool
) -> None:
    hasty: dict[str, Any] = {"prepare": lambda _: None}  # One that does not listen never hears a probe.
    with running(database_url, clock=clock, lease_ms=LEASE_MS, use_listen_notify=listens, **hasty) as here:
        clock.step(seconds)
        stepped_ms = clock.store_ms()
        go_on(clock, lambda: clock.knows)
        for _ in range(3):
            renewed_ms = here.engine.committer.renewed_until_ms
            asked = clock.own_ms()
            go_on(clock, lambda before=renewed_ms: here.engine.committer.renewed_until_ms != before)  # type: ignore[misc]
            assert here.engine.committer.lease_ends_ms > asked
            # Time goes on while it renews: for very long where the machine is busy.
            assert stepped_ms <= here.engine.committer.renewed_until_ms - LEASE_MS <= clock.store_ms()


@pytest.mark.parametrize("seconds", [-3_600, 20, 3_600])
def test_a_process_that_is_idle_learns_what_time_it_is(database_url: str, clock: ManualClock, seconds: int) -> None:
    with running(database_url, clock=clock):
        clock.step(seconds)
        go_on(clock, lambda: clock.knows)


def test_after_a_suspend_everybody_looks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake-ups may have been missed, and connections lost."""
    real, ahead = clocks.own_seconds, [0.0]
    monkeypatch.setattr(clocks, "own_seconds", lambda: real() + ahead[0])
    with running(database_url) as here:
        looks: list[object] = []
        here.engine.hooks.set(Point.RECHECK, looks.append)
        before = here.engine.clock.now_ms()
        ahead[0] = 3_600.0
        assert here.engine.clock.now_ms() >= before + 3_600_000
        wait_until(lambda: bool(looks))
