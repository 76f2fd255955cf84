"""A process beside the test's: it runs workflows and calls `DBOS` as it is told, and says what happens.

    python -m tests.processes.neighbour URL [DBOS|client] [{"lease_ms": 1500, "is_elsewhere": true}]

The lease is an hour unless another one is given, so that only a death that is seen counts; to one that is elsewhere
no other process is of this host. As a client it runs no workflows, and calls a `DBOSClient`. The first line of its
input lets it launch. Each further one is a call, as JSON: a number, a name and arguments; it answers when the call
returns, with the number. Its re-checks are an hour apart, so that only what it hears can wake it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.processes.telling import HOUR, ONLY_HEARD, answer, say, say_what_happens
from tidings import DBOS, DBOSClient, SetWorkflowID
from tidings.engine import lock_files
from tidings.engine.engine import Engine
from tidings.engine.hooks import Point
from tidings.engine.process import Process
from tidings.engine.settings import Connection


@DBOS.workflow(name="neighbour.receive")
def receive() -> Any:
    """Return what comes."""
    return DBOS.recv("topic", HOUR)


@DBOS.workflow(name="neighbour.publish")
def publish() -> Any:
    """Publish what comes, and end when more does."""
    DBOS.set_event("state", DBOS.recv("topic", HOUR))
    return DBOS.recv("topic", HOUR)


@DBOS.workflow(name="neighbour.read")
def read() -> Any:
    """Wait for an event of a workflow that never was."""
    return DBOS.get_event("nobody", "key", HOUR)


@DBOS.workflow(name="neighbour.sleep")
def sleep() -> None:
    """Sleep."""
    DBOS.sleep(HOUR)


@DBOS.step(name="neighbour.note")
def note(what: str) -> int:
    """Leave a mark outside, and return who did."""
    say("noted", DBOS.workflow_id, what)
    return os.getpid()


@DBOS.workflow(name="neighbour.relay")
def relay() -> list[int]:
    """Do one step, wait for a message, do another; return who did which."""
    first = note("first")
    DBOS.recv("topic", HOUR)
    return [first, note("second")]


WORKFLOWS: dict[str, Callable[[], Any]] = {
    "receive": receive,
    "publish": publish,
    "read": read,
    "sleep": sleep,
    "relay": relay,
}


def start(workflow: str, workflow_id: str) -> None:
    """Start a workflow."""
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(WORKFLOWS[workflow])


def start_many(workflow: str, prefix: str, count: int) -> None:
    """Start so many workflows, whose ids are the prefix and a number."""
    for number in range(count):
        start(workflow, f"{prefix}{number}")


def die_at_an_event() -> None:
    """Arrange for a SIGKILL right after the next commit of an event, before anybody is told."""

    def die(jobs: list[Any]) -> None:
        if any(job.unit.event is not None for job in jobs):
            os.kill(os.getpid(), signal.SIGKILL)

    engine().hooks.set(Point.BATCH_COMMITTED, die)


def calls(face: type[DBOS] | DBOSClient) -> dict[str, Callable[..., Any]]:
    """Return what may be called, by name."""
    return {
        "start": start,
        "start_many": start_many,
        "owned": lambda: {each.label: each.pending_workflows for each in face.list_executors() if each.is_alive},
        "send": face.send,
        "cancel": lambda workflow_id: repr(face.cancel_workflow(workflow_id)),
        "get_event": face.get_event,
        "get_all_events": face.get_all_events,
        "list_messages": lambda workflow_id: [[each.topic, each.value] for each in face.list_messages(workflow_id)],
        "get_result": lambda workflow_id: face.retrieve_workflow(workflow_id).get_result(),
        "die_at_an_event": die_at_an_event,
    }


def engine() -> Engine:
    """Return the engine of this process."""
    assert Process.host is not None
    return Process.host.engine


def obey(face: type[DBOS] | DBOSClient, engine: Engine) -> None:
    """Do what is asked until the input ends."""
    say_what_happens(engine)
    say("launched")
    answer(calls(face))


def main(url: str, role: str = "DBOS", options: str = "{}") -> None:
    """Launch, or make a client, when told."""
    given = {"lease_ms": 3_600_000, "is_elsewhere": False, "label": "a neighbour"} | json.loads(options)
    if given["is_elsewhere"]:
        lock_files._is_free = lambda path: False
    say("here")
    sys.stdin.readline()
    if role == "client":
        with patch("tidings.api.client.Connection", partial(Connection, **ONLY_HEARD)):
            client = DBOSClient(system_database_url=url)
        with client:
            obey(client, client._engine)
        return
    DBOS(
        config={
            "name": "neighbour",
            "system_database_url": url,
            "application_version": "1",
            "executor_id": given["label"],
        }
    )
    settings = Process.settings
    assert settings is not None
    connection = dataclasses.replace(settings.connection, lease_ms=given["lease_ms"], **ONLY_HEARD)
    Process.settings = dataclasses.replace(settings, connection=connection)
    with DBOS.launch():
        obey(DBOS, engine())


if __name__ == "__main__":
    main(*sys.argv[1:])
