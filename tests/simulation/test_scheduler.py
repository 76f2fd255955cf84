"""The scheduler itself: time, threads, processes, and that a seed decides all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.simulation.carriers import CARRIERS
from tests.simulation.loops import SimLoop
from tests.simulation.primitives import Condition, Event, Lock, Thread
from tests.simulation.scheduler import Killed, Party, Scheduler, Stuck, playing


def play(main: Callable[[], object], seed: int = 0, *, mean_steps: int = 3) -> Scheduler:
    """Play a function as the first simulated thread."""
    scheduler = Scheduler(Random(seed), mean_steps)
    scheduler.play(main)
    return scheduler


def race(seed: int) -> list[int]:
    """Return the order in which threads came through that all wanted to."""
    order: list[int] = []
    lock = Lock()

    def run(number: int) -> None:
        for _ in range(5):
            with lock:
                order.append(number)

    def main() -> None:
        threads = [Thread(run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    play(main, seed)
    return order


def test_a_seed_decides_who_runs() -> None:
    assert race(1) == race(1)
    assert len({tuple(race(seed)) for seed in range(20)}) > 10


def test_time_jumps_to_whoever_waits_for_it() -> None:
    woken: list[tuple[str, int]] = []

    def main() -> None:
        scheduler = playing()
        began = scheduler.now

        def sleep(name: str, seconds: float) -> None:
            scheduler.sleep(seconds)
            woken.append((name, round(scheduler.now - began)))

        threads = [Thread(sleep, args=each) for each in (("late", 3_600.0), ("early", 60.0))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    play(main)
    assert woken == [("early", 60), ("late", 3_600)]


def test_whoever_waits_for_nothing_is_found() -> None:
    with pytest.raises(Stuck):
        play(Event().wait)


def test_a_wait_with_a_timeout_ends_and_says_so() -> None:
    answers: list[bool] = []

    def main() -> None:
        event, condition, lock = Event(), Condition(), Lock()
        lock.acquire()
        answers.append(event.wait(5))
        with condition:
            answers.append(condition.wait(5))
        answers.append(lock.acquire(timeout=5))
        Thread(event.set).start()
        answers.append(event.wait(5))

    play(main)
    assert answers == [False, False, False, True]


def test_a_killed_process_goes_no_further_and_frees_what_carried_it() -> None:
    done: list[str] = []
    party = Party("killed")

    def work() -> None:
        lock = Lock()
        try:
            with lock:
                done.append("begun")
                playing().sleep(10)
                done.append("never")
        except Exception:
            done.append("never")
        finally:
            done.append("unwound")
            lock.acquire()
            Event().wait()  # It does not hold anything up.
            done.append("never")

    def main() -> None:
        scheduler = playing()
        scheduler.start(work, "work", party)
        scheduler.sleep(1)
        scheduler.start(work, "never begun", party)
        scheduler.kill(party)

    play(main)
    assert done == ["begun", "unwound"]
    assert CARRIERS.free_count == CARRIERS.count


@pytest.mark.parametrize("fails", [False, True])
def test_whatever_the_first_thread_has_started_ends_with_it(fails: bool) -> None:
    """Also what waits, what is paused, what was never begun, and what waits for a moment that does not come."""
    parties = [Party("waits"), Party("paused")]
    unwound: list[str] = []

    def wait(how: Callable[[], object]) -> None:
        try:
            how()
        finally:
            unwound.append("it")

    def main() -> None:
        scheduler = playing()
        for party in (scheduler.current.party, *parties):
            scheduler.start(lambda: wait(Event().wait), "waits", party)
        scheduler.start(lambda: wait(lambda: scheduler.wait_for_switch(1_000_000)), "waits", scheduler.current.party)
        scheduler.sleep(1)
        scheduler.pause(parties[1])
        scheduler.start(lambda: wait(Event().wait), "never begun", parties[0])
        if fails:
            raise ValueError("it fails")

    with pytest.raises(ValueError, match="it fails") if fails else contextlib.nullcontext():
        play(main)
    assert unwound == ["it"] * 4
    assert CARRIERS.free_count == CARRIERS.count


def test_the_tasks_of_a_killed_process_are_unwound_in_its_own_thread() -> None:
    unwound: list[bool] = []
    party = Party("killed")

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            unwound.append(playing().current.dying)

    def work() -> None:
        loop = SimLoop()
        task = loop.create_task(wait())
        try:
            loop.run_forever()
        finally:
            loop.close()
            del task

    def main() -> None:
        scheduler = playing()
        scheduler.start(work, "loop", party)
        scheduler.sleep(1)
        scheduler.kill(party)

    play(main)
    assert unwound == [True]


def test_a_paused_process_does_nothing_however_much_time_passes() -> None:
    done: list[int] = []
    party = Party("paused")

    def work() -> None:
        for second in range(5):
            playing().sleep(1)
            done.append(second)

    def main() -> None:
        scheduler = playing()
        scheduler.start(work, "work", party)
        scheduler.sleep(2.5)
        scheduler.pause(party)
        scheduler.sleep(100)
        assert done == [0, 1]
        scheduler.resume(party)
        scheduler.sleep(5)

    play(main)
    assert done == [0, 1, 2, 3, 4]


def test_a_stalled_thread_keeps_what_it_holds() -> None:
    order: list[str] = []
    party = Party("stalled")

    def main() -> None:
        scheduler = playing()
        lock = Lock()

        def hold() -> None:
            with lock:
                scheduler.sleep(1)
                order.append("held")

        holder = scheduler.start(hold, "holder", party)
        scheduler.sleep(0.5)
        scheduler.stall(holder, 59)
        with lock:
            order.append("free" if scheduler.now >= 1_059.5 else "free too early")

    play(main)
    assert order == ["held", "free"]


def test_event_loops_wait_on_the_scheduler_and_are_woken_from_other_threads() -> None:
    seen: list[Any] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        Thread(lambda: loop.call_soon_threadsafe(future.set_result, "woken")).start()
        seen.append(await future)
        began = loop.time()
        await asyncio.sleep(1_000)
        seen.append(round(loop.time() - began))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await loop.create_future()

    def main() -> None:
        loop = SimLoop()
        try:
            loop.run_until_complete(story())
        finally:
            loop.close()

    play(main)
    assert seen == ["woken", 1_000]


def test_killed_is_no_exception_that_code_may_swallow() -> None:
    assert not issubclass(Killed, Exception)
