"""Deadlines, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clock import ManualClock
from tests.support.engines import aside, wait_until
from tests.support.faulty import PATIENCE_SECONDS
from tidings.core.effects import Due
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def timers(clock: ManualClock) -> Iterator[Timers]:
    timers = Timers(clock)
    timers.start()
    yield timers
    timers.stop()
    timers._thread.join(20)
    assert not timers._thread.is_alive()


def test_tickets_are_settled_with_false_when_their_time_has_come(clock: ManualClock, timers: Timers) -> None:
    late, soon = Ticket(), Ticket()
    timers.after(2_000, late)
    timers.after(1_000, soon)  # Earlier than all: the thread that waits must hear of it.
    clock.advance(1)
    assert soon.result() is False
    assert not late.settled
    clock.advance(0.999)
    assert not late.settled
    clock.advance(0.001)
    assert late.result() is False


def test_a_deadline_in_the_past_has_come(clock: ManualClock, timers: Timers) -> None:
    ticket = Ticket()
    timers.at(Due(9, clock.now_ms() - 1), ticket)
    assert ticket.result() is False


def test_a_time_may_be_given_from_now(clock: ManualClock, timers: Timers) -> None:
    ticket = Ticket()
    clock.advance(7)
    timers.after(1_000, ticket)
    clock.advance(0.999)
    assert not ticket.settled
    clock.advance(0.001)
    assert ticket.result() is False


def test_what_was_settled_before_stays_so(clock: ManualClock, timers: Timers) -> None:
    woken, due = Ticket(), Ticket()
    timers.after(1_000, woken)
    timers.after(1_000, due)
    woken.settle(value=True)
    clock.advance(1)
    assert due.result() is False
    assert woken.result() is True


def test_deadlines_that_never_pass_are_dropped_from_the_heap(clock: ManualClock, timers: Timers) -> None:
    alive = Ticket()
    timers.after(5_000, alive)
    for _ in range(20_000):
        ticket = Ticket()
        timers.after(3_600_000, ticket)
        ticket.settle(value=True)
    assert len(timers._heap) <= 1_000
    clock.advance(5)
    assert alive.result() is False


def test_many_deadlines_from_many_threads_all_pass(clock: ManualClock, timers: Timers) -> None:
    tickets = [Ticket() for _ in range(3_000)]

    def register(first: int) -> None:
        for number in range(first, len(tickets), 3):
            timers.after(number % 97, tickets[number])

    registering = [aside(lambda first=first: register(first)) for first in range(3)]  # type: ignore[misc]
    for _ in range(50):
        clock.advance(0.002)
    for future in registering:
        future.result(timeout=PATIENCE_SECONDS)
    clock.advance(1)
    assert {ticket.result() for ticket in tickets} == {False}
    wait_until(lambda: timers._heap == [])
