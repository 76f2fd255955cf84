"""Processes that die, stop, or leave, and those that go on with their workflows: real processes, on both stores.

The lease is an hour where death is seen at once, and re-checks are an hour apart: the wrong way takes longer than the
watchdog allows.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.processes.beside import Neighbour
from tests.support.engines import wait_until
from tests.support.records import read_records
from tests.support.rows import Rows

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

Beside = Callable[..., Neighbour]


@pytest.fixture
def beside(database_url: str) -> Iterator[Beside]:
    """Start a process on the test's database; all end with the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Neighbour:
            neighbour = Neighbour(database_url, **options)
            stack.callback(neighbour.end)
            stack.callback(neighbour.kill, signal.SIGCONT)
            neighbour.launch()
            neighbour.hears("launched")
            return neighbour

        yield start


def owned(neighbour: Neighbour, label: str) -> int:
    return int(neighbour.call("owned").get(label, 0))


def test_500_waiting_workflows_of_a_killed_process_go_on_in_another(beside: Beside, database_url: str) -> None:
    dying, heir = beside(label="dying"), beside(label="heir")
    dying.call("start_many", "receive", "w", 500)
    wait_until(lambda: owned(heir, "dying") == 500)
    # Each has recorded that it waits: else the death of its process would count against it.
    wait_until(lambda: Rows(database_url).run("select count(*) from {entries} where state = 'OPEN'") == [(500,)])
    dying.kill()
    wait_until(lambda: owned(heir, "heir") == 500)
    for number in (0, 250, 499):
        heir.call("send", f"w{number}", number, "topic")
        assert heir.call("get_result", f"w{number}") == number
    assert dying.end() == -signal.SIGKILL
    wait_until(lambda: Rows(database_url).run("select distinct recovery_attempts from {workflows}") == [(0,)])


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_process_that_stood_still_beyond_its_lease_writes_nothing_more(
    beside: Beside, database_url: str, is_elsewhere: bool
) -> None:
    lease = {"lease_ms": 1_500, "is_elsewhere": is_elsewhere}
    slow, heir = beside(label="slow", **lease), beside(label="heir", **lease)
    slow.call("start", "relay", "w")
    slow.hears("noted", "w", "first")
    slow.waits(["message", "w", "topic"])
    slow.kill(signal.SIGSTOP)
    heir.waits(["message", "w", "topic"])
    heir.call("send", "w", "go on", "topic")
    first, second = heir.call("get_result", "w")
    assert (first, second) == (slow.pid, heir.pid)
    before = read_records(database_url)
    slow.kill(signal.SIGCONT)
    assert slow.hears("ended") == "w"  # It has learned that it lost the workflow, and goes on as an executor.
    slow.call("start", "receive", "after")
    slow.waits(["message", "after", "topic"])
    heir.call("send", "after", "hello", "topic")
    assert slow.call("get_result", "after") == "hello"
    after = read_records(database_url)
    assert after.entries_of("w") == before.entries_of("w")
    assert after.workflow("w") == before.workflow("w")


def test_what_a_process_that_was_told_to_end_gives_back_goes_on_at_once(beside: Beside) -> None:
    """A rolling restart: each workflow goes on in whoever is there, and loses no step."""
    former = beside(label="0")
    former.call("start_many", "relay", "w", 20)
    for number in range(20):
        former.waits(["message", f"w{number}", "topic"])
    pid = former.pid
    for restart in range(1, 4):
        present = beside(label=str(restart))
        former.kill(signal.SIGTERM)
        for number in range(20):
            present.waits(["message", f"w{number}", "topic"])
        assert former.end() == -signal.SIGTERM
        former = present
    for number in range(20):
        former.call("send", f"w{number}", "go on", "topic")
        assert former.call("get_result", f"w{number}") == [pid, former.pid]


def test_what_an_executor_owned_whose_row_was_deleted_goes_on_in_a_living_process(
    beside: Beside, database_url: str
) -> None:
    """Without a launch: nothing says that it died but that its row is not there."""
    dead, living = beside(label="dead", lease_ms=3_000), beside(label="living", lease_ms=3_000)
    dead.call("start_many", "receive", "w", 3)
    wait_until(lambda: owned(living, "dead") == 3)
    dead.kill(signal.SIGSTOP)
    Rows(database_url).run("delete from {executors} where pid = ?", dead.pid)
    dead.kill()
    wait_until(lambda: owned(living, "living") == 3)
    for number in range(3):
        living.call("send", f"w{number}", number, "topic")
        assert living.call("get_result", f"w{number}") == number
