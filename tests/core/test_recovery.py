"""What the death of a process counts for the workflows that it executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.core.recovery import is_dead_letter, recovery_of, share_of
from tidings.model import Entry, EntryState, History, RecordedEntry, Recovery, Status, WorkflowRecord


def record(attempts: int, progress: int) -> WorkflowRecord:
    return WorkflowRecord(
        "w",
        Status.PENDING,
        "flow",
        "",
        None,
        None,
        "",
        1,
        None,
        "",
        None,
        0,
        0,
        recovery_attempts=attempts,
        progress=progress,
    )


def history(done: int, *, waiting: bool = False) -> History:
    entries = [Entry("", number, number, "step") for number in range(1, done + 1)]
    if waiting:
        entries.append(Entry("", done + 1, done + 1, "DBOS.recv", EntryState.OPEN))
    return History("w", tuple(map(RecordedEntry, entries)), ())


def test_a_death_without_progress_counts_and_one_after_progress_is_the_first_again() -> None:
    assert recovery_of(record(1, 0), None) == Recovery(1, 0)
    assert recovery_of(record(1, 0), history(3)) == Recovery(1, 3)
    assert recovery_of(record(2, 3), history(3)) == Recovery(2, 3)
    assert recovery_of(record(7, 3), history(4)) == Recovery(1, 4)


def test_the_death_of_a_process_in_which_it_waited_is_not_its_fault() -> None:
    assert recovery_of(record(50, 3), history(3, waiting=True)) == Recovery(0, 3)


def test_what_was_given_back_counts_nothing() -> None:
    assert recovery_of(record(0, 0), history(3)) == Recovery(0, 3)


@pytest.mark.parametrize(
    ("attempts", "most", "is_dead"), [(2, 2, False), (3, 2, True), (1, 0, True), (10**6, None, False)]
)
def test_past_its_attempts_it_is_a_dead_letter(attempts: int, most: int | None, is_dead: bool) -> None:
    assert is_dead_letter(Recovery(attempts, 0), most) is is_dead


@given(st.integers(0, 10_000), st.integers(0, 50))
def test_shares_are_even_and_leave_nothing(orphans: int, survivors: int) -> None:
    share = share_of(orphans, survivors)
    assert share * max(survivors, 1) >= orphans
    assert share <= -(-orphans // max(survivors, 1))
