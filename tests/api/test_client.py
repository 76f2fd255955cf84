"""`DBOSClient`: what a program that runs no workflows sends, reads, awaits and is told.

The client of these tests has an engine of its own, and hears of everything or learns it an hour later, as does the
application it talks with. How it shares an engine with `DBOS` is tested in tests/engine/test_sharing.py.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.password import PASSWORD
from harness.postgres import PostgresServer, free_port
from tests.support import programs
from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Face, Gate, off_loop
from tests.support.visitor import ONLY_HEARD, Visitor, visiting
from tidings import DBOS, DBOSClient, PickleSerializer, SendMessage, WorkflowHandle
from tidings.engine import checking
from tidings.engine.settings import Connection
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSContextError,
    DBOSInitializationError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSShutdownError,
)

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

# Every public operation that has a blocking and an awaiting form, and arguments that it takes.
OPERATIONS: dict[str, tuple[Any, ...]] = {
    "send": ("w", 1),
    "send_bulk": ([SendMessage("w", 1)],),
    "get_event": ("w", "key"),
    "get_all_events": ("w",),
    "retrieve_workflow": ("w",),
    "get_result": ("w",),
    "get_workflow_status": ("w",),
    "cancel_workflow": ("w",),
    "cancel_workflows": (["w"],),
    "wait_first": ([WorkflowHandle("w", DBOS)],),
    "as_completed": ([WorkflowHandle("w", DBOS)],),
    "list_workflows": (),
    "list_workflow_steps": ("w",),
    "list_messages": ("w",),
    "list_application_versions": (),
    "list_executors": (),
    "read_stream": ("w", "key"),
    "read_stream_offset": ("w", "key", 0),
    "check_connection": (),
}


# Without the one that gives an iterator, which is refused only when it is to give something.
AWAITED = {name: arguments for name, arguments in OPERATIONS.items() if name not in {"read_stream", "as_completed"}}


@pytest.fixture(autouse=True)
def _only_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hear learns it in an hour: `DBOS` too."""
    monkeypatch.setattr("tidings.api.config.Connection", partial(Connection, **ONLY_HEARD))
    monkeypatch.setattr("tidings.api.config._DEFAULT_POLLING_SECONDS", ONLY_HEARD["polling_interval_seconds"])


@pytest.fixture
def url(app: App) -> str:
    """The URL of a database that has the tables."""
    return app.database_url


async def refused(call: Callable[[], Awaitable[Any]], error: type[BaseException], match: str | None = None) -> None:
    """Call what must be refused."""
    with pytest.raises(error, match=match):
        await call()


# --- messages -----------------------------------------------------------------------------------------


async def test_m11_a_client_sends_from_a_program_that_runs_no_workflows(app: App, face: Face, client: Visitor) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        first, second = [await face.recv_message("topic", FOREVER) for _ in range(2)]
        return [first.value, first.sender_id, second.value, await face.recv(timeout_seconds=FOREVER)]

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "topic")
    await client.send("w", {"hello": 1}, "topic")
    await app.waiting("message", "w", "topic", times=2)
    await app.crash_and_restart()  # What was sent is there, whatever happens to the one who receives it.
    await client.send("w", "second", "topic")
    await client.send("w", "third")
    assert await client.get_result("w") == [{"hello": 1}, None, "second", "third"]


async def test_m11_ordinary_code_of_the_application_sends(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> Any:
        message = await face.recv_message(timeout_seconds=FOREVER)
        return [message.value, message.sender_id]

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", None)
    await face.send("w", "hello")
    assert await face.get_result("w") == ["hello", None]


async def test_a_client_sends_in_bulk_all_or_none_and_in_order(app: App, face: Face, client: Visitor) -> None:
    count = 500

    @face.workflow()
    async def order() -> list[Any]:
        return [await face.recv(timeout_seconds=FOREVER) for _ in range(count)]

    handles = [await face.start(order, workflow_id=name) for name in ("a", "b")]
    bulk = [SendMessage(name, number) for number in range(count) for name in ("a", "b")]
    await refused(lambda: client.send_bulk([*bulk, SendMessage("c", 0)]), DBOSNonExistentWorkflowError, "'c'")
    assert app.rows.counts()["messages"] == 0
    await client.send_bulk(bulk)
    assert [await handle.get_result() for handle in handles] == [list(range(count))] * 2


async def test_an_idempotency_key_may_be_the_fourth_positional_argument(app: App, face: Face, client: Visitor) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        return [await face.recv("topic", FOREVER) for _ in range(3)]

    await face.start(order, workflow_id="w")
    await client.send("w", "once", "topic", "key")
    await client.send("w", "again", "topic", "key")
    await client.send("w", "again", "topic", idempotency_key="key")
    await face.send("w", "again", "topic", idempotency_key="key")
    await client.send("w", "another", "topic", idempotency_key="another")
    await client.send_bulk([SendMessage("w", "again", "topic", "key"), SendMessage("w", "third", "topic")])
    assert await client.get_result("w") == ["once", "another", "third"]


# --- events -------------------------------------------------------------------------------------------


async def test_e2_a_client_reads_events(app: App, face: Face, client: Visitor) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv("1", FOREVER)
        await face.set_event("state", "begun")
        await face.recv("2", FOREVER)
        await face.set_event("state", None)
        await face.set_event("other", [1, 2])

    waiting = asyncio.ensure_future(client.get_event("w", "state", FOREVER))
    await client.waiting("event", "w", "state")  # Before there is such a workflow.
    await face.start(order, workflow_id="w")
    assert await client.get_event("w", "state", 0) is None
    assert await client.get_event("w", "state", 0, default="nothing yet") == "nothing yet"
    await face.send("w", 1, "1")
    assert await waiting == "begun"
    never = asyncio.ensure_future(client.get_event("w", "never", FOREVER, default="never"))
    await client.waiting("event", "w", "never")
    await face.send("w", 1, "2")
    assert await never == "never"  # Its workflow has ended without it.
    assert await client.get_event("w", "state", FOREVER, default="nothing") is None  # A `None` that was published.
    assert await client.get_all_events("w") == {"state": None, "other": [1, 2]}


async def test_e2_a_client_waits_for_an_event_until_its_timeout(
    app: App, face: Face, clock: ManualClock, client: Visitor
) -> None:
    for number, (arguments, value) in enumerate([((), None), ((60,), None), ((60.0,), "default")], start=1):
        reading = asyncio.ensure_future(client.get_event("w", "key", *arguments, default=value))
        await client.waiting("event", "w", "key", times=number)
        clock.advance(60)
        assert await reading == value


# --- workflows ----------------------------------------------------------------------------------------


async def test_a_handle_of_a_client_tells_what_came_of_a_workflow(app: App, face: Face, client: Visitor) -> None:
    @face.workflow(name="order")
    async def order(how: str) -> Any:
        await face.recv("go", FOREVER)
        if how == "fails":
            raise ValueError("it failed", 7)
        return [how, {"tuple": (1, 2)}]

    for how in ("succeeds", "fails", "is cancelled"):
        await face.start(order, how, workflow_id=how)
    succeeding, failing, cancelled = [
        await client.retrieve_workflow(how) for how in ("succeeds", "fails", "is cancelled")
    ]
    status = await succeeding.get_status()
    assert (status.status, status.name, status.input) == ("PENDING", "order", {"args": ["succeeds"], "kwargs": {}})
    results = [asyncio.ensure_future(each.get_result()) for each in (succeeding, failing, cancelled)]
    for each in (succeeding, failing, cancelled):
        await client.waiting("end", each.workflow_id)
    for name in ("succeeds", "fails"):
        await client.send(name, 1, "go")
    await client.cancel_workflow("is cancelled")
    assert await results[0] == ["succeeds", {"tuple": (1, 2)}]
    with pytest.raises(ValueError, match="it failed") as raised:
        await results[1]
    assert raised.value.args == ("it failed", 7)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError, match="'is cancelled' was cancelled"):
        await results[2]
    await app.ended("is cancelled")
    statuses = [await each.get_status() for each in (succeeding, failing, cancelled)]
    assert [each.status for each in statuses] == ["SUCCESS", "ERROR", "CANCELLED"]
    assert (await client.get_workflow_status("succeeds")).output == ["succeeds", {"tuple": (1, 2)}]


async def test_a_result_that_is_late_is_a_timeout(app: App, face: Face, clock: ManualClock, client: Visitor) -> None:
    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=None)

    await face.start(order, workflow_id="w")
    handle = await client.retrieve_workflow("w")
    await refused(lambda: handle.get_result(timeout_seconds=0), TimeoutError, "'w'")
    waiting = asyncio.ensure_future(handle.get_result(timeout_seconds=5))
    await client.waiting("end", "w")
    clock.advance(5)
    with pytest.raises(TimeoutError):
        await waiting
    await client.send("w", "it goes on")
    assert await handle.get_result(timeout_seconds=FOREVER) == "it goes on"


async def test_a_client_names_a_workflow_that_does_not_exist(app: App, client: Visitor) -> None:
    nobody = await client.retrieve_workflow("nobody", existing_workflow=False)
    assert nobody.workflow_id == "nobody"
    assert await client.get_workflow_status("nobody") is None
    bulk = [SendMessage("nobody", 1)]
    for call in (
        partial(client.send, "nobody", 1),
        partial(client.send_bulk, bulk),
        *(partial(getattr(client, name), "nobody") for name in ("get_all_events", "retrieve_workflow", "get_result")),
        partial(client.cancel_workflow, "nobody"),
        nobody.get_result,
        nobody.get_status,
    ):
        await refused(call, DBOSNonExistentWorkflowError, "no workflow has the id 'nobody'")


async def test_a_client_awaits_workflows_whose_arguments_it_cannot_rebuild(
    app: App, face: Face, client: Visitor
) -> None:
    """Their classes are those of the program that runs them."""

    @face.workflow()
    async def order(parcel: Any) -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    await face.start(order, 7, workflow_id="w")
    parcel = '{"$tidings": "object", "cls": "elsewhere:Parcel", "v": {}}'
    app.rows.run("update {workflows} set inputs = ?", f'{{"args": [{parcel}], "kwargs": {{}}}}')
    handle = await client.retrieve_workflow("w")
    await client.send("w", "hello")
    assert await handle.get_result() == "hello"
    (shown,) = (await handle.get_status()).input["args"]
    assert shown.type_name == "elsewhere.Parcel"


# --- values, limits, serializers ------------------------------------------------------------------------


async def test_what_a_client_cannot_store_fails_at_the_call_and_writes_nothing(
    app: App, face: Face, client: Visitor
) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv("end", FOREVER)

    await face.start(order, workflow_id="w")
    good = SendMessage("w", "good")
    for call, error, match in [
        (
            lambda: client.send("w", {"a": [object()]}),
            DBOSSerializationError,
            r"the message to workflow 'w': \$\.a\[0\]",
        ),
        (lambda: client.send_bulk([good, SendMessage("w", object())]), DBOSSerializationError, "message 1 to"),
        (lambda: client.send_bulk([good, "bad"]), TypeError, r"at index 1 is str \('bad'\)"),
        (lambda: client.send("w" * 513, 1), DBOSLimitError, "destination_id"),
        (lambda: client.send("", 1), DBOSLimitError, "destination_id"),
        (lambda: client.send("w", 1, "t" * 1_025), DBOSLimitError, "topic"),
        (lambda: client.send("w", 1, "a\0b"), DBOSLimitError, "topic"),
        (lambda: client.send("w", 1, None, "k" * 1_025), DBOSLimitError, "idempotency_key"),
        (lambda: client.get_event("w", "k" * 1_025), DBOSLimitError, "key"),
        (lambda: client.get_event("w", "key", -1), DBOSLimitError, "timeout_seconds"),
        (lambda: client.get_result("w", timeout_seconds=-1), DBOSLimitError, "timeout_seconds"),
        (lambda: client.retrieve_workflow(""), DBOSLimitError, "workflow_id"),
        (lambda: client.cancel_workflow("\ud800"), DBOSLimitError, "workflow_id"),
    ]:
        await refused(call, error, match)
    assert app.rows.counts()["messages"] == 0


class Unstorable:
    """Of no kind that typed JSON can store."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unstorable)

    __hash__ = None  # type: ignore[assignment]


async def test_a_client_may_have_a_serializer_of_its_own(app: App, face: Face, client: Visitor) -> None:
    await app.relaunch(serializer=PickleSerializer())

    @face.workflow()
    async def order() -> Any:
        await face.set_event("state", Unstorable())
        return await face.recv(timeout_seconds=FOREVER)

    await face.start(order, workflow_id="w")
    with visiting(app.database_url, face, serializer=PickleSerializer()) as pickling:
        assert await pickling.get_event("w", "state", FOREVER) == Unstorable()
        await refused(lambda: client.get_event("w", "state", FOREVER), DBOSSerializationError, "the event 'state'")
        await pickling.send("w", Unstorable())
        assert await pickling.get_result("w") == Unstorable()


@pytest.mark.parametrize(
    ("serializer", "match"), [(object(), "lacks the methods serialize"), (PickleSerializer, "an object, not the class")]
)
async def test_what_is_no_serializer_is_refused(url: str, serializer: Any, match: str) -> None:
    with pytest.raises(DBOSInitializationError, match=match):
        DBOSClient(system_database_url=url, serializer=serializer)


# --- where a client may be called -----------------------------------------------------------------------


def test_these_are_all_operations() -> None:
    names = dir(DBOSClient)
    assert {name for name in names if f"{name}_async" in names} - {"destroy"} == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_blocking_call_on_a_running_loop_names_what_to_await(app: App, name: str) -> None:
    with DBOSClient(system_database_url=app.database_url) as client:  # Made and destroyed on a loop.
        how = {"read_stream": "async for value in", "as_completed": "async for handle in"}.get(name, "await")
        with pytest.raises(RuntimeError, match=rf"running event loop; use: {how} DBOSClient\.{name}_async\("):
            getattr(client, name)(*OPERATIONS[name])
        handle = await off_loop(client.retrieve_workflow, "w", existing_workflow=False)
        with pytest.raises(RuntimeError, match=r"use: await DBOSClient\.get_result_async\("):
            handle.get_result()


async def test_a_client_is_for_steps_not_for_the_code_of_workflows(app: App, face: Face, client: Visitor) -> None:
    @face.step()
    async def in_a_step() -> Any:
        await client.send("w", "from a step", "topic")
        await client.check_connection()
        return [await client.get_event("w", "state"), await client.get_all_events("w")]

    @face.workflow()
    async def order() -> Any:
        await face.set_event("state", "published")
        for name, arguments in AWAITED.items():
            operation = partial(getattr(client, name), *arguments)
            await refused(operation, DBOSContextError, "workflow 'w' called a DBOSClient, which records nothing")
        read = await in_a_step()
        message = await face.recv_message("topic", 0)
        return [read, message.value, message.sender_id]

    await face.start(order, workflow_id="w")
    assert await face.get_result("w") == [["published", {"state": "published"}], "from a step", None]


async def test_many_threads_call_one_client_at_once(app: App, face: Face, client: Visitor) -> None:
    threads, each = 16, 20

    @face.workflow()
    async def order() -> list[Any]:
        received = [await face.recv(timeout_seconds=FOREVER) for _ in range(threads * each)]
        await face.set_event("count", len(received))
        return received

    def talk(number: int) -> Any:
        for index in range(each):
            client.client.send("w", [number, index])
        return client.client.get_event("w", "count", FOREVER), client.client.get_result("w")

    await face.start(order, workflow_id="w")
    with ThreadPoolExecutor(threads) as pool:
        told = await off_loop(lambda: list(pool.map(talk, range(threads))))
    count, received = told[0]
    assert told == [(count, received)] * threads
    assert count == threads * each
    for number in range(threads):
        assert [index for sender, index in received if sender == number] == list(range(each))


# --- its end --------------------------------------------------------------------------------------------


async def test_a_destroyed_client_says_so(app: App, face: Face, client: Visitor) -> None:
    handle = await client.retrieve_workflow("w", existing_workflow=False)
    await client.destroy()
    calls: list[Callable[[], Awaitable[Any]]] = [handle.get_result, handle.get_status]
    calls += [partial(getattr(client, name), *arguments) for name, arguments in AWAITED.items()]
    calls.append(lambda: face.read("w", "key", of=client.client))
    for call in calls:
        await refused(call, DBOSShutdownError, "this DBOSClient was destroyed; make a new one")
    await client.destroy()  # Harmless.


async def test_a_step_that_used_a_destroyed_client_fails_as_with_any_error(
    app: App, face: Face, client: Visitor
) -> None:
    @face.step()
    async def use() -> None:
        await client.send("w", 1)

    @face.workflow()
    async def order() -> None:
        await use()

    await client.destroy()
    await face.start(order, workflow_id="w")
    await refused(lambda: face.get_result("w"), DBOSShutdownError, "this DBOSClient was destroyed")
    assert (await face.get_workflow_status("w")).status == "ERROR"


async def test_destroying_a_client_ends_what_waits_at_once(app: App, face: Face, client: Visitor) -> None:
    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    await face.start(order, workflow_id="w")
    with visiting(app.database_url, face) as other:
        assert other.engine is client.engine
        others = asyncio.ensure_future(other.get_result("w"))
        await client.waiting("end", "w")
        waiting = [
            asyncio.ensure_future(client.get_event("w", "key", FOREVER)),
            asyncio.ensure_future(client.get_event("w", "key", None)),
            asyncio.ensure_future(client.get_result("w")),
        ]
        await client.waiting("event", "w", "key", times=2)
        await client.waiting("end", "w", times=4)
        await client.destroy()
        for each in waiting:
            with pytest.raises(DBOSShutdownError, match="this DBOSClient was destroyed; make a new one"):
                await each
        await face.send("w", "hello")
        assert await others == "hello"  # Those of other clients go on.


async def test_a_client_destroyed_by_many_threads_at_once_is_destroyed_once(app: App) -> None:
    with DBOSClient(system_database_url=app.database_url) as other:
        client = DBOSClient(system_database_url=app.database_url)
        together = threading.Barrier(8)

        def destroy() -> None:
            together.wait()
            client.destroy()

        with ThreadPoolExecutor(8) as pool:
            await off_loop(lambda: [each.result() for each in [pool.submit(destroy) for _ in range(8)]])
        await other.check_connection_async()


async def test_a_client_is_a_context_manager(app: App, face: Face) -> None:
    with DBOSClient(system_database_url=app.database_url) as client:
        assert await client.get_workflow_status_async("w") is None
    await refused(lambda: client.get_workflow_status_async("w"), DBOSShutdownError)
    async with DBOSClient(system_database_url=app.database_url) as client:
        assert await client.get_workflow_status_async("w") is None
    await refused(lambda: client.get_workflow_status_async("w"), DBOSShutdownError)


PROGRAM = """
import os, sys, threading, warnings
from tidings import DBOSClient
from tidings.engine.hooks import Point
from tidings.error import DBOSShutdownError

how, url = sys.argv[1:]
client = DBOSClient(system_database_url=url)
DBOSClient(system_database_url=url)  # Nobody keeps it.
waiting = threading.Event()
client._engine.hooks.set(Point.WAITING, lambda _: waiting.set())
daemon = how != "interrupt"
threading.Thread(target=client.get_event, args=("nobody", "key", 3600), daemon=daemon).start()
waiting.wait()
if how == "forks":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads, which this is about.
        pid = os.fork()
    if not pid:
        try:
            client.get_event("nobody", "key", 0)
        except DBOSShutdownError as error:
            print(error, flush=True)
        with DBOSClient(system_database_url=url) as own:
            print(own.get_event("nobody", "key", 0, default="made anew"), flush=True)
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    client.check_connection()
print("at the end", flush=True)
"""


@pytest.mark.parametrize("how", ["forgets", "forks"])
async def test_a_forgotten_client_keeps_no_program_from_exiting(url: str, how: str) -> None:
    """Nor one that was inherited by a fork, whose threads are not there."""
    # The thread that waits at the exit is told so, and says it.
    program = await off_loop(programs.run, *programs.python("-W", "error", "-c", PROGRAM, how, url))
    *said, last = program.stdout.splitlines()
    assert (program.returncode, last) == (0, "at the end"), program.stderr
    if how == "forks":
        refusal, anew = said
        assert "was forked from the one that made this DBOSClient" in refusal
        assert refusal.endswith("threads and connections do not survive a fork: make it after the fork")
        assert anew == "made anew"


async def test_the_exit_gives_the_row_of_a_forgotten_client_back(app: App) -> None:
    program = await off_loop(programs.run, *programs.python("-c", PROGRAM, "forgets", app.database_url))
    assert program.returncode == 0, program.stderr
    assert app.rows.run("select label from {executors}") == [("local",)]


# --- a database that is unfit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://user:h1dden@host/db", "is for another kind of database: tidings supports only SQLite"),
        ("shop.sqlite", "system_database_url has no scheme: if it is the path of an SQLite file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "a database in memory is lost with its process"),
        ("postgresql://user:h1dden@more@host/db", "has more than one '@'"),
        (None, "must be a string, not NoneType"),
        (7, "must be a string, not int"),
    ],
)
def test_a_bad_url_is_refused(url: Any, reason: str) -> None:
    with pytest.raises(DBOSInitializationError, match=reason) as raised:
        DBOSClient(system_database_url=url)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(("schema", "reason"), [("", "cannot name a schema"), (None, "must be a string, not None")])
def test_a_bad_schema_is_refused(postgres_url: str, schema: Any, reason: str) -> None:
    with pytest.raises(DBOSInitializationError, match=reason):
        DBOSClient(system_database_url=postgres_url, dbos_system_schema=schema)


@pytest.mark.unmigrated
def test_a_database_without_tables_is_refused_and_nothing_is_made(database_url: str, tmp_path: Path) -> None:
    match = "migrate it first: launch the program that runs its workflows, with 'run_migrations' on"
    threads = set(threading.enumerate())
    for _ in range(2):
        with pytest.raises(DBOSInitializationError, match=match):
            DBOSClient(system_database_url=database_url)
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        assert not path.exists()
        with contextlib.closing(sqlite3.connect(path)) as file:  # A file that is another program's.
            file.execute("create table theirs (id)")
        with pytest.raises(DBOSInitializationError, match=f"it has no tidings schema yet: {match}"):
            DBOSClient(system_database_url=database_url)
    else:
        with pytest.raises(DBOSInitializationError, match=f"it has no tidings schema yet: {match}"):
            DBOSClient(system_database_url=database_url, dbos_system_schema="elsewhere")
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize(("version", "relation"), [(999, "newer"), (1, "older")])
async def test_tables_of_another_version_are_refused(app: App, version: int, relation: str) -> None:
    await DBOS.destroy_async()
    table = "{schema}" if app.rows.is_sqlite else "{schema_version}"
    [(current,)] = app.rows.run(f"select version from {table}")
    app.rows.run(f"update {table} set version = {version}")
    remedy = "upgrade tidings" if relation == "newer" else "migrate it first: launch the program that runs"
    with pytest.raises(DBOSInitializationError, match=f"{version} is {relation} than this library's .*: {remedy}"):
        DBOSClient(system_database_url=app.database_url)
    assert app.rows.run(f"select version from {table}") == [(version,)]
    app.rows.run(f"update {table} set version = {current}")


def test_a_database_that_is_down_is_refused(tmp_path: Path) -> None:
    for url, reason in [
        (f"sqlite:///{tmp_path}/nowhere/shop.sqlite", "there is no directory"),
        (f"sqlite:///{tmp_path}", "this is a directory"),
        (f"postgresql://u:h1dden@127.0.0.1:{free_port()}/shop", "refused"),
    ]:
        with pytest.raises(DBOSInitializationError, match=reason) as raised:
            DBOSClient(system_database_url=url)
        assert PASSWORD not in str(raised.value)


# --- a database that goes away --------------------------------------------------------------------------


async def test_a_connection_that_works_is_no_error(client: Visitor, app: App) -> None:
    await client.check_connection()
    await app.crash_and_restart()
    await client.check_connection()


@pytest.mark.parametrize("how", ["removed", "replaced", "restored from a copy", "emptied"])
async def test_a_file_that_is_not_the_one_any_more_is_noticed(sqlite_url: str, face: Face, how: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    app = App(sqlite_url)
    await app.launch()
    await DBOS.destroy_async()
    with visiting(sqlite_url, face) as client:
        await client.check_connection()
        _change(path, how)
        if how == "replaced":
            await app.launch()
            await DBOS.destroy_async()
        if how in ("replaced", "restored from a copy"):  # The client goes on with the file that stands there now.
            await client.check_connection()
            [row] = app.rows.run("select executor_id from {executors} order by lease_until_ms desc limit 1")
            assert row == (client.engine.committer.executor.executor_id,)
        else:
            reason = "there is no such file" if how == "removed" else "no tidings schema"
            await refused(client.check_connection, DBOSInitializationError, reason)


def _change(path: Path, how: str) -> None:
    match how:
        case "removed" | "replaced":
            path.rename(f"{path}.former")
        case "restored from a copy":
            copy = sqlite3.connect(f"{path}.copy")
            with contextlib.closing(copy), contextlib.closing(sqlite3.connect(path)) as source:
                source.backup(copy)
            Path(f"{path}.copy").rename(path)
            for side in ("-wal", "-shm"):  # As SQLite asks of whoever does so.
                Path(f"{path}{side}").unlink()
        case _:
            path.write_bytes(b"")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    with PostgresServer(fsync="off") as server:
        yield server


async def test_a_server_that_is_down_is_noticed_while_all_else_waits_for_it(server: PostgresServer, face: Face) -> None:
    app = App(server.url)
    await app.launch()

    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    await face.start(order, workflow_id="w")
    with visiting(server.url, face) as client, visiting(server.url, face) as destroyed:
        waits = asyncio.ensure_future(client.get_result("w"))
        await client.waiting("end", "w")
        await off_loop(server.stop)
        sending = asyncio.ensure_future(client.send("w", "hello"))
        await refused(client.check_connection, DBOSInitializationError, "refused")
        with pytest.raises(DBOSInitializationError, match="refused"):
            await off_loop(partial(DBOSClient, system_database_url=server.url))

        # Who is destroyed waits no longer, though the other client keeps the engine that both share.
        assert destroyed.engine is client.engine
        given_up = [asyncio.ensure_future(call) for call in (destroyed.send("w", 1), destroyed.get_all_events("w"))]
        await off_loop(wait_until, lambda: client.engine.committer.is_away and client.engine.reader.contact.is_away)
        await destroyed.destroy()
        for each in given_up:
            with pytest.raises(DBOSShutdownError, match="this DBOSClient was destroyed"):
                await each
        assert not sending.done()
        await off_loop(server.start)
        await sending
        assert await waits == "hello"
        await client.check_connection()
    await app.close()


async def test_a_check_is_over_in_a_bounded_time_whatever_hangs(
    client: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    _ = client.engine.committer.call(lambda _: gate.wait())
    monkeypatch.setattr(checking, "PATIENCE_SECONDS", 0)
    await refused(client.check_connection, DBOSInitializationError, "did not answer within 0 s")
    gate.open()
    monkeypatch.undo()
    await client.check_connection()


async def test_destroying_a_client_ends_its_check(client: Visitor, face: Face) -> None:
    gate = Gate()
    _ = client.engine.committer.call(lambda _: gate.wait())
    checked = asyncio.ensure_future(client.check_connection())
    await client.waits.until(lambda seen: () in seen)
    destroyed = asyncio.ensure_future(client.destroy())
    with pytest.raises(DBOSShutdownError, match="this DBOSClient was destroyed"):
        await checked
    gate.open()
    await destroyed
