"""The checker: it finds nothing in a good run, and every promise that is broken, by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from chaos.histories import (
    CANCELLED,
    ERROR,
    PENDING,
    SUCCESS,
    Awaited,
    Ending,
    EventRead,
    EventSeen,
    Execution,
    FinalMessage,
    FinalWorkflow,
    Item,
    Left,
    Outcome,
    ProcessEnded,
    Received,
    Refused,
    Sending,
    Sent,
    Setting,
    Started,
    StepBegun,
    StepDone,
    StepReturned,
    StepsSampled,
    StreamEnded,
    StreamRead,
    StreamSeen,
    Told,
    Writing,
)
from chaos.violations import Kind, Noted, Violation
from tests.chaos.tale import (
    COUNT,
    FILED,
    GOT,
    MS,
    THOUGHTS,
    TOKENS,
    TOPIC,
    WATCHER,
    Tale,
    good_tale,
    recv,
)

Break = Callable[[Tale], object]

BREAKS: dict[str, tuple[Break, set[Kind]]] = {}


def breaks(*kinds: Kind) -> Callable[[Break], Break]:
    """Register a way to break a good tale, and what the checker is to call it."""

    def register(function: Break) -> Break:
        BREAKS[function.__name__] = (function, set(kinds))
        return function

    return register


def test_a_good_history_passes() -> None:
    assert good_tale().kinds() == set()


def test_a_violation_shows_what_it_follows_from() -> None:
    sent = Sent("s", 0, at=5)
    said = str(Violation(Kind.MESSAGE_LOST, "inbox", "message 0", (Noted("client-0.0", sent),)))
    assert said == f"message lost: inbox: message 0\n    client-0.0 at 5: {sent}"


# --- messages -------------------------------------------------------------------------------------------


def _got(tale: Tale, *messages: Received, unread: Sequence[Received] = (), why: str = "stop") -> None:
    """Let the inbox have received these, and left those."""
    tale.outcome("inbox", Outcome(SUCCESS, Told(received=messages, left=(Left(TOPIC, why),))))
    tale.edit("inbox", lambda steps: steps.__setitem__(slice(0, 4), [recv(10 + n, m) for n, m in enumerate(messages)]))
    tale.change(
        "inbox",
        messages=(
            *(FinalMessage(each.topic, each.sender, each.number, True) for each in messages),
            *(FinalMessage(each.topic, each.sender, each.number, False) for each in unread),
        ),
    )
    tale.drop(_SAMPLE)


_SAMPLE = next(each for each in good_tale().records["client-0.1"] if isinstance(each, StepsSampled))


@breaks(Kind.MESSAGE_LOST)
def an_acknowledged_message_is_not_there(tale: Tale) -> None:
    _got(tale, GOT[0], *GOT[2:])


@breaks(Kind.MESSAGE_LOST)
def a_message_under_a_key_is_not_there_though_one_of_its_sends_was_acknowledged(tale: Tale) -> None:
    _got(tale, *GOT[:2], GOT[3])


@breaks(Kind.MESSAGE_LOST)
def an_acknowledged_message_stays_unread_though_nothing_stopped_its_receiver(tale: Tale) -> None:
    _got(tale, *GOT[:2], GOT[3], unread=[GOT[2]], why="count")
    tale.drop(Sending("stop", 0, "inbox", TOPIC, at=290), Sent("stop", 0, at=295))
    tale.note("client-0.0", Sending("stop", 0, "inbox", TOPIC, at=205), Sent("stop", 0, at=290))


@breaks(Kind.MESSAGE_LOST)
def a_receive_times_out_though_the_message_was_there(tale: Tale) -> None:
    tale.swap(Sent("late", 0, at=5_000 * MS), Sent("late", 0, at=2_500 * MS))
    tale.swap(Sending("late", 0, "late", TOPIC, at=3_000 * MS), Sending("late", 0, "late", TOPIC, at=2_000 * MS))


@breaks(Kind.MESSAGE_DUPLICATED)
def a_message_is_received_twice(tale: Tale) -> None:
    _got(tale, GOT[0], GOT[0], *GOT[1:])


@breaks(Kind.MESSAGE_DUPLICATED, Kind.MESSAGE_REORDERED)
def a_repeat_under_a_key_is_stored_again(tale: Tale) -> None:
    _got(tale, *GOT, unread=[GOT[2]])


@breaks(Kind.MESSAGE_REORDERED)
def messages_of_one_sender_change_places(tale: Tale) -> None:
    _got(tale, GOT[1], GOT[0], *GOT[2:])


@breaks(Kind.MESSAGE_REORDERED)
def messages_of_two_senders_change_places_though_one_was_acknowledged_before(tale: Tale) -> None:
    _got(tale, GOT[0], GOT[2], GOT[1], GOT[3])


@breaks(Kind.MESSAGE_REORDERED)
def a_message_stays_unread_behind_a_stop_that_was_sent_later(tale: Tale) -> None:
    _got(tale, *GOT[:2], GOT[3], unread=[GOT[2]])


@breaks(Kind.MESSAGE_INVENTED)
def a_message_that_nobody_sent_is_received(tale: Tale) -> None:
    _got(tale, *GOT[:3], Received(TOPIC, "s", 17), GOT[3])


@breaks(Kind.MESSAGE_INVENTED)
def a_message_that_was_refused_is_received(tale: Tale) -> None:
    tale.swap(Sending("s", 3, "nobody", TOPIC, at=280), Sending("s", 3, "inbox", TOPIC, at=280))
    _got(tale, *GOT[:3], Received(TOPIC, "s", 3), GOT[3])


@breaks(Kind.MESSAGE_INVENTED)
def a_message_arrives_on_another_topic(tale: Tale) -> None:
    tale.swap(Sending("s", 0, "inbox", TOPIC, at=200), Sending("s", 0, "inbox", "another", at=200))


@breaks(Kind.MESSAGE_INVENTED, Kind.MESSAGE_LOST)
def a_message_arrives_elsewhere(tale: Tale) -> None:
    tale.swap(Sending("s", 0, "inbox", TOPIC, at=200), Sending("s", 0, "late", TOPIC, at=200))


@breaks(Kind.MESSAGE_UNRECORDED)
def code_gets_another_message_than_is_recorded(tale: Tale) -> None:
    sent = [each for records in tale.records.values() for each in records if isinstance(each, Sending)]
    for each in sent:
        tale.swap(each, replace(each, at=150))  # All at once: any order is right.
    tale.outcome("inbox", Outcome(SUCCESS, Told(received=(GOT[1], GOT[0], *GOT[2:]), left=(Left(TOPIC, "stop"),))))


@breaks(Kind.MESSAGE_UNRECORDED)
def a_message_is_recorded_as_received_and_not_marked_as_read(tale: Tale) -> None:
    messages = tale.workflows["inbox"].messages
    tale.change("inbox", messages=(*messages[:3], replace(messages[3], is_read=False)))


# --- steps ----------------------------------------------------------------------------------------------


@breaks(Kind.STEP_RAN_AGAIN)
def a_step_runs_again_after_its_result_was_returned(tale: Tale) -> None:
    tale.note("worker-1.0", StepBegun("inbox", "file", "w1#9", 2, at=302))


@breaks(Kind.STEP_RAN_AGAIN)
def a_step_runs_again_after_its_record_was_listed(tale: Tale) -> None:
    tale.drop(*(StepReturned("inbox", "file", epoch, "w0#1", at=at) for epoch, at in ((1, 217), (2, 301))))
    tale.note("worker-1.0", StepBegun("inbox", "file", "w1#9", 2, at=308))


@breaks(Kind.STEP_RAN_AGAIN)
def a_step_that_failed_for_good_runs_again(tale: Tale) -> None:
    tale.note("worker-1.0", StepBegun("failing", "risk", "w1#9", 1, at=460))


@breaks(Kind.STEP_RESULT_CHANGED)
def a_record_that_was_listed_changes(tale: Tale) -> None:
    tale.swap(_SAMPLE, StepsSampled("inbox", (replace(FILED, output="w0#7"),), at=307))


@breaks(Kind.STEP_RESULT_CHANGED)
def two_executions_get_different_results(tale: Tale) -> None:
    before = StepReturned("inbox", "file", 2, "w0#1", at=301)
    tale.swap(before, replace(before, attempt="w1#0"))


@breaks(Kind.STEP_RECORD_LOST)
def a_record_that_was_listed_vanishes(tale: Tale) -> None:
    tale.swap(_SAMPLE, replace(_SAMPLE, steps=(*_SAMPLE.steps, replace(FILED, function_id=9, name="other"))))


@breaks(Kind.STEP_RECORD_LOST)
def a_step_that_returned_is_not_recorded(tale: Tale) -> None:
    tale.edit("publisher", lambda steps: steps.clear())


@breaks(Kind.STEP_RESULT_INVENTED)
def a_result_is_recorded_that_no_try_had(tale: Tale) -> None:
    tale.drop(StepDone("inbox", "file", "w0#1", at=216))


@breaks(Kind.STEP_RESULT_INVENTED)
def an_error_is_recorded_though_no_try_failed(tale: Tale) -> None:
    done = next(each for each in tale.records["worker-0.0"] if isinstance(each, StepDone) and each.step == "risk")
    tale.drop(done)


@breaks(Kind.STEP_OF_OVERTAKEN)
def an_overtaken_execution_records_a_step(tale: Tale) -> None:
    tale.drop(StepBegun("inbox", "file again", "w1#1", 2, at=302), _SAMPLE)
    tale.edit("inbox", lambda steps: steps.__setitem__(5, replace(steps[5], output="w0#2")))
    tale.swap(
        StepReturned("inbox", "file again", 2, "w1#1", at=304), StepReturned("inbox", "file again", 2, "w0#2", at=308)
    )
    tale.note("worker-0.0", StepReturned("inbox", "file again", 1, "w0#2", at=307))


# --- events ---------------------------------------------------------------------------------------------


@breaks(Kind.EVENT_INVENTED)
def a_version_is_read_that_was_never_published(tale: Tale) -> None:
    tale.note("client-0.0", EventRead("other", "publisher", COUNT, 7, 180, at=181))
    tale.change("publisher", events={COUNT: 7})


@breaks(Kind.EVENT_INVENTED)
def a_version_is_read_before_it_was_published(tale: Tale) -> None:
    tale.swap(Setting("publisher", COUNT, 2, at=160), Setting("publisher", COUNT, 2, at=169))


@breaks(Kind.EVENT_INVENTED)
def a_workflow_reads_a_version_that_was_never_published(tale: Tale) -> None:
    assert WATCHER.told is not None
    told = replace(WATCHER.told, events=(*WATCHER.told.events, EventSeen("publisher", COUNT, 8)))
    tale.outcome("watcher", Outcome(SUCCESS, told))


@breaks(Kind.EVENT_BACKWARDS)
def versions_run_backwards_for_one_reader(tale: Tale) -> None:
    tale.note("client-0.0", EventRead("r", "publisher", COUNT, 2, 174, at=176))


@breaks(Kind.EVENT_BACKWARDS)
def an_event_vanishes_for_its_reader(tale: Tale) -> None:
    tale.note("client-0.0", EventRead("r", "publisher", COUNT, None, 174, at=176))


@breaks(Kind.EVENT_BACKWARDS)
def versions_run_backwards_for_a_workflow(tale: Tale) -> None:
    assert WATCHER.told is not None
    told = replace(WATCHER.told, events=WATCHER.told.events[::-1])
    tale.outcome("watcher", Outcome(SUCCESS, told))


@breaks(Kind.EVENT_BACKWARDS)
def the_last_version_is_older_than_one_that_was_read(tale: Tale) -> None:
    tale.change("publisher", events={COUNT: 2})


@breaks(Kind.EVENT_STALE)
def a_reader_is_given_what_another_one_was_given_newer_before(tale: Tale) -> None:
    tale.note("client-0.1", EventRead("other", "publisher", COUNT, 1, 163, at=164))


@breaks(Kind.EVENT_STALE)
def a_version_is_not_there_though_a_step_behind_it_has_begun(tale: Tale) -> None:
    tale.swap(EventRead("r", "publisher", COUNT, 1, 151, at=152), EventRead("r", "publisher", COUNT, None, 151, at=152))


@breaks(Kind.EVENT_LOST)
def the_last_version_was_never_there(tale: Tale) -> None:
    tale.note("worker-0.0", Setting("publisher", COUNT, 4, at=190))


# --- streams --------------------------------------------------------------------------------------------


def _stream(tale: Tale, key: str, *items: Item) -> None:
    streams = tale.workflows["publisher"].streams
    tale.change("publisher", streams={**streams, key: items})


def _nobody_read(tale: Tale, key: str) -> None:
    read = [
        each
        for records in tale.records.values()
        for each in records
        if isinstance(each, (StreamRead, StreamEnded)) and each.key == key
    ]
    tale.drop(*read)
    tale.outcome("watcher", Outcome(SUCCESS, Told()))


@breaks(Kind.STREAM_INVENTED)
def an_item_is_there_that_nobody_wrote(tale: Tale) -> None:
    _stream(tale, THOUGHTS, *tale.workflows["publisher"].streams[THOUGHTS], Item(0, "w9#9"))


@breaks(Kind.STREAM_DUPLICATED)
def an_item_of_a_workflow_is_there_twice(tale: Tale) -> None:
    _nobody_read(tale, TOKENS)
    _stream(tale, TOKENS, Item(0), Item(1), Item(1), Item(2))


@breaks(Kind.STREAM_DUPLICATED)
def an_item_of_a_try_is_there_twice(tale: Tale) -> None:
    _stream(tale, THOUGHTS, Item(0, "w0#3"), Item(0, "w0#4"), Item(0, "w0#4"), Item(1, "w0#4"))


@breaks(Kind.STREAM_REORDERED)
def items_of_a_try_change_places(tale: Tale) -> None:
    _stream(tale, THOUGHTS, Item(0, "w0#3"), Item(1, "w0#4"), Item(0, "w0#4"))


@breaks(Kind.STREAM_ITEM_LOST)
def an_item_of_a_workflow_is_missing(tale: Tale) -> None:
    _nobody_read(tale, TOKENS)
    _stream(tale, TOKENS, Item(0), Item(2))


@breaks(Kind.STREAM_ITEM_LOST)
def the_last_item_of_a_workflow_is_missing(tale: Tale) -> None:
    _nobody_read(tale, TOKENS)
    _stream(tale, TOKENS, Item(0), Item(1))


@breaks(Kind.STREAM_ITEM_LOST)
def an_item_of_a_recorded_try_is_missing(tale: Tale) -> None:
    _stream(tale, THOUGHTS, Item(0, "w0#3"), Item(0, "w0#4"))


@breaks(Kind.STREAM_ITEM_LOST)
def an_item_is_missing_before_a_later_one_of_its_try(tale: Tale) -> None:
    _stream(tale, THOUGHTS, Item(1, "w0#3"), Item(0, "w0#4"), Item(1, "w0#4"))


@breaks(Kind.STREAM_GAP)
def a_reader_misses_an_item(tale: Tale) -> None:
    tale.note("client-0.1", StreamRead("third", "publisher", TOKENS, 0, (Item(0),), at=600))
    tale.note("client-0.1", StreamRead("third", "publisher", TOKENS, 2, (Item(2),), at=601))


@breaks(Kind.STREAM_GAP)
def a_reader_gets_an_item_twice(tale: Tale) -> None:
    tale.note("client-0.1", StreamRead("middle", "publisher", TOKENS, 2, (Item(2),), at=601))


@breaks(Kind.STREAM_CHANGED)
def an_item_is_another_one_when_it_is_read_again(tale: Tale) -> None:
    tale.note("client-0.1", StreamRead("third", "publisher", TOKENS, 0, (Item(0), Item(7)), at=600))


@breaks(Kind.STREAM_CHANGED)
def a_workflow_reads_another_item(tale: Tale) -> None:
    seen = StreamSeen("publisher", TOKENS, 1, (Item(1), Item(7)))
    tale.outcome("watcher", Outcome(SUCCESS, Told(streams=(seen,))))


@breaks(Kind.STREAM_TRUNCATED)
def the_stream_is_shorter_than_what_was_read(tale: Tale) -> None:
    tale.note("client-0.1", StreamRead("third", "publisher", THOUGHTS, 2, (Item(1, "w0#4"), Item(2, "w0#4")), at=600))


@breaks(Kind.STREAM_CUT_SHORT)
def a_reader_is_told_the_end_before_it(tale: Tale) -> None:
    tale.note("client-0.1", StreamEnded("middle 2", "publisher", TOKENS, 1, at=600))


@breaks(Kind.STREAM_CUT_SHORT)
def a_workflow_is_told_the_end_before_it(tale: Tale) -> None:
    seen = StreamSeen("publisher", TOKENS, 0, (Item(0),))
    tale.outcome("watcher", Outcome(SUCCESS, Told(streams=(seen,))))


# --- workflows ------------------------------------------------------------------------------------------


@breaks(Kind.WORKFLOW_LOST)
def a_workflow_that_was_started_is_not_there(tale: Tale) -> None:
    tale.note("client-0.0", Started("never begun", at=492))


@breaks(Kind.WORKFLOW_INVENTED)
def a_workflow_is_there_that_nobody_started(tale: Tale) -> None:
    tale.end(FinalWorkflow("surprise", "chaos.child", Outcome(SUCCESS, Told())))
    tale.note("worker-0.0", Ending("surprise", 1, Outcome(SUCCESS, Told()), at=600))


@breaks(Kind.WORKFLOW_WITHOUT_END)
def a_workflow_never_ends(tale: Tale) -> None:
    tale.drop(Awaited("victim", Outcome(CANCELLED), at=520))
    tale.change("victim", outcome=Outcome(PENDING))


@breaks(Kind.WORKFLOW_ENDED_TWICE)
def somebody_is_told_another_end(tale: Tale) -> None:
    tale.note("client-0.0", Awaited("watcher", Outcome(SUCCESS, Told(value="other")), at=521))


@breaks(Kind.WORKFLOW_ENDED_TWICE)
def an_execution_comes_to_another_end(tale: Tale) -> None:
    tale.note("worker-0.0", Ending("watcher", 1, Outcome(SUCCESS, Told(value="other")), at=521))


@breaks(Kind.WORKFLOW_ENDED_TWICE)
def somebody_is_told_of_an_end_and_it_is_cancelled(tale: Tale) -> None:
    tale.note("client-0.0", Awaited("victim", Outcome(SUCCESS, Told()), at=521))


@breaks(Kind.WORKFLOW_END_INVENTED)
def a_workflow_ends_though_no_execution_came_to_its_end(tale: Tale) -> None:
    tale.drop(*(each for each in tale.records["worker-1.0"] if isinstance(each, Ending)))


@breaks(Kind.WORKFLOW_FAILED)
def a_workflow_ends_with_an_error_of_the_library(tale: Tale) -> None:
    tale.outcome("watcher", Outcome(ERROR, error="DBOSUnexpectedStepError: other step"))


@breaks(Kind.WORKFLOW_CANCELLED)
def a_workflow_is_cancelled_that_nobody_cancelled(tale: Tale) -> None:
    tale.outcome("watcher", Outcome(CANCELLED))


@breaks(Kind.EPOCH_SHARED)
def two_processes_execute_under_one_epoch(tale: Tale) -> None:
    tale.note("worker-2.0", Execution("inbox", 2, at=310))


# --- processes ------------------------------------------------------------------------------------------


@breaks(Kind.PROCESS_DIED)
def a_process_ends_by_itself(tale: Tale) -> None:
    tale.note("conductor", ProcessEnded("worker-2.0", None, 1, at=700))


@breaks(Kind.PROCESS_DIED)
def a_process_fails_when_it_is_told_to_end(tale: Tale) -> None:
    tale.note("conductor", ProcessEnded("worker-2.0", "terminate", 1, at=700))


@breaks(Kind.PROCESS_STUCK)
def a_process_does_not_end_when_it_is_told_to(tale: Tale) -> None:
    tale.note("conductor", ProcessEnded("worker-2.0", "terminate", None, at=700))


# --- all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_called_by_its_name(name: str) -> None:
    broken, kinds = BREAKS[name]
    tale = good_tale()
    broken(tale)
    assert tale.kinds() == kinds


def test_each_kind_of_violation_is_shown_to_be_found() -> None:
    assert {kind for _, kinds in BREAKS.values() for kind in kinds} == set(Kind)


def test_what_is_not_known_may_have_happened_or_not() -> None:
    tale = good_tale()
    _got(tale, *GOT[:3], Received(TOPIC, "s", 2), GOT[3])  # its send failed
    assert tale.kinds() == set()
    tale.drop(Refused("s", 3, at=281))
    assert tale.kinds() == set()


def test_what_is_sent_side_by_side_may_come_in_any_order() -> None:
    tale = good_tale()
    tale.swap(Sending("s", 1, "inbox", TOPIC, at=220), Sending("s", 1, "inbox", TOPIC, at=209))
    _got(tale, GOT[1], GOT[0], *GOT[2:])
    assert tale.kinds() == set()


def test_what_a_stop_or_a_time_limit_left_unread_is_not_lost() -> None:
    tale = good_tale()
    tale.note("client-0.0", Sending("s", 9, "inbox", TOPIC, at=296), Sent("s", 9, at=297))
    _got(tale, *GOT, unread=[Received(TOPIC, "s", 9)])
    assert tale.kinds() == set()


def test_a_version_that_only_a_dead_process_meant_to_publish_need_not_be_there() -> None:
    tale = good_tale()
    tale.note("worker-0.0", Setting("publisher", COUNT, 4, at=190), Writing("publisher", TOKENS, 3, at=191))
    tale.outcome("publisher", Outcome(ERROR, error="MeantError: before that"))
    assert tale.kinds() == set()
