"""What a run expects of the branches that its history has."""

from __future__ import annotations

from tidings import JSONSerializer
from tidings.core.history import Run
from tidings.core.places import Branch
from tidings.model import Entry, EntryState, History, RecordedEntry


def _finished(branch: str, ordinal: int) -> RecordedEntry:
    entry = Entry(
        branch,
        1,
        ordinal,
        "step",
        EntryState.DONE,
        output="1",
        started_at_ms=0,
        completed_at_ms=0,
        finished=ordinal,
        begun=ordinal,
    )
    return RecordedEntry(entry)


def test_a_branch_that_is_excused_after_one_within_it_counts_no_place_twice() -> None:
    entries = tuple(_finished(branch, ordinal) for ordinal, branch in enumerate(("1.1", "1", "2", "3"), 1))
    run = Run("w", 2, "flow", JSONSerializer(), History("w", entries, ()))
    assert run.branches_left == 4
    run.excuse("1.1")
    run.excuse("1")
    assert run.branches_left == 2, "those of branches 2 and 3"
    late = Branch("1")
    run.begin(late, "step")  # It was excused, and begins after all.
    assert run.branches_left == 2
