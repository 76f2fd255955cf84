"""What every store must do, through the protocol alone. Each test runs on both backends.

A behaviour that the engine relies on belongs here before a backend has it. What only one backend
has (locks, pragmas, statements) is tested beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

import tidings.store
import tidings.store.migrate
from tests.store.conftest import OpenStore
from tests.store.driver import (
    LEASE_MS,
    NOW_MS,
    VERSION,
    Process,
    ending,
    entry,
    event,
    item,
    message,
    new,
    opened,
    owned,
    publishing,
    recording,
    sending,
    streaming,
    taking,
)
from tests.support.crowd import await_crowd, start_crowd
from tidings.error import DBOSInitializationError
from tidings.model import (
    APPLIED,
    NOTHING,
    Answer,
    Applied,
    Entry,
    EntryState,
    EventRead,
    Executor,
    ExecutorState,
    History,
    InUse,
    NewWorkflow,
    NoSuchWorkflow,
    Nothing,
    NotPending,
    PendingGroup,
    RecordedEntry,
    Recovery,
    Stale,
    Status,
    Stuck,
    Taken,
    Unit,
    WorkflowRecord,
)
from tidings.store.protocol import Batch, DataError, Fenced, Store


def history_of(store: Store, workflow_id: str) -> History:
    [history] = store.histories([workflow_id])
    return history


def entries_of(store: Store, workflow_id: str) -> list[Entry]:
    return [each.entry for each in history_of(store, workflow_id).entries]


def status_of(store: Store, workflow_id: str) -> Status:
    return store.workflows([workflow_id])[workflow_id].status


def body_of(answer: Answer) -> str:
    assert isinstance(answer, Taken)
    return answer.body


# --- starting and ending -----------------------------------------------------------------------------


def test_a_started_workflow_is_pending_and_owned_under_epoch_one(process: Process) -> None:
    process.start("parent")
    start = NewWorkflow("w", "flow", '{"args": []}', "json", VERSION, "parent", NOW_MS)
    assert process.commit(Unit(start=start)) == [APPLIED]
    assert process.store.workflows(["w", "unknown"]) == {
        "w": WorkflowRecord(
            "w",
            Status.PENDING,
            "flow",
            '{"args": []}',
            None,
            None,
            "json",
            1,
            "here",
            VERSION,
            "parent",
            NOW_MS,
            NOW_MS,
        )
    }


def test_an_id_in_use_answers_with_the_workflow_that_has_it(process: Process) -> None:
    process.start("w", name="first")
    [answer] = process.commit(Unit(start=new("w", name="second")))
    assert answer == InUse(process.store.workflows(["w"])["w"])
    assert process.store.workflows(["w"])["w"].name == "first"


def test_of_two_starts_in_one_batch_the_first_wins(process: Process) -> None:
    first, second = process.commit(Unit(start=new("w", name="first")), Unit(start=new("w", name="second")))
    assert first == APPLIED
    assert isinstance(second, InUse)
    assert second.workflow.name == "first"


def test_an_outcome_ends_a_pending_run(process: Process) -> None:
    process.start("good", "bad")
    assert process.commit(ending("good"), ending("bad", Status.ERROR)) == [APPLIED, APPLIED]
    good, bad = (process.store.workflows(["good", "bad"])[each] for each in ("good", "bad"))
    assert (good.status, good.output, good.error, good.updated_at_ms) == (Status.SUCCESS, "result", None, NOW_MS + 5)
    assert (bad.status, bad.output, bad.error, bad.created_at_ms) == (Status.ERROR, None, "error", NOW_MS)


def test_a_run_may_end_in_the_batch_that_starts_it(process: Process) -> None:
    assert process.commit(Unit(start=new("w")), *recording("w", entry(1)), ending("w")) == [APPLIED] * 3
    assert status_of(process.store, "w") is Status.SUCCESS


def test_an_outcome_of_an_ended_run_is_stale(process: Process) -> None:
    process.start("w")
    process.commit(ending("w", Status.ERROR))
    assert process.commit(ending("w")) == [Stale(Status.ERROR)]
    assert process.store.workflows(["w"])["w"].output is None


def test_an_outcome_of_an_unknown_workflow_says_so(process: Process) -> None:
    assert process.commit(ending("w")) == [NoSuchWorkflow(("w",))]


def test_cancelling_ends_what_is_pending(process: Process) -> None:
    process.start("w", "ended")
    process.commit(ending("ended"))
    answers = process.commit(
        Unit(cancels=("w",)), Unit(cancels=("ended",)), Unit(cancels=("unknown",)), Unit(cancels=("w",))
    )
    assert answers == [APPLIED, NotPending(("ended",)), NoSuchWorkflow(("unknown",)), NotPending(("w",))]
    cancelled = process.store.workflows(["w"])["w"]
    assert (cancelled.status, cancelled.updated_at_ms) == (Status.CANCELLED, NOW_MS)


def test_several_are_cancelled_together_or_none_of_them(process: Process) -> None:
    """The answer names all that are in the way, and first what does not exist."""
    process.start("a", "b", "c", "ended", "also ended")
    process.commit(ending("ended"), ending("also ended"))
    answers = process.commit(
        Unit(cancels=("a", "ended", "b", "also ended")),
        Unit(cancels=("c", "unknown", "ended", "nobody")),
        Unit(cancels=("a", "b")),
        Unit(cancels=("c", "b")),
    )
    assert answers == [
        NotPending(("ended", "also ended")),
        NoSuchWorkflow(("unknown", "nobody")),
        APPLIED,
        NotPending(("b",)),
    ]
    assert [status_of(process.store, each) for each in ("a", "b", "c")] == [
        Status.CANCELLED,
        Status.CANCELLED,
        Status.PENDING,
    ]


def test_what_is_cancelled_and_its_note_are_one_change(process: Process) -> None:
    process.start("w", "a", "b", "ended")
    process.commit(ending("ended"))
    assert process.commit(
        Unit("w", 1, entry(1, "lost"), cancels=("a", "ended")), Unit("w", 1, entry(2, "kept"), cancels=("a", "b"))
    ) == [NotPending(("ended",)), APPLIED]
    [history] = process.store.histories(["w"])
    assert [each.entry.output for each in history.entries] == ["kept"]


def test_within_a_batch_an_outcome_comes_before_a_cancellation(process: Process) -> None:
    process.start("w")
    assert process.commit(Unit(cancels=("w",)), ending("w")) == [NotPending(("w",)), APPLIED]


def test_an_outcome_after_a_cancellation_is_stale_and_an_entry_is_harmless(process: Process) -> None:
    process.start("w")
    process.commit(Unit(cancels=("w",)))
    assert process.commit(*recording("w", entry(1)), ending("w")) == [APPLIED, Stale(Status.CANCELLED)]
    assert status_of(process.store, "w") is Status.CANCELLED


# --- messages ------------------------------------------------------------------------------------------


def test_messages_of_a_topic_come_in_the_order_of_their_sending(process: Process) -> None:
    process.start("w", "other")
    process.commit(
        sending(message("w", "1"), message("w", "a", "A"), message("other", "x")),
        sending(message("w", "b", "A"), message("w", "2")),
    )
    process.commit(sending(message("w", "3"), message("w", "c", "A"), message("w", "empty", "")))
    assert process.drain("w") == ["1", "2", "3"]
    assert process.drain("w", "A", first_position=2_000) == ["a", "b", "c"]
    assert process.drain("w", "", first_position=3_000) == ["empty"]
    assert process.drain("other") == ["x"]


def test_takes_of_one_batch_get_different_messages_in_list_order(process: Process) -> None:
    process.start("w", "v")
    process.commit(sending(*(message("w", str(n)) for n in range(3)), message("w", "t", "T"), message("v", "v")))
    answers = process.commit(
        taking("w", 1), taking("v", 1), taking("w", 2), taking("w", 3, "T"), taking("w", 4), taking("w", 5)
    )
    assert [body_of(answer) for answer in answers[:-1]] == ["0", "v", "1", "t", "2"]
    assert answers[-1] == NOTHING


def test_what_a_batch_sends_it_may_take(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "older")))
    answers = process.commit(taking("w", 1), taking("w", 2), sending(message("w", "newer")))
    assert [body_of(answer) for answer in answers[:2]] == ["older", "newer"]


def test_the_seq_of_messages_grows_with_their_order(process: Process) -> None:
    process.start("w", "v")
    process.commit(sending(message("w", "1"), message("v", "2")), sending(message("w", "3")))
    process.commit(sending(message("v", "4")))
    answers = process.commit(taking("w", 1), taking("v", 1), taking("w", 2), taking("v", 2))
    taken = sorted((answer for answer in answers if isinstance(answer, Taken)), key=lambda each: each.seq)
    assert [each.body for each in taken] == ["1", "2", "3", "4"]
    assert len({each.seq for each in taken}) == 4


def test_a_take_marks_the_message_read_and_records_it(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "hello", "T")))
    answer = process.take("w", 1, "T")
    assert isinstance(answer, Taken)
    assert answer == Taken(answer.seq, "hello", "T", "sender", NOW_MS)
    assert history_of(process.store, "w").entries == (RecordedEntry(entry(1), answer),)
    assert process.take("w", 2, "T") == NOTHING


def test_a_take_of_nothing_writes_what_was_given_for_it(process: Process) -> None:
    process.start("w")
    assert process.commit(taking("w", 1)) == [NOTHING]
    assert entries_of(process.store, "w") == []
    waiting = opened(1, deadline_ms=NOW_MS + 8_000)
    assert process.commit(taking("w", 1, otherwise=waiting)) == [NOTHING]
    assert entries_of(process.store, "w") == [waiting]


def test_a_take_replaces_the_open_entry_at_its_place(process: Process) -> None:
    process.start("w")
    process.commit(taking("w", 1, otherwise=opened(1, NOW_MS + 8_000)))
    process.commit(sending(message("w")))
    answer = process.take("w", 1)
    assert isinstance(answer, Taken)
    assert history_of(process.store, "w").entries == (RecordedEntry(entry(1), answer),)


def test_a_message_put_back_is_the_next_one_again(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "1"), message("w", "2")))
    first = process.take("w", 1)
    assert isinstance(first, Taken)
    given_up = entry(1, state=EntryState.ABANDONED)
    assert process.commit(Unit("w", 1, given_up, put_back=first.seq)) == [APPLIED]
    assert history_of(process.store, "w").entries == (RecordedEntry(given_up),)
    assert process.drain("w") == ["1", "2"]


def test_a_message_is_put_back_for_the_next_batch(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w")))
    first = process.take("w", 1)
    assert isinstance(first, Taken)
    put_back = Unit("w", 1, entry(1, state=EntryState.ABANDONED), put_back=first.seq)
    assert process.commit(put_back, taking("w", 2)) == [APPLIED, NOTHING]
    assert process.take("w", 2) == first


def test_a_repeated_idempotency_key_sends_nothing_per_destination(process: Process) -> None:
    process.start("w", "v")
    twice = sending(message("w", "1", key="k")), sending(message("w", "2", "other topic", key="k"))
    assert process.commit(*twice) == [APPLIED, APPLIED]
    assert process.commit(sending(message("w", "3", key="k"), message("w", "4"), message("w", "5"))) == [APPLIED]
    assert process.commit(sending(message("v", "6", key="k"), message("v", "7", key="k"))) == [APPLIED]
    assert process.drain("w") == ["1", "4", "5"]
    assert process.drain("w", "other topic") == []
    assert process.drain("v") == ["6"]


def test_a_key_stays_used_after_its_message_was_read(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", key="k")))
    process.take("w", 1)
    process.commit(sending(message("w", key="k")))
    assert process.take("w", 2) == NOTHING


def test_sending_to_an_unknown_workflow_names_all_and_sends_nothing(process: Process) -> None:
    process.start("w")
    unit = Unit("w", 1, entry(1), messages=tuple(message(each) for each in ("no", "w", "neither", "no")))
    assert process.commit(unit) == [NoSuchWorkflow(("no", "neither"))]
    assert entries_of(process.store, "w") == []
    assert process.drain("w") == []


def test_sending_to_ended_workflows_is_accepted_and_names_them(process: Process) -> None:
    process.start("w", "ended", "cancelled")
    process.commit(ending("ended"), Unit(cancels=("cancelled",)))
    to_all = sending(*(message(each) for each in ("cancelled", "w", "ended", "cancelled")))
    batch = process.batch(to_all, sending(message("w")))
    answers = process.store.commit(batch)
    assert answers == [Applied(ended=("cancelled", "ended")), APPLIED]
    assert process.store.recall(batch) == answers
    assert process.drain("ended") == ["hello"]


def test_a_message_may_go_to_a_workflow_of_the_same_batch(process: Process) -> None:
    assert process.commit(sending(message("w", "early")), Unit(start=new("w"))) == [APPLIED, APPLIED]
    assert process.drain("w") == ["early"]


# --- entries and events ----------------------------------------------------------------------------------


def test_an_entry_is_read_back_as_it_was_written(process: Process) -> None:
    process.start("w")
    full = Entry("1.2", 3, 7, "step", EntryState.DONE, "out", "err", "child", NOW_MS + 1, NOW_MS + 2, NOW_MS + 3)
    bare = Entry("", 1, 8, "other", EntryState.ABANDONED)
    process.commit(*recording("w", full, bare))
    assert process.store.histories(["w"]) == [History("w", (RecordedEntry(full), RecordedEntry(bare)), ())]


def test_an_open_entry_is_replaced_and_no_other(process: Process) -> None:
    process.start("w")
    process.commit(*recording("w", opened(1), opened(2), opened(3)))
    done, abandoned = entry(1, "done"), entry(2, state=EntryState.ABANDONED)
    process.commit(*recording("w", done, abandoned))
    process.commit(*recording("w", entry(1, "again"), entry(2, "again"), opened(1), opened(3, NOW_MS)))
    assert entries_of(process.store, "w") == [done, abandoned, opened(3, NOW_MS)]


def test_of_several_entries_at_one_place_in_a_batch_the_order_of_the_list_decides(process: Process) -> None:
    process.start("w")
    process.commit(
        *recording("w", opened(1), entry(1, "done"), entry(1, "late"), opened(1), opened(2), opened(2, NOW_MS))
    )
    assert entries_of(process.store, "w") == [entry(1, "done"), opened(2, NOW_MS)]


def test_entries_of_branches_and_workflows_are_apart(process: Process) -> None:
    process.start("w", "v")
    mine = [entry(1, f"of {branch}", branch=branch, ordinal=n) for n, branch in enumerate(["", "1", "1.1", "2"])]
    process.commit(*recording("w", *mine), *recording("v", entry(1, "other")))
    assert entries_of(process.store, "w") == mine
    assert entries_of(process.store, "v") == [entry(1, "other")]


def test_a_history_has_entries_events_and_taken_messages_in_the_order_they_began(process: Process) -> None:
    process.start("w", "empty")
    process.commit(sending(message("w", "hello")))
    process.commit(*recording("w", entry(5), entry(1)), *publishing("w", event("k", 1, "v1", position=4)))
    process.commit(*publishing("w", event("k", 2, "v2"), event("l", 1, "v", position=2)))
    taken = process.take("w", 3)
    empty, history = process.store.histories(["empty", "w"])
    assert empty == History("empty", (), ())
    assert [each.entry.ordinal for each in history.entries] == [1, 2, 3, 4, 5]
    assert [each.key for each in history.entries] == [None, "l", None, "k", None]
    assert [each.message for each in history.entries] == [None, None, taken, None, None]
    published = history.entries[1].entry
    assert (published.branch, published.position, published.state) == ("", 2, EntryState.DONE)
    assert published.name == "DBOS.set_event"
    assert published.output is None  # the value is not read for a history
    assert sorted(history.event_versions) == [("k", 2), ("l", 1)]


def test_the_latest_version_of_an_event_is_its_value(process: Process) -> None:
    process.start("w", "v")
    process.commit(*publishing("w", event("k", 2, "new"), event("k", 1, "old"), event("l", 1, "other")))
    process.commit(*publishing("v", *(event("k", version, str(version)) for version in range(1, 12))))
    process.commit(ending("v"))
    asked = [("w", "k"), ("v", "k"), ("w", "none"), ("unknown", "k"), ("w", "l"), ("w", "k")]
    assert process.store.latest_events(asked) == [
        EventRead("new", Status.PENDING),
        EventRead("11", Status.SUCCESS),
        EventRead(None, Status.PENDING),
        EventRead(None, None),
        EventRead("other", Status.PENDING),
        EventRead("new", Status.PENDING),
    ]
    assert process.store.all_events("w") == {"k": "new", "l": "other"}
    assert process.store.all_events("v") == {"k": "11"}


def test_all_events_tells_a_workflow_without_events_from_none(process: Process) -> None:
    process.start("w")
    assert process.store.all_events("w") == {}
    assert process.store.all_events("unknown") is None


# --- a unit applies whole or not at all, a batch too -------------------------------------------------------


def test_refused_units_leave_no_trace_and_their_neighbours_apply(process: Process) -> None:
    process.start("w", "ended")
    process.commit(ending("ended"))
    answers = process.commit(
        *recording("w", entry(1)),
        Unit("w", 1, entry(2), messages=(message("w", "lost"), message("nowhere"))),
        Unit("w", 1, entry(3), start=new("w")),
        Unit("w", 1, entry(4), cancels=("ended",)),
        Unit("w", 1, entry(5), start=new("child")),
        Unit(
            "w",
            2,
            entry(6),
            messages=(message("w", "lost too"),),
            event=event("lost", 1, "v"),
            outcome=ending("w").outcome,
        ),
        *publishing("w", event("k", 1, "v", position=7)),
        Unit("w", 1, entry(8), messages=(message("w", "kept"),)),
        taking("w", 9),
        taking("w", 10),
    )
    in_use = InUse(process.store.workflows(["w"])["w"])
    refusals = [NoSuchWorkflow(("nowhere",)), in_use, NotPending(("ended",))]
    assert answers[:8] == [APPLIED, *refusals, APPLIED, Stale(Status.PENDING), APPLIED, APPLIED]
    assert body_of(answers[8]) == "kept"
    assert answers[9] == NOTHING
    assert [each.position for each in entries_of(process.store, "w")] == [1, 5, 7, 8, 9]
    assert status_of(process.store, "child") is Status.PENDING
    assert process.store.all_events("w") == {"k": "v"}


@pytest.mark.parametrize("what", ["event", "item", "closing", "result that closes"])
def test_what_is_published_counts_only_while_its_workflow_is_pending_under_that_epoch(
    process: Process, what: str
) -> None:
    def publication(workflow_id: str, epoch: int) -> Unit:
        match what:
            case "event":
                return Unit(workflow_id, epoch, event=event("k", 1, "v"))
            case "item":
                return Unit(workflow_id, epoch, item=item("k", 0, "v"))
            case "closing":
                return Unit(workflow_id, epoch, closes=("k",))
            case _:
                return Unit(workflow_id, epoch, entry(9), closes=("k",))

    process.start("pending", "cancelled", "succeeded", "failed", "claimed")
    process.commit(Unit(cancels=("cancelled",)), ending("succeeded"), ending("failed", Status.ERROR))
    process.reclaim("claimed")
    wanted: list[tuple[str, int, Answer]] = [
        ("pending", 1, APPLIED),
        ("pending", 2, Stale(Status.PENDING)),
        ("cancelled", 1, Stale(Status.CANCELLED)),
        ("succeeded", 1, Stale(Status.SUCCESS)),
        ("failed", 1, Stale(Status.ERROR)),
        ("claimed", 1, Stale(Status.PENDING)),
        ("claimed", 2, APPLIED),
        ("nowhere", 1, NoSuchWorkflow(("nowhere",))),
    ]
    for workflow_id, epoch, answer in wanted:
        batch = process.batch(publication(workflow_id, epoch), *recording("pending", entry(1)))
        if answer is not APPLIED:
            assert process.store.commit(batch) == [answer, APPLIED], (workflow_id, epoch)
            assert process.store.recall(batch) == [answer, APPLIED]
    together = process.batch(*(publication(workflow_id, epoch) for workflow_id, epoch, _ in wanted))
    answers = [answer for _, _, answer in wanted]
    assert process.store.commit(together) == answers
    assert process.store.recall(together) == answers
    for workflow_id, epoch, _ in wanted:
        [history] = process.store.histories([workflow_id])
        count = len(history.event_versions + history.stream_lengths + history.closed_streams)
        assert count == (workflow_id in ("pending", "claimed")), (workflow_id, epoch)


def test_what_is_published_is_looked_at_after_the_starts_of_its_batch_and_before_its_ends(process: Process) -> None:
    process.start("w")
    assert (
        process.commit(
            ending("w"),
            Unit(cancels=("v",)),
            *publishing("w", event("k", 1, "at the end")),
            *publishing("v", event("k", 1, "at once")),
            Unit(start=new("v")),
            ending("u"),
            *streaming("u", "k", "a"),
            Unit(start=new("u")),
        )
        == [APPLIED] * 8
    )
    assert process.store.all_events("w") == {"k": "at the end"}
    assert process.store.all_events("v") == {"k": "at once"}
    assert [status_of(process.store, each) for each in "wvu"] == [Status.SUCCESS, Status.CANCELLED, Status.SUCCESS]


def test_what_is_published_for_a_start_that_is_refused_is_refused_too(process: Process) -> None:
    process.start("ended")
    process.commit(ending("ended"))
    answers = process.commit(
        Unit(start=new("w"), messages=(message("nowhere"),)),
        *streaming("w", "k", "a"),
        Unit(start=new("ended")),
        *streaming("ended", "k", "a"),
        *streaming("v", "k", "a", epoch=2),
        Unit(start=new("v")),
    )
    ended = InUse(process.store.workflows(["ended"])["ended"])
    refused = [NoSuchWorkflow(("nowhere",)), NoSuchWorkflow(("w",)), ended, Stale(Status.SUCCESS)]
    assert answers == [*refused, Stale(Status.PENDING), APPLIED]
    assert [page.length for page in process.store.read_streams([(each, "k", 0) for each in ("ended", "v")], 9, 9)] == [
        0,
        0,
    ]


def test_a_start_is_withdrawn_with_what_its_unit_may_not_publish(process: Process) -> None:
    process.start("w")
    answers = process.commit(Unit("w", 2, event=event("k", 1, "v"), start=new("v")), sending(message("v")))
    assert answers == [Stale(Status.PENDING), NoSuchWorkflow(("v",))]


def test_a_start_is_withdrawn_with_the_rest_of_its_unit(process: Process) -> None:
    answers = process.commit(
        Unit(start=new("w", name="withdrawn"), messages=(message("nowhere"),)),
        sending(message("v")),
        Unit(start=new("v"), messages=(message("w"),)),
        Unit(start=new("w", name="stays")),
    )
    assert answers == [NoSuchWorkflow(("nowhere",)), APPLIED, APPLIED, APPLIED]
    assert process.store.workflows(["w"])["w"].name == "stays"
    assert process.drain("w") == ["hello"]


@pytest.mark.parametrize(
    "bad",
    [
        sending(message("w", "\ud800")),
        Unit("w", 1, entry(2, "\udfff")),
        Unit(start=new("\ud800")),
        sending(message("\ud800")),
        Unit("w", 1, event=event("taken", 1, "a version that is there")),
    ],
    ids=["message", "output", "start", "destination", "event version"],
)
def test_data_that_cannot_be_stored_fails_the_batch_and_nothing_is_written(process: Process, bad: Unit) -> None:
    process.start("w")
    process.commit(*publishing("w", event("taken", 1, "v")))
    batch = process.batch(*recording("w", entry(1)), sending(message("w")), Unit(start=new("v")), bad, ending("w"))
    with pytest.raises(DataError):
        process.store.commit(batch)
    assert process.store.recall(batch) is None
    assert entries_of(process.store, "w") == []
    assert process.drain("w") == []
    assert status_of(process.store, "w") is Status.PENDING
    assert process.store.workflows(["v"]) == {}
    assert process.commit(*recording("w", entry(1))) == [APPLIED]


def test_a_large_batch_is_answered_in_its_order(process: Process) -> None:
    ids = [f"w{n}" for n in range(200)]
    process.start(*ids)
    process.commit(sending(*(message(each, each) for each in ids)))
    units = [unit for each in ids for unit in (*recording(each, entry(1)), taking(each, 2), ending(each), ending(each))]
    answers = process.commit(*units)
    assert answers[0::4] == [APPLIED] * 200
    assert [body_of(answer) for answer in answers[1::4]] == ids
    assert answers[2::4] == [APPLIED] * 200
    assert answers[3::4] == [Stale(Status.SUCCESS)] * 200


def test_an_empty_batch_and_an_empty_unit_are_harmless(process: Process) -> None:
    assert process.commit() == []
    assert process.commit(Unit()) == [APPLIED]


# --- ambiguous commits ---------------------------------------------------------------------------------------


def _every_answer(process: Process) -> Batch:
    process.start("w", "ended")
    process.commit(ending("ended"))
    process.commit(sending(message("w", "1"), message("w", "2", "T")))
    return process.batch(
        *recording("w", entry(1)),
        taking("w", 2),
        taking("w", 3),
        taking("w", 4, otherwise=opened(4)),
        taking("w", 5, "T"),
        sending(message("no"), message("neither")),
        Unit(start=new("w")),
        ending("ended"),
        Unit(cancels=("ended",)),
        Unit(cancels=("no",)),
        Unit(start=new("child")),
        ending("w"),
    )


def test_a_batch_that_landed_is_recalled_with_its_answers(process: Process) -> None:
    batch = _every_answer(process)
    answers = process.store.commit(batch)
    kinds = [Applied, Taken, Nothing, Nothing, Taken, NoSuchWorkflow, InUse, Stale, NotPending, NoSuchWorkflow]
    assert [type(answer) for answer in answers] == [*kinds, Applied, Applied]
    assert process.store.recall(batch) == answers
    process.store.reconnect()
    assert process.store.recall(batch) == answers


def test_a_batch_without_refusals_is_recalled_after_one_with(process: Process) -> None:
    process.start("w")
    assert process.commit(sending(message("no")), Unit(cancels=("no",))) == [NoSuchWorkflow(("no",))] * 2
    batch = process.batch(*recording("w", entry(1)), taking("w", 2))
    assert process.store.commit(batch) == [APPLIED, NOTHING]
    assert process.store.recall(batch) == [APPLIED, NOTHING]


def test_a_batch_that_did_not_land_is_not_recalled(process: Process) -> None:
    batch = _every_answer(process)
    assert process.store.recall(batch) is None
    process.store.reconnect()
    assert process.store.recall(batch) is None
    assert len(process.store.commit(batch)) == len(batch.units)


def test_a_batch_that_landed_is_not_written_again(process: Process) -> None:
    process.start("w")
    batch = process.batch(sending(message("w")))
    process.store.commit(batch)
    with pytest.raises(Fenced):
        process.store.commit(batch)
    assert process.drain("w") == ["hello"]


@pytest.mark.parametrize("believed", ["none", "an earlier one", "a later one"])
def test_a_batch_that_builds_on_another_last_batch_than_the_store_has_is_fenced(
    process: Process, believed: str
) -> None:
    process.start("w")
    process.commit(*recording("w", entry(1)))
    batch = process.batch(*recording("w", entry(2)), sending(message("w")))
    assert batch.landed is not None
    wrong = {"none": None, "an earlier one": batch.landed - 1, "a later one": batch.number + 1}[believed]
    with pytest.raises(Fenced):
        process.store.commit(replace(batch, landed=wrong))
    assert process.store.recall(batch) is None
    found = process.store.refence(process.executor_id)
    assert found == ExecutorState(process.fence, batch.landed, {"w": 1}), "which tells it from a fence that has moved"
    assert [each.position for each in entries_of(process.store, "w")] == [1]
    assert process.store.commit(batch) == [APPLIED, APPLIED]


def test_an_executor_begins_without_a_batch_and_keeps_its_last_one_when_it_is_renewed(process: Process) -> None:
    assert process.store.refence(process.executor_id) == ExecutorState(process.fence, None, {})
    with pytest.raises(Fenced):
        process.store.commit(replace(process.batch(Unit()), landed=0))
    process.commit(Unit())
    landed = process.batch().landed
    assert process.store.enlist(replace(process.executor, label="another")) == process.fence
    assert process.store.refence(process.executor_id) == ExecutorState(process.fence, landed, {})
    assert process.commit(Unit()) == [APPLIED]


def test_nothing_is_recalled_of_an_executor_that_is_gone(process: Process) -> None:
    batch = process.batch(Unit(start=new("w")))
    process.store.commit(batch)
    process.store.retire(process.executor_id, process.fence)
    assert process.store.recall(batch) is None


# --- executors, fences, claims ---------------------------------------------------------------------------------


def test_an_executor_is_enlisted_renewed_by_its_batches_and_retired(store: Store) -> None:
    executor = Executor("e", "a label", 5_000, 0, 7_000, "a host", 17, 4_000, VERSION, "a program")
    executor = replace(executor, fence=store.enlist(executor))
    fence = executor.fence
    assert store.executors() == [executor]
    store.commit(Batch("e", fence, 1, NOW_MS, LEASE_MS, [Unit(start=new("w"))]))
    assert store.executors() == [replace(executor, lease_until_ms=NOW_MS + LEASE_MS)]
    store.retire("e", fence)
    assert store.executors() == []
    assert store.workflows(["w"])["w"].executor_id is None
    assert status_of(store, "w") is Status.PENDING


def test_enlisting_again_after_a_lost_answer_is_harmless(store: Store) -> None:
    fence = store.enlist(Executor("e", "a label", 5_000, 0, app_version=VERSION, program="a program"))
    assert store.enlist(Executor("e", "a label", 6_000, 0)) == fence
    assert store.executors() == [Executor("e", "a label", 6_000, fence)]


def test_a_stranger_is_fenced(process: Process) -> None:
    with pytest.raises(Fenced):
        process.store.commit(Batch("nobody", 1, 1, NOW_MS, LEASE_MS, [Unit(start=new("w"))]))
    with pytest.raises(Fenced):
        process.store.claim(Executor("nobody", "", 0, 1), [], ["flow"], VERSION, 10)
    assert process.store.workflows(["w"]) == {}


def test_a_batch_under_an_old_fence_writes_nothing(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w", "kept")
    old.commit(sending(message("w")))
    assert heir.claim("old", limit=1) == ["w"]
    late = old.batch(
        *recording("w", entry(1)), sending(message("w", "late")), taking("w", 2), ending("w"), Unit(start=new("v"))
    )
    with pytest.raises(Fenced):
        old.store.commit(late)
    assert heir.store.histories(["w"]) == [History("w", (), ())]
    assert heir.store.workflows(["v"]) == {}
    assert heir.drain("w") == ["hello"]
    assert status_of(heir.store, "w") is Status.PENDING


def test_an_executor_that_lost_some_runs_goes_on_with_the_rest(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("lost", "kept", "ended")
    old.commit(ending("ended"))
    heir.claim("old", limit=1)
    assert owned(old.store, "old") == (old.fence + 1, {"kept": 1})
    old.fence += 1
    assert old.commit(*recording("kept", entry(1)), ending("lost")) == [APPLIED, Stale(Status.PENDING)]
    assert heir.commit(ending("lost", epoch=2)) == [APPLIED]


def test_an_executor_without_a_row_has_no_fence(process: Process) -> None:
    assert process.store.refence("nobody") is None
    assert owned(process.store, process.executor_id) == (process.fence, {})


def test_a_claim_raises_the_epoch_and_takes_ownership(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w")
    before = old.store.workflows(["w"])["w"]
    [claimed] = heir.claim_records("old")
    assert claimed == heir.store.workflows(["w"])["w"]
    assert (claimed.epoch, claimed.executor_id, claimed.status) == (2, "heir", Status.PENDING)
    assert (claimed.inputs, claimed.created_at_ms) == (before.inputs, before.created_at_ms)
    assert owned(heir.store, "heir") == (heir.fence, {"w": 2})


def test_claims_are_by_age_name_version_and_owner_and_limited(open_store: OpenStore) -> None:
    dead, alive, heir = Process(open_store(), "dead"), Process(open_store(), "alive"), Process(open_store(), "heir")
    dead.start("z-oldest", "b")
    dead.start("other name", name="strange")
    dead.start("other version", app_version="v2")
    alive.start("alive")
    heir.start("mine")
    dead.start("ended", "a-youngest")
    dead.commit(ending("ended"))

    assert heir.claim("dead", "unknown", limit=2) == ["z-oldest", "b"]
    assert heir.claim("dead") == ["a-youngest"]
    assert heir.claim("dead") == []
    # Two of its runs are still pending: its row stays, so that somebody can claim them.
    assert {each.executor_id for each in heir.store.executors()} == {"dead", "alive", "heir"}
    assert heir.claim("dead", names=["strange"]) == ["other name"]
    assert heir.claim("dead", app_version="v2") == ["other version"]
    assert {each.executor_id for each in heir.store.executors()} == {"alive", "heir"}
    assert dead.store.refence("dead") is None
    assert owned(alive.store, "alive") == (alive.fence, {"alive": 1})


def test_a_claim_takes_what_is_of_its_own_program_or_of_none(open_store: OpenStore) -> None:
    """What was started by an earlier version of tidings is of none; it becomes the program's that claims it."""
    dead, old = Process(open_store(), "dead", program="shop"), Process(open_store(), "old")
    shop, mail, none = (
        Process(open_store(), f"{each}", program=each if each != "none" else None) for each in ("shop", "mail", "none")
    )
    dead.start("of shop")
    dead.start("also of shop")
    old.start("of none")
    old.start("also of none")
    assert mail.claim("dead") == []
    assert none.claim("dead") == []
    assert shop.claim("dead", limit=1) == ["of shop"]
    [taken] = mail.claim_records("dead", "old", limit=1)
    assert (taken.workflow_id, taken.program) == ("of none", "mail")
    mail.store.retire("mail", mail.fence)
    assert none.claim("mail", "old") == ["also of none"]
    assert shop.claim("mail", "old", "none", "dead") == ["also of shop", "also of none"]
    programs = {each: found.program for each, found in shop.store.workflows(["of shop", "of none"]).items()}
    assert programs == {"of shop": "shop", "of none": "mail"}
    assert [each.program for each in shop.store.executors() if each.executor_id == "shop"] == ["shop"]


def test_a_workflow_that_is_claimed_anew_becomes_its_owners(open_store: OpenStore) -> None:
    """Its owner may have been updated meanwhile, and the workflow be of the time before."""
    owner = Process(open_store(), "owner", program="shop")
    owner.commit(Unit(start=new("w")))
    assert owner.store.workflows(["w"])["w"].program is None
    assert [each.program for each in owner.reclaim("w")] == ["shop"]
    assert owner.store.workflows(["w"])["w"].program == "shop"


def test_the_fence_of_a_dead_executor_moves_even_if_nothing_of_it_is_claimed(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w", name="strange")
    assert heir.claim("old") == []
    with pytest.raises(Fenced):
        old.commit(*recording("w", entry(1)))
    assert owned(old.store, "old") == (old.fence + 1, {"w": 1})


def test_runs_of_nobody_are_claimed(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w", "ended")
    old.commit(ending("ended"))
    old.store.retire("old", old.fence)
    assert heir.claim() == ["w"]
    assert heir.store.workflows(["ended"])["ended"].executor_id == "old"


def test_a_claim_without_names_claims_nothing(process: Process) -> None:
    process.start("w")
    process.store.retire(process.executor_id, process.fence)
    heir = Process(process.store, "heir")
    assert heir.claim(names=[]) == []


def test_a_claim_under_an_old_fence_changes_nothing(open_store: OpenStore) -> None:
    first, second = Process(open_store(), "first"), Process(open_store(), "second")
    first.start("w", "x", name="strange")
    second.start("v")
    second.claim("first")
    with pytest.raises(Fenced):
        first.claim("second")
    with pytest.raises(Fenced):
        first.reclaim("w")
    assert second.commit(*recording("v", entry(1))) == [APPLIED]
    assert owned(first.store, "first") == (first.fence + 1, {"w": 1, "x": 1})


@pytest.mark.parametrize("claim", [Process.claim, Process.reclaim])
def test_a_claim_raises_the_own_fence_too(process: Process, claim: Callable[[Process], Any]) -> None:
    """So one that the database loses is missed by the next batch, though no batch is lost with it."""
    before = process.fence
    late = process.batch(Unit())
    claim(process)
    with pytest.raises(Fenced):
        process.store.commit(late)
    assert owned(process.store, process.executor_id) == (before + 1, {})


def test_retiring_under_an_old_fence_changes_nothing(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w", name="strange")
    heir.claim("old")
    old.store.retire("old", old.fence)
    assert owned(old.store, "old") == (old.fence + 1, {"w": 1})


def test_reclaiming_raises_the_epoch_of_what_is_ones_own_and_pending(open_store: OpenStore) -> None:
    mine, other = Process(open_store(), "mine"), Process(open_store(), "other")
    mine.start("w", "v", "ended", "left alone")
    other.start("others")
    mine.commit(ending("ended"))
    again = mine.reclaim("v", "others", "w", "ended", "unknown")
    assert {each.workflow_id: (each.epoch, each.executor_id) for each in again} == {"w": (2, "mine"), "v": (2, "mine")}
    assert owned(mine.store, "mine") == (mine.fence, {"w": 2, "v": 2, "left alone": 1})
    assert mine.commit(ending("w"), ending("w", epoch=2)) == [Stale(Status.PENDING), APPLIED]


def test_what_was_acknowledged_before_a_takeover_is_all_there_is_after_it(open_store: OpenStore) -> None:
    """An owner commits as fast as it can while another process claims; whichever comes first, both agree."""
    old_store, heir = open_store(), Process(open_store(), "heir")
    for number in range(20):
        old = Process(old_store, f"old {number}")
        old.start(f"w{number}")
        acknowledged: list[int] = []
        under_way = threading.Event()

        def write(old: Process, workflow_id: str, acknowledged: list[int], under_way: threading.Event) -> None:
            try:
                for position in range(1, 100_000):
                    old.commit(*recording(workflow_id, entry(position)))
                    acknowledged.append(position)
                    under_way.set()
            except Fenced:
                pass

        thread = threading.Thread(target=write, args=(old, f"w{number}", acknowledged, under_way))
        thread.start()
        under_way.wait()
        heir.claim(old.executor_id)
        after_the_claim = [each.position for each in entries_of(heir.store, f"w{number}")]
        thread.join()
        assert after_the_claim == acknowledged


def test_several_processes_write_at_once(open_store: OpenStore) -> None:
    processes = [Process(open_store(), f"p{number}") for number in range(4)]
    processes[0].start("shared")

    def work(process: Process) -> None:
        for number in range(30):
            own = f"{process.executor_id}-{number}"
            process.commit(
                Unit(start=new(own)), sending(message("shared", own), message(own, "x")), taking(own, 1), ending(own)
            )

    threads = [threading.Thread(target=work, args=(each,)) for each in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    received = processes[0].drain("shared")
    assert len(received) == 120
    for process in processes:  # each sender's messages in the order it sent them
        mine = [each for each in received if each.startswith(f"{process.executor_id}-")]
        assert mine == [f"{process.executor_id}-{number}" for number in range(30)]


def test_what_is_pending_is_counted_by_name_version_owner_and_program(process: Process) -> None:
    process.start("w1", "w2", "ended")
    process.start("old1", "old2", app_version="v0")
    process.start("s", name="strange")
    process.start("done", name="strange")
    process.commit(ending("ended"), ending("done"))
    other = Process(process.store, "other", program="p")
    process.commit(Unit(start=new("of p", program="p")))
    other.start("w3")
    other.store.retire("other", other.fence)
    found = process.store.pending_groups()
    assert sorted(
        found, key=lambda each: (each.name, each.app_version, each.executor_id or "", each.program or "")
    ) == [
        PendingGroup("flow", "v0", process.executor_id, 2, "old1"),
        PendingGroup("flow", VERSION, None, 1, "w3", "p"),
        PendingGroup("flow", VERSION, process.executor_id, 2, "w1"),
        PendingGroup("flow", VERSION, process.executor_id, 1, "of p", "p"),
        PendingGroup("strange", VERSION, process.executor_id, 1, "s"),
    ]


def test_a_claim_counts_the_deaths_of_owners_and_nothing_else(store: Store) -> None:
    first, second, third = (Process(store, each) for each in ("1", "2", "3"))
    first.start("w")

    def attempts() -> int:
        return store.workflows(["w"])["w"].recovery_attempts

    assert attempts() == 0
    [claimed] = second.claim_records("1")
    assert (claimed.recovery_attempts, attempts()) == (1, 1)
    [reclaimed] = second.reclaim("w")
    assert (reclaimed.recovery_attempts, attempts()) == (1, 1), "it was its own already"
    store.retire("2", second.fence)
    [claimed] = third.claim_records()
    assert claimed.recovery_attempts == 1, "it was given back"


def test_a_version_that_could_not_continue_a_workflow_gives_it_up_for_good(process: Process) -> None:
    heir = Process(process.store, "heir")
    process.start("w", "other")
    nul_and_half = "operation 2\0\ud800"
    process.commit(Unit("w", 2, stuck=Stuck("v1", "operation 1", "of another", "epoch", 1)))
    process.commit(Unit("w", 1, stuck=Stuck(VERSION, nul_and_half, '"b"', "'a' \\u0000", NOW_MS)))
    found = process.store.workflows(["w", "other"])
    assert (found["w"].status, found["w"].executor_id) == (Status.PENDING, None)
    [stuck] = found["w"].stuck
    assert stuck == Stuck(VERSION, "operation 2\ufffd?", '"b"', "'a' \\u0000", NOW_MS)
    assert found["other"].stuck == ()
    assert heir.claim() == heir.claim(reserved=()) == []
    assert heir.claim(app_version="v2") == [], "only this version"
    assert heir.claim(app_version="v2", reserved=[VERSION]) == ["w"], "its version lives, but could not continue it"
    heir.commit(Unit("w", 2, stuck=Stuck("v2", "operation 1", "nor", "this one", NOW_MS)))
    assert heir.claim(app_version="v2", reserved=()) == heir.claim(reserved=()) == []
    assert [each.version for each in heir.store.workflows(["w"])["w"].stuck] == [VERSION, "v2"]
    heir.code_hash = "changed"
    assert heir.claim(app_version="v2") == ["w"], "changed code under the same version"
    heir.commit(Unit("w", 3, stuck=Stuck("v2", "operation 1", "nor", "changed", NOW_MS, "changed")))
    assert heir.claim(app_version="v2") == []


def test_what_could_not_be_continued_and_lost_its_process_again_has_no_owner(process: Process) -> None:
    """Without an owner it shows as stuck. What this claim left is counted as if it had been claimed."""
    able, heir = Process(process.store, "able"), Process(process.store, "heir")
    process.start("w", "other", "third")
    process.commit(Unit("w", 1, stuck=Stuck("v2", "operation 1", "a", "b", NOW_MS)))
    process.commit(Unit("third", 1, stuck=Stuck("v3", "operation 1", "a", "b", NOW_MS)))
    assert able.claim() == ["w", "third"]
    assert heir.claim(process.executor_id, able.executor_id, app_version="v2", reserved=()) == ["other", "third"]
    found = heir.store.workflows(["w", "other", "third"])
    assert {each: record.executor_id for each, record in found.items()} == {"w": None, "other": "heir", "third": "heir"}
    assert (found["w"].epoch, found["w"].recovery_attempts) == (3, 1)
    assert heir.claim() == ["w"]
    assert heir.store.workflows(["w"])["w"].recovery_attempts == 1


def test_other_versions_are_taken_over_unless_they_are_reserved(process: Process) -> None:
    heir = Process(process.store, "heir")
    for version in ("v1", "v2", "v3"):
        process.start(f"of {version}", app_version=version)
    assert heir.claim(process.executor_id, app_version="v9") == []
    assert heir.claim(process.executor_id, app_version="v9", reserved=["v2"]) == ["of v1", "of v3"]
    assert {each: record.app_version for each, record in heir.store.workflows(["of v1", "of v2"]).items()} == {
        "of v1": "v9",
        "of v2": "v2",
    }


def test_a_recovery_is_noted_under_its_epoch_alone(process: Process) -> None:
    process.start("w", "ended")
    process.commit(ending("ended"))
    noted = [
        Unit(each, epoch, recovery=Recovery(*what)) for each, epoch, what in (("w", 1, (3, 5)), ("ended", 1, (4, 6)))
    ]
    assert process.commit(*noted) == [APPLIED] * 2
    found = process.store.workflows(["w", "ended"])
    assert [(each.recovery_attempts, each.progress) for each in (found["w"], found["ended"])] == [(3, 5), (0, 0)]
    process.reclaim("w")
    process.commit(Unit("w", 1, recovery=Recovery(9, 9)))
    assert process.store.workflows(["w"])["w"].recovery_attempts == 3


# --- any text within the limits --------------------------------------------------------------------------------

UNUSUAL = [
    "it's",
    'say "hi"',
    "a::b",
    "a::b::c",
    "📨 naïve ✓",
    "%s %b {} {0} :name $1 ?",
    "\\ \\n \\x00 \\u0000",
    " spaces ",
    "tab\tnew\nline\r",
    "NULL",
    '["json"]',
    "{1,2}",
    "; drop table tidings_workflows; --",
    "\x7f\x01",
    "x" * 512,
    "📨" * 128,
]


@pytest.mark.parametrize("text", UNUSUAL, ids=range(len(UNUSUAL)))
def test_any_text_is_an_id_a_topic_a_key_a_name_and_a_value(process: Process, text: str) -> None:
    key = (text * (1024 // len(text.encode())))[:1024]
    process.commit(Unit(start=new(text, name=text, app_version=text, program=text)))
    process.start("plain")
    process.commit(
        Unit(text, 1, Entry(text, 1, 1, text, output=text)), *publishing(text, event(key, 1, text, position=2))
    )
    assert process.commit(sending(message(text, text, key, key=key), message("plain", "no"))) == [APPLIED]
    assert process.commit(sending(message(text, text, key, key=key))) == [APPLIED]
    assert process.drain(text, key) == [text]
    assert process.store.latest_events([(text, key), ("plain", key)])[0] == EventRead(text, Status.PENDING)
    assert process.store.all_events(text) == {key: text}
    first = history_of(process.store, text).entries[0].entry
    assert (first.branch, first.name, first.output) == (text, text, text)
    batch = process.batch(sending(message(f"no {text}")), Unit(start=new(text)))
    assert process.store.recall(batch) is None
    answers = process.store.commit(batch)
    assert answers == [NoSuchWorkflow((f"no {text}",)), InUse(process.store.workflows([text])[text])]
    assert process.store.recall(batch) == answers
    heir = Process(process.store, f"heir {text}", text, text)
    assert heir.claim("here", names=[text], app_version=text) == [text]
    assert text in {each.name for each in heir.store.pending_groups()}


def test_ids_that_would_run_together_are_apart(process: Process) -> None:
    process.start("a", "a::b", "a:")
    process.commit(sending(message("a", "1", "b::c"), message("a::b", "2", "c"), message("a:", "3", ":b::c")))
    process.commit(*publishing("a", event("b::c", 1, "1")), *publishing("a::b", event("c", 1, "2")))
    assert process.drain("a", "b::c") == ["1"]
    assert process.drain("a::b", "c") == ["2"]
    assert process.drain("a:", ":b::c") == ["3"]
    assert [each.value for each in process.store.latest_events([("a", "b::c"), ("a::b", "c")])] == ["1", "2"]


def test_a_value_may_have_16_mebibytes(process: Process) -> None:
    large = "é" * (8 * 1024 * 1024)
    process.start("w")
    process.commit(*recording("w", entry(1, large)), sending(message("w", large)))
    assert entries_of(process.store, "w")[0].output == large
    assert process.drain("w") == [large]


# --- before and after ------------------------------------------------------------------------------------------


@pytest.mark.unmigrated
def test_sixteen_processes_migrate_at_once(database_url: str) -> None:
    await_crowd(start_crowd("migrate", 16, database_url))


def test_migrating_again_keeps_everything(open_store: OpenStore, process: Process) -> None:
    process.start("w")
    process.store.migrate()
    assert status_of(open_store(), "w") is Status.PENDING


def test_a_newer_schema_is_refused(database_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store()
    monkeypatch.setattr(tidings.store.migrate, "SCHEMA_VERSION", 0)
    older_library = tidings.store.open(database_url)
    for start in (older_library.migrate, older_library.connect):
        with pytest.raises(
            DBOSInitializationError, match=r"schema version \d+ is newer than this library's 0: upgrade"
        ):
            start()


@pytest.mark.unmigrated
def test_a_database_without_the_schema_is_refused(database_url: str) -> None:
    store = tidings.store.open(database_url)
    with pytest.raises(DBOSInitializationError, match="migrate it first"):
        store.connect()


@pytest.mark.unmigrated
def test_closing_is_harmless_at_any_time(database_url: str) -> None:
    store = tidings.store.open(database_url)
    store.close()
    store.migrate()
    store.connect()
    store.close()
    store.close()


@pytest.mark.parametrize("reconnect", [Store.reconnect, Store.reconnect_reader], ids=["writer", "reader"])
def test_a_connection_can_be_replaced(process: Process, reconnect: Callable[[Store], None]) -> None:
    process.start("w")
    getattr(process.store, reconnect.__name__)()
    process.commit(*recording("w", entry(1)))
    assert entries_of(process.store, "w") == [entry(1)]


def test_the_clock_does_not_stand_still(store: Store) -> None:
    first, second = store.now_ms(), store.now_ms()
    assert NOW_MS < first <= second
