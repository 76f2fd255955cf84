"""The only way in which tests start other programs: each ends with this process at the latest, however it ends.

All of them, and the programs that they start, are in one process group. A guard leads the group and holds the other end
of a pipe. When this process ends (also by SIGKILL or by the watchdog), the pipe closes and the guard kills the whole
group. The programs need to do nothing for that, and may be stopped or hang.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support import passwords

ROOT = Path(__file__).parents[2]

Program = subprocess.Popen[str]

_starting = threading.Lock()
_guards: dict[int, subprocess.Popen[bytes]] = {}  # by process id: a forked child needs a guard of its own


def start(*command: str | Path, **settings: Any) -> Program:
    """Start a program with the packages of the tests; `settings` are those of `subprocess.Popen`."""
    return subprocess.Popen(command, **_settings(settings))


def run(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return its output and its exit code."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    ran: subprocess.CompletedProcess[str] = subprocess.run(command, check=False, **_settings(settings))
    passwords.look("a program's output", str(ran.stdout))
    passwords.look("a program's errors", str(ran.stderr))
    return ran


def python(*arguments: str | Path) -> list[str | Path]:
    """Return the command that runs Python with these arguments."""
    return [sys.executable, *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which a program finds the packages of the tests."""
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
