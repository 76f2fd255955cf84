"""What code may ask of where it is: the executor, the step, and which try of it this is."""

from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import Face, Gate
from tests.support.visitor import Visitor
from tidings import DBOS, StepStatus
from tidings.error import DBOSShutdownError, DBOSStepTimeoutError
from tidings.serialization import JSONSerializer, dump_error, load_error

FOREVER = 3_600


async def test_a_step_knows_its_number_and_its_try(app: App, face: Face) -> None:
    seen: list[Any] = []

    @face.step(name="plain")
    async def plain() -> None:
        seen.append(DBOS.step_status)
        await inner()

    @face.step(name="inner", retries_allowed=True, max_attempts=9)
    async def inner() -> None:
        """Called in another step it is a plain function."""
        seen.append(DBOS.step_status)

    @face.step(name="retried", retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def retried() -> None:
        seen.append(DBOS.step_status)
        if len(seen) < 6:
            raise ValueError("again")

    @face.workflow()
    async def order() -> None:
        seen.append(DBOS.step_status)
        await plain()
        await retried()
        seen.append(DBOS.step_status)

    assert DBOS.step_status is None
    await order()
    first = StepStatus(step_id=1, current_attempt=None, max_attempts=None)
    tries = [StepStatus(step_id=2, current_attempt=number, max_attempts=3) for number in range(3)]
    assert seen == [None, first, first, *tries, None]


async def test_a_step_in_a_thread_or_with_a_limit_knows_them_too(app: App, face: Face) -> None:
    def work() -> list[Any]:
        return [DBOS.step_status, DBOS.step_id]

    @face.workflow()
    async def order() -> Any:
        options: Any = {"name": "work", "retries_allowed": True, "max_attempts": 2, "timeout_seconds": FOREVER}
        found = await face.run_step(options, lambda: [repr(each) for each in work()])
        return [*found, *await face.run_step({"name": "work"}, lambda: [repr(each) for each in work()])]

    assert await order() == [repr(StepStatus(1, 0, 2)), "1", repr(StepStatus(2, None, None)), "2"]


async def test_should_retry_is_not_a_try(app: App, face: Face) -> None:
    seen: list[Any] = []

    def decide(_: BaseException) -> bool:
        seen.append(DBOS.step_status)
        return False

    @face.step(name="pay", retries_allowed=True, max_attempts=3, should_retry=decide)
    async def pay() -> None:
        raise ValueError("no")

    @face.workflow()
    async def order() -> None:
        await pay()

    with pytest.raises(ValueError, match="no"):
        await order()
    assert seen == [StepStatus(1, None, None)]


async def test_the_executor_is_the_one_of_statuses_and_lists(app: App, face: Face, client: Visitor) -> None:
    @face.workflow()
    async def order() -> str:
        return DBOS.executor_id

    handle = await face.start(order)
    first = await handle.get_result()
    assert first == DBOS.executor_id == (await client.get_workflow_status(handle.workflow_id)).executor_id
    assert [each.workflow_id for each in await client.list_workflows(executor_id=first)] == [handle.workflow_id]
    (here,) = [each for each in await client.list_executors() if each.executor_id == first]
    assert here.label == "local"
    await app.relaunch(executor_id="worker 7")
    assert DBOS.executor_id != first
    (here,) = [each for each in await client.list_executors() if each.executor_id == DBOS.executor_id]
    assert here.label == "worker 7"


def test_without_a_launch_there_is_no_executor() -> None:
    with pytest.raises(DBOSShutdownError, match="not running"):
        _ = DBOS.executor_id
    assert DBOS.step_status is None


async def test_a_timeout_says_which_step_and_how_long(app: App, face: Face) -> None:
    never = Gate()

    @face.step(name="slow", timeout_seconds=0.001)
    async def slow() -> None:
        await never.opened()

    @face.workflow()
    async def order() -> Any:
        try:
            await slow()
        except DBOSStepTimeoutError as error:
            await face.recv("go", FOREVER)
            return [error.step_name, error.timeout_seconds, error.attempt, error.workflow_id]

    handle = await face.start(order, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash_and_restart()
    await face.send("w", None, "go")
    assert await handle.get_result() == ["slow", 0.001, 1, "w"]


def test_a_timeout_of_an_earlier_version_says_so_too() -> None:
    serializer = JSONSerializer()
    text, _ = dump_error(serializer, DBOSStepTimeoutError("slow", "w", 2, 5))
    again = load_error(serializer, text.replace(',"workflow_id":"w"', ""))
    assert isinstance(again, DBOSStepTimeoutError)
    assert (again.step_name, again.timeout_seconds, again.attempt) == ("slow", 5.0, 2)
