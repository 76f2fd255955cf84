"""Defects seen in the peer that tidings must not have; the numbers are those of `PEER.md`.

Elsewhere, as they need several processes or a fork: 2, 9, 11; 6 is of streams.
"""

import asyncio
import base64
import contextlib
import os
import pickle
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.support import programs
from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face
from tests.support.rows import Rows
from tidings import DBOS, SendMessage, SetWorkflowID
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSLimitError,
    DBOSSerializationError,
    DBOSWorkflowCancelledError,
)
from tidings.store.postgres import PostgresStore
from tidings.store.sqlite import SqliteStore

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run
PATIENCE = 300  # seconds: what is prompt takes a moment; what is not, an hour


async def test_defect_1_messages_arrive_in_the_order_they_were_sent(app: App, face: Face, clock: ManualClock) -> None:
    """Whatever the clock says: it stands still, and then goes back."""
    rounds, singles, bulks = 20, 50, 20

    @face.workflow()
    async def order() -> list[Any]:
        return [await face.recv(timeout_seconds=FOREVER) for _ in range(rounds * (singles + bulks))]

    async def send_all() -> None:
        for first in range(rounds):
            for number in range(singles):
                await face.send(handle.workflow_id, [first, number])
            clock.advance(-1)
            bulk = [SendMessage(handle.workflow_id, [first, number]) for number in range(singles, singles + bulks)]
            await face.send_bulk(bulk)

    handle = await face.start(order)
    await face.run(send_all)
    expected = [[first, number] for first in range(rounds) for number in range(singles + bulks)]
    assert await handle.get_result() == expected


async def test_defect_3_two_recv_at_once_on_one_topic_each_get_a_message(app: App, awaiting: Awaiting) -> None:
    @DBOS.workflow()
    async def order() -> list[Any]:
        return await asyncio.gather(*(DBOS.recv_async("topic", FOREVER) for _ in range(2)))

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, "topic", times=2)
    await DBOS.send_async(handle.workflow_id, "first", "topic")
    await DBOS.send_async(handle.workflow_id, "second", "topic")
    assert sorted(await handle.get_result()) == ["first", "second"]


async def test_defect_3_an_id_and_a_topic_are_never_run_together(app: App, face: Face) -> None:
    @face.workflow()
    async def order(topic: str) -> Any:
        return await face.recv(topic, FOREVER)

    for workflow_id, topic in (("a", "b::c"), ("a::b", "c")):
        await face.start(order, topic, workflow_id=workflow_id)
        await app.waiting("message", workflow_id, topic)
    await face.send("a::b", "for a::b", "c")
    assert await face.get_result("a::b") == "for a::b"
    assert (await face.get_workflow_status("a")).status == "PENDING"
    await face.send("a", "for a", "b::c")
    assert await face.get_result("a") == "for a"


@pytest.mark.parametrize("wait", ["recv", "get_event", "sleep", "get_result"])
async def test_defect_4_cancelling_wakes_what_waits_for_an_hour(app: App, face: Face, wait: str) -> None:
    woken_by: list[type[BaseException]] = []

    @face.workflow()
    async def other() -> None:
        await face.recv(timeout_seconds=FOREVER)

    waits: dict[str, Callable[[], Any]] = {
        "recv": lambda: face.recv("topic", FOREVER),
        "get_event": lambda: face.get_event("other", "key", FOREVER),
        "sleep": lambda: face.sleep(FOREVER),
        "get_result": lambda: face.get_result("other", timeout_seconds=FOREVER),
    }
    begun: dict[str, Callable[[], Any]] = {
        "recv": lambda: app.waiting("message", "w", "topic"),
        "get_event": lambda: app.waiting("event", "other", "key"),
        "sleep": app.waiting_for_time,
        "get_result": lambda: app.waiting("end", "other"),
    }

    @face.workflow()
    async def order() -> None:
        try:
            await waits[wait]()
        except BaseException as error:
            woken_by.append(type(error))
            raise

    await face.start(other, workflow_id="other")
    handle = await face.start(order, workflow_id="w")
    await begun[wait]()
    await face.cancel_workflow("w")
    await app.ended("w")
    assert woken_by == [DBOSWorkflowCancelledError]
    with pytest.raises(DBOSAwaitedWorkflowCancelledError, match="workflow 'w' was cancelled"):
        await handle.get_result(timeout_seconds=FOREVER)
    assert (await face.get_workflow_status("other")).status == "PENDING"


async def test_defect_4_cancelling_wakes_who_waits_for_the_cancelled(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv(timeout_seconds=FOREVER)

    @face.workflow()
    async def waiter() -> Any:
        return await face.get_event("w", "key", FOREVER, default="it ended")

    @face.workflow()
    async def parent() -> str:
        try:
            await face.get_result("w", timeout_seconds=FOREVER)
        except DBOSAwaitedWorkflowCancelledError:
            return "it was cancelled"
        return "it ended"

    await face.start(order, workflow_id="w")
    handles = [await face.start(waiter), await face.start(parent)]
    await app.waiting("event", "w", "key")
    await app.waiting("end", "w", times=2)
    await face.cancel_workflow("w")
    assert [await handle.get_result() for handle in handles] == ["it ended", "it was cancelled"]


async def test_defect_5_none_is_told_from_nothing(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def order() -> list[Any]:
        await face.set_event("none", None)
        return [
            await face.recv("none", FOREVER, default="nothing"),
            await face.recv("silent", 5, default="nothing"),
            await face.get_event("w", "none", 0, default="nothing"),
            await face.get_event("w", "unset", 0, default="nothing"),
        ]

    handle = await face.start(order, workflow_id="w")
    await face.send("w", None, "none")
    await app.waiting("message", "w", "silent")
    clock.advance(5)
    assert await handle.get_result() == [None, "nothing", None, "nothing"]
    assert await face.get_event("w", "none", FOREVER, default="nothing") is None


async def test_defect_5_an_event_that_can_no_longer_come_is_not_waited_for(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None: ...

    @face.workflow()
    async def reader() -> Any:
        return await face.get_event("w", "key", FOREVER, default="never set")

    await (await face.start(order, workflow_id="w")).get_result()
    assert await face.get_event("w", "key", FOREVER, default="never set") == "never set"
    assert await reader() == "never set"


async def test_defect_7_a_topic_that_is_too_long_is_refused_in_words(app: App, face: Face) -> None:
    topic = "x" * 9_000

    @face.workflow()
    async def order() -> str:
        with pytest.raises(DBOSLimitError, match=r"topic takes 9,000 bytes of UTF-8, more than the 1,024 allowed"):
            await face.send("w", 1, topic)
        return "it goes on"

    assert await (await face.start(order, workflow_id="w")).get_result() == "it goes on"
    bulk = [SendMessage("w", 1, topic)]
    for refused in (partial(face.send, "w", 1, topic), partial(face.send_bulk, bulk)):
        with pytest.raises(DBOSLimitError, match=r"topic takes 9,000 bytes of UTF-8, more than the 1,024 allowed"):
            await refused()
    assert app.rows.counts() == {
        "workflows": 1,
        "entries": 0,
        "messages": 0,
        "events": 0,
        "stream_items": 0,
        "closed_streams": 0,
    }


async def test_defect_7_a_bulk_has_no_largest_size(app: App, face: Face) -> None:
    """The peer's driver fails beyond 13,107 messages. Here a workflow sends; from outside: see M8."""
    count = 14_000

    @face.workflow()
    async def order() -> list[Any]:
        await face.send_bulk([SendMessage("w", number, str(number % 2), str(number)) for number in range(count)])
        return [await face.recv("1", 0), await face.recv("0", 0), await face.recv("1", 0)]

    assert await (await face.start(order, workflow_id="w")).get_result() == [1, 0, 3]
    assert app.rows.counts()["messages"] == count


class Meter:
    """What the database does for one `recv`: instructions of SQLite's machine, or blocks that PostgreSQL looks at."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._store = app.engine.store
        self._instructions = 0

    async def start(self) -> None:
        await self._app.engine.committer.call(lambda _: self._count(self._step))

    async def stop(self, workflow_id: str) -> int:
        await self._app.engine.committer.call(lambda _: self._count(None))
        return self._instructions if self._app.rows.is_sqlite else self._blocks_of_a_take(workflow_id)

    def _step(self) -> None:
        self._instructions += 1

    def _count(self, step: Callable[[], None] | None) -> None:
        if isinstance(self._store, SqliteStore):
            assert self._store._writer is not None
            self._store._writer._connection.set_progress_handler(step, 1)

    def _blocks_of_a_take(self, workflow_id: str) -> int:
        assert isinstance(self._store, PostgresStore)
        given: dict[str, Any] = {"workflow_id": workflow_id, "topic": "topic", "branch": "x", "position": 1}
        given |= {"ordinal": 1, "name": "recv", "state": "DONE"}
        take = self._store._database.statements["take_messages"]
        values = sql.SQL(",").join(sql.Literal([given.get(name)]) for name in take.parameters)
        with self._store._database.open() as connection, connection.transaction(force_rollback=True):
            connection.execute(b"prepare take as " + take.sql)
            explain = sql.SQL("explain (analyze, buffers, format json) execute take ({})").format(values)
            row = connection.execute(explain).fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        assert plan["Actual Rows"] == 1
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.direct("looks at a plan in a session of its own")
async def test_defect_8_a_recv_costs_the_same_after_thousands(app: App, awaiting: Awaiting, clock: ManualClock) -> None:
    """Time stands still, so that nothing but this workflow asks the database."""

    @DBOS.workflow()
    async def order() -> None:
        for consumed in (10, 2_000):
            await DBOS.recv_async("go", FOREVER)
            for _ in range(consumed):
                assert await DBOS.recv_async("topic", 0) is not None
            await DBOS.recv_async("measure", FOREVER)
            assert await DBOS.recv_async("topic", 0) is not None
        await DBOS.recv_async("go", FOREVER)

    costs = []
    handle = await awaiting.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await DBOS.send_bulk_async([SendMessage("w", number, "topic") for number in range(3_000)])
    for times in (1, 2):
        await DBOS.send_async("w", None, "go")
        await app.waiting("message", "w", "measure", times=times)
        meter = Meter(app)
        await meter.start()
        await DBOS.send_async("w", None, "measure")
        await app.waiting("message", "w", "go", times=times + 1)
        costs.append(await meter.stop("w"))
    await DBOS.send_async("w", None, "go")
    await handle.get_result()
    assert 0 < costs[1] < costs[0] + 100, costs


EXITS = {
    "blocking": """
        @DBOS.workflow()
        def order():
            DBOS.recv(timeout_seconds=3_600)
            outlived()

        handle = DBOS.start_workflow(order)
        await_waiting()
    """,
    "blocking, and a thread that waits for it": """
        @DBOS.workflow()
        def order():
            DBOS.recv(timeout_seconds=3_600)
            outlived()

        handle = DBOS.start_workflow(order)

        def await_result():
            try:
                handle.get_result()
            except DBOSShutdownError:
                print("shut down")

        threading.Thread(target=await_result, daemon=True).start()
        await_waiting(2)
    """,
    "async, in the background": """
        @DBOS.workflow()
        async def order():
            await DBOS.recv_async(timeout_seconds=3_600)
            outlived()

        handle = DBOS.start_workflow(order)
        await_waiting()
    """,
    "async, on a loop that ends": """
        @DBOS.workflow()
        async def order():
            await DBOS.recv_async(timeout_seconds=3_600)
            outlived()

        async def main():
            await DBOS.start_workflow_async(order)
            await asyncio.to_thread(await_waiting)

        asyncio.run(main())
    """,
    "async, and the program fails": """
        @DBOS.workflow()
        async def order():
            await DBOS.recv_async(timeout_seconds=3_600)
            outlived()

        async def main():
            await DBOS.start_workflow_async(order)
            await asyncio.to_thread(await_waiting)
            sys.exit(7)

        asyncio.run(main())
    """,
}
PROGRAM = """
import asyncio, os, sys, threading
from tidings import DBOS
from tidings.engine.process import Process
from tidings.engine.hooks import Point
from tidings.error import DBOSShutdownError

def outlived():
    os._exit(99)

waiting = threading.Semaphore(0)

def await_waiting(times=1):
    for _ in range(times):
        waiting.acquire()

DBOS(config={"name": "test", "system_database_url": sys.argv[1], "application_version": "1"})
DBOS.launch()
Process.host.engine.hooks.set(Point.WAITING, lambda _: waiting.release())
"""


@pytest.mark.parametrize("how", EXITS)
def test_defect_10_the_exit_waits_for_no_recv(database_url: str, tmp_path: Path, how: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + textwrap.dedent(EXITS[how]))
    ended = programs.run(*programs.python(program, database_url), timeout=PATIENCE)
    assert ended.returncode == (7 if how.endswith("fails") else 0), ended.stderr
    assert "Traceback" not in ended.stderr
    rows = Rows(database_url)
    assert rows.run("select status, executor_id from {workflows}") == [("PENDING", None)]
    assert rows.run("select name, state from {entries}") == [("DBOS.recv", "OPEN")]
    assert rows.run("select count(*) from {executors}") == [(0,)]


def test_defect_10_asyncio_run_twice_works(database_url: str) -> None:
    """Also: a workflow whose loop ended goes on."""
    DBOS(config={"name": "test", "system_database_url": database_url, "application_version": "1"})

    @DBOS.workflow()
    async def order() -> Any:
        await DBOS.set_event_async("waits", True)
        return await DBOS.recv_async(timeout_seconds=FOREVER)

    async def start(workflow_id: str) -> None:
        with SetWorkflowID(workflow_id):
            await DBOS.start_workflow_async(order)
        assert await DBOS.get_event_async(workflow_id, "waits", FOREVER)

    async def finish() -> list[Any]:
        with SetWorkflowID("third"):
            third = asyncio.create_task(order())
        assert await DBOS.get_event_async("third", "waits", FOREVER)
        for workflow_id in ("first", "second", "third"):
            await DBOS.send_async(workflow_id, f"hello {workflow_id}")
        results = [await DBOS.get_result_async(workflow_id) for workflow_id in ("first", "second")]
        return [*results, await third]

    with DBOS.launch():
        asyncio.run(start("first"))
        asyncio.run(start("second"))
        assert asyncio.run(finish()) == ["hello first", "hello second", "hello third"]
        assert DBOS.get_result("third") == "hello third"
    DBOS.destroy(destroy_registry=True)


# --- 12: nothing that is read from the database is executed ------------------------------------------

executed: list[str] = []


def execute(what: str) -> None:
    """What no text in the database may call."""
    executed.append(what)


class Payload:
    """Unpickled, it calls `execute`."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return execute, ("unpickled",)


@dataclass
class Trap:
    """Of a kind that is stored; its own code must not run when it is read."""

    value: str

    def __post_init__(self) -> None:
        execute("__post_init__")

    def __setstate__(self, state: Any) -> None:
        execute("__setstate__")


class TrapError(Exception):
    """An error whose constructor must not run when it is read."""

    def __init__(self, *args: object) -> None:
        execute("TrapError")
        super().__init__(*args)


PICKLE = base64.b64encode(pickle.dumps(Payload())).decode()
HOSTILE = {
    "pickle": PICKLE,
    "pickle in JSON": f'"{PICKLE}"',
    "pickle as bytes": f'{{"$tidings":"bytes","v":"{PICKLE}"}}',
    "old pickle": "ctests.api.test_defects\nexecute\n(S'unpickled'\ntR.",
    "os:system": '{"$tidings":"object","cls":"os:system","v":{"command":"exit"}}',
    "error os:system": '{"$tidings":"exception","cls":"os:system","v":{"args":["exit"]}}',
    "enum": '{"$tidings":"enum","cls":"tests.api.test_defects:execute","v":"called"}',
    "function": f'{{"$tidings":"object","cls":"{__name__}:execute","v":{{"what":"called"}}}}',
    "error function": f'{{"$tidings":"exception","cls":"{__name__}:execute","v":{{"args":["called"]}}}}',
    "tuple function": f'{{"$tidings":"namedtuple","cls":"{__name__}:execute","v":{{"what":"called"}}}}',
    "class of another kind": f'{{"$tidings":"object","cls":"{__name__}:Payload","v":{{}}}}',
    "dataclass": f'{{"$tidings":"object","cls":"{__name__}:Trap","v":{{"value":"read"}}}}',
    "error": f'{{"$tidings":"exception","cls":"{__name__}:TrapError","v":{{"args":["read"]}}}}',
    "subprocess": '{"$tidings":"object","cls":"subprocess:Popen","v":{"args":["false"]}}',
    "not imported": '{"$tidings":"object","cls":"antigravity:geohash","v":{"latitude":1}}',
    "import by path": '{"$tidings":"object","cls":"this:s.upper","v":{}}',
    "attribute path": '{"$tidings":"object","cls":"os:path.os.system","v":{}}',
    "unknown mark": '{"$tidings":"eval","v":"execute()"}',
    "py/reduce": '{"py/reduce":[{"py/function":"os.system"},{"py/tuple":["exit"]}]}',
    "yaml": "!!python/object/apply:os.system ['exit']",
}


@pytest.mark.parametrize("column", ["message", "event", "result", "error", "argument", "step", "step error"])
async def test_defect_12_text_in_the_database_is_never_executed(
    app: App, face: Face, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """Each text is put where the library has written one, and all that reads it is called."""
    monkeypatch.setattr(os, "system", execute)
    executed.clear()

    @face.step(name="step")
    async def step() -> str:
        return "harmless"

    @face.workflow()
    async def victim(argument: str = "harmless") -> Any:
        await step()
        await face.set_event("key", "harmless")
        await face.recv("go", FOREVER)
        with contextlib.suppress(DBOSSerializationError):
            await face.recv("hostile", 0)
        return "harmless"

    statement = {
        "message": "update {messages} set body = ? where topic = 'hostile' and {mine}",
        "event": "update {events} set value = ? where {mine}",
        "result": "update {workflows} set output = ? where {mine}",
        "error": "update {workflows} set status = 'ERROR', output = null, error = ? where {mine}",
        "argument": "update {workflows} set inputs = ? where {mine}",
        "step": "update {entries} set output = ? where name = 'step' and {mine}",
        "step error": "update {entries} set output = null, error = ? where name = 'step' and {mine}",
    }[column]
    ended = column in ("result", "error")
    ids = {kind: f"victim of {kind}" for kind in HOSTILE}
    for workflow_id in ids.values():
        await face.start(victim, workflow_id=workflow_id)
        await face.send(workflow_id, "harmless", "hostile")
        await app.waiting("message", workflow_id, "go")
        if ended:
            await face.send(workflow_id, None, "go")
            await face.get_result(workflow_id)
    await app.crash()
    for kind, text in HOSTILE.items():
        app.rows.run(statement.replace("{mine}", _mine(app, statement)), text, ids[kind])

    await app.launch()
    read = 0
    for workflow_id in ids.values():
        if not ended:
            await face.send(workflow_id, None, "go")
        for reading in (
            partial(face.get_result, workflow_id),
            partial(face.get_workflow_status, workflow_id),
            partial(face.get_event, workflow_id, "key", 0),
            partial(face.get_all_events, workflow_id),
        ):
            with contextlib.suppress(DBOSException, TrapError, pickle.UnpicklingError):
                await reading()
                read += 1
    assert read > 2 * len(ids)
    assert executed == []
    assert not {"antigravity", "this"} & sys.modules.keys()
    pickle.loads(base64.b64decode(PICKLE))  # noqa: S301  # It would have been noticed.
    assert executed == ["unpickled"]


def _mine(app: App, statement: str) -> str:
    """The condition that picks the rows of one workflow."""
    if "{workflows}" in statement:
        return "workflow_id = ?"
    column = "destination" if "{messages}" in statement else "workflow"
    if app.rows.is_sqlite:
        return f"{column}_seq = (select seq from {{workflows}} where workflow_id = ?)"
    return f"{column}_id = ?"


async def test_defect_12_a_message_that_cannot_be_read_says_why_and_stays_unread(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> list[str]:
        await face.recv("go", FOREVER)
        refusals = []
        for _ in range(2):
            try:
                await face.recv("hostile", 0)
            except DBOSSerializationError as error:
                refusals.append(str(error))
        return refusals

    handle = await face.start(order, workflow_id="w")
    await face.send("w", "harmless", "hostile")
    app.rows.run("update {messages} set body = ?", HOSTILE["os:system"])
    await face.send("w", None, "go")
    refusals = await handle.get_result()
    assert len(refusals) == 2
    assert all("on topic 'hostile' to workflow 'w'" in refusal and "os:system" in refusal for refusal in refusals)
    assert app.rows.run("select read_by_branch from {messages} where topic = 'hostile'") == [(None,)]


# --- 13: parallel steps ------------------------------------------------------------------------------

PARTIES = 16


@pytest.mark.parametrize("kind", ["async steps", "def steps", "async children"])
async def test_defect_13_parallel_steps_of_one_workflow_run_at_once(app: App, awaiting: Awaiting, kind: str) -> None:
    """Each waits at a barrier until all of them are there."""
    tasks, threads = asyncio.Barrier(PARTIES), threading.Barrier(PARTIES)

    @DBOS.step()
    async def async_step(number: int) -> int:
        async with asyncio.timeout(PATIENCE):
            await tasks.wait()
        return number

    @DBOS.step()
    def def_step(number: int) -> int:
        threads.wait(PATIENCE)
        return number

    @DBOS.workflow()
    async def child(number: int) -> int:
        return await async_step(number)

    def run(number: int) -> Coroutine[Any, Any, int]:
        if kind == "def steps":
            return DBOS.run_step_async(None, def_step, number)
        return async_step(number) if kind == "async steps" else child(number)

    @DBOS.workflow()
    async def order() -> list[int]:
        numbers = await asyncio.gather(*(run(number) for number in range(PARTIES)))
        await DBOS.recv_async("go", FOREVER)
        return numbers

    handle = await awaiting.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()  # They have run, and run no more: one of them alone would wait at the barrier.
    await DBOS.send_async(handle.workflow_id, None, "go")
    assert await DBOS.get_result_async(handle.workflow_id) == list(range(PARTIES))
