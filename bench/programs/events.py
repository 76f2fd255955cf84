"""Events, written: how many values one workflow sets each second."""

from __future__ import annotations

from bench.library import DBOS
from bench.meter import Window, measuring, rounds
from bench.size import Size


@DBOS.workflow()
def set_steadily(seconds: float, value: str) -> int:
    """Set one event again and again."""
    window = Window()
    for _ in rounds(seconds, window):
        DBOS.set_event("state", value)
        window.operations += 1
    return window.operations


def events_set(size: Size) -> None:
    """Set an event. The end of the workflow is included, because only then all values are durable."""
    set_steadily(size.seconds / 10, size.value)
    with measuring("events_set") as window:
        window.operations = set_steadily(size.seconds, size.value)
