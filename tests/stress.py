"""Runs the tests repeatedly beside busy processes, each time in another order: `make stress ROUNDS=10 SEED=7`.

    python -m tests.stress [--rounds 10] [--seed 7] [--busy 2] [--logs .stress] [-- pytest's arguments]

There are as many busy processes as processors. A round must leave nothing behind: no process that it started, and no
file in the temporary directory or in memory. A failed round leaves its log, and the next round begins. The program
exits with 1 if any round has failed.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from tests.support import leftovers, programs

_MARK = leftovers.MEMORY_MARK
_COUNTS = re.compile(r"\d+ (passed|failed|error)")
_BUSY = "while True: pass"
# For servers, and the guards that remove their files, to end after a round.
_PATIENCE_SECONDS = 30.0


class Round:
    """One run of the tests, with a temporary directory of its own."""

    def __init__(self, number: int, seed: int, logs: Path, arguments: list[str]) -> None:
        self.seed = seed
        self.log = logs / f"round-{number}-seed-{seed}.log"
        self._arguments = arguments
        self._mark = secrets.token_hex(8)

    def play(self) -> str:
        """Run the tests, and return a line about the outcome. The log is kept if the round failed."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tidings-stress-", ignore_cleanup_errors=True) as directory:
            os.chmod(directory, 0o711)  # A PostgreSQL server that runs as another user must get through.
            code = self._run(directory)
            left = self._await_nothing_left(Path(directory))
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        said = self.log.read_text(errors="replace").strip().splitlines()
        summary = next((line.strip("= ") for line in reversed(said) if _COUNTS.search(line)), "")
        if code == 0 and not left:
            self.log.unlink()
            return f"green in {time.monotonic() - began:.0f} s: {summary}"
        with self.log.open("a") as log:
            log.writelines(f"left behind: {each}\n" for each in left)
        what = [summary or f"ended with {code}", *(f"left behind: {each}" for each in left)]
        return f"RED after {time.monotonic() - began:.0f} s: {'; '.join(what)}; see {self.log}"

    def _run(self, directory: str) -> int:
        command = programs.python("-m", "pytest", f"--randomly-seed={self.seed}", *self._arguments)
        environment = programs.environment() | {"TMPDIR": directory, _MARK: self._mark}
        with self.log.open("w") as log:
            return programs.run(*command, env=environment, stdout=log, stderr=log).returncode

    def _await_nothing_left(self, directory: Path) -> list[str]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while left := self._left(directory):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return left

    def _left(self, directory: Path) -> list[str]:
        processes = [f"process {pid} ({leftovers.command(pid)})" for pid in self._processes()]
        in_memory = leftovers.MEMORY.glob(f"tidings-{self._mark}-*") if leftovers.MEMORY.is_dir() else ()
        return processes + sorted(str(path) for path in (*directory.iterdir(), *in_memory))

    def _processes(self) -> Iterator[int]:
        """Yield the processes that this round has started: each has inherited its mark."""
        mark = f"{_MARK}={self._mark}".encode()
        for path in leftovers.PROCESSES.glob("[0-9]*/environ"):
            with suppress(OSError):  # It has ended, or is another user's.
                if mark in path.read_bytes().split(b"\0"):
                    yield int(path.parent.name)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processors busy. The busy processes end with this one, however it ends."""
    processes = [programs.start(*programs.python("-c", _BUSY)) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(arguments: list[str]) -> int:
    """Play the rounds; return 1 if any has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="how many processes are to be busy")
    parser.add_argument("--logs", type=Path, default=programs.ROOT / ".stress")
    parser.add_argument("pytest", nargs="*", help="what pytest is told, after --")
    options = parser.parse_args(arguments)
    options.logs.mkdir(exist_ok=True)
    dice = Random(options.seed)
    failed = 0
    _say(f"{options.rounds} rounds beside {options.busy} busy processes: SEED={options.seed}")
    with busy(options.busy):
        for number in range(1, options.rounds + 1):
            each = Round(number, dice.getrandbits(32), options.logs, options.pytest)
            outcome = each.play()
            failed += each.log.exists()
            _say(f"round {number}, make test SEED={each.seed}: {outcome}")
    _say(f"{failed} of {options.rounds} rounds failed" if failed else f"{options.rounds} rounds, all green")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
