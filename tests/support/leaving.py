"""Tests that leave something behind. Only `test_leftovers` runs them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from tests.support import programs
from tidings import DBOS, DBOSClient
from tidings.engine import lock_files
from tidings.engine.engine import Engine
from tidings.engine.process import REGISTRY

_kept: list[object] = []
_for_ever = threading.Event()


@DBOS.workflow(name="leaving.flow")
def flow() -> None:
    """Be registered."""


def test_a_thread() -> None:
    threading.Thread(target=_for_ever.wait, name="stuck", daemon=True).start()


def test_a_process() -> None:
    _kept.append(programs.start("sleep", "3600"))


def test_a_process_that_nobody_asks_how_it_ended() -> None:
    _kept.append(programs.start("true"))


def test_a_process_of_a_process() -> None:
    programs.run("sh", "-c", "sleep 3600 > /dev/null 2>&1 &")


def test_a_file() -> None:
    tempfile.mkstemp(prefix="tidings-left-")


def test_a_lock_file_that_is_held() -> None:
    _kept.append(lock_files._lock(lock_files._path("held"), create=True))


def test_an_event_loop() -> None:
    _kept.append(asyncio.new_event_loop())


def test_a_launched_dbos(sqlite_url: str) -> None:
    DBOS(config={"name": "left", "system_database_url": sqlite_url})
    DBOS.launch()


def test_a_client(sqlite_url: str) -> None:
    DBOS(config={"name": "left", "system_database_url": sqlite_url})
    with DBOS.launch():
        _kept.append(DBOSClient(system_database_url=sqlite_url))


def test_another_function_of_a_module() -> None:
    lock_files.sweep = lambda: None


def test_another_method_of_a_class() -> None:
    Engine.tend_outages = lambda self: None  # type: ignore[method-assign]  # No other test here needs it.


def test_a_handler_of_a_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_a_handler_of_the_log() -> None:
    logging.getLogger("tidings").addHandler(logging.NullHandler())


def test_a_variable_of_the_environment() -> None:
    os.environ["LEFT"] = "behind"


def test_another_working_directory(tmp_path: Path) -> None:
    os.chdir(tmp_path)


@pytest.mark.parametrize("_", range(2))
def test_nothing_each_begins_with_what_its_module_registered(_: int) -> None:
    assert REGISTRY.workflow_names() == ["leaving.flow"]
    DBOS.workflow(name="another")(lambda: None)
    DBOS.destroy(destroy_registry=True)
