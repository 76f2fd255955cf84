"""Scenarios through the class `DBOS`, each written once and run with both faces on both stores."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.app import App
from tests.support.clock import ManualClock
from tests.support.face import Awaiting, Blocking, Face


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of an SQLite file that does not exist yet: in memory where that is a file system.

    What is lost when the power fails is tested elsewhere; here 100,000 syncs would only cost time, as on PostgreSQL.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tidings-", dir=memory if memory.is_dir() else tmp_path) as directory:
        yield f"sqlite:///{directory}/tidings.sqlite"


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
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of every launch of this test; it moves when the test says so."""
    clock = ManualClock()
    monkeypatch.setattr("tidings.engine.engine.SystemClock", lambda: clock)
    return clock


@pytest.fixture
async def app(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[App]:
    """tidings, launched on an empty database."""
    if "clock" in request.fixturenames:
        request.getfixturevalue("clock")
    app = App(database_url)
    await app.launch()
    yield app
    await app.close()
