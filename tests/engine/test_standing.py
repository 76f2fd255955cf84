"""Takes that stand: committed again in the batch that brings their message. And whatever else comes meanwhile."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.support.engines import FaultyEngine, aside, running, wait_until
from tests.support.faulty import PATIENCE_SECONDS, Gate
from tidings import DBOS, SendMessage, SetWorkflowID
from tidings.core.receive_state import IN_BATCH, TRANSITIONS, Event, State
from tidings.engine.waiting.arrivals import Arrival, WaitingTake
from tidings.error import DBOSNonExistentWorkflowError, DBOSWorkflowCancelledError
from tidings.model import Unit
from tidings.store.protocol import PROBE, Batch

# Whoever waits this long was never woken; the watchdog ends the test before.
FOREVER = 3_600.0


def _with_messages(here: FaultyEngine) -> list[Batch]:
    return [batch for batch in here.store.batches if any(unit.messages for unit in batch.units)]


def _takes(batch: Batch) -> int:
    return sum(unit.take is not None for unit in batch.units)


def _has_recorded(here: FaultyEngine, name: str) -> bool:
    entries = [unit.entry for batch in here.store.batches for unit in batch.units if unit.entry is not None]
    return any(entry.name == name for entry in entries)


def _all_takes(here: FaultyEngine) -> int:
    return sum(map(_takes, here.store.batches))


def _start_receiver(timeout_seconds: float = FOREVER) -> Any:
    @DBOS.workflow(name="stands")
    async def receiver() -> Any:
        return await DBOS.recv_async("topic", timeout_seconds)

    with SetWorkflowID("w"):
        return DBOS.start_workflow(receiver)


def _hold_next_message(here: FaultyEngine) -> Gate:
    return here.store.hold(where=lambda batch: any(unit.messages for unit in batch.units))


# --- in one batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
def test_a_message_is_taken_in_the_batch_that_brings_it(database_url: str, is_async: bool) -> None:
    @DBOS.workflow(name="blocking")
    def blocking() -> Any:
        return DBOS.recv("topic", FOREVER)

    with running(database_url) as here:
        if is_async:
            handle = _start_receiver()
        else:
            with SetWorkflowID("w"):
                handle = DBOS.start_workflow(blocking)
        here.await_waiting(1)
        DBOS.send("w", "hello", "topic")
        assert handle.get_result() == "hello"
        assert [_takes(batch) for batch in _with_messages(here)] == [1]
        assert _all_takes(here) == 2, "the look that found nothing, and this one"
        assert len(here.engine.waiters) == 0


def test_many_are_received_in_the_batch_that_brings_them(database_url: str) -> None:
    @DBOS.workflow(name="one of many")
    async def one_of_many() -> Any:
        return await DBOS.recv_async("topic", FOREVER)

    with running(database_url) as here:
        handles = [DBOS.start_workflow(one_of_many) for _ in range(50)]
        here.await_waiting(50)
        DBOS.send_bulk([SendMessage(handle.workflow_id, handle.workflow_id, "topic") for handle in handles])
        assert [handle.get_result() for handle in handles] == [handle.workflow_id for handle in handles]
        assert [_takes(batch) for batch in _with_messages(here)] == [50]


def test_the_oldest_message_is_taken_whoever_brings_one(database_url: str) -> None:
    """Another process has sent before; that it did is not heard yet."""
    with running(database_url) as here:
        here.store.is_audible = lambda name: name.startswith(PROBE)
        handle = _start_receiver()
        here.await_waiting(1)
        with running(database_url) as other:
            DBOS.send("w", "first", "topic")
            assert [_takes(batch) for batch in _with_messages(other)] == [0]
        DBOS.send("w", "second", "topic")
        assert handle.get_result() == "first"


def test_a_message_that_was_refused_leaves_the_take_standing(database_url: str) -> None:
    with running(database_url) as here:
        handle = _start_receiver()
        here.await_waiting(1)
        with pytest.raises(DBOSNonExistentWorkflowError):
            DBOS.send_bulk([SendMessage("w", "refused", "topic"), SendMessage("nobody", "refused", "topic")])
        DBOS.send("w", "accepted", "topic")
        assert handle.get_result() == "accepted"
        assert _all_takes(here) == 3, "nobody was woken to look"


def test_a_repeated_message_leaves_the_take_standing(database_url: str) -> None:
    @DBOS.workflow(name="receives twice")
    async def receives_twice() -> list[Any]:
        return [await DBOS.recv_async("topic", FOREVER) for _ in range(2)]

    with running(database_url) as here:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(receives_twice)
        here.await_waiting(1)
        DBOS.send("w", 1, "topic", idempotency_key="key")
        wait_until(lambda: _all_takes(here) == 3)
        here.await_waiting(1)
        DBOS.send("w", 1, "topic", idempotency_key="key")
        DBOS.send("w", 2, "topic")
        assert handle.get_result() == [1, 2]


# --- what comes while the take is being committed ----------------------------------------------------------


def test_a_message_that_is_being_taken_wins_over_the_deadline(database_url: str) -> None:
    clock = ManualClock()
    with running(database_url, clock=clock) as here:
        handle = _start_receiver(timeout_seconds=100)
        here.await_waiting(1)
        gate = _hold_next_message(here)
        sending = aside(lambda: DBOS.send("w", "in time", "topic"))
        gate.await_reached()
        clock.advance(200_000)
        wait_until(lambda: not here.engine.timers._heap)
        gate.open()
        sending.result()
        assert handle.get_result() == "in time"


def test_a_deadline_that_passed_while_no_message_was_taken_is_kept(database_url: str) -> None:
    clock = ManualClock()
    with running(database_url, clock=clock) as here:
        handle = _start_receiver(timeout_seconds=100)
        here.await_waiting(1)
        gate = _hold_next_message(here)
        bulk = [SendMessage("w", "refused", "topic"), SendMessage("nobody", "refused", "topic")]
        sending = aside(lambda: DBOS.send_bulk(bulk))
        gate.await_reached()
        clock.advance(200_000)
        wait_until(lambda: not here.engine.timers._heap)
        gate.open()
        with pytest.raises(DBOSNonExistentWorkflowError):
            sending.result()
        assert handle.get_result() is None


@pytest.mark.parametrize("comes", [True, False])
def test_a_cancelled_receive_returns_the_message_that_is_being_taken(database_url: str, comes: bool) -> None:
    cancel = threading.Event()
    ends: list[Any] = []

    @DBOS.workflow(name="gives up")
    async def gives_up() -> Any:
        receiving = asyncio.ensure_future(DBOS.recv_async("topic", FOREVER))
        await asyncio.sleep(0)  # It begins. From Python 3.14 on a thread that is done is awaited without a pause.
        await asyncio.to_thread(cancel.wait)
        receiving.cancel()
        await asyncio.wait([receiving])
        ends.append("given up" if receiving.cancelled() else receiving.result())
        return await DBOS.recv_async("last", FOREVER)

    destinations = ["w"] if comes else ["w", "nobody"]
    with running(database_url) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(gives_up)
        here.await_waiting(1)
        gate = _hold_next_message(here)
        sending = aside(lambda: DBOS.send_bulk([SendMessage(each, "taken", "topic") for each in destinations]))
        gate.await_reached()
        cancel.set()
        wait_until(lambda: _missed(here))
        assert not ends
        gate.open()
        assert sending.exception() is None if comes else sending.exception() is not None
        wait_until(lambda: len(ends) == 1)
        here.await_waiting(1)
    with running(database_url) as here:
        here.await_waiting(1)
        DBOS.send("w", "end", "last")
        assert DBOS.get_result("w") == "end"
    assert ends == ["taken" if comes else "given up"] * 2


def _missed(here: FaultyEngine) -> bool:
    """Whether the arrival of the take that is aboard has missed something."""
    return any(job._arrival._missed is not None for job in here.engine.committer._aboard)  # type: ignore[attr-defined]


def test_a_run_that_is_cancelled_while_its_take_is_committed_ends(database_url: str) -> None:
    with running(database_url) as here:
        handle = _start_receiver()
        here.await_waiting(1)
        gate = _hold_next_message(here)
        sending = aside(lambda: DBOS.send("w", "too late", "topic"))
        gate.await_reached()
        here.host.runner.cancelled("w")
        gate.open()
        sending.result()
        DBOS.cancel_workflow("w")
        with pytest.raises(Exception, match="w") as raised:
            handle.get_result()
        assert not isinstance(raised.value, DBOSWorkflowCancelledError)
        assert len(here.engine.waiters) == 0


# --- parallel branches -------------------------------------------------------------------------------------


def test_results_of_branches_come_again_in_their_order_though_a_take_stood(database_url: str) -> None:
    orders: list[list[str]] = []

    @DBOS.workflow(name="shares")
    async def shares() -> list[str]:
        order: list[str] = []

        async def early() -> None:
            await DBOS.recv_async("go", FOREVER)
            await DBOS.run_step_async({"name": "step"}, lambda: None)
            order.append("early")

        async def late() -> None:
            await DBOS.recv_async("late", FOREVER)
            order.append("late")

        await asyncio.gather(late(), early())
        orders.append(order)
        await DBOS.recv_async("last", FOREVER)
        return order

    with running(database_url) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(shares)
        here.await_waiting(2)
        DBOS.send("w", None, "go")
        wait_until(lambda: _has_recorded(here, "step"))
        here.await_waiting(1)
        DBOS.send("w", None, "late")
        wait_until(lambda: len(orders) == 1)
        here.await_waiting(1)
    with running(database_url) as here:
        here.await_waiting(1)
        DBOS.send("w", None, "last")
        assert DBOS.get_result("w") == ["early", "late"]
    assert orders == [["early", "late"]] * 2


# --- an arrival whose take is in a batch ---------------------------------------------------------------------


def test_what_comes_to_an_arrival_whose_take_is_in_a_batch_counts_when_that_brings_nothing() -> None:
    arrival = _boarded()
    assert arrival.board() is None
    arrival.settle(True)
    assert not arrival.settled
    arrival.nothing()
    assert arrival.result() is True
    assert arrival.board() is None


def test_the_answer_wins_over_what_comes_to_an_arrival_whose_take_is_in_a_batch() -> None:
    arrival = _boarded()
    arrival.settle(False)
    arrival.answer("taken", None)
    arrival.settle(False)
    assert arrival.result() == "taken"


def test_settling_races_with_the_end_of_a_batch() -> None:
    """Nothing that comes to an arrival gets lost, whichever batch ends meanwhile."""
    arrivals = [_boarded() for _ in range(2_000)]
    start = threading.Barrier(2)

    def end() -> None:
        for arrival in arrivals:
            start.wait()
            arrival.nothing()

    def settle() -> None:
        for arrival in arrivals:
            start.wait()
            arrival.settle(True)

    for future in [aside(end), aside(settle)]:
        future.result(timeout=PATIENCE_SECONDS)
    assert all(arrival.settled for arrival in arrivals)


def test_going_on_races_with_the_start_of_a_batch() -> None:
    """Either the batch gets the take and is its last one, or no batch gets it; both sides agree on which."""
    arrivals = [_waiting() for _ in range(2_000)]
    start = threading.Barrier(2)
    came_to_nothing: list[Arrival] = []

    def begin() -> list[bool]:
        boarded = []
        for arrival in arrivals:
            start.wait()
            boarded.append(arrival.board() is not None)
        return boarded

    def go_on() -> list[bool]:
        comes = []
        for arrival in arrivals:
            start.wait()
            comes.append(arrival.stop_waiting(partial(came_to_nothing.append, arrival)))
        return comes

    beginning, going = aside(begin), aside(go_on)
    boarded = beginning.result(timeout=PATIENCE_SECONDS)
    assert boarded == going.result(timeout=PATIENCE_SECONDS)
    for arrival, is_boarded in zip(arrivals, boarded, strict=True):
        if is_boarded:
            arrival.nothing()
        assert arrival.state is State.STOPPED
        assert arrival.board() is None
    assert came_to_nothing == [each for each, is_boarded in zip(arrivals, boarded, strict=True) if is_boarded]


# --- every state and every event ---------------------------------------------------------------------------

# How an arrival gets into each state.
WAYS: dict[State, tuple[Event, ...]] = {
    State.WATCHING: (),
    State.LOOKING: (Event.LOOK,),
    State.LOOKING_LAST: (Event.LOOK, Event.STOP),
    State.WAITING: (Event.LOOK, Event.NOTHING),
    State.BOARDED: (Event.LOOK, Event.NOTHING, Event.BOARD),
    State.BOARDED_LAST: (Event.LOOK, Event.NOTHING, Event.BOARD, Event.STOP),
    State.STOPPED: (Event.LOOK, Event.NOTHING, Event.STOP),
    State.WITHDRAWN: (Event.LOOK, Event.WITHDRAW),
    State.SETTLED: (Event.LOOK, Event.ANSWER),
}


class _Run:
    """The run of a take, which it lets wait."""

    chain: Any = None

    def __init__(self, reason: BaseException | None = None) -> None:
        self.reason = reason
        self.stays = 0

    def stay(self, _: Arrival) -> BaseException | None:
        self.stays += 1
        return self.reason


def _arrival() -> Arrival:
    return Arrival((("a",),), may_fail=False)


def _tell(arrival: Arrival, event: Event, run: _Run) -> object:
    match event:
        case Event.LOOK:
            return arrival.look(WaitingTake(Unit(), None, run))
        case Event.BOARD:
            return arrival.board()
        case Event.NOTHING:
            return arrival.nothing()
        case Event.ANSWER:
            return arrival.answer("taken", None)
        case Event.RESULT:
            arrival.settle(False)
            return None
        case Event.STOP:
            return arrival.stop_waiting(lambda: None)
        case Event.WITHDRAW:
            arrival.withdraw()
            return None


def _brought_to(state: State, run: _Run) -> Arrival:
    arrival = _arrival()
    for event in WAYS[state]:
        _tell(arrival, event, run)
    assert arrival.state is state
    return arrival


def _waiting() -> Arrival:
    return _brought_to(State.WAITING, _Run())


def _boarded() -> Arrival:
    return _brought_to(State.BOARDED, _Run())


@pytest.mark.parametrize("state", State, ids=lambda each: each.name)
@pytest.mark.parametrize("event", Event, ids=lambda each: each.name)
def test_an_arrival_follows_the_table(state: State, event: Event) -> None:
    run = _Run()
    arrival = _brought_to(state, run)
    arrival.waiting_take = arrival.waiting_take or WaitingTake(Unit(), None, run)
    after = TRANSITIONS[state].get(event)
    if after is None:
        with pytest.raises(RuntimeError, match=f"{state.name} got the event {event.name}"):
            _tell(arrival, event, run)
    else:
        told = _tell(arrival, event, run)
        if event is Event.LOOK:
            assert told is (after is State.LOOKING)
        elif event is Event.BOARD:
            assert (told is not None) is (after is not state)
        elif event is Event.STOP:
            assert told is (after is not State.STOPPED)
    assert arrival.state is (state if after is None else after)
    assert arrival.settled is (arrival.state is State.SETTLED)
    if state in IN_BATCH and event is Event.RESULT:  # It counts if there is no message.
        arrival.nothing()
        assert arrival.result() is False
    elif state is State.SETTLED:
        assert arrival.result() == "taken"
    elif arrival.settled:
        assert arrival.result() == ("taken" if event is Event.ANSWER else False)
    if Event.NOTHING in WAYS[state]:
        assert run.stays == 1, "only the first look begins the wait"


@pytest.mark.parametrize("event", [None, Event.STOP, Event.RESULT])
def test_a_first_look_that_finds_nothing_ends_with_the_reason_if_the_run_is_dead(event: Event | None) -> None:
    run = _Run(DBOSWorkflowCancelledError("w"))
    arrival = _brought_to(State.LOOKING, run)
    if event is not None:
        _tell(arrival, event, run)
    arrival.nothing()
    assert arrival.state is State.SETTLED
    with pytest.raises(DBOSWorkflowCancelledError):
        arrival.result()


@pytest.mark.parametrize("state", [State.LOOKING, State.BOARDED])
def test_a_batch_that_brings_nothing_tells_the_run_that_went_on(state: State) -> None:
    told: list[str] = []
    arrival = _brought_to(state, _Run())
    assert arrival.stop_waiting(lambda: told.append("nothing"))
    arrival.nothing()
    assert arrival.state is State.STOPPED
    assert told == ["nothing"]
    arrival.settle(True)
    assert told == ["nothing"]
