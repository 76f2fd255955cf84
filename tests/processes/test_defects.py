"""Defects seen elsewhere that only several processes can show: each must not be found here.

Only what is heard can end a wait before the watchdog does, as in test_promptness.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from tests.processes.beside import Neighbour
from tests.processes.telling import HOUR

pytestmark = pytest.mark.direct("must hear at once", only="transaction")


def launched(stack: ExitStack, url: str, *roles: str) -> list[Neighbour]:
    """Launch processes, one after the other: the first one makes the tables."""
    processes = [Neighbour(url, role) for role in roles]
    for each in processes:
        stack.callback(each.end)
        each.launch()
        each.hears("launched")
    return processes


def test_defect_2_an_event_of_a_writer_that_dies_right_after_its_commit_is_seen_everywhere(database_url: str) -> None:
    """The event went into the database together with the news of it: nobody is left to tell any more."""
    with ExitStack() as stack:
        writer, *readers = launched(stack, database_url, "DBOS", "DBOS", "client", "client")
        writer.call("start", "publish", "w")
        waiting = [each.begin("get_event", "w", "state", HOUR) for each in readers]
        for each in readers:
            each.waits(["event", "w", "state"], ["end", "w"])
        writer.call("die_at_an_event")
        readers[0].call("send", "w", "last words", "topic")
        assert [each() for each in waiting] == ["last words"] * len(readers)
        assert writer.end() == -signal.SIGKILL


def test_defect_11_the_workflows_of_a_dead_process_go_on_in_another_and_can_be_looked_into(database_url: str) -> None:
    with ExitStack() as stack:
        dead, living, client = launched(stack, database_url, "DBOS", "DBOS", "client")
        dead.call("start", "publish", "w")
        dead.call("start", "receive", "v")
        dead.waits(["message", "w", "topic"])
        dead.waits(["message", "v", "topic"])
        client.call("send", "w", "first", "topic")
        assert client.call("get_event", "w", "state", HOUR) == "first"
        client.call("send", "v", "unread", "another topic")
        dead.kill()
        assert dead.end() == -signal.SIGKILL
        client.call("send", "w", "second", "topic")
        client.call("send", "v", "now", "topic")
        assert [client.call("get_result", each) for each in ("w", "v")] == ["second", "now"]
        assert living.hears("ended") in ("w", "v")
        assert client.call("list_messages", "w") == [["topic", "first"], ["topic", "second"]]
        assert client.call("list_messages", "v") == [["another topic", "unread"], ["topic", "now"]]
