"""Where code stands: tasks open branches, other threads may not, and an attempt that is over writes nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from tests.support.engines import aside, running
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSContextError


async def _step(name: str) -> str:
    async def work() -> str:
        return name

    return await DBOS.run_step_async({"name": name}, work)


def test_each_task_that_calls_an_operation_opens_a_branch_within_its_parents(database_url: str) -> None:
    async def outer(name: str) -> None:
        await _step(f"{name} begins")
        await asyncio.gather(_step(f"{name} left"), _step(f"{name} right"))
        await _step(f"{name} ends")

    async def silent() -> str:
        return "opens none"

    @DBOS.workflow(name="branching")
    async def branching() -> None:
        await _step("first")
        await asyncio.gather(silent(), outer("a"), outer("b"))
        await asyncio.create_task(_step("later"))
        await _step("last")

    with running(database_url), SetWorkflowID("w"):
        DBOS.start_workflow(branching).get_result()
    entries = {entry.name: (entry.branch, entry.position) for entry in read_records(database_url).entries}
    assert entries == {
        "first": ("", 1),
        "a begins": ("1", 1),
        "a left": ("1.1", 1),
        "a right": ("1.2", 1),
        "a ends": ("1", 2),
        "b begins": ("2", 1),
        "b left": ("2.1", 1),
        "b right": ("2.2", 1),
        "b ends": ("2", 2),
        "later": ("3", 1),
        "last": ("", 2),
    }


def test_another_thread_may_call_no_operation_of_a_workflow(database_url: str) -> None:
    @DBOS.workflow(name="threaded")
    def threaded() -> str:
        context = contextvars.copy_context()
        with pytest.raises(DBOSContextError, match="'w' is called from a thread or event loop that is not its own"):
            aside(lambda: context.run(DBOS.set_event, "key", 1)).result()
        with pytest.raises(DBOSContextError, match="not its own"):
            aside(lambda: contextvars.copy_context().run(context.run, DBOS.recv, None, 0)).result()
        return "unharmed"

    with running(database_url), SetWorkflowID("w"):
        assert threaded() == "unharmed"
    assert read_records(database_url).entries == []


def test_another_event_loop_may_call_no_operation_of_a_workflow(database_url: str) -> None:
    @DBOS.workflow(name="two loops")
    async def two_loops() -> str:
        context = contextvars.copy_context()

        def elsewhere() -> None:
            context.run(lambda: asyncio.run(DBOS.set_event_async("key", 1)))

        with pytest.raises(DBOSContextError, match="not its own"):
            await asyncio.wrap_future(aside(elsewhere))
        return "unharmed"

    with running(database_url):
        assert DBOS.start_workflow(two_loops).get_result() == "unharmed"


def test_threads_of_a_step_may_write_with_its_context(database_url: str) -> None:
    async def fan_out() -> None:
        await asyncio.gather(*(asyncio.to_thread(DBOS.set_event, f"from thread {n}", n) for n in range(5)))

    @DBOS.workflow(name="fanning")
    async def fanning() -> None:
        await DBOS.run_step_async({"name": "fan out"}, fan_out)

    with running(database_url), SetWorkflowID("w"):
        DBOS.start_workflow(fanning).get_result()
    assert read_records(database_url).events_of("w") == {f"from thread {n}": str(n) for n in range(5)}


def test_what_an_attempt_leaves_behind_can_write_no_more(database_url: str) -> None:
    left_behind: list[Any] = []
    over = threading.Event()

    def leave_a_thread() -> None:
        context = contextvars.copy_context()

        def late() -> None:
            over.wait()
            context.run(DBOS.set_event, "late", 1)

        left_behind.append(aside(late))

    @DBOS.workflow(name="leaving")
    def leaving() -> None:
        DBOS.run_step({"name": "leave"}, leave_a_thread)
        over.set()
        with pytest.raises(DBOSContextError, match="try 1 of step 'leave' is over"):
            left_behind[0].result(timeout=PATIENCE_SECONDS)

    with running(database_url), SetWorkflowID("w"):
        leaving()
    assert read_records(database_url).events == []


def test_code_outside_of_any_workflow_stands_nowhere(database_url: str) -> None:
    with running(database_url):
        assert DBOS.workflow_id is None
        assert DBOS.step_id is None
        with pytest.raises(DBOSContextError, match="outside of any workflow"):
            DBOS.set_event("key", 1)
        with pytest.raises(DBOSContextError, match="outside of any workflow"):
            DBOS.recv()
