"""A ticket is settled once, and wakes all that wait for it: threads and coroutines, in whatever order they come."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engines import aside
from tests.support.faulty import PATIENCE_SECONDS
from tidings.engine.waiting.ticket import Ticket, settle_all

# Long enough for the races to happen, short enough to run with every change.
ROUNDS = 1_500


@pytest.fixture
def hectic() -> Iterator[None]:
    """Let threads change as often as Python can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_a_settled_ticket_gives_its_value_at_once() -> None:
    ticket = Ticket()
    ticket.settle("value")
    assert ticket.settled
    assert ticket.result() == "value"
    assert ticket.result() == "value"


def test_an_error_is_raised_from_each_who_waits() -> None:
    ticket = Ticket()
    error = KeyError("no")
    ticket.settle(error=error)
    for _ in range(2):
        with pytest.raises(KeyError) as raised:
            ticket.result()
        assert raised.value is error


def test_only_the_first_to_settle_counts() -> None:
    ticket = Ticket()
    settle_all([(ticket, 1, None), (ticket, 2, None), (ticket, None, ValueError())])
    ticket.settle(3)
    assert ticket.result() == 1


async def test_a_coroutine_is_woken_from_a_thread() -> None:
    ticket = Ticket()
    waiting = asyncio.ensure_future(_await(ticket))
    await asyncio.sleep(0)
    aside(lambda: ticket.settle("from afar"))
    assert await waiting == "from afar"


async def test_a_cancelled_waiter_leaves_nothing_and_disturbs_nobody() -> None:
    ticket = Ticket()
    first, second = (asyncio.ensure_future(_await(ticket)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert ticket._waiters is not None
    assert len(ticket._waiters) == 1
    ticket.settle("for the other")
    assert await second == "for the other"
    assert first.cancelled()


async def test_a_waiter_cancelled_while_its_wake_up_is_on_the_way_is_cancelled() -> None:
    ticket = Ticket()
    waiting = asyncio.ensure_future(_await(ticket))
    await asyncio.sleep(0)
    ticket.settle("late")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await ticket == "late"


def test_a_closed_loop_keeps_nobody_else_from_being_woken() -> None:
    deserted, awaited = Ticket(), Ticket()
    loop = asyncio.new_event_loop()
    deserted._publish(loop.create_future())  # Whoever waited here went away with the loop.
    loop.close()
    thread = aside(awaited.result)
    settle_all([(deserted, "nobody hears", None), (awaited, "heard", None)])
    assert thread.result(timeout=PATIENCE_SECONDS) == "heard"
    assert deserted.result() == "nobody hears"


def test_many_threads_and_loops_wait_for_one_ticket() -> None:
    ticket = Ticket()
    threads = [aside(ticket.result) for _ in range(8)]

    async def wait_many() -> list[Any]:
        return await asyncio.gather(*(_await(ticket) for _ in range(50)))

    loops = [aside(lambda: asyncio.run(wait_many())) for _ in range(3)]
    settled_by = [aside(lambda number=number: ticket.settle(number)) for number in range(4)]  # type: ignore[misc]
    for future in settled_by:
        future.result(timeout=PATIENCE_SECONDS)
    [value] = {future.result(timeout=PATIENCE_SECONDS) for future in threads}
    assert value in range(4)
    for loop in loops:
        assert loop.result(timeout=PATIENCE_SECONDS) == [value] * 50


def test_settling_races_with_threads_that_begin_to_wait(hectic: None) -> None:
    """Each round: waiters and settlers meet at a barrier. A missed wake-up would stand still for ever."""
    waiters, settlers = 3, 2
    tickets = [Ticket() for _ in range(ROUNDS)]
    start = threading.Barrier(waiters + settlers)
    seen: list[list[int]] = [[] for _ in range(waiters)]

    def wait(number: int) -> None:
        for ticket in tickets:
            start.wait()
            seen[number].append(ticket.result())

    def settle(number: int) -> None:
        for ticket in tickets:
            start.wait()
            ticket.settle(number)

    futures = [aside(lambda number=number: wait(number)) for number in range(waiters)]  # type: ignore[misc]
    futures += [aside(lambda number=number: settle(number)) for number in range(settlers)]  # type: ignore[misc]
    for future in futures:
        future.result(timeout=PATIENCE_SECONDS)
    assert seen == [seen[0]] * waiters, "all see the same value"


def test_a_callback_is_called_once_in_the_thread_that_settles() -> None:
    ticket = Ticket()
    called_in: list[int] = []
    ticket.when_settled(lambda: called_in.append(threading.get_ident()))
    assert called_in == []

    def settle() -> int:
        ticket.settle("value")
        ticket.settle("another")
        return threading.get_ident()

    settler = aside(settle).result(timeout=PATIENCE_SECONDS)
    assert called_in == [settler]
    assert ticket.result() == "value"


def test_a_callback_of_a_settled_ticket_is_called_at_once() -> None:
    ticket = Ticket()
    ticket.settle("value")
    seen: list[Any] = []
    ticket.when_settled(lambda: seen.append(ticket.result()))
    assert seen == ["value"]


def test_a_ticket_does_not_keep_what_it_has_called() -> None:
    """It may stay for long in a heap of timers."""

    class Called:
        def __call__(self) -> None: ...

    ticket, callback = Ticket(), Called()
    ticket.when_settled(callback)
    gone = weakref.ref(callback)
    del callback
    assert gone() is not None
    ticket.settle()
    assert gone() is None


def test_settling_races_with_callbacks_that_are_given(hectic: None) -> None:
    """Each round: both meet at a barrier. Whoever sees the other, the callback is called once."""
    tickets = [Ticket() for _ in range(ROUNDS)]
    start = threading.Barrier(2)
    calls: list[int] = []

    def settle() -> None:
        for ticket in tickets:
            start.wait()
            ticket.settle()

    def give() -> None:
        for number, ticket in enumerate(tickets):
            start.wait()
            ticket.when_settled(lambda number=number: calls.append(number))  # type: ignore[misc]

    for future in (aside(settle), aside(give)):
        future.result(timeout=PATIENCE_SECONDS)
    assert sorted(calls) == list(range(ROUNDS))


def test_settling_races_with_coroutines_that_begin_to_wait(hectic: None) -> None:
    tickets = [Ticket() for _ in range(ROUNDS)]

    async def wait() -> list[int]:
        return [await ticket for ticket in tickets]

    def settle() -> None:
        for number, ticket in enumerate(tickets):
            ticket.settle(number)

    waiting = [aside(lambda: asyncio.run(wait())) for _ in range(2)]
    settling = aside(settle)
    settling.result(timeout=PATIENCE_SECONDS)
    for future in waiting:
        assert future.result(timeout=PATIENCE_SECONDS) == list(range(ROUNDS))


async def _await(ticket: Ticket) -> Any:
    return await ticket
