"""Where code stands: tasks open branches, other threads may not, and an attempt that is over writes nothing."""

from __future__ import annotations

import asyncio
import contextvars
import sys
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


def test_wait_for_is_no_branch_on_any_python(database_url: str) -> None:
    """From Python 3.12 on it makes no task, and until then one: the same places must be recorded."""

    class Awaitable:
        def __await__(self) -> Any:
            return _step("an object").__await__()

    async def after_a_while(name: str) -> str:
        await asyncio.to_thread(lambda: None)
        return await _step(name)

    async def with_limit(name: str) -> None:
        await asyncio.wait_for(asyncio.sleep(0), 60)
        before = asyncio.create_task(_step(f"{name}: a task of before"))
        await asyncio.wait_for(_step(f"{name} within"), 60)
        await before
        await asyncio.wait_for(asyncio.gather(_step(f"{name} left"), _step(f"{name} right")), 60)

    async def until_cancelled() -> None:
        try:
            await DBOS.recv_async("never", None)
        finally:
            await _step("finally")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_step("grouped"))
        await _step("after the group")

    @DBOS.workflow(name="in time")
    async def in_time() -> None:
        await asyncio.wait_for(_step("alone"), 60)
        await asyncio.wait_for(_step("without a limit"), None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_step("no time at all"), 0)
        await asyncio.wait_for(asyncio.wait_for(_step("nested"), 60), 60)
        await asyncio.wait_for(after_a_while("late"), 60)
        await asyncio.wait_for(Awaitable(), 60)
        await asyncio.wait_for(grouped(), 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(until_cancelled(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await DBOS.recv_async("never", None)
        await asyncio.wait_for(asyncio.create_task(_step("a task")), 60)
        begun = asyncio.create_task(after_a_while("a task that runs"))
        await asyncio.sleep(0)
        await asyncio.wait_for(begun, 60)
        await asyncio.wait_for(asyncio.shield(_step("shielded")), 60)
        await asyncio.gather(with_limit("a"), _step("b"), with_limit("c"))
        await asyncio.wait_for(DBOS.sleep_async(0), 60)
        await asyncio.wait_for(DBOS.get_event_async("w", "key", 0), 60)
        handle = await asyncio.wait_for(DBOS.start_workflow_async(child), 60)
        await asyncio.wait_for(handle.get_result(), 60)

    @DBOS.workflow(name="child")
    async def child() -> None:
        return None

    with running(database_url), SetWorkflowID("w"):
        DBOS.start_workflow(in_time).get_result()
    places = [(each.branch, each.position, each.name) for each in read_records(database_url).entries]
    assert sorted(places) == [
        ("", 1, "alone"),
        ("", 2, "without a limit"),
        ("", 3, "nested"),
        ("", 4, "late"),
        ("", 5, "an object"),
        ("", 6, "after the group"),
        ("", 7, "DBOS.recv"),
        ("", 8, "finally"),
        ("", 9, "DBOS.recv"),
        ("", 10, "DBOS.sleep"),
        ("", 11, "DBOS.get_event"),
        ("", 12, "child"),
        ("", 13, "DBOS.get_result"),
        ("1", 1, "grouped"),
        ("2", 1, "a task"),
        ("3", 1, "shielded"),
        ("4", 1, "b"),
        ("5", 1, "a within"),
        ("5.1", 1, "a left"),
        ("5.2", 1, "a right"),
        ("6", 1, "c within"),
        ("6.1", 1, "c left"),
        ("6.2", 1, "c right"),
        ("7", 1, "a: a task of before"),
        ("8", 1, "c: a task of before"),
        ("limits", 7, "a time limit"),  # Once there were branches.
        ("limits", 8, "a time limit"),
        ("t1", 1, "a task that runs"),
    ]


def test_wait_for_is_what_it_was_outside_of_workflows_and_in_steps(database_url: str) -> None:
    async def is_in_a_task_of_its_own() -> bool:
        async def task() -> Any:
            return asyncio.current_task()

        return await asyncio.wait_for(task(), 60) is not asyncio.current_task()

    @DBOS.workflow(name="looking")
    async def looking() -> list[bool]:
        return [
            await is_in_a_task_of_its_own(),
            await DBOS.run_step_async({"name": "look"}, is_in_a_task_of_its_own),
        ]

    with running(database_url):
        makes_a_task = sys.version_info < (3, 12)
        assert DBOS.start_workflow(looking).get_result() == [False, makes_a_task]
        assert asyncio.run(is_in_a_task_of_its_own()) is makes_a_task


def test_another_thread_may_call_no_operation_of_a_workflow(database_url: str) -> None:
    @DBOS.workflow(name="threaded")
    def threaded() -> str:
        context = contextvars.copy_context()
        with pytest.raises(
            DBOSContextError,
            match="operation of workflow 'w' was called from a thread or event loop that is not its own",
        ):
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
