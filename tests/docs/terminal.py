"""Types the commands of a page, and compares what they print with what the page shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.docs.pages import Command
from tests.support import programs
from tests.support.faulty import PATIENCE_SECONDS

PORT = "8000"  # In the pages; here it is one that is free.

# Commands that come with a package. The environment of the tests need not be on the PATH.
_MODULES = ("flask", "gunicorn", "pytest", "uvicorn")
_LOGGED = re.compile(r"\d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
# A line of the log that another thread wrote between a printed text and its newline.
_LOGGED_WITHIN = re.compile(r"^(.+?)(\d\d:\d\d:\d\d [A-Z]+ .*\n)", re.MULTILINE)
_TIME = re.compile(r"\b\d\d:\d\d:\d\d\b")


class Terminal:
    """One folder, in which the files of a page are written and its commands are typed."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self._port = _free_port()
        self._jobs: dict[int, Job] = {}  # By their numbers; as a shell, the next one has one more than the highest.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DBOS_")}
        self._environment = environment | {
            "PYTHONPATH": programs.environment()["PYTHONPATH"],
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "",
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:randomly -p no:xdist",
            **settings,
        }

    def write(self, name: str, text: str) -> None:
        """Write a file of the page."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(PORT, self._port))

    def type(self, command: Command) -> None:
        """Run a command, and compare.

        Raises:
            AssertionError: it printed something else, or did not end.
        """
        if command.text.startswith("kill "):
            self._kill(command)
            return
        text = command.text.removesuffix("&").strip().replace(PORT, self._port)
        job = Job(command, self._program(text), self.folder, self._environment, self._port)
        for prompt, line in command.block.typed:
            job.type(prompt, line)
        if command.is_in_background:
            self._jobs[max(self._jobs, default=0) + 1] = job
            job.await_output()
        elif command.block.kill_at is not None:
            job.await_text(command.block.kill_at)
            job.end(signal.SIGKILL)
            job.compare()
        else:
            job.await_end()
            job.compare()
            job.check_end()

    def run_cells(self, cells: list[str], shown: str) -> None:
        """Run the cells of a notebook in one process, and compare all that they print.

        Raises:
            AssertionError: they printed something else, or one failed.
        """
        program = programs.python(Path(__file__).with_name("cells.py"))
        ran = programs.run(*program, input=json.dumps(cells), cwd=self.folder, env=self._environment)
        assert ran.returncode == 0, ran.stderr
        assert _is_shown(shown.splitlines(), ran.stdout.splitlines()), f"the cells print\n{ran.stdout}"

    def close(self) -> None:
        """End what still runs. SIGTERM: a server ends its workers then."""
        for job in self._jobs.values():
            job.end(signal.SIGTERM)

    def _program(self, text: str) -> str:
        first, _, rest = text.partition(" ")
        if first == "python":
            return f"{shlex.quote(sys.executable)} {rest}"
        if first in _MODULES:
            return f"{shlex.quote(sys.executable)} -m {first} {rest}"
        return text

    def _kill(self, command: Command) -> None:
        *options, job = command.text.split()[1:]
        number = signal.SIGKILL if "-9" in options else signal.SIGTERM
        self._jobs.pop(int(job.removeprefix("%"))).end(number)


class Job:
    """A command that runs."""

    def __init__(self, command: Command, text: str, folder: Path, environment: dict[str, str], port: str) -> None:
        self._command = command
        self._port = port
        self._lines = threading.Condition()
        self._printed = ""
        self._is_over = False
        self._program = programs.start(
            "bash",
            "-c",
            f"exec {text}",
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, prompt: str, line: str) -> None:
        """Type a line into it when it asks for one. A terminal shows what is typed."""
        self.await_text(prompt)
        with self._lines:
            self._printed = self._printed.replace(prompt, f"{prompt}{line}\n", 1)
        assert self._program.stdin is not None
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()

    def end(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for its end."""
        self._program.send_signal(number)
        self.await_end()

    def await_end(self) -> None:
        """Wait until it has ended."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        try:
            self._program.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._program.kill()
            raise AssertionError(f"{self._command.where}\ndoes not end; it has printed\n{self._printed}") from None
        self._reader.join(PATIENCE_SECONDS)

    def await_text(self, text: str) -> None:
        """Wait until it has printed this."""
        self._await(lambda: text in self._printed, f"has not printed {text!r}")

    def await_output(self) -> None:
        """Wait until it has printed what the page shows."""
        shown = self._command.output
        self._await(lambda: _is_shown([*shown, "..."], self._printed_lines()), f"has not printed {shown}")

    def compare(self) -> None:
        """Compare what it printed with what the page shows."""
        printed = self._printed_lines()
        shown = "\n".join(self._command.output)
        if self._command.block.kill_at is not None:  # The shell says it, in the midst of a line or after it.
            shown = shown.removesuffix("Killed").removesuffix("\n")
        if not _is_shown(shown.split("\n") if shown else [], printed):
            raise AssertionError(f"{self._command.where}\nthe page shows\n{shown}\nit prints\n" + "\n".join(printed))

    def check_end(self) -> None:
        """Check that it ended well, or killed itself, as a program on a page may."""
        assert self._program.returncode in (0, -signal.SIGKILL), f"{self._command.where}: {self._program.returncode}"

    def _await(self, is_there: object, otherwise: str) -> None:
        assert callable(is_there)
        with self._lines:
            self._lines.wait_for(lambda: is_there() or self._is_over, PATIENCE_SECONDS)
            assert is_there(), f"{self._command.where}\n{otherwise}; it has printed\n{self._printed}"

    def _printed_lines(self) -> list[str]:
        printed = _LOGGED_WITHIN.sub(r"\2\1", self._printed.replace(self._port, PORT))
        return printed.rstrip("\n").split("\n") if printed.strip() else []

    def _read(self) -> None:
        assert self._program.stdout is not None
        with self._program.stdout as output:
            while text := os.read(output.fileno(), 65_536):
                with self._lines:
                    self._printed += text.decode(errors="replace")
                    self._lines.notify_all()
        with self._lines:
            self._is_over = True
            self._lines.notify_all()


def _is_shown(shown: list[str], printed: list[str]) -> bool:
    """Tell whether a page shows these lines.

    The log comes by another way, and often from another thread, so its lines are compared apart from the others.
    """
    return _match(_log_of(shown), _log_of(printed)) and _match(_without_log(shown), _without_log(printed))


def _match(shown: list[str], printed: list[str]) -> bool:
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(map(re.escape, _normal(line).split("..."))) + r"\n"
    return re.fullmatch(pattern, "".join(f"{_normal(line)}\n" for line in printed)) is not None


def _log_of(lines: list[str]) -> list[str]:
    return [line for line in lines if _LOGGED.match(line) or line.strip() == "..."]


def _without_log(lines: list[str]) -> list[str]:
    return [line for line in lines if not _LOGGED.match(line)]


def _normal(line: str) -> str:
    return _TIME.sub("00:00:00", line.rstrip())


def _free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])
