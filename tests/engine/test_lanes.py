"""The threads that read lists, at their beginning and their end."""

from __future__ import annotations

import threading

import pytest

from tests.support.engines import wait_until
from tidings.engine.database.lanes import Lanes
from tidings.engine.hooks import Hooks
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSShutdownError


def test_a_lane_that_is_just_going_to_be_started_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before it runs; whoever stops the reader at that moment cannot wait for it."""
    lanes = Lanes(lambda: pytest.fail("nothing is read any more"), Hooks(), lambda: None)
    start, ends = threading.Thread.start, []

    def stop_before_it_starts(thread: threading.Thread) -> None:
        if thread.name == "tidings-lane":
            lanes.stop(0.01)
            ends.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", stop_before_it_starts)
    ticket = Ticket()
    assert lanes.put(lambda store: store, ticket)
    with pytest.raises(DBOSShutdownError):
        ticket.result()
    wait_until(lambda: not any(thread.is_alive() for thread in ends))
    assert len(ends) == 1
    assert not lanes.contacts
