"""The one way in which tests start other programs: each ends with this process at the latest, however this one ends.

All of them are in one process group, and so is what they start in turn. A guard leads the group and holds the other end
of a pipe: when this process is gone (also by SIGKILL, or ended by the watchdog), the pipe closes and the guard kills
the whole group. A program needs to do nothing for that, and may be stopped or hang.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

Program = subprocess.Popen[str]

_starting = threading.Lock()
_guards: dict[int, subprocess.Popen[bytes]] = {}  # by the process that has it: a forked child needs one of its own


def start(*command: str | Path, **settings: Any) -> Program:
    """Start a program with the packages that the tests use; `settings` are those of `subprocess.Popen`."""
    return subprocess.Popen(command, **_settings(settings))


def run(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return what it wrote, and its exit code."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.run(command, check=False, **_settings(settings))


def python(*arguments: str | Path) -> list[str | Path]:
    """Return the command that runs Python with these arguments."""
    return [sys.executable, *arguments]


def environment() -> dict[str, str]:
    """Return the environment of a program that is to find the packages that the tests use."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def group() -> int:
    """Return the process group of the programs; the guard leads it."""
    with _starting:
        guard = _guards.get(os.getpid())
        if guard is None:
            guard = _guards[os.getpid()] = subprocess.Popen(
                ["sh", "-c", "cat > /dev/null; kill -KILL 0"], stdin=subprocess.PIPE, process_group=0
            )
            atexit.register(guard.communicate)
        return guard.pid


def guard() -> int | None:
    """Return the process id of the guard, if this process has one."""
    own = _guards.get(os.getpid())
    return own.pid if own is not None else None


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {"cwd": ROOT, "env": environment(), "text": True, "process_group": group()} | settings
