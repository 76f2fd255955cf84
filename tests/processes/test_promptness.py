"""What one process changes, another one hears of at once: real processes, on both stores.

Every wait has an hour, and so has the time between two re-checks: only a wake-up that is heard can end one before the
watchdog ends the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.neighbour import HOUR
from tests.support.crowd import await_crowd, start_crowd
from tests.support.rows import Rows
from tidings.store.migrate import SCHEMA_VERSION

_ROOT = Path(__file__).parents[2]


class Neighbour:
    """A process of `tests.processes.neighbour`."""

    def __init__(self, url: str, role: str = "DBOS") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.neighbour", url, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._changed = threading.Condition()
        self._said: list[list[Any]] = []
        self._is_over = False
        self._errors: list[str] = []
        self._calls = 0
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._collect_errors)]
        for thread in self._threads:
            thread.start()

    def launch(self) -> None:
        """Let it launch; `hears("launched")` tells that it has."""
        self._tell("launch")

    def begin(self, name: str, *arguments: Any) -> Callable[[], Any]:
        """Begin a call, and return a function that waits for what it says in the end."""
        self._calls += 1
        number = self._calls
        self._tell(json.dumps([number, name, *arguments]))
        return lambda: self.hears("returned", number)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call, and return what it returned."""
        return self.begin(name, *arguments)()

    def hears(self, *beginning: Any) -> Any:
        """Wait until it has said a line that begins so; return what comes last in it."""

        def find() -> list[Any] | None:
            return next((line for line in self._said if line[: len(beginning)] == list(beginning)), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None or self._is_over)
            line = find()
        assert line is not None, f"it ended without saying {beginning}; it said {self._said} {''.join(self._errors)}"
        return line[-1]

    def waits(self, *keys: list[str]) -> None:
        """Wait until something there waits for these keys."""
        self.hears("waiting", list(keys))

    def kill(self) -> None:
        """Kill it with SIGKILL; `end` tells when it is gone."""
        self._process.kill()

    def end(self) -> int:
        """End it, and return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for thread in self._threads:
            thread.join()
        code = self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return code

    @property
    def errors(self) -> str:
        """What it wrote to its error output."""
        return "".join(self._errors)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._said.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _collect_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)


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


def test_thirty_processes_launch_at_once_on_an_empty_database(database_url: str) -> None:
    await_crowd(start_crowd("launch", 30, database_url))
    rows = Rows(database_url)
    assert rows.run(f"select version from {{{'schema' if rows.is_sqlite else 'schema_version'}}}") == [
        (SCHEMA_VERSION,)
    ]
