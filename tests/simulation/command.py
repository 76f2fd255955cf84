"""The command: play one seed and print what happened, or many and count."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

from tests.simulation.simulation import Outcome, play


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        outcome = play(given.seed)
        print(trace(outcome))
        print(outcome.seconds, outcome.fingerprint, outcome.counts)
        return bool(outcome.violations)
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(given.first, given.first + given.seeds):
        outcome = play(seed)
        counts.update(outcome.counts)
        if outcome.violations:
            failed.append(seed)
            print(f"seed {seed}: {outcome.violations[0][:600]}")
    print(f"{given.seeds} seeds, {time.perf_counter() - began:.1f} s, failed: {failed}", counts)
    return bool(failed)


def trace(outcome: Outcome) -> str:
    """Return what happened, a line each."""
    return "\n".join(
        f"{now:12.6f} {party:10} {thread:20} {what} {' '.join(map(_text, details))}"
        for now, party, thread, what, details in outcome.lines
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
