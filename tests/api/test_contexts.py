"""`SetWorkflowID` and `SetWorkflowTimeout`: what a block sets counts in it, and leaving it takes nothing else."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import Face
from tidings import DBOS, SetWorkflowID, SetWorkflowTimeout

Abandon = Callable[[], Coroutine[Any, Any, None]]


async def in_a_block_of_its_own() -> None:
    with SetWorkflowID("other"), SetWorkflowTimeout(1):
        await asyncio.Future()


async def in_nested_blocks() -> None:
    with SetWorkflowID("other"), SetWorkflowTimeout(1), SetWorkflowID("another"), SetWorkflowTimeout(2):
        await asyncio.Future()


async def between_blocks() -> None:
    with SetWorkflowTimeout(1):
        with SetWorkflowID("other"):
            await asyncio.sleep(0)
        await asyncio.Future()


@pytest.mark.parametrize("abandon", [in_a_block_of_its_own, in_nested_blocks, between_blocks])
async def test_w1_a_coroutine_that_is_collected_in_a_block_takes_no_id_and_no_limit_with_it(
    app: App, face: Face, abandon: Abandon
) -> None:
    """Where a loop is closed, the garbage collector ends what is suspended on it: at any time, in any context."""

    @face.workflow()
    async def workflow() -> None: ...

    abandoned = abandon()
    copy_context().run(abandoned.send, None)
    with SetWorkflowID("w"), SetWorkflowTimeout(3_600):
        abandoned.close()
        handle = await face.start_workflow(workflow)
    assert handle.workflow_id == "w"
    await handle.get_result()
    status = await handle.get_status()
    assert status.workflow_timeout_ms == 3_600_000


async def test_w1_a_block_may_be_entered_again_within_itself(app: App, face: Face) -> None:
    @face.workflow()
    async def workflow() -> None: ...

    block, other = SetWorkflowID("w"), SetWorkflowID("other")
    with block:
        with other, block:
            assert (await face.start_workflow(workflow)).workflow_id == "w"
            assert (await face.start_workflow(workflow)).workflow_id not in {"w", "other"}
        assert (await face.start_workflow(workflow)).workflow_id == "w"
    assert (await face.start_workflow(workflow)).workflow_id != "w"


async def test_w1_of_tasks_that_share_a_block_each_enters_it_for_itself(app: App, face: Face) -> None:
    @face.workflow()
    async def workflow() -> None: ...

    block = SetWorkflowID("w")

    async def start() -> str:
        with block:
            await asyncio.sleep(0)
            handle = await face.start_workflow(workflow)
            return str(handle.workflow_id)

    assert await asyncio.gather(*(start() for _ in range(3))) == ["w"] * 3
    await DBOS.get_result_async("w")
