"""For the tour and the tests: a program as a process, whose output can be read, and that can be killed and
restarted."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from examples.widget_store.settings import Settings
from examples.widget_store.timeline import has_colours

PATIENCE_SECONDS = 100

# Below every system's range for outgoing connections, so no connection gets the port while a program is down.
_PORTS = range(20_000, 32_000)
_ROOT = Path(__file__).parents[2]
_COLOURS = re.compile(r"\033\[\d+m")


class ProgramError(Exception):
    """A program did not open, ended unexpectedly, or did not print an expected line. The message has its last lines."""


class Program:
    """The shop or the payment service, as a process.

    Args:
        name: "shop" or "payments".
        told: its settings.
        echo: is called with each line that the program writes.

    Raises:
        ProgramError: The program ended instead of opening.
    """

    def __init__(self, name: str, told: Settings, echo: Callable[[str], None]) -> None:
        self.name = name
        self._echo = echo
        self._lines: list[str] = []
        self._heard = threading.Condition()
        self._over = False
        # The program ends with this process at the latest, even if this process is killed.
        held = replace(told, ends_with_stdin=True)
        environment = os.environ | held.environment() | ({"FORCE_COLOR": "1"} if has_colours() else {})
        command = [sys.executable, "-m", f"examples.widget_store.{name}"]
        self.process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.wait_for("program is open at")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_for(self, *words: str) -> None:
        """Wait until the program has written a line that contains all these words.

        Raises:
            ProgramError: The program has ended without this line, or has not written it for a very long time.
        """

        def is_said() -> bool:
            return any(all(word in line for word in words) for line in self._lines)

        with self._heard:
            in_time = self._heard.wait_for(lambda: is_said() or self._over, PATIENCE_SECONDS)
            if is_said():
                return
            said = "\n".join(self._lines[-20:])
        what = "ended before it said" if in_time else "does not say"
        raise ProgramError(f"the {self.name} program {what} {' ... '.join(words)!r}. Its last lines:\n{said}")

    def wait_until_killed(self) -> None:
        """Wait until the program was killed, by itself or from outside.

        Raises:
            ProgramError: The program ended in another way.
        """
        code = self.process.wait(PATIENCE_SECONDS)
        self._listener.join()
        if code != -signal.SIGKILL:
            raise ProgramError(f"the {self.name} program should have been killed, but ended with {code}")

    def close(self) -> None:
        """End the program as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_SECONDS)
        self._listener.join()

    def kill(self) -> None:
        """End the program as a power cut does."""
        self.process.kill()
        self.process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.process.stdin, self.process.stdout as lines:
            for line in lines:
                self._echo(line.rstrip())
                with self._heard:
                    self._lines.append(_COLOURS.sub("", line.rstrip()))
                    self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()


def free_url() -> str:
    """Return an address of this machine that is not in use."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"http://127.0.0.1:{port}"
