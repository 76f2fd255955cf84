"""Errors of libraries, which no database can keep as they are, are caught by their classes, wherever they come to."""

import asyncio
import dataclasses
import sys
from datetime import datetime
from types import ModuleType
from typing import Any

import httpx
import pydantic
import pytest

from tests.support.app import App
from tests.support.face import Face
from tests.support.visitor import Visitor
from tidings.error import DBOSMaxStepRetriesExceeded, DBOSRecordedError

FOREVER = 3_600

REQUEST = httpx.Request("GET", "http://shop/orders")


class Order(pydantic.BaseModel):
    id: int
    at: datetime | None = None


class ShopError(OSError):
    """One with a state that cannot be stored, read by a property, and one that can."""

    def __init__(self, code: int) -> None:
        super().__init__(7, "no shop")
        self._response = httpx.Response(code, request=REQUEST)
        self.code = code

    @property
    def response(self) -> httpx.Response:
        return self._response


def status_error() -> None:
    httpx.Response(404, request=REQUEST).raise_for_status()


def refused() -> None:
    raise httpx.ConnectError("refused", request=REQUEST)


def invalid() -> None:
    Order.model_validate({"id": REQUEST})


def grouped() -> None:
    raise ExceptionGroup("all", [ShopError(500), ValueError(REQUEST)])


def own() -> None:
    raise ShopError(500)


FAILURES: dict[str, tuple[Any, type[Exception], str]] = {
    "a base class": (status_error, httpx.HTTPError, "Client error '404 Not Found'"),
    "the class itself": (refused, httpx.ConnectError, "refused"),
    "a built-in base": (own, OSError, "[Errno 7] no shop"),
    "a final class": (invalid, pydantic.ValidationError, "1 validation error for Order"),
    "a group": (grouped, ExceptionGroup, "all (2 sub-exceptions)"),
}


@pytest.mark.parametrize(("fail", "cls", "message"), FAILURES.values(), ids=FAILURES)
async def test_w2_an_error_is_caught_by_its_class_the_first_time_and_in_a_replay(
    app: App, face: Face, client: Visitor, fail: Any, cls: type[Exception], message: str
) -> None:
    tries: list[int] = []

    @face.step(name="call")
    async def call() -> None:
        tries.append(1)
        fail()

    @face.workflow(name="order")
    async def order() -> str:
        try:
            await call()
        except cls as error:
            await face.recv("go", FOREVER)
            if str(error).startswith(message):
                raise
        return "it was not caught, or said something else"

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await app.waiting("message", "w", "go")
    await face.send("w", 1, "go")
    for asked in (face, client):
        with pytest.raises(cls) as caught:
            await asked.get_result("w")
        assert str(caught.value).startswith(message)
    assert tries == [1]
    (first, *_) = await face.list_workflow_steps("w")
    assert isinstance(first["error"], cls)
    assert isinstance((await client.get_workflow_status("w")).error, cls)


async def test_w3_the_errors_of_all_tries_are_of_their_classes(app: App, face: Face) -> None:
    @face.step(name="call", retries_allowed=True, max_attempts=2, interval_seconds=0)
    async def call() -> None:
        own()

    @face.workflow()
    async def order() -> list[Any]:
        try:
            await call()
        except DBOSMaxStepRetriesExceeded as error:
            await face.recv("go", FOREVER)
            return [[isinstance(each, ShopError), each.code, str(each)] for each in error.errors]  # type: ignore[attr-defined]
        return []

    handle = await face.start(order)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == [[True, 500, "[Errno 7] no shop"]] * 2


async def test_w2_the_error_of_a_child_is_caught_by_its_class(app: App, face: Face) -> None:
    @face.workflow(name="child")
    async def child() -> None:
        own()

    @face.workflow()
    async def parent() -> Any:
        try:
            await child()
        except ShopError as error:
            await face.recv("go", FOREVER)
            return [error.code, hasattr(error, "response")]

    handle = await face.start(parent)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == [500, False]


class Stop(BaseException):
    """As of a library that ends its own work by an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@pytest.mark.parametrize("how", ["a call", "a handle"])
async def test_w2_a_base_exception_of_a_child_is_caught_by_its_class(app: App, face: Face, how: str) -> None:
    @face.workflow(name="child")
    async def child() -> None:
        raise Stop(3)

    @face.workflow()
    async def parent() -> Any:
        try:
            await (child() if how == "a call" else (await face.start(child)).get_result())
        except Stop as error:
            await face.recv("go", FOREVER)
            return [error.code, str(error), isinstance(error, Exception)]

    handle = await face.start(parent)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == [3, "3", True]


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError])
async def test_w2_what_ends_a_program_or_a_task_ends_only_the_child(
    app: App, face: Face, kind: type[BaseException]
) -> None:
    @face.workflow(name="child")
    async def child() -> None:
        raise kind("over")

    @face.workflow()
    async def parent() -> Any:
        try:
            await (await face.start(child)).get_result()
        except DBOSRecordedError as error:
            await face.recv("go", FOREVER)
            return [type(error).__name__, error.type_name.rpartition(".")[2], error.message]

    handle = await face.start(parent)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    assert await face.get_result(handle.workflow_id) == ["DBOSRecordedError", kind.__name__, "over"]


async def test_a_program_without_its_class_gets_a_plain_record(
    app: App, face: Face, client: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    @face.workflow()
    async def order() -> None:
        refused()

    handle = await face.start(order)
    with pytest.raises(httpx.ConnectError):
        await handle.get_result()
    monkeypatch.setitem(sys.modules, "httpx", ModuleType("httpx"))
    with pytest.raises(DBOSRecordedError, match=r"^httpx\.ConnectError: refused$") as caught:
        await client.get_result(handle.workflow_id)
    assert type(caught.value) is DBOSRecordedError
    assert "in refused" in caught.value.traceback_text


@dataclasses.dataclass(init=False)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0


async def test_values_that_libraries_make_come_back(app: App, face: Face) -> None:
    usage = Usage()
    usage.output_tokens = 3
    parsed = Order.model_validate_json('{"id": 1, "at": "2026-01-01T00:00:00+02:00"}')

    @face.step(name="parse")
    async def parse() -> Any:
        return [parsed, usage]

    @face.workflow()
    async def order(given: Any) -> Any:
        found = await parse()
        await face.recv("go", FOREVER)
        return [given, found]

    handle = await face.start(order, parsed)
    await app.waiting("message", handle.workflow_id, "go")
    await app.crash_and_restart()
    await face.send(handle.workflow_id, None, "go")
    given, (again, used) = await face.get_result(handle.workflow_id)
    assert given == again == parsed
    assert again.at.isoformat() == "2026-01-01T00:00:00+02:00"
    assert (used, vars(used)) == (usage, {"output_tokens": 3})


@dataclasses.dataclass(frozen=True)
class FrozenShopError(Exception):
    """One that lets nobody set its traceback."""

    code: int


@pytest.mark.parametrize("options", [{}, {"timeout_seconds": 60}], ids=["plain", "within a time"])
async def test_an_error_that_is_frozen_passes_as_it_is(app: App, face: Face, options: dict[str, Any]) -> None:
    @face.step(name="fail", **options)
    async def fail() -> None:
        raise FrozenShopError(1)

    @face.workflow(name="order")
    async def order() -> None:
        try:
            await fail()
        except FrozenShopError as error:
            raise FrozenShopError(error.code + 1) from None

    with pytest.raises(FrozenShopError) as raised:
        await (await face.start(order, workflow_id="w")).get_result()
    assert raised.value == FrozenShopError(2)
