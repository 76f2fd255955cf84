"""Secrets that libraries leave in errors do not come into the tables.

The tests' fixtures look for `PASSWORD` in the tables, also in base64 (`tests/support/passwords.py`).
"""

from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from harness.password import PASSWORD
from tests.support.app import App
from tests.support.face import Awaiting, Face, off_loop
from tests.support.visitor import Visitor
from tidings import DBOSClient
from tidings.error import DBOSInitializationError, DBOSMaxStepRetriesExceeded, DBOSRecordedError, DBOSSerializationError

FOREVER = 3_600
NOWHERE = f"postgresql://me:{PASSWORD}@127.0.0.1:1/db?connect_timeout=1"
REQUEST = httpx.Request("GET", f"https://me:{PASSWORD}@shop/orders", headers={"Authorization": f"Bearer {PASSWORD}"})


def connection_error() -> psycopg.OperationalError:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(NOWHERE)
    return caught.value


class StoreError(Exception):
    """As the errors of libraries above the driver: it holds the driver's error."""

    def __init__(self, message: str, original: Exception) -> None:
        super().__init__(message)
        self.orig = original


def itself() -> None:
    psycopg.connect(NOWHERE)


def as_a_cause() -> None:
    raise RuntimeError("no database") from connection_error()


def as_a_context() -> None:
    try:
        psycopg.connect(NOWHERE)
    except psycopg.OperationalError:
        raise RuntimeError("no database")  # noqa: B904  # it is to be the context only


def as_an_attribute() -> None:
    raise StoreError("no database", connection_error())


def as_an_argument() -> None:
    raise RuntimeError("no database", connection_error())


def in_a_group() -> None:
    raise ExceptionGroup("no database", [connection_error(), ValueError(1)])


def deep() -> None:
    error = StoreError("no database", connection_error())
    error.__cause__ = StoreError("none", RuntimeError([connection_error()]))
    raise error


def with_a_request() -> None:
    httpx.Response(404, request=REQUEST).raise_for_status()


def with_a_url() -> None:
    raise ValueError(f"cannot connect to {NOWHERE}", {"url": NOWHERE, "headers": dict(REQUEST.headers)})


FAILURES: dict[str, tuple[Callable[[], None], type[Exception], str]] = {
    "itself": (itself, psycopg.OperationalError, "connection failed"),
    "a cause": (as_a_cause, RuntimeError, "no database"),
    "a context": (as_a_context, RuntimeError, "no database"),
    "an attribute": (as_an_attribute, StoreError, "no database"),
    "an argument": (as_an_argument, RuntimeError, "no database"),
    "a group": (in_a_group, ExceptionGroup, "no database"),
    "deep": (deep, StoreError, "no database"),
    "a request": (with_a_request, httpx.HTTPStatusError, "https://me:***@shop/orders"),
    "a URL": (with_a_url, ValueError, "postgresql://me:***@127.0.0.1"),
}


@pytest.mark.parametrize(("fail", "cls", "said"), FAILURES.values(), ids=FAILURES)
async def test_no_error_brings_a_password_into_the_tables(
    app: App, face: Face, fail: Callable[[], None], cls: type[Exception], said: str
) -> None:
    """It is caught by its class all the same, the first time and in a replay."""

    @face.step(name="call")
    async def call() -> None:
        fail()

    @face.workflow(name="order")
    async def order() -> Any:
        try:
            await call()
        except cls as error:
            await face.set_event("seen", [type(error).__name__, str(error)])
            await face.recv("go", FOREVER)
            return [type(error).__name__, str(error)]

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await app.waiting("message", "w", "go")
    await face.send("w", 1, "go")
    again = await face.get_result("w")
    assert again == await face.get_event("w", "seen")
    assert said in again[1]
    (first, *_) = await face.list_workflow_steps("w")
    assert isinstance(first["error"], cls)


async def test_no_workflow_that_fails_brings_a_password_into_the_tables(app: App, face: Face, client: Visitor) -> None:
    @face.step(name="call", retries_allowed=True, max_attempts=2, interval_seconds=0)
    async def call() -> None:
        raise connection_error()

    @face.workflow(name="child")
    async def child() -> None:
        raise StoreError("no database", connection_error())

    @face.workflow(name="order")
    async def order() -> Any:
        with pytest.raises(StoreError) as of_child:
            await child()
        with pytest.raises(DBOSMaxStepRetriesExceeded) as of_step:
            await call()
        assert all(isinstance(each, psycopg.OperationalError) for each in of_step.value.errors)
        raise ValueError("no database") from of_child.value

    await face.start(order, workflow_id="w")
    for asked in (face, client):
        with pytest.raises(ValueError, match="no database") as caught:
            await asked.get_result("w")
        assert isinstance(caught.value.__cause__, StoreError)
        original: Any = caught.value.__cause__.orig
        assert isinstance(original, psycopg.OperationalError)
        assert isinstance(original, DBOSRecordedError)
        with pytest.raises(AttributeError, match="_pgconn"):
            _ = original.pgconn


async def test_no_error_of_ours_brings_a_password_into_the_tables(app: App, face: Face, postgres_server: str) -> None:
    """Its cause is an error of the driver."""

    @face.step(name="call")
    async def call() -> None:
        with DBOSClient(system_database_url=f"{postgres_server}_missing") as client:
            await off_loop(client.check_connection) if isinstance(face, Awaiting) else client.check_connection()

    @face.workflow(name="order")
    async def order() -> Any:
        await call()

    with pytest.raises(DBOSInitializationError, match="postgres_missing") as caught:
        await (await face.start(order)).get_result()
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


async def test_an_error_that_is_a_value_holds_no_connection(app: App, face: Face) -> None:
    @face.step(name="call")
    async def call() -> Any:
        return [ValueError("this one comes back"), connection_error()]

    @face.workflow(name="order")
    async def order() -> Any:
        return await call()

    with pytest.raises(DBOSSerializationError, match=r"\$\[1\]: .*'_pgconn' may stand for a connection"):
        await (await face.start(order)).get_result()
