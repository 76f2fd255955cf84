"""Defects seen in the peer that tidings must not have; the numbers are those of `PEER.md`.

Elsewhere, as they need several processes or a fork: 2, 9, 11; 6 is of streams.
"""

import asyncio
import base64
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Face
from tests.support.rows import Rows
from tidings import DBOS, SendMessage
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
PATIENCE = 60  # seconds: what is prompt takes a moment; what is not, an hour


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
        return await asyncio.gather(DBOS.recv_async("topic", FOREVER), DBOS.recv_async("topic", FOREVER))

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
        "sleep": lambda: app.waiting_for_time(),
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
    for refused in (lambda: face.send("w", 1, topic), lambda: face.send_bulk([SendMessage("w", 1, topic)])):
        with pytest.raises(DBOSLimitError, match=r"topic takes 9,000 bytes of UTF-8, more than the 1,024 allowed"):
            await refused()
    assert app.rows.counts() == {"workflows": 1, "entries": 0, "messages": 0, "events": 0}


async def test_defect_7_a_bulk_has_no_largest_size(app: App, face: Face) -> None:
    """The peer's driver fails beyond 13,107 messages. This bulk is sent by a workflow, the other one in M8 from outside."""
    count = 14_000

    @face.workflow()
    async def order() -> list[Any]:
        await face.send_bulk([SendMessage("w", number, str(number % 2), str(number)) for number in range(count)])
        return [await face.recv("1", 0), await face.recv("0", 0), await face.recv("1", 0)]

    assert await (await face.start(order, workflow_id="w")).get_result() == [1, 0, 3]
    assert app.rows.counts()["messages"] == count


async def test_defect_8_a_recv_costs_the_same_after_thousands(app: App, awaiting: Awaiting, clock: ManualClock) -> None:
    """Counted in what the database does for a `recv`: instructions of SQLite's machine, pages of PostgreSQL."""
    costs = []

    @DBOS.workflow()
    async def order() -> None:
        for consumed in (5, 2_000):
            for _ in range(consumed):
                await DBOS.recv_async("topic", FOREVER)
            assert await DBOS.recv_async("go", FOREVER) == "measure"
            await app.engine.committer.call(measure)
            assert await DBOS.recv_async("topic", 0) is not None
            costs.append(await app.engine.committer.call(finish))

    instructions: list[None] = []

    def measure(store: Any) -> None:
        instructions.clear()
        if isinstance(store.inner if hasattr(store, "inner") else store, SqliteStore):
            store._writer._connection.set_progress_handler(lambda: instructions.append(None), 1)

    def finish(store: Any) -> int:
        if isinstance(store, SqliteStore):
            return len(instructions)
        assert isinstance(store, PostgresStore)
        return 0

    handle = await awaiting.start(order)
    for _ in range(2):
        await DBOS.send_bulk_async([SendMessage(handle.workflow_id, number, "topic") for number in range(2_010)])
        await DBOS.send_async(handle.workflow_id, "measure", "go")
    await handle.get_result()
    print(costs)
