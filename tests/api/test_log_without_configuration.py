"""What `DBOS.logger` shows where the program has configured no logging, and that it leaves all other logging alone."""

import io
import logging
import logging.config
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs
from tidings import DBOS, DBOSConfig
from tidings.api import logs
from tidings.error import DBOSInitializationError

CONFIG: DBOSConfig = {"name": "shop", "system_database_url": "sqlite:///never_opened.sqlite"}
TIDINGS = logging.getLogger("tidings")
WORKFLOWS = logging.getLogger("tidings.workflows")


@pytest.fixture
def err(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error, in a program that has configured no logging. All that a test configures is undone."""
    loggers = [logging.root, TIDINGS, WORKFLOWS, logging.getLogger("tidings.store"), logging.getLogger("dbos")]
    before = [(each, each.level, each.propagate, each.handlers) for each in loggers]
    written, test = io.StringIO(), request.node.obj

    def call(**arguments: Any) -> None:
        # Here, because pytest gives the root its handlers just before it calls the test.
        for each in loggers:
            each.handlers = [handler for handler in each.handlers if handler is logs._FALLBACK]
        logging.root.setLevel(logging.WARNING)
        monkeypatch.setattr(sys, "stderr", written)
        test(**arguments)

    request.node.obj = call
    yield written
    logging.disable(logging.NOTSET)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers
    logs.show()


def lines(written: io.StringIO) -> list[str]:
    """Return what was written since the last look, without the time of day."""
    found = [line.partition(" ")[2] for line in written.getvalue().splitlines()]
    written.seek(0)
    written.truncate()
    return found


def say_all(logger: logging.Logger | None = None) -> None:
    logger = logger or DBOS.logger
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("%s %d", level, 1)


ALL = ["DEBUG debug 1", "INFO info 1", "WARNING warning 1", "ERROR error 1"]


def test_info_is_shown(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    say_all()
    assert lines(err) == ALL[1:]
    assert DBOS.logger is TIDINGS


def test_it_is_shown_before_anything_is_configured_too(err: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TIDINGS, "handlers", [])
    monkeypatch.setattr(TIDINGS, "__class__", logging.Logger)
    say_all()
    assert lines(err) == ALL[1:]
    assert "tidings" in repr(TIDINGS)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", ALL),
        ("info", ALL[1:]),
        (" Warning ", ALL[2:]),
        ("ERROR", ALL[3:]),
        ("CRITICAL", []),
        (logging.WARNING, ALL[2:]),
        (15, ALL[1:]),
    ],
)
def test_the_level_is_the_configured_one(err: io.StringIO, level: Any, shown: list[str]) -> None:
    DBOS(config={**CONFIG, "log_level": level})
    say_all()
    assert lines(err) == shown
    DBOS(config=CONFIG)
    say_all()
    assert lines(err) == ALL[1:], "the next configuration counts"


@pytest.mark.parametrize("level", ["LOUD", "", 3.5, True, -1, ["INFO"], b"INFO"])
def test_a_level_that_there_is_not_is_refused(level: Any) -> None:
    with pytest.raises(DBOSInitializationError, match="'log_level' must be one of 'CRITICAL', 'ERROR', 'WARNING'"):
        DBOS(config={**CONFIG, "log_level": level})


def test_beginnings_and_ends_of_workflows_are_shown_only_where_that_is_asked_for(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    assert not WORKFLOWS.isEnabledFor(logging.INFO)
    say_all(WORKFLOWS)
    assert lines(err) == ALL[2:]
    DBOS(config={**CONFIG, "log_level": "INFO"})
    say_all(WORKFLOWS)
    assert lines(err) == ALL[1:]
    DBOS(config={**CONFIG, "log_level": "ERROR"})
    say_all(WORKFLOWS)
    assert lines(err) == ALL[3:]


def test_tracebacks_are_shown(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    try:
        raise ValueError("boom")
    except ValueError:
        DBOS.logger.exception("failed")
    assert "ValueError: boom" in err.getvalue()


# --- the program's own configuration counts, whenever it comes ---------------------------------------------


def own_handler(name: str | None) -> io.StringIO:
    """Give a handler of the program's to a logger; return what it writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("- %(levelname)s %(message)s"))
    logging.getLogger(name).addHandler(handler)
    return written


@pytest.mark.parametrize("when", ["before", "after", "between"])
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_with_a_handler_of_the_root_its_level_counts(err: io.StringIO, when: str, level: str) -> None:
    written = io.StringIO()

    def configure() -> None:
        logging.basicConfig(stream=written, level=level, format="- %(levelname)s %(message)s")

    if when == "before":
        configure()
    DBOS(config={**CONFIG, "log_level": "INFO"})
    logger = DBOS.logger
    if when == "between":
        say_all(logger)
        assert lines(err) == ALL[1:]
    if when != "before":
        configure()
    for each in (logger, WORKFLOWS):
        say_all(each)
        assert each.isEnabledFor(logging.INFO) == (level in ("DEBUG", "INFO"))
        assert lines(written) == ALL[["DEBUG", "INFO", "WARNING", "ERROR"].index(level) :]
    assert lines(err) == []


@pytest.mark.parametrize("name", ["tidings", "tidings.workflows"])
def test_with_a_handler_of_its_own_it_shows_nothing_twice(err: io.StringIO, name: str) -> None:
    DBOS(config=CONFIG)
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    written = own_handler(name)
    say_all(logger)
    assert lines(written) == ALL[1:]
    assert lines(err) == []


def test_a_level_of_the_program_counts_without_a_handler(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    TIDINGS.setLevel(logging.ERROR)
    say_all()
    say_all(WORKFLOWS)
    assert lines(err) == ALL[3:] * 2


def test_a_program_that_wants_silence_gets_it(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    TIDINGS.addHandler(logging.NullHandler())
    say_all()
    say_all(WORKFLOWS)
    TIDINGS.handlers.pop()
    logging.disable(logging.ERROR)
    say_all()
    assert lines(err) == []


def test_a_logger_that_is_cut_off_shows_warnings_as_python_does(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    TIDINGS.propagate = False
    say_all()
    assert lines(err) == ALL[2:]


def test_with_a_handler_for_dbos_warnings_are_shown_as_python_does(err: io.StringIO) -> None:
    DBOS(config=CONFIG)
    written = own_handler("dbos")
    say_all()
    assert lines(err) == ALL[2:]
    assert lines(written) == []


def test_loggers_of_others_are_left_alone(err: io.StringIO) -> None:
    DBOS(config={**CONFIG, "log_level": "DEBUG"})
    other = logging.getLogger("tests.of.somebody.else")
    assert other.getEffectiveLevel() == logging.WARNING
    say_all(other)
    assert err.getvalue().splitlines() == ["warning 1", "error 1"], "as Python shows them"
    assert (logging.root.level, logging.root.handlers) == (logging.WARNING, [])


def test_standard_error_may_be_missing_or_closed(err: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    DBOS(config=CONFIG)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(sys, "stderr", None)
    say_all()
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    say_all()
    assert lines(err) == []


def test_a_program_sees_its_lines_and_what_fails(tmp_path: Path) -> None:
    program = (
        "from tidings import DBOS\n"
        "@DBOS.workflow(name='order')\n"
        "def order():\n"
        "    DBOS.logger.info('in the workflow')\n"
        "    raise ValueError('boom')\n"
        f"DBOS(config={{'name': 'shop', 'system_database_url': 'sqlite:///{tmp_path}/shop.sqlite'}})\n"
        "with DBOS.launch():\n"
        "    handle = DBOS.start_workflow(order)\n"
        "    try:\n"
        "        handle.get_result()\n"
        "    except ValueError:\n"
        "        print('raised')\n"
    )
    done = programs.run(*programs.python("-c", program))
    assert (done.returncode, done.stdout) == (0, "raised\n")
    said = done.stderr.splitlines()
    assert [line.partition(" ")[2] for line in said[:1]] == ["INFO in the workflow"]
    assert sum("(order) has failed: ValueError: boom" in line for line in said) == 1
    assert said[-1] == "ValueError: boom"


# --- a configuration that switches loggers off --------------------------------------------------------------------


@pytest.fixture
def _enabled_again() -> Iterator[None]:
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.disabled) for each in loggers]
    yield
    for logger, disabled in before:
        logger.disabled = disabled


CONFIGURED: dict[str, Any] = {"version": 1, "root": {"level": "WARNING"}}
FILE = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
level=WARNING
handlers=
"""


@pytest.mark.parametrize("name", ["tidings", "tidings.workflows", "tidings.store"])
@pytest.mark.parametrize("is_shown", [True, False])
@pytest.mark.usefixtures("_enabled_again")
def test_a_configuration_that_does_not_name_our_loggers_leaves_them_on(
    monkeypatch: pytest.MonkeyPatch, name: str, is_shown: bool
) -> None:
    """Whether `DBOS` was configured before, or the program has only imported tidings."""
    logger, other = logging.getLogger(name), logging.getLogger("another library")
    if is_shown:
        logs.show()
    else:
        monkeypatch.setattr(logger, "__class__", type("Plain", (logs._Kept, logging.Logger), {}))
    configure: list[Callable[[], object]] = [
        lambda: logging.config.dictConfig(CONFIGURED),
        lambda: logging.config.fileConfig(io.StringIO(FILE)),
    ]
    for each in configure:
        other.disabled = False
        each()
        assert other.disabled, "this is what a configuration does"
        assert not logger.disabled
        assert logger.isEnabledFor(logging.ERROR)


@pytest.mark.usefixtures("_enabled_again")
def test_a_program_may_switch_our_loggers_off_itself() -> None:
    logs.show()
    logging.getLogger("tidings").disabled = True
    assert not TIDINGS.isEnabledFor(logging.ERROR)
    logging.config.dictConfig(CONFIGURED)
    assert TIDINGS.disabled


def test_our_loggers_are_kept_as_soon_as_tidings_is_imported() -> None:
    code = (
        "import logging.config, tidings\n"
        "logging.config.dictConfig({'version': 1})\n"
        "print(any(logging.getLogger(each).disabled for each in ('tidings', 'tidings.workflows', 'tidings.store')))"
    )
    ran = programs.run(*programs.python("-c", code))
    assert ran.stdout.strip() == "False"
