"""What may happen between two moments of the engine, each forced: by a gate in the store, or by a hook."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from tests.support.engines import FaultyEngine, aside, launched, make_engine, running, wait_until
from tests.support.faulty import PATIENCE_SECONDS, Gate, Killed, Moment, Trap
from tests.support.records import read_records
from tidings import DBOS, SendMessage, SetWorkflowID
from tidings.engine.database import committer as committers
from tidings.engine.database.chain import Chain
from tidings.engine.hooks import Point
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import Ticket
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSShutdownError,
    DBOSWorkflowCancelledError,
)
from tidings.model import Status, Unit
from tidings.store.protocol import Batch

# Whoever waits this long was never woken; the watchdog ends the test before.
FOREVER = 3_600.0


def _takes(batch: Batch) -> bool:
    return any(unit.take is not None for unit in batch.units)


def _sends(topic: str) -> Callable[[Batch], bool]:
    return lambda batch: any(message.topic == topic for unit in batch.units for message in unit.messages)


# --- a unit that cannot be stored ------------------------------------------------------------------------


def test_a_poison_unit_in_a_full_batch_fails_alone(database_url: str) -> None:
    """Hundreds of units in one batch: what its own run handed over behind it is refused, and nothing else."""
    before, behind, neighbours, events = 150, 150, 8, 40
    handed_over = threading.Event()
    ran: list[str] = []
    raised: list[DBOSException] = []

    @DBOS.workflow(name="victim")
    async def victim() -> None:
        for number in range(before):
            await DBOS.set_event_async(f"before {number}", number)
        await DBOS.set_event_async("poison", 0)
        for number in range(behind):
            await DBOS.set_event_async(f"behind {number}", number)
        handed_over.set()
        for _ in range(2):  # Whoever swallows the failure meets it again.
            try:
                await DBOS.run_step_async({"name": "outside effect"}, lambda: ran.append("ran"))
            except DBOSException as error:
                raised.append(error)

    @DBOS.workflow(name="neighbour")
    async def neighbour() -> str:
        for number in range(events):
            await DBOS.set_event_async(f"event {number}", number)
        return "well"

    with running(database_url) as here:
        here.store.poison(lambda unit: unit.event is not None and unit.event.key == "poison")
        held = here.hold_committer()
        starting: list[Future[Any]] = []
        starting += [aside(lambda: DBOS.start_workflow(neighbour)) for _ in range(neighbours // 2)]
        starting += [aside(lambda: DBOS.start_workflow(victim))]
        starting += [aside(lambda: DBOS.start_workflow(neighbour)) for _ in range(neighbours // 2)]
        # Each neighbour: its start, its events and its end; the victim: its start and its events.
        queued = neighbours * (events + 2) + before + behind + 2
        here.await_queued(queued)
        assert queued > 500
        held.open()
        handles = [future.result() for future in starting]
        failed = handles.pop(neighbours // 2)
        with pytest.raises(DBOSException, match="cannot keep"):
            failed.get_result()
        assert [handle.get_result() for handle in handles] == ["well"] * neighbours
        assert len(here.engine.waiters) == 0
    assert ran == []
    assert len(raised) == 2
    records = read_records(database_url)
    assert records.events_of(failed.workflow_id) == {f"before {number}": str(number) for number in range(before)}
    assert records.workflow(failed.workflow_id).status == Status.ERROR
    for handle in handles:
        assert records.events_of(handle.workflow_id) == {f"event {number}": str(number) for number in range(events)}


def test_what_was_handed_over_behind_a_poison_unit_is_refused_though_the_run_has_ended(database_url: str) -> None:
    """The end of the run takes the failure as met while units behind the poison one still wait in the queue."""
    handed_over, failed = threading.Event(), threading.Event()

    @DBOS.workflow(name="hasty")
    async def hasty() -> None:
        await DBOS.set_event_async("poison", 1)
        blocking = here.engine.committer.call(held_behind)
        await DBOS.set_event_async("behind", 1)
        handed_over.set()
        await asyncio.to_thread(failed.wait)
        assert not blocking.settled

    with running(database_url) as here:
        here.store.poison(lambda unit: unit.event is not None and unit.event.key == "poison")
        held_behind = Gate()
        held = here.hold_committer()
        starting = aside(lambda: DBOS.start_workflow(hasty))
        handed_over.wait()
        held.open()  # Now the poison fails; then the errand holds the committer, the other event behind it.
        handle = starting.result()
        held_behind.await_reached()
        failed.set()
        here.await_queued(1)  # The end of the run, with the failure of which it was told.
        held_behind.open()
        with pytest.raises(DBOSException, match="cannot keep"):
            handle.get_result()
    records = read_records(database_url)
    assert records.workflow(handle.workflow_id).status == Status.ERROR
    assert records.events_of(handle.workflow_id) == {}


# --- a receive that is given up --------------------------------------------------------------------------


GiveUp = Callable[[Callable[[], Awaitable[Any]], asyncio.Event], Awaitable[Any]]


async def _wait_for(receive: Callable[[], Awaitable[Any]], cancel: asyncio.Event) -> Any:
    jumping = asyncio.ensure_future(_jump(cancel))
    try:
        return await asyncio.wait_for(receive(), FOREVER)
    except TimeoutError:
        return "given up"
    finally:
        await jumping


async def _timeout(receive: Callable[[], Awaitable[Any]], cancel: asyncio.Event) -> Any:
    jumping = asyncio.ensure_future(_jump(cancel))
    try:
        async with asyncio.timeout(FOREVER):
            return await receive()
    except TimeoutError:
        return "given up"
    finally:
        await jumping


async def _jump(cancel: asyncio.Event) -> None:
    """Let all timeouts of this event loop run out."""
    await cancel.wait()
    loop = asyncio.get_running_loop()
    real_time = loop.time
    loop.time = lambda: real_time() + 2 * FOREVER  # type: ignore[method-assign]


def _has_jumped(here: FaultyEngine) -> bool:
    """Tell whether the timeouts of the background loop have run out, and were handled."""
    loop = here.host._background._loop
    assert loop is not None
    return asyncio.run_coroutine_threadsafe(_time(), loop).result(20) > FOREVER + time.monotonic()


async def _time() -> float:
    await asyncio.sleep(0)
    return asyncio.get_running_loop().time()


async def _task_group(receive: Callable[[], Awaitable[Any]], cancel: asyncio.Event) -> Any:
    received: list[Any] = []

    async def take() -> None:
        received.append(await receive())

    async def fail() -> None:
        await cancel.wait()
        raise ValueError("the others are cancelled")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(fail())
    except* ValueError:
        pass
    return received[0] if received else "given up"


@pytest.fixture(params=[_wait_for, _timeout, _task_group])
def give_up(request: pytest.FixtureRequest) -> GiveUp:
    """A way to give an await up."""
    way: GiveUp = request.param
    return way


@pytest.fixture
def receiver(give_up: GiveUp) -> tuple[Any, threading.Event]:
    """A workflow that gives a receive up when the event is set, and then receives again."""
    cancel = threading.Event()

    @DBOS.workflow(name="receiver")
    async def receive_twice() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        soon = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (cancel.wait(), loop.call_soon_threadsafe(soon.set)), daemon=True).start()
        first = await give_up(lambda: DBOS.recv_async("topic", FOREVER), soon)
        return [first, await DBOS.recv_async("topic", FOREVER)]

    return receive_twice, cancel


def test_a_receive_withdrawn_while_it_is_queued_consumes_nothing(
    database_url: str, receiver: tuple[Any, threading.Event]
) -> None:
    workflow, cancel = receiver
    with running(database_url) as here:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(workflow)
        DBOS.send("w", "first", "topic")

        def queue(jobs: list[Any]) -> None:
            """Right after the workflow was told to go on: let it queue its take, and give it up."""
            if any(job.unit.entry is not None and job.unit.take and job.unit.take.topic == "go" for job in jobs):
                here.engine.hooks.set(Point.BATCH_TOLD, None)
                here.await_queued(1)
                cancel.set()
                # Behind the take come what is recorded instead, and the second receive.
                here.await_queued(3)

        here.await_waiting(1)
        DBOS.send("w", "second", "topic")
        here.engine.hooks.set(Point.BATCH_TOLD, queue)
        DBOS.send("w", 0, "go")
        assert handle.get_result() == ["given up", "first"]
        assert len(here.engine.waiters) == 0
    records = read_records(database_url)
    assert [entry.state for entry in records.entries_of("w")].count("ABANDONED") == 1
    assert [message.body for message in records.messages if message.read_by_branch is None] == ['"second"']


def test_a_receive_given_up_while_it_commits_returns_its_message(
    database_url: str, receiver: tuple[Any, threading.Event]
) -> None:
    workflow, cancel = receiver
    with running(database_url) as here:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(workflow)
        DBOS.send("w", "first", "topic")
        here.await_waiting(1)
        gate = here.store.hold(
            where=lambda batch: any(unit.take and unit.take.topic == "topic" for unit in batch.units)
        )
        DBOS.send("w", 0, "go")
        gate.await_reached()
        waits = _count_cancelled(here)
        cancel.set()
        wait_until(lambda: waits() >= 1)
        gate.open()
        DBOS.send("w", "second", "topic")
        assert handle.get_result() == ["first", "second"]
        assert len(here.engine.waiters) == 0
    assert all(message.read_by_branch is not None for message in read_records(database_url).messages)


def _count_cancelled(here: FaultyEngine) -> Callable[[], int]:
    """Return how often a unit was asked to be withdrawn."""
    asked: list[object] = []
    withdraw = here.engine.committer.withdraw

    def counting(job: Job) -> bool:
        withdrawn = withdraw(job)
        asked.append(job)
        return withdrawn

    here.engine.committer.withdraw = counting  # type: ignore[method-assign]
    return lambda: len(asked)


def test_an_event_given_up_while_too_much_is_in_flight_is_published_all_the_same(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was handed over: that answer wins over the cancellation, now as in every replay."""
    monkeypatch.setattr(committers, "MAX_UNITS_IN_FLIGHT", 0)
    outcomes: list[Any] = []

    @DBOS.workflow(name="publisher")
    async def publisher() -> None:
        cancel = asyncio.Event()
        cancel.set()
        outcomes.append(await _timeout(lambda: DBOS.set_event_async("key", 1), cancel))
        await DBOS.recv_async("go", FOREVER)

    with running(database_url) as first:
        with SetWorkflowID("w"):
            gate = first.store.hold(where=lambda batch: any(unit.event for unit in batch.units))
            DBOS.start_workflow(publisher)
        gate.await_reached()
        wait_until(lambda: _has_jumped(first))
        gate.open()
        first.await_waiting(1)
    with running(database_url) as second:
        second.await_waiting(1)
        DBOS.send("w", 1, "go")
        DBOS.get_result("w")
    assert outcomes == [outcomes[0]] * 2, "the replay took another path"


def test_the_replay_of_what_was_given_up_waits_until_it_is_given_up_again(database_url: str) -> None:
    ends: list[str] = []

    @DBOS.workflow(name="patient")
    async def patient() -> str:
        receiving = asyncio.ensure_future(DBOS.recv_async("topic", FOREVER))
        await DBOS.recv_async("give up", FOREVER)
        receiving.cancel()
        await asyncio.wait([receiving])
        ends.append("given up" if receiving.cancelled() else receiving.result())
        return str(await DBOS.recv_async("go on", FOREVER))

    with running(database_url) as first:
        with SetWorkflowID("w"):
            DBOS.start_workflow(patient)
        first.await_waiting(2)
        DBOS.send("w", 1, "give up")
        wait_until(lambda: len(ends) == 1)
        DBOS.send("w", "too late", "topic")
    with running(database_url) as second:
        second.await_waiting(1)  # The message for the abandoned receive is there, and it does not take it.
        DBOS.send("w", "end", "go on")
        assert DBOS.get_result("w") == "end"
        assert len(second.engine.waiters) == 0
    assert ends == ["given up", "given up"]
    records = read_records(database_url)
    assert [message.body for message in records.messages if message.read_by_branch is None] == ['"too late"']


# --- messages and their receivers ------------------------------------------------------------------------


def test_a_message_that_arrives_between_the_look_and_the_wait_is_received(database_url: str) -> None:
    @DBOS.workflow(name="looks")
    def looks() -> str:
        return str(DBOS.recv("topic", FOREVER))

    with running(database_url) as here:
        sent: list[str] = []

        def send_first(jobs: list[Any]) -> None:
            if any(
                job.unit.take is not None for job in jobs
            ):  # The look is durable; that it found nothing is not told.
                here.engine.hooks.set(Point.BATCH_COMMITTED, None)
                aside(lambda: DBOS.send("w", "in between", "topic"))
                here.await_queued(1)
                sent.append("in between")

        here.engine.hooks.set(Point.BATCH_COMMITTED, send_first)
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(looks)
        assert handle.get_result() == "in between"
        assert sent == ["in between"]


def test_takes_of_one_topic_in_one_batch_get_different_messages(database_url: str) -> None:
    @DBOS.workflow(name="twins")
    async def twins() -> list[Any]:
        await DBOS.recv_async("go", FOREVER)
        return await asyncio.gather(*(DBOS.recv_async("topic", FOREVER) for _ in range(4)))

    def most_takes() -> int:
        return max(sum(unit.take is not None for unit in batch.units) for batch in here.store.batches)

    with running(database_url) as here:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(twins)
        here.await_waiting(1)
        for number in range(3):
            DBOS.send("w", number, "topic")

        def queue(jobs: list[Any]) -> None:
            if any(job.unit.take is not None for job in jobs):
                here.engine.hooks.set(Point.BATCH_TOLD, None)
                here.await_queued(4)

        here.engine.hooks.set(Point.BATCH_TOLD, queue)
        DBOS.send("w", 0, "go")
        wait_until(lambda: most_takes() == 4)
        here.await_waiting(1)  # The fourth found nothing, and waits.
        DBOS.send("w", 3, "topic")
        assert handle.get_result() == [0, 1, 2, 3]
        assert len(here.engine.waiters) == 0


# --- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["cancel", "end"])
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_of_a_cancellation_and_an_end_one_wins(database_url: str, first: str, together: bool) -> None:
    go = threading.Event()
    begun = threading.Event()

    @DBOS.workflow(name="ends")
    def ends() -> str:
        DBOS.run_step({"name": "begin"}, lambda: None)
        begun.set()
        go.wait()
        return "ended"

    with running(database_url) as here:
        over = here.executions_over()
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(ends)
        begun.wait()
        held = here.hold_committer()

        def cancel() -> None:
            cancelling.append(aside(lambda: DBOS.cancel_workflow("w")))

        cancelling: list[Any] = []
        for number, act in enumerate((cancel, go.set) if first == "cancel" else (go.set, cancel), 1):
            if number == 2 and not together:
                _ = here.engine.committer.call(lambda store: None)  # An errand parts two batches.
            act()
            here.await_queued(number if together or number == 1 else 3)
        held.open()
        cancelling[0].result()
        wait_until(lambda: over == ["w"])
        status = read_records(database_url).workflow("w").status
        if status == Status.CANCELLED:
            with pytest.raises(DBOSAwaitedWorkflowCancelledError):
                handle.get_result()
        else:
            assert handle.get_result() == "ended"
        if not together:
            assert status == (Status.CANCELLED if first == "cancel" else Status.SUCCESS)
        batches = [batch for batch in here.store.batches if any(unit.cancels or unit.outcome for unit in batch.units)]
        assert len(batches) == 1 if together else len(batches) >= 1
        assert len(here.engine.waiters) == 0


# --- stopping --------------------------------------------------------------------------------------------


def test_destroy_while_a_batch_commits_keeps_what_was_handed_over(database_url: str) -> None:
    @DBOS.workflow(name="holder")
    def holder() -> list[Any]:
        return [DBOS.recv("topic", FOREVER), DBOS.recv("topic", FOREVER)]

    with running(database_url) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(holder)
        here.await_waiting(1)
        gate = here.store.hold(where=_sends("topic"))
        sending = aside(lambda: DBOS.send("w", "last words", "topic"))
        gate.await_reached()
        stopping = aside(here.stop)
        wait_until(lambda: here.host.port.chain.dead is not None)
        gate.open()
        sending.result()
        stopping.result()
    with running(database_url):
        DBOS.send("w", "more", "topic")
        assert DBOS.get_result("w") == ["last words", "more"]


@pytest.mark.parametrize("on", ["commit", "retire"])
def test_destroy_is_prompt_while_the_database_is_away(database_url: str, on: str) -> None:
    @DBOS.workflow(name="stranded")
    def stranded() -> str:
        return str(DBOS.recv("topic", FOREVER))

    unavailable = threading.Event()
    first = make_engine(database_url)
    with launched(first):
        first.engine.hooks.set(Point.STORE_UNAVAILABLE, lambda error: unavailable.set())
        with SetWorkflowID("w"):
            DBOS.start_workflow(stranded)
        first.await_waiting(1)
        first.store.lose(on, times=None)
        first.store.lose("reconnect", times=None)
        sending: list[Future[None]] = []
        if on == "commit":
            sending.append(aside(lambda: DBOS.send("w", 1, "topic")))
            assert unavailable.wait(FOREVER)
        stopping = aside(first.stop)
        stopping.result(timeout=PATIENCE_SECONDS)
        for future in sending:
            with pytest.raises(DBOSShutdownError):
                future.result(timeout=PATIENCE_SECONDS)
    # Its row is still there; its process is not, and the next launch sees that at once.
    with running(database_url):
        DBOS.send("w", "back", "topic")
        assert DBOS.get_result("w") == "back"


def test_destroy_does_not_wait_for_a_commit_that_hangs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for the supervisor, which waits for that commit to renew the lease."""
    monkeypatch.setattr(committers, "STOP_SECONDS", 0.05)
    here = make_engine(database_url, lease_ms=30)
    with launched(here):
        gate = here.store.hold(where=lambda batch: list(batch.units) == [Unit()])
        gate.await_reached()
        stopping = aside(here.stop)
        try:
            stopping.result(timeout=PATIENCE_SECONDS)
            assert here.store.calls["close"] == 0, "its connection is in use"
        finally:
            gate.open()
    # What was left behind ends by itself, and closes the store behind it.
    here.engine.committer._thread.join(20)
    here.host.supervisor._thread.join(20)
    assert here.store.calls["close"] == 1


def test_draining_waits_for_no_commit_that_hangs(database_url: str) -> None:
    """Nothing is executed, and so nothing is to come to rest; but that must be known behind what is being committed."""
    with running(database_url) as here:
        gate = here.store.hold(where=lambda batch: any(unit.messages for unit in batch.units))
        sending = aside(lambda: DBOS.send("nobody", 1))
        gate.await_reached()
        draining = aside(lambda: here.host.drain(0.05))
        try:
            draining.result(timeout=PATIENCE_SECONDS)
        finally:
            gate.open()
        with pytest.raises(DBOSNonExistentWorkflowError):
            sending.result(timeout=PATIENCE_SECONDS)


def test_a_query_that_hangs_when_tidings_stops_closes_the_store_when_it_ends(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.engine.database.reader._STOP_SECONDS", 0.05)
    here = make_engine(database_url)
    with launched(here):
        gate = here.store.hold("latest_events")
        reading = aside(lambda: DBOS.get_event("nobody", "key", FOREVER))
        gate.await_reached()
        here.stop()
        with pytest.raises(DBOSShutdownError):
            reading.result(timeout=PATIENCE_SECONDS)
        assert here.store.calls["close"] == 0
        gate.open()
    here.engine.reader._thread.join(20)
    assert here.store.calls["close"] == 1


def test_stopping_does_not_wait_for_a_store_that_takes_long_to_close(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an SQLite file does whose side lock others hold."""
    monkeypatch.setattr("tidings.engine.database.reader._STOP_SECONDS", 0.05)
    here = make_engine(database_url)
    with launched(here):
        gate = here.store.hold("close")
        stopping = aside(here.stop)
        try:
            gate.await_reached()
            stopping.result(timeout=PATIENCE_SECONDS)
        finally:
            gate.open()


def test_a_dead_committer_wakes_everybody(database_url: str) -> None:
    ran: list[int] = []

    @DBOS.workflow(name="sleeper")
    def sleeper(how: str) -> None:
        match how:
            case "recv":
                DBOS.recv("topic", FOREVER)
            case "sleep":
                DBOS.sleep(FOREVER)
            case "event":
                DBOS.get_event("nobody", "key", FOREVER)
            case _:
                DBOS.run_step({"name": "step"}, lambda: ran.append(1))

    with running(database_url) as here:
        over = here.executions_over()
        handles = [DBOS.start_workflow(sleeper, how) for how in ("recv", "sleep", "event")]
        here.await_waiting(3)
        waiting = [aside(handle.get_result) for handle in handles]
        waiting.append(aside(lambda: DBOS.get_event("somebody", "key", FOREVER)))
        here.await_waiting(3 + 3 + 1)
        here.store.set(Trap(here.store.kill, moment=Moment.BEFORE))
        with pytest.raises(DBOSShutdownError, match="Killed"):
            DBOS.send(handles[0].workflow_id, 1)
        for future in waiting:
            with pytest.raises(DBOSShutdownError):
                future.result(timeout=PATIENCE_SECONDS)
        wait_until(lambda: sorted(over) == sorted(handle.workflow_id for handle in handles))
        assert isinstance(here.engine.committer.died, Killed)
        with pytest.raises(DBOSShutdownError):
            DBOS.start_workflow(sleeper, "step")
        assert ran == [], "a process that can write nothing starts no step"
        assert len(here.engine.waiters) == 0


# --- a store that is away for a while --------------------------------------------------------------------


@pytest.mark.parametrize("landed", [True, False, None], ids=["landed", "not landed", "before"])
def test_every_kind_of_answer_survives_a_connection_that_is_lost(database_url: str, landed: bool | None) -> None:
    """Each batch is tried twice; what is answered, and what is done, is as if it had been tried once."""

    @DBOS.workflow(name="receives")
    def receives() -> list[Any]:
        received = [DBOS.recv("topic", 0), DBOS.recv("topic", FOREVER), DBOS.recv("topic", FOREVER)]
        DBOS.set_event("received", len(received))
        return received

    @DBOS.workflow(name="other")
    def other() -> None:
        DBOS.recv("topic", FOREVER)

    with running(database_url) as here:
        lost: set[int] = set()

        def is_first_try(batch: Batch) -> bool:
            is_first = batch.number not in lost
            lost.add(batch.number)
            return is_first

        here.store.lose(landed=landed, where=is_first_try, times=None)
        fresh = DBOS.start_workflow(other)
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(receives)
        with SetWorkflowID("w"):
            assert DBOS.start_workflow(receives).workflow_id == "w"
        with SetWorkflowID("w"), pytest.raises(DBOSConflictingWorkflowError):
            DBOS.start_workflow(other)
        here.await_waiting(2)
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            DBOS.send("nobody", 1, "topic")
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            DBOS.send_bulk([SendMessage("w", 0, "topic"), SendMessage("nobody", 0, "topic")])
        for _ in range(2):
            DBOS.send("w", "once", "topic", idempotency_key="key")
        DBOS.send("w", "second", "topic")
        assert handle.get_result() == [None, "once", "second"]
        assert DBOS.get_event("w", "received") == 3
        for _ in range(2):
            DBOS.cancel_workflow(fresh.workflow_id)
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            DBOS.cancel_workflow("nobody")
        DBOS.cancel_workflow("w")  # It has ended: nothing happens.
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            fresh.get_result()
        assert len(lost) >= 12
    records = read_records(database_url)
    assert [message.body for message in records.messages] == ['"once"', '"second"']
    assert {each.workflow_id: each.status for each in records.workflows} == {
        "w": "SUCCESS",
        fresh.workflow_id: "CANCELLED",
    }


def test_under_load_everything_arrives_once_though_the_store_is_away_now_and_then(database_url: str) -> None:
    senders, each = 6, 15

    @DBOS.workflow(name="sink")
    async def sink() -> list[Any]:
        return [await DBOS.recv_async("topic", FOREVER) for _ in range(senders * each)]

    @DBOS.workflow(name="source")
    async def source(number: int) -> int:
        for count in range(each):
            await DBOS.send_async("sink", [number, count], "topic")
            await DBOS.set_event_async("sent", count)
        return number

    with running(database_url) as here:
        away: list[object] = []
        here.engine.hooks.set(Point.STORE_UNAVAILABLE, away.append)
        with SetWorkflowID("sink"):
            receiving = DBOS.start_workflow(sink)
        for number, landed in enumerate((None, True, False, True, None, False, True)):
            here.store.lose(landed=landed, number=here.store.calls["commit"] + 2 + 3 * number)
            here.store.lose("reconnect", number=1 + 2 * number)
        here.store.lose("workflows")
        here.store.lose("reconnect_reader")
        handles = [DBOS.start_workflow(source, number) for number in range(senders)]
        assert [handle.get_result() for handle in handles] == list(range(senders))
        received = receiving.get_result()
        assert len(away) >= 7
    assert sorted(received) == [[number, count] for number in range(senders) for count in range(each)]
    for number in range(senders):
        assert [pair for pair in received if pair[0] == number] == [[number, count] for count in range(each)]


def test_postgres_ends_the_connection_in_the_midst_of_a_batch(postgres_url: str) -> None:
    """A real one: the backend waits for a lock in the middle of its batch, and is ended there."""

    @DBOS.workflow(name="target")
    def target() -> list[Any]:
        return [DBOS.recv("topic", FOREVER) for _ in range(3)]

    with running(postgres_url) as here, _admin(postgres_url) as admin:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(target)
        here.await_waiting(1)
        for number in range(3):
            with psycopg.connect(postgres_url) as blocker:
                blocker.execute("lock table tidings.messages in exclusive mode")
                sending = aside(lambda number=number: DBOS.send("w", number, "topic"))  # type: ignore[misc]
                wait_until(lambda: _blocked(admin) != [])
                for pid in _blocked(admin):
                    admin.execute("select pg_terminate_backend(%s)", [pid])
                blocker.rollback()
            sending.result(timeout=PATIENCE_SECONDS)
        assert handle.get_result() == [0, 1, 2]
    assert len(read_records(postgres_url).messages) == 3


def _admin(postgres_url: str) -> psycopg.Connection[Any]:
    """Connect as an administrator does, perhaps through a pooler: with nothing prepared."""
    return psycopg.connect(postgres_url, autocommit=True, prepare_threshold=None)


def _blocked(admin: psycopg.Connection[Any]) -> list[int]:
    query = (
        "select pid from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
    )
    return [pid for (pid,) in admin.execute(query).fetchall()]


def test_postgres_ends_all_connections_again_and_again(postgres_url: str) -> None:
    """Idle or busy, before and after commits: nothing is lost, nothing is done twice."""
    rounds = 40

    @DBOS.workflow(name="counting")
    def counting() -> list[Any]:
        received = []
        for number in range(rounds):
            received.append(DBOS.recv("topic", FOREVER))
            DBOS.set_event("count", number)
        return received

    with running(postgres_url) as here, _admin(postgres_url) as admin:

        def end_all() -> None:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and backend_type = 'client backend' and pid <> pg_backend_pid()"
            )

        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(counting)
        here.store.set(Trap(end_all, moment=Moment.BEFORE, times=4, where=lambda batch: batch.number % 5 == 0))
        here.store.set(Trap(end_all, moment=Moment.AFTER, times=4, where=lambda batch: batch.number % 7 == 0))
        for number in range(rounds):
            DBOS.send("w", number, "topic")
        assert handle.get_result() == list(range(rounds))
        assert DBOS.get_event("w", "count") == rounds - 1
    records = read_records(postgres_url)
    assert len(records.messages) == rounds
    assert [each.version for each in records.events] == list(range(1, rounds + 1))


# --- event loops -----------------------------------------------------------------------------------------


def test_a_message_taken_while_the_loop_closes_is_not_lost(database_url: str) -> None:
    @DBOS.workflow(name="taker")
    async def mover() -> list[Any]:
        go = await DBOS.recv_async("go", FOREVER)
        return [go, await DBOS.recv_async("topic", FOREVER)]

    with running(database_url) as here:
        gate = here.store.hold(
            where=lambda batch: any(unit.take and unit.take.topic == "topic" for unit in batch.units),
            moment=Moment.AFTER,
        )

        async def main() -> None:
            with SetWorkflowID("w"):
                await DBOS.start_workflow_async(mover)
            await DBOS.send_async("w", "taken", "topic")
            await DBOS.send_async("w", 1, "go")
            await asyncio.to_thread(gate.await_reached)

        asyncio.run(main())
        gate.open()
        assert DBOS.get_result("w", timeout_seconds=PATIENCE_SECONDS) == [1, "taken"]
    assert [message.topic for message in read_records(database_url).messages if message.read_by_branch is None] == []


def test_a_child_started_while_the_loop_closes_is_executed(database_url: str) -> None:
    @DBOS.workflow(name="child")
    async def child() -> str:
        return str(await DBOS.recv_async("topic", FOREVER))

    @DBOS.workflow(name="parent")
    async def parent() -> str:
        handle = await DBOS.start_workflow_async(child)
        return str(await handle.get_result())

    with running(database_url, lease_ms=300) as here:  # What nobody executes is found at the second look.
        gate = here.store.hold(
            where=lambda batch: any(unit.start and unit.start.parent_id for unit in batch.units), moment=Moment.AFTER
        )

        async def main() -> None:
            with SetWorkflowID("w"):
                await DBOS.start_workflow_async(parent)
            await asyncio.to_thread(gate.await_reached)

        asyncio.run(main())
        gate.open()
        [child_id] = [each.workflow_id for each in read_records(database_url).workflows if each.parent_id]
        DBOS.send(child_id, "hello", "topic")
        assert DBOS.get_result("w", timeout_seconds=PATIENCE_SECONDS) == "hello"


def test_a_loop_closes_though_a_receive_given_up_is_in_doubt(database_url: str) -> None:
    """A `wait_for` waits for the answer of a commit; a loop that closes does not, the store being away."""

    @DBOS.workflow(name="doubtful")
    async def doubtful() -> Any:
        await DBOS.recv_async("go", FOREVER)
        if here.store.calls["reclaim"] == 0:
            return await _wait_for(lambda: DBOS.recv_async("topic", FOREVER), cancel)
        return await asyncio.wait_for(DBOS.recv_async("topic", FOREVER), FOREVER)

    cancel = asyncio.Event()
    with running(database_url) as here:

        async def main() -> None:
            with SetWorkflowID("w"):
                await DBOS.start_workflow_async(doubtful)
            await asyncio.to_thread(here.await_waiting, 1)
            asked = _count_cancelled(here)
            await DBOS.send_async("w", 1, "go")
            await asyncio.to_thread(gate.await_reached)
            cancel.set()
            await asyncio.to_thread(wait_until, lambda: asked() >= 1)

        gate = here.store.hold(
            where=lambda batch: any(unit.take and unit.take.topic == "topic" for unit in batch.units)
        )
        closing = aside(lambda: asyncio.run(main()))
        try:
            closing.result(timeout=PATIENCE_SECONDS)
        finally:
            gate.open()
        DBOS.send("w", "x", "topic")
        assert DBOS.get_result("w", timeout_seconds=PATIENCE_SECONDS) == "x"


def test_a_queued_step_of_a_stopped_engine_is_not_awaited_for_ever(database_url: str) -> None:
    """One permit, and it is taken: an async workflow awaits a blocking step that will never begin."""
    release = threading.Event()
    occupied = threading.Event()

    def occupy() -> None:
        occupied.set()
        release.wait()

    @DBOS.workflow(name="occupant")
    async def occupant() -> None:
        await DBOS.run_step_async({"name": "occupy"}, occupy)

    @DBOS.workflow(name="queued")
    async def queued() -> None:
        await DBOS.run_step_async({"name": "never"}, lambda: None)

    with running(database_url, max_executor_threads=1) as here:
        DBOS.start_workflow(occupant)
        occupied.wait()
        over = here.executions_over()
        with SetWorkflowID("w"):
            DBOS.start_workflow(queued)
        wait_until(lambda: len(here.host.workers._jobs) == 1)

        async def run() -> None:
            with pytest.raises(DBOSShutdownError):
                await queued()

        calling = aside(lambda: asyncio.run(run()))
        wait_until(lambda: len(here.host.workers._jobs) == 2)
        here.stop()
        try:
            calling.result(timeout=PATIENCE_SECONDS)
        finally:
            release.set()
        wait_until(lambda: len(over) == 3)


def test_a_close_of_a_step_whose_result_was_withdrawn_is_withdrawn_too(database_url: str) -> None:
    held: list[Gate] = []
    is_queued = threading.Event()

    @DBOS.step(name="closing")
    async def closing() -> None:
        await DBOS.close_stream_async("log")
        held.append(here.hold_committer())

    @DBOS.workflow(name="gives the step up")
    async def flow() -> str:
        stepping = asyncio.create_task(closing())
        await asyncio.to_thread(is_queued.wait)
        stepping.cancel()
        await asyncio.gather(stepping, return_exceptions=True)
        held[0].open()
        await DBOS.write_stream_async("log", "still open")
        return "written"

    with running(database_url) as here:
        with SetWorkflowID("w"):
            result = DBOS.start_workflow(flow)
        wait_until(lambda: bool(held))
        here.await_queued(1)
        is_queued.set()
        assert result.get_result() == "written"
        assert list(DBOS.read_stream("w", "log")) == ["still open"]


# --- a start that is overtaken ---------------------------------------------------------------------------


@DBOS.workflow(name="interleavings.nothing")
def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("reason", ["a shutdown", "its deadline"])
def test_a_start_that_is_overtaken_before_it_is_durable_raises_nothing_that_ends_threads(
    database_url: str, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    real = Chain.barrier

    def overtaken(self: Chain) -> Ticket | None:
        monkeypatch.setattr(Chain, "barrier", real)
        if reason == "a shutdown":
            here.host.runner.close("tidings was shut down")
        else:
            self.kill(DBOSWorkflowCancelledError("w"))
        return self.barrier()

    with running(database_url) as here:
        monkeypatch.setattr(Chain, "barrier", overtaken)
        if reason == "a shutdown":
            with pytest.raises(DBOSShutdownError):
                DBOS.start_workflow(nothing)
        else:
            assert DBOS.start_workflow(nothing).workflow_id
