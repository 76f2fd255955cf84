"""Threads in which waiting costs no slot."""

from __future__ import annotations

import threading

import pytest

from tests.support.engines import aside, wait_until
from tidings.engine.ticket import Ticket
from tidings.engine.workers import Workers
from tidings.error import DBOSShutdownError


class Crowd:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


def test_a_call_gives_its_result_or_its_error() -> None:
    workers = Workers(2)
    assert workers.call(lambda: 1).result() == 1
    with pytest.raises(ZeroDivisionError):
        workers.call(lambda: 1 // 0).result()
    workers.stop()


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_run_at_once_than_may(limit: int) -> None:
    workers = Workers(limit)
    crowd = Crowd()

    def work() -> None:
        with crowd:
            threading.Event().wait(0.0005)

    tickets = [workers.call(work) for _ in range(60)]
    for ticket in tickets:
        ticket.result()
    assert crowd.most == limit
    workers.stop()


def test_who_waits_gives_the_slot_to_another() -> None:
    """A parent waits for its child, and that for its own: with one slot they would all stand still."""
    workers = Workers(1)

    def descend(depth: int) -> int:
        if depth == 0:
            return 0
        child = workers.call(lambda: descend(depth - 1))
        with workers.parked():
            return 1 + int(child.result())

    assert workers.call(lambda: descend(20)).result() == 20
    workers.stop()


def test_who_comes_back_from_a_wait_gets_the_slot_of_one_that_begins_to_wait() -> None:
    """Nothing is queued, no job ends: the slot itself must be passed on."""
    workers = Workers(1)
    first, second = Ticket(), Ticket()
    first_waits, second_runs, wait_now = threading.Event(), threading.Event(), threading.Event()

    def first_job() -> str:
        with workers.parked():
            first_waits.set()
            first.result()
        second.settle("from the first")  # For which the second waits, with the slot given back.
        return "first"

    def second_job() -> str:
        second_runs.set()
        wait_now.wait()
        with workers.parked():
            return str(second.result())

    ran_first = workers.call(first_job)
    first_waits.wait()
    ran_second = workers.call(second_job)
    second_runs.wait()
    first.settle()
    wait_until(lambda: workers._returning == 1)
    wait_now.set()
    assert aside(ran_second.result).result(timeout=20) == "from the first"
    assert ran_first.result() == "first"
    workers.stop()


def test_the_limit_holds_when_many_come_back_at_once() -> None:
    limit, jobs = 2, 30
    workers = Workers(limit)
    crowd = Crowd()
    go = Ticket()
    waiting = threading.Semaphore(0)

    def job() -> None:
        with workers.parked():
            waiting.release()
            go.result()
        with crowd:
            threading.Event().wait(0.0005)

    tickets = [workers.call(job) for _ in range(jobs)]
    for _ in range(jobs):
        assert waiting.acquire(timeout=20)
    go.settle()
    for ticket in tickets:
        ticket.result()
    assert crowd.most == limit
    # Their threads are idle now, and no more of them stay than can ever work.
    wait_until(lambda: workers._idle <= limit)
    assert workers._running == workers._returning == 0
    assert workers.call(lambda: "still there").result() == "still there"
    workers.stop()


def test_parking_outside_of_a_worker_is_nothing() -> None:
    workers = Workers(1)
    with workers.parked():
        assert workers.call(lambda: "a slot").result() == "a slot"
    workers.stop()


def test_parking_inside_of_parking_gives_one_slot() -> None:
    workers = Workers(1)

    def job() -> int:
        with workers.parked(), workers.parked():
            inside = workers._running
        return inside * 10 + workers._running

    assert workers.call(job).result() == 1
    workers.stop()


def test_stopping_ends_idle_threads_and_fails_what_has_not_begun() -> None:
    workers = Workers(1)
    release, begun = threading.Event(), threading.Event()

    def occupy() -> str:
        begun.set()
        release.wait()
        return "was begun"

    working = workers.call(occupy)
    begun.wait()
    queued = workers.call(lambda: "never")
    workers.stop()
    late = workers.call(lambda: "never")
    for ticket in (queued, late):
        with pytest.raises(DBOSShutdownError):
            aside(ticket.result).result(timeout=20)
    release.set()
    assert working.result() == "was begun"
    wait_until(lambda: workers._idle == workers._running == 0)
