"""What a run has seen of its messages: when it looks ahead, and when it forgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidings.core.ahead import Ahead
from tidings.limits import MAX_AHEAD_ITEMS
from tidings.model import Taken


def message(seq: int, *ahead: int) -> Taken:
    return Taken(seq, f"{seq}", "t", None, 0, tuple(message(each) for each in ahead))


def take(ahead: Ahead, found: Taken | None, topic: str | None = "t") -> None:
    """Look, and find this."""
    outlook = ahead.look(topic)
    ahead.saw(topic, outlook, found)


def wanted(ahead: Ahead, topic: str | None = "t") -> int:
    return ahead.look(topic).wanted


def drawn(ahead: Ahead, topic: str | None = "t") -> list[int]:
    """Take all that was seen."""
    seqs = []
    while (seen := ahead.next(topic)) is not None:
        seqs.append(seen.seq)
        ahead.took(topic)
    return seqs


@pytest.fixture
def ahead() -> Ahead:
    """Of a run that has seen messages 4 to 6."""
    ahead = Ahead()
    take(ahead, message(1))
    take(ahead, message(2))
    take(ahead, message(3, 4, 5, 6))
    return ahead


def test_only_who_found_messages_waiting_looks_ahead_and_then_further() -> None:
    ahead = Ahead()
    looks = []
    for found in (message(1), message(2), message(3, 4), message(5, 6), message(7, 8)):
        looks.append(wanted(ahead))
        take(ahead, found)
        drawn(ahead)
    assert looks == [0, 0, 16, MAX_AHEAD_ITEMS, MAX_AHEAD_ITEMS]


@pytest.mark.parametrize("found", [None, message(7)])
def test_who_found_nothing_behind_begins_anew(ahead: Ahead, found: Taken | None) -> None:
    assert drawn(ahead) == [4, 5, 6]
    assert wanted(ahead) == MAX_AHEAD_ITEMS
    take(ahead, found)
    assert wanted(ahead) == 0


def test_each_topic_counts_alone(ahead: Ahead) -> None:
    assert wanted(ahead, None) == wanted(ahead, "") == 0
    assert ahead.next(None) is None
    assert drawn(ahead) == [4, 5, 6]


def test_what_is_not_taken_comes_again(ahead: Ahead) -> None:
    assert ahead.next("t") == ahead.next("t") == message(4)
    ahead.took("t")
    assert ahead.next("t") == message(5)


FORGET: list[Callable[[Ahead], object]] = [Ahead.forget_all, lambda ahead: ahead.forget("t"), Ahead.branch_opens]


@pytest.mark.parametrize("forget", FORGET)
def test_what_was_forgotten_is_looked_for_again(ahead: Ahead, forget: Callable[[Ahead], object]) -> None:
    assert ahead.next("t") == message(4)
    forget(ahead)
    assert ahead.next("t") is None
    assert wanted(ahead) == 0


@pytest.mark.parametrize("forget", FORGET)
def test_a_look_during_which_all_was_forgotten_keeps_nothing(forget: Callable[[Ahead], object]) -> None:
    """The run waited before it was answered, or another branch opened, which may take what was seen."""
    ahead = Ahead()
    take(ahead, message(1))
    take(ahead, message(2))
    outlook = ahead.look("t")
    forget(ahead)
    ahead.saw("t", outlook, message(3, 4, 5))
    assert ahead.next("t") is None
    assert wanted(ahead) == 0


def test_a_run_with_several_branches_neither_looks_ahead_nor_keeps_anything(ahead: Ahead) -> None:
    ahead.branch_opens()
    ahead.branch_opens()
    ahead.branch_ends()
    for seq in (4, 5, 6):
        assert wanted(ahead) == 0
        take(ahead, message(seq))
    ahead.branch_ends()
    for seq in (7, 8):
        assert wanted(ahead) == 0
        take(ahead, message(seq))
    assert wanted(ahead) == 16


def test_little_is_kept_whatever_number_of_topics_there_is() -> None:
    ahead = Ahead()
    for topic in map(str, range(100)):
        take(ahead, message(1), topic)
        take(ahead, message(2), topic)
        take(ahead, message(3, *range(4, 20)), topic)
    kept = [topic for topic in map(str, range(100)) if ahead.next(topic) is not None]
    assert kept == ["92", "93", "94", "95", "96", "97", "98", "99"]
