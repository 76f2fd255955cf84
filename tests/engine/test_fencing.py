"""A fence that moves: what another process took over is dropped here, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import psycopg
import pytest

from tests.support.clock import ManualClock
from tests.support.engines import VERSION, aside, launched, make_engine, running, wait_until
from tests.support.faulty import PATIENCE_SECONDS, move_fence
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.database.chain import Chain
from tidings.engine.runs.live import LiveRun
from tidings.error import DBOSException
from tidings.model import Unit
from tidings.store import open as open_store
from tidings.store.protocol import Batch, Store


def _writes(name: str) -> Callable[[Batch], bool]:
    """Accept batches in which an operation of this name is recorded."""
    return lambda batch: any(unit.entry is not None and unit.entry.name == name for unit in batch.units)


def test_a_batch_whose_fence_moves_changes_nothing_and_the_claimer_goes_on(database_url: str, other: Store) -> None:
    ran: list[str] = []

    def work(name: str) -> str:
        ran.append(name)
        return name

    @DBOS.workflow(name="fenced")
    def fenced() -> list[str]:
        DBOS.set_event("before", 1)
        first = DBOS.run_step({"name": "first"}, work, "first")
        DBOS.set_event("between", 2)
        second = DBOS.run_step({"name": "second"}, work, "second")
        return [first, second]

    @DBOS.workflow(name="kept")
    def kept() -> str:
        return str(DBOS.recv("go", None))

    with running(database_url) as here:
        over = here.executions_over()
        with SetWorkflowID("kept"):
            handle = DBOS.start_workflow(kept)
        here.await_waiting(1)
        gate = here.store.hold(where=_writes("second"))
        with SetWorkflowID("w"):
            taken = DBOS.start_workflow(fenced)
        gate.await_reached()
        here.host.supervisor.stop()  # It takes up nothing itself.
        [claimed] = move_fence(other, here.executor_id, names=["fenced"], version=VERSION, lease_ms=1)
        assert (claimed.workflow_id, claimed.epoch) == ("w", 2)
        gate.open()
        wait_until(lambda: over == ["w"])

        # Nothing of the held batch is there, and the run that stayed is told nothing of all this.
        assert [entry.name for entry in read_records(database_url).entries_of("w")] == ["first"]
        DBOS.send("kept", "on", "go")
        assert handle.get_result() == "on"

        there = make_engine(database_url)
        with launched(there):  # The claimer's lease has run out: whoever comes next takes over from it.
            assert taken.get_result() == ["first", "second"]
    assert ran == ["first", "second", "second"]
    assert read_records(database_url).workflow("w").epoch == 3


def test_a_process_taken_for_dead_goes_on_as_a_new_one(database_url: str, other: Store) -> None:
    @DBOS.workflow(name="waits")
    def waits() -> str:
        return str(DBOS.recv("go", None))

    with running(database_url) as here:
        over = here.executions_over()
        with SetWorkflowID("lost"):
            DBOS.start_workflow(waits)
        here.await_waiting(1)
        former = here.executor_id
        assert len(move_fence(other, former, names=["waits"], version=VERSION)) == 1
        found = other.refence(former)
        assert found is not None
        other.retire(former, found.fence)  # As it happens to a row that nobody has asked for in a day.
        DBOS.send("lost", "on", "go")  # Finds the fence moved, and the row gone; is written all the same, once.
        wait_until(lambda: over == ["lost"])
        assert here.executor_id != former
        assert [message.body for message in read_records(database_url).messages] == ['"on"']
        with SetWorkflowID("new"):
            handle = DBOS.start_workflow(waits)
        DBOS.send("new", "fresh", "go")
        assert handle.get_result() == "fresh"


def test_what_landed_before_the_process_was_taken_for_dead_is_not_written_again(
    database_url: str, other: Store
) -> None:
    """The answer of a commit is lost, and for so long that others take over before it can be asked for."""

    @DBOS.workflow(name="witness")
    def witness() -> str:
        return str(DBOS.recv("go", None))

    with running(database_url) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(witness)
        here.await_waiting(1)
        here.store.lose(landed=True)
        gate = here.store.hold("reconnect")
        sending = aside(lambda: DBOS.send("w", "once", "note"))
        gate.await_reached()
        move_fence(other, here.executor_id, names=["witness"], version=VERSION)
        gate.open()
        sending.result(timeout=PATIENCE_SECONDS)
    assert [message.body for message in read_records(database_url).messages] == ['"once"']


def test_a_lost_run_writes_nothing_though_its_batch_is_split(database_url: str, other: Store) -> None:
    """The fence moves under a batch that also holds a unit the store cannot keep."""
    begun, proceed, published, finish = (threading.Event() for _ in range(4))

    @DBOS.workflow(name="lost")
    def lost() -> None:
        DBOS.run_step({"name": "begun"}, lambda: None)
        begun.set()
        proceed.wait()
        DBOS.set_event("late", 1)
        published.set()
        finish.wait()

    with running(database_url) as here:
        over = here.executions_over()
        here.store.poison(lambda unit: any(message.topic == "poison" for message in unit.messages))
        with SetWorkflowID("w"):
            DBOS.start_workflow(lost)
        begun.wait()
        held = here.hold_committer()
        proceed.set()
        published.wait()
        here.await_queued(1)
        sending = aside(lambda: DBOS.send("w", 1, "poison"))
        here.await_queued(2)
        gate = here.store.hold(where=lambda batch: len(batch.units) == 2)
        held.open()
        gate.await_reached()
        move_fence(other, here.executor_id, names=["lost"], version=VERSION)
        gate.open()
        with pytest.raises(DBOSException, match="cannot keep"):
            sending.result()
        finish.set()
        wait_until(lambda: over == ["w"])
    assert read_records(database_url).events_of("w") == {}


def test_a_takeover_waits_for_the_batch_in_flight(postgres_url: str) -> None:
    """PostgreSQL, in the midst of a batch: fence checked, not committed. The claim comes after it, or before."""

    @DBOS.workflow(name="flight")
    def flight() -> str:
        return str(DBOS.run_step({"name": "only"}, lambda: "done"))

    @DBOS.workflow(name="parked")
    def parked() -> None:
        DBOS.recv("never", None)

    with running(postgres_url) as here:
        with SetWorkflowID("parked"):
            DBOS.start_workflow(parked)
        here.await_waiting(1)
        store = open_store(postgres_url)
        store.connect()
        with psycopg.connect(postgres_url) as blocker:
            # The end of "parked" waits for this row, after its batch has renewed the executor's.
            blocker.execute("select 1 from tidings.workflows where workflow_id = 'parked' for update")
            cancelling = aside(lambda: DBOS.cancel_workflow("parked"))
            _await_blocked(postgres_url, 1)
            claiming = aside(lambda: move_fence(store, here.executor_id, names=["parked"], version=VERSION))
            _await_blocked(postgres_url, 2)
            blocker.rollback()
        cancelling.result()
        assert claiming.result() == [], "the batch was first, and ended what the claim wanted"
        store.close()
    assert read_records(postgres_url).workflow("parked").status == "CANCELLED"


def _await_blocked(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:

        def blocked() -> int:
            query = (
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
            )
            [(found,)] = connection.execute(query).fetchall()
            return int(found)

        wait_until(lambda: blocked() == count)


def test_a_claim_that_meets_a_moved_fence_is_made_again(database_url: str, other: Store) -> None:
    """A run whose loop was closed is claimed again, though at that moment the fence moves."""

    @DBOS.workflow(name="homeless")
    async def homeless() -> str:
        return str(await DBOS.recv_async("go", None))

    async def start() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(homeless)
        await asyncio.to_thread(here.await_waiting, 1)

    with running(database_url) as here:
        gate = here.store.hold("reclaim")
        asyncio.run(start())
        gate.await_reached()
        move_fence(other, here.executor_id, names=["nobody's"], version=VERSION)
        gate.open()
        DBOS.send("w", "home", "go")
        assert DBOS.get_result("w", timeout_seconds=PATIENCE_SECONDS) == "home"


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("landed", [True, False])
def test_a_claim_whose_answer_is_lost_loses_no_workflow(
    database_url: str, landed: bool, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each that landed has moved the fence, so that the next one finds it moved."""

    @DBOS.workflow(name="orphan")
    def orphan() -> str:
        return str(DBOS.recv("go", None))

    with running(database_url) as first:
        with SetWorkflowID("w"):
            DBOS.start_workflow(orphan)
        first.await_waiting(1)
    second = make_engine(database_url, lease_ms=300)  # What nobody executes is found at the second look.
    second.store.lose("claim", landed=landed, times=times)
    with launched(second):
        DBOS.send("w", "found", "go")
        assert DBOS.get_result("w", timeout_seconds=PATIENCE_SECONDS) == "found"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_what_is_taken_over_between_claim_and_execution_is_not_executed(database_url: str, other: Store) -> None:
    """The fence moves while a claimed run's history is read: its epoch is old before it begins."""
    ran: list[str] = []

    @DBOS.workflow(name="between")
    def between() -> None:
        DBOS.recv("go", None)
        DBOS.run_step({"name": "late"}, lambda: ran.append("late"))

    @DBOS.workflow(name="destination")
    def destination() -> None:
        DBOS.recv("go", None)

    with running(database_url) as first:
        with SetWorkflowID("w"):
            DBOS.start_workflow(between)
        first.await_waiting(1)
        DBOS.send("w", 1, "other")
    second = make_engine(database_url)
    gate = second.store.hold("histories")
    with launched(second):
        over = second.executions_over()
        gate.await_reached()
        with SetWorkflowID("d"):
            DBOS.start_workflow(destination)
        [claimed] = move_fence(other, second.executor_id, names=["between"], version=VERSION, lease_until_ms=2**60)
        assert claimed.epoch == 3
        DBOS.send("d", 1, "note")  # Finds the fence moved; the run is not there yet.
        DBOS.send("w", 1, "go")
        rounds = second.store.calls["executors"]
        gate.open()
        wait_until(lambda: second.store.calls["executors"] > rounds)  # The supervisor is through with the claim.
        assert second.host.runner.live("w") is None
        assert over == ran == []
    records = read_records(database_url)
    assert (records.workflow("w").epoch, records.workflow("w").executor_id) == (3, "claimer")
    assert {entry.state for entry in records.entries_of("w")} == {"OPEN"}


def test_what_a_process_gives_back_another_that_runs_goes_on_with(database_url: str) -> None:
    @DBOS.workflow(name="given back")
    def receive() -> object:
        return DBOS.recv("topic", 3_600)

    with running(database_url, lease_ms=600) as survivor:
        leaver = make_engine(database_url)
        with launched(leaver), SetWorkflowID("w"):
            DBOS.start_workflow(receive)
        wait_until(lambda: survivor.host.runner.live("w") is not None)
        DBOS.send("w", "hello", "topic")
        assert DBOS.get_result("w") == "hello"


@pytest.mark.parametrize("by", ["a program", "a workflow"])
def test_a_start_that_is_late_to_be_executed_gives_way_to_who_took_it_over(
    database_url: str, other: Store, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    ran: list[str] = []

    @DBOS.workflow(name="taken over late")
    def late() -> object:
        DBOS.run_step({"name": "work"}, lambda: ran.append("work"))
        return DBOS.recv("topic", 3_600)

    @DBOS.workflow(name="starter")
    def starter() -> None:
        start()

    def start() -> None:
        with SetWorkflowID("w"):
            DBOS.start_workflow(late)

    with running(database_url) as here:
        runner, may_go_on = here.host.runner, threading.Event()
        begin = runner.begin

        def begin_late(live: LiveRun) -> None:
            if live.run.workflow_id == "w":
                may_go_on.wait()
            begin(live)

        monkeypatch.setattr(runner, "begin", begin_late)
        starting = aside(start if by == "a program" else lambda: DBOS.start_workflow(starter))
        wait_until(lambda: any(each.workflow_id == "w" for each in read_records(database_url).workflows))
        over = here.executions_over()
        here.host.supervisor.stop()  # It takes up nothing itself.
        [claimed] = move_fence(other, here.executor_id, names=["taken over late"], version=VERSION, lease_ms=1)
        assert (claimed.workflow_id, claimed.epoch) == ("w", 2)
        Chain(here.engine.committer).commit(Unit()).result()  # It finds its fence moved, and drops what it has lost.

        there = make_engine(database_url)
        with launched(there):
            wait_until(lambda: ran == ["work"])
            may_go_on.set()
            starting.result(60)
            wait_until(lambda: len(over) == (2 if by == "a workflow" else 1))  # The execution that came late, too.
            assert runner.live("w") is None
            DBOS.send("w", "hello", "topic")
            assert DBOS.get_result("w") == "hello"
    assert ran == ["work"]


def test_a_process_whose_lease_has_run_out_asks_before_it_begins_a_step(database_url: str, other: Store) -> None:
    """It may have stood still, and been taken over: the fence keeps what it writes out, but not what a step does."""
    clock, begins, may_go_on = ManualClock(), threading.Event(), threading.Event()
    ran: list[str] = []

    @DBOS.workflow(name="stale")
    def stale() -> None:
        begins.set()
        may_go_on.wait()
        DBOS.run_step({"name": "late"}, lambda: ran.append("late"))

    with running(database_url, clock=clock) as here:
        with SetWorkflowID("w"):
            DBOS.start_workflow(stale)
        assert begins.wait(20)
        over = here.executions_over()
        gate = here.hold_committer()  # No heartbeat tells it meanwhile.
        clock.advance(10)
        move_fence(other, here.executor_id, names=["stale"], version=VERSION, lease_until_ms=2**60)
        may_go_on.set()
        gate.open()
        wait_until(lambda: over == ["w"])
        assert ran == []


def test_while_its_lease_lasts_a_step_begins_without_asking(database_url: str) -> None:
    clock = ManualClock()

    @DBOS.workflow(name="fresh")
    def fresh() -> None:
        DBOS.run_step({"name": "step"}, lambda: None)

    with running(database_url, clock=clock) as here:
        before = here.store.calls["commit"]
        with SetWorkflowID("w"):
            DBOS.start_workflow(fresh).get_result()
        assert here.store.calls["commit"] - before == 3, "the start, the step, the end"
