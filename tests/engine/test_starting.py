"""A start that waits for its event loop or thread stays its starter's; one whose starter is gone is found."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.support.engines import VERSION, FaultyEngine, aside, running, wait_until
from tests.support.faulty import move_fence
from tests.support.records import read_records
from tidings import DBOS, SetWorkflowID
from tidings.engine.database.chain import Chain
from tidings.engine.process import REGISTRY
from tidings.engine.runs.live import LiveRun
from tidings.error import DBOSWorkflowFunctionNotFoundError
from tidings.model import Unit
from tidings.store.protocol import Store

# More than any number that was ever kept of anything, with a margin.
MANY = 12_000

LEASE_MS = 600

who = contextvars.ContextVar("who", default="nobody")


async def _start(name: str, workflow: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    with SetWorkflowID(name):
        return await DBOS.start_workflow_async(workflow, *args)


def _rounds(here: FaultyEngine, count: int) -> None:
    """Block this thread for so many whole rounds of the supervisor. Two are what it needs to find what is lost."""
    before = here.store.calls["executors"]
    looks = here.store.calls["list_workflows"]
    wait_until(lambda: here.store.calls["list_workflows"] >= looks + count)
    assert here.store.calls["executors"] > before


def _recorded(url: str) -> set[str]:
    return {each.workflow_id for each in read_records(url).workflows}


# --- a loop that is blocked ------------------------------------------------------------------------------


def test_starts_that_a_blocked_loop_holds_up_run_once_on_that_loop_in_their_context(database_url: str) -> None:
    _start_and_block(database_url, 20)


def test_it_does_not_depend_on_how_many_starts_a_blocked_loop_holds_up(sqlite_url: str) -> None:
    _start_and_block(sqlite_url, MANY)


def _start_and_block(url: str, count: int) -> None:
    ran: list[tuple[int, str, str]] = []
    bound: list[asyncio.Future[None]] = []

    @DBOS.step(name="blocked.step")
    async def step(number: int) -> int:
        ran.append((number, threading.current_thread().name, who.get()))
        return number

    @DBOS.workflow(name="blocked.workflow")
    async def workflow(number: int) -> int:
        await asyncio.shield(bound[0])  # As with a pool of the application's loop.
        return await step(number)

    async def main() -> list[int]:
        bound.append(asyncio.get_running_loop().create_future())
        starts = []
        for number in range(count):
            context = contextvars.copy_context()
            context.run(who.set, f"starter {number}")
            starts.append(asyncio.create_task(_start(f"w{number}", workflow, number), context=context))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # All are handed over.
        _rounds(here, 5)
        bound[0].set_result(None)
        results: list[int] = await asyncio.gather(*[(await each).get_result() for each in starts])
        return results

    with running(url, lease_ms=LEASE_MS) as here:
        assert asyncio.run(main()) == list(range(count))
    assert sorted(ran) == sorted((number, "MainThread", f"starter {number}") for number in range(count))
    assert {each.epoch for each in read_records(url).workflows} == {1}


def test_children_that_a_blocked_loop_holds_up_run_once_on_that_loop(database_url: str) -> None:
    ran: list[tuple[str, str]] = []

    @DBOS.workflow(name="blocked.child")
    async def child(name: str) -> str:
        ran.append((name, threading.current_thread().name))
        return name

    @DBOS.workflow(name="blocked.parent")
    async def parent() -> list[str]:
        handles = asyncio.gather(*(_start(f"child {number}", child, f"{number}") for number in range(20)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _rounds(here, 5)
        return [await handle.get_result() for handle in await handles]

    async def main() -> list[str]:
        handle = await _start("parent", parent)
        result: list[str] = await handle.get_result()
        return result

    with running(database_url, lease_ms=LEASE_MS) as here:
        assert asyncio.run(main()) == [f"{number}" for number in range(20)]
    assert Counter(ran) == {(f"{number}", "MainThread"): 1 for number in range(20)}


def test_starts_of_many_threads_that_are_late_run_once_in_their_context(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that the system does not let run between the record of its start and its first line."""
    ran: list[tuple[int, str]] = []

    @DBOS.workflow(name="late.workflow")
    def workflow(number: int) -> int:
        DBOS.run_step({"name": "late.step"}, ran.append, (number, who.get()))
        return number

    def start(number: int) -> int:
        who.set(f"starter {number}")  # A thread has a context of its own.
        with SetWorkflowID(f"w{number}"):
            return DBOS.start_workflow(workflow, number).get_result()

    with running(database_url, lease_ms=LEASE_MS) as here:
        runner, may_go_on = here.host.runner, threading.Event()
        begin = runner.begin

        def begin_late(live: LiveRun) -> None:
            may_go_on.wait()
            begin(live)

        monkeypatch.setattr(runner, "begin", begin_late)
        starts = [aside(partial(start, number)) for number in range(100)]
        wait_until(lambda: len(_recorded(database_url)) == 100)
        _rounds(here, 5)
        assert ran == []
        may_go_on.set()
        assert [each.result(60) for each in starts] == list(range(100))
    assert sorted(ran) == [(number, f"starter {number}") for number in range(100)]
    assert {each.epoch for each in read_records(database_url).workflows} == {1}


def test_a_start_that_a_blocked_loop_holds_up_is_cancelled_before_it_begins(database_url: str, other: Store) -> None:
    """Cancelled by another process, which this one hears of, long before the loop goes on."""
    ran: list[str] = []

    @DBOS.workflow(name="blocked.cancelled")
    async def workflow() -> None:
        ran.append("the workflow")

    async def main() -> None:
        starting = asyncio.create_task(_start("w", workflow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        wait_until(lambda: _recorded(database_url) == {"w"})
        for number in range(3):  # Others, too: no number of them matters.
            here.engine.was_cancelled(f"never heard of {number}")
        here.engine.was_cancelled("w")
        await starting

    with running(database_url, lease_ms=LEASE_MS) as here:
        over = here.executions_over()
        asyncio.run(main())
        wait_until(lambda: over == ["w"])
    assert ran == []


def test_what_is_taken_over_while_its_loop_is_blocked_does_not_begin_and_the_rest_does(
    database_url: str, other: Store
) -> None:
    ran: list[str] = []

    @DBOS.workflow(name="blocked.lost")
    async def lost() -> None:
        ran.append("lost")

    @DBOS.workflow(name="blocked.kept")
    async def kept() -> None:
        ran.append("kept")

    async def main() -> None:
        starts = [asyncio.create_task(_start("lost", lost)), asyncio.create_task(_start("kept", kept))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        wait_until(lambda: _recorded(database_url) == {"lost", "kept"})
        here.host.supervisor.stop()  # It takes up nothing itself.
        [claimed] = move_fence(other, here.executor_id, names=["blocked.lost"], version=VERSION, lease_until_ms=2**60)
        assert claimed.workflow_id == "lost"
        Chain(here.engine.committer).commit(Unit()).result()  # It finds its fence moved, and drops what it has lost.
        [_, handle] = await asyncio.gather(*starts)
        await handle.get_result()

    with running(database_url) as here:
        over = here.executions_over()
        asyncio.run(main())
        wait_until(lambda: sorted(over) == ["kept", "lost"])
    assert ran == ["kept"]


# --- a starter that is gone --------------------------------------------------------------------------------


def _runs_elsewhere(url: str, lose: Callable[[FaultyEngine, Callable[..., Any]], None]) -> None:
    """Check that a workflow whose start is recorded and whose starter is gone runs once, on the background loop."""
    ran: list[str] = []

    @DBOS.workflow(name="gone.workflow")
    async def workflow() -> str:
        async def step() -> None:
            ran.append(threading.current_thread().name)

        await DBOS.run_step_async({"name": "gone.step"}, step)
        return "done"

    with running(url, lease_ms=LEASE_MS) as here:
        lose(here, workflow)
        wait_until(lambda: _recorded(url) == {"w"})
        assert DBOS.get_result("w", timeout_seconds=60) == "done"
    assert ran == ["tidings-loop"]


def test_a_start_whose_loop_was_closed_is_executed_elsewhere(database_url: str) -> None:
    kept: list[Any] = []  # Nobody collects it: only its loop tells that it will never go on.

    def lose(here: FaultyEngine, workflow: Callable[..., Any]) -> None:
        loop = asyncio.new_event_loop()
        gate = here.hold_committer()
        kept.append(loop.create_task(_start("w", workflow)))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        gate.open()
        wait_until(lambda: _recorded(database_url) == {"w"})
        loop.close()

    _runs_elsewhere(database_url, lose)
    kept[0]._log_destroy_pending = False


def test_a_start_whose_loop_was_closed_before_it_was_recorded_is_executed_elsewhere(database_url: str) -> None:
    kept: list[Any] = []

    def lose(here: FaultyEngine, workflow: Callable[..., Any]) -> None:
        loop = asyncio.new_event_loop()
        gate = here.store.hold("commit", where=lambda batch: any(unit.start is not None for unit in batch.units))
        kept.append(loop.create_task(_start("w", workflow)))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        gate.await_reached()
        loop.close()
        wait_until(lambda: not here.host.runner._starts.of("w"))  # Known to be given up, before it is recorded.
        gate.open()

    _runs_elsewhere(database_url, lose)
    kept[0]._log_destroy_pending = False


def test_a_start_whose_coroutine_was_collected_is_executed_elsewhere(database_url: str) -> None:
    def lose(here: FaultyEngine, workflow: Callable[..., Any]) -> None:
        gate = here.store.hold("commit", where=lambda batch: any(unit.start is not None for unit in batch.units))
        loop = asyncio.new_event_loop()
        coroutines = [_start("w", workflow)]

        async def begin() -> None:
            coroutines[0].send(None)  # By hand, and then nobody goes on with it.

        loop.run_until_complete(begin())
        gate.await_reached()
        coroutines.clear()
        gc.collect()
        gate.open()
        wait_until(lambda: _recorded(database_url) == {"w"})
        loop.close()

    _runs_elsewhere(database_url, lose)


def test_a_start_that_is_cancelled_while_it_is_recorded_is_executed_elsewhere(database_url: str) -> None:
    def lose(here: FaultyEngine, workflow: Callable[..., Any]) -> None:
        async def main() -> None:
            gate = here.store.hold("commit", where=lambda batch: any(unit.start is not None for unit in batch.units))
            starting = asyncio.create_task(_start("w", workflow))
            await asyncio.to_thread(gate.await_reached)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            gate.open()

        asyncio.run(main())

    _runs_elsewhere(database_url, lose)


@pytest.mark.parametrize("chosen", [True, False])
def test_a_start_whose_task_factory_fails_is_executed_elsewhere(database_url: str, chosen: bool) -> None:
    ran: list[str] = []

    @DBOS.workflow(name="gone.factory")
    async def workflow() -> None:
        ran.append(threading.current_thread().name)

    def factory(loop: Any, coroutine: Any, **more: Any) -> Any:
        if coroutine.__name__ == "_execute_async":
            coroutine.close()
            raise RuntimeError("no task today")
        return asyncio.Task(coroutine, loop=loop, **more)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        with pytest.raises(RuntimeError, match="no task today"):
            await (_start("w", workflow) if chosen else DBOS.start_workflow_async(workflow))

    with running(database_url, lease_ms=LEASE_MS) as here:
        over = here.executions_over()
        asyncio.run(main())
        wait_until(lambda: ran == ["tidings-loop"])
        wait_until(lambda: len(over) == 2)  # The execution that could not begin, and the one that did.


@pytest.mark.parametrize("chosen", [True, False])
def test_a_start_that_an_exception_interrupts_is_executed_elsewhere(
    database_url: str, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its record and its first line: a Ctrl-C, say, or no thread to be had."""
    ran: list[str] = []

    @DBOS.workflow(name="gone.interrupted")
    def workflow() -> None:
        DBOS.run_step({"name": "gone.step"}, lambda: ran.append("once"))

    def start() -> None:
        if chosen:
            with SetWorkflowID("w"):
                DBOS.start_workflow(workflow)
        else:
            DBOS.start_workflow(workflow)

    with running(database_url, lease_ms=LEASE_MS) as here:
        workers_start, failures = here.host.workers.start, iter([True])

        def fail_once(*arguments: Any) -> None:
            if next(failures, False):
                raise KeyboardInterrupt
            workers_start(*arguments)

        monkeypatch.setattr(here.host.workers, "start", fail_once)
        with pytest.raises(KeyboardInterrupt):
            start()
        wait_until(lambda: [each.status for each in read_records(database_url).workflows] == ["SUCCESS"])
    assert ran == ["once"]


def test_a_repeated_start_leaves_nothing_behind(database_url: str) -> None:
    @DBOS.workflow(name="repeated")
    async def workflow() -> int:
        return 1

    async def main() -> None:
        handles = await asyncio.gather(*(_start("w", workflow) for _ in range(50)))
        assert [await handle.get_result() for handle in handles] == [1] * 50
        await asyncio.to_thread(wait_until, lambda: not here.host.runner._starts.of("w"))

    with running(database_url, lease_ms=LEASE_MS) as here:
        over = here.executions_over()
        asyncio.run(main())
        assert over == ["w"]


# --- a function that is not registered ----------------------------------------------------------------------


def test_a_function_that_is_not_registered_is_not_started(database_url: str) -> None:
    @DBOS.workflow(name="forgotten")
    def blocking() -> None:
        """Do nothing."""

    @DBOS.workflow(name="forgotten too")
    async def awaiting() -> None:
        """Do nothing."""

    with running(database_url):
        REGISTRY.clear()  # As `DBOS.destroy(destroy_registry=True)` does.
        for call in (blocking, lambda: DBOS.start_workflow(blocking), lambda: DBOS.start_workflow(awaiting)):
            with pytest.raises(DBOSWorkflowFunctionNotFoundError, match=r"'forgotten.*decorate the function again"):
                call()
        for start in (awaiting, lambda: DBOS.start_workflow_async(awaiting)):
            with pytest.raises(DBOSWorkflowFunctionNotFoundError, match="nothing was started"):
                asyncio.run(start())
        assert _recorded(database_url) == set()
