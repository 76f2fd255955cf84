"""Scenarios through the class `DBOS`, each written once and run with both faces on both stores."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Blocking, Face
from tests.support.visitor import Visitor, visiting


@pytest.fixture(params=[Blocking(), Awaiting()], ids=["blocking", "awaiting"])
def face(request: pytest.FixtureRequest) -> Face:
    """How this test calls `DBOS`: both ways, one after the other."""
    face: Face = request.param
    return face


@pytest.fixture
def awaiting() -> Awaiting:
    """The awaiting face, for what only tasks can do."""
    return Awaiting()


@pytest.fixture
def client(app: App, face: Face) -> Iterator[Visitor]:
    """A client as another program has it, called in the form that `face` has."""
    with visiting(app.database_url, face) as client:
        yield client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of every launch of this test; it moves when the test says so."""
    clock = ManualClock()
    monkeypatch.setattr("tidings.engine.engine.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def log() -> Iterator[Sightings]:
    """What tidings logs from now on: a test waits until it has said enough."""
    sightings = Sightings()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sightings.note(record.getMessage())

    handler, logger = Handler(), logging.getLogger("tidings")
    logger.addHandler(handler)
    yield sightings
    logger.removeHandler(handler)


@pytest.fixture
async def app(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[App]:
    """tidings, launched on an empty database."""
    if "clock" in request.fixturenames:
        request.getfixturevalue("clock")
    app = App(database_url)
    await app.launch()
    yield app
    await app.close()
