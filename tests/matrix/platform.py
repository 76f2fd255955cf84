"""What a row runs on, and the error of a platform that cannot be had on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
# Interpreters, environments, servers and logs. Git ignores it.
WORKSHOP: Final = REPOSITORY / ".matrix"


class Missing(Exception):
    """A platform cannot be had on this machine. The message says what was looked for and why it is not there."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that can run the suite, and where it came from.

    Attributes:
        command: What starts it, a chroot around it included. The arguments of Python follow.
        version: As in `3.14.10`.
        source: As in `pyenv`.
    """

    command: tuple[str, ...]
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Platform:
    """What a row runs on.

    Attributes:
        interpreter: The Python of an environment in which tidings and the pinned packages are installed.
        source: Where the part came from that makes this row differ from others.
        environment: Variables that lead the tests to that part.
        besides: What it is besides a Python, an SQLite and a PostgreSQL, with the version: a pooler.
    """

    interpreter: Interpreter
    source: str
    environment: Mapping[str, str] = field(default_factory=dict)
    besides: str = ""


def run(command: Sequence[str | Path], *, timeout: float = 600, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of the preparation and return what it printed.

    Raises:
        Missing: It failed, took too long, or there is no such program.
    """
    shown = " ".join(map(str, command))[:200]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
            cwd=REPOSITORY,
            env=environment,
        )
    except FileNotFoundError:
        raise Missing(f"there is no program `{command[0]}`") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"`{shown}` took more than {timeout:g} s") from None
    if done.returncode != 0:
        raise Missing(f"`{shown}` failed: {_last_line(done.stdout)}")
    return done.stdout


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
