from tests.support.app import App
from tests.support.face import Face

async def test_m1_a(app: App, face: Face) -> None:
    @face.workflow()
    async def order(count: int) -> list[str]:
        return [await face.recv() for _ in range(count)]

    handle = await face.start(order, 2)
    await face.send(handle.workflow_id, "a")
    await app.waiting("message", handle.workflow_id, None, times=1)
    await app.crash_and_restart()
    await face.send(handle.workflow_id, "b")
    assert await face.get_result(handle.workflow_id) == ["a", "b"]
