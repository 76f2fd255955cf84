"""Messages that were seen ahead, received by deferred units: what may go wrong before those are durable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.engines import VERSION, FaultyEngine, launched, make_engine, running, wait_until
from tests.support.faulty import move_fence
from tests.support.records import read_records
from tidings import DBOS, SendMessage, SetWorkflowID
from tidings.error import DBOSException
from tidings.store.protocol import Batch, Store

FOREVER = 3_600.0

COUNT = 30


@pytest.fixture(params=[True, False], ids=["async", "blocking"])
def is_async(request: pytest.FixtureRequest) -> bool:
    """Whether the workflow that drains is async."""
    chosen: bool = request.param
    return chosen


def _takes_seen(batch: Batch) -> bool:
    return any(unit.take_seen is not None for unit in batch.units)


def _looks_ahead(batch: Batch) -> bool:
    return any(unit.take is not None and unit.take.ahead for unit in batch.units)


def _start_drainer(is_async: bool, given: list[list[int]]) -> Any:
    """Start a workflow that drains `COUNT` messages, which wait; `given` grows by what each execution was given."""

    @DBOS.workflow(name="blocking drainer")
    def drain() -> list[int]:
        received: list[int] = []
        given.append(received)
        DBOS.recv("go", FOREVER)
        while len(received) < COUNT:
            received.append(DBOS.recv("inbox", FOREVER))
        return received

    @DBOS.workflow(name="async drainer")
    async def drain_async() -> list[int]:
        received: list[int] = []
        given.append(received)
        await DBOS.recv_async("go", FOREVER)
        while len(received) < COUNT:
            received.append(await DBOS.recv_async("inbox", FOREVER))
        return received

    with SetWorkflowID("w"):
        handle: Any = DBOS.start_workflow(drain_async) if is_async else DBOS.start_workflow(drain)
    DBOS.send_bulk([SendMessage("w", number, "inbox") for number in range(COUNT)])
    return handle


def _places(database_url: str) -> list[int | None]:
    """By which operation each message was read, in their order."""
    messages = [each for each in read_records(database_url).messages if each.topic == "inbox"]
    return [each.read_by_position for each in messages]


def test_a_run_that_was_taken_over_while_it_drains_takes_nothing_more(
    database_url: str, other: Store, is_async: bool
) -> None:
    given: list[list[int]] = []
    with running(database_url) as here:
        over = here.executions_over()
        handle = _start_drainer(is_async, given)
        gate = here.store.hold(where=_takes_seen)
        DBOS.send("w", None, "go")
        gate.await_reached()
        names = ["async drainer", "blocking drainer"]
        [claimed] = move_fence(other, here.executor_id, names=names, version=VERSION, lease_ms=100)
        read = [place for place in _places(database_url) if place is not None]
        gate.open()
        wait_until(lambda: over == ["w"])
        assert [place for place in _places(database_url) if place is not None] == read, "nothing of the held batch"
        with launched(make_engine(database_url)):
            assert handle.get_result() == list(range(COUNT))
    assert claimed.workflow_id == "w"
    assert [each == list(range(len(each))) for each in given] == [True, True]
    assert _places(database_url) == list(range(2, COUNT + 2)), "each by an operation of its own, in order"


@pytest.mark.parametrize("landed", [True, False, None])
def test_a_connection_lost_while_a_mailbox_is_drained_loses_nothing(
    database_url: str, is_async: bool, landed: bool | None
) -> None:
    """At each batch that looks ahead or takes what was seen. An answer that is recalled tells of nothing ahead."""
    lost: set[int] = set()

    def is_first_try(batch: Batch) -> bool:
        is_first = (_takes_seen(batch) or _looks_ahead(batch)) and batch.number not in lost
        lost.add(batch.number)
        return is_first

    with running(database_url) as here:
        handle = _start_drainer(is_async, [])
        trap = here.store.lose(landed=landed, where=is_first_try, times=None)
        DBOS.send("w", None, "go")
        assert handle.get_result() == list(range(COUNT))
        assert trap.sprung >= 2
    assert _places(database_url) == list(range(2, COUNT + 2))


def test_a_message_that_was_seen_and_cannot_be_taken_fails_the_run_and_what_is_behind_it(
    database_url: str, is_async: bool
) -> None:
    """A defect, if it ever happened: it ends as any unit that cannot be stored, and is not passed over."""

    def steal(here: FaultyEngine) -> int:
        """Read the eighth message past the run."""
        gate = here.store.hold(where=_takes_seen)
        DBOS.send("w", None, "go")
        gate.await_reached()
        eighth = [each for each in read_records(database_url).messages if each.topic == "inbox"][7]
        assert eighth.read_by_branch is None
        is_eighth = eighth.seq
        here.store.poison(lambda unit: unit.take_seen == is_eighth)
        gate.open()
        return is_eighth

    with running(database_url) as here:
        handle = _start_drainer(is_async, [])
        seq = steal(here)
        with pytest.raises(DBOSException, match="the store cannot keep what workflow 'w' wrote"):
            handle.get_result()
        taken = [unit.take_seen for batch in here.store.batches for unit in batch.units if unit.take_seen is not None]
        assert max(taken) < seq
    assert _places(database_url) == [*range(2, 9), *[None] * (COUNT - 7)]


@pytest.mark.parametrize("waits_for", ["a message", "a time"])
def test_a_run_that_waits_keeps_nothing_of_what_it_saw(database_url: str, is_async: bool, waits_for: str) -> None:
    @DBOS.workflow(name="blocking waiter")
    def waiter() -> list[int]:
        DBOS.recv("go", FOREVER)
        received = [DBOS.recv("inbox", 0) for _ in range(5)]
        DBOS.recv("other", FOREVER) if waits_for == "a message" else DBOS.sleep(FOREVER)
        return received

    @DBOS.workflow(name="async waiter")
    async def waiter_async() -> list[int]:
        await DBOS.recv_async("go", FOREVER)
        received = [await DBOS.recv_async("inbox", 0) for _ in range(5)]
        await (DBOS.recv_async("other", FOREVER) if waits_for == "a message" else DBOS.sleep_async(FOREVER))
        return received

    with running(database_url) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(waiter_async) if is_async else DBOS.start_workflow(waiter)
        DBOS.send_bulk([SendMessage("w", number, "inbox") for number in range(COUNT)])
        DBOS.send("w", None, "go")
        wait_until(lambda: _places(database_url).count(None) == COUNT - 5)
        here.await_waiting(1)
        live = here.host.runner.live("w")
        assert live is not None
        assert live.run.ahead._topics is None
    assert _places(database_url)[:6] == [2, 3, 4, 5, 6, None]


def test_messages_that_came_first_are_not_overtaken_by_what_was_seen_before_a_branch(database_url: str) -> None:
    """A branch opens while a look ahead is answered: it may take what that saw, so that is forgotten."""

    @DBOS.workflow(name="branches")
    async def branches() -> list[int]:
        await DBOS.recv_async("go", FOREVER)
        received = [await DBOS.recv_async("inbox", FOREVER) for _ in range(2)]
        asking = asyncio.ensure_future(_receive_later(received))
        received.append(await DBOS.recv_async("inbox", FOREVER))
        while len(received) < COUNT:
            received.append(await DBOS.recv_async("inbox", FOREVER))
        await asking
        return received

    async def _receive_later(received: list[int]) -> None:
        received.append(await DBOS.recv_async("inbox", FOREVER))

    with running(database_url):
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(branches)
        DBOS.send_bulk([SendMessage("w", number, "inbox") for number in range(COUNT + 1)])
        DBOS.send("w", None, "go")
        assert sorted(handle.get_result()) == list(range(COUNT))
