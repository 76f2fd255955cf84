"""Questions that the database takes long over, or never answers: each is the matter of who asked it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.support.app import App, Sightings
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Face, off_loop
from tidings import DBOS
from tidings.engine.database.lanes import MOST_LANES
from tidings.error import DBOSException
from tidings.store.postgres import settings

pytestmark = pytest.mark.direct("sets a time-out of its own")


@pytest.fixture(autouse=True)
def cut_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short enough for a test, and long enough for what is quick."""
    monkeypatch.setitem(settings.PREFERRED, "statement_timeout", "300ms")


@contextmanager
def locked(url: str, *tables: str) -> Iterator[None]:
    """Keep everybody from reading these tables, as a migration of somebody else's does."""
    with psycopg.connect(url) as connection:
        for table in tables:
            connection.execute(f"lock table tidings.{table} in access exclusive mode".encode())
        yield


async def launch(url: str) -> App:
    app = App(url)
    await app.launch()
    return app


QUESTIONS = {
    "workflows": lambda face: face.list_workflows(),
    "steps": lambda face: face.list_workflow_steps("w"),
    "messages": lambda face: face.list_messages("w"),
    "events": lambda face: face.get_all_events("w"),
    "a page of a stream": lambda face: face.read("w", "stream"),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
async def test_a_question_that_is_always_cut_off_is_an_error_of_who_asks(
    postgres_url: str, face: Face, question: Any
) -> None:
    @face.workflow(name="publish")
    async def publish() -> None:
        await face.set_event("key", 1)
        await face.write_stream("stream", 1)

    app = await launch(postgres_url)
    try:
        await (await face.start(publish, workflow_id="w")).get_result()
        with (
            locked(postgres_url, "workflows"),
            pytest.raises(DBOSException, match=r"cancelled the query each time.*statement_timeout"),
        ):
            await question(face)
        await question(face)
    finally:
        await app.close()


async def test_as_many_slow_lists_as_there_are_lanes_hold_up_nothing_that_is_quick(
    postgres_url: str, awaiting: Awaiting
) -> None:
    @DBOS.workflow(name="echo")
    async def echo() -> Any:
        return await DBOS.recv_async("t", 3_600)

    app = await launch(postgres_url)
    try:
        await awaiting.start(echo, workflow_id="w")
        await app.waiting("message", "w", "t")
        with locked(postgres_url, "stream_items"):  # Steps are listed with what was written to streams.
            lists = [asyncio.create_task(DBOS.list_workflow_steps_async("w")) for _ in range(MOST_LANES - 1)]
            await off_loop(wait_until, lambda: len(app.engine.reader._lanes.contacts) == MOST_LANES - 1)
            status = await DBOS.get_workflow_status_async("w")
            assert status is not None
            assert status.status == "PENDING"
            assert [each.workflow_id for each in await DBOS.list_workflows_async()] == ["w"]
            await DBOS.send_async("w", "heard", "t")
            assert await DBOS.get_result_async("w") == "heard"
            assert not any(each.done() for each in lists)
        assert [len(each) for each in await asyncio.gather(*lists)] == [1] * len(lists)
    finally:
        await app.close()


async def test_who_leaves_takes_the_question_along(
    postgres_url: str, awaiting: Awaiting, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await launch(postgres_url)
    try:
        monkeypatch.setattr("tidings.engine.database.outage.MOST_CUT_OFF", 10**9)  # It would be asked for ever.

        @DBOS.workflow(name="one")
        async def one() -> int:
            return 1

        await (await awaiting.start(one, workflow_id="w")).get_result()
        with locked(postgres_url, "stream_items"):
            leaving = asyncio.create_task(DBOS.list_workflow_steps_async("w"))
            await log.until(lambda seen: any("statement timeout" in line for line in seen))
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await off_loop(wait_until, lambda: not app.engine.reader._lanes.held())
    finally:
        await app.close()


async def test_of_questions_that_are_asked_together_only_the_one_to_blame_fails(
    app: App, awaiting: Awaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    @DBOS.workflow(name="publish")
    async def publish(value: int) -> None:
        await DBOS.set_event_async("key", value)

    for number in range(5):
        await (await awaiting.start(publish, number, workflow_id=f"w{number}")).get_result()
    real = app.engine.store.latest_events
    together: list[int] = []

    def fails_for_one(keys: list[tuple[str, str]]) -> Any:
        together.append(len(keys))
        if ("w3", "key") in keys:
            raise ValueError("a defect that only this value shows")
        return real(keys)

    monkeypatch.setattr(app.engine.store, "latest_events", fails_for_one)
    got = await asyncio.gather(
        *(DBOS.get_event_async(f"w{number}", "key", 3_600) for number in range(5)), return_exceptions=True
    )
    assert [each for each in got if not isinstance(each, ValueError)] == [0, 1, 2, 4]
    assert isinstance(got[3], ValueError)
