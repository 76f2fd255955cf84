"""Programs of different names share a database, and execute each other's workflows never."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from tests.support import programs
from tests.support.app import App, Sightings
from tests.support.face import Face
from tidings import DBOS, DBOSConfig
from tidings.api.config import settings_from
from tidings.error import DBOSConflictingWorkflowError, DBOSInitializationError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


def _define(face: Face) -> Any:
    """A workflow that both programs have, under one name and in one version."""

    @face.workflow(name="process")
    async def process(what: str) -> str:
        await face.set_event("begun", what)
        await face.write_stream("log", what)
        await face.recv("go", FOREVER)
        return f"did {what}"

    return process


async def _look(app: App) -> None:
    """Wait until this program has looked, twice, for all that is left to take over."""
    takeover, looks = app.host.supervisor._takeover, Sightings()
    look = takeover.look

    def noted(*, thorough: bool) -> None:
        look(thorough=True)
        looks.note(thorough)

    with patch.object(takeover, "look", noted):
        app.host.supervisor.look()
        await looks.until(lambda seen: len(seen) >= 2)


async def _start(app: App, face: Face, process: Any) -> None:
    await face.start(process, "invoice", workflow_id="w")
    await app.waiting("message", "w", "go")


@pytest.mark.parametrize("ends", ["by a crash", "in good order"])
async def test_a_workflow_waits_for_its_own_program(app: App, face: Face, ends: str) -> None:
    process = _define(face)
    await _start(app, face, process)
    await (app.crash_and_restart if ends == "by a crash" else app.relaunch)(name="other")
    await _look(app)
    status = await face.get_workflow_status("w")
    assert (status.status, status.program, status.app_version) == ("PENDING", "test", "1")
    await face.send("w", None, "go")
    with pytest.raises(TimeoutError):
        await face.get_result("w", timeout_seconds=0.05)
    assert app.host.runner.live("w") is None
    assert [each.pending_workflows for each in await face.list_executors() if each.program == "other"] == [0]
    await app.relaunch(name="test")
    assert await face.get_result("w") == "did invoice"


async def test_programs_talk_with_each_others_workflows(app: App, face: Face) -> None:
    process = _define(face)
    await _start(app, face, process)
    await app.crash_and_restart(name="other")
    assert await face.get_event("w", "begun") == "invoice"
    assert await face.get_all_events("w") == {"begun": "invoice"}
    assert await face.read_stream_offset("w", "log", 0) == "invoice"
    assert [each.workflow_id for each in await face.list_workflows(name="process")] == ["w"]
    await face.send("w", "hello", "go")
    assert [each.topic for each in await face.list_messages("w")] == ["go"]
    await face.cancel_workflow("w")
    assert (await face.get_workflow_status("w")).status == "CANCELLED"


async def test_both_programs_execute_their_own(app: App, face: Face) -> None:
    process = _define(face)
    await _start(app, face, process)
    await app.crash_and_restart(name="other")
    await face.start(process, "mail", workflow_id="v")
    await app.waiting("message", "v", "go")
    for workflow_id in ("v", "w"):
        await face.send(workflow_id, None, "go")
    assert await face.get_result("v") == "did mail"
    await app.crash_and_restart(name="test")
    assert await face.get_result("w") == "did invoice"
    found = {each.workflow_id: each.program for each in await face.list_workflows()}
    assert found == {"v": "other", "w": "test"}


async def test_a_child_belongs_to_the_program_of_its_parent(app: App, face: Face) -> None:
    process = _define(face)

    @face.workflow()
    async def parent() -> Any:
        return await process("child")

    handle = await face.start(parent)
    [child] = await _children(app, face, handle.workflow_id)
    assert child.program == "test"
    await app.crash_and_restart(name="other")
    await _look(app)
    await face.send(child.workflow_id, None, "go")
    assert (await face.get_workflow_status(child.workflow_id)).status == "PENDING"
    await app.relaunch(name="test")
    assert await face.get_result(handle.workflow_id) == "did child"


async def _children(app: App, face: Face, parent_id: str) -> list[Any]:
    await app.waits.until(lambda seen: any(keys and keys[0][0] == "message" for keys in seen))
    children: list[Any] = await face.list_workflows(parent_workflow_id=parent_id)
    return children


async def test_an_id_belongs_to_one_program(app: App, face: Face) -> None:
    process = _define(face)
    await _start(app, face, process)
    await app.crash_and_restart(name="other")
    with pytest.raises(
        DBOSConflictingWorkflowError,
        match=r"'w' belongs to the function 'process' of the program 'test', .*'process' of the program 'other'",
    ):
        await face.start(process, "invoice", workflow_id="w")

    @face.workflow()
    async def parent() -> str:
        with pytest.raises(DBOSConflictingWorkflowError, match="of the program 'test'"):
            await face.start(process, "invoice", workflow_id="w")
        return "refused"

    assert await parent() == "refused"


async def test_what_an_earlier_version_of_tidings_started_goes_on_in_any_program(app: App, face: Face) -> None:
    """Nothing is known of which program it belongs to; from then on it is the one that took it."""
    process = _define(face)
    await _start(app, face, process)
    await app.crash()
    app.rows.run("update {workflows} set program = null")
    await app.launch(name="other")
    await app.waiting("message", "w", "go")
    assert (await face.get_workflow_status("w")).program == "other"
    again = await face.start(process, "invoice", workflow_id="w")
    await face.send("w", None, "go")
    assert await again.get_result() == "did invoice"


async def test_a_program_under_a_new_name_is_told_of_its_workflows(app: App, face: Face, log: Sightings) -> None:
    await _start(app, face, _define(face))
    await app.crash()
    app.rows.run("delete from {executors}")
    await app.launch(name="renamed")
    await log.until(lambda seen: any("belongs to the program 'test', which is not running" in each for each in seen))
    [said] = [each for each in log.seen if "belongs to the program" in each]
    assert "1 pending workflow of 'process' is not recovered here, for example 'w'" in said
    assert "this is 'renamed'" in said
    assert "set 'name' to the old name" in said


PROGRAM = """
import os, sys
from tidings import DBOS, SetWorkflowID
name, url, does = sys.argv[1:]
@DBOS.workflow()
def process(x):
    DBOS.recv("go", timeout_seconds=3600)
    return f"{name} did {x}"
DBOS(config={"name": name, "system_database_url": url, "application_version": "1.0"})
with DBOS.launch():
    if does == "starts and dies":
        with SetWorkflowID("w"):
            DBOS.start_workflow(process, "invoice")
        os._exit(9)
    if does == "sends":
        DBOS.send("w", 1, "go")
    else:
        print(DBOS.get_result("w", timeout_seconds=60))
"""


def test_two_programs_that_are_alike_but_for_their_names(database_url: str) -> None:
    def run(*arguments: str) -> str:
        done = programs.run(*programs.python("-c", PROGRAM, arguments[0], database_url, *arguments[1:]))
        assert done.returncode in {0, 9}, done.stderr
        return done.stdout

    run("billing", "starts and dies")
    run("mailer", "sends")
    assert run("billing", "awaits") == "billing did invoice\n"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 513])
def test_a_name_that_cannot_be_recorded_is_refused(name: str) -> None:
    config: DBOSConfig = {"name": name, "system_database_url": "sqlite:///x.sqlite"}
    with pytest.raises(DBOSInitializationError, match="the configuration's 'name' cannot be used: name"):
        settings_from(config)


async def test_executors_say_which_program_they_are_of(app: App, face: Face) -> None:
    [mine] = await face.list_executors()
    assert mine.program == "test"
    await app.relaunch(name="other")
    [mine] = await face.list_executors()
    assert mine.program == "other"
    assert DBOS.application_version == "1"
