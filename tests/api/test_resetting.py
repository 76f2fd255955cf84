"""`DBOS.reset_system_database`: a database as it was before its first launch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App
from tests.support.engines import make_engine
from tests.support.face import Face
from tests.support.visitor import visiting
from tidings import DBOS, store
from tidings.engine.process import Process
from tidings.error import DBOSInitializationError


@pytest.mark.parametrize("truncate", [False, True], ids=["tables too", "rows only"])
async def test_nothing_is_left_and_the_next_launch_begins_anew(app: App, face: Face, truncate: bool) -> None:
    ran: list[int] = []

    @face.workflow(name="whole")
    async def whole(number: int) -> Any:
        ran.append(number)
        await face.set_event("state", number)
        await face.write_stream("items", number)
        return await face.recv("go", 0)

    handle = await face.start(whole, 1, workflow_id="w")
    await face.send("w", "late", "other")
    await handle.get_result()
    app.rows.run("create table theirs (number int)")
    app.rows.run("insert into theirs values (7)")
    await DBOS.destroy_async()
    DBOS.reset_system_database(truncate=truncate)
    DBOS.reset_system_database(truncate=truncate)  # Harmless when repeated.
    await app.launch()
    assert await face.list_workflows() == []
    for table in ("{workflows}", "{entries}", "{messages}", "{events}"):
        assert app.rows.run(f"select count(*) from {table}") == [(0,)]
    assert [each.executor_id for each in await face.list_executors()] == [DBOS.executor_id]
    assert await (await face.start(whole, 2, workflow_id="w")).get_result() is None
    assert await face.read("w", "items") == [2]
    assert ran == [1, 2]
    assert app.rows.run("select number from theirs") == [(7,)], "what is not tidings' own stays"


_OURS_IN_SQLITE = "select name from sqlite_master where name like 'tidings%'"
_OURS_IN_POSTGRES = """
select relname from pg_class where relnamespace = 'tidings'::regnamespace
union all select proname from pg_proc where pronamespace = 'tidings'::regnamespace
"""


async def test_all_that_migrations_make_is_removed(app: App) -> None:
    """Also what a later migration adds: the script that drops it must know it."""
    ours = _OURS_IN_SQLITE if app.rows.is_sqlite else _OURS_IN_POSTGRES
    assert len(app.rows.run(ours)) > 8
    await DBOS.destroy_async()
    DBOS.reset_system_database()
    assert app.rows.run(ours) == []
    await app.launch()


async def test_an_empty_database_is_reset_too(app: App, database_url: str) -> None:
    await DBOS.destroy_async()
    DBOS.reset_system_database()
    DBOS.reset_system_database(system_database_url=database_url, schema="tidings")
    with pytest.raises(DBOSInitializationError, match="no tidings schema yet"):
        store.open(database_url).connect()
    await app.launch()


async def test_who_uses_it_is_named(app: App, face: Face, database_url: str) -> None:
    """`DBOS` and clients of this process, and other processes; nothing is removed."""

    @face.workflow(name="quick")
    async def quick() -> str:
        return "done"

    await (await face.start(quick, workflow_id="kept")).get_result()
    with pytest.raises(
        DBOSInitializationError, match=r"in use in this process, so it was not reset: call DBOS.destroy"
    ):
        DBOS.reset_system_database()
    with visiting(database_url, face):
        await DBOS.destroy_async()
        with pytest.raises(DBOSInitializationError, match=r"in use in this process, .* and destroy each DBOSClient"):
            DBOS.reset_system_database()
    other = make_engine(database_url)
    other.open()
    try:
        with pytest.raises(
            DBOSInitializationError, match=r"so it was not reset: 1 process lives \('.*' with pid \d+ on"
        ):
            DBOS.reset_system_database()
    finally:
        other.stop()
    await app.launch()
    assert [each.workflow_id for each in await face.list_workflows()] == ["kept"]


async def test_a_process_that_was_killed_here_holds_nothing_up(app: App, face: Face) -> None:
    await app.crash()
    DBOS.reset_system_database()
    await app.launch()
    assert await face.list_workflows() == []


async def test_which_database_is_asked_for(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await DBOS.destroy_async()
    with pytest.raises(TypeError, match="truncate must be True or False, not 'yes'"):
        DBOS.reset_system_database(truncate="yes")  # type: ignore[arg-type]
    with pytest.raises(DBOSInitializationError, match="system_database_url has an unknown scheme"):
        DBOS.reset_system_database(system_database_url="nonsense://user:h1dden@host/x")
    monkeypatch.setattr(Process, "settings", None)
    with pytest.raises(DBOSInitializationError, match=r"give it system_database_url=..., or call DBOS\(config="):
        DBOS.reset_system_database()
    monkeypatch.undo()
    await app.launch()


def test_an_empty_url_does_not_mean_the_configured_database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a variable of the environment gives it that is not set."""
    monkeypatch.setattr(Process, "settings", None)
    DBOS(config={"name": "app", "system_database_url": sqlite_url})
    with pytest.raises(DBOSInitializationError, match="system_database_url is empty"):
        DBOS.reset_system_database(system_database_url="")
