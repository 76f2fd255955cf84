"""What the log says of workflows: how they end, once, and what is tried again. L6 of the requirements."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Blocking, Face, Gate
from tests.support.visitor import Visitor
from tidings import DBOS, SetWorkflowTimeout
from tidings.engine.runs import reports
from tidings.error import DBOSRecordedError, DBOSSerializationError, MaxRecoveryAttemptsExceededError

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

Said = list[tuple[str, str]]


class Lines(logging.Handler):
    """What is said of workflows. It comes just after who awaits them goes on, so a test waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    async def one(self, level: str, workflow_id: str) -> logging.LogRecord:
        """Wait until something is said of a workflow at this level, and return the first."""

        def found() -> list[logging.LogRecord]:
            return [each for each in self.records if (each.levelname, _id(each)) == (level, workflow_id)]

        await self._until(lambda: bool(found()))
        return found()[0]

    async def many(self, level: str, count: int) -> None:
        """Wait until so much is said at this level."""
        await self._until(lambda: sum(each.levelname == level for each in self.records) >= count)

    async def _until(self, enough: Callable[[], bool]) -> None:
        def wait() -> None:
            with self._changed:
                self._changed.wait_for(enough)

        await asyncio.to_thread(wait)

    def of(self, workflow_id: str, *levels: str) -> Said:
        """What was said of a workflow, at these levels."""
        wanted = levels or ("WARNING", "ERROR")
        return [
            (each.levelname, each.getMessage())
            for each in self.records
            if _id(each) == workflow_id and each.levelname in wanted
        ]


def _id(record: logging.LogRecord) -> str:
    workflow_id: str = record.__dict__["workflow_id"]
    return workflow_id


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines, level = Lines(), reports.logger.level
    reports.logger.addHandler(lines)
    yield lines
    reports.logger.removeHandler(lines)
    reports.logger.setLevel(level)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def fail_plainly() -> Any:
    raise ValueError("boom")


def fail_unprintably() -> Any:
    raise Unprintable


def fail_with_what_cannot_be_kept() -> Any:
    error = KeyError("k")
    error.connection = object()  # type: ignore[attr-defined]
    raise error


def give_what_cannot_be_stored() -> Any:
    return object()


def end_the_program() -> Any:
    raise SystemExit(3)


FAILURES: dict[str, tuple[Any, type[BaseException], str]] = {
    "an error": (fail_plainly, ValueError, "ValueError: boom"),
    "one that cannot be printed": (fail_unprintably, Unprintable, "Unprintable, which cannot be printed"),
    "one that cannot be kept": (fail_with_what_cannot_be_kept, KeyError, "KeyError: 'k'"),
    "a value that cannot be stored": (
        give_what_cannot_be_stored,
        DBOSSerializationError,
        "DBOSSerializationError: the result of workflow 'w': $: <object",
    ),
    "the end of the program": (end_the_program, SystemExit, "SystemExit: 3"),
}


@pytest.mark.parametrize(("body", "kind", "said"), FAILURES.values(), ids=FAILURES)
async def test_l6_a_workflow_that_fails_in_the_background_is_logged_once_with_its_traceback(
    app: App, face: Face, lines: Lines, body: Any, kind: type[BaseException], said: str
) -> None:
    @face.workflow(name="order")
    async def order() -> Any:
        return body()

    await face.start(order, workflow_id="w")
    record = await lines.one("ERROR", "w")
    await app.ended("w")
    assert record.getMessage().startswith(f"workflow 'w' (order) has failed: {said}")
    assert (record.name, record.__dict__["workflow_name"]) == ("tidings.workflows", "order")
    assert record.exc_info is not None
    assert record.exc_info[0] is kind
    if kind is not DBOSSerializationError:
        formatted = logging.Formatter().format(record)
        assert f"in {body.__name__}" in formatted
    assert len(lines.of("w")) == 1


async def test_l6_a_failure_is_logged_whoever_awaits_it(app: App, face: Face, lines: Lines) -> None:
    @face.workflow(name="child")
    async def child() -> None:
        raise ValueError("boom")

    @face.workflow(name="parent")
    async def parent() -> str:
        with pytest.raises(ValueError, match="boom"):
            await child()
        return DBOS.workflow_id or ""

    with pytest.raises(ValueError, match="boom"):
        await child()
    handle = await face.start(child, workflow_id="started")
    with pytest.raises(ValueError, match="boom"):
        await handle.get_result()
    parent_id = await parent()
    await lines.many("ERROR", 3)
    assert lines.of(parent_id) == []
    assert {each.__dict__["workflow_name"] for each in lines.records} == {"child"}


async def test_l6_a_workflow_that_fails_after_a_recovery_is_logged_there(app: App, face: Face, lines: Lines) -> None:
    @face.step(name="fail")
    async def fail() -> None:
        raise KeyError(object())

    @face.workflow(name="order")
    async def order() -> None:
        try:
            await fail()
        except KeyError:
            await face.recv("go", FOREVER)
            raise

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await app.waiting("message", "w", "go")
    assert lines.of("w") == [], "it has not ended"
    await face.send("w", 1, "go")
    record = await lines.one("ERROR", "w")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert isinstance(record.exc_info[1], DBOSRecordedError)
    await app.ended("w")
    assert len(lines.of("w")) == 1


async def test_what_goes_on_elsewhere_has_not_failed(app: App, face: Face, lines: Lines) -> None:
    @face.workflow(name="order")
    async def order() -> str:
        await face.recv("go", FOREVER)
        return "done"

    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.relaunch()
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await face.send("w", 1, "go")
    assert await face.get_result("w") == "done"
    assert lines.of("w") == []


async def test_begin_and_end_are_logged_behind_the_level(app: App, face: Face, lines: Lines) -> None:
    @face.workflow(name="order")
    async def order() -> None:
        await face.recv("go", FOREVER)

    reports.logger.setLevel(logging.INFO)
    await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await app.waiting("message", "w", "go")
    await face.send("w", 1, "go")
    await face.get_result("w")
    await app.ended("w")
    first, second, third = lines.of("w", "INFO")
    assert first == ("INFO", "workflow 'w' (order) begins")
    assert second == ("INFO", "workflow 'w' (order) is resumed in this process")
    assert third[1].startswith("workflow 'w' (order) has succeeded after ")


async def test_what_succeeds_costs_the_log_nothing_where_info_is_off(
    app: App, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(reports, "_say", lambda *values, **_: said.append(values))
    monkeypatch.setattr(reports.logger, "level", logging.WARNING)
    reports.logger.manager._clear_cache()  # type: ignore[attr-defined]

    @face.workflow()
    async def order() -> int:
        return 1

    assert await order() == 1
    assert said == []


async def test_steps_that_are_tried_again_are_logged(app: App, face: Face, lines: Lines) -> None:
    @face.step(name="pay", retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def pay() -> None:
        raise OSError("flaky\nline")

    @face.workflow(name="order")
    async def order() -> None:
        await pay()

    await face.start(order, workflow_id="w")
    record = await lines.one("ERROR", "w")
    again = [text for level, text in lines.of("w") if level == "WARNING"]
    begin = "workflow 'w' (order) retries its step 'pay' in 0 s"
    assert again == [f"{begin}: try {number} of 3 failed: OSError: flaky line" for number in (1, 2)]
    assert "in pay" in logging.Formatter().format(record), "where the last try failed"


# --- ends from outside ------------------------------------------------------------------------------------


async def test_l6_a_cancelled_workflow_is_logged_once(app: App, face: Face, client: Visitor, lines: Lines) -> None:
    @face.workflow(name="order")
    async def order() -> None:
        await face.recv("go", FOREVER)

    for name, canceller in (("here", face), ("elsewhere", client)):
        await face.start(order, workflow_id=name)
        await app.waiting("message", name, "go")
        await canceller.cancel_workflow(name)
        await app.ended(name)
        await canceller.cancel_workflow(name)
        assert lines.of(name) == [("WARNING", f"workflow '{name}' (order) was cancelled")]


async def test_l6_a_workflow_past_its_deadline_is_logged_once(
    app: App, face: Face, clock: ManualClock, lines: Lines
) -> None:
    @face.workflow(name="order")
    async def order() -> None:
        await face.recv("go", FOREVER)

    too_long = [("WARNING", "workflow 'w' (order) has exceeded its timeout, so it was cancelled")]
    with SetWorkflowTimeout(5):
        await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    clock.advance(5)
    await app.ended("w")
    await lines.one("WARNING", "w")
    assert lines.of("w") == too_long


async def test_l6_a_workflow_whose_time_was_up_while_nobody_executed_it_is_logged_once(
    app: App, face: Face, clock: ManualClock, lines: Lines
) -> None:
    @face.workflow(name="order")
    async def order() -> None:
        await face.recv("go", FOREVER)

    with SetWorkflowTimeout(5):
        await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash()
    clock.advance(10)
    await app.launch()
    await lines.one("WARNING", "w")
    assert lines.of("w") == [("WARNING", "workflow 'w' (order) has exceeded its timeout, so it was cancelled")]


async def test_l6_a_dead_letter_is_logged_once(app: App, caplog: pytest.LogCaptureFixture) -> None:
    begun, face = Gate(), Blocking()

    @face.workflow(name="order", max_recovery_attempts=0)
    async def order() -> None:
        begun.open()
        Gate().wait()

    await face.start(order, workflow_id="w")
    await begun.opened()
    await app.crash_and_restart()
    with pytest.raises(MaxRecoveryAttemptsExceededError):
        await face.get_result("w")
    said = [each for each in caplog.records if each.__dict__.get("workflow_id") == "w" and each.levelname == "ERROR"]
    assert [each.__dict__["workflow_name"] for each in said] == ["order"]


# --- unread messages ---------------------------------------------------------------------------------------


async def test_l6_a_workflow_that_ends_with_unread_messages_says_so(
    app: App, face: Face, client: Visitor, lines: Lines
) -> None:
    @face.workflow(name="order")
    async def order(fails: bool) -> None:
        await face.recv("go", FOREVER)
        if fails:
            raise ValueError("boom")

    for name, fails, unread in (("one", False, 1), ("many", False, 3), ("failed", True, 2), ("none", False, 0)):
        await face.start(order, fails, workflow_id=name)
        for number in range(unread):
            await client.send(name, number, "other" if number else None)
        await client.send(name, 1, "go")
    for name, counted in (("one", "1 message is"), ("many", "3 messages are"), ("failed", "2 messages are")):
        record = await lines.one("WARNING", name)
        assert record.getMessage() == (
            f"workflow '{name}' (order) has ended without receiving all its messages: {counted} kept, unread; "
            f"DBOS.list_messages('{name}') shows them"
        )
    await app.ended("none")
    await app.relaunch()
    assert lines.of("none") == []


async def test_l6_unread_messages_of_what_was_cancelled_and_of_the_last_workflow_are_told_of(
    app: App, face: Face, lines: Lines
) -> None:
    @face.workflow(name="order")
    async def order() -> None:
        await face.recv("go", FOREVER)

    for name in ("cancelled", "last"):
        await face.start(order, workflow_id=name)
        await face.send(name, 1, "other")
    await face.cancel_workflow("cancelled")
    await lines.one("WARNING", "cancelled")
    await face.send("last", 1, "go")
    await app.ended("last")
    await app.relaunch()
    assert [text for _, text in lines.of("last") if "1 message is kept, unread" in text] != []
    assert [text for _, text in lines.of("cancelled") if "1 message is kept, unread" in text] != []


# --- a log that fails ---------------------------------------------------------------------------------------


async def test_a_handler_that_fails_keeps_no_workflow_from_ending(app: App, face: Face, lines: Lines) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("the log is broken")

    @face.workflow(name="order")
    async def order() -> None:
        raise ValueError("boom")

    broken = Broken()
    reports.logger.addHandler(broken)
    try:
        handle = await face.start(order, workflow_id="w")
        with pytest.raises(ValueError, match="boom"):
            await handle.get_result()
        with pytest.raises(ValueError, match="boom"):
            await order()
        await app.ended("w")
    finally:
        reports.logger.removeHandler(broken)
