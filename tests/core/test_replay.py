"""The rules, on programs that hypothesis makes up: replayed from every prefix of their history, they end alike."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.core.world import (
    OTHER,
    READABLE,
    Child,
    Drain,
    Op,
    Parallel,
    Program,
    Publish,
    ReadEvent,
    Receive,
    Send,
    Sleep,
    Step,
    World,
    execute,
    world_of,
)
from tidings.error import DBOSUnexpectedStepError
from tidings.model import EntryState, Place

_names = st.sampled_from(["alpha", "beta"])

_ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(Step, _names, failures=st.integers(0, 3), tries=st.integers(1, 3), is_slow=st.booleans()),
    st.builds(Send, st.sampled_from([OTHER, OTHER, "nobody"])),
    st.builds(Receive, st.booleans(), st.sampled_from([0.0, 1.0])),
    st.just(Receive(message=False, timeout_seconds=0.0, gives_up=True)),
    st.just(Receive(message=False, timeout_seconds=1e6, is_late=True)),
    st.builds(Drain, st.integers(0, 6), st.sampled_from([0.0, 1.0]), st.booleans()),
    st.builds(Publish, _names),
    st.builds(ReadEvent, st.sampled_from(sorted(READABLE))),
    st.builds(Sleep, st.sampled_from([0.0, 0.5, 2.0])),
    st.builds(Child, _names),
)


def _programs(most: int = 5) -> st.SearchStrategy[Program]:
    line = st.lists(_ops, max_size=4).map(tuple)
    nested = st.lists(st.one_of(_ops, _parallel(line)), max_size=3).map(tuple)
    return st.lists(st.one_of(_ops, _ops, _parallel(nested)), min_size=1, max_size=most).map(tuple)


def _parallel(lines: st.SearchStrategy[Program]) -> st.SearchStrategy[Op]:
    return st.lists(lines, min_size=2, max_size=3).map(lambda branches: Parallel(tuple(branches)))


def _sent(world: World) -> Counter[Any]:
    return Counter(world.outbox)


def _by_place(world: World) -> dict[Place, Any]:
    return {
        place: (each.entry.name, each.entry.state, each.entry.output, each.entry.error, each.message, each.key)
        for place, each in world.entries.items()
    }


@given(_programs(), st.integers(0, 2**16))
@settings(max_examples=120)
def test_a_program_cut_anywhere_and_replayed_ends_as_it_would_have(program: Program, seed: int) -> None:
    first = world_of(program)
    expected = execute(program, first, seed)
    for cut in range(len(first.units) + 1):
        world = world_of(program, first.units[:cut], first.now_ms)
        done = {
            each.entry.ordinal: place
            for place, each in world.entries.items()
            if each.entry.state is not EntryState.OPEN
        }
        before = dict(world.entries)
        # Branches interleave differently this time.
        assert execute(program, world, seed + cut + 1) == expected
        for place in done.values():
            assert world.entries[place] == before[place], "what was recorded stays"
        assert _sent(world) == _sent(first), "each message was sent once"
        assert sorted(world.published) == sorted(first.published), "each event was published once"
        assert world.children == first.children
        assert world.inbox == first.inbox
        seen = first.seen[cut - 1] if cut else 0
        assert world.order[:seen] == first.order[:seen], "what the code had got comes again in that order"
        assert _without_seq(world) == _without_seq(first)


def _without_seq(world: World) -> dict[Place, Any]:
    return {
        place: (*found[:4], None if found[4] is None else found[4].body, found[5])
        for place, found in _by_place(world).items()
    }


@given(_programs(), st.integers(0, 2**16))
@settings(max_examples=60)
def test_a_full_replay_does_nothing(program: Program, seed: int) -> None:
    first = world_of(program)
    expected = execute(program, first, seed)
    world = world_of(program, first.units, first.now_ms)
    world.existing.add("nobody")  # Refused is refused, though it would be accepted now.
    assert execute(program, world, seed + 1) == expected
    assert len(world.units) == len(first.units), "nothing is written"
    assert world.calls == [], "no step runs"
    assert world.reads == [], "nothing is looked up"
    assert all(deadline is None for _, deadline in world.waits), "nobody waits, but for what was given up"


@given(_programs(), st.integers(0, 2**16))
@settings(max_examples=60)
def test_a_recorded_step_never_runs_again_and_the_others_do(program: Program, seed: int) -> None:
    first = world_of(program)
    execute(program, first, seed)
    for cut in range(len(first.units) + 1):
        world = world_of(program, first.units[:cut], first.now_ms)
        recorded = {
            each.entry.output or each.entry.error
            for each in world.entries.values()
            if each.entry.name in ("alpha", "beta") and each.entry.child_workflow_id is None
        }
        steps = len(recorded)
        execute(program, world, seed)
        ran = {path for path, _ in world.calls}
        assert len(ran) == len({path for path, _ in first.calls}) - steps


@given(_programs(), st.integers(0, 2**16))
@settings(max_examples=60)
def test_who_was_waiting_keeps_the_deadline(program: Program, seed: int) -> None:
    first = world_of(program)
    execute(program, first, seed)
    for cut in range(1, len(first.units) + 1):
        # A moment has passed; who counted the time anew would wait that much longer.
        world = world_of(program, first.units[:cut], first.times[cut - 1] + 1)
        deadlines = {
            each.entry.deadline_ms
            for each in world.entries.values()
            if each.entry.state is EntryState.OPEN and (each.entry.deadline_ms or 0) > world.now_ms
        }
        execute(program, world, seed)
        assert deadlines <= {deadline for _, deadline in world.waits}


@given(_programs(), st.data())
@settings(max_examples=120)
def test_a_changed_program_is_noticed_and_writes_nothing(program: Program, data: st.DataObject) -> None:
    places = [index for index, op in enumerate(program) if not isinstance(op, Parallel)]
    assume(places)
    first = world_of(program)
    execute(program, first)
    index = data.draw(st.sampled_from(places))
    changed = data.draw(_ops.filter(lambda op: _kind(op) != _kind(program[index])))
    other = (*program[:index], changed, *program[index + 1 :])
    _check_noticed(first, program, other)


@given(_programs(), st.data())
@settings(max_examples=60)
def test_a_program_that_became_shorter_is_noticed(program: Program, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(program) - 1))
    assume(any(not isinstance(op, Parallel) for op in program[index:]))
    first = world_of(program)
    execute(program, first)
    _check_noticed(first, program, program[:index])


def _check_noticed(first: World, program: Program, other: Program) -> None:
    world = world_of(program, first.units, first.now_ms)
    with pytest.raises(DBOSUnexpectedStepError) as raised:
        execute(other, world)
    assert raised.value.workflow_id == "w"
    assert len(world.units) == len(first.units)
    assert world.calls == []


def _kind(op: Op) -> Any:
    """What an operation is to a replay: its name, and the key of an event that is set."""
    match op:
        case Step(name):
            return ("step", name)
        case Child(name):
            return ("child", name)
        case Publish(key):
            return ("publish", key)
        case Drain():
            return Receive
        case _:
            return type(op)


def test_what_was_seen_to_wait_is_received_without_a_look_each() -> None:
    program: Program = (Drain(150, 0.0, has_steps=False),)
    world = world_of(program)
    assert execute(program, world) == {"/0": [f"message {number} /0" for number in range(150)]}
    looks = [unit.take.ahead for unit in world.units if unit.take is not None]
    # Two find a message each; the third sees 16 more, the next one 100, the last but one the other 29.
    assert looks == [0, 0, 16, 100, 100, 100]
    assert sum(unit.take_seen is not None for unit in world.units) == 16 + 100 + 29


def test_a_program_may_become_longer() -> None:
    """Replay then goes on with what is new."""
    program: Program = (Step("alpha"), Publish("beta"))
    first = world_of(program)
    execute(program, first)
    world = world_of(program, first.units)
    longer = (*program, Step("beta"))
    assert execute(longer, world)["/2"] == "result of /2"
    assert world.calls == [("/2", 1)]
