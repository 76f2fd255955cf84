"""A client in one process, workflows in another: each hears at once of what the other one does.

As in test_promptness, only what is heard can end a wait before the watchdog does.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.processes.beside import Neighbour
from tests.processes.telling import HOUR
from tests.support.rows import Rows

pytestmark = pytest.mark.direct("must hear at once", only="transaction")


@pytest.fixture
def app_and_client(database_url: str) -> Iterator[tuple[Neighbour, Neighbour]]:
    """A process that runs workflows, and one that talks with them and runs none."""
    app, client = Neighbour(database_url), Neighbour(database_url, "client")
    for each in (app, client):  # The tables are made by the one that runs workflows.
        each.launch()
        each.hears("launched")
    yield app, client
    for each in (app, client):
        each.end()


def test_m11_a_message_of_a_client(app_and_client: tuple[Neighbour, Neighbour]) -> None:
    app, client = app_and_client
    app.call("start", "receive", "w")
    app.waits(["message", "w", "topic"])
    client.call("send", "w", "hello", "topic")
    assert app.hears("ended") == "w"
    assert client.call("get_result", "w") == "hello"


def test_e2_an_event_for_a_client(app_and_client: tuple[Neighbour, Neighbour]) -> None:
    app, client = app_and_client
    app.call("start", "publish", "w")
    event, never = (client.begin("get_event", "w", key, HOUR) for key in ("state", "never"))
    for key in ("state", "never"):
        client.waits(["event", "w", key], ["end", "w"])
    app.call("send", "w", "ready", "topic")
    assert event() == "ready"
    assert client.call("get_all_events", "w") == {"state": "ready"}
    app.call("send", "w", "over", "topic")
    assert never() is None


def test_an_end_for_a_client(app_and_client: tuple[Neighbour, Neighbour]) -> None:
    app, client = app_and_client
    app.call("start", "receive", "w")
    result = client.begin("get_result", "w")
    client.waits(["end", "w"])
    app.call("send", "w", "over", "topic")
    assert result() == "over"


@pytest.mark.parametrize("workflow", ["receive", "sleep"])
def test_a_cancellation_by_a_client(app_and_client: tuple[Neighbour, Neighbour], workflow: str) -> None:
    app, client = app_and_client
    app.call("start", workflow, "w")
    if workflow == "receive":
        app.waits(["message", "w", "topic"])
    else:
        app.waits()
    client.call("cancel", "w")
    assert app.hears("ended") == "w"


def test_what_a_client_sent_is_there_though_both_are_killed(
    app_and_client: tuple[Neighbour, Neighbour], database_url: str
) -> None:
    app, client = app_and_client
    app.call("start", "receive", "w")
    app.waits(["message", "w", "topic"])
    app.kill()
    client.call("send", "w", "last words", "topic")
    client.kill()
    assert [each.end() for each in (app, client)] == [-signal.SIGKILL] * 2
    successor = Neighbour(database_url)
    successor.launch()
    assert successor.hears("ended") == "w"
    assert successor.end() == 0
    assert Rows(database_url).run("select output from {workflows}") == [('"last words"',)]
