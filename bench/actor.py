"""Who performs the action that a program waits for: this process or another one. The program is the same.

An action is a public function of the program's module. Its arguments and its answer are JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import ModuleType
from typing import Any, Protocol

from bench.meter import HARNESS


class Actor(Protocol):
    """Performs actions and returns their answers."""

    def do(self, action: str, *arguments: Any) -> Any:
        """Perform the action, and return its answer when it is done."""


class Here:
    """Performs actions in this process."""

    def __init__(self, module_name: str) -> None:
        self._module = sys.modules[module_name]

    def do(self, action: str, *arguments: Any) -> Any:
        """Call the function."""
        return getattr(self._module, action)(*arguments)


class Neighbour:
    """Another process with the same program, launched on the same database; end it with `end` or `kill`.

    It has an `executor_id` of its own, unless it must count as an earlier run of this program. Its environment is ours,
    with the given changes.
    """

    def __init__(self, executor_id: str | None = "neighbour", **environment: str) -> None:
        given = json.loads(sys.argv[1]) | {"neighbour": True}
        if executor_id is not None:
            given["executor_id"] = executor_id
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.program", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.answer()

    def tell(self, action: str, *arguments: Any) -> None:
        """Start an action; `answer` returns its answer later."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([action, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The neighbour has ended.")
        return json.loads(line)["answer"]

    def do(self, action: str, *arguments: Any) -> Any:
        """Start an action, and return its answer."""
        self.tell(action, *arguments)
        return self.answer()

    def end(self) -> None:
        """Let it shut down."""
        self._process.communicate()

    def kill(self) -> None:
        """Kill it, like a crash."""
        self._process.kill()
        self._process.communicate()


def obey(module: ModuleType) -> None:
    """Run as the neighbour: answer that it is ready, then perform each action that it is told."""
    HARNESS.say({"answer": None})
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        HARNESS.say({"answer": getattr(module, action)(*arguments)})
