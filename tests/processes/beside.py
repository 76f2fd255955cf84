"""Processes that say what happens, and answer calls (`tests.processes.telling`), as a test sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import programs


class Beside:
    """A process that says what happens, and answers calls."""

    def __init__(self, *command: str | Path, **settings: Any) -> None:
        pipe = subprocess.PIPE
        self._process = programs.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, **settings)
        self._changed = threading.Condition()
        self._said: list[list[Any]] = []
        self._is_over = False
        self._is_silent = False
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

    def raises(self, name: str, *arguments: Any) -> Any:
        """Call, and return the name of the error that it raised."""
        self.begin(name, *arguments)
        return self.hears("raised", self._calls)

    def logs(self, text: str) -> None:
        """Wait until it has logged a line with this text."""
        with self._changed:
            self._changed.wait_for(lambda: text in self.errors or self._is_silent)
        assert text in self.errors, f"it ended without logging {text!r}; it logged {self.errors}"

    def waits(self, *keys: list[str]) -> None:
        """Wait until something there waits for these keys."""
        self.hears("waiting", list(keys))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; `end` tells when it is gone."""
        self._process.send_signal(number)

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
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

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
        for line in self._process.stderr:
            with self._changed:
                self._errors.append(line)
                self._changed.notify_all()
        with self._changed:
            self._is_silent = True
            self._changed.notify_all()


class Neighbour(Beside):
    """A process of `tests.processes.neighbour`."""

    def __init__(self, url: str, role: str = "DBOS", **options: Any) -> None:
        super().__init__(*programs.python("-m", "tests.processes.neighbour", url, role, json.dumps(options)))
