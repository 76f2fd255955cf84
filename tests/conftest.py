"""The fixtures of all tests: an empty database on either store. pytest's timeout ends a test that hangs.

Tests may run in several processes (`pytest -n 2`): each has a PostgreSQL server of its own.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings

from harness import postgres
from harness.postgres import empty_database, new_database, postgres_server
from harness.temporary import temporary_directory_of_its_own
from tests.support import leftovers, passwords, watchdog
from tests.support.databases import MigratedDatabase
from tests.support.face import Gate
from tests.support.halves import other_half
from tests.support.pgbouncer import PgBouncer
from tests.support.pooled import pooler_before, say_what_went_past, url_for
from tests.support.registered import Registered
from tidings import store as stores
from tidings.api import logs
from tidings.engine.runs.libraries import settle_libraries

# No deadline for single examples: the watchdog ends a test that hangs.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.load_profile("tidings")

_REGISTERED = pytest.StashKey[Registered]()
_HAS_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run."""
    parser.addoption(
        "--patience-seconds",
        type=float,
        default=60.0,
        help="how long what a passed test has left may take to be gone",
    )
    parser.addoption(
        "--half",
        action="store_true",
        help="of a test for both stores and both faces run two variants of the four: each store, and each face",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare this process: make its temporary directory, and let Ctrl-C reach the programs it starts."""
    stack = ExitStack()
    config.add_cleanup(stack.close)
    # One directory for the whole run, with one inside it for each process.
    stack.enter_context(temporary_directory_of_its_own())
    if postgres.TEMPLATE not in os.environ:
        stack.enter_context(patch.dict(os.environ, {postgres.TEMPLATE: tempfile.mkdtemp(prefix="tidings-template-")}))
    stack.enter_context(leftovers.watched_loops())
    # The first workflow patches these libraries permanently. If that happened in a test that has replaced
    # `Thread.start`, for example, the end of the test would restore the unpatched method.
    settle_libraries()
    logs.show()
    _look_at_errors_that_are_caught()
    if not _is_worker(config) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background processes in this way, and all programs that we start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the watchdog write from every process, and print the seed that repeats the order."""
    if _is_worker(session.config):
        watchdog.speak_up(session.config)
    elif (seed := _seed(session.config)) is not None:
        # Now, because a run that is killed prints no summary, and a quiet run prints no header.
        _terminal(session.config).write_line(f"The order of the tests: SEED={seed}")


def pytest_terminal_summary(exitstatus: int, config: pytest.Config) -> None:
    """Print which tests bypassed a pooler. If the run failed, print the seed that repeats its order."""
    say_what_went_past(_terminal(config))
    if exitstatus != pytest.ExitCode.OK and (seed := _seed(config)) is not None:
        _terminal(config).write_line(f"The same order again: make test SEED={seed}")


def pytest_xdist_auto_num_workers() -> int:
    """Use more processes than processors: a test spends half of its time waiting for servers or other processes."""
    return -(-3 * (os.cpu_count() or 1) // 2)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the long tests first, in any order: a long test at the end would leave the other processes idle."""
    if config.getoption("--half"):
        left_out = other_half(items, _seed(config) or 0)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember the registrations of all modules, now that they are imported."""
    session.stash[_REGISTERED] = Registered()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failed test, because it may leave something behind. Fail a test that shows a password."""
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            passwords.look(name, text)
        shown = passwords.taken()
        if shown and report.passed:
            report.outcome = "failed"
            report.longrepr = "\n    ".join([f"{item.nodeid} shows a password:", *shown])
    item.stash[_HAS_FAILED] = item.stash.get(_HAS_FAILED, False) or report.failed
    return report


def _look_at_errors_that_are_caught() -> None:
    """From now on check each error that `pytest.raises` catches for passwords."""
    fill = pytest.ExceptionInfo.fill_unfilled

    def look_and_fill(info: pytest.ExceptionInfo[Any], caught: Any) -> None:
        passwords.look_at_error(caught[1])
        fill(info, caught)

    pytest.ExceptionInfo.fill_unfilled = look_and_fill  # type: ignore[assignment,method-assign]


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
    """Start each test with the registrations of its own module, and fail a test that leaves something behind.

    This fixture is set up before all others of the test, so it checks after all others are torn down.
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
    with new_database(postgres_server) as url, closing(MigratedDatabase(url)) as database:
        yield database


@pytest.fixture(scope="session", name="_pooler")
def _postgres_pooler(postgres_server: str) -> Iterator[PgBouncer | None]:
    with ExitStack() as stack:
        with leftovers.lasting():
            pooler = stack.enter_context(pooler_before(postgres_server))
        yield pooler


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, _pooler: PgBouncer | None) -> Iterator[str]:
    """The URL of a PostgreSQL database with empty tables of ours, or without tables for a test marked `unmigrated`.

    It leads through a pooler if `tests.support.pooled` says so. A test that leaves a password in the tables fails.
    """
    if request.node.get_closest_marker("unmigrated"):
        url: str = request.getfixturevalue("_postgres_database")
        empty_database(url)
    else:
        database: MigratedDatabase = request.getfixturevalue("_migrated_database")
        database.clear()
        url = database.url
    yield url_for(request.node, _pooler, url)
    passwords.look_at_tables(url)


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "tidings.sqlite"
    store = stores.open(f"sqlite:///{path}")
    store.migrate()
    store.close()
    return path


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an SQLite file with empty tables of ours; for a test marked `unmigrated`, of a file not created yet.

    The file is in memory if the machine has a file system there. It survives the death of a process, and power failures
    are not tested here: 200,000 syncs would only cost time, as on PostgreSQL. The tests of the SQLite store itself use
    a disk. A test that leaves a password in the file fails.
    """
    where = leftovers.MEMORY if leftovers.MEMORY.is_dir() else request.getfixturevalue("tmp_path")
    with tempfile.TemporaryDirectory(prefix=leftovers.MEMORY_PREFIX, dir=where) as directory:
        path = Path(directory) / "tidings.sqlite"
        if not request.node.get_closest_marker("unmigrated"):
            shutil.copyfile(request.getfixturevalue("_migrated_file"), path)
        yield f"sqlite:///{path}"
        passwords.look_at_file(path)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each store."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
