"""What every test may ask for: an empty database on either store. A test that hangs is ended by pytest's timeout.

Tests may run in several processes (`pytest -n 2`): each has a PostgreSQL server of its own.
"""

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import watchdog
from tests.support.faulty import PATIENCE_SECONDS
from tests.support.pgbouncer import PgBouncer
from tests.support.pooled import pooler_before, say_what_went_past, url_for
from tests.support.postgres import empty_database, new_database, postgres_server
from tests.support.temporary import temporary_directory_of_its_own

# How long an example takes says nothing here: the watchdog is what ends a test that hangs.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.load_profile("tidings")

# What an engine and its host run in. The threads of user code may be left behind anywhere.
_THREADS = {f"tidings-{name}" for name in ("committer", "reader", "listener", "timers", "supervisor")}


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the run: its temporary directory, and that Ctrl-C reaches the programs it starts."""
    if _is_worker(config):
        return  # It has all this from the run that started it.
    stack = ExitStack()
    stack.enter_context(temporary_directory_of_its_own())
    config.add_cleanup(stack.close)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So do shells start what goes to the background, and whatever we start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the watchdog be heard from every process."""
    if _is_worker(session.config):
        watchdog.speak_up(session.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what did not run as was asked."""
    say_what_went_past(terminalreporter)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_engine_outlives_its_test() -> Iterator[None]:
    """Wait for what a test has left behind: it holds connections, which would be collected in whatever test comes next.

    What failed to close them is then seen in its own test.
    """
    before = set(threading.enumerate())
    yield
    while left := {thread for thread in threading.enumerate() if thread.name in _THREADS} - before:
        thread = left.pop()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), f"the test has left {thread.name} behind"


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server() -> Iterator[str]:
    """The URL of the session's server, started when the first test asks for it.

    A test that stops or kills its server starts a `PostgresServer` of its own.
    """
    with postgres_server(fsync="off", full_page_writes="off", shared_buffers="16MB", max_connections="300") as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session", name="_pooler")
def _postgres_pooler(postgres_server: str) -> Iterator[PgBouncer | None]:
    with pooler_before(postgres_server) as pooler:
        yield pooler


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, _postgres_database: str, _pooler: PgBouncer | None) -> str:
    """The URL of an empty PostgreSQL database: through a pooler, where `tests.support.pooled` says so."""
    url = url_for(request.node, _pooler, _postgres_database)
    empty_database(_postgres_database)
    return url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of an SQLite file that does not exist yet: in memory where that is a file system.

    A process that dies loses nothing of it, and a failing power is not tested: 200,000 syncs would only cost time, as
    on PostgreSQL. The tests of the SQLite store itself are on a disk.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tidings-", dir=memory if memory.is_dir() else tmp_path) as directory:
        yield f"sqlite:///{directory}/tidings.sqlite"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each store."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
