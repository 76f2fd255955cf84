"""A process that lacks threads, descriptors or memory for a while: workflows wait, and none of them sees any of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.app import App, Sightings
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Face, off_loop
from tests.support.scarce import failing, no_threads
from tidings import DBOS
from tidings.core.operations import recorded
from tidings.engine.ownership import supervisor
from tidings.engine.runs.runner import Runner
from tidings.engine.settings import Connection
from tidings.error import DBOSInitializationError
from tidings.model import Status
from tidings.serialization import typed_json

FOREVER = 3_600.0
NO_THREAD = "starting a thread for a workflow or step has failed"
NO_LOOP = "starting an event loop for async workflows has failed"


def _said(log: Sightings, text: str) -> int:
    return sum(text in each for each in log.seen)


@contextlib.asynccontextmanager
async def _no_idle_thread(app: App) -> AsyncIterator[threading.Event]:
    """Let all threads of the pool that are idle now do something until the end of the block, or until it is told."""
    release = threading.Event()

    @DBOS.workflow(name="occupant")
    def occupy() -> None:
        release.wait()

    workers = app.host.workers
    occupants = [await DBOS.start_workflow_async(occupy) for _ in range(workers._idle)]
    await off_loop(wait_until, lambda: workers._idle == 0 and not workers._jobs)
    yield release
    release.set()
    for each in occupants:
        await app.ended(each.workflow_id)


async def _statuses() -> set[str]:
    return {each.status for each in await DBOS.list_workflows_async()}


# --- no thread -------------------------------------------------------------------------------------------------


async def test_n2_blocking_workflows_wait_for_a_thread_and_the_log_says_so_once(app: App, log: Sightings) -> None:
    @DBOS.workflow()
    def order(number: int) -> int:
        return number

    with no_threads() as refused:
        handles = [await DBOS.start_workflow_async(order, number) for number in range(3)]
        await refused.until(lambda seen: len(seen) > 5)  # It is tried again and again.
        assert await _statuses() == {"PENDING"}
    for number, handle in enumerate(handles):
        assert await DBOS.get_result_async(handle.workflow_id) == number
    await log.until(lambda _: bool(_said(log, "works again")))
    assert _said(log, NO_THREAD) == _said(log, "works again") == 1
    assert await _statuses() == {"SUCCESS"}


@pytest.mark.parametrize("is_async_child", [False, True], ids=["def-child", "async-child"])
async def test_n2_a_parent_sees_nothing_of_a_child_that_waits_for_a_thread(
    app: App, face: Face, is_async_child: bool
) -> None:
    await app.relaunch_off_loop()  # So an async child needs the loop in the background.
    caught: list[BaseException] = []

    @DBOS.workflow()
    async def async_child(number: int) -> int:
        return number

    @DBOS.workflow()
    def def_child(number: int) -> int:
        return number

    child: Callable[[int], Any] = async_child if is_async_child else def_child

    @face.workflow()
    async def parent() -> Any:
        await face.recv("go", FOREVER)
        try:
            handle = await face.start_workflow(child, 7)
        except BaseException as error:
            caught.append(error)
            raise
        await face.set_event("started", True)
        return await face.get_result(handle.workflow_id)

    handle = await face.start(parent)
    await app.waiting("message", handle.workflow_id, "go")
    async with _no_idle_thread(app):
        with no_threads() as refused:
            await face.send(handle.workflow_id, None, "go")
            assert await face.get_event(handle.workflow_id, "started", FOREVER)
            if not (is_async_child and isinstance(face, Awaiting)):  # That one runs on the loop of its parent.
                await refused.until(lambda seen: len(seen) > 2)
        assert await handle.get_result() == 7
    assert caught == []


@pytest.mark.parametrize("trouble", ["no thread", "no descriptor", "no memory"])
async def test_n2_an_async_workflow_waits_for_its_loop(app: App, log: Sightings, trouble: str) -> None:
    """Started from a thread, so that it needs the loop in the background."""
    await app.relaunch_off_loop()

    @DBOS.workflow()
    async def order() -> str:
        await asyncio.sleep(0)
        return "done"

    block: Callable[[], AbstractContextManager[Sightings]] = {
        "no thread": no_threads,
        "no descriptor": lambda: failing(
            asyncio, "new_event_loop", lambda: OSError(errno.EMFILE, "Too many open files")
        ),
        "no memory": lambda: failing(asyncio, "new_event_loop", MemoryError),
    }[trouble]
    with block() as refused:
        handle = await off_loop(DBOS.start_workflow, order)
        await refused.until(lambda seen: len(seen) > 2)
    assert await DBOS.get_result_async(handle.workflow_id) == "done"
    assert _said(log, NO_LOOP) == _said(log, "works again") == 1


@pytest.mark.parametrize("kind", ["blocking", "in a thread"])
async def test_n2_a_step_with_a_time_limit_waits_for_its_thread_and_its_time_does_not_count(
    app: App, kind: str, log: Sightings
) -> None:
    tries: list[str] = []

    def work() -> str:
        tries.append(threading.current_thread().name)
        return "done"

    limited = DBOS.step(timeout_seconds=0.1, name="limited")(work)

    @DBOS.workflow()
    def blocking() -> str:
        DBOS.recv("go", FOREVER)
        return limited()

    @DBOS.workflow()
    async def awaiting() -> str:
        await DBOS.recv_async("go", FOREVER)
        return await DBOS.run_step_async({"timeout_seconds": FOREVER, "name": "limited"}, work)

    handle = await DBOS.start_workflow_async(blocking if kind == "blocking" else awaiting)
    await app.waiting("message", handle.workflow_id, "go")
    async with _no_idle_thread(app):
        with no_threads() as refused:
            await DBOS.send_async(handle.workflow_id, None, "go")
            await refused.until(lambda seen: len(seen) > 5)  # The pauses before that were longer than the limit.
            assert tries == []
        assert await handle.get_result() == "done"
    assert len(tries) == 1
    assert _said(log, NO_THREAD) == 1


async def test_n2_a_step_that_waits_for_a_thread_takes_one_that_has_become_idle(app: App) -> None:
    """Threads that wait take up all that there may be: then none can be started for as long as they wait."""

    @DBOS.step(timeout_seconds=FOREVER)
    def limited() -> str:
        return threading.current_thread().name

    @DBOS.workflow()
    def order() -> str:
        DBOS.recv("go", FOREVER)
        return limited()

    @DBOS.workflow()
    def other() -> Any:
        return DBOS.recv("go", FOREVER)

    handles = [await DBOS.start_workflow_async(each) for each in (order, other)]
    for each in handles:
        await app.waiting("message", each.workflow_id, "go")
    async with _no_idle_thread(app):
        with no_threads() as refused:
            await DBOS.send_async(handles[0].workflow_id, None, "go")
            await refused.until(lambda seen: "tidings-step" in seen)
            await DBOS.send_async(handles[1].workflow_id, None, "go")
            assert await handles[0].get_result() == "tidings-worker"


async def test_n2_what_is_cancelled_while_it_waits_for_a_thread_never_begins(app: App) -> None:
    ran: list[str] = []

    @DBOS.step(timeout_seconds=FOREVER)
    def limited() -> None:
        ran.append("step")

    @DBOS.workflow()
    def order() -> None:
        DBOS.recv("go", FOREVER)
        limited()

    @DBOS.workflow()
    def late() -> None:
        ran.append("workflow")

    handle = await DBOS.start_workflow_async(order)
    await app.waiting("message", handle.workflow_id, "go")
    async with _no_idle_thread(app):
        with no_threads() as refused:
            await DBOS.send_async(handle.workflow_id, None, "go")
            await refused.until(lambda seen: "tidings-step" in seen)
            waiting = await DBOS.start_workflow_async(late)
            for each in (handle, waiting):
                await DBOS.cancel_workflow_async(each.workflow_id)
        await app.ended(handle.workflow_id)
        await app.ended(waiting.workflow_id)
    assert ran == []


async def test_n2_what_waits_for_a_thread_at_the_shutdown_goes_on_after_the_next_launch(app: App) -> None:
    @DBOS.step(timeout_seconds=FOREVER)
    def limited() -> str:
        return "step"

    @DBOS.workflow()
    def order() -> str:
        DBOS.recv("go", FOREVER)
        return limited()

    @DBOS.workflow()
    def late() -> str:
        return "late"

    handle = await DBOS.start_workflow_async(order)
    await app.waiting("message", handle.workflow_id, "go")
    async with _no_idle_thread(app):
        with no_threads() as refused:
            await DBOS.send_async(handle.workflow_id, None, "go")
            await refused.until(lambda seen: "tidings-step" in seen)
            waiting = await DBOS.start_workflow_async(late)
            await DBOS.destroy_async()
    await app.launch()
    assert await DBOS.get_result_async(handle.workflow_id) == "step"
    assert await DBOS.get_result_async(waiting.workflow_id) == "late"


async def test_n2_a_list_is_read_though_no_thread_is_left_for_it(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> None:
        pass

    await (await face.start(order, workflow_id="order")).get_result()
    with no_threads("tidings-lane") as refused:
        assert [each.workflow_id for each in await face.list_workflows()] == ["order"]
    assert refused.seen == ["tidings-lane"]


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
async def test_n2_recovered_workflows_wait_for_a_thread(app: App, is_async: bool, log: Sightings) -> None:
    await app.relaunch_off_loop()  # So async workflows need the loop in the background.

    @DBOS.workflow()
    async def async_order(number: int) -> int:
        await DBOS.recv_async("go", FOREVER)
        return number

    @DBOS.workflow()
    def def_order(number: int) -> int:
        DBOS.recv("go", FOREVER)
        return number

    order: Callable[[int], Any] = async_order if is_async else def_order

    handles = [await DBOS.start_workflow_async(order, number) for number in range(3)]
    for each in handles:
        await app.waiting("message", each.workflow_id, "go")
    await app.crash()
    with no_threads() as refused:
        await app.launch()
        await refused.until(lambda seen: len(seen) > 2)
        for each in handles:
            await DBOS.send_async(each.workflow_id, None, "go")
        assert await _statuses() == {"PENDING"}
    for number, each in enumerate(handles):
        assert await DBOS.get_result_async(each.workflow_id) == number
    assert _said(log, "recovering workflow") == 0


async def test_n2_a_step_whose_own_code_lacks_something_fails_as_its_retries_say(app: App, face: Face) -> None:
    """What user code raises is the user's, however much it looks like a fault of the process."""
    errors = [MemoryError("mine"), OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
    left: list[BaseException] = []

    @face.step(retries_allowed=True, max_attempts=2, interval_seconds=0)
    async def twice() -> str:
        if left:
            raise left.pop()
        return "at the second try"

    @face.step()
    async def once(number: int) -> None:
        raise errors[number]

    @face.workflow()
    async def patient(number: int) -> str:
        left.append(errors[number])
        return await twice()

    @face.workflow()
    async def failing_order(number: int) -> None:
        await once(number)

    for number, error in enumerate(errors):
        assert await (await face.start(patient, number)).get_result() == "at the second try"
        handle = await face.start(failing_order, number)
        with pytest.raises(type(error)):
            await handle.get_result()
        assert (await handle.get_status()).status == Status.ERROR


# --- no memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MemoryError, lambda: OSError(errno.EMFILE, "Too many open files")])
@pytest.mark.parametrize("name", ["to_text", "from_text"])
async def test_n2_values_are_stored_and_rebuilt_when_there_is_memory_for_it(
    app: App, face: Face, log: Sightings, name: str, kind: Callable[[], BaseException]
) -> None:
    """A step whose result cannot be stored now does not run again for that; and no operation fails."""
    ran: list[str] = []
    caught: list[BaseException] = []

    @face.step()
    async def work() -> list[int]:
        ran.append("once")
        return [1, 2]

    @DBOS.workflow()
    def child(number: int) -> int:
        return number

    @face.workflow()
    async def order() -> Any:
        await face.recv("go", FOREVER)
        try:
            await face.set_event("event", [await work()])
            await face.write_stream("log", ["item"])
            await face.send(other.workflow_id, ["message"], "go")
            started = await face.start_workflow(child, 7)
            return [await face.get_result(started.workflow_id), await face.recv("more", FOREVER)]
        except BaseException as error:
            caught.append(error)
            raise

    @face.workflow()
    async def receiver() -> Any:
        return await face.recv("go", FOREVER)

    handle, other = await face.start(order), await face.start(receiver)
    for each in (handle, other):
        await app.waiting("message", each.workflow_id, "go")
    await face.send(handle.workflow_id, None, "go")
    await face.send(handle.workflow_id, ["more"], "more")
    real = getattr(typed_json, name)
    calls: list[str] = []

    def fail_every_other_time(value: Any) -> Any:
        calls.append(name)
        if len(calls) % 2:
            raise kind()
        return real(value)

    with patch.object(typed_json, name, fail_every_other_time):
        assert await handle.get_result() == [7, ["more"]]
    assert (ran, caught) == (["once"], [])
    assert await other.get_result() == ["message"]
    assert _said(log, "storing or rebuilding a value")
    await log.until(lambda _: _said(log, "storing or rebuilding a value for an operation works again") > 0)


@pytest.mark.parametrize("step", ["inputs", "result", "plan"])
async def test_n2_a_recovery_waits_for_memory(
    app: App, face: Face, log: Sightings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what a claimed workflow is called with, for what it has recorded, and for its run."""

    def connection(*args: Any, **more: Any) -> Connection:
        return Connection(*args, **more | {"lease_ms": 600})

    monkeypatch.setattr("tidings.api.config.Connection", connection)
    ran: list[int] = []

    @face.step()
    async def work(number: int) -> int:
        ran.append(number)
        return number

    @face.workflow()
    async def order(number: int) -> list[Any]:
        return [await work(number), await face.recv("go", FOREVER)]

    handles = [await face.start(order, number) for number in range(3)]
    for each in handles:
        await app.waiting("message", each.workflow_id, "go")
    await app.crash()
    owner, name = {
        "inputs": (supervisor, "load"),
        "result": (recorded, "load"),
        "plan": (Runner, "prepare_claimed"),
    }[step]
    with failing(owner, name, MemoryError) as refused:
        await app.launch()
        await refused.until(lambda seen: len(seen) > 2)
    for each in handles:
        await DBOS.send_async(each.workflow_id, "on", "go")
    for number, each in enumerate(handles):
        assert await DBOS.get_result_async(each.workflow_id) == [number, "on"]
    assert sorted(ran) == [0, 1, 2]
    assert _said(log, "stays PENDING") == _said(log, "looking for workflows to recover failed") == 0
    doing = "storing or rebuilding a value for an operation" if step == "result" else "preparing workflows to continue"
    await log.until(lambda _: _said(log, f"{doing} works again") > 0)


# --- a store that cannot be asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [MemoryError, lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), InterruptedError]
)
@pytest.mark.parametrize("name", ["commit", "workflows"])
async def test_n2_the_store_is_asked_again_when_this_process_lacked_what_it_takes(
    app: App, face: Face, log: Sightings, name: str, kind: Callable[[], BaseException]
) -> None:
    @face.step()
    async def work() -> int:
        return 1

    @face.workflow()
    async def order() -> int:
        return await work()

    real, calls = getattr(type(app.engine.store), name), []

    def fail_every_other_time(store: Any, *arguments: Any) -> Any:
        calls.append(name)
        if len(calls) % 2:
            error = kind()
            if isinstance(error, InterruptedError):
                error.errno = errno.EINTR
            raise error
        return real(store, *arguments)

    with patch.object(type(app.engine.store), name, fail_every_other_time):
        handle = await face.start(order)
        assert await handle.get_result() == 1
    doing = "writing to" if name == "commit" else "reading from"
    assert _said(log, f"{doing} the database works again")


async def test_n2_a_launch_that_lacks_threads_says_so_and_leaves_nothing_behind(app: App) -> None:
    await DBOS.destroy_async()
    names = ["tidings-committer", "tidings-reader", "tidings-timers", "tidings-listener", "tidings-supervisor"]
    for name in names:
        with no_threads(name), pytest.raises(DBOSInitializationError, match="can't start new thread: check the limit"):
            await app.launch()
    await app.launch()
