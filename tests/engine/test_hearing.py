"""What is heard of other processes, what where nothing is heard, and what where it begins again.

Two engines in one process stand for two processes. An interval of an hour is the wrong path: what takes it is ended by
the watchdog.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from harness.postgres import end_listeners
from tests.support.engines import VERSION, FaultyEngine, aside, launched, make_engine, running, wait_until
from tests.support.faulty import FaultyStore, Moment, Trap, hears_nothing, hears_only_probes, move_fence
from tests.support.records import read_records
from tidings import DBOS, DBOSClient, SetWorkflowID
from tidings import store as stores
from tidings.engine.hooks import Point
from tidings.engine.process import Process as CurrentProcess
from tidings.engine.settings import Connection
from tidings.error import DBOSAwaitedWorkflowCancelledError, DBOSInitializationError
from tidings.store import open as open_store

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

HOUR = 3_600.0
ONLY_HEARD: dict[str, Any] = {"recheck_seconds": HOUR, "polling_interval_seconds": HOUR}


@DBOS.workflow(name="hearing.receive")
def receive() -> Any:
    """Publish what comes."""
    DBOS.set_event("state", DBOS.recv("topic", HOUR))
    return DBOS.recv("topic", HOUR)


@DBOS.workflow(name="hearing.publish")
def publish(what: str) -> None:
    """Publish, when told; and go on, if that may be."""
    _may_publish.wait(60)
    match what:
        case "item":
            DBOS.write_stream("stream", 1)
        case "event":
            DBOS.set_event("key", 1)
        case "closing":
            DBOS.close_stream("stream")
        case "item of a step":
            DBOS.run_step({"name": "write"}, lambda: DBOS.write_stream("stream", 1))
        case "event of a step":
            DBOS.run_step({"name": "set"}, lambda: DBOS.set_event("key", 1))
        case _:
            DBOS.run_step({"name": "close"}, lambda: DBOS.close_stream("stream"))
    DBOS.run_step({"name": "go on"}, lambda: _went_on.append(what))


@DBOS.workflow(name="hearing.publish_async")
async def publish_async(what: str) -> None:
    """The same, awaiting."""

    async def close() -> None:
        await DBOS.close_stream_async("stream")

    async def write() -> None:
        await DBOS.write_stream_async("stream", 1)

    async def set_event() -> None:
        await DBOS.set_event_async("key", 1)

    await asyncio.to_thread(_may_publish.wait, 60)
    act = {"item": write, "event": set_event, "closing": close}[what.removesuffix(" of a step")]
    await (DBOS.run_step_async({"name": "act"}, act) if what.endswith(" of a step") else act())
    await DBOS.run_step_async({"name": "go on"}, _go_on, what)


async def _go_on(what: str) -> None:
    _went_on.append(what)


_may_publish = threading.Event()
_went_on: list[str] = []


@pytest.fixture
def neighbour(database_url: str) -> Iterator[FaultyEngine]:
    """Another process, launched first."""
    faulty = make_engine(database_url, **ONLY_HEARD)
    faulty.open()
    faulty.host.recover()
    wait_until(lambda: faulty.engine.hearing.is_proven)
    yield faulty
    faulty.stop()


def start(workflow_id: str) -> Any:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(receive)


def talk(here: FaultyEngine, neighbour: FaultyEngine) -> None:
    """Run a workflow in the neighbour, to which only this process talks, and wait here for all it does."""
    with launched_beside(neighbour):
        start("w")
        start("cancelled")
        neighbour.await_waiting(2)
    event = aside(lambda: DBOS.get_event("w", "state", HOUR))
    result = aside(lambda: DBOS.get_result("w"))
    cancelled = aside(lambda: DBOS.get_result("cancelled"))
    here.await_waiting(3)
    DBOS.send("w", "hello", "topic")
    assert event.result(60) == "hello"
    DBOS.send("w", "bye", "topic")
    assert result.result(60) == "bye"
    DBOS.cancel_workflow("cancelled")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        cancelled.result(60)
    wait_until(lambda: not neighbour.engine.has_runs())


@contextmanager
def launched_beside(faulty: FaultyEngine) -> Iterator[None]:
    """Make an engine that runs already the one that `DBOS` uses, for a block."""
    former, CurrentProcess.host = CurrentProcess.host, faulty.host
    try:
        yield
    finally:
        CurrentProcess.host = former


def test_everything_is_heard_at_once(database_url: str, neighbour: FaultyEngine) -> None:
    with running(database_url, **ONLY_HEARD) as here:
        talk(here, neighbour)


def test_a_cancellation_is_heard_that_comes_when_a_workflow_is_recorded_and_not_yet_executed(
    database_url: str, neighbour: FaultyEngine
) -> None:
    with running(database_url, **ONLY_HEARD) as here:
        over = here.executions_over()
        recorded = here.store.hold(
            moment=Moment.AFTER, where=lambda batch: any(unit.start is not None for unit in batch.units)
        )
        starting = aside(partial(start, "w"))
        recorded.await_reached()
        looks = here.store.calls["statuses"]
        with launched_beside(neighbour):
            DBOS.cancel_workflow("w")
        wait_until(lambda: here.store.calls["statuses"] > looks)
        recorded.open()
        starting.result(60)
        wait_until(lambda: over == ["w"])


@pytest.mark.parametrize("workflow", [publish, publish_async], ids=["blocking", "async"])
@pytest.mark.parametrize("what", ["item", "event", "closing", "item of a step", "event of a step", "closing of a step"])
def test_nothing_is_published_behind_the_end_that_a_cancellation_gave(
    database_url: str, neighbour: FaultyEngine, caplog: pytest.LogCaptureFixture, what: str, workflow: Any
) -> None:
    """A reader has seen that there is nothing more. The run that has not heard of it learns it from what is refused."""
    _may_publish.clear()
    _went_on.clear()
    neighbour.store.is_audible = hears_only_probes
    over = neighbour.executions_over()
    with launched_beside(neighbour), SetWorkflowID("w"):
        DBOS.start_workflow(workflow, what)
    with running(database_url, **ONLY_HEARD) as here:
        DBOS.cancel_workflow("w")
        assert list(DBOS.read_stream("w", "stream")) == []
        assert DBOS.get_event("w", "key", HOUR) is None
        with launched_beside(neighbour):
            _may_publish.set()
            wait_until(lambda: over == ["w"])
        assert list(DBOS.read_stream("w", "stream")) == []
        assert DBOS.get_all_events("w") == {}
        [history] = here.store.histories(["w"])
        assert history.closed_streams == ()
        assert here.store.workflows(["w"])["w"].error is None
    assert _went_on == []
    assert read_records(database_url).workflow("w").status == "CANCELLED"
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_with_every_wake_up_lost_everything_arrives_all_the_same(
    database_url: str, neighbour: FaultyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour.store.is_audible = hears_only_probes
    monkeypatch.setattr("tidings.engine.waiting.waiters.Waiters.take_named", lambda *_: [])
    seldom: dict[str, Any] = {"recheck_seconds": 0.05, "polling_interval_seconds": HOUR}
    neighbour.engine.hearing._recheck_seconds = 0.05
    neighbour.engine.hearing._recheck_at = 0
    neighbour.engine.hearing._interrupt()
    with running(database_url, **seldom) as here:
        here.store.is_audible = hears_only_probes
        # Even those of one's own process.
        for each in (here, neighbour):
            monkeypatch.setattr(each.engine.waiters, "take", _take_only_for_rechecks(each))
        talk(here, neighbour)


def _take_only_for_rechecks(faulty: FaultyEngine) -> Any:
    take = faulty.engine.waiters.take
    return lambda keys: take(keys) if threading.current_thread().name == "tidings-listener" else []


@pytest.mark.long
def test_where_nothing_is_heard_who_waits_polls_and_the_log_says_so_once(
    database_url: str, neighbour: FaultyEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def deafen(store: FaultyStore) -> None:
        store.is_audible = hears_nothing

    deaf: dict[str, Any] = {"recheck_seconds": HOUR, "polling_interval_seconds": 0.01, "probe_patience_seconds": 0.01}
    with running(database_url, prepare=deafen, **deaf) as here:
        wait_until(lambda: here.store.calls["listen"] > 1)  # It was found deaf, and listened anew.
        # Of these two the neighbour hears: only what is done here has to be.
        talk(here, neighbour)
        assert not here.engine.hearing.is_proven
        assert [each.levelname for each in caplog.records if "do not arrive" in each.message] == ["WARNING"]
        [said] = [each.message for each in caplog.records if "do not arrive" in each.message]
        assert ("PgBouncer" in said) == database_url.startswith("postgres")
        here.store.is_audible = lambda name: True
        wait_until(lambda: len([each for each in caplog.records if "arrive again" in each.message]) == 1)


def test_listening_can_be_switched_off(
    database_url: str, neighbour: FaultyEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tidings")
    off: dict[str, Any] = {"use_listen_notify": False, "polling_interval_seconds": 0.01}
    with running(database_url, prepare=lambda store: None, **off) as here:
        talk(here, neighbour)
        assert here.store.calls["listen"] == 0
    assert [each.levelname for each in caplog.records if "switched off" in each.message] == ["INFO"]


def test_who_waits_looks_as_soon_as_a_lost_listener_is_back(database_url: str, neighbour: FaultyEngine) -> None:
    with running(database_url, **ONLY_HEARD) as here:
        with launched_beside(neighbour):
            start("w")
            neighbour.await_waiting(1)
        event = aside(lambda: DBOS.get_event("w", "state", HOUR))
        here.await_waiting(1)
        gate = here.store.hold("listen")
        here.store.lose("hear")
        here.engine.hearing._interrupt()
        gate.await_reached()
        with launched_beside(neighbour):
            DBOS.send("w", "unheard", "topic")
            assert DBOS.get_event("w", "state", 60) == "unheard"
        assert not event.done()
        gate.open()
        assert event.result(60) == "unheard"


def test_postgres_ends_the_listening_connection(postgres_url: str) -> None:
    with running(postgres_url, **ONLY_HEARD) as here:
        proven: list[bool] = []
        here.engine.hooks.set(Point.HEARS, proven.append)
        event = aside(lambda: DBOS.get_event("w", "state", HOUR))
        here.await_waiting(1)
        end_listeners(postgres_url)
        wait_until(lambda: proven == [False, True])
        with launched(make_engine(postgres_url)) as there:
            start("w")
            there.await_waiting(1)
            DBOS.send("w", "heard", "topic")
            assert event.result(60) == "heard"


def test_who_waits_polls_while_the_listener_cannot_connect(database_url: str, neighbour: FaultyEngine) -> None:
    with running(database_url, recheck_seconds=HOUR, polling_interval_seconds=0.01) as here:
        here.store.lose("listen", times=None)
        here.store.lose("hear")
        here.engine.hearing._interrupt()
        talk(here, neighbour)
        here.store.traps.clear()
        wait_until(lambda: here.engine.hearing.is_proven)


def test_a_process_that_goes_on_as_a_new_executor_knows_its_own_names(database_url: str) -> None:
    other = open_store(database_url)
    other.migrate()
    other.connect()
    with running(database_url, **ONLY_HEARD) as here:
        former = here.executor_id
        move_fence(other, former, names=[], version=VERSION)
        found = other.refence(former)
        assert found is not None
        other.retire(former, found.fence)  # As it happens to a row that nobody has asked for in a day.
        start("w")
        wait_until(lambda: here.executor_id != former)
        wait_until(lambda: here.engine.hearing._listening_as == here.executor_id and here.engine.hearing.is_proven)
    other.close()


def test_a_late_hint_of_a_cancellation_stops_no_run_that_goes_on(database_url: str, neighbour: FaultyEngine) -> None:
    with running(database_url, **ONLY_HEARD) as here:
        start("w")
        here.await_waiting(1)
        here.engine.stop_cancelled(["w", "nobody"])
        here.engine.stop_cancelled()
        DBOS.send("w", 1, "topic")
        DBOS.send("w", "lives", "topic")
        assert DBOS.get_result("w") == "lives"


def test_a_listening_thread_outlives_a_defect(database_url: str, neighbour: FaultyEngine) -> None:
    def fail() -> None:
        raise ValueError("a defect")

    with running(database_url, recheck_seconds=HOUR, polling_interval_seconds=0.01) as here:
        here.store.set(Trap(fail, on="hear"))
        here.engine.hearing._interrupt()
        wait_until(lambda: not here.engine.hearing.is_proven)
        talk(here, neighbour)


def test_stopping_does_not_wait_for_a_listener_that_connects(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.engine.database.hearing._STOP_SECONDS", 0.01)
    with running(database_url, **ONLY_HEARD) as here:
        gate = here.store.hold("listen")
        here.store.lose("hear")
        here.engine.hearing._interrupt()
        gate.await_reached()
        here.stop()
        gate.open()
        here.engine.hearing._thread.join()
        assert here.engine.hearing._listener is None


# --- a client, which has an engine without a host -------------------------------------------------------


@pytest.fixture
def client(database_url: str, neighbour: FaultyEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[DBOSClient]:
    """A client, on a store that may fail. `DBOS` is the neighbour."""
    open_real = stores.open
    monkeypatch.setattr(stores, "open", lambda *arguments: FaultyStore(open_real(*arguments)))
    monkeypatch.setattr("tidings.api.client.Connection", partial(Connection, **ONLY_HEARD))
    with DBOSClient(system_database_url=database_url) as client, launched_beside(neighbour):
        wait_until(lambda: client._engine.hearing.is_proven)
        yield client


def store_of(client: DBOSClient) -> FaultyStore:
    """Return the client's store."""
    assert isinstance(client._engine.store, FaultyStore)
    return client._engine.store


def talk_as(client: DBOSClient, neighbour: FaultyEngine) -> None:
    """Run workflows in the neighbour, to which only the client talks, and wait in the client for all they do."""
    start("w")
    start("cancelled")
    neighbour.await_waiting(2)
    event = aside(lambda: client.get_event("w", "state", HOUR))
    result = aside(lambda: client.get_result("w"))
    cancelled = aside(lambda: client.get_result("cancelled"))
    wait_until(lambda: len(client._port.chain._waits) == 3)
    client.send("w", "hello", "topic")
    assert event.result(60) == "hello"
    client.send("w", "bye", "topic")
    assert result.result(60) == "bye"
    client.cancel_workflow("cancelled")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        cancelled.result(60)
    wait_until(lambda: not neighbour.engine.has_runs())


def test_a_client_hears_everything_at_once(client: DBOSClient, neighbour: FaultyEngine) -> None:
    talk_as(client, neighbour)


def test_with_every_wake_up_lost_everything_arrives_at_a_client_all_the_same(
    client: DBOSClient, neighbour: FaultyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.engine.waiting.waiters.Waiters.take_named", lambda *_: [])
    for hearing in (client._engine.hearing, neighbour.engine.hearing):
        hearing._recheck_seconds = 0.05
        hearing._recheck_at = 0
        hearing._interrupt()
    for each in (store_of(client), neighbour.store):
        each.is_audible = hears_only_probes
    talk_as(client, neighbour)


def test_a_client_looks_as_soon_as_its_lost_listener_is_back(client: DBOSClient, neighbour: FaultyEngine) -> None:
    start("w")
    neighbour.await_waiting(1)
    event = aside(lambda: client.get_event("w", "state", HOUR))
    wait_until(lambda: len(client._port.chain._waits) == 1)
    gate = store_of(client).hold("listen")
    store_of(client).lose("hear")
    client._engine.hearing._interrupt()
    gate.await_reached()
    DBOS.send("w", "unheard", "topic")
    assert DBOS.get_event("w", "state", 60) == "unheard"
    assert not event.done()
    gate.open()
    assert event.result(60) == "unheard"


def test_postgres_ends_the_listening_connection_of_a_client(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's defect 2."""
    monkeypatch.setattr("tidings.api.client.Connection", partial(Connection, **ONLY_HEARD))
    with (
        launched(make_engine(postgres_url, **ONLY_HEARD)) as there,
        DBOSClient(system_database_url=postgres_url) as client,
    ):
        wait_until(lambda: client._engine.hearing.is_proven)
        proven: list[bool] = []
        client._engine.hooks.set(Point.HEARS, proven.append)
        event = aside(lambda: client.get_event("w", "state", HOUR))
        wait_until(lambda: len(client._port.chain._waits) == 1)
        end_listeners(postgres_url)
        wait_until(lambda: proven == [False, True])
        start("w")
        there.await_waiting(1)
        DBOS.send("w", "heard", "topic")
        assert event.result(60) == "heard"


def test_a_client_hears_on_as_another_executor(client: DBOSClient, database_url: str, neighbour: FaultyEngine) -> None:
    """What a host leaves behind is given back under a new name; who waits must not go deaf by that."""
    start("w")
    neighbour.await_waiting(1)
    event = aside(lambda: client.get_event("w", "state", HOUR))
    wait_until(lambda: len(client._port.chain._waits) == 1)
    former = client._engine.committer.executor.executor_id
    client._engine.discharge()
    assert client._engine.committer.executor.executor_id != former
    DBOS.send("w", "heard", "topic")
    assert event.result(60) == "heard"


def test_a_launch_that_cannot_listen_fails(database_url: str) -> None:
    faulty = make_engine(database_url)
    faulty.store.lose("listen")
    with pytest.raises(DBOSInitializationError, match="did not answer"):
        faulty.open()
