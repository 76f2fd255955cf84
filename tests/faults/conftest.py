"""Applications on databases that are made to fail."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from harness.proxy import Proxy
from tests.faults.load import HOUR
from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Blocking, Face
from tests.support.rows import Rows
from tidings.engine.settings import Connection


@pytest.fixture(params=[Blocking(), Awaiting()], ids=["blocking", "awaiting"])
def face(request: pytest.FixtureRequest) -> Face:
    """How this test calls `DBOS`: both ways, one after the other."""
    face: Face = request.param
    return face


@pytest.fixture
def log() -> Iterator[Sightings]:
    """What tidings logs from now on: a test waits until it has said enough."""
    sightings = Sightings()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sightings.note(f"{record.levelname} {record.getMessage()}")

    handler, logger = Handler(), logging.getLogger("tidings")
    logger.addHandler(handler)
    yield sightings
    logger.removeHandler(handler)


@pytest.fixture
def only_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who waits look only when told to: the next look of itself is an hour away, also while nothing is heard."""

    def connection(*args: Any, **kwargs: Any) -> Connection:
        return Connection(*args, **kwargs | {"recheck_seconds": HOUR, "polling_interval_seconds": HOUR})

    monkeypatch.setattr("tidings.api.config.Connection", connection)
    monkeypatch.setattr("tidings.api.client.Connection", connection)


@pytest.fixture
def proxy(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands before PostgreSQL."""
    monkeypatch.setattr("tidings.store.postgres.line._unprepared", set())
    with Proxy.before(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def app(proxy: Proxy, postgres_url: str) -> AsyncIterator[App]:
    """tidings, launched behind the proxy. Its rows are looked at past it."""
    app = App(proxy.url(postgres_url))
    app.rows = Rows(postgres_url)
    await app.launch()
    yield app
    proxy.forget_cuts()
    proxy.accept()
    proxy.release()
    await app.close()
