"""Children and their parents, and workflows that nobody owns, through the protocol alone, on both stores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.store.driver import NOW_MS, Process, ending, entry, new, owned, recording
from tests.support.rows import Rows
from tidings.model import APPLIED, End, InUse, NoSuchWorkflow, Stale, Status, Stuck, Unit
from tidings.store.protocol import Store


def status_of(store: Store, workflow_id: str) -> Status:
    return store.workflows([workflow_id])[workflow_id].status


# --- parents ---------------------------------------------------------------------------------------------


def child(workflow_id: str, parent_id: str, *, in_step: bool = False, epoch: int = 1) -> Unit:
    """A unit that starts a child: in the code of its parent, or in a step."""
    start = new(workflow_id, parent_id=parent_id)
    return Unit(start=start) if in_step else Unit(parent_id, epoch, start=start)


@pytest.mark.parametrize("in_step", [False, True])
def test_a_child_starts_only_while_its_parent_is_pending(process: Process, in_step: bool) -> None:
    process.start("pending", "cancelled", "ended")
    process.commit(Unit(cancels=("cancelled",)), ending("ended"))
    answers = process.commit(
        *(child(f"of {each}", each, in_step=in_step) for each in ("pending", "cancelled", "ended", "nobody")),
        *recording("pending", entry(1)),
    )
    assert answers == [APPLIED, Stale(Status.CANCELLED), Stale(Status.SUCCESS), NoSuchWorkflow(("nobody",)), APPLIED]
    there = process.store.workflows([f"of {each}" for each in ("pending", "cancelled", "ended", "nobody")])
    assert {each: found.parent_id for each, found in there.items()} == {"of pending": "pending"}


def test_a_run_that_was_taken_over_starts_no_child_and_its_step_still_may(process: Process) -> None:
    process.start("w")
    process.reclaim("w")
    assert process.commit(child("a", "w"), child("b", "w", epoch=2), child("c", "w", in_step=True)) == [
        Stale(Status.PENDING),
        APPLIED,
        APPLIED,
    ]


def test_a_parent_may_start_end_and_be_cancelled_in_the_batch_of_its_child(process: Process) -> None:
    assert (
        process.commit(
            Unit(start=new("a")),
            child("of a", "a"),
            ending("a"),
            Unit(start=new("b")),
            child("of b", "b", in_step=True),
            Unit(cancels=("b",)),
        )
        == [APPLIED] * 6
    )
    assert [status_of(process.store, each) for each in ("a", "of a", "b", "of b")] == [
        Status.SUCCESS,
        Status.PENDING,
        Status.CANCELLED,
        Status.PENDING,
    ]


def test_what_is_started_for_a_parent_that_is_not_there_is_none_either(process: Process) -> None:
    """One refusal leads to the next; and an id that is free after all is given to who asked for it next."""
    process.start("ended")
    process.commit(ending("ended"))
    assert process.commit(
        child("a", "ended"), child("b", "a", in_step=True), child("c", "b", in_step=True), Unit(start=new("a"))
    ) == [Stale(Status.SUCCESS), APPLIED, APPLIED, APPLIED]
    assert process.store.workflows(["a"])["a"].parent_id is None
    assert process.commit(child("d", "ended"), child("e", "d", in_step=True)) == [
        Stale(Status.SUCCESS),
        NoSuchWorkflow(("d",)),
    ]


def test_a_child_under_an_id_in_use_answers_with_the_workflow_that_has_it(process: Process) -> None:
    process.start("w", "used")
    process.commit(Unit(cancels=("w",)))
    [answer] = process.commit(child("used", "w", in_step=True))
    assert answer == InUse(process.store.workflows(["used"])["used"])


def test_what_is_pending_below_is_found_generation_by_generation(process: Process) -> None:
    process.start("root", "other")
    process.commit(*(child(each, "root", in_step=True) for each in ("a", "b", "c")))
    process.commit(child("a1", "a", in_step=True), child("b1", "b", in_step=True), child("o1", "other", in_step=True))
    process.commit(child("a11", "a1", in_step=True), child("b11", "b1", in_step=True))
    process.commit(Unit(cancels=("a", "b1")), ending("a1"))
    find = process.store.pending_below
    assert sorted(find(["root"], 100)) == ["a11", "b", "b11", "c"]
    assert sorted(find(["root"], 2)) == ["b", "c"]
    assert len(find(["root"], 3)) == 3
    assert sorted(find(["root", "other", "unknown", "b"], 100)) == ["a11", "b", "b11", "c", "o1"]
    assert find(["unknown"], 10) == find([], 10) == find(["root"], 0) == []


def test_what_is_pending_below_comes_to_an_end_where_a_workflow_is_its_own_ancestor(
    process: Process, database_url: str
) -> None:
    """No start makes such a row; somebody's UPDATE may."""
    process.start("a")
    process.commit(child("b", "a", in_step=True))
    Rows(database_url).run("update {workflows} set parent_id = 'b' where workflow_id = 'a'")
    assert sorted(process.store.pending_below(["a"], 10)) == ["a", "b"]


def test_ends_tell_which_have_ended_and_when(process: Process) -> None:
    process.start("pending", "good", "bad", "cancelled", "stuck", "was stuck")
    process.commit(ending("good"), ending("bad", Status.ERROR), Unit(cancels=("cancelled",)))
    stuck = Stuck("v", "operation 1", "a", "b", NOW_MS)
    process.commit(Unit("stuck", 1, stuck=stuck), Unit("was stuck", 1, stuck=stuck))
    started_at_ms = process.store.workflows(["stuck"])["stuck"].updated_at_ms
    process.commit(Unit(cancels=("was stuck",)))
    every = ["pending", "good", "unknown", "bad", "cancelled", "good", "stuck", "was stuck"]
    assert process.store.ends(every) == {
        "stuck": End(Status.PENDING, started_at_ms),
        "was stuck": End(Status.CANCELLED, NOW_MS),
        "good": End(Status.SUCCESS, NOW_MS + 5),
        "bad": End(Status.ERROR, NOW_MS + 5),
        "cancelled": End(Status.CANCELLED, NOW_MS),
        "unknown": None,
    }
    assert process.store.ends([]) == {}


# --- workflows that nobody owns ----------------------------------------------------------------------------


def test_what_is_started_by_who_executes_nothing_is_anybodys_to_claim(process: Process, store: Store) -> None:
    unowned = {each: replace(new(each, app_version=""), is_owned=False) for each in ("a", "b")}
    assert process.commit(*(Unit(start=each) for each in unowned.values())) == [APPLIED] * 2
    found = store.workflows(["a"])["a"]
    assert (found.status, found.executor_id, found.epoch, found.app_version) == (Status.PENDING, None, 0, "")
    assert owned(store, "here") == (process.fence, {})
    assert [(each.app_version, each.executor_id, each.count) for each in store.pending_groups()] == [("", None, 2)]
    other = Process(store, "there")
    [claimed] = other.claim_records(app_version="v7", limit=1)
    assert (claimed.workflow_id, claimed.executor_id, claimed.epoch) == ("a", "there", 1)
    assert (claimed.app_version, claimed.recovery_attempts) == ("v7", 0)
    assert [each.app_version for each in other.reclaim("a")] == ["v7"]
    assert process.claim(app_version="v8") == ["b"]


def test_one_of_nobody_that_has_a_version_is_for_that_version(process: Process) -> None:
    process.commit(Unit(start=replace(new("a", app_version="v2"), is_owned=False)))
    assert process.claim(app_version="v1") == []
    assert process.claim(app_version="v2") == ["a"]
