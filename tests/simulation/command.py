"""The command: play one seed and print what happened, or many and count what did.

python -m tests.simulation --seed 1234
python -m tests.simulation --seeds 10000 --from 0 --jobs 2
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from tests.simulation.simulation import Outcome, play

_TOGETHER: Final = 20  # seeds that a process plays before it reports
_FAULTS: Final = ("kill", "stop", "pause", "stall", "outage", "hang", "cut", "database down", "clock steps", "fork")
_COUNTED: Final = (
    *("workflows", "executions", "operations", "tries of steps", "messages", "messages received", "events"),
    *("events read", "stream items", "streams read", "cancelled", "batches", "switches", "virtual seconds"),
)


class Report(Struct):
    """What came of some seeds."""

    seeds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []

    def add(self, other: Report) -> None:
        """Count in what came of others."""
        self.seeds += other.seeds
        self.seconds += other.seconds
        self.counts.update(other.counts)
        self.failed += other.failed


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    given = _parser().parse_args(arguments)
    if given.seed is not None:
        return _show(given.seed)
    if given.fingerprints:
        return _show_fingerprints(range(given.first, given.first + given.seeds))
    began = time.monotonic()
    total = Report()
    for report in _played(range(given.first, given.first + given.seeds), given.jobs):
        total.add(report)
        for seed, violation in report.failed:
            _say(f"seed {seed}: {violation.splitlines()[0][:300]}")
            _say(f"    repeat it: python -m tests.simulation --seed {seed}")
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{total.seeds} of {given.seeds} seeds, {len(total.failed)} failed ")
            sys.stderr.flush()
    _say(f"{total.seeds} seeds from {given.first} in {time.monotonic() - began:.0f} s: {len(total.failed)} failed")
    _say(counted(total.counts))
    return bool(total.failed)


def trace(outcome: Outcome) -> str:
    """Return what happened, a line each: the time, the process, the thread, and what."""
    return "\n".join(
        f"{now:12.6f} {party:10} {thread:18} {what} {' '.join(map(_text, details))}"
        for now, party, thread, what, details in outcome.lines
    )


def counted(counts: Counter[str]) -> str:
    """Return the counts, as a sentence each of what befell and of what was done."""
    return "\n".join(
        ", ".join(f"{counts[each]:,} {each}" for each in names) for names in (_FAULTS, _COUNTED) if any(counts.values())
    )


def play_some(seeds: range) -> Report:
    """Play some seeds in this process."""
    report = Report(counts=Counter(), failed=[])
    for seed in seeds:
        outcome = play(seed)
        report.seeds += 1
        report.seconds += outcome.seconds
        report.counts.update(outcome.counts)
        if outcome.violations:
            report.failed.append((seed, outcome.violations[0]))
    return report


def _played(seeds: range, jobs: int) -> Iterator[Report]:
    portions = [seeds[start : start + _TOGETHER] for start in range(0, len(seeds), _TOGETHER)]
    if jobs == 1:
        yield from map(play_some, portions)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(play_some, portions)


def _show(seed: int) -> int:
    outcome = play(seed)
    _say(trace(outcome))
    _say(counted(outcome.counts))
    for violation in outcome.violations:
        _say(f"VIOLATION {violation}")
    _say(f"seed {seed}: {outcome.seconds:.2f} s, fingerprint {outcome.fingerprint:012x}")
    return bool(outcome.violations)


def _show_fingerprints(seeds: range) -> int:
    """Say in a few characters all that happens in each seed."""
    for seed in seeds:
        outcome = play(seed)
        told = hashlib.blake2b(trace(outcome).encode(), digest_size=8).hexdigest()
        _say(f"{seed} {outcome.fingerprint:012x} {told}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate the engine, from a seed.")
    parser.add_argument("--seed", type=int, help="play this one, and print all that happens")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to play (1000)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes (1)")
    parser.add_argument("--fingerprints", action="store_true", help="say in a few characters what happens in each")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
