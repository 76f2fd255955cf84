"""Several processes on one SQLite file: all get their turn, and hear of each other at once."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.faults.writer import SAY_EVERY
from tests.processes.beside import Neighbour
from tests.processes.telling import HOUR
from tests.support import programs
from tests.support.rows import Rows
from tidings import store as stores

WRITERS = 4
ENOUGH = 12 * SAY_EVERY


class Writer:
    """A process of `tests.faults.writer`."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        command = programs.python("-m", "tests.faults.writer", url, name)
        self._process = programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._heard: dict[str, list[Any]] = {}
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def await_said(self, what: str, at_least: int = 0) -> list[Any]:
        """Wait until it has said so, with a number that is large enough; return what it said last."""

        def is_said() -> bool:
            return what in self._heard and (not at_least or self._heard[what][0] >= at_least)

        with self._changed:
            self._changed.wait_for(lambda: is_said() or self._is_over)
            assert is_said(), f"it ended without saying {what}"
            return self._heard[what]

    def go(self) -> None:
        """Let it write."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """Let it write no more."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self) -> int:
        """Wait for its end."""
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, *details = json.loads(line)
            with self._changed:
                self._heard[what] = details
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def test_nobody_starves_while_four_processes_write_as_fast_as_they_can(tmp_path: Path) -> None:
    """On a disk, where each commit is synced. Two of them know the file by another name."""
    path = tmp_path / "tidings.sqlite"
    stores.open(f"sqlite:///{path}").migrate()
    link = tmp_path / "elsewhere" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    writers = [Writer(f"sqlite:///{path if number % 2 else link}", f"writer{number}") for number in range(WRITERS)]
    for each in writers:
        each.await_said("launched")
    for each in writers:
        each.go()
    for each in writers:
        each.await_said("commits", ENOUGH)
    for each in writers:
        each.stop()
    said = {each.name: each.await_said("stopped") for each in writers}
    assert [each.end() for each in writers] == [0] * WRITERS
    print(f"commits, and the longest in ms: {said}")  # noqa: T201
    counts = [commits for commits, _ in said.values()]
    assert min(counts) >= sum(counts) / 10
    assert not [each.name for each in link.parent.iterdir() if each != link]  # One lock, one log.
    [(integrity,)] = Rows(f"sqlite:///{path}").run("pragma integrity_check")
    assert integrity == "ok"


def test_four_workers_and_a_client_hear_of_each_other_at_once(sqlite_url: str) -> None:
    with ExitStack() as stack:
        workers = [Neighbour(sqlite_url) for _ in range(WRITERS)]
        client = Neighbour(sqlite_url, "client")
        for each in (*workers, client):
            stack.callback(each.end)
            each.launch()
            each.hears("launched")  # The first one makes the tables.
        for number, worker in enumerate(workers):
            worker.call("start", "publish", f"w{number}")
        for number, worker in enumerate(workers):
            worker.waits(["message", f"w{number}", "topic"])
        # Each one reads what the next one is to publish, the client what all are, and each sends to the one before it.
        readers = [
            (who, who.begin("get_event", f"w{number}", "state", HOUR), number)
            for number, worker in enumerate(workers)
            for who in (workers[number - 1], client)
        ]
        for who, _, number in readers:
            who.waits(["event", f"w{number}", "state"], ["end", f"w{number}"])
        for number in range(WRITERS):
            workers[(number + 1) % WRITERS].call("send", f"w{number}", f"to {number}", "topic")
        assert [event() for _, event, _ in readers] == [f"to {number}" for _, _, number in readers]
        ends = [client.begin("get_result", f"w{number}") for number in range(WRITERS)]
        for number in range(WRITERS):
            client.waits(["end", f"w{number}"])
            client.call("send", f"w{number}", f"end {number}", "topic")
        assert [end() for end in ends] == [f"end {number}" for number in range(WRITERS)]
