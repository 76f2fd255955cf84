"""Every form of a database's URL is taken by the configuration, the environment and a client, and shown by none."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, PostgresDsn, SecretBytes, SecretStr

from harness.password import PASSWORD
from tests.support.app import App
from tests.support.face import Face
from tidings import DBOS, DBOSClient
from tidings.error import DBOSInitializationError

FORMS: dict[str, Callable[[str], Any]] = {
    "bytes": str.encode,
    "SecretStr": SecretStr,
    "SecretBytes": lambda url: SecretBytes(url.encode()),
    "capitals and a line break": lambda url: url.partition("://")[0].upper() + "://" + url.partition("://")[2] + "\n",
    "PostgresDsn": lambda url: PostgresDsn(url) if url.startswith("postgres") else url,
}


@pytest.mark.parametrize("form", FORMS)
async def test_an_application_and_a_client_take_what_names_the_database(
    database_url: str, face: Face, form: str
) -> None:
    app = App(database_url)
    app.config["system_database_url"] = FORMS[form](database_url)
    await app.launch()

    @face.workflow()
    async def echo() -> Any:
        return await face.recv(timeout_seconds=3600)

    handle = await face.start(echo, workflow_id="w")
    with DBOSClient(system_database_url=FORMS[form](database_url)) as client:
        await client.send_async("w", "hello")
    assert await handle.get_result() == "hello"
    await app.close()


@pytest.mark.parametrize("form", ["{url}\n", " {url}", "\ufeff{url}\r\n"], ids=["line break", "space", "mark"])
async def test_the_environment_may_hold_what_an_editor_leaves(
    database_url: str, face: Face, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", form.format(url=database_url))
    app = App(database_url)
    del app.config["system_database_url"]
    await app.launch()
    assert await face.list_workflows() == []
    assert app.rows.counts()["workflows"] == 0  # Its tables are there.
    await app.close()


async def test_nothing_that_is_made_of_a_url_shows_its_password(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert PASSWORD in postgres_url
    known = set(map(id, gc.get_objects()))
    app = App(postgres_url)
    with caplog.at_level(logging.DEBUG):
        await app.launch()
        client = DBOSClient(system_database_url=postgres_url)
        await client.check_connection_async()
        made = [each for each in gc.get_objects() if id(each) not in known]
        ours = [each for each in made if str(type(each).__module__).startswith(("tidings.", "psycopg"))]
        assert client in ours
        assert [type(each) for each in ours if PASSWORD in repr(each)] == []
        await client.destroy_async()
        await app.close()


class Settings(BaseModel):
    url: PostgresDsn = PostgresDsn(f"postgresql://u:{PASSWORD}@h/d")


URL = f"postgresql://u:{PASSWORD}@h/d"


@pytest.mark.parametrize(
    "config",
    [
        URL,
        URL.encode(),
        {URL},
        [("system_database_url", URL)],
        f"host=h password={PASSWORD}",
        Settings(),
        {"name": "a", URL: 1},
        {"name": URL},
        {"name": [URL]},
        {"name": "a", "system_database_url": Settings()},
        {"name": "a", "dbos_system_schema": {"password": PASSWORD}},
        {"name": "a", "application_version": Settings()},
        {"name": "a", "run_migrations": URL},
        {"name": "a", "max_executor_threads": URL},
        {"name": "a", "log_level": URL},
        {"name": "a", "serializer": URL},
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_url_that_is_given_in_a_wrong_place_is_not_shown(config: Any) -> None:
    def launch() -> None:
        DBOS(config=config)
        DBOS.launch()

    with pytest.raises(DBOSInitializationError) as raised:
        launch()
    assert PASSWORD not in str(raised.value)


def test_a_schema_that_is_a_url_is_not_shown() -> None:
    for schema in (URL.encode(), [URL], Settings()):
        wrong: Any = schema
        with pytest.raises(DBOSInitializationError, match="dbos_system_schema must be a string, not") as raised:
            DBOSClient(system_database_url=URL, dbos_system_schema=wrong)
        assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("also", [{}, {"nmae": "shop"}, {"max_executor_threads": 0}], ids=["url", "key", "value"])
def test_a_traceback_that_shows_variables_shows_no_configuration(also: Any) -> None:
    """As some tools print it. The configuration stands in no variable of the program's own here."""
    bad: list[Callable[[], object]] = [
        lambda: DBOS(config={"name": "a", "system_database_url": f"postgresql://u:{PASSWORD}@h:x/d"} | also),
        lambda: DBOS(config={"name": "a", "system_database_url": f"u:{PASSWORD}@h/d"} | also),
        lambda: DBOSClient(system_database_url=f"u:{PASSWORD}@h/d"),
        lambda: DBOSClient(system_database_url=f"postgresql://u:{PASSWORD}@h:x/d"),
    ]
    for each in bad if not also else bad[:2]:
        with pytest.raises(DBOSInitializationError) as raised:
            _ = each(), DBOS.launch()
        error = raised.value.with_traceback(raised.tb.tb_next)
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert PASSWORD not in "".join(shown.format())
