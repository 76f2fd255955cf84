"""One engine for all who use a database: `DBOS` comes and goes, and so do clients, in any order.

Leases last an hour here: what is claimed within the time of a test was given back, or its owner was seen dead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import aside, running, wait_until
from tests.support.faulty import FaultyStore, Gate, Moment
from tests.support.records import WorkflowRow, read_records
from tests.support.rows import Rows
from tests.support.visitor import HOUR, ONLY_HEARD
from tidings import DBOS, DBOSClient, DBOSConfig, SetWorkflowID
from tidings import store as stores
from tidings.core.operations.results import end_key
from tidings.engine import clients, sharing
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.ownership.supervisor import Supervisor
from tidings.engine.process import Process
from tidings.engine.settings import Connection
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.store.protocol import Batch

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

VERSION = "tests"
LEASE: dict[str, Any] = {"lease_ms": 3_600_000}
PARTS = {f"tidings-{name}" for name in ("committer", "reader", "listener", "timers", "supervisor")}

ran: list[str | None] = []


@DBOS.workflow(name="sharing.wait")
def wait() -> Any:
    """Return what comes."""
    message = DBOS.recv("go", HOUR)
    ran.append(DBOS.workflow_id)
    return message


@DBOS.workflow(name="sharing.parent")
def parent() -> Any:
    """Start a child when something comes, and return what the child returns."""
    DBOS.recv("start", HOUR)
    with SetWorkflowID("child"):
        return DBOS.start_workflow(wait).get_result()


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Faulty stores, long leases; and nobody is left at the end."""
    if "database_url" in request.fixturenames:
        request.getfixturevalue("database_url")  # Which is there until the end, then.
    real_open = stores.open
    monkeypatch.setattr(stores, "open", lambda *arguments: FaultyStore(real_open(*arguments)))
    for module in ("client", "config"):
        monkeypatch.setattr(f"tidings.api.{module}.Connection", partial(Connection, **LEASE, **ONLY_HEARD))
    monkeypatch.setattr("tidings.api.config._DEFAULT_POLLING_SECONDS", HOUR)
    ran.clear()
    yield
    DBOS.destroy()
    for client in list(clients._open):
        client.close()
    assert not sharing._users
    assert not sharing._shared
    wait_until(lambda: not PARTS & {thread.name for thread in threading.enumerate()})


def launch(url: str, **config: Any) -> Engine:
    """Launch `DBOS`, and return its engine."""
    configured: DBOSConfig = {"name": "tests", "system_database_url": url, "application_version": VERSION, **config}  # type: ignore[typeddict-item]
    DBOS(config=configured)
    DBOS.launch()
    return engine()


def engine() -> Engine:
    """Return the engine that `DBOS` uses."""
    assert Process.host is not None
    return Process.host.engine


def faulty(each: Engine) -> FaultyStore:
    assert isinstance(each.store, FaultyStore)
    return each.store


def make_client(url: str, **options: Any) -> DBOSClient:
    return DBOSClient(system_database_url=url, **options)


def start(workflow_id: str, workflow: Callable[[], Any] = wait) -> Any:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(workflow)


def await_waits(each: Engine, *keys: tuple[str | None, ...]) -> None:
    """Wait until somebody waits for each of these."""
    wait_until(lambda: all(key in each.waiters._arrivals for key in keys))


def record(url: str, workflow_id: str) -> WorkflowRow:
    return read_records(url).workflow(workflow_id)


def finishes_elsewhere(url: str, *workflow_ids: str) -> None:
    """Let another process, which begins now, take these over at once and end them."""
    with running(url, **LEASE, **ONLY_HEARD) as there:
        await_waits(there.engine, *[("message", each, "go") for each in workflow_ids])
        for each in workflow_ids:
            DBOS.send(each, f"{each} elsewhere", "go")
            assert DBOS.get_result(each) == f"{each} elsewhere"


# --- coming and going -----------------------------------------------------------------------------------


@pytest.mark.parametrize("comes_first", ["client", "DBOS"])
@pytest.mark.parametrize("goes_first", ["client", "DBOS"])
def test_a_client_and_dbos_share_an_engine_in_any_order(database_url: str, comes_first: str, goes_first: str) -> None:
    if comes_first == "client":
        launch(database_url)
        DBOS.destroy()  # For a client there must be tables.
        client = make_client(database_url)
        assert client._engine is launch(database_url)
    else:
        launch(database_url)
        client = make_client(database_url)
    shared = client._engine
    assert shared is engine()
    assert len(Rows(database_url).run("select * from {executors}")) == 1
    start("w")
    client.send("w", "hello", "go")
    assert client.get_result("w") == DBOS.get_result("w") == "hello"
    start("left")
    if goes_first == "client":
        client.destroy()
        DBOS.send("left", "alone", "go")
        assert DBOS.get_result("left") == "alone"
        DBOS.destroy()
    else:
        DBOS.destroy()
        with pytest.raises(DBOSShutdownError, match="not running in this process"):
            DBOS.send("left", 1)
        client.send("left", "alone", "go")
        assert client.get_workflow_status("left").status == "PENDING"  # type: ignore[union-attr]
        client.destroy()
    wait_until(lambda: not PARTS & {thread.name for thread in threading.enumerate()})
    assert Rows(database_url).run("select * from {executors}") == []


def test_the_executor_is_called_as_who_runs_workflows(database_url: str) -> None:
    launch(database_url)
    DBOS.destroy()
    labels = partial(Rows(database_url).run, "select label from {executors}")
    client = make_client(database_url)
    assert labels() == [("client",)]
    launch(database_url, executor_id="blue")
    assert labels() == [("blue",)]
    DBOS.destroy()
    assert labels() == [("blue",)]
    launch(database_url, executor_id="green")
    assert labels() == [("green",)]
    client.destroy()
    assert labels() == [("green",)]
    DBOS.destroy()
    assert labels() == []


def test_clients_share_with_each_other_and_with_nobody_who_wants_something_else(
    database_url: str, tmp_path: Path
) -> None:
    elsewhere = {"system_database_url": f"sqlite:///{tmp_path}/elsewhere.sqlite"}
    if database_url.startswith("postgres"):
        elsewhere = {"system_database_url": database_url, "dbos_system_schema": "elsewhere"}
    launch(database_url, **elsewhere)
    others = DBOSClient(**elsewhere)  # type: ignore[arg-type]
    assert others._engine is engine()
    DBOS.destroy()
    launch(database_url, use_listen_notify=False)
    first, second = make_client(database_url), make_client(database_url)
    assert first._engine is second._engine
    assert len({first._engine, others._engine, engine()}) == 3
    start("w")
    first.send("w", "heard by looking", "go")
    engine().hearing._poll_seconds = 0.01
    engine().hearing._recheck_at = 0
    engine().hearing._interrupt()
    assert DBOS.get_result("w") == "heard by looking"
    first.destroy()
    assert second.get_result("w") == "heard by looking"


def test_who_comes_at_once_shares_one_engine(database_url: str) -> None:
    launch(database_url)
    DBOS.destroy()
    together = threading.Barrier(8)

    def come() -> DBOSClient:
        together.wait()
        return make_client(database_url)

    coming = [aside(come) for _ in range(8)]
    assert len({each.result(20)._engine for each in coming}) == 1


def test_an_opening_holds_up_only_who_wants_the_same(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_url = f"sqlite:///{tmp_path}/slow.sqlite"
    launch(slow_url)
    DBOS.destroy()
    launch(database_url)
    client = make_client(database_url)
    gate, open_faulty = Gate(), stores.open

    def open_slowly(url: str, *schema: str) -> Any:
        store = open_faulty(url, *schema)
        if url == slow_url:
            assert isinstance(store, FaultyStore)
            store.set_gate(gate, on="enlist")
        return store

    monkeypatch.setattr(stores, "open", open_slowly)
    opening = aside(lambda: make_client(slow_url))
    gate.await_reached()
    make_client(database_url).check_connection()
    client.destroy()
    DBOS.destroy()
    assert not opening.done()
    gate.open()
    opening.result(20).check_connection()


@pytest.mark.unmigrated
def test_an_opening_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DBOSInitializationError):
        make_client(database_url)
    launch(database_url)
    client = make_client(database_url)
    DBOS.destroy()

    def fail(*_: object) -> None:
        raise ValueError("a defect")

    for broken in ("tidings.engine.runs.registry.Registry.version", "tidings.engine.engine.Engine.admit"):
        with monkeypatch.context() as patched:
            patched.setattr(broken, fail)
            with pytest.raises(ValueError, match="a defect"):
                DBOS(config={"name": "tests", "system_database_url": database_url}).launch()
        assert Process.host is None
        assert list(sharing._users.values()) == [1]
        assert len(client._engine._ports) == 1
    client.check_connection()


# --- what DBOS leaves behind ----------------------------------------------------------------------------


def test_destroy_gives_the_workflows_back_though_a_client_goes_on(database_url: str) -> None:
    shared = launch(database_url)
    client = make_client(database_url)
    for name in ("a", "b"):
        start(name)
    await_waits(shared, ("message", "a", "go"), ("message", "b", "go"))
    awaited = aside(lambda: client.get_result("a"))
    await_waits(shared, ("end", "a"))
    former = shared.committer.executor.executor_id
    DBOS.destroy()
    assert (record(database_url, "a").executor_id, record(database_url, "b").executor_id) == (None, None)
    assert Rows(database_url).run("select executor_id from {executors}") != [(former,)]
    assert not shared.has_runs()
    finishes_elsewhere(database_url, "a", "b")
    assert awaited.result(60) == "a elsewhere"
    assert ran == ["a", "b"]


def test_destroy_returns_when_they_are_given_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = launch(database_url)
    make_client(database_url)
    start("w")
    owners: list[str | None] = []
    monkeypatch.setattr(Host, "join", lambda _: owners.append(record(database_url, "w").executor_id))
    errands: list[Ticket] = []
    call = shared.committer.call

    def note_call(function: Any) -> Ticket:
        errands.append(call(function))
        return errands[-1]

    monkeypatch.setattr(shared.committer, "call", note_call)
    gate = faulty(shared).hold("retire")
    destroying = aside(DBOS.destroy)
    gate.await_reached()
    wait_until(lambda: bool(owners or (errands and errands[-1]._waiters)))  # It goes on, or waits for the errand.
    gate.open()
    destroying.result(20)
    assert owners == [None]


def test_a_relaunch_on_the_same_engine_goes_on_with_them(database_url: str) -> None:
    shared = launch(database_url)
    client = make_client(database_url)
    start("w")
    await_waits(shared, ("message", "w", "go"))
    for epoch in (2, 3):
        DBOS.destroy()
        assert launch(database_url) is shared
        wait_until(lambda epoch=epoch: record(database_url, "w").epoch == epoch)  # type: ignore[misc]
        await_waits(shared, ("message", "w", "go"))
    client.send("w", "hello", "go")
    assert client.get_result("w") == "hello"
    assert ran == ["w"]


def test_what_could_not_go_on_in_one_host_is_no_error_once_that_is_gone(database_url: str) -> None:
    shared = launch(database_url)
    client = make_client(database_url)
    start("w")
    shared.waiters.fail(end_key("w"), LookupError("its code has changed here"))
    with pytest.raises(LookupError):
        client.get_result("w")
    DBOS.destroy()
    awaited = aside(lambda: client.get_result("w"))
    finishes_elsewhere(database_url, "w")
    assert awaited.result(60) == "w elsewhere"


def _starts(workflow_id: str | None = None) -> Callable[[Batch], bool]:
    """Accept batches in which a workflow starts."""
    return lambda batch: any(
        each.start is not None and workflow_id in (None, each.start.workflow_id) for each in batch.units
    )


def _destroy_behind(shared: Engine, gate: Gate) -> Future[None]:
    """Destroy `DBOS` while the committer stands at the gate, up to where it waits for the committer."""
    gate.await_reached()
    destroying = aside(DBOS.destroy)
    wait_until(lambda: len(shared.committer._inbox._items) > 0 and not shared.has_runs())
    return destroying


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("by", ["a chosen id", "a random id", "a child", "a step"])
def test_a_start_that_races_with_destroy_leaves_nothing_owned_and_executes_nothing(
    database_url: str, moment: Moment, by: str
) -> None:
    """Caught while the batch with the start is written, or is durable and not yet told."""

    @DBOS.workflow(name="sharing.starter")
    def starter() -> None:
        DBOS.run_step({"name": "start"}, lambda: start("w").workflow_id)

    shared = launch(database_url)
    client = make_client(database_url)
    if by == "a child":
        start("parent", parent)
        await_waits(shared, ("message", "parent", "start"))
    gate = faulty(shared).hold(moment=moment, where=_starts({"a child": "child", "a random id": None}.get(by, "w")))
    starting: Future[Any]
    match by:
        case "a child":
            starting = aside(lambda: client.send("parent", 1, "start"))
        case "a random id":
            starting = aside(lambda: DBOS.start_workflow(wait))
        case "a chosen id":
            starting = aside(lambda: start("w"))
        case _:
            starting = aside(lambda: start("starter", starter))
    destroying = _destroy_behind(shared, gate)
    gate.open()
    destroying.result(20)
    assert starting.exception(20) is None or isinstance(starting.exception(), DBOSShutdownError)
    # Whatever was recorded is nobody's, and stays so: behind this there is nothing that could change it.
    client.check_connection()
    left = read_records(database_url).workflows
    assert {(each.status, each.executor_id) for each in left} == {("PENDING", None)}
    assert ran == []
    waiting = [each.workflow_id for each in left if each.name == "sharing.wait"]
    assert len(waiting) == 1
    finishes_elsewhere(database_url, *waiting)
    assert ran == waiting


@pytest.mark.parametrize("before", ["plan", "begin"])
@pytest.mark.parametrize("by", ["a chosen id", "a random id", "a child"])
def test_a_start_that_goes_on_after_destroy_executes_nothing(
    database_url: str, by: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught right before what is to be executed is made ready, and right before it begins."""
    gate = Gate()
    shared = launch(database_url)
    client = make_client(database_url)
    if by == "a child":
        start("parent", parent)
        await_waits(shared, ("message", "parent", "start"))
    assert Process.host is not None
    runner = Process.host.runner
    method = getattr(runner, before)

    def go_on_late(*arguments: Any) -> Any:
        gate()
        return method(*arguments)

    monkeypatch.setattr(runner, before, go_on_late)
    starting: Future[Any]
    match by:
        case "a child":
            starting = aside(lambda: client.send("parent", 1, "start"))
        case "a random id":
            starting = aside(lambda: DBOS.start_workflow(wait))
        case _:
            starting = aside(lambda: start("w"))
    gate.await_reached()
    DBOS.destroy()
    gate.open()
    error = starting.exception(20)
    assert error is None or isinstance(error, DBOSShutdownError)
    client.check_connection()
    left = read_records(database_url).workflows
    assert {(each.status, each.executor_id) for each in left} <= {("PENDING", None)}
    assert ran == []
    finishes_elsewhere(database_url, *[each.workflow_id for each in left if each.name == "sharing.wait"])


@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("claim", Moment.BEFORE),
        ("claim", Moment.AFTER),
        ("histories", Moment.BEFORE),
        ("executors", Moment.BEFORE),
        ("the hand-over of a claim", Moment.BEFORE),
    ],
)
def test_a_recovery_that_races_with_destroy_leaves_nothing_owned_and_executes_nothing(
    database_url: str, method: str, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(database_url, **LEASE) as there:
        for name in ("a", "b"):
            start(name)
        there.await_waiting(2)
    gate, claim = Gate(), Supervisor._claim
    client = make_client(database_url)
    if method == "the hand-over of a claim":
        monkeypatch.setattr(Supervisor, "_claim", lambda *arguments: (gate(), claim(*arguments))[1])  # type: ignore[func-returns-value]
    else:
        faulty(client._engine).set_gate(gate, on=method, moment=moment)
    shared = launch(database_url)
    supervisor = Process.host.supervisor._thread  # type: ignore[union-attr]
    if method == "claim":
        destroying = _destroy_behind(shared, gate)
        gate.open()
        destroying.result(20)
    else:  # The supervisor is left behind, with what it has claimed or is about to.
        monkeypatch.setattr("tidings.engine.ownership.supervisor._STOP_SECONDS", 0.01)
        gate.await_reached()
        DBOS.destroy()
        gate.open()
    supervisor.join(20)
    assert not supervisor.is_alive()
    client.check_connection()
    assert [(each.status, each.executor_id) for each in read_records(database_url).workflows] == [("PENDING", None)] * 2
    assert ran == []
    finishes_elsewhere(database_url, "a", "b")


# --- a database that goes away --------------------------------------------------------------------------


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed before", "noticed by destroy"])
def test_destroy_is_prompt_while_the_database_is_down_and_gives_back_when_it_returns(
    database_url: str, noticed: bool
) -> None:
    shared = launch(database_url)
    client = make_client(database_url)
    start("w")
    await_waits(shared, ("message", "w", "go"))
    down = [faulty(shared).lose(on, times=None) for on in ("commit", "reconnect", "refence")]
    # What waits for the database is woken: of DBOS now, of the client when it is there again.
    sending = aside(lambda: DBOS.send("w", "given up", "other")) if noticed else None
    if noticed:
        wait_until(lambda: shared.committer.is_away)
    DBOS.destroy()
    if sending is not None:
        assert isinstance(sending.exception(20), DBOSShutdownError)
    of_client = aside(lambda: client.send("w", "kept", "other"))
    assert record(database_url, "w").executor_id is not None
    faulty(shared).traps = [each for each in faulty(shared).traps if each not in down]
    of_client.result(20)
    wait_until(lambda: record(database_url, "w").executor_id is None)
    finishes_elsewhere(database_url, "w")


@pytest.mark.parametrize("who", ["a workflow's caller", "a sender", "a client that sends", "a client that reads"])
def test_who_is_destroyed_waits_for_no_database_that_hangs(database_url: str, who: str) -> None:
    """Its connection was lost, and the next one is not made: nothing fails, nothing answers."""
    shared = launch(database_url)
    make_client(database_url)
    client = make_client(database_url)
    start("w")
    await_waits(shared, ("message", "w", "go"))
    reads, store = who == "a client that reads", faulty(shared)
    store.lose("latest_events" if reads else "commit")
    gate = store.hold("reconnect_reader" if reads else "reconnect")
    calls: dict[str, Callable[[], Any]] = {
        "a workflow's caller": wait,
        "a sender": lambda: DBOS.send("w", 1),
        "a client that sends": lambda: client.send("w", 1),
        "a client that reads": lambda: client.get_event("w", "key", HOUR),
    }
    calling = aside(calls[who])
    gate.await_reached()
    if who.startswith("a client"):
        client.destroy()
    else:
        DBOS.destroy()
    assert isinstance(calling.exception(20), DBOSShutdownError)
    gate.open()


def test_who_comes_to_a_shared_engine_is_told_what_is_wrong_with_its_database(database_url: str) -> None:
    """As they are where they would have to open it."""
    launch(database_url)
    client = make_client(database_url)
    DBOS.destroy()
    rows, table = Rows(database_url), "schema" if database_url.startswith("sqlite") else "schema_version"
    [(version,)] = rows.run(f"select version from {{{table}}}")
    rows.run(f"update {{{table}}} set version = 999")
    for come in (partial(make_client, database_url), partial(launch, database_url)):
        with pytest.raises(DBOSInitializationError, match="newer"):
            come()
    assert list(sharing._users.values()) == [1]
    rows.run(f"update {{{table}}} set version = {version}")
    launch(database_url)
    client.check_connection()


def test_after_the_committer_died_the_next_user_opens_a_new_engine(database_url: str) -> None:
    class Crash(BaseException):
        pass

    def die(_: object) -> None:
        raise Crash

    died = launch(database_url)
    client = make_client(database_url)
    start("w")
    await_waits(died, ("message", "w", "go"))
    waiting = aside(lambda: client.get_result("w"))
    await_waits(died, ("end", "w"))
    with pytest.raises(DBOSShutdownError):
        died.committer.call(die).result()
    assert isinstance(waiting.exception(20), DBOSShutdownError)
    with pytest.raises(DBOSShutdownError, match="stopped in this process after an error"):
        client.send("w", 1)
    second = make_client(database_url)
    assert second._engine is not died
    DBOS.destroy()  # The first client still holds the dead engine.
    assert launch(database_url) is second._engine
    await_waits(second._engine, ("message", "w", "go"))  # It was seen dead, for all its lease.
    second.send("w", "hello", "go")
    assert second.get_result("w") == "hello"
    client.destroy()
