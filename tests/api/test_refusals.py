"""Calls in a place where they have no meaning, or that would wait for ever, say so and what to do."""

import asyncio
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Blocking, Face, off_loop
from tidings import DBOS, DBOSClient, WorkflowHandle
from tidings.engine.process import Process
from tidings.error import DBOSContextError, DBOSNonExistentWorkflowError, DBOSShutdownError
from tidings.store.postgres.connect import advice as advice_on

FOREVER = 3_600


# --- waiting for one's own end ------------------------------------------------------------------------


async def test_a_workflow_does_not_wait_for_its_own_end(app: App, face: Face) -> None:
    """However it asks; nothing is recorded of it, and the workflow goes on."""
    own: WorkflowHandle[Any] = WorkflowHandle("w", DBOS)
    asked: list[Callable[[], Any]] = [
        partial(face.get_result, "w"),
        partial(face.get_result, "w", timeout_seconds=FOREVER),
        partial(face.wait_first, [own]),
        partial(face.wait_first, [own, own]),
    ]

    @face.step()
    async def ask_in_a_step() -> None:
        for ask in asked:
            with pytest.raises(DBOSContextError, match=r"'w' would wait in its step '.*ask_in_a_step' for its own end"):
                await ask()

    @face.workflow()
    async def order() -> str:
        for ask in asked:
            with pytest.raises(DBOSContextError, match="'w' would wait for its own end, which can never come"):
                await ask()
        await ask_in_a_step()
        await face.recv("go", FOREVER)
        return "it goes on"

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    names = [step["function_name"] for step in await face.list_workflow_steps("w")]
    assert names == [ask_in_a_step.__qualname__, "DBOS.recv"]
    await app.crash_and_restart()
    await face.send("w", None, "go")
    assert await face.get_result("w") == "it goes on"


async def test_a_workflow_waits_for_the_first_of_itself_and_others(app: App, face: Face) -> None:
    @face.workflow()
    async def child() -> int:
        return 1

    @face.workflow()
    async def order() -> str:
        both: list[WorkflowHandle[Any]] = [WorkflowHandle("w", DBOS), WorkflowHandle("child", DBOS)]
        first: str = (await face.wait_first(both)).workflow_id
        return first

    await face.start(child, workflow_id="child")
    assert await (await face.start(order, workflow_id="w")).get_result() == "child"


# --- results that do not come ---------------------------------------------------------------------------


async def test_a_result_that_does_not_come_says_who_executes_the_workflow(
    app: App, face: Face, clock: ManualClock
) -> None:
    @face.workflow()
    async def order() -> None:
        await face.recv("go", FOREVER)

    async def message() -> str:
        waiting = asyncio.ensure_future(face.get_result("w", timeout_seconds=5))
        await app.waiting("end", "w")
        clock.advance(5)
        with pytest.raises(TimeoutError) as raised:
            await waiting
        return str(raised.value)

    await face.start(order, workflow_id="w")
    assert "did not end within 5 s; it is running, in process " in await message()
    await app.relaunch(application_version="2", recover_versions="same")
    said = await message()
    assert "no process executes it: its process has ended, and no running process has version '1' of the code" in said
    assert "of the program 'test' (running: version '2'). Start that version again" in said
    assert "it is running" not in said
    await app.relaunch(name="other")
    assert "of the program 'test'. Start" in await message()
    await app.relaunch(name="test", application_version="1")
    await face.send("w", None, "go")
    await face.get_result("w")


async def test_a_look_at_a_result_asks_nothing_more(app: App, face: Face) -> None:
    """Who asks again and again would have the database explain each time."""

    @face.workflow()
    async def order() -> None:
        await face.recv("go", FOREVER)

    await face.start(order, workflow_id="w")
    with (
        patch("tidings.engine.engine.who_executes", side_effect=AssertionError),
        pytest.raises(TimeoutError, match=r"^workflow 'w' did not end within 0 s$"),
    ):
        await face.get_result("w", timeout_seconds=0)


async def test_in_a_workflow_what_is_said_of_a_result_is_recorded(app: App, face: Face, clock: ManualClock) -> None:
    @face.workflow()
    async def child() -> None:
        await face.recv("go", FOREVER)

    @face.workflow()
    async def parent() -> str:
        try:
            await face.get_result("child", timeout_seconds=5)
        except TimeoutError as error:
            await face.recv("go", FOREVER)
            return str(error)
        return ""

    await face.start(child, workflow_id="child")
    await face.start(parent, workflow_id="parent")
    await app.waiting("end", "child")
    clock.advance(5)
    await app.waiting("message", "parent", "go")
    await app.crash_and_restart()
    await face.send("parent", None, "go")
    assert "did not end within 5 s; it is running, in process" in await face.get_result("parent")


# --- errors as users see them -------------------------------------------------------------------------


async def test_a_traceback_shows_no_error_but_the_one(app: App, face: Face) -> None:
    @face.workflow()
    async def failing() -> None:
        raise ValueError("no tea")

    async def printed(call: Callable[[], Any]) -> str:
        try:
            await call()
        except Exception as error:
            return "".join(traceback.format_exception(error))
        raise AssertionError

    handle = await face.start(failing)
    for call in (
        handle.get_result,
        failing,
        partial(face.get_result, "nobody"),
        partial(face.send, "nobody", 1),
        partial(face.get_result, handle.workflow_id, timeout_seconds=0),
    ):
        text = await printed(call)
        assert "StopIteration" not in text
        assert "During handling of the above exception" not in text


async def test_nothing_is_said_to_be_sent_by_who_only_reads(app: App, face: Face) -> None:
    reads: list[Callable[[], Any]] = [
        partial(face.get_result, "nobody"),
        partial(face.retrieve_workflow, "nobody"),
        partial(face.get_all_events, "nobody"),
        partial(face.list_workflow_steps, "nobody"),
        partial(face.list_messages, "nobody"),
        partial(face.read, "nobody", "log"),
        partial(face.wait_first, [WorkflowHandle("nobody", DBOS)]),
    ]
    for read in reads:
        with pytest.raises(DBOSNonExistentWorkflowError) as raised:
            await read()
        assert str(raised.value).startswith("no workflow has the id 'nobody'. Check the id")
    with pytest.raises(DBOSNonExistentWorkflowError, match=r"'nobody'; nothing was sent\. Check"):
        await face.send("nobody", 1)
    with pytest.raises(DBOSNonExistentWorkflowError, match=r"'nobody'; nothing was cancelled\. Check"):
        await face.cancel_workflow("nobody")


async def test_what_was_not_done_is_recorded_too(app: App, face: Face) -> None:
    @face.workflow()
    async def order() -> list[str]:
        said = []
        for call in (partial(face.send, "nobody", 1), partial(face.get_all_events, "nobody")):
            try:
                await call()
            except DBOSNonExistentWorkflowError as error:
                said.append(str(error))
        await face.recv("go", FOREVER)
        return said

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await face.send("w", None, "go")
    sent, read = await face.get_result("w")
    assert "nothing was sent" in sent
    assert "nothing was sent" not in read


# --- where it is called ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "args"),
    [("recv", ()), ("recv_message", ("topic",)), ("set_event", ("key", 1)), ("write_stream", ("log", 1)),
     ("close_stream", ("log",))],
)  # fmt: skip
async def test_outside_of_workflows_the_call_is_named_as_written(
    app: App, face: Face, called: str, args: tuple[Any, ...]
) -> None:
    written = called if isinstance(face, Blocking) else f"{called}_async"
    with pytest.raises(DBOSContextError, match=rf"^DBOS\.{written}\b.* was called outside of any workflow; .*@DBOS"):
        await getattr(face, called)(*args)

    @DBOS.workflow()
    def order() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(getattr(DBOS, called), *args).result()

    with pytest.raises(DBOSContextError, match=rf"^DBOS\.{called}\b.* was called in a thread that workflow '.*DBOS"):
        await off_loop(order)


@pytest.mark.parametrize("name", ["send", "get_event", "recv", "get_result", "sleep", "list_workflows"])
async def test_without_asyncio_the_blocking_form_is_named(app: App, name: str) -> None:
    arguments = {"send": ("w", 1), "get_event": ("w", "k"), "get_result": ("w",), "sleep": (0,)}.get(name, ())
    coroutine = getattr(DBOS, f"{name}_async")(*arguments)
    with pytest.raises(RuntimeError, match=rf"^DBOS\.{name}_async was awaited where no .* or use DBOS\.{name}$"):
        await off_loop(lambda: coroutine.send(None))


async def test_without_asyncio_a_workflow_and_its_start_say_so(app: App) -> None:
    @DBOS.workflow()
    async def order() -> None: ...

    calls: list[Any] = [order(), DBOS.start_workflow_async(order), DBOS.launch_async(), DBOS.destroy_async()]
    client = await off_loop(lambda: DBOSClient(system_database_url=app.database_url))
    calls += [client.send_async("w", 1), client.destroy_async(), order()]
    for call in calls:
        with pytest.raises(RuntimeError, match="where no asyncio event loop runs"):
            await off_loop(partial(call.send, None))
    client.destroy()
    assert app.rows.counts()["workflows"] == 0


async def test_what_does_not_run_says_why(app: App, face: Face) -> None:
    """Never configured, configured and not launched, being launched, destroyed."""
    send = partial(face.send, "w", 1)
    await DBOS.destroy_async()
    with pytest.raises(DBOSShutdownError, match=r"DBOS\.destroy\(\) has stopped it; call DBOS\.launch\(\) again"):
        await send()
    with patch.object(Process, "has_run", new=False):
        with pytest.raises(DBOSShutdownError, match=r"DBOS\.launch\(\) was not called yet; call it \(or await"):
            await send()
        with patch.object(Process, "settings", new=None):
            with pytest.raises(DBOSShutdownError, match=r"write DBOS\(config=.*\) and DBOS\.launch\(\) before"):
                await send()
            with (
                patch.object(Process, "launch", new=object()),
                pytest.raises(DBOSShutdownError, match=r"DBOS\.launch\(\) has not returned yet; make"),
            ):
                await send()


@pytest.mark.parametrize(
    ("given", "says"),
    [(5, "not 5"), ([len], r"not \[<"), (None, "not None"), ("pay", "not 'pay'"), ({}, r"not \{\}")],
)
def test_run_parallel_takes_functions(given: Any, says: str) -> None:
    with pytest.raises(
        TypeError, match=rf"DBOS\.run_parallel takes functions, which it calls, {says}.*; write .*partial"
    ):
        DBOS.run_parallel(dict, given)


async def test_run_parallel_takes_blocking_functions(app: App) -> None:
    """What an async one gives would be awaited by nobody; by DBOS.run_step it is."""

    async def pay(amount: int = 1) -> int:
        return amount

    step = DBOS.step(name="pay")(pay)

    @DBOS.workflow(name="order")
    def order() -> list[int]:
        says = r"blocking functions, and .*pay is async; write partial\(DBOS\.run_step, None, .*pay, argument\)"
        for wrong in (pay, step, partial(pay, 2), partial(step, 2)):
            with pytest.raises(TypeError, match=says):
                DBOS.run_parallel(wrong)
        called = pay()
        with pytest.raises(TypeError, match=says):
            DBOS.run_parallel(called)  # type: ignore[arg-type]
        called.close()
        return DBOS.run_parallel(partial(DBOS.run_step, None, pay, 3), partial(DBOS.run_step, None, step, 4))

    assert await off_loop(order) == [3, 4]


async def test_what_nothing_can_await_is_named(app: App) -> None:
    """A def step, called in an async workflow, gives what it got: there is no thread that may wait for it."""

    async def fetch() -> int:
        return 1

    @DBOS.step(name="keep")
    def keep(value: Any) -> Any:
        return value() if callable(value) else value

    @DBOS.workflow(name="order")
    async def order() -> None:
        task = asyncio.ensure_future(fetch())
        for given, says in (
            (fetch(), r"fetch\(\)"),
            (fetch, r"fetch\(\)"),
            (DBOS.recv_async("go"), r"DBOS\.recv_async\(\)"),
            (task, r"the task of fetch\(\)"),
        ):
            what = rf"a step that is a def returned .*{says} in an async workflow, .* If it was an argument of the step"
            with pytest.raises(DBOSContextError, match=what):
                keep(given)
        await task

    await order()


async def test_a_blocking_handle_in_a_coroutine_is_named(app: App) -> None:
    with DBOSClient(system_database_url=app.database_url) as client:
        for face, name in ((DBOS, "DBOS"), (client, "DBOSClient")):
            handle: WorkflowHandle[Any] = WorkflowHandle("w", face)
            for call, awaited in ((handle.get_result, "get_result"), (handle.get_status, "get_workflow_status")):
                says = rf"handle\.{call.__name__}\(\) would block .*: await {name}\.{awaited}_async\(\.\.\.\)"
                with pytest.raises(RuntimeError, match=says):
                    call()


async def test_whether_the_registry_is_forgotten_is_true_or_false(app: App) -> None:
    for wrong in ("no", 1, None):
        with pytest.raises(TypeError, match="destroy_registry must be True or False, not"):
            DBOS.destroy(destroy_registry=wrong)  # type: ignore[arg-type]
    assert DBOS.application_version == "1", "it runs"


# --- topics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "said"), [("aproval", "topic 'aproval'"), (None, "no topic"), ("APPROVAL", "topic 'APPROVAL'")]
)
async def test_a_message_on_another_topic_is_pointed_at(
    app: App, face: Face, clock: ManualClock, log: Sightings, sent: str | None, said: str
) -> None:
    @face.workflow()
    async def order() -> Any:
        await face.recv("go", FOREVER)
        return [await face.recv("approval", 60), await face.recv("approval", 60)]

    for workflow_id in ("v", "w"):
        await face.start(order, workflow_id=workflow_id)
        await face.send(workflow_id, "yes", sent)
        await face.send(workflow_id, None, "go")
        for times in (1, 2):
            await app.waiting("message", workflow_id, "approval", times=times)
            clock.advance(60)
        assert await face.get_result(workflow_id) == [None, None]
    await log.until(lambda seen: any("received nothing on topic 'approval'" in line for line in seen))
    [line] = [line for line in log.seen if "received nothing" in line]  # Once for each function and topic.
    assert f"workflow 'v' received nothing on topic 'approval' within 60 s, and has unread messages on {said}" in line


async def test_a_timeout_without_other_messages_says_nothing(
    app: App, face: Face, clock: ManualClock, log: Sightings
) -> None:
    @face.workflow()
    async def order(topic: str, seconds: float) -> Any:
        return await face.recv(topic, seconds)

    await face.start(order, "first", 60, workflow_id="w")
    await app.waiting("message", "w", "first")
    clock.advance(60)
    assert await face.get_result("w") is None
    await face.start(order, "second", 0, workflow_id="v")
    assert await face.get_result("v") is None
    assert not [line for line in log.seen if "received nothing" in line]


# --- the database -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
            "start PostgreSQL, or put the right",
        ),
        (
            'connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory',
            "start PostgreSQL, or",
        ),
        ('FATAL:  password authentication failed for user "shop"', "Put the right user and password into the URL"),
        ("fe_sendauth: no password supplied", "Put the password into the URL"),
        ('FATAL:  database "shop" does not exist', 'Create it (create database "shop"), or put the right database'),
        ('FATAL:  role "ann" does not exist', 'Create it (create role "ann"), or put the right user into the URL'),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "There is no host of that name"),
        ("connection timeout expired", "that this machine can reach the server's port"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "its pg_hba.conf must allow it"),
        ("something else", ""),
    ],
)
def test_what_a_server_says_to_a_connection_gets_an_advice(text: str, advice: str) -> None:
    given = advice_on(psycopg.OperationalError(text), text)
    assert advice in given
    assert bool(advice) == bool(given)


async def test_a_missing_url_is_warned_of(app: App, log: Sightings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `os.environ.get` gives it where the variable is not set."""
    await DBOS.destroy_async()
    monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL", raising=False)
    DBOS(config={"name": "shop", "system_database_url": None})  # type: ignore[typeddict-item]
    [line] = log.seen
    assert (
        "'system_database_url' is None, perhaps because an environment variable is not set; using sqlite:///shop.sqlite"
        in line
    )
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", "postgresql://ann:h1dden@host/shop")
    DBOS(config={"name": "shop", "system_database_url": None})  # type: ignore[typeddict-item]
    assert "h1dden" not in log.seen[-1]
    DBOS(config={"name": "shop"})
    assert len(log.seen) == 2
