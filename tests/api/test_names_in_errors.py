"""Errors name what the user wrote: no public callable, given a wrong argument, shows a class or module of ours."""

import contextlib
import functools
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tidings
from tests.support.app import App
from tests.support.face import off_loop
from tidings import DBOS, DBOSClient, DBOSConfiguredInstance, SendMessage, SetWorkflowID, SetWorkflowTimeout
from tidings import error as errors
from tidings.api.handle import WorkflowHandle, WorkflowHandleAsync

PUBLIC = {*tidings.__all__, *errors.__all__, "tidings"}


class Wrong:
    """Of a type that no parameter takes."""

    def __repr__(self) -> str:
        return "<a wrong thing>"


async def coroutine() -> None: ...


@DBOS.workflow(name="another name")
async def named() -> None: ...


WRONG: dict[str, Callable[[], Any]] = {
    "object": Wrong,
    "coroutine": coroutine,
    "number": lambda: -1.5,
    "lock": threading.Lock,
    "function": lambda: coroutine,
}


@contextlib.contextmanager
def made(make: Callable[[], Any]) -> Iterator[Any]:
    """Give a wrong thing; one that nobody awaits is closed."""
    wrong = make()
    yield wrong
    if inspect.iscoroutine(wrong):
        wrong.close()


# What is given to find out may be right: any value can be sent, and these take no arguments at all or nothing wrong.
ENDS_TIDINGS = {"launch", "destroy", "check_connection"}


@functools.cache
def _internal_names() -> re.Pattern[str]:
    """Return what finds the names of all classes and modules of ours that are not public."""
    names = set()
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith("tidings."):
            continue
        if module_name not in {"tidings.error"}:
            names.add(module_name)
        names |= {
            name
            for name, each in vars(module).items()
            if inspect.isclass(each) and each.__module__.startswith("tidings.") and len(name) > 4
        }
    return re.compile("|".join(rf"(?<![\w.]){re.escape(name)}\b" for name in sorted(names - PUBLIC)))


def _callables(owner: Any) -> Iterator[str]:
    for name, method in inspect.getmembers_static(owner):
        if not name.startswith("_") and inspect.isfunction(getattr(method, "__func__", method)):
            yield name


DBOS_CALLABLES = [name for name in _callables(DBOS) if name.removesuffix("_async") not in ENDS_TIDINGS]
CLIENT_CALLABLES = [name for name in _callables(DBOSClient) if name.removesuffix("_async") not in ENDS_TIDINGS]
HANDLE_CALLABLES = [*_callables(WorkflowHandle)]


async def _error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException | None:
    """Call something wrongly, in either form, and return what it raises."""

    def call() -> Any:
        value = function(*args, **kwargs)
        return list(value) if isinstance(value, Iterator) else value

    try:
        value = await off_loop(call)
        if inspect.isawaitable(value):
            await value
        elif hasattr(value, "__aiter__"):
            [each async for each in value]
    except Exception as error:
        return error
    return None


def _check(error: BaseException | None, written: str) -> None:
    if error is None:
        return
    text = f"{type(error).__name__}: {error}"
    leaked = _internal_names().findall(text)
    assert not leaked, f"{written}: {text!r} shows {leaked}"
    assert "_tidings" not in text
    assert not re.search(r"\b_[A-Z]\w+|lambda>|<locals>", text), text


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(function).parameters.values() if each.name != "nothing"]


async def _call_wrongly(target: Any, shown: str, name: str) -> None:
    """Call with too many arguments, with a keyword that is unknown, and with each parameter wrong."""
    function = getattr(target, name)
    written = f"{shown}.{name}"
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in _parameters(function))
    if not takes_any and not any(each.kind is each.VAR_KEYWORD for each in _parameters(function)):
        unknown = await _error_of(function, no_such_keyword=1)
        assert isinstance(unknown, TypeError), written
        assert str(unknown).startswith(f"{written}() "), unknown
        _check(unknown, written)
    if not takes_any:
        many = await _error_of(function, *[Wrong()] * 20)
        assert isinstance(many, TypeError), written
        assert str(many).startswith(f"{written}() "), many
        _check(many, written)
    for parameter in _parameters(function):
        for make in WRONG.values():
            with made(make) as wrong:
                _check(await _error_of(function, **_arguments(function, parameter, wrong)), written)


def _arguments(function: Callable[..., Any], wrong: inspect.Parameter, value: Any) -> dict[str, Any]:
    """Return arguments that are right but for one, and that wait for nothing."""
    right: dict[str, Any] = {
        "workflow_id": "w",
        "destination_id": "w",
        "message": 1,
        "messages": [],
        "handles": [WorkflowHandle("w", DBOS)],
        "key": "k",
        "value": 1,
        "offset": 0,
        "seconds": 0,
        "func": len,
        "options": None,
        "inst": object(),
        "timeout_seconds": 0,
    }
    arguments = {}
    for parameter in _parameters(function):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name == wrong.name:
            arguments[parameter.name] = value
        elif parameter.name in right and (parameter.default is parameter.empty or parameter.name == "timeout_seconds"):
            arguments[parameter.name] = right[parameter.name]
    return arguments


async def test_dbos_is_named_as_the_user_wrote_it(app: App) -> None:
    for name in DBOS_CALLABLES:
        await _call_wrongly(DBOS, "DBOS", name)


async def test_a_client_is_named_as_the_user_wrote_it(app: App) -> None:
    with DBOSClient(system_database_url=app.database_url) as client:
        for name in CLIENT_CALLABLES:
            await _call_wrongly(client, "DBOSClient", name)


async def test_a_handle_is_named_as_the_user_wrote_it(app: App) -> None:
    for name in HANDLE_CALLABLES:
        await _call_wrongly(WorkflowHandle("w", DBOS), "WorkflowHandle", name)
        await _call_wrongly(WorkflowHandleAsync("w", DBOS), "WorkflowHandleAsync", name)


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(
    "call",
    [
        DBOS,
        lambda wrong: DBOS(config=wrong),
        lambda wrong: DBOS(config={"name": wrong}),
        lambda wrong: DBOS(config={"name": "shop", "serializer": wrong}),
        lambda wrong: DBOSClient(system_database_url=wrong),
        lambda wrong: DBOSClient(system_database_url="sqlite:///x", dbos_system_schema=wrong),
        lambda wrong: DBOSClient(system_database_url="sqlite:///x", serializer=wrong),
        DBOSClient,
        WorkflowHandle,
        WorkflowHandleAsync,
        SetWorkflowID,
        SetWorkflowTimeout,
        SendMessage,
        DBOSConfiguredInstance,
    ],
)
def test_what_is_made_is_named_as_the_user_wrote_it(call: Callable[..., Any], make: Callable[[], Any]) -> None:
    with made(make) as wrong, pytest.raises((TypeError, errors.DBOSException)) as raised:
        call(wrong)
    _check(raised.value, "a constructor")


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("decorator", [DBOS.workflow, DBOS.step, DBOS.dbos_class])
def test_decorators_are_named_as_the_user_wrote_them(decorator: Callable[..., Any], make: Callable[[], Any]) -> None:
    for is_bare in (True, False):
        with made(make) as wrong:
            try:
                decorator(wrong) if is_bare else decorator()(wrong)
            except (TypeError, ValueError) as error:
                _check(error, "a decorator")


def test_a_client_takes_its_url_by_keyword() -> None:
    """The URL is not shown: it may hold a password."""
    for arguments in ({}, {"system_database_url": "sqlite:///x"}):
        with pytest.raises(TypeError, match=r"DBOSClient.*system_database_url") as raised:
            DBOSClient("postgresql://shop:h1dden@db/shop", **arguments)  # type: ignore[arg-type]
        assert "h1dden" not in str(raised.value)


@pytest.mark.parametrize("made_by", [WorkflowHandle, WorkflowHandleAsync])
def test_a_handle_is_not_made_by_its_class(made_by: Any) -> None:
    with pytest.raises(TypeError, match=rf"a {made_by.__name__} cannot be created directly; .* DBOS\.retrieve_w"):
        made_by("order-1")
    with pytest.raises(TypeError, match=rf"{made_by.__name__}\(\) missing"):
        made_by()


# As a type checker does not see them.
dbos: Any = DBOS
client: Any = DBOSClient
handle: Any = WorkflowHandle
handle_async: Any = WorkflowHandleAsync
one_message: Any = SendMessage
with_id: Any = SetWorkflowID
with_timeout: Any = SetWorkflowTimeout

KEYWORDS: list[tuple[Callable[[], Any], str]] = [
    (lambda: dbos.step(timeout=1), r"DBOS\.step\(\) .*'timeout'; did you mean timeout_seconds=\?"),
    (lambda: dbos.step(retries=3), r"DBOS\.step\(\) .*; did you mean max_attempts=\? It needs retries_allowed=True"),
    (lambda: dbos.step(max_retries=3), r"; did you mean max_attempts=\? It needs retries_allowed=True"),
    (lambda: dbos.step(retry_delay=3), r"; did you mean interval_seconds=\? It needs retries_allowed=True"),
    (lambda: dbos.step(autoretry_for=(OSError,)), r"; did you mean should_retry=\? It needs retries_allowed=True"),
    (lambda: dbos.run_step({"max_retries": 3}, len, ""), r"mean 'max_attempts'\? It needs retries_allowed=True"),
    (
        lambda: dbos.workflow(max_attempts=3),
        r"a workflow is not retried .*, but its steps are: @DBOS\.step\(retries_all",
    ),
    (lambda: dbos.workflow(retries=3), r"a workflow is not retried when it fails, but its steps are"),
    (lambda: dbos.workflow(timeout_seconds=3), r"; to limit the time, write: with SetWorkflowTimeout\(seconds\)"),
    (lambda: dbos.workflow(workflow_id="x"), r"; to choose the id, write: with SetWorkflowID\('\.\.\.'\)"),
    (lambda: dbos.step(max_attempt=3), r"; did you mean max_attempts=\?"),
    (lambda: dbos.step(retry=3), r"; did you mean retries_allowed=\?"),
    (lambda: dbos.step(backoff=3), r"; did you mean backoff_rate=\?"),
    (lambda: dbos.workflow(max_recoveries=3), r"DBOS\.workflow\(\) .*; did you mean max_recovery_attempts=\?"),
    (lambda: dbos.workflow(workflow_name="x"), r"; did you mean name=\?"),
    (lambda: dbos.workflow(zebra=1), r"it takes name=, max_recovery_attempts="),
    (lambda: dbos.launch(executes=False), r"DBOS\.launch\(\) .*; did you mean execute=\?"),
    (lambda: dbos.destroy(timeout=5), r"; did you mean workflow_completion_timeout_sec=\?"),
    (lambda: client(database_url="x"), r"^DBOSClient\(\) .*; did you mean system_database_url=\?"),
    (lambda: client(url="x"), r"; did you mean system_database_url=\?"),
    (lambda: client(system_database_url="x", schema="x"), r"; did you mean dbos_system_schema=\?"),
    (client, r"^DBOSClient\(\) missing .*; write DBOSClient\(system_database_url=\.\.\.\)"),
    (lambda: handle("w", DBOS).get_result(timeout=1), r"WorkflowHandle\.get_result\(\) .*timeout_seconds=\?"),
    (lambda: handle("w", DBOS).get_result(1), r"were given; by keyword it takes timeout_seconds="),
    (lambda: handle_async("w", DBOS).get_result(timeout=1), r"; did you mean timeout_seconds=\?"),
    (lambda: dbos.recv(timeout=1), r"DBOS\.recv\(\) .*; did you mean timeout_seconds=\?"),
    (lambda: dbos.recv_async(timeout=1), r"DBOS\.recv_async\(\) .*; did you mean timeout_seconds=\?"),
    (lambda: dbos.get_event("w", "k", timeout=1), r"; did you mean timeout_seconds=\?"),
    (lambda: dbos.send("w", 1, key="x"), r"; did you mean idempotency_key=\?"),
    (lambda: dbos.send("w", 1, to="x"), r"it takes destination_id=, message=, topic=, idempotency_key="),
    (lambda: dbos.read_stream("w", "k", start=1), r"it takes workflow_id=, key=, offset=, timeout_seconds="),
    (lambda: dbos.sleep(secs=1), r"; did you mean seconds=\?"),
    (lambda: one_message(destination="w", message=1), r"^SendMessage\(\) .*; did you mean destination_id=\?"),
    (lambda: with_id(id="w"), r"^SetWorkflowID\(\) .*'id'"),
    (lambda: with_timeout(seconds=1), r"^SetWorkflowTimeout\(\) .*; "),
    (lambda: dbos.run_step({"timeout": 1}, len, ""), r"has no option 'timeout'; did you mean 'timeout_seconds'\?"),
    (lambda: dbos.list_workflows(ids=["w"]), r"has no filter 'ids'; did you mean 'workflow_ids'\?"),
    (
        lambda: dbos.list_workflows(state="x"),
        r"^DBOS\.list_workflows: it has no filter 'state'; did you mean 'status'\?",
    ),
    (
        lambda: dbos.list_workflows(name=coroutine),
        r": name must be .*, not the function coroutine; write name='coroutine'",
    ),
    (
        lambda: dbos.list_workflows(name=[named]),
        r": each of name .*, not the function named; write name='another name'",
    ),
    (lambda: dbos.list_workflows(status=coroutine), r"status must be .*, not the function coroutine; call missing\?"),
]


CONFIGURATIONS: list[tuple[Callable[[], Any], str]] = [
    (lambda: dbos(conf={}), r"^DBOS\(\) .*; did you mean config=\?"),
    (lambda: dbos(config={"name": "x", "url": "x"}), r"'url'; did you mean 'system_database_url'\?"),
    (lambda: dbos(config={"name": "x", "threads": 1}), r"'threads'; did you mean 'max_executor_threads'\?"),
    (lambda: dbos(config={"name": "x", "schema": "x"}), r"'schema'; did you mean 'dbos_system_schema'\?"),
]


@pytest.mark.parametrize(("call", "says"), CONFIGURATIONS)
async def test_a_wrong_key_of_the_configuration_gets_the_nearest_one(call: Callable[[], Any], says: str) -> None:
    error = await _error_of(call)
    assert isinstance(error, (TypeError, errors.DBOSInitializationError))
    assert re.search(says, str(error)), error


@pytest.mark.parametrize(("call", "says"), KEYWORDS)
async def test_a_wrong_keyword_gets_the_nearest_name(app: App, call: Callable[[], Any], says: str) -> None:
    error = await _error_of(call)
    assert isinstance(error, TypeError)
    assert re.search(says, str(error)), error


async def test_a_wrong_keyword_of_a_workflow_gets_the_nearest_name(app: App) -> None:
    @DBOS.workflow()
    def order(number: int, shipping_address: str = "") -> None: ...

    error = await _error_of(DBOS.start_workflow, order, 1, address="x")
    assert "got an unexpected keyword argument 'address'; did you mean shipping_address=?; it takes " in str(error)


SHOWN: list[tuple[Callable[[], Any], str]] = [
    (lambda: dbos.sleep(-1), "DBOS.sleep: seconds must be 0 or more seconds; got -1"),
    (lambda: dbos.sleep_async("1"), "DBOS.sleep_async: seconds must be a number"),
    (lambda: handle("w", DBOS).get_result(timeout_seconds=-1), "WorkflowHandle.get_result: timeout_seconds "),
    (lambda: dbos.get_event("w", "k", -1), "DBOS.get_event: timeout_seconds must be 0"),
    (lambda: dbos.send(1, 1), "DBOS.send: destination_id must be a string"),
    (lambda: dbos.read_stream("w", "k", offset=-1), "DBOS.read_stream: offset must be 0"),
    (lambda: dbos.list_workflows(limit=-1), "DBOS.list_workflows: limit must be"),
    (lambda: dbos.destroy(workflow_completion_timeout_sec=-1), "DBOS.destroy: workflow_completion_timeout_sec must"),
    (lambda: with_timeout(0), "SetWorkflowTimeout: workflow_timeout_sec must be more than 0"),
    (lambda: with_id(""), "SetWorkflowID: workflow_id must not be empty"),
    (lambda: dbos.step(name="pay", timeout_seconds=0)(len), "step 'pay': timeout_seconds must be more than 0"),
    (lambda: dbos.step(name="pay", max_attempts=0)(len), "step 'pay': max_attempts must be 1 or more"),
    (lambda: dbos.step(name="pay", interval_seconds=-1)(len), "step 'pay': interval_seconds must be 0 or more"),
    (lambda: dbos.run_step({"timeout_seconds": -1}, len, ""), "step 'len': timeout_seconds must be more than 0"),
    (
        lambda: dbos.workflow(name="buy", max_recovery_attempts=-1)(_parameters),
        "workflow 'buy': max_recovery_attempts must be 0 or more",
    ),
]


@pytest.mark.parametrize(("call", "says"), SHOWN, ids=[says for _, says in SHOWN])
async def test_an_error_of_a_parameter_says_what_was_called(app: App, call: Callable[[], Any], says: str) -> None:
    assert str(await _error_of(call)).startswith(says)


async def test_an_error_within_what_was_called_is_named_once(app: App) -> None:
    """By the innermost call; and it is the same when it is replayed."""

    @DBOS.step()
    def step() -> None:
        DBOS.get_event("w", "k", -1)

    @DBOS.workflow()
    def order() -> None:
        DBOS.run_step(None, step)

    with pytest.raises(errors.DBOSLimitError) as raised:
        await off_loop(order)
    assert str(raised.value).startswith("DBOS.get_event: timeout_seconds must be 0 or more")


def test_the_copies_are_the_same_functions() -> None:
    """A name of its own for each class, and nothing else."""
    assert DBOS.list_workflows.__qualname__ == "DBOS.list_workflows"
    assert DBOSClient.list_workflows.__qualname__ == "DBOSClient.list_workflows"
    assert inspect.signature(DBOS.send) == inspect.signature(DBOSClient.send)
    assert DBOS.recv.__doc__
    assert inspect.iscoroutinefunction(DBOS.recv_async)
    assert inspect.unwrap(DBOS.recv).__qualname__ == "DBOS.recv"
    assert WorkflowHandle.get_workflow_id.__qualname__ == "WorkflowHandle.get_workflow_id"
