"""A process that is launched with `execute=False`: it takes over nothing, and what it starts others execute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.engines import VERSION, FaultyEngine, make_engine, wait_until
from tests.support.face import Face, off_loop
from tests.support.looking import look
from tidings import DBOS, SetWorkflowID, SetWorkflowTimeout
from tidings.engine.runs.registry import Registry
from tidings.error import (
    DBOSConflictingWorkflowError,
    DBOSSerializationError,
    DBOSWorkflowFunctionNotFoundError,
)
from tidings.model import ANY_VERSION

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run
HOUR_MS = 3_600_000

Worker = Callable[..., AbstractContextManager[FaultyEngine]]


@pytest.fixture
async def script(app: App) -> App:
    """A program that executes nothing, on an empty database, of whatever version."""
    app.executes = False
    await app.relaunch(name="tests", application_version=None)
    return app


@pytest.fixture
def worker(script: App) -> Worker:
    """Another process of the same program, which executes what it finds."""

    @contextmanager
    def running(version: str = VERSION, **more: Any) -> Iterator[FaultyEngine]:
        other = make_engine(script.database_url, version=version, recover_versions="same", **more)
        other.open()
        other.host.recover()
        try:
            yield other
        finally:
            other.stop()

    return running


async def test_it_takes_over_nothing_and_executes_nothing(app: App, face: Face) -> None:
    ran: list[str] = []

    @face.workflow(name="waits")
    async def waits() -> Any:
        ran.append("waits")
        return await face.recv("go", FOREVER)

    @face.workflow(name="quick")
    async def quick(number: int) -> int:
        ran.append("quick")
        return 2 * number

    await face.start(waits, workflow_id="left")
    await app.waiting("message", "left", "go")
    app.executes = False
    await app.crash_and_restart()
    handle = await face.start(quick, 21, workflow_id="started")
    await face.send("left", "sent", "go")
    assert not app.host.supervisor._thread.is_alive(), "nobody looks for what others left"
    assert not app.host.runner.ids()
    assert ran == ["waits"]
    assert [(each.status, each.recovery_attempts) for each in await face.list_workflows()] == [("PENDING", 0)] * 2
    assert (await handle.get_status()).executor_id is None
    assert {each.program for each in await face.list_executors() if each.executor_id == DBOS.executor_id} <= {None}
    app.executes = True
    await app.relaunch()
    assert await face.get_result("left") == "sent"
    assert await face.get_result("started") == 42


@pytest.mark.direct("must hear at once", only="transaction")
async def test_what_it_starts_another_process_executes_at_once(
    script: App, face: Face, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its handle, by a call, also one that fails; whatever version of the code that process has."""
    monkeypatch.setattr("tidings.engine.ownership.supervisor._LOOK_MS", HOUR_MS)  # Only who is told looks.

    @face.workflow(name="double")
    async def double(number: int) -> int:
        if number < 0:
            raise ValueError(f"negative: {number}")
        return 2 * number

    with worker("its own", lease_ms=3 * HOUR_MS) as other:
        wait_until(lambda: other.store.calls["pending_groups"] > 1)
        handle = await face.start(double, 21, workflow_id="one")
        assert await handle.get_result() == 42
        assert await double(4) == 8
        with pytest.raises(ValueError, match="negative: -1"):
            await double(-1)
        status = await handle.get_status()
        assert (status.executor_id, status.app_version) == (other.executor_id, "its own")
        assert status.recovery_attempts == 0
        assert await face.get_result("one") == 42


async def test_the_log_says_that_it_was_never_executed_before(
    script: App, face: Face, worker: Worker, log: Sightings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tidings")

    @face.workflow(name="double")
    async def double(number: int) -> int:
        return 2 * number

    await face.start(double, 1, workflow_id="one")
    await face.start(double, 2, workflow_id="two")
    with worker():
        assert await face.get_result("two") == 4
        await log.until(lambda seen: any("started by processes" in line for line in seen))
    assert "began 2 workflows started by processes that execute none (execute=False)" in log.seen
    assert not [line for line in log.seen if "recovered" in line or "is resumed" in line]
    assert "workflow 'one' (double) begins" in log.seen


async def test_a_function_that_no_process_has_is_logged_by_those_that_lack_it(
    script: App, face: Face, worker: Worker, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and only if no other process claims its workflows; a later launch says the same of what it finds."""
    monkeypatch.setattr("tests.support.engines.REGISTRY", Registry())  # The workers have imported nothing.

    @face.workflow(name="double")
    async def double(number: int) -> int:
        return 2 * number

    with worker(lease_ms=600) as other:
        wait_until(lambda: other.store.calls["pending_groups"] > 1)  # What it finds at its launch it says at once.
        handle = await face.start(double, 21, workflow_id="one")
        said = (
            "no process executes 1 pending workflow of 'double', for example 'one': no function is registered under "
            "this name in this process, and no other process has claimed it. Import the module"
        )
        await log.until(lambda seen: any(line.startswith(said) for line in seen))
        looks = other.store.calls["pending_groups"]
        wait_until(lambda: other.store.calls["pending_groups"] > looks + 3)
        assert sum(line.startswith("no process executes") for line in log.seen) == 1
        may = r"no process has executed it yet; process \d+ on .* takes it over, if .* registered there under its name"
        with pytest.raises(TimeoutError, match=may):
            await handle.get_result(timeout_seconds=1)
    with worker(lease_ms=600) as other:
        wait_until(lambda: other.store.calls["pending_groups"] > 6)
    [left] = [line for line in log.seen if "not recovered here" in line]
    assert "no function is registered as 'double'; import the module that decorates it" in left
    assert "version" not in left
    assert sum(line.startswith("no process executes") for line in log.seen) == 1


@pytest.mark.parametrize("waits", ["a call", "its handle", "its id", "with a limit"])
async def test_a_wait_that_no_process_can_end_is_logged_once(
    script: App, face: Face, worker: Worker, clock: ManualClock, log: Sightings, waits: str
) -> None:
    """By whichever wait. The wait goes on, and ends when a process executes the workflow."""
    await script.relaunch()  # on the clock

    @face.workflow(name="double")
    async def double(number: int) -> int:
        return 2 * number

    async def wait(number: int) -> Any:
        workflow_id = f"order-{number}"
        if waits == "a call":
            with SetWorkflowID(workflow_id):
                return await double(number)
        handle = await face.start(double, number, workflow_id=workflow_id)
        if waits == "its handle":
            return await handle.get_result()
        return await face.get_result(workflow_id, timeout_seconds=3_600 if waits == "with a limit" else None)

    waiting = asyncio.create_task(wait(1))
    await script.waiting("end", "order-1")
    await look(script.engine, clock)
    await log.until(lambda seen: any("order-1" in line for line in seen))
    await look(script.engine, clock)
    with worker(lease_ms=3 * HOUR_MS):
        assert await waiting == 2
    [said] = [line for line in log.seen if "order-1" in line]
    assert "a call in this process waits for workflow 'order-1', and no process executes it" in said
    assert "no process of the program 'tests' that executes workflows is running. Start one" in said


async def test_a_wait_for_what_another_process_executes_is_not_said(
    script: App, face: Face, worker: Worker, clock: ManualClock, log: Sightings
) -> None:
    await script.relaunch()

    @face.workflow(name="waits")
    async def waits() -> Any:
        return await face.recv("go", FOREVER)

    with worker(lease_ms=3 * HOUR_MS):
        handle = await face.start(waits, workflow_id="order")
        waiting = asyncio.create_task(handle.get_result())
        await script.waiting("end", "order")
        await look(script.engine, clock)
        await face.send("order", "sent", "go")
        assert await waiting == "sent"
    assert not [line for line in log.seen if "is waited for" in line]


async def test_it_is_durable_when_no_process_is_there(script: App, face: Face, worker: Worker) -> None:
    """It waits for one, past the end of the process that started it."""

    @face.workflow(name="double")
    async def double(number: int) -> int:
        return 2 * number

    for number in range(3):
        await face.start(double, number, workflow_id=f"w{number}")
    statuses = await face.list_workflows()
    assert [(each.status, each.executor_id, each.app_version) for each in statuses] == [
        ("PENDING", None, ANY_VERSION)
    ] * 3
    await script.relaunch()
    with worker():
        assert [await face.get_result(f"w{number}") for number in range(3)] == [0, 2, 4]


async def test_it_sends_reads_cancels_and_loops(script: App, face: Face, worker: Worker) -> None:
    @face.workflow(name="echo")
    async def echo() -> Any:
        await face.set_event("state", "begun")
        word = await face.recv("go", FOREVER)
        await face.write_stream("words", word)
        return word

    with worker():
        handles = [await face.start(echo, workflow_id=name) for name in "abc"]
        assert await face.get_event("a", "state") == "begun"
        await face.send("b", "over", "go")
        assert await face.get_result("b") == "over"
        assert await face.read("b", "words") == ["over"]
        report = await face.cancel_workflow("a")
        assert report.cancelled == ("a",)
        await face.send("c", "last", "go")
        assert set(await face.completed(handles)) == {"a", "b", "c"}


async def test_a_configured_version_is_that_of_what_it_starts(script: App, face: Face, worker: Worker) -> None:
    @face.workflow(name="quick")
    async def quick() -> str:
        return "done"

    await script.relaunch(application_version="2")
    assert DBOS.application_version == "2"
    await face.start(quick, workflow_id="new")
    await script.relaunch(application_version=None)
    await face.start(quick, workflow_id="any")
    with worker("1"):
        assert await face.get_result("any") == "done"
        status = await face.get_workflow_status("new")
        assert (status.status, status.app_version) == ("PENDING", "2")
    with worker("2"):
        assert await face.get_result("new") == "done"
        assert (await face.get_workflow_status("any")).app_version == "1"


async def test_ids_limits_and_arguments_count_as_elsewhere(script: App, face: Face, worker: Worker) -> None:
    @face.workflow(name="waits")
    async def waits(number: int) -> int:
        await face.recv("go", FOREVER)
        return number

    @face.workflow(name="other")
    async def other(number: int) -> int:
        return number

    with SetWorkflowTimeout(0.05):
        await face.start(waits, 1, workflow_id="late")
    await face.start(waits, 2, workflow_id="one")
    await face.start(waits, 3, workflow_id="one")
    with pytest.raises(DBOSConflictingWorkflowError):
        await face.start(other, 2, workflow_id="one")
    with pytest.raises(TypeError, match="workflow 'waits'"):
        await face.start(waits, 1, 2, workflow_id="bad")
    with pytest.raises(DBOSSerializationError):
        await face.start(waits, object(), workflow_id="bad")
    with worker():
        await face.send("one", None, "go")
        assert await face.get_result("one") == 2
        await off_loop(
            wait_until,
            lambda: script.rows.run("select status from {workflows} where workflow_id = 'late'") == [("CANCELLED",)],
        )
    assert [each.workflow_id for each in await face.list_workflows()] == ["late", "one"]


async def test_a_function_that_no_process_would_find_is_refused(app: App, face: Face) -> None:
    @face.workflow(name="forgotten")
    async def forgotten() -> None: ...

    app.executes = False
    await DBOS.destroy_async(destroy_registry=True)
    await app.launch()
    with pytest.raises(DBOSWorkflowFunctionNotFoundError):
        await face.start(forgotten, workflow_id="lost")
    assert await face.list_workflows() == []


async def test_who_leaves_leaves_at_once(script: App, face: Face) -> None:
    @face.workflow(name="quick")
    async def quick() -> None: ...

    await face.start(quick, workflow_id="left")
    await DBOS.destroy_async(workflow_completion_timeout_sec=None)
    await script.launch()
    with SetWorkflowID("left"):
        assert (await face.start_workflow(quick)).workflow_id == "left"


@pytest.mark.parametrize("bad", [None, 0, 1, "no"])
async def test_execute_is_true_or_false(app: App, bad: Any) -> None:
    await DBOS.destroy_async()
    for launch in (DBOS.launch, DBOS.launch_async):
        with pytest.raises(TypeError, match="execute must be True or False, not"):
            await off_loop(launch, execute=bad) if launch == DBOS.launch else await launch(execute=bad)  # type: ignore[misc]
    await app.launch()
