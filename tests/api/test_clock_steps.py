"""The store's clock steps while workflows wait: W3 and M7 of the requirements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Face, Gate, off_loop
from tidings import SetWorkflowTimeout
from tidings.engine.waiting.clock import GRACE_MS
from tidings.error import DBOSAwaitedWorkflowCancelledError, DBOSStepTimeoutError
from tidings.store.postgres.store import PostgresStore
from tidings.store.sqlite.store import SqliteStore

HOUR = 3_600
SECONDS = 24.0
NEVER = "never"

Wait = Callable[[Face, float], Awaitable[Any]]


async def _read(face: Face, seconds: float) -> None:
    try:
        await face.read(NEVER, "stream", timeout_seconds=seconds)
    except Exception as error:
        assert type(error).__name__ == "DBOSStreamTimeoutError"  # noqa: PT017


WAITS: dict[str, Wait] = {
    "sleep": lambda face, seconds: face.sleep(seconds),
    "recv": lambda face, seconds: face.recv("topic", seconds),
    "get_event": lambda face, seconds: face.get_event(NEVER, "key", seconds),
    "read_stream": _read,
}


@pytest.fixture(params=WAITS)
def wait(request: pytest.FixtureRequest) -> Wait:
    """What a workflow waits with: in vain, until its time is up."""
    return WAITS[request.param]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of the process, and of the store."""
    clock = ManualClock(follows=True)
    monkeypatch.setattr("tidings.engine.engine.SystemClock", lambda: clock)
    for store in (SqliteStore, PostgresStore):
        monkeypatch.setattr(store, "now_ms", lambda _: clock.store_ms())
    return clock


@pytest.fixture
def never() -> Iterator[Gate]:
    """What a step waits for that hangs; it is let go at the end of the test."""
    gate = Gate()
    yield gate
    gate.open()


async def step(clock: ManualClock, seconds: float) -> None:
    """Let the store's clock step, and the process notice, which it does within a second."""
    clock.step(seconds)
    clock.advance(1)
    await off_loop(wait_until, lambda: clock.knows)


async def begin(app: App, face: Face, wait: Wait, workflow_id: str = "w") -> None:
    """Start a workflow that waits, and one that is waited for."""

    @face.workflow()
    async def never() -> None:
        await face.recv("nothing", None)

    @face.workflow()
    async def waits() -> str:
        await wait(face, SECONDS)
        return "over"

    await face.start(never, workflow_id=NEVER)
    await app.waiting("message", NEVER, "nothing")
    await face.start(waits, workflow_id=workflow_id)
    await app.waits.until(lambda seen: len(seen) >= 2)


async def status_of(face: Face, workflow_id: str = "w") -> str:
    status: str = (await (await face.retrieve_workflow(workflow_id)).get_status()).status
    return status


@pytest.mark.parametrize("back", [-HOUR, -20, -(10**7)])
async def test_w3_a_clock_that_is_set_back_makes_no_wait_longer(
    app: App, face: Face, clock: ManualClock, wait: Wait, back: int
) -> None:
    await begin(app, face, wait)
    await step(clock, back)
    clock.advance(SECONDS - 2)
    assert await status_of(face) == "PENDING"
    clock.advance(2)
    assert await face.get_result("w") == "over"


async def test_w3_a_wait_follows_the_stores_clock_forward(app: App, face: Face, clock: ManualClock, wait: Wait) -> None:
    """As after a suspend that the process's own clock has not counted."""
    await begin(app, face, wait)
    await step(clock, 20)
    clock.advance(2)
    assert await status_of(face) == "PENDING"
    clock.advance(1.1)
    assert await face.get_result("w") == "over"


async def test_w3_a_wait_that_a_step_forward_has_skipped_is_over_soon(
    app: App, face: Face, clock: ManualClock, wait: Wait
) -> None:
    await begin(app, face, wait)
    await step(clock, HOUR)
    clock.advance(GRACE_MS / 1_000 - 0.5)
    assert await status_of(face) == "PENDING"
    clock.advance(0.5)
    assert await face.get_result("w") == "over"


async def test_w3_a_step_forward_that_is_taken_back_ends_nothing(
    app: App, face: Face, clock: ManualClock, wait: Wait
) -> None:
    await begin(app, face, wait)
    await step(clock, HOUR)
    await step(clock, -HOUR)
    clock.advance(SECONDS - 3)
    assert await status_of(face) == "PENDING"
    clock.advance(1)
    assert await face.get_result("w") == "over"


async def test_w3_a_wait_that_is_recovered_after_a_step_back_begins_anew_and_no_more(
    app: App, face: Face, clock: ManualClock, wait: Wait
) -> None:
    await begin(app, face, wait)
    await app.crash()
    clock.step(-HOUR)
    await app.launch()
    await app.waits.until(lambda seen: len(seen) >= 2)
    clock.advance(SECONDS)
    assert await face.get_result("w") == "over"


@pytest.mark.parametrize(("seconds", "left"), [(-HOUR, SECONDS - 1), (20, 3.1), (HOUR, GRACE_MS / 1_000)])
async def test_w3_the_timeout_of_a_workflow_follows_its_deadline(
    app: App, face: Face, clock: ManualClock, seconds: int, left: float
) -> None:
    @face.workflow()
    async def waits() -> None:
        await face.recv("never", None)

    with SetWorkflowTimeout(SECONDS):
        await face.start(waits, workflow_id="w")
    await app.waiting("message", "w", "never")
    await step(clock, seconds)
    clock.advance(left - 0.5)
    assert await status_of(face) == "PENDING"
    clock.advance(0.5)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await face.get_result("w")


@pytest.mark.parametrize("seconds", [-HOUR, 20, HOUR])
async def test_w3_the_limit_of_a_step_counts_on_the_processs_own_clock(
    app: App, face: Face, clock: ManualClock, never: Gate, seconds: int
) -> None:
    begun = Gate()

    @face.step(timeout_seconds=SECONDS)
    async def work() -> None:
        begun.open()
        await never.opened()

    @face.workflow()
    async def order() -> str:
        try:
            await work()
        except DBOSStepTimeoutError:
            return "too late"
        return "done"

    began = clock.own_ms()
    await face.start(order, workflow_id="w")
    await begun.opened()
    await clock.awaited(began + round(SECONDS * 1_000))
    await step(clock, seconds)
    clock.advance(SECONDS - 1.5)
    assert await status_of(face) == "PENDING"
    clock.advance(0.5)
    assert await face.get_result("w") == "too late"
    assert clock.own_ms() - began == SECONDS * 1_000


@pytest.mark.parametrize("seconds", [-HOUR, 20, HOUR])
async def test_w3_the_pause_before_another_try_counts_on_the_processs_own_clock(
    app: App, face: Face, clock: ManualClock, seconds: int
) -> None:
    tries: list[int] = []

    @face.step(retries_allowed=True, interval_seconds=10, max_attempts=2)
    async def work() -> str:
        tries.append(clock.own_ms())
        if len(tries) == 1:
            raise ValueError("again, after a pause")
        return "done"

    @face.workflow()
    async def order() -> str:
        return await work()

    await face.start(order, workflow_id="w")
    await app.waiting_for_time()
    await step(clock, seconds)
    clock.advance(8.5)
    assert len(tries) == 1
    clock.advance(0.5)
    assert await face.get_result("w") == "done"
    assert tries[1] - tries[0] == 10_000


@pytest.mark.parametrize("seconds", [-HOUR, 20, HOUR])
async def test_e2_a_wait_outside_of_workflows_counts_on_the_processs_own_clock(
    app: App, face: Face, clock: ManualClock, seconds: int
) -> None:
    began = clock.own_ms()
    reading: asyncio.Task[Any] = asyncio.create_task(face.get_event("nobody", "key", SECONDS))  # type: ignore[arg-type]
    await app.waiting("event", "nobody", "key")
    await step(clock, seconds)
    clock.advance(SECONDS - 1.5)
    assert not reading.done()
    clock.advance(0.5)
    assert await reading is None
    assert clock.own_ms() - began == SECONDS * 1_000
