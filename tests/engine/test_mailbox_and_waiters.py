"""The inbox of the committer and the reader, and the list of who waits for what."""

from __future__ import annotations

import threading

import pytest

from tests.support.engines import aside
from tests.support.faulty import PATIENCE_SECONDS
from tidings.core.operations.messages import MESSAGE
from tidings.engine.database.mailbox import Mailbox
from tidings.engine.waiting.waiters import Waiters

# --- mailbox ---------------------------------------------------------------------------------------------


def test_what_comes_in_while_the_consumer_works_is_taken_together_in_order() -> None:
    box: Mailbox[int] = Mailbox()
    for number in range(5):
        assert box.put(number)
    assert box.take_all() == [0, 1, 2, 3, 4]


def test_an_idle_consumer_is_woken_by_a_lone_item() -> None:
    box: Mailbox[str] = Mailbox()
    taking = aside(box.take_all)
    assert box.put("lone")
    assert taking.result(timeout=PATIENCE_SECONDS) == ["lone"]


def test_a_closed_box_takes_no_more_and_is_drained() -> None:
    box: Mailbox[str] = Mailbox()
    box.put("kept")
    box.close()
    assert not box.put("late")
    assert box.take_all() == ["kept"]
    assert box.take_all() == []


def test_closing_wakes_the_consumer() -> None:
    box: Mailbox[str] = Mailbox()
    taking = aside(box.take_all)
    box.close()
    box.close()
    assert taking.result(timeout=PATIENCE_SECONDS) == []


def test_what_waits_can_be_looked_at() -> None:
    box: Mailbox[str] = Mailbox()
    for item in ("a", "b"):
        box.put(item)
    assert box.waiting() == ["a", "b"]
    assert box.take_all() == ["a", "b"]
    assert box.waiting() == []


def test_nothing_is_lost_or_reordered_between_many_producers_and_the_consumer() -> None:
    producers, each = 4, 3_000
    box: Mailbox[tuple[int, int]] = Mailbox()
    taken: list[tuple[int, int]] = []

    def consume() -> None:
        while items := box.take_all():
            taken.extend(items)

    def produce(producer: int) -> None:
        for number in range(each):
            assert box.put((producer, number))

    consuming = aside(consume)
    producing = [aside(lambda producer=producer: produce(producer)) for producer in range(producers)]  # type: ignore[misc]
    for future in producing:
        future.result(timeout=PATIENCE_SECONDS)
    box.close()
    consuming.result(timeout=PATIENCE_SECONDS)
    for producer in range(producers):
        assert [number for found, number in taken if found == producer] == list(range(each))


# --- waiters ---------------------------------------------------------------------------------------------


def test_a_wake_up_takes_all_arrivals_of_its_keys_and_no_others() -> None:
    waiters = Waiters()
    first, second, other = (waiters.watch((key,)) for key in (("a",), ("a",), ("b",)))
    assert waiters.take([("a",), ("unknown",)]) == [first, second]
    assert waiters.take([("a",)]) == []
    assert len(waiters) == 1
    waiters.forget(other)
    assert len(waiters) == 0


def test_an_arrival_woken_by_one_key_is_forgotten_under_its_others() -> None:
    waiters = Waiters()
    arrival = waiters.watch((("event",), ("end",)))
    assert len(waiters) == 2
    assert waiters.take([("event",)]) == [arrival]
    waiters.forget(arrival)
    waiters.forget(arrival)
    assert len(waiters) == 0


def test_a_failed_key_fails_who_waits_and_who_comes_later_until_it_is_restored() -> None:
    waiters = Waiters()
    error = LookupError("it cannot come here")
    before = waiters.watch((("end",),))
    waiters.fail(("end",), error)
    after = waiters.watch((("end",),))
    for arrival in (before, after):
        with pytest.raises(LookupError):
            arrival.result()
        waiters.forget(arrival)
    waiters.restore(("end",))
    waiters.restore(("end",))
    fresh = waiters.watch((("end",),))
    assert not fresh.settled
    waiters.forget(fresh)
    assert len(waiters) == 0


def test_all_failures_are_taken_back_at_once() -> None:
    waiters = Waiters()
    waiters.fail(("end",), LookupError("it cannot come here"))
    waiters.restore_all()
    assert not waiters.has_failed(("end",))
    assert not waiters.watch((("end",),)).settled


def test_who_waits_no_more_costs_nobody_a_wake_up() -> None:
    """Of those who wait for a message one is woken: not one whose run has ended, or whose time is up."""
    waiters = Waiters()
    key = (MESSAGE, "w", None)
    over, waits, last = (waiters.watch((key,)) for _ in range(3))
    over.settle(error=LookupError("its run was killed"))
    assert waiters.take([key]) == [waits]
    last.settle(False)
    assert waiters.take([key]) == []
    assert len(waiters) == 0


def test_watching_forgetting_and_waking_from_many_threads_leaves_nothing() -> None:
    waiters = Waiters()
    done = threading.Event()
    keys = [(str(number),) for number in range(5)]

    def wake() -> None:
        while not done.is_set():
            for arrival in waiters.take(keys):
                arrival.settle(value=True)

    def watch() -> None:
        for number in range(300):
            arrival = waiters.watch((keys[number % 5], keys[(number + 1) % 5]))
            if number % 3:
                assert arrival.result() is True
            waiters.forget(arrival)

    waking = aside(wake)
    for future in [aside(watch) for _ in range(3)]:
        future.result(timeout=PATIENCE_SECONDS)
    done.set()
    waking.result(timeout=PATIENCE_SECONDS)
    assert len(waiters) == 0
