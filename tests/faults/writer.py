"""A process that commits as fast as it can, beside others on the same SQLite file.

    python -m tests.faults.writer URL NAME

It says "launched"; a line of input lets it begin; every so many commits it says how many there were; when its input
ends it stops, and says how many commits it made, and for how many ms the longest one had to wait for its turn and its
sync.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.engine.process import Process

SAY_EVERY = 25
SENDERS = 4
HOUR = 3_600.0


@DBOS.workflow(name="writer.sink")
def sink() -> Any:
    """Be sent to."""
    return DBOS.recv("end", HOUR)


class Meter:
    """How many batches were committed, and how long the longest took."""

    def __init__(self) -> None:
        self.commits = 0
        self.longest_seconds = 0.0
        self._began: float | None = None  # The first one had begun before.

    def begins(self, _: object) -> None:
        self._began = time.monotonic()

    def ends(self, _: object) -> None:
        if self._began is not None:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - self._began)
        self.commits += 1
        if self.commits % SAY_EVERY == 0:
            say("commits", self.commits)


def say(*what: Any) -> None:
    """Say one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def send(name: str, stopped: threading.Event) -> None:
    """Send until it is over. Each send waits for its commit."""
    while not stopped.is_set():
        DBOS.send(name, "hello", "topic")


def main(url: str, name: str) -> None:
    """Launch, write, stop."""
    DBOS(config={"name": name, "system_database_url": url, "application_version": "1"})
    with DBOS.launch():
        with SetWorkflowID(name):
            DBOS.start_workflow(sink)
        say("launched")
        sys.stdin.readline()
        assert Process.host is not None
        meter, stopped = Meter(), threading.Event()
        Process.host.engine.hooks.set(Point.BATCH_TAKEN, meter.begins)
        Process.host.engine.hooks.set(Point.BATCH_COMMITTED, meter.ends)
        senders = [threading.Thread(target=send, args=(name, stopped)) for _ in range(SENDERS)]
        for each in senders:
            each.start()
        sys.stdin.read()
        say("stopped", meter.commits, round(meter.longest_seconds * 1_000, 1))
        stopped.set()
        for each in senders:
            each.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
