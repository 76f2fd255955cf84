"""Promptness between processes, with default settings: what one process changes, and how soon another one knows.

    python -m bench.processes [URL ...]

Without a URL: a SQLite file, and a PostgreSQL server of its own with its default settings (fsync on). The time runs
from before the call that changes something until the waiting call in the other process has returned: the commit, the
wake-up and the look are in it. Both clocks are the machine's monotonic one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.postgres import postgres_server
from tidings import DBOS, SetWorkflowID

ROUNDS = 200
WARM_UP_ROUNDS = 10
# The other one has been waiting for a while when it happens: else a first look would find it.
SETTLE_SECONDS = 0.01
IDLE_SECONDS = 5.0
WAIT_SECONDS = 600.0


@DBOS.workflow(name="bench.echo")
def echo(rounds: int) -> None:
    """Receive in the other process, and say when."""
    for _ in range(rounds):
        DBOS.recv("ping", WAIT_SECONDS)
        say("arrived", time.monotonic_ns())


@DBOS.workflow(name="bench.publish")
def publish() -> int:
    """Publish when, and end when told to."""
    DBOS.recv("go", WAIT_SECONDS)
    DBOS.set_event("when", time.monotonic_ns())
    DBOS.recv("end", WAIT_SECONDS)
    return time.monotonic_ns()


def say(what: str, *details: Any) -> None:
    sys.stdout.write(json.dumps([what, *details]) + "\n")
    sys.stdout.flush()


def start(workflow: Callable[..., Any], workflow_id: str, *arguments: Any) -> None:
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(workflow, *arguments)


def launch(url: str) -> None:
    logging.getLogger("tidings").setLevel(logging.ERROR)
    DBOS(config={"name": "bench", "system_database_url": url, "application_version": "1"})
    DBOS.launch()


def be_the_other(url: str) -> None:
    """Do what the lines of the input say: the process that receives, and in which workflows publish and end."""
    launch(url)
    say("launched")
    for line in sys.stdin:
        match json.loads(line):
            case ["echo", rounds]:
                start(echo, "echo", rounds)
            case ["publish", workflow_id]:
                start(publish, workflow_id)
            case ["send", workflow_id, topic]:
                DBOS.send(workflow_id, None, topic)
            case _:
                say("cpu", time.process_time())
                continue
        say("done")
    DBOS.destroy()


class Other:
    """The other process, as this one sees it."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.processes", "--other", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.hears("launched")

    def tell(self, *words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hears(self, what: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if said[0] == what:
                return said[-1]
        raise RuntimeError("the other process has ended")

    def end(self) -> None:
        self._process.communicate()


def send_to_recv(other: Other) -> list[float]:
    other.tell("echo", ROUNDS + WARM_UP_ROUNDS)
    other.hears("done")
    figures: list[float] = []
    for _ in range(ROUNDS + WARM_UP_ROUNDS):
        time.sleep(SETTLE_SECONDS)
        began = time.monotonic_ns()
        DBOS.send("echo", None, "ping")
        figures.append((other.hears("arrived") - began) / 1e6)
    return figures[WARM_UP_ROUNDS:]


def set_event_to_get_event_and_end_to_get_result(other: Other) -> tuple[list[float], list[float]]:
    events: list[float] = []
    ends: list[float] = []
    for number in range(ROUNDS + WARM_UP_ROUNDS):
        workflow_id = f"publish-{number}"
        other.tell("publish", workflow_id)
        other.hears("done")
        get_event = partial(DBOS.get_event, workflow_id, "when", WAIT_SECONDS)
        events.append(time_until_known(other, workflow_id, "go", get_event))
        ends.append(time_until_known(other, workflow_id, "end", partial(DBOS.get_result, workflow_id)))
    return events[WARM_UP_ROUNDS:], ends[WARM_UP_ROUNDS:]


def time_until_known(other: Other, workflow_id: str, topic: str, wait: Callable[[], int]) -> float:
    """Wait here while the other one lets its workflow go on; return the ms since that noted the time."""
    telling = threading.Timer(SETTLE_SECONDS, other.tell, ("send", workflow_id, topic))
    telling.start()
    when = wait()
    now = time.monotonic_ns()
    telling.join()
    other.hears("done")
    return (now - when) / 1e6


def idle_share(other: Other) -> float:
    """Return the share of a core that a process takes in which a workflow waits and nothing happens."""
    other.tell("cpu")
    before = other.hears("cpu")
    time.sleep(IDLE_SECONDS)
    other.tell("cpu")
    return float(other.hears("cpu") - before) / IDLE_SECONDS


def measure(url: str) -> None:
    launch(url)
    other = Other(url)
    print(f"\n{url.partition(':')[0]}: ms until another process knows, default settings, {ROUNDS} rounds")
    print(f"  the other process while nobody waits in it {idle_share(other):>17.2%} of a core")
    other.tell("publish", "waiting")
    other.hears("done")
    print(f"  the other process while a workflow waits in it {idle_share(other):>13.2%} of a core")
    show("send -> recv", send_to_recv(other))
    events, ends = set_event_to_get_event_and_end_to_get_result(other)
    show("set_event -> get_event", events)
    show("end -> get_result", ends)
    other.end()
    DBOS.destroy()


def show(case: str, figures: list[float]) -> None:
    p50, p99 = statistics.median(figures), statistics.quantiles(figures, n=100)[98]
    print(f"  {case:<24} p50 {p50:>7.2f}   p99 {p99:>7.2f}   (least {min(figures):.2f}, most {max(figures):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="*", help="sqlite:///file.sqlite or postgresql://user@host/database")
    parser.add_argument("--other", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.other:
        be_the_other(given.url[0])
        return
    for url in given.url:
        measure(url)
    if not given.url:
        with tempfile.TemporaryDirectory() as folder:
            measure(f"sqlite:///{Path(folder) / 'bench.sqlite'}")
        with postgres_server() as url:
            measure(url)


if __name__ == "__main__":
    main()
