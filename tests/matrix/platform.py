"""The platform of a row, and the error for a platform that is not available on this machine."""

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
    """A platform is not available on this machine. The message says what was searched for, and why it is missing."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that can run the suite, and where it came from.

    Attributes:
        command: The command that starts it, including a chroot. Python's arguments follow.
        version: As in `3.14.10`.
        source: As in `pyenv`.
    """

    command: tuple[str, ...]
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of a row.

    Attributes:
        interpreter: The Python of an environment in which tidings and the pinned packages are installed.
        source: The origin of the part in which this row differs from others.
        environment: Variables that point the tests to that part.
        besides: A further part with its version, such as a pooler, besides Python, SQLite and PostgreSQL.
    """

    interpreter: Interpreter
    source: str
    environment: Mapping[str, str] = field(default_factory=dict)
    besides: str = ""


def run(command: Sequence[str | Path], *, timeout: float = 600, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of the preparation and return what it printed.

    Raises:
        Missing: The command failed or took too long, or the program does not exist.
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
