"""Two workflows that talk, killed at every commit, before and after it is durable: always the same end.

A whole process is an engine in a process of many: killed, it writes nothing more, and what it held in
memory is dropped with it. What a test checks after each death is what a crash must never change.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.crash.story import ENDS, LEFT, RIGHT, TELL, Face, executed
from tests.support.engines import launched, make_engine, wait_until
from tests.support.faulty import FaultyStore, Moment
from tests.support.records import EntryRow, Inspector, Records
from tidings.error import DBOSShutdownError
from tidings.store import open as open_store
from tidings.store.protocol import Batch

KILL_PAIRS = 12

_FINISHED = ("DONE", "ABANDONED")


@pytest.fixture(params=["blocking", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    """The face of `right`, and of the program that starts both."""
    chosen: Face = request.param
    return chosen


@pytest.fixture
def story(database_url: str, face: Face) -> Iterator[Story]:
    """The story in this face, in a database with the tables in it."""
    open_store(database_url).migrate()
    with Inspector(database_url) as inspector:
        yield Story(database_url, face, inspector)


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.long
def test_killed_at_every_commit(story: Story, moment: Moment) -> None:
    expected, _ = story.tell()
    deaths = 0
    for at in itertools.count(1):
        final, died = story.tell((at, moment))
        assert final == expected, f"killed {moment.value} commit {at}"
        deaths += died
        if not died:
            break
    # What batches hold depends on the time; but nobody waits for company, so they are many.
    assert deaths >= 20


@pytest.mark.long
def test_killed_twice(story: Story) -> None:
    expected, _ = story.tell()
    dice = random.Random(f"{story.face}, twice")
    deaths = 0
    for _ in range(KILL_PAIRS):
        kills = [(dice.randint(2, 30), dice.choice(list(Moment))), (dice.randint(1, 12), dice.choice(list(Moment)))]
        final, died = story.tell(*kills)
        assert final == expected, kills
        deaths += died
    assert deaths > KILL_PAIRS, "hardly any died a second time"


@pytest.mark.parametrize("landed", [True, False, None], ids=["landed", "not landed", "before"])
def test_the_connection_lost_at_every_commit(story: Story, landed: bool | None) -> None:
    expected, _ = story.tell()
    lost: set[int] = set()

    def is_first_try(batch: Batch) -> bool:
        is_first = batch.number not in lost
        lost.add(batch.number)
        return is_first

    final, _ = story.tell(prepare=lambda store: store.lose(landed=landed, where=is_first_try, times=None))
    assert final == expected
    assert len(lost) >= 15


def test_the_end_is_the_one_that_was_told(story: Story) -> None:
    final, died = story.tell()
    assert not died
    statuses = sorted((name, status) for _, status, name, *_ in final["workflows"])
    assert [status for name, status in statuses if name != "story.idle"] == ["SUCCESS"] * 5
    assert ("story.idle", "CANCELLED") in statuses
    assert len(statuses) == 6
    states = {(branch, state) for _, branch, _, _, state, *_ in final["entries"] if state != "DONE"}
    # The receive that was given up, and the time limit of the code that gave it up.
    assert states == {("", "ABANDONED"), ("limits", "ABANDONED")}
    assert all(read is not None for *_, read in final["messages"])


# --- telling the story -----------------------------------------------------------------------------------


class Story:
    """The story, as told by processes that die."""

    def __init__(self, url: str, face: Face, inspector: Inspector) -> None:
        self.face = face
        self._url = url
        self._inspector = inspector

    def tell(
        self, *kills: tuple[int, Moment], prepare: Callable[[FaultyStore], object] = lambda store: None
    ) -> tuple[dict[str, Any], int]:
        """Tell it in an empty database, dying at each of `kills` in turn; return its end, and how often it died.

        `prepare` sets traps in the store of each process.
        """
        self._inspector.clear()
        executed.clear()
        before = self._inspector.read()
        died = 0
        for kill in (*kills, None):
            done = {entry.name for entry in before.entries if entry.state == "DONE"}
            ran_before = len(executed)
            ends = self._live(kill, prepare)
            after = self._inspector.read()
            check_nothing_changed(before, after)
            assert not done.intersection(executed[ran_before:]), "a recorded step ran again"
            before = after
            if ends is not None:
                assert ends == ENDS
                break
            died += 1
        check_consistent(before)
        return normal(before), died

    def _live(self, kill: tuple[int, Moment] | None, prepare: Callable[[FaultyStore], object]) -> dict[str, Any] | None:
        """Be one process: until the end, which is returned, or until it is killed."""
        faulty = make_engine(self._url, migrate=False)
        prepare(faulty.store)
        if kill is not None:
            faulty.store.kill_at(*kill)
        try:
            with launched(faulty):
                ends = TELL[self.face]()
                # A cancelled workflow notices its end a moment after it is recorded.
                wait_until(lambda: len(faulty.engine.waiters) == 0)  # Else something is watched for by nobody.
                return ends
        except DBOSShutdownError:
            assert faulty.store.killed
            return None


# --- what must hold ------------------------------------------------------------------------------------


def check_nothing_changed(before: Records, after: Records) -> None:
    """Check that what was durable stayed: results, consumed messages, events, ends."""
    entries = {_place(entry): entry for entry in after.entries}
    for entry in before.entries:
        if entry.state in _FINISHED:
            assert entries[_place(entry)] == entry
    messages = {message.seq: message for message in after.messages}
    for message in before.messages:
        kept = messages[message.seq]
        assert kept[:5] == message[:5]
        if message.read_by_branch is not None:
            assert kept == message
    assert set(before.events) <= set(after.events)
    workflows = {workflow.workflow_id: workflow for workflow in after.workflows}
    for workflow in before.workflows:
        if workflow.status != "PENDING":
            assert workflows[workflow.workflow_id][:5] == workflow[:5]


def check_consistent(records: Records) -> None:
    """Check that entries and messages agree, that nothing was taken twice, and that ordinals are unique."""
    taken = {_place(entry): entry.message_seq for entry in records.entries if entry.message_seq is not None}
    read = {
        (each.destination_id, each.read_by_branch, each.read_by_position): each.seq
        for each in records.messages
        if each.read_by_branch is not None
    }
    assert taken == read
    assert len(set(taken.values())) == len(taken)
    ordinals = [(entry.workflow_id, entry.ordinal) for entry in records.entries]
    assert len(set(ordinals)) == len(ordinals)


def normal(records: Records) -> dict[str, Any]:
    """Return all that a story leaves, without what may differ: times, numbers, the random ids of children.

    How far a workflow came that is cancelled may differ too.
    """
    cancelled = {each.workflow_id for each in records.workflows if each.status == "CANCELLED"}
    names = {LEFT: LEFT, RIGHT: RIGHT, "nobody": "nobody"}
    names |= {each.workflow_id: f"child of {each.parent_id}" for each in records.workflows if each.parent_id}
    bodies = {message.seq: message.body for message in records.messages}
    return {
        "workflows": sorted(
            (names[each.workflow_id], each.status, each.name, each.output, each.error) for each in records.workflows
        ),
        "entries": sorted(
            _normal_entries([each for each in records.entries if each.workflow_id not in cancelled], names, bodies),
            key=repr,
        ),
        "messages": sorted(
            (
                (each.destination_id, each.topic, each.body, each.sender_id, each.read_by_branch, each.read_by_position)
                for each in records.messages
            ),
            key=repr,
        ),
        "events": sorted(
            (names[each.workflow_id], each.key, each.version, each.value, each.branch, each.position)
            for each in records.events
        ),
    }


def _normal_entries(
    entries: list[EntryRow], names: dict[str, str], bodies: dict[int, str]
) -> Iterator[tuple[Any, ...]]:
    for each in entries:
        child = None if each.child_workflow_id is None else names[each.child_workflow_id]
        body = None if each.message_seq is None else bodies[each.message_seq]
        output = each.output
        for workflow_id, name in names.items():
            output = None if output is None else output.replace(f'"{workflow_id}"', f'"{name}"')
        yield (
            names[each.workflow_id],
            each.branch,
            each.position,
            each.name,
            each.state,
            output,
            each.error,
            child,
            body,
        )


def _place(entry: EntryRow) -> tuple[str, str, int]:
    return entry.workflow_id, entry.branch, entry.position
