"""What every test may ask for: an empty database on either store. A test that hangs is ended by pytest's timeout.

Tests may run in several processes (`pytest -n 2`): each has a PostgreSQL server of its own.
"""

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import leftovers, watchdog
from tests.support.databases import MigratedDatabase
from tests.support.face import Gate
from tests.support.pgbouncer import PgBouncer
from tests.support.pooled import pooler_before, say_what_went_past, url_for
from tests.support.postgres import empty_database, new_database, postgres_server
from tests.support.registered import Registered
from tests.support.temporary import temporary_directory_of_its_own
from tidings.engine.asyncio_functions import settle_asyncio
from tidings.engine.executors import settle_threads

# How long an example takes says nothing here: the watchdog is what ends a test that hangs.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.load_profile("tidings")

_REGISTERED = pytest.StashKey[Registered]()
_HAS_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what this run can be told."""
    parser.addoption(
        "--patience-seconds",
        type=float,
        default=60.0,
        help="how long what a passed test has left may take to be gone",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare this process: its temporary directory, and that Ctrl-C reaches the programs it starts."""
    stack = ExitStack()
    config.add_cleanup(stack.close)
    # One for the whole run, and in it one for each of its processes.
    stack.enter_context(temporary_directory_of_its_own())
    stack.enter_context(leftovers.watched_loops())
    # The first workflow changes these for good. Where that is in a test that has put something in the place of
    # `Thread.start`, say, the end of the test would put the unchanged one back.
    settle_threads()
    settle_asyncio()
    if not _is_worker(config) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So do shells start what goes to the background, and whatever we start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the watchdog be heard from every process, and say what repeats the order."""
    if _is_worker(session.config):
        watchdog.speak_up(session.config)
    elif (seed := _seed(session.config)) is not None:
        # Now, for a run that is ended never comes to its summary; the header, which says it too, is for the talkative.
        _terminal(session.config).write_line(f"The order of the tests: SEED={seed}")


def pytest_terminal_summary(exitstatus: int, config: pytest.Config) -> None:
    """Say what went past a pooler; and again what repeats the order of a run that failed, where it is looked for."""
    say_what_went_past(_terminal(config))
    if exitstatus != pytest.ExitCode.OK and (seed := _seed(config)) is not None:
        _terminal(config).write_line(f"The same order again: make test SEED={seed}")


def pytest_xdist_auto_num_workers() -> int:
    """Take more processes than there are processors: half of its time a test waits for a server or another process."""
    return -(-3 * (os.cpu_count() or 1) // 2)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests, in whatever order: one at the end would leave the other processes idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember what all modules have registered, now that they are imported."""
    session.stash[_REGISTERED] = Registered()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test failed: then it is no wonder if something is left."""
    report = yield
    item.stash[_HAS_FAILED] = item.stash.get(_HAS_FAILED, False) or report.failed
    return report


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _seed(config: pytest.Config) -> int | None:
    """Return the seed of the random order; `None` where there is none (`-p no:randomly`)."""
    seed: int | None = config.getoption("randomly_seed", None)
    return seed


def _terminal(config: pytest.Config) -> pytest.TerminalReporter:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    return reporter


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _begins_alone_and_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each test find what its own module has registered, and fail the one that leaves something behind.

    It is set up before all others of the test, and so looks when all those are torn down.
    """
    request.session.stash[_REGISTERED].restore(request.module.__name__)
    before = leftovers.Leftovers()
    yield
    Gate.open_all()
    has_failed = request.node.stash.get(_HAS_FAILED, False)
    left = before.await_none(1 if has_failed else request.config.getoption("--patience-seconds"))
    if left:
        before.remove()
        listed = "\n    ".join(left)
        pytest.fail(f"{request.node.nodeid} has left behind:\n    {listed}", pytrace=False)


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server() -> Iterator[str]:
    """The URL of the session's server, started when the first test asks for it.

    A test that stops or kills its server starts a `PostgresServer` of its own.
    """
    with ExitStack() as stack:
        with leftovers.lasting():
            settings = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": "300"}
            url = stack.enter_context(postgres_server(**settings))
        yield url


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_database(postgres_server: str) -> Iterator[MigratedDatabase]:
    with new_database(postgres_server) as url:
        yield MigratedDatabase(url)


@pytest.fixture(scope="session", name="_pooler")
def _postgres_pooler(postgres_server: str) -> Iterator[PgBouncer | None]:
    with ExitStack() as stack:
        with leftovers.lasting():
            pooler = stack.enter_context(pooler_before(postgres_server))
        yield pooler


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, _pooler: PgBouncer | None) -> str:
    """The URL of a PostgreSQL database: with our tables, all empty, but without any for what is marked `unmigrated`.

    Through a pooler, where `tests.support.pooled` says so.
    """
    if request.node.get_closest_marker("unmigrated"):
        url: str = request.getfixturevalue("_postgres_database")
        empty_database(url)
    else:
        database: MigratedDatabase = request.getfixturevalue("_migrated_database")
        database.clear()
        url = database.url
    return url_for(request.node, _pooler, url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of an SQLite file that does not exist yet: in memory where that is a file system.

    A process that dies loses nothing of it, and a failing power is not tested: 200,000 syncs would only cost time, as
    on PostgreSQL. The tests of the SQLite store itself are on a disk.
    """
    where = leftovers.MEMORY if leftovers.MEMORY.is_dir() else tmp_path
    with tempfile.TemporaryDirectory(prefix=leftovers.MEMORY_PREFIX, dir=where) as directory:
        yield f"sqlite:///{directory}/tidings.sqlite"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each store."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
