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
    a_store_that_lets_what_has_ended_publish,
    a_supervisor_that_does_not_look_for_what_is_unattended,
    a_ticket_that_looks_before_it_is_watched,
    cancelled_branches_that_take_the_turns_of_what_they_made,
    leases_on_the_stores_clock,
    limits_on_the_stores_clock,
    replays_that_take_what_is_slow_for_stuck,
    results_that_come_as_soon_as_they_are_there,
    results_that_do_not_wait_for_threads,
    runs_that_keep_what_they_saw_when_branches_open,
    threads_that_begin_operations_as_they_come,
    time_limits_that_come_when_they_are_due,
)
from tests.simulation.simulation import play
from tests.support import programs

_PORTION = 30
_MOST_SEEDS = 300
# Some defects show rarely. Where to begin to look for them: only to save time.
_BEGIN_AT: dict[Mutation, int] = {
    a_store_that_lets_what_has_ended_publish: 45,
    a_supervisor_that_does_not_look_for_what_is_unattended: 315,
    a_ticket_that_looks_before_it_is_watched: 40,
    runs_that_keep_what_they_saw_when_branches_open: 890,
    replays_that_take_what_is_slow_for_stuck: 40,
    leases_on_the_stores_clock: 785,
    limits_on_the_stores_clock: 1000,
    results_that_come_as_soon_as_they_are_there: 220,
    results_that_do_not_wait_for_threads: 95,
    time_limits_that_come_when_they_are_due: 3225,
    threads_that_begin_operations_as_they_come: 490,
    cancelled_branches_that_take_the_turns_of_what_they_made: 40,
}


@pytest.mark.parametrize("first", range(0, 150, _PORTION))
def test_whatever_happens_nothing_is_lost_and_nothing_done_twice(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PORTION):
        outcome = play(seed)
        counts.update(outcome.counts)
        assert not outcome.violations, (
            f"{trace(outcome)}\n{outcome.violations[0]}\nrepeat it: python -m tests.simulation --seed {seed}"
        )
    assert min(counts["kill"], counts["pause"]) > 0, f"nothing happened: {counted(counts)}"


def test_a_seed_repeats_itself_in_any_process_alone_or_behind_others() -> None:
    def played(first: int, count: int, hash_seed: str) -> list[str]:
        command = programs.python("-m", "tests.simulation", "--seeds", str(count), "--from", str(first))
        environment = programs.environment() | {"PYTHONHASHSEED": hash_seed}
        ended = programs.run(*command, "--fingerprints", env=environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    some = played(7, 12, "1")
    assert some == played(7, 12, "2")
    assert some[-1:] == played(18, 1, "2")


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
