"""Looks at the store's clock once a second, and notices that the machine was suspended.

It has no thread and waits for nothing: the timers' thread lets it look at each of its turns, and the
reader's asks the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tidings.engine.clock import Clock
from tidings.engine.reader import Reader
from tidings.engine.ticket import Ticket
from tidings.engine.timers import Timers
from tidings.store.protocol import Store

_LOOK_MS: Final = 1_000

# By how much the clock that stands still in a suspend may fall behind between two looks without one.
_SUSPENDED_MS: Final = 1_000


class Timekeeper:
    """Keeps this process's idea of the store's clock."""

    def __init__(self, clock: Clock, reader: Reader, timers: Timers, on_resume: Callable[[], None]) -> None:
        """Take the clock to set, who asks the store, the deadlines on it, and what is called after a suspend."""
        self._clock = clock
        self._reader = reader
        self._timers = timers
        self._on_resume = on_resume
        self._asked: Ticket | None = None
        self._next_ms = clock.own_ms() + _LOOK_MS
        self._lead_ms = self._lead()

    def look(self) -> None:
        """Do what is due. Called by one thread."""
        now_ms = self._clock.own_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + _LOOK_MS
        lead_ms, former = self._lead(), self._lead_ms
        self._lead_ms = lead_ms
        if lead_ms - former >= _SUSPENDED_MS:
            self._on_resume()
        if self._asked is None or self._asked.settled:  # One question at a time: a store may be away for long.
            self._asked = self._reader.ask(self._measure)

    def measure(self, store: Store) -> bool:
        """Ask the store for the time. Tells whether its clock has stepped since it was asked last."""
        asked_ms = self._clock.own_ms()
        return self._clock.synchronise(store.now_ms(), asked_ms)

    def _measure(self, store: Store) -> None:
        if self.measure(store):
            self._timers.look_anew()

    def _lead(self) -> int:
        """By how much our own clock is ahead of the one that stands still in a suspend."""
        return self._clock.own_ms() - self._clock.awake_ms()
