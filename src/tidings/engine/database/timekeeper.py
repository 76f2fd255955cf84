"""Reads the store's clock once a second, and notices if the machine was suspended.

It has no thread and never blocks: the timers' thread calls it after each wait, and the reader's thread asks the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tidings.engine.database.reader import Reader
from tidings.engine.waiting.clock import Clock
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers
from tidings.store.protocol import Store

_LOOK_MS: Final = 1_000

# If the clock that stops in a suspend loses more than this between two looks, the machine was suspended.
_SUSPENDED_MS: Final = 1_000


class Timekeeper:
    """Keeps this process's copy of the store's clock correct."""

    def __init__(self, clock: Clock, reader: Reader, timers: Timers, on_resume: Callable[[], None]) -> None:
        """Prepare.

        Args:
            clock: the clock to correct.
            reader: asks the store for its time.
            timers: hold the deadlines that a step moves.
            on_resume: called after a suspend. Must not block.
        """
        self._clock = clock
        self._reader = reader
        self._timers = timers
        self._on_resume = on_resume
        self._asked: Ticket | None = None
        self._next_ms = clock.own_ms() + _LOOK_MS
        self._lead_ms = self._lead()

    def look(self) -> None:
        """Read the clocks, if it is time. Called by one thread. Does not block."""
        now_ms = self._clock.own_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + _LOOK_MS
        lead_ms, former = self._lead(), self._lead_ms
        self._lead_ms = lead_ms
        if lead_ms - former >= _SUSPENDED_MS:
            self._on_resume()
        if self._asked is None or self._asked.settled:  # One query at a time: the store may be away for long.
            self._asked = self._reader.ask(self._measure)

    def measure(self, store: Store) -> bool:
        """Ask the store for the time. Returns whether its clock has stepped since the last time."""
        asked_ms = self._clock.own_ms()
        return self._clock.synchronise(store.now_ms(), asked_ms)

    def _measure(self, store: Store) -> None:
        if self.measure(store):
            self._timers.look_anew()

    def _lead(self) -> int:
        """Return by how much the own clock is ahead of the one that stops in a suspend."""
        return self._clock.own_ms() - self._clock.awake_ms()
