"""Dead letters: workflows that were being executed when one process after another died."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face, Gate
from tests.support.visitor import Visitor
from tidings import DBOS
from tidings.error import DBOSLimitError, DBOSStreamClosedError, MaxRecoveryAttemptsExceededError


class Deadly:
    """A workflow whose second step is never done."""

    def __init__(self, face: Face, most: int | None) -> None:
        self.began = Sightings()
        self.never = Gate()

        @face.step(name="first")
        async def first() -> None:
            await face.write_stream("log", "first")

        @face.step(name="second")
        async def second() -> None:
            self.began.note("second")
            await self.never.opened()

        @face.workflow(name="deadly", max_recovery_attempts=most)
        async def deadly() -> None:
            await first()
            await second()

        self.workflow = deadly


async def test_past_its_attempts_a_workflow_is_a_dead_letter(
    app: App, face: Face, client: Visitor, log: Sightings
) -> None:
    deadly = Deadly(face, 2)
    await face.start(deadly.workflow, workflow_id="w")
    for deaths in range(1, 4):
        await deadly.began.until(lambda seen, deaths=deaths: len(seen) == deaths)  # type: ignore[misc]
        status = await face.get_workflow_status("w")
        assert (status.status, status.recovery_attempts) == ("PENDING", deaths - 1)
        await app.crash_and_restart()
    with pytest.raises(MaxRecoveryAttemptsExceededError, match=r"'w' is not recovered again.* 3 times") as caught:
        await face.get_result("w", timeout_seconds=3_600)
    assert (caught.value.workflow_id, caught.value.attempts) == ("w", 3)
    status = await face.get_workflow_status("w")
    assert status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert isinstance(status.error, MaxRecoveryAttemptsExceededError)
    await log.until(lambda seen: any("is not recovered again" in line for line in seen))
    # Its stream has ended with it, and whoever waits for more of it learns that.
    assert await face.read("w", "log") == ["first"]
    with pytest.raises(DBOSStreamClosedError):
        await client.read_stream_offset("w", "log", 1, timeout_seconds=3_600)
    assert await face.get_event("w", "key", 3_600) is None
    assert len(deadly.began.seen) == 3
    await app.relaunch()
    assert (await face.get_workflow_status("w")).status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert [each.workflow_id for each in await face.list_workflows(status="MAX_RECOVERY_ATTEMPTS_EXCEEDED")] == ["w"]


async def test_who_waits_for_a_dead_letter_is_told_when_it_becomes_one(app: App, face: Face) -> None:
    deadly = Deadly(face, 0)

    @face.workflow(name="parent")
    async def parent() -> str:
        try:
            return str(await face.get_result("w"))
        except MaxRecoveryAttemptsExceededError as error:
            return f"given up after {error.attempts}"

    await face.start(deadly.workflow, workflow_id="w")
    await face.start(parent, workflow_id="p")
    await deadly.began.until(lambda seen: len(seen) == 1)
    await app.waiting("end", "w")
    await app.crash_and_restart()
    assert await face.get_result("p", timeout_seconds=3_600) == "given up after 1"


async def test_deaths_while_it_waits_do_not_count(app: App, face: Face) -> None:
    @face.workflow(name="waits", max_recovery_attempts=0)
    async def waits() -> Any:
        return await face.recv("topic", None)

    await face.start(waits, workflow_id="w")
    for _ in range(3):
        await app.waiting("message", "w", "topic")
        await app.crash_and_restart()
    await app.waiting("message", "w", "topic")
    await face.send("w", "hello", "topic")
    assert await face.get_result("w", timeout_seconds=3_600) == "hello"
    assert (await face.get_workflow_status("w")).recovery_attempts == 0


async def test_a_workflow_that_gets_on_between_deaths_is_recovered_as_often_as_it_takes(app: App, face: Face) -> None:
    reached, never = Sightings(), Gate()

    @face.step(name="step")
    async def step(number: int) -> None:
        reached.note(number)
        if reached.seen.count(number) == 1:
            await never.opened()  # The process dies in the first try of each.

    @face.workflow(name="slow", max_recovery_attempts=1)
    async def slow() -> str:
        for number in range(4):
            await step(number)
        return "done"

    await face.start(slow, workflow_id="w")
    for number in range(4):
        await reached.until(lambda seen, number=number: number in seen)  # type: ignore[misc]
        await app.crash_and_restart()
    assert await face.get_result("w", timeout_seconds=3_600) == "done"


def _order() -> None:
    """Be something that could be a workflow."""


@pytest.mark.parametrize("wrong", [True, 1.5, "3"])
def test_attempts_are_a_whole_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="workflow 'order': max_recovery_attempts must be a whole number"):
        DBOS.workflow(name="order", max_recovery_attempts=wrong)(_order)


def test_attempts_are_not_negative() -> None:
    with pytest.raises(DBOSLimitError, match="workflow 'order': max_recovery_attempts must be 0 or more"):
        DBOS.workflow(name="order", max_recovery_attempts=-1)(_order)
