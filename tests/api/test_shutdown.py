"""Shutting down in good order: what runs may come to rest, and the rest goes on elsewhere."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support import programs
from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Face, Gate, off_loop
from tidings import DBOS
from tidings.error import DBOSLimitError, DBOSShutdownError


async def test_destroy_lets_workflows_end_that_can(app: App, face: Face) -> None:
    began, gate, ran = Sightings(), Gate(), Sightings()

    @face.step(name="first")
    async def first() -> None:
        began.note("first")
        await gate.opened()

    @face.step(name="second")
    async def second() -> None:
        ran.note("second")

    @face.workflow(name="child")
    async def child() -> str:
        await first()
        await second()
        return "done"

    @face.workflow(name="parent")
    async def parent() -> str:
        handle = await face.start_workflow(child)
        return str(await handle.get_result())

    await face.start(parent, workflow_id="w")
    await began.until(lambda seen: len(seen) == 1)
    destroying = asyncio.ensure_future(DBOS.destroy_async(workflow_completion_timeout_sec=3_600))
    await refused(face)
    gate.open()
    await destroying
    # Both have ended: the parent, which only waited, when its child had.
    assert app.rows.run("select distinct status from {workflows}") == [("SUCCESS",)]
    assert ran.seen == ["second"]
    await app.launch()
    assert await face.get_result("w", timeout_seconds=3_600) == "done"


async def refused(face: Face) -> None:
    """Wait until a start is refused: the shutdown has begun."""

    @face.workflow(name="one more")
    async def one_more() -> None: ...

    async def start_until_refused() -> None:
        while True:
            await (await face.start(one_more)).get_result()

    with pytest.raises(DBOSShutdownError, match="is being shut down"):
        await start_until_refused()


async def test_destroy_does_not_wait_for_what_only_waits(app: App, face: Face) -> None:
    @face.workflow(name="waits")
    async def waits() -> Any:
        return await face.recv("topic", None)

    @face.workflow(name="sleeps")
    async def sleeps() -> None:
        await face.sleep(3_600)

    await face.start(waits, workflow_id="w")
    await face.start(sleeps, workflow_id="s")
    await app.waiting("message", "w", "topic")
    await app.waiting_for_time()
    await DBOS.destroy_async(workflow_completion_timeout_sec=3_600)
    await app.launch()
    await face.send("w", "hello", "topic")
    assert await face.get_result("w", timeout_seconds=3_600) == "hello"


async def test_in_the_second_half_no_step_begins_and_none_is_cut_off(clock: ManualClock, app: App, face: Face) -> None:
    began, gate, ran = Sightings(), Gate(), Sightings()

    @face.step(name="first")
    async def first() -> None:
        began.note("first")
        await gate.opened()
        ran.note("first")

    @face.step(name="second")
    async def second() -> None:
        ran.note("second")

    @face.workflow(name="flow")
    async def flow() -> str:
        await first()
        await second()
        return "done"

    await face.start(flow, workflow_id="w")
    await began.until(lambda seen: len(seen) == 1)
    runner = app.host.runner
    destroying = asyncio.ensure_future(DBOS.destroy_async(workflow_completion_timeout_sec=60))
    await refused(face)
    clock.advance(30)
    await off_loop(wait_until, lambda: runner._no_more_steps is not None)
    gate.open()
    await destroying
    assert ran.seen == ["first"]
    await app.launch()
    assert await face.get_result("w", timeout_seconds=3_600) == "done"
    assert ran.seen == ["first", "second"], "the first was recorded, and did not run again"


async def test_when_the_time_is_over_destroy_leaves_a_step_behind_and_says_so(
    clock: ManualClock, app: App, face: Face, log: Sightings
) -> None:
    began, gate = Sightings(), Gate()

    @face.step(name="long")
    async def long() -> None:
        began.note("long")
        if len(began.seen) == 1:
            await gate.opened()

    @face.workflow(name="flow")
    async def flow() -> str:
        await long()
        return "done"

    await face.start(flow, workflow_id="w")
    await began.until(lambda seen: len(seen) == 1)
    destroying = asyncio.ensure_future(DBOS.destroy_async(workflow_completion_timeout_sec=60))
    await refused(face)
    clock.advance(60)
    await destroying
    await log.until(lambda seen: any("shut down after 60 s: step 'long' of workflow 'w'" in each for each in seen))
    await app.launch()
    assert await face.get_result("w", timeout_seconds=3_600) == "done"
    assert len(began.seen) == 2
    gate.open()


async def test_another_destroy_cuts_it_short(app: App, face: Face) -> None:
    began, gate = Sightings(), Gate()

    @face.step(name="long")
    async def long() -> None:
        began.note("long")
        await gate.opened()

    @face.workflow(name="flow")
    async def flow() -> None:
        await long()

    await face.start(flow, workflow_id="w")
    await began.until(lambda seen: len(seen) == 1)
    patient = asyncio.ensure_future(DBOS.destroy_async(workflow_completion_timeout_sec=None))
    await refused(face)
    await DBOS.destroy_async()
    await patient
    gate.open()
    await app.launch()


async def test_on_the_event_loop_it_does_not_wait_for_what_that_loop_runs(app: App, awaiting: Awaiting) -> None:
    """It would wait for itself."""

    @DBOS.step(name="loop.long")
    async def long() -> None:
        await asyncio.get_running_loop().create_future()

    @DBOS.workflow(name="loop.flow")
    async def flow() -> None:
        await long()

    await DBOS.start_workflow_async(flow)
    await asyncio.sleep(0)
    DBOS.destroy(workflow_completion_timeout_sec=3_600)
    await app.launch()


def test_the_time_is_not_negative() -> None:
    with pytest.raises(DBOSLimitError, match="workflow_completion_timeout_sec"):
        DBOS.destroy(workflow_completion_timeout_sec=-1)


# --- SIGTERM -------------------------------------------------------------------------------------------------

_PROGRAM = """
import sys, time
from tidings import DBOS, SetWorkflowID

@DBOS.step()
def work():
    print("working", flush=True)
    sys.stdin.readline()  # Told to be done, by the test.
    print("worked", flush=True)

@DBOS.workflow(name="term.flow")
def flow():
    work()
    DBOS.recv("never", None)

if len(sys.argv) > 2:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
DBOS(config={"name": "term", "system_database_url": sys.argv[1], "application_version": "1"})
DBOS.launch()
with SetWorkflowID("w"):
    DBOS.start_workflow(flow)
while True:  # Python handles a signal that arrives just before a sleep only after it.
    time.sleep(0.1)
"""


def program(database_url: str, *arguments: str, prelude: str = "") -> programs.Program:
    command = programs.python("-c", prelude + _PROGRAM, database_url, *arguments)
    return programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_sigterm_lets_a_step_finish_gives_the_rest_back_and_ends_the_process(app: App) -> None:
    process = await off_loop(program, app.database_url)
    assert process.stdin is not None
    assert process.stdout is not None
    assert await off_loop(process.stdout.readline) == "working\n"
    process.send_signal(signal.SIGTERM)
    process.stdin.write("done\n")
    process.stdin.flush()
    assert await off_loop(process.stdout.read) == "worked\n"
    assert await off_loop(process.wait) == -signal.SIGTERM
    [step, *_] = await DBOS.list_workflow_steps_async("w")
    assert step["function_name"].endswith("work")
    assert step["completed_at_epoch_ms"] is not None
    [found] = await DBOS.list_workflows_async()
    assert (found.status, found.executor_id) == ("PENDING", None)
    process.stdin.close()
    process.stdout.close()


async def test_a_program_that_handles_sigterm_itself_goes_on_doing_so(app: App) -> None:
    process = await off_loop(program, app.database_url, "own")
    assert process.stdout is not None
    assert process.stdin is not None
    assert await off_loop(process.stdout.readline) == "working\n"
    process.send_signal(signal.SIGTERM)
    assert await off_loop(process.wait) == 7
    process.stdin.close()
    process.stdout.close()


# As the kernel does with the signals of the first process of a container that it does not handle: nothing.
_FIRST = """
import os
from tidings.engine import signals
os.getpid, os.kill = lambda: 1, lambda *_: None
"""
# Or with one that somebody blocks.
_BLOCKED = """
import os
os.kill = lambda *_: None
"""
EXITED = 128 + signal.SIGTERM


@pytest.mark.parametrize("prelude", [_FIRST, _BLOCKED], ids=["first", "blocked"])
async def test_sigterm_ends_a_process_that_the_signal_does_not_end(app: App, prelude: str) -> None:
    process = await off_loop(program, app.database_url, prelude=prelude)
    assert process.stdin is not None
    assert process.stdout is not None
    assert await off_loop(process.stdout.readline) == "working\n"
    process.send_signal(signal.SIGTERM)
    process.stdin.write("done\n")
    process.stdin.flush()
    assert await off_loop(process.stdout.read) == "worked\n"
    assert await off_loop(process.wait) == EXITED
    [found] = await DBOS.list_workflows_async()
    assert (found.status, found.executor_id) == ("PENDING", None)
    process.stdin.close()
    process.stdout.close()


async def test_a_second_sigterm_ends_the_first_process_of_a_container_at_once(app: App) -> None:
    process = await off_loop(program, app.database_url, prelude=_FIRST)
    assert process.stdin is not None
    assert process.stdout is not None
    assert await off_loop(process.stdout.readline) == "working\n"
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:  # One that comes too early is the first one still: signals do not queue.
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0)
    assert process.returncode == EXITED
    process.stdin.close()
    process.stdout.close()


async def test_sigterm_ends_the_first_process_also_after_it_was_destroyed(app: App) -> None:
    """A server shuts everything down, and passes on the signal that told it to."""
    late = (
        _FIRST
        + """
from unittest.mock import patch
from tidings import DBOS
real = DBOS.launch
def launch():
    real()
    signals.TermHandler.remove = lambda self: None
    DBOS.destroy()
    print("destroyed", flush=True)
    time.sleep(3600)
patch.object(DBOS, "launch", launch).start()
"""
    )
    process = await off_loop(program, app.database_url, prelude=late)
    assert process.stdin is not None
    assert process.stdout is not None
    assert await off_loop(process.stdout.readline) == "destroyed\n"
    process.send_signal(signal.SIGTERM)
    assert await off_loop(process.wait) == EXITED
    process.stdin.close()
    process.stdout.close()


# --- what is cut off -----------------------------------------------------------------------------------------


def said_of(log: Sightings) -> list[str]:
    """Return the lines of the log that say that steps were cut off."""
    return [line for line in log.seen if "cut off" in line]


@pytest.fixture
async def stuck(app: App, face: Face) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """What starts a workflow whose step does not end."""
    began, gate = Sightings(), Gate()

    @face.step(name="charge")
    async def charge(workflow_id: str) -> None:
        began.note(workflow_id)
        await gate.opened()

    @face.workflow(name="order")
    async def order(workflow_id: str) -> None:
        await charge(workflow_id)

    async def begin(workflow_id: str) -> None:
        await face.start(order, workflow_id, workflow_id=workflow_id)
        await began.until(lambda seen: workflow_id in seen)

    yield begin
    gate.open()


@pytest.mark.parametrize(("seconds", "after"), [(0, ""), (0.01, " after 0.01 s")])
async def test_destroy_says_once_which_step_it_cuts_off(
    app: App, face: Face, log: Sightings, stuck: Callable[[str], Awaitable[None]], seconds: float, after: str
) -> None:
    await stuck("w1")
    await DBOS.destroy_async(workflow_completion_timeout_sec=seconds)
    await DBOS.destroy_async()
    [line] = said_of(log)
    assert line == (
        f"1 running step is cut off, because tidings is shut down{after}: step 'charge' of workflow 'w1'; "
        "each runs again when its workflow continues"
    )


async def test_of_many_steps_that_are_cut_off_a_few_are_named(
    app: App, face: Face, log: Sightings, stuck: Callable[[str], Awaitable[None]]
) -> None:
    for number in range(5):
        await stuck(f"w{number}")
    await DBOS.destroy_async()
    [line] = said_of(log)
    assert line.startswith("5 running steps are cut off")
    assert line.count("step 'charge' of workflow 'w") == 3
    assert "and 2 more" in line


async def test_nothing_is_said_of_workflows_that_only_wait(app: App, face: Face, log: Sightings) -> None:
    @face.workflow(name="waits")
    async def waits() -> None:
        await face.recv("never", None)

    await face.start(waits, workflow_id="w")
    await app.waiting("message", "w", "never")
    await DBOS.destroy_async(workflow_completion_timeout_sec=1)
    assert said_of(log) == []


_ENDING = """
import asyncio, sys, threading
from tidings import DBOS, SetWorkflowID

began = threading.Event()

@DBOS.step(name="charge")
def charge():
    began.set()
    threading.Event().wait()

@DBOS.step(name="charge later")
async def charge_later():
    began.set()
    await asyncio.Event().wait()

@DBOS.workflow(name="ending.blocking")
def blocking():
    charge()

@DBOS.workflow(name="ending.awaiting")
async def awaiting():
    await charge_later()

async def main():
    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(awaiting)
    await asyncio.to_thread(began.wait)

DBOS(config={"name": "ending", "system_database_url": sys.argv[1], "application_version": "1"})
DBOS.launch()
"""
_ENDINGS = {
    "the end of the program": """
with SetWorkflowID("w"):
    DBOS.start_workflow(blocking)
began.wait()
""",
    "sys.exit": """
with SetWorkflowID("w"):
    DBOS.start_workflow(blocking)
began.wait()
sys.exit(3)
""",
    "an exception": """
with SetWorkflowID("w"):
    DBOS.start_workflow(blocking)
began.wait()
raise KeyboardInterrupt
""",
    "the end of the loop": """
asyncio.run(main())
""",
}


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_program_that_ends_says_which_step_it_cuts_off(database_url: str, ending: str) -> None:
    ended = programs.run(*programs.python("-c", _ENDING + _ENDINGS[ending], database_url))
    lines = [line for line in ended.stderr.splitlines() if "cut off" in line]
    # A step whose loop was closed has perhaps begun again on another one.
    assert len(lines) == 1 or ending == "the end of the loop", ended.stderr
    assert "step 'charge" in lines[0], ended.stderr
    assert "of workflow 'w'" in lines[0]
