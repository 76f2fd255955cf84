"""Patches: new code branches on workflows that older code started, and what versions are left (V4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import Awaiting, Face
from tidings import DBOS, ApplicationVersion, DBOSClient
from tidings.engine.process import REGISTRY
from tidings.error import DBOSContextError, DBOSLimitError, DBOSUnexpectedStepError

FOREVER = 3_600
PATIENCE = 30.0

Path = Callable[[], Awaitable[Any]]


@pytest.fixture
async def calls() -> list[str]:
    """The steps that were executed, in their order."""
    return []


def code(face: Face, calls: list[str], path: Path, *, first: str = "begun") -> Any:
    """Code that waits for "first", takes a path, and waits for "last" in the end."""

    def step(name: str) -> str:
        calls.append(name)
        return name

    async def order() -> list[str]:
        taken = [await face.run_step({"name": first}, step, first)]
        await face.recv("first", FOREVER)
        new = await path()
        taken.append(await face.run_step({"name": "new" if new else "old"}, step, "new" if new else "old"))
        await face.recv("last", FOREVER)
        return taken

    return order


async def never() -> bool:
    return False


async def start(app: App, face: Face, code: Any, until: str) -> None:
    """Start this code, and crash when it waits on this topic."""
    await face.start(face.workflow(name="order")(code), workflow_id="order")
    if until == "last":
        await app.waiting("message", "order", "first")
        await face.send("order", None, "first")
    await app.waiting("message", "order", until)
    await app.crash()
    REGISTRY.clear()


async def deploy(app: App, face: Face, code: Any, version: str) -> None:
    face.workflow(name="order")(code)
    await app.launch(application_version=version)


async def finish(app: App, face: Face, *topics: str) -> list[str]:
    for topic in topics:
        await app.waiting("message", "order", topic)
        await face.send("order", None, topic)
    found: list[str] = await DBOS.get_result_async("order", timeout_seconds=PATIENCE)
    return found


async def test_a_workflow_that_took_the_old_path_stays_on_it(app: App, face: Face, calls: list[str]) -> None:
    await start(app, face, code(face, calls, never), "last")
    await deploy(app, face, code(face, calls, lambda: face.patch("p")), "2")
    assert await finish(app, face, "last") == ["begun", "old"]
    assert calls == ["begun", "old"]


async def test_a_workflow_that_has_not_come_there_takes_the_new_path(app: App, face: Face, calls: list[str]) -> None:
    """In all later executions too."""
    await start(app, face, code(face, calls, never), "first")
    patched = code(face, calls, lambda: face.patch("p"))
    await deploy(app, face, patched, "2")
    await app.waiting("message", "order", "first")
    await face.send("order", None, "first")
    await app.waiting("message", "order", "last")
    await app.crash_and_restart(application_version="3")
    assert await finish(app, face, "last") == ["begun", "new"]
    assert calls == ["begun", "new"]
    names = [each["function_name"] for each in await DBOS.list_workflow_steps_async("order")]
    assert names == ["begun", "DBOS.recv", "DBOS.patch", "new", "DBOS.recv"]


async def test_code_without_the_patch_leaves_a_marked_workflow_alone(app: App, face: Face, calls: list[str]) -> None:
    """A rollback: the patched code, deployed again, finishes it."""
    patched = code(face, calls, lambda: face.patch("p"))
    await start(app, face, patched, "last")
    await deploy(app, face, code(face, calls, never), "2")
    with pytest.raises(DBOSUnexpectedStepError, match=r"DBOS\.patch 'p' at operation 3, but .* old \(version '2'"):
        await DBOS.get_result_async("order", timeout_seconds=PATIENCE)
    await app.crash()
    REGISTRY.clear()
    await deploy(app, face, patched, "1")
    assert await finish(app, face, "last") == ["begun", "new"]


@pytest.mark.parametrize("is_marked", [True, False])
async def test_a_deprecated_patch_passes_over_its_marker(
    app: App, face: Face, calls: list[str], *, is_marked: bool
) -> None:
    async def always() -> bool:
        return True

    await start(app, face, code(face, calls, (lambda: face.patch("p")) if is_marked else always), "last")
    await deploy(app, face, code(face, calls, lambda: face.deprecate_patch("p")), "2")
    assert await finish(app, face, "last") == ["begun", "new"]
    assert len(await DBOS.list_workflow_steps_async("order")) == 4 + is_marked


async def test_the_marker_of_another_patch_is_not_taken_for_its_own(app: App, face: Face, calls: list[str]) -> None:
    await start(app, face, code(face, calls, lambda: face.patch("p")), "last")
    await deploy(app, face, code(face, calls, lambda: face.patch("q")), "2")
    with pytest.raises(DBOSUnexpectedStepError, match=r"DBOS\.patch 'p' at operation 3"):
        await DBOS.get_result_async("order", timeout_seconds=PATIENCE)


async def test_a_second_patch_at_the_same_place(app: App, face: Face, calls: list[str]) -> None:
    """The later patch is asked first."""

    async def both() -> bool:
        return not await face.patch("q") and await face.patch("p") is True

    await start(app, face, code(face, calls, lambda: face.patch("p")), "last")
    await deploy(app, face, code(face, calls, both), "2")
    assert await finish(app, face, "last") == ["begun", "new"]


@pytest.mark.parametrize("operation", ["patch", "deprecate_patch"])
async def test_a_patch_belongs_into_a_workflow(app: App, face: Face, operation: str) -> None:
    @face.step()
    async def inside() -> None:
        await getattr(face, operation)("p")

    @face.workflow()
    async def order() -> None:
        await inside()

    with pytest.raises(DBOSContextError, match=f"DBOS.{operation}.* outside of any workflow"):
        await getattr(face, operation)("p")
    with pytest.raises(DBOSContextError, match=f"DBOS.{operation}.* in the step"):
        await (await face.start(order)).get_result()


@pytest.mark.parametrize("name", [7, None, "x" * 10_000])
async def test_a_patch_needs_a_name(app: App, face: Face, name: Any) -> None:
    @face.workflow()
    async def order() -> None:
        await face.patch(name)

    with pytest.raises((DBOSLimitError, TypeError), match="name of a patch"):
        await (await face.start(order)).get_result()


async def test_versions_are_listed_with_what_they_left(app: App, face: Face, calls: list[str]) -> None:
    await start(app, face, code(face, calls, never), "first")
    await deploy(app, face, code(face, calls, never, first="other"), "2")
    with pytest.raises(DBOSUnexpectedStepError):
        await DBOS.get_result_async("order", timeout_seconds=PATIENCE)
    expected = [ApplicationVersion("2", "test", pending=1, stuck=1, processes=1)]
    assert await face.list_application_versions() == expected
    with DBOSClient(system_database_url=app.database_url) as client:
        assert await face.on(client).list_application_versions() == expected


async def test_the_list_of_versions_is_recorded_in_a_workflow(app: App, awaiting: Awaiting) -> None:
    @DBOS.workflow()
    async def order() -> Any:
        return await DBOS.list_application_versions_async()

    assert await order() == [ApplicationVersion("1", "test", pending=1, stuck=0, processes=1)]
