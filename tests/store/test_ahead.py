"""Looks ahead, and takes of what they saw: through the protocol alone, on both stores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.store.driver import (
    NOW_MS,
    Process,
    entry,
    looking,
    message,
    opened,
    recording,
    sending,
    taking,
    taking_seen,
)
from tidings.limits import MAX_AHEAD_BYTES
from tidings.model import APPLIED, NOTHING, Answer, Entry, RecordedEntry, Taken, Unit
from tidings.store.protocol import DataError


def recorded(process: Process) -> tuple[RecordedEntry, ...]:
    [history] = process.store.histories(["w"])
    return history.entries


def entries(process: Process) -> list[Entry]:
    return [each.entry for each in recorded(process)]


def body_of(answer: Answer) -> str:
    assert isinstance(answer, Taken)
    return answer.body


def seen_by(answer: Answer) -> list[str]:
    assert isinstance(answer, Taken)
    return [each.body for each in answer.ahead]


def test_a_take_that_looks_ahead_sees_what_waits_behind_it(process: Process) -> None:
    process.start("w", "v")
    process.commit(
        sending(*(message("w", str(n), "T") for n in range(4)), message("w", "no topic"), message("v", "v", "T"))
    )
    [answer] = process.commit(looking("w", 1, "T", ahead=2))
    assert isinstance(answer, Taken)
    assert [answer.body, *seen_by(answer)] == ["0", "1", "2"]
    assert answer.ahead[0] == Taken(answer.ahead[0].seq, "1", "T", "sender", NOW_MS)
    [answer] = process.commit(looking("w", 2, "T", ahead=100))
    assert isinstance(answer, Taken)
    assert [answer.body, *seen_by(answer)] == ["1", "2", "3"]
    assert process.drain("w", "T") == ["2", "3"], "seen is not taken"
    assert process.drain("w", first_position=2_000) == ["no topic"]


def test_messages_without_a_topic_are_seen_too(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "1"), message("w", "a topic", ""), message("w", "2"), message("w", "3")))
    [answer] = process.commit(looking("w", 1, None, ahead=100))
    assert isinstance(answer, Taken)
    assert seen_by(answer) == ["2", "3"]


def test_what_is_seen_is_what_a_batch_leaves_unread(process: Process) -> None:
    process.start("w", "v")
    process.commit(sending(*(message(to, str(n)) for n in range(5) for to in ("w", "v"))))
    answers = process.commit(
        looking("w", 1, None, ahead=1), taking("w", 2), looking("v", 1, None, ahead=9), sending(message("w", "new"))
    )
    assert [body_of(answer) for answer in answers[:3]] == ["0", "1", "0"]
    assert [seen_by(answer) for answer in answers[:3]] == [["2"], [], ["1", "2", "3", "4"]]


def test_a_look_ahead_that_finds_nothing_to_take_is_like_any_other(process: Process) -> None:
    process.start("w")
    waiting = opened(1, deadline_ms=NOW_MS + 8_000)
    assert process.commit(looking("w", 1, None, ahead=9, otherwise=waiting)) == [NOTHING]
    assert entries(process) == [waiting]
    process.commit(sending(message("w", "alone")))
    [answer] = process.commit(looking("w", 1, None, ahead=9))
    assert isinstance(answer, Taken)
    assert answer.ahead == ()


def test_a_look_ahead_stops_before_it_is_too_much_to_keep(process: Process) -> None:
    process.start("w")
    half, more = "é" * (MAX_AHEAD_BYTES // 4), "x" * (MAX_AHEAD_BYTES // 2 + 1)
    process.commit(sending(*(message("w", body) for body in ("first", half, half, "z", more, more, "last"))))
    seen = []
    for position in range(1, 8):
        [answer] = process.commit(looking("w", position, None, ahead=100))
        assert isinstance(answer, Taken)
        seen.append(len(answer.ahead))
    assert seen == [2, 2, 2, 1, 2, 1, 0]


def test_a_message_longer_than_all_that_may_be_seen_is_not(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "first"), message("w", "x" * (MAX_AHEAD_BYTES + 1)), message("w", "last")))
    [answer] = process.commit(looking("w", 1, None, ahead=100))
    assert isinstance(answer, Taken)
    assert answer.ahead == ()


def test_messages_that_were_seen_are_taken_by_their_numbers(process: Process) -> None:
    process.start("w")
    process.commit(sending(*(message("w", str(n)) for n in range(5))))
    [first] = process.commit(looking("w", 1, None, ahead=3))
    assert isinstance(first, Taken)
    batch = process.batch(*(taking_seen("w", n, each) for n, each in enumerate(first.ahead, 2)), taking("w", 5))
    answers = process.store.commit(batch)
    assert answers[:3] == [APPLIED] * 3
    assert body_of(answers[3]) == "4", "a take behind them finds what they leave"
    assert process.store.recall(batch) == answers
    assert [each.message.body for each in recorded(process) if each.message is not None] == ["0", "1", "2", "3", "4"]
    assert entries(process) == [entry(n) for n in range(1, 6)]
    assert process.drain("w") == []


def test_a_batch_is_recalled_without_what_it_saw_ahead(process: Process) -> None:
    process.start("w")
    process.commit(sending(message("w", "1"), message("w", "2")))
    batch = process.batch(looking("w", 1, None, ahead=9))
    [answer] = process.store.commit(batch)
    assert isinstance(answer, Taken)
    assert process.store.recall(batch) == [replace(answer, ahead=())]


@pytest.mark.parametrize("why", ["read", "another's", "unknown"])
def test_a_message_that_was_seen_and_is_not_there_is_an_error_and_nothing_is_written(
    process: Process, why: str
) -> None:
    process.start("w", "v")
    process.commit(sending(message("w", "1"), message("w", "2"), message("v", "v")))
    [first] = process.commit(looking("w", 1, None, ahead=9))
    [other] = process.commit(looking("v", 1, None, ahead=9))
    process.commit(sending(message("v", "later")))
    assert isinstance(first, Taken)
    assert isinstance(other, Taken)
    missing = {"read": first.seq, "another's": other.seq + 1, "unknown": 1_000_000}[why]
    wrong = Unit("w", 1, entry(2), take_seen=missing)
    for units in ([wrong], [taking_seen("w", 3, first.ahead[0]), wrong, *recording("w", entry(4))]):
        with pytest.raises(DataError, match="can no longer be taken"):
            process.commit(*units)
    assert entries(process) == [entry(1)]
    assert process.drain("w") == ["2"]
