"""Some hundred seeds of the simulation; that a seed repeats itself; and that defects are found.

Many more: `python -m tests.simulation --seeds 10000 --jobs 2`.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.command import counted, trace
from tests.simulation.mutations import (
    MUTATIONS,
    Mutation,
    a_supervisor_that_does_not_look_for_what_is_unattended,
    leases_on_the_stores_clock,
    limits_on_the_stores_clock,
    replays_that_take_what_is_slow_for_stuck,
    results_that_come_as_soon_as_they_are_there,
    runs_that_keep_what_they_saw_when_branches_open,
)
from tests.simulation.simulation import play
from tests.support import programs

_PORTION = 30
_MOST_SEEDS = 300
# Some defects show rarely. Where to begin to look for them: only to save time.
_BEGIN_AT: dict[Mutation, int] = {
    a_supervisor_that_does_not_look_for_what_is_unattended: 230,
    runs_that_keep_what_they_saw_when_branches_open: 440,
    replays_that_take_what_is_slow_for_stuck: 160,
    leases_on_the_stores_clock: 780,
    limits_on_the_stores_clock: 400,
    results_that_come_as_soon_as_they_are_there: 200,
}


@pytest.mark.parametrize("first", range(0, 300, _PORTION))
def test_whatever_happens_nothing_is_lost_and_nothing_done_twice(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PORTION):
        outcome = play(seed)
        counts.update(outcome.counts)
        assert not outcome.violations, (
            f"{trace(outcome)}\n{outcome.violations[0]}\nrepeat it: python -m tests.simulation --seed {seed}"
        )
    assert min(counts["kill"], counts["pause"]) > 0, f"nothing happened: {counted(counts)}"


def test_a_seed_repeats_itself_in_any_process() -> None:
    def played(hash_seed: str) -> str:
        command = programs.python("-m", "tests.simulation", "--seeds", "12", "--from", "7", "--fingerprints")
        ended = programs.run(*command, env=programs.environment() | {"PYTHONHASHSEED": hash_seed})
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert played("1") == played("2")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: str(mutation.__name__))
@pytest.mark.long
def test_a_defect_is_found(mutation: Mutation) -> None:
    begin_at = _BEGIN_AT.get(mutation, 0)
    for seed in range(begin_at, begin_at + _MOST_SEEDS):
        with mutation():
            outcome = play(seed)
        if outcome.violations:
            return
    pytest.fail(f"{_MOST_SEEDS} seeds found nothing wrong with {mutation.__name__.replace('_', ' ')}")
