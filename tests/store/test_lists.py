"""What every store must list: workflows by a filter, the steps of one, its messages. On both backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.store.conftest import OpenStore
from tests.store.driver import (
    NOW_MS,
    VERSION,
    Process,
    ending,
    entry,
    event,
    message,
    new,
    opened,
    publishing,
    recording,
    sending,
)
from tidings.model import (
    InUse,
    NewWorkflow,
    RecordedEntry,
    Status,
    StoredMessage,
    Take,
    Taken,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store.lists import bounds_of
from tidings.store.protocol import Store, Unavailable

METHOD = NewWorkflow(
    "method", "flow", "[]", "json", VERSION, None, NOW_MS, "Shop", "north", timeout_ms=5_000, deadline_ms=NOW_MS + 5_000
)


def ids_of(store: Store, **wanted: Any) -> list[str]:
    """The ids of a list."""
    return [each.workflow_id for each in store.list_workflows(WorkflowFilter(**wanted))]


def record_of(store: Store, workflow_id: str) -> WorkflowRecord:
    return store.workflows([workflow_id])[workflow_id]


def take(process: Process, workflow_id: str, position: int, topic: str | None = None) -> Taken:
    """Take a message that is there."""
    taken = process.take(workflow_id, position, topic)
    assert isinstance(taken, Taken)
    return taken


def starting(*workflow_ids: str, parent_id: str | None = None) -> list[Unit]:
    """Units that start workflows, each created a millisecond later than the one before."""
    return [
        Unit(start=replace(new(each, parent_id=parent_id), created_at_ms=NOW_MS + number))
        for number, each in enumerate(workflow_ids)
    ]


# --- what timeouts and methods keep ------------------------------------------------------------------------


def test_every_answer_shows_class_instance_timeout_and_deadline(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.commit(Unit(start=METHOD))
    started = record_of(old.store, "method")
    kept = (started.class_name, started.config_name, started.timeout_ms, started.deadline_ms)
    assert kept == ("Shop", "north", 5_000, NOW_MS + 5_000)
    assert old.store.list_workflows(WorkflowFilter()) == [started]
    assert old.commit(Unit(start=METHOD)) == [InUse(started)]
    [again] = old.store.reclaim(old.executor, ["method"])
    assert again == replace(started, epoch=2)
    [claimed] = heir.store.claim(heir.executor, ["old"], ["flow"], VERSION, 1)
    assert claimed == replace(started, epoch=3, executor_id="heir", recovery_attempts=1)


def test_a_workflow_without_them_has_none(process: Process) -> None:
    process.start("w")
    plain = record_of(process.store, "w")
    assert (plain.class_name, plain.config_name, plain.timeout_ms, plain.deadline_ms) == (None, None, None, None)


# --- statuses ------------------------------------------------------------------------------------------------


def test_statuses_are_those_of_workflows_that_exist(process: Process) -> None:
    process.start("pending", "done", "failed", "cancelled", "not asked for")
    process.commit(ending("done"), ending("failed", Status.ERROR), Unit(cancels=("cancelled",)))
    assert process.store.statuses(["cancelled", "done", "unknown", "failed", "pending", "done"]) == {
        "pending": Status.PENDING,
        "done": Status.SUCCESS,
        "failed": Status.ERROR,
        "cancelled": Status.CANCELLED,
    }
    assert process.store.statuses([]) == {}


# --- lists of workflows ----------------------------------------------------------------------------------------


def test_a_list_is_in_the_order_of_starting_or_the_reverse(process: Process) -> None:
    process.commit(*starting("z", "a"))
    process.commit(*starting("m"))  # under an earlier time than "a": the order is not that of the clock
    assert ids_of(process.store) == ["z", "a", "m"]
    assert ids_of(process.store, newest_first=True) == ["m", "a", "z"]
    assert process.store.list_workflows(WorkflowFilter()) == [record_of(process.store, each) for each in "zam"]


WAYS = {
    "by ids": {"workflow_ids": tuple(f"w{number}" for number in range(9, -1, -1))},
    "by parent": {"parent_id": "parent"},
    "by prefix": {"id_prefix": "w"},
    "pending": {"statuses": (Status.PENDING,), "names": ("flow",)},
    "by walking": {"names": ("flow",)},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_pages_follow_one_another_in_either_order(process: Process, way: dict[str, Any]) -> None:
    ids = [f"w{number}" for number in range(10)]
    process.start("parent", name="another")
    process.commit(*starting(*ids, parent_id="parent"))
    store = process.store
    assert ids_of(store, **way) == ids
    assert ids_of(store, **way, newest_first=True) == ids[::-1]
    assert ids_of(store, **way, limit=3) == ids[:3]
    assert ids_of(store, **way, limit=3, offset=3) == ids[3:6]
    assert ids_of(store, **way, offset=8) == ids[8:]
    assert ids_of(store, **way, newest_first=True, limit=3, offset=8) == ["w1", "w0"]
    assert ids_of(store, **way, limit=3, offset=10) == []
    assert ids_of(store, **way, limit=0) == []


def test_each_condition_narrows_the_list(open_store: OpenStore) -> None:
    here, there = Process(open_store(), "here"), Process(open_store(), "there")
    store = here.store
    here.commit(*starting("parent", "old", "new"))
    here.start("other name", name="other")
    there.start("other version", app_version="v2")
    here.commit(*starting("child", parent_id="parent"))
    here.commit(ending("old"), ending("new", Status.ERROR))

    assert ids_of(store, workflow_ids=("new", "unknown", "old", "new")) == ["old", "new"]
    assert ids_of(store, statuses=(Status.SUCCESS,)) == ["old"]
    assert ids_of(store, statuses=(Status.ERROR, Status.SUCCESS)) == ["old", "new"]
    assert ids_of(store, statuses=(Status.CANCELLED,)) == []
    assert ids_of(store, names=("other", "unknown")) == ["other name"]
    assert ids_of(store, app_version="v2") == ["other version"]
    assert ids_of(store, parent_id="parent") == ["child"]
    assert ids_of(store, parent_id="child") == []
    assert ids_of(store, executor_id="there") == ["other version"]
    assert ids_of(store, statuses=(Status.PENDING,), executor_id="here") == ["parent", "other name", "child"]


def test_the_bounds_of_a_time_are_inclusive(process: Process) -> None:
    process.commit(*starting("a", "b", "c", "d"))
    assert ids_of(process.store, from_ms=NOW_MS + 1) == ["b", "c", "d"]
    assert ids_of(process.store, until_ms=NOW_MS + 1) == ["a", "b"]
    assert ids_of(process.store, from_ms=NOW_MS + 1, until_ms=NOW_MS + 2) == ["b", "c"]
    assert ids_of(process.store, from_ms=NOW_MS + 2, until_ms=NOW_MS + 1) == []


def test_all_conditions_count_whichever_leads_to_the_workflows(process: Process) -> None:
    process.start("parent")
    process.commit(*starting("c1", "c2", "x3", parent_id="parent"))
    process.commit(*starting("c4"), ending("c2"))
    store = process.store
    everything = {
        "workflow_ids": ("c1", "c2", "x3", "c4"),
        "parent_id": "parent",
        "id_prefix": "c",
        "statuses": (Status.PENDING,),
        "names": ("flow",),
        "from_ms": NOW_MS,
        "until_ms": NOW_MS + 2,
        "app_version": VERSION,
        "executor_id": "here",
    }
    assert ids_of(store, **everything) == ["c1"]
    missing = {
        "workflow_ids": ("c4",),
        "parent_id": "another",
        "id_prefix": "x1",
        "statuses": (Status.ERROR,),
        "names": ("other",),
        "from_ms": NOW_MS + 1,
        "until_ms": NOW_MS - 1,
        "app_version": "v2",
        "executor_id": "there",
    }
    assert missing.keys() == everything.keys()
    for name, value in missing.items():
        assert ids_of(store, **everything | {name: value}) == []
    del everything["workflow_ids"]
    assert ids_of(store, **everything) == ["c1"]
    del everything["parent_id"]
    assert ids_of(store, **everything) == ["c1", "c4"]


@pytest.mark.parametrize("name", ["workflow_ids", "statuses", "names"])
def test_an_empty_tuple_matches_nothing(process: Process, name: str) -> None:
    process.start("w")
    assert ids_of(process.store, **{name: ()}) == []
    assert ids_of(process.store, **{"workflow_ids": ("w",)} | {name: ()}) == []


ODD_IDS = [
    "a",
    "A",
    "a%",
    "a%b",
    "ab",
    "a_",
    "a_b",
    "a*",
    "a[b]",
    "a?",
    "a\\",
    "ä",
    "ä1",
    "a\ud7ff",
    "a\ue000",
    "📨",
    "📨x",
]
LAST = "\U0010ffff"


@pytest.mark.parametrize("prefix", ["", "a", "A", "b", "a%", "a_", "a*", "a[", "a?", "a\\", "ä", "a\ud7ff", "📨", "'"])
def test_a_prefix_means_itself(process: Process, prefix: str) -> None:
    process.start(*ODD_IDS)
    assert ids_of(process.store, id_prefix=prefix) == [each for each in ODD_IDS if each.startswith(prefix)]


def test_a_prefix_may_end_with_the_last_character_there_is(process: Process) -> None:
    ids = [LAST, LAST + LAST, "a" + LAST, "a" + LAST + "b", "b", LAST + "a"]
    process.start(*ids)
    for prefix in (LAST, LAST + LAST, "a" + LAST):
        assert ids_of(process.store, id_prefix=prefix) == [each for each in ids if each.startswith(prefix)]


def test_the_bounds_of_a_prefix_enclose_it() -> None:
    assert bounds_of("") == ("", None)
    assert bounds_of("ab") == ("ab", "ac")
    assert bounds_of("a\ud7ff") == ("a\ud7ff", "a\ue000")  # what lies between are no characters
    assert bounds_of("a" + LAST) == ("a" + LAST, "b")
    assert bounds_of(LAST) == (LAST, None)


@pytest.mark.parametrize("text", ["w\0", "\0", "\ud800", "w\udfff"])
def test_text_that_no_store_can_hold_matches_nothing(process: Process, text: str) -> None:
    process.start("w")
    for name in ("app_version", "parent_id", "executor_id", "id_prefix"):
        assert ids_of(process.store, **{name: text}) == []
    assert ids_of(process.store, workflow_ids=(text,)) == []
    assert ids_of(process.store, workflow_ids=(text, "w")) == ["w"]
    assert ids_of(process.store, names=("flow", text)) == ["w"]


def test_values_may_be_left_out(process: Process) -> None:
    process.start("good", "bad")
    process.commit(ending("good"), ending("bad", Status.ERROR))
    good, bad = process.store.list_workflows(WorkflowFilter())
    assert (good.inputs, good.output, good.error) == ('["flow"]', "result", None)
    assert (bad.inputs, bad.output, bad.error) == ('["flow"]', None, "error")
    assert process.store.list_workflows(WorkflowFilter(with_inputs=False)) == [
        replace(each, inputs=None) for each in (good, bad)
    ]
    assert process.store.list_workflows(WorkflowFilter(with_outputs=False)) == [
        replace(each, output=None, error=None) for each in (good, bad)
    ]
    for way in ({"workflow_ids": ("bad",)}, {"id_prefix": "b"}, {"names": ("flow",), "newest_first": True, "limit": 1}):
        wanted = WorkflowFilter(**way, with_inputs=False, with_outputs=False)
        assert process.store.list_workflows(wanted) == [replace(bad, inputs=None, output=None, error=None)]


def test_a_list_may_be_of_many(process: Process) -> None:
    ids = [f"w{number}" for number in range(3_000)]
    process.start(*ids)
    assert ids_of(process.store) == ids
    assert ids_of(process.store, workflow_ids=tuple(ids[::-1]), offset=1) == ids[1:]


# --- the steps of one workflow ------------------------------------------------------------------------------------


def test_steps_are_what_a_history_has(process: Process) -> None:
    process.start("w", "another")
    process.commit(sending(message("w", "hello", "T")))
    process.commit(*recording("w", entry(5, "five"), entry(1, "one")), *recording("another", entry(1)))
    process.commit(*publishing("w", event("k", 1, "v", position=4), event("k", 2, "in a step")))
    process.commit(Unit("w", 1, replace(entry(2), error="went wrong", child_workflow_id="child", finished=1, begun=2)))
    process.commit(*recording("w", opened(6, NOW_MS + 1)))
    take(process, "w", 3, "T")
    [history] = process.store.histories(["w"])
    assert [each.entry.ordinal for each in history.entries] == [1, 2, 3, 4, 5, 6]
    assert process.store.steps("w", None, 0, True) == list(history.entries)


def test_steps_come_in_pages(process: Process) -> None:
    process.start("w")
    process.commit(*recording("w", *(entry(number, branch=str(number % 3)) for number in range(9, 0, -2))))
    process.commit(*publishing("w", *(event(f"k{number}", 1, "v", position=number) for number in range(2, 9, 2))))

    def page(limit: int | None, offset: int) -> list[int]:
        found = process.store.steps("w", limit, offset, True)
        assert found is not None
        return [each.entry.ordinal for each in found]

    assert page(None, 0) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert page(4, 0) == [1, 2, 3, 4]
    assert page(4, 4) == [5, 6, 7, 8]
    assert page(4, 8) == [9]
    assert page(None, 7) == [8, 9]
    assert page(4, 9) == []
    assert page(0, 0) == []


def test_steps_without_outputs_show_all_but_values(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "hello", "T")))
    done, failed = entry(1, "out"), replace(entry(2), error="err")
    process.commit(*recording("w", done, failed), *publishing("w", event("k", 1, "v", position=4)))
    taken = take(process, "w", 3, "T")
    found = process.store.steps("w", None, 0, False)
    assert found is not None
    assert found[:3] == [
        RecordedEntry(replace(done, output=None)),
        RecordedEntry(replace(failed, error=None)),
        RecordedEntry(entry(3), replace(taken, body="")),
    ]
    assert found[3].key == "k"
    assert len(found) == 4


def test_a_workflow_without_steps_is_told_from_none(process: Process) -> None:
    process.start("w")
    assert process.store.steps("w", None, 0, True) == []
    assert process.store.steps("unknown", None, 0, True) is None


# --- the messages of one workflow ------------------------------------------------------------------------------------


def messages_of(process: Process, limit: int | None = None, offset: int = 0) -> list[StoredMessage]:
    found = process.store.messages("w", limit, offset)
    assert found is not None
    return found


def test_messages_are_listed_read_and_unread_in_the_order_of_their_sending(process: Process) -> None:
    process.start("w", "another")
    process.commit(sending(message("w", "1"), message("another", "2"), message("w", "3", "T", key="k")))
    process.commit(sending(message("w", "4"), message("w", "5", "")))
    process.commit(*recording("w", entry(1)))
    process.take("another", 9)
    third = take(process, "w", 2, "T")
    first = take(process, "w", 3)
    listed = messages_of(process)
    assert [replace(each, seq=0) for each in listed] == [
        StoredMessage(0, None, "1", "sender", None, NOW_MS, 3),
        StoredMessage(0, "T", "3", "sender", "k", NOW_MS, 2),
        StoredMessage(0, None, "4", "sender", None, NOW_MS, None),
        StoredMessage(0, "", "5", "sender", None, NOW_MS, None),
    ]
    numbers = [each.seq for each in listed]
    assert numbers == sorted(numbers)
    assert numbers[:2] == [first.seq, third.seq]


def test_a_message_is_read_by_the_operation_by_its_ordinal(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w")))
    process.commit(Unit("w", 1, entry(1, branch="1.2", ordinal=7), take=Take(None)))
    assert [each.read_by for each in messages_of(process)] == [7]


def test_a_message_that_was_put_back_is_unread_and_there_once(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "1"), message("w", "2")))
    first = take(process, "w", 1)
    process.commit(Unit("w", 1, replace(entry(1), output="given up"), put_back=first.seq))
    assert [(each.body, each.read_by) for each in messages_of(process)] == [("1", None), ("2", None)]
    take(process, "w", 2)
    assert [(each.body, each.read_by) for each in messages_of(process)] == [("1", 2), ("2", None)]


def test_a_message_is_listed_once_whatever_entries_point_at_it(process: Process) -> None:
    """One that is put back without a word about the operation that took it leaves that one's entry as it was."""
    process.start("w")
    process.commit(sending(message("w")))
    process.commit(Unit("w", 1, put_back=take(process, "w", 1).seq))
    assert [each.read_by for each in messages_of(process)] == [None]
    process.commit(Unit("w", 1, entry(1, branch="1", ordinal=2), take=Take(None)))
    assert [each.read_by for each in messages_of(process)] == [2]


def test_messages_come_in_pages(process: Process) -> None:
    process.start("w")
    process.commit(sending(*(message("w", str(number), f"T{number % 3}") for number in range(10))))
    for position, topic in enumerate(["T1", "T0", "T1", "T2"], 1):
        take(process, "w", position, topic)

    def page(limit: int | None, offset: int) -> list[str]:
        return [each.body for each in messages_of(process, limit, offset)]

    assert page(None, 0) == list("0123456789")
    assert page(4, 0) == list("0123")
    assert page(4, 4) == list("4567")
    assert page(4, 8) == list("89")
    assert page(None, 9) == ["9"]
    assert page(4, 10) == []
    assert page(0, 0) == []


def test_a_workflow_without_messages_is_told_from_none(process: Process) -> None:
    process.start("w")
    assert process.store.messages("w", None, 0) == []
    assert process.store.messages("unknown", None, 0) is None


# --- every way of reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.statuses(["w"]),
        lambda store: store.list_workflows(WorkflowFilter()),
        lambda store: store.steps("w", None, 0, True),
        lambda store: store.messages("w", None, 0),
    ],
    ids=["statuses", "workflows", "steps", "messages"],
)
def test_without_a_connection_lists_are_unavailable(store: Store, read: Callable[[Store], object]) -> None:
    store.close()
    with pytest.raises(Unavailable):
        read(store)
