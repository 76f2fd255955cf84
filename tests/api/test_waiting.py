"""Waiting, and its end: W5 and W7 of the requirements. Whatever waits would wait an hour; the watchdog would end it."""

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support import programs
from tests.support.app import App
from tests.support.face import Awaiting, Face, Gate, off_loop
from tidings import DBOS
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSContextError,
    DBOSNonExistentWorkflowError,
    DBOSShutdownError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

WAITS = ["recv", "get_event", "sleep", "get_result", "back-off", "child"]


async def start_waiting(app: App, face: Face, what: str, seen: list[str]) -> str:
    """Start a workflow that waits an hour for `what`, and return its id when it does."""

    @face.workflow()
    async def never() -> None:
        await face.recv("never", FOREVER)

    @face.step(retries_allowed=True, interval_seconds=FOREVER)
    async def fails() -> None:
        raise ConnectionError

    @face.workflow()
    async def order() -> None:
        try:
            match what:
                case "recv":
                    await face.recv("never", FOREVER)
                case "get_event":
                    await face.get_event("other", "never", FOREVER)
                case "sleep":
                    await face.sleep(FOREVER)
                case "get_result":
                    await face.get_result("other")
                case "back-off":
                    await fails()
                case _:
                    await never()
        except Exception as error:
            seen.append(f"swallowed {error!r}")
        except BaseException as error:
            seen.append(type(error).__name__)
            with contextlib.suppress(BaseException):
                await face.set_event("too", "late")
            raise

    await face.start(never, workflow_id="other")
    await app.waiting("message", "other", "never")
    await face.start(order, workflow_id="order")
    match what:
        case "recv":
            await app.waiting("message", "order", "never")
        case "get_event":
            await app.waiting("event", "other", "never")
        case "get_result":
            await app.waiting("end", "other")
        case "child":
            await app.waits.until(
                lambda waits: sum(bool(keys) and keys[0][0] in ("end", "message") for keys in waits) > 1
            )
        case _:
            await app.waiting_for_time()
    return "order"


@pytest.mark.parametrize("what", WAITS)
async def test_w5_cancelling_wakes_a_workflow_from_whatever_it_waits_for(app: App, face: Face, what: str) -> None:
    """Also the peer's defect 4."""
    seen: list[str] = []
    workflow_id = await start_waiting(app, face, what, seen)
    waiting = asyncio.ensure_future(face.get_result(workflow_id))
    await face.cancel_workflow(workflow_id)
    await app.ended(workflow_id)
    assert seen == ["DBOSWorkflowCancelledError"]
    with pytest.raises(DBOSAwaitedWorkflowCancelledError, match="'order' was cancelled"):
        await waiting
    assert (await face.get_workflow_status(workflow_id)).status == "CANCELLED"
    assert app.rows.counts()["events"] == 0
    await app.crash_and_restart()
    assert (await face.get_workflow_status(workflow_id)).status == "CANCELLED"


async def test_w5_a_recovered_workflow_can_be_cancelled_too(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv(timeout_seconds=FOREVER)

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, None)
    await app.crash_and_restart()
    await app.waiting("message", handle.workflow_id, None)
    await face.cancel_workflow(handle.workflow_id)
    await app.ended(handle.workflow_id)


async def test_w5_cancelling_does_not_interrupt_a_running_step(app: App, face: Face) -> None:
    begun, go_on = Gate(), Gate()
    steps = []

    @face.step()
    async def work() -> None:
        begun.open()
        await go_on.opened()
        steps.append("ended")

    @face.step()
    async def never() -> None:
        steps.append("begun after the cancellation")

    @face.workflow()
    async def order() -> None:
        await work()
        await never()

    handle = await face.start(order)
    await begun.opened()
    await face.cancel_workflow(handle.workflow_id)
    go_on.open()
    await app.ended(handle.workflow_id)
    assert steps == ["ended"]
    assert app.rows.counts()["entries"] == 0


async def test_w5_cancelling_what_has_ended_changes_nothing_and_an_unknown_id_is_an_error(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> str:
        return "ended"

    @face.workflow()
    async def canceller() -> tuple[str, ...]:
        await face.cancel_workflow("order")
        try:
            await face.cancel_workflow("nobody")
        except DBOSNonExistentWorkflowError as error:
            return error.workflow_ids
        return ()

    handle = await face.start(order, workflow_id="order")
    await handle.get_result()
    await face.cancel_workflow("order")
    assert await canceller() == ("nobody",)
    assert await handle.get_result() == "ended"
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.cancel_workflow("nobody")


async def test_w5_a_called_workflow_that_is_cancelled_is_an_ordinary_error_to_its_caller(app: App, face: Face) -> None:
    @face.workflow()
    async def child() -> None:
        await face.recv("never", FOREVER)

    @face.workflow()
    async def parent() -> str:
        try:
            await child()
        except DBOSAwaitedWorkflowCancelledError as error:
            return str(error)
        return ""

    handle = await face.start(parent, workflow_id="parent")
    await app.waits.until(lambda seen: any(keys and keys[0][0] == "message" for keys in seen))
    [(child_id,)] = app.rows.run("select workflow_id from {workflows} where parent_id = 'parent'")
    await face.cancel_workflow(child_id)
    assert "was cancelled" in await handle.get_result()


async def test_w5_200_waiting_workflows_keep_nobody_from_running(app: App, face: Face) -> None:
    """With four threads. They wait for messages, events and each other; then all of them end."""
    await app.relaunch(max_executor_threads=4)

    @face.workflow()
    async def receiver() -> Any:
        return await face.recv(timeout_seconds=FOREVER)

    @face.workflow()
    async def reader(number: int) -> Any:
        return await face.get_event("publisher", f"{number}", FOREVER)

    @face.workflow()
    async def waiter(number: int) -> Any:
        return await face.get_result(f"receiver {number}")

    @face.workflow()
    async def publisher() -> None:
        for number in range(66):
            await face.set_event(f"{number}", number)

    for number in range(66):
        await face.start(receiver, workflow_id=f"receiver {number}")
        await face.start(reader, number, workflow_id=f"reader {number}")
        await face.start(waiter, number, workflow_id=f"waiter {number}")
    for number in range(66):
        await app.waiting("message", f"receiver {number}", None)
        await app.waiting("event", "publisher", f"{number}")
        await app.waiting("end", f"receiver {number}")
    await (await face.start(publisher, workflow_id="publisher")).get_result()
    for number in range(66):
        await face.send(f"receiver {number}", number)
    for number in range(66):
        for name in ("receiver", "reader", "waiter"):
            assert await face.get_result(f"{name} {number}") == number


async def test_w5_a_parent_that_waits_does_not_starve_its_children(app: App, face: Face) -> None:
    await app.relaunch(max_executor_threads=1)

    @face.workflow()
    async def tree(depth: int) -> int:
        if depth == 0:
            return 1
        handles = [await face.start_workflow(tree, depth - 1) for _ in range(2)]
        return sum([await handle.get_result() for handle in handles])

    handle = await face.start(tree, 4)
    assert await handle.get_result() == 16


# --- W7 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WAITS)
async def test_w7_destroy_does_not_wait_for_what_waits_and_the_next_launch_goes_on(
    app: App, face: Face, what: str
) -> None:
    seen: list[str] = []
    workflow_id = await start_waiting(app, face, what, seen)
    waiting = asyncio.ensure_future(face.get_result(workflow_id))
    await app.waiting("end", workflow_id)
    await DBOS.destroy_async()
    await app.ended(workflow_id)
    assert seen == ["DBOSRunEndedError"]
    with pytest.raises(DBOSShutdownError, match="shut down in this process"):
        await waiting
    await app.launch()
    assert (await face.get_workflow_status(workflow_id)).status == "PENDING"
    await app.waits.until(lambda seen: len(seen) >= 2)
    await face.cancel_workflow(workflow_id)
    await app.ended(workflow_id)


async def test_w7_nothing_can_be_called_before_the_launch_or_after_destroy(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None: ...

    await DBOS.destroy_async()
    await DBOS.destroy_async()
    calls: list[Callable[[], Awaitable[Any]]] = [
        order,
        lambda: face.start(order),
        lambda: face.send("order", 1),
        lambda: face.get_event("order", "key", 0),
        lambda: face.get_result("order"),
        lambda: face.cancel_workflow("order"),
        lambda: face.sleep(0),
    ]
    for call in calls:
        with pytest.raises(DBOSShutdownError, match="launch"):
            await call()


async def test_w7_asyncio_run_twice_in_one_process(app: App, awaiting: Awaiting) -> None:
    """Also the peer's defect 10. A run whose loop was closed goes on in the background; launched without a loop."""
    await app.relaunch_off_loop()

    @DBOS.step()
    async def step() -> str:
        return threading.current_thread().name

    @DBOS.workflow()
    async def order() -> list[Any]:
        threads = [await step()]
        threads.append(await DBOS.recv_async(timeout_seconds=FOREVER))
        return [*threads, await step()]

    async def first() -> None:
        await awaiting.start(order, workflow_id="left behind")
        await app.waiting("message", "left behind", None)

    async def second() -> Any:
        await awaiting.start(order, workflow_id="of the second")
        for name in ("left behind", "of the second"):
            await DBOS.send_async(name, "hello")
        return [await DBOS.get_result_async(name) for name in ("left behind", "of the second")]

    def main() -> Any:
        threading.current_thread().name = "main"
        asyncio.run(first())
        return asyncio.run(second())

    left_behind, of_the_second = await off_loop(main)
    assert left_behind == ["main", "hello", "tidings-loop"]
    assert of_the_second == ["main", "hello", "main"]
    assert app.rows.run("select state from {entries} where state = 'ABANDONED'") == []


async def test_w7_a_run_whose_loop_was_closed_within_a_step_runs_that_step_again(app: App, awaiting: Awaiting) -> None:
    await app.relaunch_off_loop()
    begun = Gate()
    runs = []

    @DBOS.step()
    async def work() -> int:
        runs.append(1)
        begun.open()
        if len(runs) == 1:
            await asyncio.get_running_loop().create_future()
        return len(runs)

    @DBOS.workflow()
    async def order() -> int:
        try:
            return await work()
        finally:
            await DBOS.set_event_async("cleaned up", True)

    async def first() -> None:
        await awaiting.start(order, workflow_id="order")
        await begun.opened()

    await off_loop(asyncio.run, first())
    assert await DBOS.get_result_async("order") == 2
    assert app.rows.counts()["events"] == 1


async def test_w7_a_caller_that_goes_away_ends_only_its_own_waiting(app: App, awaiting: Awaiting) -> None:
    @DBOS.workflow()
    async def order() -> Any:
        return await DBOS.recv_async(timeout_seconds=FOREVER)

    handle = await awaiting.start(order, workflow_id="started")
    callers = [asyncio.create_task(handle.get_result()), asyncio.create_task(called(order))]
    for name in ("started", "called"):
        await app.waiting("message", name, None)
    for caller in callers:
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle.get_result(), 0.001)
    for name in ("started", "called"):
        await DBOS.send_async(name, "hello")
        assert await DBOS.get_result_async(name) == "hello"


async def called(order: Any) -> Any:
    """Call a workflow, as a web request would."""
    handle = await Awaiting().start(order, workflow_id="called")
    return await handle.get_result()


async def test_operations_from_foreign_threads_and_loops_are_refused(app: App, face: Face) -> None:
    refusals: list[str] = []

    def note(function: Any, *args: Any) -> None:
        try:
            function(*args)
        except DBOSContextError as error:
            refusals.append(str(error))

    @face.workflow()
    async def order() -> None:
        def elsewhere() -> None:
            note(DBOS.set_event, "key", 1)
            note(DBOS.recv, None, 0)
            note(DBOS.send, "order", 1)
            note(asyncio.run, DBOS.set_event_async("key", 1))

        # As `copy_context().run` does, it carries the workflow's context.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(elsewhere,))
        thread.start()
        thread.join()

    await (await face.start(order, workflow_id="order")).get_result()
    assert len(refusals) == 4
    assert all("from a thread or event loop that is not its own" in refusal for refusal in refusals)
    counts = app.rows.counts()
    assert (counts["events"], counts["entries"], counts["messages"]) == (0, 0, 0)


PROGRAM = """
import asyncio, sys, threading
from tidings import DBOS, SetWorkflowID
from tidings.engine.process import Process
from tidings.engine.hooks import Point

how, url = sys.argv[1:]
waiting = threading.Semaphore(0)

@DBOS.workflow(name="blocking")
def blocking():
    return ["blocking", DBOS.recv(timeout_seconds=3600)]

@DBOS.workflow(name="awaiting")
async def awaiting():
    return ["awaiting", await DBOS.recv_async(timeout_seconds=3600)]

@DBOS.workflow(name="in a step")
def in_a_step():
    return DBOS.run_step({"name": "step"}, wait_for_input)

def wait_for_input():
    say()
    return sys.stdin.readline()

def say():
    sys.stdout.write("waiting\\n")  # In one piece: two threads say it.
    sys.stdout.flush()

async def start():
    for workflow in (blocking, awaiting, in_a_step):
        with SetWorkflowID(workflow.__name__):
            await DBOS.start_workflow_async(workflow)
    await asyncio.to_thread(waiting.acquire)
    await asyncio.to_thread(waiting.acquire)

DBOS(config={"name": "test", "system_database_url": url, "application_version": "1"})
DBOS.launch()
Process.host.engine.hooks.set(Point.WAITING, lambda _: waiting.release())
asyncio.run(start())
say()
# A signal that comes right before CPython blocks is seen only when that ends: so it does not block for long.
while how != "ends" and not threading.Event().wait(0.1):
    pass
"""


@pytest.mark.parametrize("how", ["ends", "interrupt", "kill -9"])
async def test_w7_a_program_ends_promptly_whatever_waits_in_it(app: App, how: str) -> None:
    """Also the peer's defect 10. However it ends, what waited goes on in the next program."""
    command = programs.python("-c", PROGRAM, how, app.database_url)
    pipe = subprocess.PIPE
    with await off_loop(programs.start, *command, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        said = [await off_loop(program.stdout.readline) for _ in range(2)]
        if said != ["waiting\n", "waiting\n"]:
            program.kill()
        if how == "interrupt":
            program.send_signal(signal.SIGINT)
        elif how == "kill -9":
            program.kill()
        errors = await off_loop(program.stderr.read)
        code = await off_loop(program.wait)
    assert said == ["waiting\n", "waiting\n"], errors
    expected = {"ends": 0, "interrupt": -signal.SIGINT, "kill -9": -signal.SIGKILL}[how]
    assert code == expected, errors
    assert errors.count("Traceback") == (how == "interrupt")

    @DBOS.workflow(name="blocking")
    def blocking() -> Any:
        return ["blocking", DBOS.recv(timeout_seconds=FOREVER)]

    @DBOS.workflow(name="awaiting")
    async def awaiting() -> Any:
        return ["awaiting", await DBOS.recv_async(timeout_seconds=FOREVER)]

    @DBOS.workflow(name="in a step")
    def in_a_step() -> Any:
        return DBOS.run_step({"name": "step"}, os.getpid)

    await app.relaunch()
    for name in ("blocking", "awaiting"):
        await DBOS.send_async(name, "hello")
        assert await DBOS.get_result_async(name) == [name, "hello"]
    assert await DBOS.get_result_async("in_a_step") == os.getpid()
