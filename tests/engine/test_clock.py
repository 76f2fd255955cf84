"""The process's own clock and the store's: what a look at the store changes, and what a step does to deadlines."""

from __future__ import annotations

import pytest

from tests.support.clock import ManualClock
from tidings.core.effects import Due
from tidings.engine.waiting import clock as clocks
from tidings.engine.waiting.clock import GRACE_MS, SystemClock

HOUR_MS = 3_600_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(follows=True)


def look(clock: ManualClock) -> bool:
    return clock.synchronise(clock.store_ms(), clock.own_ms())


@pytest.mark.parametrize("seconds", [-86_400, -3_600, -2, -1, 1, 2, 3_600, 10**9])
def test_the_stores_clock_is_followed_and_our_own_never_steps(clock: ManualClock, seconds: int) -> None:
    own_ms = clock.own_ms()
    clock.step(seconds)
    assert look(clock) is (abs(seconds) > 1)
    assert clock.knows
    assert clock.own_ms() == own_ms


def test_an_answer_that_took_long_moves_the_clock_no_further_than_it_must(clock: ManualClock) -> None:
    now_ms, asked_ms = clock.now_ms(), clock.own_ms()
    clock.advance(60)
    for said_ms in (now_ms, now_ms + 30_000, now_ms + 60_000):
        assert not clock.synchronise(said_ms, asked_ms)
        assert clock.now_ms() == now_ms + 60_000
    clock.synchronise(now_ms + 90_000, asked_ms)
    assert clock.now_ms() == pytest.approx(now_ms + 90_000, abs=1)


@pytest.mark.parametrize("back_seconds", [2, 3_600, 10**8])
def test_a_step_back_makes_no_wait_longer(clock: ManualClock, back_seconds: int) -> None:
    due = Due(6_000, clock.now_ms() + 6_000)
    assert clock.due_ms(due) == clock.own_ms() + 6_000
    expected = clock.due_ms(due)
    clock.step(-back_seconds)
    look(clock)
    assert clock.due_ms(due) == expected


def test_a_wait_that_is_recovered_after_a_step_back_is_no_longer_than_it_was_asked_to_be(clock: ManualClock) -> None:
    deadline_ms = clock.now_ms() + 6_000
    clock.step(-3_600)
    look(clock)
    assert clock.due_ms(Due(6_000, deadline_ms)) == clock.own_ms() + 6_000


def test_a_step_forward_brings_deadlines_nearer_that_are_still_to_come(clock: ManualClock) -> None:
    due = Due(24_000, clock.now_ms() + 24_000)
    began = clock.own_ms()
    clock.due_ms(due)
    clock.step(20)
    look(clock)
    assert clock.due_ms(due) == pytest.approx(began + 4_000, abs=1)


def test_a_deadline_that_a_step_forward_has_skipped_is_over_after_a_grace(clock: ManualClock) -> None:
    due, soon = Due(HOUR_MS, clock.now_ms() + HOUR_MS), Due(1_000, clock.now_ms() + 1_000)
    began = clock.own_ms()
    clock.due_ms(due)
    clock.due_ms(soon)
    clock.step(3 * 3_600)
    look(clock)
    assert clock.due_ms(due) == began + GRACE_MS
    assert clock.due_ms(soon) == began + 1_000, "no wait gets longer"
    clock.step(-3 * 3_600)
    look(clock)
    assert clock.due_ms(due) == pytest.approx(began + HOUR_MS, abs=1), "the step was taken back"


@pytest.mark.parametrize("seconds", [-3_600, -20, 20, 3_600])
def test_a_limit_that_is_not_recorded_does_not_move(clock: ManualClock, seconds: int) -> None:
    due = Due(20_000)
    expected = clock.due_ms(due)
    clock.step(seconds)
    look(clock)
    assert clock.due_ms(due) == expected == clock.own_ms() + 20_000


def test_a_machine_that_was_suspended_has_the_right_time_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own clock went on meanwhile."""
    seconds = 1_000.0
    monkeypatch.setattr(clocks, "own_seconds", lambda: seconds)
    clock = SystemClock()
    clock.synchronise(5_000_000, clock.own_ms())
    now_ms = clock.now_ms()
    due, limit = Due(24_000, now_ms + 24_000), Due(24_000)
    due_at, limit_at = clock.due_ms(due), clock.due_ms(limit)
    seconds += 3_600
    assert clock.now_ms() == now_ms + HOUR_MS
    assert not clock.synchronise(5_000_000 + HOUR_MS, clock.own_ms())
    assert max(due_at, limit_at) < clock.own_ms()
    assert (clock.due_ms(due), clock.due_ms(limit)) == (due_at, limit_at)
