"""A unit of a run has everything that it was made from."""

from __future__ import annotations

from typing import Any

import msgspec

from tidings.core.history import Run
from tidings.model import Entry, EntryState, Outcome, PublishedEvent, Status, StreamItem, Take, Taken, Unit
from tidings.serialization import JSONSerializer


def _run() -> Run:
    return Run("w", 7, "flow", JSONSerializer())


def test_a_unit_keeps_all_that_it_is_given_at_once() -> None:
    run = _run()
    entry = run.begin(run.root, "step").done(1, 2, output='"x"', error="e", child_workflow_id="child")
    given: dict[str, Any] = {
        "take": Take(topic="t"),
        "take_seen": 4,
        "event": PublishedEvent(key="e", version=1, value="1", at_ms=1),
        "outcome": Outcome(status=Status.SUCCESS, output=None, error=None, at_ms=1),
        "item": StreamItem(key="s", offset=0, value="1", at_ms=1, branch="", position=1, ordinal=1),
        "closes": ("s",),
        "cancels": ("other",),
    }
    put_back = Taken(seq=9, body="1", topic="late", sender_id=None, sent_at_ms=1)
    unit = run.unit(entry, put_back=put_back, **given)
    assert unit == Unit(workflow_id="w", epoch=7, entry=entry, put_back=9, put_back_topic="late", **given)
    left = {"messages", "start", "recovery", "stuck"}
    assert set(msgspec.structs.asdict(unit)) - left == {
        *given,
        "workflow_id",
        "epoch",
        "entry",
        "put_back",
        "put_back_topic",
    }


def test_an_entry_says_how_far_its_operation_came() -> None:
    run = _run()
    slot = run.begin(run.root, "sleep")
    place: dict[str, Any] = {"branch": "", "position": 1, "ordinal": 1, "name": "sleep"}
    assert slot.open(1, 5) == Entry(**place, state=EntryState.OPEN, deadline_ms=5, started_at_ms=1)
    assert slot.done(1, 2) == Entry(**place, started_at_ms=1, completed_at_ms=2, finished=1, begun=1)
    other = run.begin(run.root, "recv")
    assert other.abandoned() == Entry(
        branch="", position=2, ordinal=2, name="recv", state=EntryState.ABANDONED, finished=2, begun=2
    )
