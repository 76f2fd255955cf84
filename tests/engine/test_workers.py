"""Threads in which waiting costs no permit."""

from __future__ import annotations

import threading

import pytest

from tests.support.engines import aside, wait_until
from tests.support.faulty import PATIENCE_SECONDS
from tidings.engine.runs.workers import Seat, Workers
from tidings.engine.waiting.ticket import Ticket
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


def test_who_waits_gives_the_permit_to_another() -> None:
    """A parent waits for its child, and that for its own: with one permit they would all stand still."""
    workers = Workers(1)

    def descend(depth: int) -> int:
        if depth == 0:
            return 0
        child = workers.call(lambda: descend(depth - 1))
        with workers.without_permit():
            return 1 + int(child.result())

    assert workers.call(lambda: descend(20)).result() == 20
    workers.stop()


def test_who_comes_back_from_a_wait_gets_the_permit_of_one_that_begins_to_wait() -> None:
    """Nothing is queued, no job ends: the permit itself must be passed on."""
    workers = Workers(1)
    first, second = Ticket(), Ticket()
    first_waits, second_runs, wait_now = threading.Event(), threading.Event(), threading.Event()

    def first_job() -> str:
        with workers.without_permit():
            first_waits.set()
            first.result()
        second.settle("from the first")  # For which the second waits, with the permit given back.
        return "first"

    def second_job() -> str:
        second_runs.set()
        wait_now.wait()
        with workers.without_permit():
            return str(second.result())

    ran_first = workers.call(first_job)
    first_waits.wait()
    ran_second = workers.call(second_job)
    second_runs.wait()
    first.settle()
    wait_until(lambda: workers._returning == 1)
    wait_now.set()
    assert aside(ran_second.result).result(timeout=PATIENCE_SECONDS) == "from the first"
    assert ran_first.result() == "first"
    workers.stop()


def test_the_limit_holds_when_many_come_back_at_once() -> None:
    limit, jobs = 2, 30
    workers = Workers(limit)
    crowd = Crowd()
    go = Ticket()
    waiting = threading.Semaphore(0)

    def job() -> None:
        with workers.without_permit():
            waiting.release()
            go.result()
        with crowd:
            threading.Event().wait(0.0005)

    tickets = [workers.call(job) for _ in range(jobs)]
    for _ in range(jobs):
        assert waiting.acquire(timeout=PATIENCE_SECONDS)
    go.settle()
    for ticket in tickets:
        ticket.result()
    assert crowd.most == limit
    # Their threads are idle now, and no more of them stay than can ever work.
    wait_until(lambda: workers._idle <= limit)
    assert workers._running == workers._returning == 0
    assert workers.call(lambda: "still there").result() == "still there"
    workers.stop()


def test_giving_a_permit_back_outside_of_a_worker_is_nothing() -> None:
    workers = Workers(1)
    with workers.without_permit():
        assert workers.call(lambda: "a permit").result() == "a permit"
    workers.stop()


def test_giving_a_permit_back_twice_gives_one_permit() -> None:
    workers = Workers(1)

    def job() -> int:
        with workers.without_permit(), workers.without_permit():
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
            aside(ticket.result).result(timeout=PATIENCE_SECONDS)
    release.set()
    assert working.result() == "was begun"
    wait_until(lambda: workers._idle == workers._running == 0)


def test_who_substitutes_runs_at_once_and_has_the_permit_of_who_waits() -> None:
    """With one permit, which a job holds, and another job that is queued for it."""
    workers = Workers(1)

    def substitute() -> str:
        assert workers._running == 1
        with workers.without_permit():
            assert queued.result() == "queued"
        return "stood in"

    def job() -> str:
        with workers.substituting(substitute) as done:
            value = str(done.result())
        assert workers._running == 1
        with workers.without_permit():  # It has its permit again, and can give it away.
            assert workers.call(lambda: "another").result() == "another"
        return value

    begun = Ticket()
    working = workers.call(lambda: (begun.result(), job())[1])
    queued = workers.call(lambda: "queued")
    begun.settle()
    assert working.result() == "stood in"
    wait_until(lambda: workers._running == workers._returning == 0)
    workers.stop()


def test_an_error_of_who_substitutes_is_given_on() -> None:
    workers = Workers(1)
    with pytest.raises(ZeroDivisionError), workers.substituting(lambda: 1 // 0) as done:
        done.result()
    workers.stop()


def test_who_substitutes_for_a_thread_without_a_permit_has_none() -> None:
    workers = Workers(1)
    release, begun = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        release.wait()

    occupying = workers.call(occupy)
    begun.wait()

    def substitute() -> int:
        with workers.without_permit():
            return workers._running

    with workers.substituting(substitute) as done:
        assert done.result() == 1
    assert workers._running == 1
    release.set()
    occupying.result()
    workers.stop()


@pytest.mark.parametrize("is_substituting", [True, False])
def test_who_is_left_behind_has_no_permit(is_substituting: bool) -> None:
    """With one permit: others run while who was left behind still works, and when it has ended."""
    workers = Workers(1)
    release, begun = threading.Event(), threading.Event()
    ended = Ticket()

    def hang() -> None:
        begun.set()
        release.wait()
        with workers.without_permit():  # It has none to give back, and takes none.
            pass
        ended.settle()

    def job() -> str:
        with workers.substituting(hang):
            begun.wait()
        return "goes on"

    if is_substituting:
        assert workers.call(job).result() == "goes on"
    else:
        seat = Seat()
        _ = workers.call(hang, seat)
        begun.wait()
        workers.leave_behind(seat)
    assert workers.call(lambda: "another").result() == "another"
    wait_until(lambda: workers._running == 0)
    release.set()
    ended.result()
    assert workers.call(lambda: "one more").result() == "one more"
    wait_until(lambda: workers._running == workers._returning == 0)
    workers.stop()


def test_who_is_left_behind_in_a_wait_comes_back_without_a_permit() -> None:
    workers = Workers(1)
    without, release, occupied = threading.Event(), threading.Event(), threading.Event()
    woken, ended = Ticket(), Ticket()
    seat = Seat()

    def wait() -> None:
        with workers.without_permit():
            without.set()
            woken.result()
        ended.settle()

    def occupy() -> None:
        occupied.set()
        release.wait()

    _ = workers.call(wait, seat)
    without.wait()
    occupying = workers.call(occupy)
    occupied.wait()
    woken.settle()
    wait_until(lambda: workers._returning == 1)  # The permit is taken.
    workers.leave_behind(seat)
    ended.result()
    release.set()
    occupying.result()
    wait_until(lambda: workers._running == workers._returning == 0)
    workers.stop()
