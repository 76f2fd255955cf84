"""An application whose sessions begin with settings that are as bad for it as they can be: nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.faults.load import HOUR, Load
from tests.support.app import App, Sightings
from tests.support.face import Face
from tests.support.hostile import BENIGN, hostile_database
from tests.support.pooler import Pooler
from tests.support.rows import Rows
from tests.support.visitor import visiting

pytestmark = pytest.mark.direct("stands before the server itself")

TEXTS = ["Grüße, 你好 🎉", "it's \\ a \\n 'quote' \"", "\\x00ff", "NULL", "{a,b}", "é" * 1_000]


@pytest.fixture(scope="module", name="hostile_url")
def _hostile_url(postgres_server: str) -> Iterator[str]:
    with hostile_database(postgres_server) as url:
        yield url


class BenignRows(Rows):
    """The rows, for a session that begins as it should."""

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        text = statement.replace("{", "tidings.").replace("}", "").replace("?", "%s")
        with psycopg.connect(self._url, options=BENIGN, client_encoding="utf8") as connection:
            cursor = connection.execute(text.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=["direct", "ignored by a pooler", "refused by a pooler"])
def url(request: pytest.FixtureRequest, hostile_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How the application comes to the database."""
    BenignRows(hostile_url).run("drop schema if exists tidings cascade")
    monkeypatch.setattr("tidings.store.postgres.line._unprepared", set())
    if request.param == "direct":
        yield hostile_url
        return
    with Pooler(hostile_url) as pooler:
        if request.param == "refused by a pooler":
            pooler.refuses = "unsupported startup parameter in options: search_path"
        yield pooler.url(hostile_url)


async def test_an_application_runs_whatever_its_sessions_begin_with(
    url: str, hostile_url: str, face: Face, log: Sightings
) -> None:
    app = App(url)
    app.rows = BenignRows(hostile_url)
    await app.launch(notification_listener_polling_interval_sec=0.02)
    load = Load(face, workflows=4)
    await load.run()
    await load.check(app.rows)

    @face.workflow(name="echo")
    async def echo(text: str) -> Any:
        await face.set_event("käse", text)
        await face.write_stream("ström", text)
        return [text, await face.recv("tópic", HOUR)]

    for text in TEXTS:
        workflow_id = f"id-é {text[:20]}"
        handle = await face.start(echo, text, workflow_id=workflow_id)
        await face.send(workflow_id, text, "tópic")
        assert await handle.get_result() == [text, text]
    with visiting(url, face, connection={"polling_interval_seconds": 0.02, "recheck_seconds": 0.02}) as client:
        for text in TEXTS:
            workflow_id = f"id-é {text[:20]}"
            assert await client.get_event(workflow_id, "käse", HOUR) == text
            assert await client.read_stream_offset(workflow_id, "ström", 0) == text
    assert {each.workflow_id for each in await face.list_workflows(workflow_id_prefix="id-é")} == {
        f"id-é {text[:20]}" for text in TEXTS
    }
    assert len(app.rows.run("select 1 from {workflows} where inputs like ?", "%Grüße, 你好 🎉%")) == 1
    assert not [
        each for each in log.seen if "; trying again, nothing is lost" in each or each.startswith(("ERROR", "CRITICAL"))
    ]
    await app.crash_and_restart()
    assert await face.get_result(f"id-é {TEXTS[0][:20]}") == [TEXTS[0]] * 2
    await app.close()


async def test_what_reconnects_is_set_again(hostile_url: str, face: Face, log: Sightings) -> None:
    rows = BenignRows(hostile_url)
    rows.run("drop schema if exists tidings cascade")
    app = App(hostile_url)
    app.rows = rows
    await app.launch()

    @face.workflow(name="echo")
    async def echo(text: str) -> Any:
        await face.set_event("käse", text)
        return [text, await face.recv("tópic", HOUR)]

    for text in TEXTS:
        handle = await face.start(echo, text, workflow_id=f"id-é {text[:20]}")
        rows.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and "
            "backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        await face.send(handle.workflow_id, text, "tópic")
        assert await handle.get_result() == [text, text]
        assert await face.get_event(handle.workflow_id, "käse", HOUR) == text
    assert not [each for each in log.seen if each.startswith(("ERROR", "CRITICAL"))]
    await app.close()
