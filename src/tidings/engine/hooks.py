"""Hooks: points of the engine at which a test may wait, or hold the engine.

In production the table is empty and a point costs one look-up. A test sets a function for a point. The thread that
passes the point calls it; it may block, count or raise.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any


class Point(StrEnum):
    """Where the engine can be observed, and with which argument."""

    BATCH_TAKEN = "batch taken"  # the committer has admitted these jobs (list[Job])
    BATCH_COMMITTED = "batch committed"  # they are durable, no ticket is settled yet (list[Job])
    BATCH_TOLD = "batch told"  # their tickets are settled, and their waiters woken (list[Job])
    STORE_UNAVAILABLE = "store unavailable"  # before the pause that precedes a retry (Unavailable)
    WAITING = "waiting"  # an operation waits for its arrival (Arrival | None); for a `recv` the committer passes here
    RECHECK = "recheck"  # all waiters are woken to look (whether the listener is proven to hear: bool)
    HEARS = "hears"  # the listener has proven that it hears, or was lost (bool)
    RUN_ENDED = "run ended"  # a run has ended, for whatever reason (workflow id)


class Hooks:
    """The functions that tests have set."""

    def __init__(self) -> None:
        self._functions: dict[Point, Callable[[Any], None]] = {}

    def set(self, point: Point, function: Callable[[Any], None] | None) -> None:
        """Call `function` whenever the engine passes `point`; `None` removes it."""
        if function is None:
            self._functions.pop(point, None)
        else:
            self._functions[point] = function

    def passes(self, point: Point, argument: Any) -> None:
        """Call the function that is set for `point`, if there is one."""
        if self._functions:
            function = self._functions.get(point)
            if function is not None:
                function(argument)
