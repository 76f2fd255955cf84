"""What every test may ask for: an empty database on either store. A test that hangs is ended by pytest's timeout."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.postgres import empty_database, new_database, postgres_server

# How long an example takes says nothing here: the watchdog is what ends a test that hangs.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.load_profile("tidings")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server() -> Iterator[str]:
    """The URL of the session's server, started when the first test asks for it.

    A test that stops or kills its server starts a `PostgresServer` of its own.
    """
    with postgres_server(fsync="off", max_connections="300") as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_url(_postgres_database: str) -> str:
    """The URL of an empty PostgreSQL database."""
    empty_database(_postgres_database)
    return _postgres_database


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'tidings.sqlite'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each store."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
