"""The states of a receive: every pair of a state and an event, and what must be true of all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from tidings.core.receive_state import AFTER, FIRST, IN_BATCH, IN_FIRST_BATCH, TRANSITIONS, Event, State

PAIRS = list(itertools.product(State, Event))
PAGE = Path(__file__).parents[2] / "docs" / "design" / "messages.md"


def _reachable(state: State, events: Iterable[Event] = Event) -> set[State]:
    """Return this state and all that can follow."""
    allowed = set(events)
    found, left = {state}, [state]
    while left:
        new = {after for event, after in TRANSITIONS[left.pop()].items() if event in allowed} - found
        found |= new
        left += new
    return found


def _documented() -> dict[tuple[State, Event], State | None]:
    """Read the table of the design. A dash is an event that cannot come, an empty cell one that changes nothing."""
    rows = [line[1:].removesuffix("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[each.strip().strip("`") for each in row] for row in rows]
    events = [Event[name] for name in next(row for row in cells if row[0] == "state")[1:]]
    states = {row[0]: row[1:] for row in cells if row[0] in State.__members__ and len(row) == len(events) + 1}
    assert list(states) == list(State.__members__)
    found: dict[tuple[State, Event], State | None] = {}
    for name, row in states.items():
        for event, cell in zip(events, row, strict=True):
            found[State[name], event] = None if cell == "—" else State[cell or name]
    return found


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda each: each.name)
def test_each_event_leads_where_the_design_says_or_raises(state: State, event: Event) -> None:
    expected = _documented()[state, event]
    assert TRANSITIONS[state].get(event) is expected
    if expected is None:
        with pytest.raises(RuntimeError, match=f"{state.name} got the event {event.name}, which cannot come then"):
            AFTER[state][event]
    else:
        assert AFTER[state][event] is expected


def test_all_states_are_reached_and_each_leads_to_a_result() -> None:
    assert _reachable(FIRST) == set(State)
    for state in State:
        assert State.SETTLED in _reachable(state)
        settles = AFTER[state][Event.RESULT] is State.SETTLED
        assert settles == (state not in IN_BATCH and state is not State.WITHDRAWN)


def test_a_settled_receive_stays_settled() -> None:
    assert _reachable(State.SETTLED) == {State.SETTLED}


@pytest.mark.parametrize("state", IN_BATCH, ids=lambda each: each.name)
def test_only_the_batch_that_has_a_take_lets_go_of_it(state: State) -> None:
    left = {event for event, after in TRANSITIONS[state].items() if after not in IN_BATCH}
    assert left == {Event.NOTHING, Event.ANSWER} | ({Event.WITHDRAW} if state in IN_FIRST_BATCH else set())


@pytest.mark.parametrize("state", State, ids=lambda each: each.name)
def test_no_batch_gets_a_take_after_the_run_has_gone_on(state: State) -> None:
    stopped = AFTER[state][Event.STOP]
    assert stopped not in {State.WATCHING, State.WAITING, State.LOOKING, State.BOARDED}
    after = _reachable(stopped)
    assert not after & {State.WATCHING, State.WAITING, State.LOOKING, State.BOARDED}
    assert all(TRANSITIONS[each].get(Event.BOARD) is each for each in after)


@pytest.mark.parametrize("state", State, ids=lambda each: each.name)
def test_a_batch_gets_only_a_take_that_waits(state: State) -> None:
    assert AFTER[state][Event.BOARD] is (State.BOARDED if state is State.WAITING else state)
    assert (AFTER[state].get(Event.LOOK) is State.LOOKING) == (state is FIRST)


def test_a_take_is_answered_only_while_it_was_handed_over() -> None:
    assert {state for state in State if Event.NOTHING in TRANSITIONS[state]} == IN_BATCH
    assert {state for state in State if Event.ANSWER in TRANSITIONS[state]} == IN_BATCH | {State.WITHDRAWN}


def test_a_take_is_withdrawn_only_before_its_first_batch() -> None:
    withdrawn = {state for state in State if AFTER[state].get(Event.WITHDRAW) is State.WITHDRAWN}
    assert withdrawn == IN_FIRST_BATCH
