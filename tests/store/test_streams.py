"""What every store must keep of streams: their items, in pages, and their ends. On both backends."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from tests.store.conftest import OpenStore
from tests.store.driver import (
    LEASE_MS,
    NOW_MS,
    Process,
    appending,
    closing,
    ending,
    entry,
    event,
    item,
    publishing,
    recording,
    sending,
    streaming,
)
from tests.store.driver import message as letter
from tests.support.rows import Rows
from tidings.model import (
    APPLIED,
    Answer,
    Entry,
    EntryState,
    Executor,
    History,
    RecordedEntry,
    Stale,
    Status,
    StreamPage,
    Unit,
)
from tidings.store.protocol import Batch, DataError, Fenced, Store, Unavailable

ALL = 1_000_000  # items, or bytes: more than any page here has


def read(store: Store, key: str = "k", offset: int = 0, limit: int = ALL, max_bytes: int = ALL) -> StreamPage:
    """Read a page of a stream of the workflow "w"."""
    [page] = store.read_streams([("w", key, offset)], limit, max_bytes)
    return page


def values(store: Store, key: str = "k", offset: int = 0, limit: int = ALL, max_bytes: int = ALL) -> list[str]:
    return list(read(store, key, offset, limit, max_bytes).values)


def history_of(store: Store) -> History:
    [history] = store.histories(["w"])
    return history


# --- items in order --------------------------------------------------------------------------------------------


def test_items_are_read_in_the_order_of_their_offsets(process: Process) -> None:
    process.start("w", "other")
    process.commit(*appending("w", item("k", 2, "c"), item("k", 0, "a"), item("l", 0, "x"), item("k", 1, "b")))
    process.commit(*streaming("other", "k", "not mine"), *streaming("w", "k", "d", "e", offset=3))
    assert read(process.store) == StreamPage(("a", "b", "c", "d", "e"), 5, False, Status.PENDING)
    assert values(process.store, "l") == ["x"]


def test_a_page_begins_at_any_offset(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", *"abcde"))
    assert [values(process.store, offset=offset) for offset in (1, 4, 5, 6)] == [list("bcde"), ["e"], [], []]
    assert {read(process.store, offset=offset).length for offset in (0, 5, 9, 2**63 - 1, 2**63)} == {5}
    assert values(process.store, offset=-1) == []  # nothing is there, and so nothing follows it


def test_a_stream_that_nobody_wrote_to_is_empty(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "another", "a"))
    assert read(process.store) == StreamPage((), 0, False, Status.PENDING)


def test_a_stream_of_an_unknown_workflow_has_no_status(process: Process) -> None:
    assert read(process.store) == StreamPage((), 0, False, None)


def test_a_stream_may_have_many_items(process: Process) -> None:
    process.start("w")
    every = [f"value {number}" for number in range(10_000)]
    for first in range(0, len(every), 1_000):
        process.commit(*streaming("w", "k", *every[first : first + 1_000], offset=first))
    assert values(process.store) == every
    assert values(process.store, offset=9_998) == every[9_998:]
    assert values(process.store, offset=5_000, limit=3) == every[5_000:5_003]


# --- pages -----------------------------------------------------------------------------------------------------


def test_a_page_has_up_to_its_limit(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", *"abcde"))
    assert read(process.store, limit=2) == StreamPage(("a", "b"), 5, False, Status.PENDING)
    assert values(process.store, offset=3, limit=2) == ["d", "e"]
    assert values(process.store, offset=4, limit=2) == ["e"]


@pytest.mark.parametrize(
    ("max_bytes", "count"),
    [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (40, 4), (41, 5), (1_000, 5)],
)
@pytest.mark.parametrize("value", ["0123456789", "📨📨é"], ids=["ascii", "unicode"])
def test_a_page_stops_once_its_values_take_the_bytes(process: Process, value: str, max_bytes: int, count: int) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", *[value] * 5))
    assert len(value.encode()) == 10
    assert values(process.store, max_bytes=max_bytes) == [value] * count
    assert read(process.store, max_bytes=max_bytes).length == 5


def test_a_value_larger_than_a_page_is_read_alone(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", "small", "x" * 5_000, "y" * 5_000, "small again"))
    assert values(process.store, max_bytes=1_000) == ["small", "x" * 5_000]
    assert values(process.store, offset=2, max_bytes=1_000) == ["y" * 5_000]


def test_a_value_may_have_16_mebibytes(process: Process) -> None:
    large = "é" * (8 * 1024 * 1024)
    process.start("w")
    process.commit(*streaming("w", "k", "before", large, large, "after"))
    assert values(process.store, max_bytes=1024 * 1024) == ["before", large]
    assert values(process.store, offset=2, limit=2, max_bytes=20 * 1024 * 1024) == [large, "after"]


def test_a_page_ends_where_an_item_is_missing(process: Process) -> None:
    process.start("w")
    process.commit(*appending("w", *(item("k", offset, str(offset)) for offset in (0, 1, 3, 4))))
    assert values(process.store) == ["0", "1"]
    assert values(process.store, offset=2) == []
    assert values(process.store, offset=3) == ["3", "4"]
    assert read(process.store).length == 5


def test_many_pages_are_one_answer_in_the_order_they_are_asked_for(process: Process) -> None:
    process.start("w", "v", "ended")
    process.commit(*streaming("w", "k", *"abc"), *streaming("w", "l", "x"), *streaming("v", "k", "y"))
    process.commit(closing("w", "l"), *streaming("ended", "k", "z"), ending("ended"))
    wanted = [
        ("v", "k", 0),
        ("w", "k", 1),
        ("unknown", "k", 0),
        ("w", "l", 1),
        ("w", "k", 0),
        ("w", "none", 0),
        ("ended", "k", 0),
        ("w", "k", 1),
    ]
    assert process.store.read_streams(wanted, 2, ALL) == [
        StreamPage(("y",), 1, False, Status.PENDING),
        StreamPage(("b", "c"), 3, False, Status.PENDING),
        StreamPage((), 0, False, None),
        StreamPage((), 1, True, Status.PENDING),
        StreamPage(("a", "b"), 3, False, Status.PENDING),
        StreamPage((), 0, False, Status.PENDING),
        StreamPage(("z",), 1, False, Status.SUCCESS),
        StreamPage(("b", "c"), 3, False, Status.PENDING),
    ]
    assert process.store.read_streams([], 2, ALL) == []


def test_readers_at_one_place_share_a_page(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", *"abc"))
    first, other, second = process.store.read_streams([("w", "k", 0), ("w", "k", 1), ("w", "k", 0)], 10, 1_000)
    assert first is second, "what is asked for several times is read once"
    assert other.values == ("b", "c")


def test_two_thousand_readers_are_answered_at_once(process: Process) -> None:
    ids = [f"w{number}" for number in range(200)]
    process.start(*ids)
    process.commit(*(unit for each in ids for unit in streaming(each, "k", *(f"{each}.{n}" for n in range(10)))))
    wanted = [(each, "k", offset) for each in ids for offset in range(10)]
    pages = process.store.read_streams(wanted, 1, ALL)
    assert [page.values for page in pages] == [(f"{each}.{offset}",) for each, _, offset in wanted]


# --- the end of a stream ------------------------------------------------------------------------------------------


def test_a_closed_stream_says_so_and_keeps_its_items(process: Process) -> None:
    process.start("w", "other")
    process.commit(*streaming("w", "k", "a"), *streaming("other", "k", "b"))
    assert process.commit(closing("w", "k", "empty")) == [APPLIED]
    assert read(process.store) == StreamPage(("a",), 1, True, Status.PENDING)
    assert read(process.store, "empty") == StreamPage((), 0, True, Status.PENDING)
    assert not read(process.store, "l").is_closed
    assert not process.store.read_streams([("other", "k", 0)], ALL, ALL)[0].is_closed
    assert history_of(process.store).closed_streams == ("empty", "k")


def test_what_a_batch_writes_to_a_stream_and_closes_is_there(process: Process) -> None:
    process.start("w")
    last = Unit("w", 1, item=item("k", 1, "b"), closes=("k",))
    process.commit(closing("w", "l"), *streaming("w", "k", "a"), last)
    assert read(process.store) == StreamPage(("a", "b"), 2, True, Status.PENDING)
    assert read(process.store, "l").is_closed


def test_closing_again_changes_nothing(database_url: str, process: Process) -> None:
    process.start("w")
    assert process.commit(closing("w", "k", "k"), closing("w", "k")) == [APPLIED, APPLIED]
    later = replace(process.batch(closing("w", "l", "k")), now_ms=NOW_MS + 7)
    assert process.store.commit(later) == [APPLIED]
    closed = Rows(database_url).run("select key, closed_at_ms from {closed_streams} order by key")
    assert closed == [("k", NOW_MS), ("l", NOW_MS + 7)]


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.ERROR])
def test_the_end_of_its_workflow_comes_with_the_last_items(process: Process, status: Status) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", "a", "b"), ending("w", status))
    assert read(process.store, offset=1) == StreamPage(("b",), 2, False, status)


@pytest.mark.parametrize("end", [Unit(cancels=("w",)), ending("w")], ids=["cancelled", "ended"])
def test_a_stream_does_not_grow_behind_the_end_of_its_workflow(process: Process, end: Unit) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", "a"))
    process.commit(end)
    page = read(process.store)
    late = process.batch(*streaming("w", "k", "b", offset=1), closing("w", "k"), *recording("w", entry(7)))
    assert page.status is not None
    answers: list[Answer] = [Stale(page.status), Stale(page.status), APPLIED]
    assert process.store.commit(late) == answers
    assert process.store.recall(late) == answers
    assert read(process.store) == page
    assert page.values == ("a",)


def test_what_is_written_in_the_batch_that_cancels_is_there(process: Process) -> None:
    process.start("w")
    assert process.commit(Unit(cancels=("w",)), *streaming("w", "k", "a"), closing("w", "k")) == [APPLIED] * 3
    assert read(process.store) == StreamPage(("a",), 1, True, Status.CANCELLED)


def test_a_refused_unit_writes_no_item_and_closes_nothing(process: Process) -> None:
    process.start("w")
    refused = Unit("w", 2, item=item("k", 0, "lost"), closes=("l",), outcome=ending("w").outcome)
    batch = process.batch(refused, *streaming("w", "k", "kept"), closing("w", "m"))
    answers: list[Answer] = [Stale(Status.PENDING), APPLIED, APPLIED]
    assert process.store.commit(batch) == answers
    assert process.store.recall(batch) == answers
    assert values(process.store) == ["kept"]
    assert history_of(process.store).closed_streams == ("m",)


# --- offsets that are taken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_one_batch", [False, True])
def test_an_offset_that_is_taken_fails_the_batch_and_nothing_is_written(process: Process, in_one_batch: bool) -> None:
    process.start("w")
    first, rest = list(streaming("w", "k", "first")), list(streaming("w", "k", "b", "c", offset=1))
    if not in_one_batch:
        process.commit(*first)
    again = Unit("w", 1, item=item("k", 0, "again"))
    batch = process.batch(
        *recording("w", entry(5)), *(first if in_one_batch else ()), *rest, again, closing("w", "k"), ending("w")
    )
    with pytest.raises(DataError):
        process.store.commit(batch)
    assert process.store.recall(batch) is None
    assert read(process.store) == (
        StreamPage((), 0, False, Status.PENDING) if in_one_batch else StreamPage(("first",), 1, False, Status.PENDING)
    )
    halves = first if in_one_batch else [], [again], rest  # as a committer finds the one that is to blame
    for half in halves:
        if half == [again]:
            with pytest.raises(DataError):
                process.commit(*half)
        else:
            assert process.commit(*half) == [APPLIED] * len(half)
    assert values(process.store) == ["first", "b", "c"]


def test_the_same_offset_of_another_stream_is_free(process: Process) -> None:
    process.start("w", "v")
    process.commit(*streaming("w", "k", "1"), *streaming("w", "l", "2"), *streaming("v", "k", "3"))
    wanted = [("w", "k", 0), ("w", "l", 0), ("v", "k", 0)]
    assert [page.values for page in process.store.read_streams(wanted, 9, ALL)] == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize(
    "bad",
    [item("k", 1, "\ud800"), item("\udfff", 0, "v"), item("k", 2**63, "v"), item("k", -(2**63) - 1, "v")],
    ids=["value", "key", "offset", "negative offset"],
)
def test_an_item_that_cannot_be_stored_fails_the_batch(process: Process, bad: object) -> None:
    process.start("w")
    batch = process.batch(*streaming("w", "k", "a"), Unit("w", 1, item=bad))  # type: ignore[arg-type]
    with pytest.raises(DataError):
        process.store.commit(batch)
    assert process.store.recall(batch) is None
    assert read(process.store).length == 0


def test_a_batch_under_an_old_fence_writes_no_item_and_closes_nothing(open_store: OpenStore) -> None:
    old, heir = Process(open_store(), "old"), Process(open_store(), "heir")
    old.start("w")
    old.commit(*streaming("w", "k", "a"))
    assert heir.claim("old") == ["w"]
    with pytest.raises(Fenced):
        old.commit(*streaming("w", "k", "late", offset=1), closing("w", "k"))
    assert read(heir.store) == StreamPage(("a",), 1, False, Status.PENDING)
    assert history_of(heir.store).stream_lengths == (("k", 1),)
    heir.commit(*streaming("w", "k", "b", offset=1, epoch=2))
    assert values(old.store) == ["a", "b"]


def test_a_batch_that_landed_is_not_written_again(process: Process) -> None:
    process.start("w")
    batch = process.batch(*streaming("w", "k", "a"), closing("w", "k"))
    answers = process.store.commit(batch)
    process.store.reconnect()
    assert process.store.recall(batch) == answers == [APPLIED, APPLIED]
    with pytest.raises(Fenced):
        process.store.commit(batch)
    assert values(process.store) == ["a"]


# --- in a history, and among steps -----------------------------------------------------------------------------------


def written(offset: int, position: int, *, branch: str = "", key: str = "k") -> RecordedEntry:
    """The entry that an item is."""
    at_ms = NOW_MS + offset
    return RecordedEntry(
        Entry(branch, position, position, "DBOS.write_stream", started_at_ms=at_ms, completed_at_ms=at_ms), key=key
    )


def test_items_of_the_workflow_are_entries_and_those_of_steps_only_count(process: Process) -> None:
    process.start("w", "empty")
    process.commit(sending(letter("w", "hello")), *recording("w", entry(6), entry(1)))
    process.commit(*publishing("w", event("e", 1, "v", position=4)))
    process.commit(
        *appending(
            "w",
            replace(item("k", 0, "x" * 5_000, 2), at_ms=NOW_MS),
            item("k", 1, "of a step", 6, attempt=1),
            item("k", 2, "of its second attempt", 6, attempt=2),
            item("of steps", 0, "more of it", 6, attempt=2),
            replace(item("k", 3, "", 5), at_ms=NOW_MS + 3),
            replace(item("l", 0, "", 3), branch="1", at_ms=NOW_MS),
        ),
        closing("w", "l", "closed"),
    )
    empty, history = process.store.histories(["empty", "w"])
    assert empty == History("empty", (), ())
    assert history.entries == (
        RecordedEntry(entry(1)),
        written(0, 2),
        written(0, 3, branch="1", key="l"),
        RecordedEntry(
            Entry("", 4, 4, "DBOS.set_event", EntryState.DONE, started_at_ms=NOW_MS, completed_at_ms=NOW_MS), key="e"
        ),
        written(3, 5),
        RecordedEntry(entry(6)),
    )
    assert history.event_versions == (("e", 1),)
    assert sorted(history.stream_lengths) == [("k", 4), ("l", 1), ("of steps", 1)]
    assert sorted(history.closed_streams) == ["closed", "l"]
    assert values(process.store)[1:] == ["of a step", "of its second attempt", ""]
    assert process.store.steps("w", None, 0, True) == list(history.entries)
    assert process.store.steps("w", None, 0, False) == list(history.entries)
    assert process.store.steps("w", 2, 1, True) == list(history.entries[1:3])
    assert process.store.steps("w", None, 4, True) == list(history.entries[4:])


def test_histories_of_several_workflows_are_apart(process: Process) -> None:
    process.start("w", "v", "u")
    process.commit(*streaming("w", "k", *"abc"), *streaming("v", "k", "d"), closing("v", "k"), closing("w", "l"))
    lengths = [(each.stream_lengths, each.closed_streams) for each in process.store.histories(["v", "u", "w"])]
    assert lengths == [((("k", 1),), ("k",)), ((), ()), ((("k", 3),), ("l",))]
    assert [len(each.entries) for each in process.store.histories(["w", "v"])] == [3, 1]


def test_a_long_stream_comes_back_whole_as_a_history(process: Process) -> None:
    process.start("w")
    for first in range(0, 5_000, 1_000):
        process.commit(*streaming("w", "k", *["v"] * 1_000, offset=first))
    history = history_of(process.store)
    assert [each.entry.ordinal for each in history.entries] == list(range(1, 5_001))
    assert history.stream_lengths == (("k", 5_000),)


# --- any text ------------------------------------------------------------------------------------------------------

UNUSUAL = [
    "",
    "null",
    "NULL",
    "{}",
    "{a,b}",
    '"',
    '{"tidings": "closed"}',
    "__DBOS_STREAM_CLOSED__",
    "\\",
    "\\x00",
    "it's",
    "a,b",
    " spaces ",
    "tab\tnew\nline\r",
    "📨 naïve ✓",
    "\x7f\x01",
    "\ufeff",
    "x" * 10_000,
    "📨" * 5_000,
]


def test_any_text_is_a_value_and_ends_nothing(process: Process) -> None:
    process.start("w")
    process.commit(*streaming("w", "k", *UNUSUAL, "last"))
    assert read(process.store) == StreamPage((*UNUSUAL, "last"), len(UNUSUAL) + 1, False, Status.PENDING)
    assert [values(process.store, offset=n, limit=1) for n in range(len(UNUSUAL))] == [[each] for each in UNUSUAL]


KEYS = ["k", "K", "k ", " k", "é", "e\u0301", "É", "ß", "ss", "📨", "k'", 'k"', "k%", "k_", "", "[]", "x" * 1_024]


def test_keys_are_apart_whatever_they_look_like(process: Process) -> None:
    process.start("w", "W", "w ")
    process.commit(*(unit for key in KEYS for unit in streaming("w", key, f"of {key}", f"more of {key}")))
    process.commit(*streaming("W", "k", "of W"), *streaming("w ", "k", "of w and a space"), closing("w", "K", "é"))
    pages = process.store.read_streams([("w", key, 0) for key in KEYS], ALL, ALL)
    assert [page.values for page in pages] == [(f"of {key}", f"more of {key}") for key in KEYS]
    assert [key for key, page in zip(KEYS, pages, strict=True) if page.is_closed] == ["K", "é"]
    assert sorted(history_of(process.store).stream_lengths) == sorted((key, 2) for key in KEYS)
    assert {each.key for each in history_of(process.store).entries} == set(KEYS)
    others = process.store.read_streams([("W", "k", 0), ("w ", "k", 0)], ALL, ALL)
    assert [page.values for page in others] == [("of W",), ("of w and a space",)]


# --- one snapshot --------------------------------------------------------------------------------------------


def test_a_page_its_length_and_its_end_are_of_one_moment(open_store: OpenStore) -> None:
    """Somebody writes, closes, and ends, each in a batch of its own, while another reads as fast as it can."""
    writer, reader = Process(open_store(), "writer"), open_store()
    every = [f"value {number}" for number in range(300)]
    writer.start("w")

    def write() -> None:
        for offset, value in enumerate(every):
            writer.commit(*streaming("w", "k", value, offset=offset))
        writer.commit(closing("w", "k"))
        writer.commit(ending("w"))

    thread = threading.Thread(target=write)
    thread.start()
    seen: list[StreamPage] = []
    while not seen or seen[-1].status is Status.PENDING:
        [page] = reader.read_streams([("w", "k", 0)], ALL, ALL)
        seen.append(page)
    thread.join()
    for page in seen:
        assert list(page.values) == every[: page.length]
        assert page.length == len(every) or not (page.is_closed or page.status is Status.SUCCESS)
        assert page.is_closed or page.status is Status.PENDING
    assert [page.length for page in seen] == sorted(page.length for page in seen)


# --- and the rest --------------------------------------------------------------------------------------------


def test_without_a_connection_streams_are_unavailable(store: Store) -> None:
    store.close()
    with pytest.raises(Unavailable):
        store.read_streams([("w", "k", 0)], 1, 1)


def test_a_batch_may_have_nothing_but_items(store: Store) -> None:
    fence = store.enlist(Executor("e", "label", 0, 0))
    with pytest.raises(Fenced):
        store.commit(Batch("e", fence + 1, 1, NOW_MS, LEASE_MS, list(streaming("w", "k", "a"))))
    assert read(store) == StreamPage((), 0, False, None)
