"""A workflow that has ended is let go at once: nothing of it waits for Python's collector of cycles."""

import gc

from tests.support.app import App
from tests.support.face import Face
from tidings.core.history import Run
from tidings.engine.database.chain import Chain


async def test_what_has_ended_leaves_no_cycle(app: App, face: Face) -> None:
    """Thousands of workflows a second would keep the collector busy, and what they held."""

    @face.step()
    async def look_up(number: int) -> int:
        return number

    @face.workflow()
    async def child(number: int) -> int:
        return await look_up(number)

    @face.workflow()
    async def order(number: int) -> int:
        await face.recv("more", 0)
        result = await (await face.start(child, number)).get_result()
        await face.set_event("result", result)
        return int(result)

    async def call(number: int) -> None:
        assert await order(number) == number

    await face.run(call, -1)
    gc.collect()
    gc.disable()
    try:
        for number in range(3):
            await app.ended((await face.start(order, number)).workflow_id)
            await face.run(call, number)
        left = [each for each in _only_collected() if isinstance(each, (Run, Chain))]
    finally:
        gc.enable()
    assert not left


def _only_collected() -> list[object]:
    """Collect; return what only the collector has found to be garbage."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
