"""What one process changes, another one hears of at once: real processes, on both stores.

Every wait has an hour, and so has the time between two re-checks: only a wake-up that is heard can end one before the
watchdog ends the test.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.processes.beside import Neighbour
from tests.processes.telling import HOUR
from tests.support.crowd import await_crowd, start_crowd
from tests.support.rows import Rows
from tidings.store.migrate import SCHEMA_VERSION

pytestmark = pytest.mark.direct("must hear at once", only="transaction")


@pytest.fixture
def neighbours(database_url: str) -> Iterator[tuple[Neighbour, Neighbour]]:
    """Two processes on an empty database. The first runs the workflows, the second one talks to them."""
    pair = Neighbour(database_url), Neighbour(database_url)
    for each in pair:
        each.launch()
    for each in pair:
        each.hears("launched")
    yield pair
    for each in pair:
        each.end()


def test_a_message(neighbours: tuple[Neighbour, Neighbour]) -> None:
    here, there = neighbours
    here.call("start", "receive", "w")
    here.waits(["message", "w", "topic"])
    there.call("send", "w", "hello", "topic")
    assert here.call("get_result", "w") == "hello"


def test_an_event(neighbours: tuple[Neighbour, Neighbour]) -> None:
    here, there = neighbours
    here.call("start", "publish", "w")
    result = there.begin("get_event", "w", "state", HOUR)
    there.waits(["event", "w", "state"], ["end", "w"])
    here.call("send", "w", "ready", "topic")
    assert result() == "ready"


def test_an_end(neighbours: tuple[Neighbour, Neighbour]) -> None:
    here, there = neighbours
    here.call("start", "receive", "w")
    result = there.begin("get_result", "w")
    there.waits(["end", "w"])
    here.call("send", "w", "over", "topic")
    assert result() == "over"


def test_an_end_without_the_event(neighbours: tuple[Neighbour, Neighbour]) -> None:
    here, there = neighbours
    here.call("start", "receive", "w")
    result = there.begin("get_event", "w", "never", HOUR)
    there.waits(["event", "w", "never"], ["end", "w"])
    here.call("send", "w", "over", "topic")
    assert result() is None


@pytest.mark.parametrize("workflow", ["receive", "read", "sleep"])
def test_a_cancellation(neighbours: tuple[Neighbour, Neighbour], workflow: str) -> None:
    here, there = neighbours
    here.call("start", workflow, "an id: é, 🙂")
    match workflow:
        case "receive":
            here.waits(["message", "an id: é, 🙂", "topic"])
        case "read":
            here.waits(["event", "nobody", "key"], ["end", "nobody"])
        case _:
            here.waits()
    there.call("cancel", "an id: é, 🙂")
    assert here.hears("ended") == "an id: é, 🙂"


def test_a_writer_killed_right_after_its_commit(neighbours: tuple[Neighbour, Neighbour]) -> None:
    here, there = neighbours
    here.call("start", "publish", "w")
    result = there.begin("get_event", "w", "state", HOUR)
    there.waits(["event", "w", "state"], ["end", "w"])
    here.call("die_at_an_event")
    there.call("send", "w", "last words", "topic")
    assert result() == "last words"
    assert here.end() == -signal.SIGKILL


@pytest.mark.unmigrated
def test_thirty_processes_launch_at_once_on_an_empty_database(database_url: str) -> None:
    await_crowd(start_crowd("launch", 30, database_url))
    rows = Rows(database_url)
    assert rows.run(f"select version from {{{'schema' if rows.is_sqlite else 'schema_version'}}}") == [
        (SCHEMA_VERSION,)
    ]
