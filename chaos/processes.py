"""The processes of a run: started, killed, paused, ended cleanly, and started again in the same slot.

All are in one process group. A guard kills that group when this process has ended, for whatever reason. That includes
stopped processes, which get no other signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from chaos.histories import ProcessEnded, ProcessStarted
from chaos.journal import journal
from chaos.load.program import DRAIN, DRAINED, READY, Options

ROOT = Path(__file__).parents[1]

# A process that has not ended this long after a SIGTERM never will.
END_SECONDS = 60.0
STACKS_SECONDS = 2.0


class Guard:
    """Kills its process group when the other end of its pipe is closed."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["sh", "-c", "cat > /dev/null; kill -KILL 0"], stdin=subprocess.PIPE, process_group=0
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()

    @property
    def group(self) -> int:
        """The group of all processes that the guard will kill."""
        return self._process.pid


class Slot:
    """A place for one process at a time.

    Attributes:
        in_use: held by the fault that its process suffers now.
        wanted: how the process was ended on purpose: "kill", "terminate", or nothing.
    """

    def __init__(self, role: str, name: str, url: str, directory: Path, lease_ms: int, guard: Guard) -> None:
        self.role = role
        self.name = name
        self.in_use = asyncio.Lock()
        self.process_name = ""
        self.is_drained = asyncio.Event()
        self._url = url
        self._directory = directory
        self._lease_ms = lease_ms
        self._guard = guard
        self._count = 0
        self._wanted: str | None = None
        self._is_ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start a process in this slot."""
        self.process_name = f"{self.name}.{self._count}"
        self._count += 1
        self._wanted = None
        self._is_ready = asyncio.Event()
        options = Options(self.role, self.name, self.process_name, self._url, str(self._directory), self._lease_ms)
        journal.note(ProcessStarted(self.process_name))
        with (self._directory / f"{self.process_name}.log").open("ab") as log:  # We may append to it, too.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "chaos.load.program",
                msgspec.json.encode(options).decode(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                process_group=self._guard.group,
            )
        self._tasks = [
            asyncio.create_task(self._listen(self._process)),
            asyncio.create_task(self._see_end(self._process)),
        ]

    async def await_ready(self) -> None:
        """Wait until the process is connected, or has ended."""
        await self._is_ready.wait()

    async def kill(self) -> None:
        """Kill the process, like a crash."""
        await self._end("kill", signal.SIGKILL, END_SECONDS)

    async def terminate(self) -> bool:
        """Ask the process to end cleanly. Returns whether it did; if not, it is killed, and its log has its stacks."""
        if await self._end("terminate", signal.SIGTERM, END_SECONDS):
            return True
        self._log_state()
        self._send(signal.SIGUSR1)
        await asyncio.sleep(STACKS_SECONDS)
        await self._end("kill", signal.SIGKILL, END_SECONDS)
        return False

    def pause(self) -> None:
        """Stop the process, like a suspended machine."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process continue."""
        self._send(signal.SIGCONT)

    def drain(self) -> None:
        """Tell the process to begin nothing new."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{DRAIN}\n".encode())

    async def _end(self, wanted: str, how: signal.Signals, seconds: float) -> bool:
        self._wanted = wanted
        self._send(how)
        _, pending = await asyncio.wait(self._tasks, timeout=seconds)
        if pending:
            journal.note(ProcessEnded(self.process_name, wanted, None))
        return not pending

    def _log_state(self) -> None:
        """Append the state of each thread to the log: a thread that waits for a disk (D) is not at fault."""
        assert self._process is not None
        with (self._directory / f"{self.process_name}.log").open("a") as log:
            for thread in sorted(Path(f"/proc/{self._process.pid}/task").glob("*")):
                with suppress(OSError):  # The thread has just ended.
                    state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
                    log.write(f"thread {thread.name}: {state} {(thread / 'wchan').read_text()}\n")

    def _send(self, what: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(what)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            match line.decode().strip():
                case said if said == READY:
                    self._is_ready.set()
                case said if said == DRAINED:
                    self.is_drained.set()
                case _:
                    pass
        self._is_ready.set()

    async def _see_end(self, process: asyncio.subprocess.Process) -> None:
        name = self.process_name
        code = await process.wait()
        journal.note(ProcessEnded(name, self._wanted, code))
