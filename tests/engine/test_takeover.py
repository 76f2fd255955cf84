"""Who goes on with the workflows of the dead, how soon, and how many each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engines import FaultyEngine, die, launched, make_engine, running, wait_until
from tests.support.faulty import Gate
from tidings import DBOS, SetWorkflowID

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def workflow() -> Iterator[None]:
    @DBOS.workflow(name="takeover.receive")
    def receive() -> object:
        return DBOS.recv("topic", None)

    globals()["receive"] = receive
    yield
    del globals()["receive"]


def start(*workflow_ids: str) -> None:
    for each in workflow_ids:
        with SetWorkflowID(each):
            DBOS.start_workflow(globals()["receive"])


def held(engine: FaultyEngine) -> set[str]:
    return set(engine.host.runner.ids())


def test_survivors_share_what_a_dead_process_left(database_url: str) -> None:
    ids = {f"w{number}" for number in range(20)}
    with running(database_url, lease_ms=HOUR_MS) as first, running(database_url, lease_ms=HOUR_MS) as second:
        dying = make_engine(database_url, lease_ms=HOUR_MS)
        with launched(dying):
            start(*ids)
            dying.await_waiting(20)
            die(dying)
        wait_until(lambda: held(first) | held(second) == ids)
        assert not held(first) & held(second)
        # Who looked first took its half. Of the rest the other took at least its half.
        assert min(len(held(first)), len(held(second))) >= 5


def test_nothing_is_left_lying_where_the_other_survivor_cannot_take_its_share(database_url: str) -> None:
    ids = {f"w{number}" for number in range(20)}
    with running(database_url, lease_ms=HOUR_MS) as first, running(database_url, lease_ms=HOUR_MS) as stuck:
        gate = stuck.store.hold("executors")
        gate.await_reached()
        dying = make_engine(database_url, lease_ms=HOUR_MS)
        with launched(dying):
            start(*ids)
            dying.await_waiting(20)
            die(dying)
        wait_until(lambda: held(first) == ids)
        gate.open()


@pytest.mark.direct("must hear at once", only="transaction")
def test_what_is_given_back_goes_on_elsewhere_at_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.engine.ownership.supervisor._LOOK_MS", HOUR_MS)  # Only who is told looks.
    ids = {f"w{number}" for number in range(20)}
    with running(database_url, lease_ms=3 * HOUR_MS) as survivor:
        leaver = make_engine(database_url, lease_ms=3 * HOUR_MS)
        with launched(leaver):
            start(*ids)
            leaver.await_waiting(20)
        wait_until(lambda: held(survivor) == ids)
        assert all(DBOS.get_workflow_status(each).recovery_attempts == 0 for each in ids)  # type: ignore[union-attr]


@pytest.mark.direct("must hear at once", only="transaction")
def test_v2_what_one_process_cannot_continue_goes_on_at_once_in_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has looked before, when the first one still tried."""
    monkeypatch.setattr("tidings.engine.ownership.supervisor._LOOK_MS", HOUR_MS)  # Only who is told looks.
    topics, gate = ["topic", "changed", "topic"], Gate()

    @DBOS.workflow(name="takeover.receive_another")
    def receive_another() -> object:
        topic = topics.pop(0)
        if topic == "changed":
            gate()
        return DBOS.recv(topic, None)

    dying = make_engine(database_url, lease_ms=3 * HOUR_MS)
    with launched(dying):
        with SetWorkflowID("w"):
            DBOS.start_workflow(receive_another)
        dying.await_waiting(1)
        die(dying)
    with running(database_url, lease_ms=3 * HOUR_MS, version="changed"):
        gate.await_reached()
        with running(database_url, lease_ms=3 * HOUR_MS) as able:
            gate.open()
            wait_until(lambda: held(able) == {"w"})


def test_who_was_taken_for_dead_and_lives_on_is_missed_when_it_dies(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.engine.lock_files._is_free", lambda _: False)  # As if on another host.
    with running(database_url, lease_ms=600) as survivor:
        slow = make_engine(database_url, lease_ms=600)
        with launched(slow):
            start("early")
            slow.await_waiting(1)
            before = slow.executor_id
            gate = slow.hold_committer()
            wait_until(lambda: held(survivor) == {"early"})
            gate.open()
            start("late")
            wait_until(lambda: held(slow) == {"late"})
            assert slow.executor_id == before
            die(slow)
        wait_until(lambda: held(survivor) == {"early", "late"})


def test_a_process_that_only_uses_the_database_is_no_survivor(database_url: str) -> None:
    """Else a share would be left for it, and lie until the next look."""
    with running(database_url, lease_ms=HOUR_MS) as survivor:
        client = make_engine(database_url, lease_ms=HOUR_MS)
        client.engine.open("a client", migrate=False)
        try:
            found = survivor.engine.reader.ask(lambda store: store.executors()).result()
            executors = {each.executor_id: each for each in found}
            assert executors[client.executor_id].app_version is None
            assert executors[survivor.executor_id].app_version == "tests"
            assert executors[survivor.executor_id].pid > 0
        finally:
            client.engine.stop()
