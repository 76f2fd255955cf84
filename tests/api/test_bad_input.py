"""Bad input gets a clear error that says what, where and what to do, and nothing is half-written."""

import contextlib
import math
import random
import re
import tempfile
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.password import PASSWORD
from harness.postgres import free_port
from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Blocking, Face
from tests.support.faulty import FaultyStore, Trap
from tidings import DBOS, DBOSConfig, SendMessage, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, limits
from tidings import store as stores
from tidings.engine.process import REGISTRY, Process
from tidings.error import (
    DBOSConflictingRegistrationError,
    DBOSConflictingWorkflowError,
    DBOSContextError,
    DBOSInitializationError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSShutdownError,
    DBOSUnexpectedStepError,
)
from tidings.store.protocol import Unavailable

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


class Unstorable:
    """Of no kind that can be stored."""


UNSTORABLE = {"order": {"items": [1, Unstorable()]}}
IN_UNSTORABLE = ".order.items[1]"

# Every public operation that has a blocking and an awaiting form, and arguments that it takes.
OPERATIONS: dict[str, tuple[Any, ...]] = {
    "send": ("w", 1),
    "send_bulk": ([SendMessage("w", 1)],),
    "recv": (),
    "recv_message": (),
    "set_event": ("key", 1),
    "get_event": ("w", "key"),
    "get_all_events": ("w",),
    "start_workflow": (len,),
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
    "list_executors": (),
    "list_application_versions": (),
    "patch": ("p",),
    "deprecate_patch": ("p",),
    "write_stream": ("key", 1),
    "close_stream": ("key",),
    "read_stream": ("w", "key"),
    "read_stream_offset": ("w", "key", 0),
    "sleep": (0,),
    "run_step": (None, len, ""),
}
PLAIN_OUTSIDE_OF_WORKFLOWS = {"run_step"}
# Called at once, and refused when they are to give something; with what is written before the name.
ITERATORS = {"read_stream": "async for value in", "as_completed": "async for handle in"}
MAY_BE_CALLED_ON_A_LOOP = {"launch", "destroy"}
BRIEF = {"start_workflow", "run_step"}  # these too: they hold it up for a commit, or as any function does


def _awaited(name: str) -> str:
    return rf"{ITERATORS.get(name, 'await')} DBOS\.{name}_async"


def test_these_are_all_operations() -> None:
    names = dir(DBOS)
    both = {name for name in names if f"{name}_async" in names}
    assert both - MAY_BE_CALLED_ON_A_LOOP == OPERATIONS.keys()


# --- calls in the wrong place -----------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["recv", "recv_message"])
async def test_receiving_is_for_workflows_themselves(app: App, face: Face, operation: str) -> None:
    called = operation if isinstance(face, Blocking) else f"{operation}_async"

    @face.step()
    async def receive_in_a_step() -> Any:
        return await getattr(face, operation)(timeout_seconds=0)

    @face.workflow()
    async def order() -> Any:
        await face.recv("go", FOREVER)
        with pytest.raises(
            DBOSContextError, match=rf"DBOS\.{called} was called in the step '.*receive_in_a_step'; only"
        ):
            await receive_in_a_step()
        return await face.recv(timeout_seconds=0)

    handle = await face.start(order)
    await face.send(handle.workflow_id, "hello")
    with pytest.raises(DBOSContextError, match=rf"DBOS\.{called} was called outside of any workflow; only the code"):
        await getattr(face, operation)(timeout_seconds=0)
    await face.send(handle.workflow_id, None, "go")
    assert await handle.get_result() == "hello"


async def test_an_event_belongs_to_a_workflow(app: App, face: Face) -> None:
    called = "set_event" if isinstance(face, Blocking) else "set_event_async"
    with pytest.raises(DBOSContextError, match=rf"DBOS\.{called}\('key'\) was called outside of any workflow"):
        await face.set_event("key", 1)
    assert app.rows.counts()["events"] == 0


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - BRIEF))
async def test_a_blocking_call_on_a_running_loop_names_what_to_await(app: App, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"would block the running event loop; use: {_awaited(name)}\("):
        getattr(DBOS, name)(*OPERATIONS[name])
    assert set(app.rows.counts().values()) == {0}


async def test_a_blocking_call_in_an_async_workflow_names_what_to_await(app: App) -> None:
    refusals: dict[str, str] = {}

    async def step() -> None: ...

    @DBOS.workflow()
    def child() -> None: ...

    @DBOS.workflow()
    async def order() -> str:
        calls: dict[str, Callable[[], Any]] = {"step": partial(DBOS.run_step, {"name": "step"}, step), "child": child}
        for name in OPERATIONS.keys() - BRIEF:
            calls[name] = partial(getattr(DBOS, name), *OPERATIONS[name])
        for name, call in calls.items():
            try:
                call()
            except RuntimeError as error:
                refusals[name] = str(error)
        return await DBOS.run_step_async(None, lambda: "it goes on")

    assert await order() == "it goes on"
    for name in OPERATIONS.keys() - BRIEF:
        assert re.search(rf"would block the running event loop; use: {_awaited(name)}\(\.\.\.\)", refusals[name])
    assert refusals["step"].startswith("the step 'step' would block")
    assert "await DBOS.run_step_async(...)" in refusals["step"]
    assert refusals["child"].startswith(f"the workflow {child.__qualname__!r} would block")
    assert "await DBOS.start_workflow_async(...), and then its handle's get_result()" in refusals["child"]
    assert app.rows.counts() == {
        "workflows": 1,
        "entries": 1,
        "messages": 0,
        "events": 0,
        "stream_items": 0,
        "closed_streams": 0,
    }


async def test_a_blocking_handle_on_a_running_loop_names_what_to_await(app: App) -> None:
    handle: WorkflowHandle[None] = WorkflowHandle("w", DBOS)
    with pytest.raises(RuntimeError, match=r"use: await DBOS\.get_result_async\("):
        handle.get_result()
    with pytest.raises(RuntimeError, match=r"use: await DBOS\.get_workflow_status_async\("):
        handle.get_status()


async def test_launch_and_destroy_may_be_called_on_a_running_loop(app: App, awaiting: Awaiting) -> None:
    @DBOS.workflow()
    async def order() -> Any:
        return await DBOS.recv_async(timeout_seconds=FOREVER)

    handle = await awaiting.start(order)
    DBOS.destroy()
    DBOS.launch()
    await DBOS.send_async(handle.workflow_id, "hello")
    assert await DBOS.get_result_async(handle.workflow_id) == "hello"


async def test_before_launch_and_after_destroy_an_operation_says_what_to_call(app: App, face: Face) -> None:
    await DBOS.destroy_async()
    for name in OPERATIONS.keys() - PLAIN_OUTSIDE_OF_WORKFLOWS - ITERATORS.keys():
        with pytest.raises(DBOSShutdownError, match=r"not running .*DBOS\.destroy\(\) has stopped it; call DBOS"):
            await getattr(face, name)(*OPERATIONS[name])
    with pytest.raises(DBOSShutdownError, match="not running"):
        await face.read("w", "key")


async def test_after_destroy_workflows_do_not_run_and_steps_are_plain_functions(app: App, face: Face) -> None:
    runs = []

    @face.workflow()
    async def order() -> None:
        runs.append("workflow")

    @face.step()
    async def step() -> str:
        return "plain"

    handle = await face.start(order)
    await handle.get_result()
    await DBOS.destroy_async()
    for call in (order, partial(face.start, order), handle.get_result, handle.get_status):
        with pytest.raises(DBOSShutdownError, match="not running in this process"):
            await call()
    assert runs == ["workflow"]
    assert await step() == "plain"
    assert await face.run_step(None, len, "abc") == 3


async def test_tidings_is_configured_and_launched_once(app: App) -> None:
    with pytest.raises(DBOSInitializationError, match=r"DBOS\.launch\(\) was called again"):
        DBOS.launch()
    with pytest.raises(DBOSInitializationError, match=r"call DBOS\.destroy\(\) before DBOS\(config=\.\.\.\)"):
        DBOS(config={"name": "again"})
    await DBOS.destroy_async()
    await DBOS.destroy_async()  # harmless


def test_launch_wants_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "settings", None)
    with pytest.raises(DBOSInitializationError, match=r"call DBOS\(config=.* before DBOS\.launch\(\)"):
        DBOS.launch()


# --- destinations that do not exist -----------------------------------------------------------------


async def test_a_send_to_an_unknown_id_leaves_nothing_not_even_its_idempotency_key(app: App, face: Face) -> None:
    @face.workflow()
    async def receiver() -> list[Any]:
        await face.recv("go", FOREVER)
        return [await face.recv(timeout_seconds=0) for _ in range(3)]

    @face.step()
    async def send_in_a_step() -> None:
        await face.send("late", "in a step", idempotency_key="a")

    @face.workflow()
    async def sender() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError, match="'late'; nothing was sent"):
            await send_in_a_step()

    bulk = [SendMessage("known", "b", None, "b"), SendMessage("late", "c", None, "c")]
    known = await face.start(receiver, workflow_id="known")
    with pytest.raises(DBOSNonExistentWorkflowError, match="no workflow has the id 'late'; nothing was sent"):
        await face.send("late", "a", idempotency_key="a")
    with pytest.raises(DBOSNonExistentWorkflowError, match="no workflow has the id 'late'; nothing was sent"):
        await face.send_bulk(bulk)
    await sender()
    assert app.rows.counts()["messages"] == 0

    late = await face.start(receiver, workflow_id="late")
    await face.send("late", "a", idempotency_key="a")
    await face.send_bulk(bulk)
    for handle in (known, late):
        await face.send(handle.workflow_id, None, "go")
    assert await known.get_result() == ["b", None, None]
    assert await late.get_result() == ["a", "c", None]


async def test_what_needs_a_workflow_that_does_not_exist_names_it(app: App, face: Face) -> None:
    for operation in (face.get_all_events, face.retrieve_workflow, face.get_result, face.cancel_workflow):
        with pytest.raises(DBOSNonExistentWorkflowError, match="no workflow has the id 'nobody'"):
            await operation("nobody")


# --- values that cannot be stored -------------------------------------------------------------------


async def test_an_argument_that_cannot_be_stored_starts_nothing(app: App, face: Face) -> None:
    @face.workflow()
    async def child(order: Any) -> str:
        return "ran"

    @face.workflow()
    async def parent() -> str:
        for start in (partial(child, UNSTORABLE), partial(face.start, child, UNSTORABLE)):
            with pytest.raises(DBOSSerializationError, match="the arguments of workflow"):
                await start()
        return await child("storable")

    for start in (partial(child, UNSTORABLE), partial(face.start, child, UNSTORABLE, workflow_id="chosen")):
        with pytest.raises(DBOSSerializationError, match=r"the arguments of workflow '.*child'.*Unstorable") as raised:
            await start()
        assert raised.value.path == f"$.args[0]{IN_UNSTORABLE}"
    assert set(app.rows.counts().values()) == {0}
    assert await parent() == "ran"
    assert app.rows.counts()["workflows"] == 2
    assert await (await face.start(child, "storable", workflow_id="chosen")).get_result() == "ran"


async def test_a_result_that_cannot_be_stored_is_the_error_that_the_workflow_ends_with(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> Any:
        return UNSTORABLE

    await face.start(order, workflow_id="w")
    for _ in range(2):
        with pytest.raises(DBOSSerializationError, match=r"the result of workflow 'w'.*Unstorable") as raised:
            await face.get_result("w")
        assert raised.value.path == f"${IN_UNSTORABLE}"
        await app.crash_and_restart()
    assert (await face.get_workflow_status("w")).status == "ERROR"
    with pytest.raises(DBOSSerializationError):
        await order()


async def test_a_step_result_that_cannot_be_stored_is_the_error_of_the_step(app: App, face: Face) -> None:
    runs = []

    @face.step(retries_allowed=True, interval_seconds=0)
    async def step() -> Any:
        runs.append(1)
        return UNSTORABLE

    @face.workflow()
    async def order() -> list[str]:
        with pytest.raises(DBOSSerializationError) as raised:
            await step()
        await face.recv("go", FOREVER)
        return [str(raised.value), raised.value.path]

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    message, path = await face.get_result(handle.workflow_id)
    assert "the result of step" in message
    assert "Unstorable" in message
    assert path == f"${IN_UNSTORABLE}"
    assert runs == [1]


@pytest.mark.parametrize("value", [UNSTORABLE, {"order": {"items": [1, "\ud800"]}}], ids=["object", "surrogate"])
async def test_a_message_or_event_that_cannot_be_stored_fails_at_the_call(app: App, face: Face, value: Any) -> None:
    async def refused(call: Awaitable[Any], what: str) -> None:
        with pytest.raises(DBOSSerializationError, match=what) as raised:
            await call
        assert raised.value.path == f"${IN_UNSTORABLE}"
        assert str(raised.value).isprintable()

    bulk = [SendMessage("w", "good"), SendMessage("w", value)]

    async def all_refused() -> None:
        await refused(face.send("w", value), "the message to workflow 'w'")
        await refused(face.send_bulk(bulk), "message 1 to workflow 'w'")

    @face.step()
    async def in_a_step() -> None:
        await all_refused()
        await refused(face.set_event("key", value), "the event 'key'")

    @face.workflow()
    async def order() -> Any:
        await all_refused()
        await refused(face.set_event("key", value), "the event 'key'")
        await in_a_step()
        await face.recv("go", FOREVER)
        await face.send("w", "good")
        await face.set_event("key", "good")
        return await face.recv(timeout_seconds=0)

    handle = await face.start(order, workflow_id="w")
    await all_refused()
    await app.waiting("message", "w", "go")
    counts = app.rows.counts()
    assert (counts["messages"], counts["events"]) == (0, 0)
    assert app.rows.run("select name from {entries} order by ordinal") == [(in_a_step.__qualname__,), ("DBOS.recv",)]
    await app.crash_and_restart()
    await face.send("w", None, "go")
    assert await face.get_result(handle.workflow_id) == "good"
    assert await face.get_event("w", "key") == "good"


async def test_a_value_that_contains_itself_or_nests_too_deep_is_refused(app: App, face: Face) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]

    @face.workflow()
    async def order() -> str:
        for value in (circle, deep):
            with pytest.raises(DBOSSerializationError, match=r"the message to workflow 'w': \$"):
                await face.send("w", value)
        return "it goes on"

    assert await (await face.start(order, workflow_id="w")).get_result() == "it goes on"
    assert app.rows.counts()["messages"] == 0


async def test_text_with_nul_is_a_value_like_any_other(app: App, face: Face) -> None:
    """Not so in ids, topics and keys: see below."""

    @face.step()
    async def step(value: str) -> str:
        return value

    @face.workflow()
    async def order(value: str) -> list[Any]:
        await face.set_event("key", value)
        await face.send("w", {value: value})
        return [await step(value), await face.recv(timeout_seconds=0)]

    assert await (await face.start(order, "a\0b", workflow_id="w")).get_result() == ["a\0b", {"a\0b": "a\0b"}]
    assert await face.get_event("w", "key") == "a\0b"


async def test_a_value_over_the_size_limit_is_refused(app: App, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_VALUE_BYTES", 1_000)
    large, fits = "é" * 500, "é" * 499  # in JSON with its quotes: 1,002 and 1,000 bytes
    too_large = (
        "would take 1,002 bytes, more than the 1,000 a value may have; store large data elsewhere and pass a reference"
    )

    @face.step()
    async def step(value: str) -> str:
        return value

    @face.workflow()
    async def order(_: str = "") -> str:
        with pytest.raises(DBOSLimitError, match=f"the message to workflow 'w' {too_large}"):
            await face.send("w", large)
        with pytest.raises(DBOSLimitError, match=f"message 0 to workflow 'w' {too_large}"):
            await face.send_bulk([SendMessage("w", large)])
        with pytest.raises(DBOSLimitError, match=f"the event 'key' {too_large}"):
            await face.set_event("key", large)
        with pytest.raises(DBOSLimitError, match=f"the result of step '.*step' {too_large}"):
            await step(large)
        await face.send("w", fits)
        await face.set_event("key", await step(await face.recv(timeout_seconds=0)))
        return large

    with pytest.raises(DBOSLimitError, match=r"the arguments of workflow '.*order' would take 1,025 bytes"):
        await face.start(order, large)
    assert set(app.rows.counts().values()) == {0}
    with pytest.raises(DBOSLimitError, match=f"the result of workflow 'w' {too_large}"):
        await (await face.start(order, workflow_id="w")).get_result()
    assert await face.get_event("w", "key") == fits
    assert app.rows.run("select body from {messages}") == [(f'"{fits}"',)]
    assert app.rows.counts()["events"] == 1
    assert app.rows.run("select status from {workflows}") == [("ERROR",)]


# --- ids, topics, keys, timeouts --------------------------------------------------------------------


def of_bytes(count: int, character: str = "") -> str:
    """Text of so many bytes; in no order, so that no database can make it smaller."""
    if character:
        return character * (count // len(character.encode())) + "x" * (count % len(character.encode()))
    return "".join(random.Random(count).choices([chr(each) for each in range(33, 127)], k=count))


@dataclass(frozen=True)
class Bad:
    value: Any
    error: type[Exception]
    match: str


BAD_TEXTS = [
    Bad("a\0b", DBOSLimitError, r"'a\\x00b' contains a NUL character, which no store can keep"),
    Bad("a\ud800b", DBOSLimitError, r"'a\\ud800b' contains a lone surrogate"),
    Bad(7, TypeError, r"must be a string, not int \(7\)"),
    Bad(b"bytes", TypeError, "must be a string, not bytes"),
    Bad(["a"], TypeError, "must be a string, not list"),
]
BAD_IDS = [
    *BAD_TEXTS,
    Bad(None, TypeError, "must be a string, not None"),
    Bad("", DBOSLimitError, "must not be empty"),
    Bad(of_bytes(513), DBOSLimitError, "takes 513 bytes of UTF-8, more than the 512 allowed"),
    Bad("é" * 257, DBOSLimitError, "takes 514 bytes of UTF-8, more than the 512 allowed"),
]
BAD_KEYS = [
    *BAD_TEXTS,
    Bad(of_bytes(1_025), DBOSLimitError, "takes 1,025 bytes of UTF-8, more than the 1,024 allowed"),
    Bad("🦊" * 257, DBOSLimitError, "takes 1,028 bytes of UTF-8, more than the 1,024 allowed"),
]
BAD_TIMEOUTS = [
    Bad(-1, DBOSLimitError, "must be 0 or more seconds.*; got -1"),
    Bad(-0.001, DBOSLimitError, "must be 0 or more seconds"),
    Bad(-math.inf, DBOSLimitError, "must be 0 or more seconds"),
    Bad(math.nan, DBOSLimitError, "must be 0 or more seconds.*; got nan"),
    Bad(timedelta(seconds=-1), DBOSLimitError, "must be 0 or more seconds"),
    Bad(math.inf, DBOSLimitError, "must be at most 3,162,240,000 seconds.*; got inf"),
    Bad(1e300, DBOSLimitError, "must be at most 3,162,240,000 seconds"),
    Bad(10**400, DBOSLimitError, "must be at most .*; got an integer of about 400 digits"),
    Bad(timedelta.max, DBOSLimitError, "must be at most 3,162,240,000 seconds"),
    Bad("5", TypeError, "must be a number of seconds or a timedelta.*, not '5'"),
    Bad(True, TypeError, "must be a number of seconds or a timedelta.*, not True"),
    Bad([5], TypeError, "must be a number of seconds"),
]


async def refused(bad: Bad, what: str, call: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> None:
    with pytest.raises(bad.error, match=rf"^\w+\.\w+: {what} .*{bad.match}") as raised:
        await call(*arguments, **named)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


async def test_a_bad_workflow_id_is_refused_before_anything_is_written(app: App, face: Face) -> None:
    async def all_refused(bad: Bad) -> None:
        await refused(bad, "destination_id", face.send, bad.value, 1)
        await refused(bad, "destination_id", face.send_bulk, [SendMessage("w", 1), SendMessage(bad.value, 1)])
        await refused(bad, "workflow_id", face.get_event, bad.value, "key", 0)
        for operation in (
            face.get_all_events,
            face.get_result,
            face.get_workflow_status,
            face.retrieve_workflow,
            face.cancel_workflow,
        ):
            await refused(bad, "workflow_id", operation, bad.value)
        with pytest.raises(bad.error, match=bad.match):
            SetWorkflowID(bad.value)

    @face.workflow()
    async def order() -> str:
        for bad in BAD_IDS:
            await all_refused(bad)
        return "it goes on"

    assert await (await face.start(order, workflow_id="w")).get_result() == "it goes on"
    for bad in BAD_IDS:
        await all_refused(bad)
    assert app.rows.counts() == {
        "workflows": 1,
        "entries": 0,
        "messages": 0,
        "events": 0,
        "stream_items": 0,
        "closed_streams": 0,
    }


async def test_a_bad_topic_or_key_is_refused_before_anything_is_written(app: App, face: Face) -> None:
    async def all_refused(bad: Bad) -> None:
        bulk = [SendMessage("w", 1), SendMessage("w", 1, bad.value)]
        await refused(bad, "topic", face.send, "w", 1, bad.value)
        await refused(bad, "topic", face.send_bulk, bulk)
        await refused(bad, "idempotency_key", face.send, "w", 1, idempotency_key=bad.value)
        await refused(bad, "idempotency_key", face.send_bulk, [SendMessage("w", 1, None, bad.value)])
        await refused(bad, "event key", face.get_event, "w", bad.value, 0)

    @face.workflow()
    async def order() -> str:
        for bad in BAD_KEYS:
            await all_refused(bad)
            await refused(bad, "topic", face.recv, bad.value, 0)
            await refused(bad, "topic", face.recv_message, bad.value, 0)
            await refused(bad, "event key", face.set_event, bad.value, 1)
        return "it goes on"

    assert await (await face.start(order, workflow_id="w")).get_result() == "it goes on"
    for bad in BAD_KEYS:
        await all_refused(bad)
    assert app.rows.counts() == {
        "workflows": 1,
        "entries": 0,
        "messages": 0,
        "events": 0,
        "stream_items": 0,
        "closed_streams": 0,
    }


async def test_an_event_has_a_key(app: App, face: Face) -> None:
    """A message may have no topic, and then `None` is its topic."""
    bad = Bad(None, TypeError, "must be a string, not None")

    @face.workflow()
    async def order() -> None:
        await refused(bad, "event key", face.set_event, None, 1)

    await (await face.start(order, workflow_id="w")).get_result()
    await refused(bad, "event key", face.get_event, "w", None, 0)


@pytest.mark.parametrize("character", ["", "🦊", "'", "\\"])
async def test_ids_topics_and_keys_at_their_limits_work(app: App, face: Face, character: str) -> None:
    workflow_id, key = of_bytes(512, character), of_bytes(1_024, character)

    @face.workflow()
    async def order() -> list[Any]:
        await face.set_event(key, "first")
        await face.set_event(key, "second")
        received = [await face.recv(key, FOREVER), await face.recv(key, FOREVER)]
        return [*received, await face.recv(key, 0)]

    handle = await face.start(order, workflow_id=workflow_id)
    for value in ("a", "a again"):
        await face.send(workflow_id, value, key, idempotency_key=key)
    await face.send(workflow_id, "b", key)
    assert await handle.get_result() == ["a", "b", None]
    assert await face.get_event(workflow_id, key) == "second"
    assert await face.get_all_events(workflow_id) == {key: "second"}
    await app.crash_and_restart()
    assert await face.get_result(workflow_id) == ["a", "b", None]


async def test_ids_and_event_keys_are_never_run_together(app: App, face: Face) -> None:
    keys = ["", "::", "b::c", "c", "'", '"', "''; --", "%s", "?", "{}", "\\", "\n", " ", "é", "e\u0301", "🦊", "K", "k"]

    @face.workflow()
    async def order() -> None:
        for key in keys:
            await face.set_event(key, f"{DBOS.workflow_id} {key}")

    for workflow_id in ("a", "a::b"):
        await (await face.start(order, workflow_id=workflow_id)).get_result()
    for workflow_id in ("a", "a::b"):
        assert await face.get_all_events(workflow_id) == {key: f"{workflow_id} {key}" for key in keys}
        for key in keys:
            assert await face.get_event(workflow_id, key, 0) == f"{workflow_id} {key}"


async def test_a_bad_timeout_is_refused_before_anything_is_written(app: App, face: Face) -> None:
    async def all_refused(bad: Bad) -> None:
        await refused(bad, "timeout_seconds", face.get_event, "w", "key", bad.value)
        await refused(bad, "timeout_seconds", face.get_result, "w", timeout_seconds=bad.value)
        await refused(bad, "seconds", face.sleep, bad.value)

    @face.workflow()
    async def order() -> str:
        for bad in BAD_TIMEOUTS:
            await all_refused(bad)
            await refused(bad, "timeout_seconds", face.recv, None, bad.value)
            await refused(bad, "timeout_seconds", face.recv_message, None, bad.value)
        return "it goes on"

    handle = await face.start(order, workflow_id="w")
    assert await handle.get_result() == "it goes on"
    for bad in BAD_TIMEOUTS:
        await all_refused(bad)
        await refused(bad, "timeout_seconds", handle.get_result, timeout_seconds=bad.value)
    assert app.rows.counts()["entries"] == 0


async def test_a_sleep_has_an_end(app: App, face: Face) -> None:
    with pytest.raises(TypeError, match="seconds must be a number of seconds or a timedelta, not None"):
        await face.sleep(None)


async def test_seconds_may_be_a_timedelta_wherever_they_are_given(app: App, face: Face) -> None:
    """Each wait is as long as it says, and its deadline is recorded so."""
    minute, nothing = timedelta(minutes=1), timedelta(0)
    again = {"retries_allowed": True}

    @face.step(timeout_seconds=minute, retries_allowed=True, max_attempts=2, interval_seconds=timedelta(milliseconds=1))
    async def step() -> str:
        if not tries:
            tries.append("once more")
            raise ConnectionError
        return "done"

    @face.workflow()
    async def other() -> None:
        await face.sleep(timedelta(milliseconds=1))

    @face.workflow()
    async def order() -> list[Any]:
        return [
            await step(),
            await face.run_step({**again, "timeout_seconds": minute, "interval_seconds": nothing}, len, "four"),
            await face.sleep(timedelta(milliseconds=1)),
            await face.recv(timeout_seconds=nothing),
            await face.recv_message(timeout_seconds=nothing),
            await face.get_event("other", "key", minute),
            await face.get_result("other", timeout_seconds=minute),
            await face.recv("go", minute),
        ]

    tries: list[str] = []
    with SetWorkflowTimeout(timedelta(hours=1)):
        await (await face.start(other, workflow_id="other")).get_result(timeout_seconds=minute)
        handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    asked = app.rows.run(
        "select deadline_ms - started_at_ms from {entries} where name = 'DBOS.recv' and state = 'OPEN'"
    )
    assert asked == [(60_000,)]
    await face.send(handle.workflow_id, "ok", "go")
    assert await handle.get_result(timeout_seconds=minute) == ["done", 4, None, None, None, None, None, "ok"]
    assert (await handle.get_status()).workflow_timeout_ms == 3_600_000
    assert await face.get_event("other", "key", nothing) is None
    await face.sleep(timedelta(milliseconds=1))
    assert await face.read("other", "key", timeout_seconds=minute) == []


@pytest.mark.parametrize("bad", BAD_TIMEOUTS, ids=lambda bad: f"{bad.value!r:.20}")
async def test_each_other_parameter_in_seconds_is_checked_alike(app: App, bad: Bad) -> None:
    """Those of streams, steps, `SetWorkflowTimeout`, `destroy`: the error names the parameter."""
    calls: list[tuple[str, Callable[[], object]]] = [
        ("timeout_seconds", lambda: DBOS.read_stream_async("w", "key", timeout_seconds=bad.value)),
        ("timeout_seconds", lambda: DBOS.step(timeout_seconds=bad.value)(_step)),
        ("interval_seconds", lambda: DBOS.step(retries_allowed=True, interval_seconds=bad.value)(_step)),
        ("timeout_seconds", lambda: DBOS.run_step({"timeout_seconds": bad.value}, _step)),
        ("interval_seconds", lambda: DBOS.run_step({"interval_seconds": bad.value, "retries_allowed": True}, _step)),
        ("workflow_timeout_sec", lambda: SetWorkflowTimeout(bad.value)),
        ("workflow_completion_timeout_sec", lambda: DBOS.destroy(workflow_completion_timeout_sec=bad.value)),
    ]
    for what, call in calls:
        with pytest.raises(
            bad.error, match=rf"^(DBOS\.\w+|SetWorkflowTimeout|step '_?\w+'): {what} must be "
        ) as raised:
            call()
        assert len(str(raised.value)) < 300


async def test_send_bulk_takes_messages(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> str:
        for bulk in ([SendMessage("w", 1), "text"], [SendMessage("w", 1), ("w", 2)]):
            with pytest.raises(
                TypeError, match=r"takes a list of SendMessage\(\.\.\.\), and at index 1 is (str|tuple)"
            ):
                await face.send_bulk(bulk)
        return "it goes on"

    assert await (await face.start(order, workflow_id="w")).get_result() == "it goes on"
    assert app.rows.counts()["messages"] == 0


# --- functions --------------------------------------------------------------------------------------


async def test_two_functions_under_one_name_are_refused(app: App, face: Face) -> None:
    @face.workflow(name="order")
    async def first() -> str:
        return "first"

    with pytest.raises(DBOSConflictingRegistrationError, match="two functions are registered as 'order'") as raised:

        @face.workflow(name="order")
        async def second() -> str:
            return "second"

    message = str(raised.value)
    assert f"{first.__module__}.{first.__qualname__} (" in message
    assert "<locals>.second (" in message
    assert "@DBOS.workflow(name=...)" in message
    assert await first() == "first"


async def test_a_function_that_is_defined_again_takes_its_own_place(app: App, face: Face) -> None:
    """A factory that is called once more, for what is the same."""

    def define(value: str) -> Callable[[], Any]:
        @face.step()
        async def step() -> str:
            return value

        @face.workflow()
        async def order() -> list[str]:
            return [await step(), await face.recv(timeout_seconds=FOREVER)]

        return order

    handle = await face.start(define("value"))
    await app.waiting("message", handle.workflow_id, None)
    define("value")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, "hello")
    assert await face.get_result(handle.workflow_id) == ["value", "hello"]


async def test_another_function_under_a_used_workflow_id_is_refused(app: App, face: Face) -> None:
    runs = []

    @face.workflow()
    async def first() -> str:
        return str(await face.recv(timeout_seconds=FOREVER))

    @face.workflow()
    async def second() -> None:
        runs.append(1)

    @face.workflow()
    async def parent() -> list[str]:
        refusals = []
        for start in (partial(face.start, second, workflow_id="w"), second):
            try:
                with SetWorkflowID("w"):
                    await start()
            except DBOSConflictingWorkflowError as error:
                refusals.append(str(error))
        await face.recv("go", FOREVER)
        return refusals

    message = f"workflow id 'w' belongs to the function '{first.__qualname__}', so it cannot start the function"
    await face.start(first, workflow_id="w")
    with pytest.raises(DBOSConflictingWorkflowError, match=f"{message} '{second.__qualname__}'; use another id"):
        await face.start(second, workflow_id="w")
    handle = await face.start(parent)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send("w", "hello")
    assert await face.get_result("w") == "hello"
    with SetWorkflowID("w"), pytest.raises(DBOSConflictingWorkflowError, match=message):
        await second()  # It has ended, and still has its id.
    await face.send(handle.workflow_id, None, "go")
    refusals = await face.get_result(handle.workflow_id)
    assert len(refusals) == 2
    assert all(refusal.startswith(message) for refusal in refusals)
    assert runs == []


async def test_wrong_arguments_fail_at_the_call_and_start_nothing(app: App, face: Face) -> None:
    @face.workflow()
    async def order(count: int, *, size: int = 1) -> int:
        return count * size

    @face.workflow()
    async def parent() -> int:
        with pytest.raises(TypeError, match="missing a required argument: 'count'"):
            await face.start_workflow(order)
        return await order(3)

    wrong: Any = order
    for arguments, named, reason in (
        ((), {}, "missing a required argument: 'count'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"colour": "red"}, "got an unexpected keyword argument 'colour'"),
        ((1,), {"count": 2}, "multiple values for argument 'count'"),
    ):
        for start in (wrong, partial(face.start_workflow, wrong)):
            with pytest.raises(TypeError, match=f"workflow '{order.__qualname__}': {reason}"):
                await start(*arguments, **named)
    assert set(app.rows.counts().values()) == {0}
    assert await parent() == 3


async def test_only_workflows_can_be_started(app: App, face: Face) -> None:
    async def plain() -> None: ...

    @face.step()
    async def step() -> None: ...

    @face.workflow()
    async def order() -> None: ...

    for wrong, reason in (
        (plain, r"'plain' is not a workflow: decorate it with @DBOS\.workflow\(\)"),
        (step, r"step is a step, not a workflow; decorate it with @DBOS\.workflow\(\) instead"),
        (partial(order), r"not a functools\.partial: write DBOS\.start_workflow(_async)?\(order, \.\.\.\)"),
        ("order", r"not a name: write DBOS\.start_workflow(_async)?\(order, \.\.\.\), without quotes"),
        (None, r"takes a workflow function, and then its arguments, not None"),
        (lambda: None, r"a lambda is not a workflow: write it as a def, with @DBOS\.workflow\(\) above it"),
        (dict, r"not the class dict; start a method of it that has @DBOS\.workflow\(\) above it"),
        (print, r"print is built into Python, so it is not a workflow: call it in a step of a workflow"),
        (WorkflowHandle("w", DBOS), r"not the handle on workflow 'w', which was started already; call its get_result"),
        ((each for each in "ab"), r"arguments, not a generator expression\. If that is what the workflow returned"),
    ):
        with pytest.raises(TypeError, match=reason):
            await face.start_workflow(wrong)
    assert set(app.rows.counts().values()) == {0}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_attempts": 0}, "max_attempts must be 1 or more"),
        ({"max_attempts": -1}, "max_attempts must be 1 or more"),
        ({"max_attempts": "3"}, "max_attempts must be a whole number, not '3'"),
        ({"max_attempts": 2.5}, r"max_attempts must be a whole number, not 2\.5"),
        ({"max_attempts": True}, "max_attempts must be a whole number, not True"),
        ({"interval_seconds": -1}, "interval_seconds must be 0 or more"),
        ({"interval_seconds": math.nan}, "interval_seconds must be 0 or more"),
        ({"interval_seconds": "1"}, "interval_seconds must be a number"),
        ({"interval_seconds": None}, "interval_seconds must be a number"),
        ({"backoff_rate": -1}, "backoff_rate must be 0 or more"),
        ({"backoff_rate": math.nan}, "backoff_rate must be 0 or more"),
        ({"backoff_rate": math.inf}, "backoff_rate must be 0 or more, and finite"),
        ({"backoff_rate": "2"}, "backoff_rate must be a number, not '2'"),
        ({"backoff_rate": None}, "backoff_rate must be a number, not None"),
        ({"should_retry": ValueError("x")}, "should_retry must be a function"),
        ({"should_retry": ValueError}, "write should_retry=lambda error: isinstance"),
        ({"retries_allowed": "yes"}, "retries_allowed must be True or False, not 'yes'"),
        ({"retries_allowed": 1}, "retries_allowed must be True or False, not 1"),
        ({"timeout_seconds": 0}, "timeout_seconds must be more than 0 seconds, or None for no limit; got 0"),
        ({"timeout_seconds": -1}, "timeout_seconds must be more than 0"),
        ({"timeout_seconds": math.nan}, "timeout_seconds must be more than 0 seconds, or None for no limit; got nan"),
        (
            {"timeout_seconds": True},
            "timeout_seconds must be a number of seconds or a timedelta, or None for no limit, not True",
        ),
        (
            {"timeout_seconds": "5"},
            "timeout_seconds must be a number of seconds or a timedelta, or None for no limit, not '5'",
        ),
        ({"name": "DBOS.recv"}, "names that begin with 'DBOS.' are reserved for tidings"),
        ({"name": ""}, "step name must not be empty"),
        ({"name": "a\0b"}, "step name .* contains a NUL"),
        ({"name": of_bytes(513)}, "step name takes 513 bytes"),
        ({"name": 7}, "step name must be a string"),
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_step_options_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    """Where the step is defined, and where a function is run as one."""
    run_step: Any = DBOS.run_step
    for allowed in (False, True):
        with pytest.raises((TypeError, ValueError), match=reason):
            DBOS.step(**{"retries_allowed": allowed, **options})(_step)
        with pytest.raises((TypeError, ValueError), match=reason):
            run_step({"retries_allowed": allowed, **options}, _step)


@pytest.mark.parametrize(
    ("options", "as_keywords", "as_dict"),
    [
        ({"max_attempts": 5}, "max_attempts=5", "'max_attempts': 5"),
        ({"max_attempts": 2}, "max_attempts=2", "'max_attempts': 2"),
        ({"max_attempts": 3}, "max_attempts=3", "'max_attempts': 3"),
        (
            {"interval_seconds": 1.0, "max_attempts": 3, "backoff_rate": 2.0, "should_retry": None},
            "max_attempts=3",
            "'max_attempts': 3",
        ),
        ({"interval_seconds": 0.5}, "interval_seconds=0.5", "'interval_seconds': 0.5"),
        ({"interval_seconds": timedelta(seconds=2)}, "interval_seconds=2", "'interval_seconds': 2"),
        ({"interval_seconds": 0}, "interval_seconds=0", "'interval_seconds': 0"),
        ({"backoff_rate": 1}, "backoff_rate=1", "'backoff_rate': 1"),
        ({"should_retry": bool}, "should_retry=...", "'should_retry': ..."),
        ({"max_attempts": 1, "should_retry": bool}, "should_retry=...", "'should_retry': ..."),
        (
            {"max_attempts": 5, "backoff_rate": 1.5, "name": "pay"},
            "max_attempts=5, backoff_rate=1.5",
            "'max_attempts': 5, 'backoff_rate': 1.5",
        ),
    ],
    ids=lambda each: f"{each}"[:40],
)
def test_a_retry_option_without_retries_is_refused(options: dict[str, Any], as_keywords: str, as_dict: str) -> None:
    """The error says what to write. What says `retries_allowed` itself has decided, either way."""
    run_step: Any = DBOS.run_step
    for call, example in (
        (lambda: DBOS.step(**options)(_step), f"@DBOS.step(retries_allowed=True, {as_keywords})"),
        (lambda: run_step(options, _step), f"run_step({{'retries_allowed': True, {as_dict}}}, ...)"),
    ):
        with pytest.raises(
            ValueError, match=r"nothing without retries_allowed=True, because the step is tried"
        ) as raised:
            call()
        assert example in str(raised.value)
        assert str(raised.value).startswith(f"step {options.get('name', '_step')!r}: ")
    for allowed in (True, False):
        DBOS.step(**{**options, "retries_allowed": allowed, "name": f"{allowed} {options}"})(_step)


@pytest.mark.parametrize(
    "options",
    [
        {"retries_allowed": False, "interval_seconds": 1.0, "max_attempts": 3, "backoff_rate": 2.0},
        {"retries_allowed": False, "max_attempts": 5, "should_retry": bool},
        {"interval_seconds": 1, "backoff_rate": 2},
        {"max_attempts": 1},
    ],
    ids=lambda each: f"{each}"[:60],
)
async def test_a_program_that_passes_the_default_options_on_gets_one_try(
    app: App, face: Face, options: dict[str, Any]
) -> None:
    tries: list[str] = []

    @face.step(**options, name=f"decorated {options}")
    async def decorated() -> None:
        tries.append("decorated")
        raise ConnectionError("gone")

    def run() -> None:
        tries.append("run")
        raise ConnectionError("gone")

    @face.workflow()
    async def order() -> None:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="gone"):
                await decorated()
            with pytest.raises(ConnectionError, match="gone"):
                await face.run_step({**options, "name": f"run {options}"}, run)

    await order()
    assert tries == ["decorated", "run"] * 2


def _step() -> None:
    raise AssertionError("it must not run")


def test_run_step_says_how_it_is_called() -> None:
    run_step: Any = DBOS.run_step
    with pytest.raises(TypeError, match=r"DBOS\.run_step has no option 'attempts'; did you mean 'max_attempts'"):
        run_step({"attempts": 3}, _step)
    with pytest.raises(TypeError, match=r"write DBOS\.run_step\(None, _step, \.\.\.\): options, or None, come first"):
        run_step(_step, {"name": "step"})
    with pytest.raises(TypeError, match=r"second argument of DBOS\.run_step is the function to run, not 'step'"):
        run_step(None, "step")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", of_bytes(513), 7])
def test_a_bad_workflow_name_is_refused(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^workflow name "):
        DBOS.workflow(name=name)(_step)


# --- code that changed, or is gone ------------------------------------------------------------------

Code = Callable[[Face], Awaitable[Any]]


async def _pay_then_ship(face: Face) -> None:
    await face.run_step({"name": "pay"}, _number)
    await face.run_step({"name": "ship"}, _number)


async def _charge_then_ship(face: Face) -> None:
    await face.run_step({"name": "charge"}, _number)
    await face.run_step({"name": "ship"}, _number)


async def _pay_then_check_then_ship(face: Face) -> None:
    await face.run_step({"name": "pay"}, _number)
    await face.run_step({"name": "check"}, _number)
    await face.run_step({"name": "ship"}, _number)


async def _ship_then_pay(face: Face) -> None:
    await face.run_step({"name": "ship"}, _number)
    await face.run_step({"name": "pay"}, _number)


async def _set_a(face: Face) -> None:
    await face.set_event("a", 1)


async def _set_b(face: Face) -> None:
    await face.set_event("b", 1)


async def _receive_a(face: Face) -> None:
    await face.send(DBOS.workflow_id, 1, "a")
    await face.recv("a", FOREVER)


async def _receive_b(face: Face) -> None:
    await face.send(DBOS.workflow_id, 1, "a")
    await face.recv("b", FOREVER)


async def _run_child(face: Face) -> None:
    await face.workflow(name="ship")(_ship)()


async def _run_step_like_child(face: Face) -> None:
    await face.run_step({"name": "ship"}, _number)


async def _ship() -> int:
    return 1


def _number() -> int:
    return 1


CHANGES: dict[str, tuple[Code, Code, str]] = {
    "a step was renamed": (
        _pay_then_ship,
        _charge_then_ship,
        "was recorded with pay at operation 1, but the code now calls charge",
    ),
    "a step was inserted": (
        _pay_then_ship,
        _pay_then_check_then_ship,
        "was recorded with ship at operation 2, but the code now calls check",
    ),
    "a step was removed": (
        _pay_then_check_then_ship,
        _pay_then_ship,
        "was recorded with check at operation 2, but the code now calls ship",
    ),
    "steps were swapped": (
        _pay_then_ship,
        _ship_then_pay,
        "was recorded with pay at operation 1, but the code now calls ship",
    ),
    "the key of an event changed": (
        _set_a,
        _set_b,
        "DBOS.set_event of the event 'a' at operation 1, but the code now calls DBOS.set_event of the event 'b'",
    ),
    "a topic changed": (
        _receive_a,
        _receive_b,
        "was recorded with DBOS.recv on 'a' at operation 2, but the code now calls DBOS.recv on 'b'",
    ),
    "a child became a step": (
        _run_child,
        _run_step_like_child,
        "was recorded with the child workflow ship at operation 1, but the code now calls ship",
    ),
    "a step became a child": (
        _run_step_like_child,
        _run_child,
        "was recorded with ship at operation 1, but the code now calls the child workflow ship",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_code_that_changed_is_noticed_and_goes_on_when_it_is_right_again(
    app: App, face: Face, change: str
) -> None:
    before, after, what = CHANGES[change]

    def define(path: Code) -> Callable[[], Any]:
        @face.workflow()
        async def order() -> Any:
            await path(face)
            return await face.recv("go", FOREVER)

        return order

    await _changed(app, face, partial(define, before), partial(define, after), what)


@pytest.mark.parametrize("operations", [0, 1, 2])
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
async def test_code_that_ends_before_what_it_recorded_is_noticed(
    app: App, face: Face, operations: int, raises: bool
) -> None:
    """The last step was removed; all steps were; or the wait behind them."""

    def define(count: int, ends: bool) -> Callable[[], Any]:
        @face.workflow()
        async def order() -> Any:
            for number in range(1, count + 1):
                await face.run_step({"name": f"step {number}"}, _number)
            if not ends:
                return await face.recv("go", FOREVER)
            if raises:
                raise ValueError
            return "too early"

        return order

    found = "DBOS.recv" if operations == 2 else f"step {operations + 1}"
    what = f"was recorded with {found} at operation {operations + 1}, but the code now calls nothing: it ended"
    await _changed(app, face, partial(define, 2, False), partial(define, operations, True), what)


async def test_parameters_that_changed_are_noticed_and_keep_no_other_workflow_from_going_on(
    app: App, face: Face
) -> None:
    def define(changed: bool) -> Callable[..., Any]:
        async def order(count: int, size: int = 1) -> Any:
            return [count, size, await face.recv(timeout_seconds=FOREVER)]

        if changed:
            order.__defaults__ = None
        return face.workflow()(order)

    @face.workflow()
    async def other() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    order = define(False)
    for workflow_id, workflow, arguments in (("w", order, (1,)), ("other", other, ())):
        await face.start(workflow, *arguments, workflow_id=workflow_id)
        await app.waiting("message", workflow_id, None)
    await app.crash()
    recorded = _history(app)
    _forget(order)
    changed = define(True)
    await app.launch()
    await app.waiting("message", "other", None)
    with pytest.raises(DBOSUnexpectedStepError, match=r"calls .*order\(count: .*missing a required .*'size'"):
        await face.get_result("w")
    await DBOS.destroy_async()
    assert _history(app) == recorded
    _forget(changed)
    define(False)
    await app.launch()
    for workflow_id in ("w", "other"):
        await face.send(workflow_id, "hello")
    assert await face.get_result("w") == [1, 1, "hello"]
    assert await face.get_result("other") == "hello"


async def test_code_that_changed_cannot_swallow_the_error(app: App, face: Face) -> None:
    ran = []

    @face.workflow()
    async def other() -> None:
        ran.append("other")

    def define(first: str) -> Callable[[], Any]:
        @face.workflow()
        async def order() -> Any:
            operations: list[Callable[[], Awaitable[Any]]] = [
                partial(face.run_step, {"name": first}, _number),
                partial(face.send, "w", "swallowed"),
                partial(face.set_event, "swallowed", 1),
                partial(face.run_step, None, ran.append, "step"),
                partial(face.sleep, 0),
                partial(face.get_event, "w", "swallowed", 0),
                partial(face.start, other),
            ]
            for operation in operations if first == "charge" else operations[:1]:
                with contextlib.suppress(Exception):
                    await operation()
            return "swallowed" if first == "charge" else await face.recv("go", FOREVER)

        return order

    await _changed(app, face, partial(define, "pay"), partial(define, "charge"), "with pay at operation 1, but")
    assert ran == []
    assert app.rows.counts()["messages"] == 1  # The "go".


async def _changed(app: App, face: Face, before: Callable[[], Any], after: Callable[[], Any], what: str) -> None:
    """Start with the code of before, go on with that of after, which must not work, and end with that of before."""
    first = before()
    handle = await face.start(first, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash()
    recorded = _history(app)

    _forget(first)
    second = after()
    await app.launch()
    for _ in range(2):
        with pytest.raises(DBOSUnexpectedStepError) as raised:
            await face.get_result("w")
        assert str(raised.value).startswith("workflow 'w' was recorded with ")
        assert what in str(raised.value)
        assert "nothing was recorded. Run it with the code that started it, or make" in str(raised.value)
    assert (await face.get_workflow_status("w")).status == "PENDING"
    await DBOS.destroy_async()
    assert _history(app) == recorded

    _forget(second)
    before()
    await app.launch()
    await app.waiting("message", "w", "go")
    await face.send("w", "hello", "go")
    assert await face.get_result(handle.workflow_id) == "hello"


def _forget(workflow: Any) -> None:
    """Let the next program that this process plays have another function under the name of this workflow."""
    del REGISTRY._workflows[workflow.__tidings_workflow__.name]


def _history(app: App) -> list[list[tuple[Any, ...]]]:
    return [
        app.rows.run("select workflow_id, status, output, error from {workflows} order by seq"),
        app.rows.run("select branch, position, name, state, output, error from {entries} order by branch, position"),
        app.rows.run("select seq, body, read_by_position from {messages} order by seq"),
        app.rows.run("select key, version, value from {events} order by key, version"),
    ]


def _define_order(face: Face) -> Callable[[], Any]:
    @face.workflow(name="order")
    async def order() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    return order


async def _start_two(app: App, face: Face) -> None:
    order = _define_order(face)
    for workflow_id in ("w1", "w2"):
        await face.start(order, workflow_id=workflow_id)
        await app.waiting("message", workflow_id, None)


async def _finish_two(app: App, face: Face) -> None:
    for workflow_id in ("w1", "w2"):
        await face.send(workflow_id, f"hello {workflow_id}")
        assert await face.get_result(workflow_id) == f"hello {workflow_id}"


async def test_workflows_whose_function_is_gone_are_reported_and_wait_for_it(
    app: App, face: Face, log: Sightings
) -> None:
    await _start_two(app, face)
    await DBOS.destroy_async(destroy_registry=True)
    before = app.rows.run("select * from {workflows} order by seq"), _history(app)
    log.seen.clear()
    await app.launch()
    await log.until(lambda seen: any("not recovered here" in message for message in seen))
    [message] = [message for message in log.seen if "not recovered here" in message]
    assert message.startswith("2 pending workflows of 'order' are not recovered here, for example 'w")
    assert "no function is registered as 'order'; import the module that decorates it before DBOS.launch()" in message
    await face.send("w1", "hello w1")  # They take messages all the same.
    await DBOS.destroy_async()
    assert app.rows.run("select * from {workflows} order by seq") == before[0]
    assert _history(app)[1] == before[1][1]

    _define_order(face)
    await app.launch()
    assert await face.get_result("w1") == "hello w1"
    await face.send("w2", "hello w2")
    assert await face.get_result("w2") == "hello w2"


async def test_workflows_of_another_version_are_reported_and_left_alone(app: App, face: Face, log: Sightings) -> None:
    await _start_two(app, face)
    await DBOS.destroy_async()
    before = app.rows.run("select * from {workflows} order by seq"), _history(app)
    log.seen.clear()
    await app.launch(application_version="2", recover_versions="same")
    await log.until(lambda seen: any("not recovered here" in message for message in seen))
    [message] = [message for message in log.seen if "not recovered here" in message]
    assert message.startswith("2 pending workflows of 'order' are not recovered here, for example 'w")
    assert "started by version '1' of the code, and this is '2'; run that version until" in message
    assert "set 'recover_versions' to 'compatible'" in message
    await DBOS.destroy_async()
    assert (app.rows.run("select * from {workflows} order by seq"), _history(app)) == before
    await app.launch(application_version="1")
    await _finish_two(app, face)


async def test_the_version_is_that_of_the_code(app: App, face: Face, log: Sightings) -> None:
    """No version is configured: a change to the code is one, and the same code again is none."""
    app.config.pop("application_version")
    _define_order(face)
    await app.relaunch(recover_versions="same")
    await _start_two(app, face)
    await app.relaunch()
    await app.waiting("message", "w1", None)
    version = DBOS.application_version

    @face.step()
    async def another_step() -> None: ...

    await app.relaunch()
    await log.until(lambda seen: any("not recovered here" in message for message in seen))
    assert DBOS.application_version != version
    await DBOS.destroy_async(destroy_registry=True)
    _define_order(face)
    await app.launch()
    assert DBOS.application_version == version
    await _finish_two(app, face)


# --- configuration ----------------------------------------------------------------------------------


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a fresh process; files without a directory go to a temporary one."""
    monkeypatch.setattr(Process, "settings", None)
    for name in ("DBOS_SYSTEM_DATABASE_URL", "DBOS__APPVERSION", "DBOS__VMID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"name": "a", "system_databse_url": "x"}, "unknown key 'system_databse_url'; did you mean 'system_database_u"),
        ({"name": "a/b"}, r"'name' \('a/b'\) cannot be the name of a file\. .* give a 'system_database_url', or a"),
        ({"name": "a\\b"}, "cannot be the name of a file"),
        ({"name": "what?"}, "cannot be the name of a file"),
        ({"name": "a" * 300}, "cannot be the name of a file"),
        ({"name": "é" * 150}, "cannot be the name of a file"),
        ({"name": "a", "database_url": "x"}, "unknown key 'database_url'; did you mean 'system_database_url'"),
        ({"name": "a", "app_version": "x"}, "unknown key 'app_version'; did you mean 'application_version'"),
        (
            {"name": "a", "zzz": 1},
            "unknown key 'zzz'; known keys: name, .*, serializer, log_level",
        ),
        ({"name": "a", 7: 1}, "unknown key 7; known keys"),
        ({}, "needs a 'name', the name of your program"),
        ({"name": ""}, "needs a 'name'"),
        ({"name": None}, "needs a 'name'"),
        ({"name": 7}, r"'name' must be of type str, not int \(7\)"),
        ({"name": "a", "system_database_url": 7}, "'system_database_url' must be a string, not int: use sqlite:///"),
        ({"name": "a", "system_database_url": ""}, "'system_database_url' is empty; use sqlite:///"),
        ({"name": "a", "application_version": ""}, "'application_version' must not be empty"),
        ({"name": "a", "application_version": 2}, "'application_version' must be of type str, not int"),
        ({"name": "a", "executor_id": b"x"}, "'executor_id' must be of type str, not bytes"),
        ({"name": "a", "run_migrations": "no"}, "'run_migrations' must be of type bool, not str"),
        ({"name": "a", "max_executor_threads": "8"}, "'max_executor_threads' must be of type int, not str"),
        ({"name": "a", "max_executor_threads": True}, "'max_executor_threads' must be of type int, not True"),
        ({"name": "a", "max_executor_threads": 0}, "'max_executor_threads' must be 1 or more, not 0"),
        ({"name": "a", "serializer": "json"}, "'serializer' lacks the methods serialize, deserialize, name"),
        ([("name", "a")], "must be a dict, as in .*, not list"),
        (None, "must be a dict, as in .*, not None"),
        ("shop", "must be a dict, as in .*, not str"),
    ],
    ids=lambda each: str(each)[:50],
)
def test_a_bad_configuration_is_refused(no_settings: None, config: Any, reason: str) -> None:
    with pytest.raises(DBOSInitializationError, match=reason):
        DBOS(config=config)
    with pytest.raises(DBOSInitializationError, match=r"before DBOS\.launch\(\)"):
        DBOS.launch()


def test_a_key_that_is_none_is_not_configured(no_settings: None) -> None:
    keys = ["application_version", "executor_id", "max_executor_threads", "run_migrations", "system_database_url"]
    config: Any = {"name": "shop", **dict.fromkeys([*keys, "dbos_system_schema", "serializer"])}
    DBOS(config=config)
    with DBOS.launch():
        assert DBOS.workflow()(_number)() == 1
    assert Path("shop.sqlite").exists()
    DBOS.destroy(destroy_registry=True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "mysql://user:h1dden@host/db",
            "is for another kind of database: tidings supports only SQLite and PostgreSQL; use sqlite:///",
        ),
        ("user:h1dden@host/db", "has an unknown scheme: it does not begin with sqlite:// or postgresql://"),
        ("shop.sqlite", "has no scheme: if it is the path of an SQLite file, write sqlite:/// before it"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        (
            "sqlite://shop.sqlite",
            r"{where} is not the URL .*: its third slash is missing: write sqlite:///shop\.sqlite",
        ),
        ("sqlite:///:memory:", r"{where} \('sqlite:///:memory:'\) is not .*: a database in memory is lost with its"),
        ("sqlite:///file:x?mode=memory&cache=shared", "a database in memory is lost with its process"),
        ("postgresql://user:h1dden@host:port/db", "{where} has a port that is not a number"),
        ("postgresql://user:h1dden@more@host/db", "has more than one '@', .* percent-encode special characters"),
        ("postgresql://user:h1dden%@host/db", "percent-encoded"),
        ("postgresql://host/db?password=h1dden&nonsense=1", "has a parameter that PostgreSQL does not know"),
    ],
)
@pytest.mark.parametrize("by", ["configuration", "environment"])
def test_a_bad_database_url_is_refused_without_its_password(
    no_settings: None, monkeypatch: pytest.MonkeyPatch, url: str, reason: str, by: str
) -> None:
    config: DBOSConfig = {"name": "shop"}
    if by == "configuration":
        config["system_database_url"] = url
    else:
        monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", url)
    threads = set(threading.enumerate())

    def launch() -> None:
        DBOS(config=config)
        DBOS.launch()

    where = (
        "configuration's 'system_database_url'" if by == "configuration" else "environment's DBOS_SYSTEM_DATABASE_URL"
    )
    with pytest.raises(DBOSInitializationError, match=reason.replace("{where}", where)) as raised:
        launch()
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))
    assert Process.host is None
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("schema", ["", "a\0b", "x" * 64])
def test_a_bad_schema_is_refused(no_settings: None, postgres_url: str, schema: str) -> None:
    def launch() -> None:
        DBOS(config={"name": "shop", "system_database_url": postgres_url, "dbos_system_schema": schema})
        DBOS.launch()

    with pytest.raises(DBOSInitializationError, match=r"must not be empty|cannot name a schema"):
        launch()
    assert Process.host is None


# --- a database that is down, or too new ------------------------------------------------------------


def _down(database_url: str, tmp_path: Path) -> list[tuple[str, str]]:
    """URLs like this one where nobody answers, and what is said of each."""
    if database_url.startswith("sqlite"):
        (tmp_path / "text").write_text("this is no database" * 100)
        return [
            (f"sqlite:///{tmp_path}/nowhere/shop.sqlite", f"there is no directory {tmp_path}/nowhere: create it first"),
            (f"sqlite:///{tmp_path}", "this is a directory: name a file in it"),
            (f"sqlite:///{tmp_path}/text", "this file is not an SQLite database"),
        ]
    port, parts = free_port(), urlsplit(database_url)
    return [
        (f"postgresql://u:h1dden@127.0.0.1:{port}/shop", f"PostgreSQL database 'shop' at 127.0.0.1:{port}: .*refused"),
        (parts._replace(path="/nobodys_database").geturl(), 'database "nobodys_database" does not exist'),
        (
            parts._replace(netloc=f"nobody:h1dden@{parts.hostname}:{parts.port}").geturl(),
            'role "nobody" does not exist',
        ),
    ]


@pytest.mark.direct("looks at the words of the server")
async def test_a_database_that_is_down_at_launch_is_an_error_that_leaves_nothing_behind(
    app: App, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @face.workflow()
    async def order() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, None)
    await DBOS.destroy_async()
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "locks"))
    good_url = app.database_url
    before = await _named_threads()
    for url, reason in _down(good_url, tmp_path):
        with pytest.raises(DBOSInitializationError, match=reason) as raised:
            await app.launch(system_database_url=url)
        assert PASSWORD not in "".join(traceback.format_exception(raised.value))
        assert Process.host is None
        with pytest.raises(DBOSShutdownError):
            await face.send(handle.workflow_id, "too early")
        assert await _named_threads() == before
        assert list((tmp_path / "locks").iterdir()) == []
    await app.launch(system_database_url=good_url)
    await face.send(handle.workflow_id, "hello")
    assert await face.get_result(handle.workflow_id) == "hello"


async def _named_threads() -> set[str]:
    """The threads of tidings itself, but for workers and loops, which end in their own time."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("tidings-")} - {"tidings-worker", "tidings-loop"}


@pytest.mark.parametrize("method", ["now_ms", "enlist"])
def test_a_database_that_goes_away_during_launch_leaves_nothing_behind(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail() -> None:
        raise Unavailable("it went away")

    open_store = stores.open
    monkeypatch.setattr(stores, "open", lambda *args: FaultyStore(open_store(*args), Trap(fail, on=method)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = set(tmp_path.glob("*.lock"))
    DBOS(config={"name": "shop", "system_database_url": database_url})
    threads = set(threading.enumerate())
    with pytest.raises(DBOSInitializationError, match="the database did not answer: it went away"):
        DBOS.launch()
    assert Process.host is None
    assert set(threading.enumerate()) == threads
    assert set(tmp_path.glob("*.lock")) == files


@pytest.mark.parametrize("run_migrations", [True, False])
async def test_a_schema_newer_than_the_library_is_refused_and_left_alone(app: App, run_migrations: bool) -> None:
    version = "{schema}" if app.rows.is_sqlite else "{schema_version}"
    await DBOS.destroy_async()
    [(current,)] = app.rows.run(f"select version from {version}")
    app.rows.run(f"update {version} set version = 999")
    with pytest.raises(
        DBOSInitializationError, match=f"schema version 999 is newer than this library's {current}: upgrade tidings"
    ):
        await app.launch(run_migrations=run_migrations)
    assert Process.host is None
    assert app.rows.run(f"select version from {version}") == [(999,)]
    assert app.rows.run("select count(*) from {executors}") == [(0,)]
    app.rows.run(f"update {version} set version = {current}")
    await app.launch()


@pytest.mark.unmigrated
async def test_a_schema_that_is_missing_is_made_only_if_that_is_wanted(no_settings: None, database_url: str) -> None:
    config: DBOSConfig = {"name": "shop", "system_database_url": database_url, "run_migrations": False}
    DBOS(config=config)
    with pytest.raises(DBOSInitializationError, match="migrate it first"):
        DBOS.launch()
    DBOS(config={**config, "run_migrations": True})
    with DBOS.launch():
        pass
    DBOS(config=config)
    with DBOS.launch():
        pass
