"""Who waits for a workflow that no process may execute is told so by the log, and why."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Face
from tests.support.looking import look
from tests.support.visitor import Visitor
from tidings.engine.ownership.progress import neglected, who_executes
from tidings.model import Executor, Status, WorkflowRecord

FOREVER = 3_600

ALTERED = {
    "name": ("renamed", "its name is 'renamed', and no workflow of that name is registered in this process"),
    "program": ("another", "no running process has version '1' of the code of the program 'another'"),
    "app_version": ("0", "no running process has version '0' of the code of the program 'test' (running: version '1')"),
}


def _alter(app: App, column: str, value: str) -> None:
    app.rows.run(f"update {{workflows}} set {column} = ? where workflow_id = 'w'", value)


async def _left_by_a_crash(app: App, face: Face, column: str, value: str) -> None:
    """Leave a workflow that no process may execute: somebody has altered its row."""

    @face.workflow(name="order")
    async def order() -> str:
        await face.recv("go", FOREVER)
        return "done"

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash()
    _alter(app, column, value)
    await app.launch(recover_versions="same")


@pytest.mark.parametrize("column", ALTERED)
async def test_v5_who_waits_is_told_why_nobody_executes_it(
    app: App, face: Face, clock: ManualClock, log: Sightings, column: str
) -> None:
    value, why = ALTERED[column]
    await _left_by_a_crash(app, face, column, value)
    waiting = [asyncio.ensure_future(face.get_result("w")) for _ in range(2)]
    await app.waiting("end", "w", times=2)
    await look(app.engine, clock)
    await log.until(lambda seen: any(why in line for line in seen))
    await look(app.engine, clock)
    assert sum("a call in this process waits for workflow 'w'" in line for line in log.seen) == 1
    _alter(app, column, {"name": "order", "program": "test", "app_version": "1"}[column])
    app.host.supervisor.look()
    await face.send("w", None, "go")
    assert await asyncio.gather(*waiting) == ["done", "done"]


async def test_v5_a_client_that_waits_is_told_too(
    app: App, face: Face, clock: ManualClock, log: Sightings, client: Visitor
) -> None:
    await _left_by_a_crash(app, face, "app_version", "0")
    waiting = asyncio.ensure_future(client.get_event("w", "never", None))
    await client.waiting("event", "w", "never")
    await look(client.engine, clock)
    await log.until(lambda seen: any("no running process has version '0'" in line for line in seen))
    await face.cancel_workflow("w")
    assert await waiting is None


async def test_nothing_is_asked_for_what_is_executed_here_or_not_waited_for_any_more(
    app: App, face: Face, clock: ManualClock
) -> None:
    await _left_by_a_crash(app, face, "name", "renamed")

    @face.workflow()
    async def here() -> None:
        await face.recv("go", FOREVER)

    await face.start(here, workflow_id="here")
    waits_here = asyncio.ensure_future(face.get_result("here"))
    await app.waiting("end", "here")
    waits_a_while = asyncio.ensure_future(face.get_result("w", timeout_seconds=1))
    await app.waiting("end", "w")
    clock.advance(1)
    with pytest.raises(TimeoutError):
        await waits_a_while
    with patch("tidings.engine.ownership.neglect._read", side_effect=AssertionError) as read:
        await look(app.engine, clock)
        assert not read.called
    await face.send("here", None, "go")
    await waits_here


def _executor(name: str, **fields: object) -> Executor:
    return replace(Executor(name, "", 2_000, 0, 10_000, "host", 7, 0, "1", "test"), **fields)


WORKFLOW = WorkflowRecord(
    "w", Status.PENDING, "order", None, None, None, "", 1, "gone", "1", None, 0, 0, program="test"
)


@pytest.mark.parametrize(
    ("alive", "names", "why", "is_certain"),
    [
        ([_executor("gone")], ["order"], None, None),
        ([_executor("me")], ["order"], "has done so (process 7 on host)", False),
        ([_executor("me")], ["other"], "no workflow of that name is registered in this process", True),
        ([_executor("me"), _executor("b", pid=8)], ["other"], "has done so (process 8 on host)", False),
        ([_executor("me", app_version=None), _executor("b", pid=8)], None, "has done so (process 8 on host)", False),
        ([_executor("me", app_version=None)], None, "no running process has version '1'", True),
        ([_executor("me", program="another")], ["order"], "of the program 'test'. Start", True),
    ],
)
def test_what_is_known_of_a_workflow_that_nobody_executes(
    alive: list[Executor], names: list[str] | None, why: str | None, is_certain: bool | None
) -> None:
    state = neglected(WORKFLOW, alive, "me", names)
    assert (None if state is None else state.is_certain) is is_certain
    assert why is None or (state is not None and why in state.why)


@pytest.mark.parametrize(
    ("alive", "names", "says"),
    [
        ([_executor("gone", pid=9)], ["order"], "it is running, in process 9 on host"),
        ([_executor("me")], ["order"], "its process has ended; this process takes it over"),
        ([_executor("b", pid=8), _executor("me")], ["order"], "its process has ended; this process takes it over"),
        (
            [_executor("me"), _executor("b", pid=8)],
            ["other"],
            "process 8 on host takes it over, if a workflow is regis",
        ),
        ([_executor("me")], ["other"], "no workflow of that name is registered in this process, the only running one"),
        (
            [_executor("b", pid=8)],
            None,
            "process 8 on host takes it over, if a workflow is registered there under its na",
        ),
        ([_executor("me", app_version=None)], None, "no running process has version '1'"),
    ],
)
@pytest.mark.parametrize("epoch", [0, 1])
def test_what_a_wait_that_has_ended_says_of_the_functions_that_are_registered(
    alive: list[Executor], names: list[str] | None, says: str, epoch: int
) -> None:
    said = who_executes(replace(WORKFLOW, epoch=epoch), alive, "me", names)
    wanted = says if epoch else says.replace("its process has ended", "no process has executed it yet")
    assert wanted in said
    assert epoch or "its process has ended" not in said


async def test_v5_a_wait_for_a_function_that_only_this_process_could_have_says_so(
    app: App, face: Face, clock: ManualClock
) -> None:
    await _left_by_a_crash(app, face, "name", "renamed")
    waiting = asyncio.ensure_future(face.get_result("w", timeout_seconds=1))
    await app.waiting("end", "w")
    clock.advance(1)
    why = "no process executes it: its name is 'renamed', and no workflow of that name is registered in this process"
    with pytest.raises(TimeoutError, match=why):
        await waiting
