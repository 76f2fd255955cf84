"""A clock that a test lets jump, for the engine in place of the system's."""

from __future__ import annotations

import threading

from tests.support.app import Sightings
from tidings.engine.clock import OffsetClock


class ManualClock(OffsetClock):
    """A `tidings.engine.clock.Clock` that stands still until it is advanced.

    The store's own clock is not followed: `synchronise` is only noted. Unless a test puts another in its place,
    which is here too: `store_ms`, and `step` lets it step.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000, *, follows: bool = False) -> None:
        super().__init__(0)
        self._follows = follows
        self._ahead_ms = 0
        self._lock = threading.Lock()
        self._now_ms = now_ms
        self._waiting: list[threading.Condition] = []
        self.synchronised_ms: int | None = None
        self.waits = Sightings()  # the times that were waited for

    def own_ms(self) -> int:
        """Return the time in ms on the process's own clock: the same as on the store's, until that is stepped."""
        return self._now_ms

    def awake_ms(self) -> int:
        """Return the same: no machine is suspended here, though the time jumps."""
        return self._now_ms

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """Note what the store's clock says."""
        self.synchronised_ms = store_ms
        return self._follows and super().synchronise(store_ms, asked_ms)

    def store_ms(self) -> int:
        """Return the time in ms since the epoch on the clock that stands for the store's."""
        return self._now_ms + self._ahead_ms

    def step(self, seconds: float) -> None:
        """Let the store's clock step, forward or back. Nobody is told."""
        self._ahead_ms += round(seconds * 1_000)

    @property
    def knows(self) -> bool:
        """Whether the process knows what the store's clock says; a ms is lost in rounding."""
        return abs(self.now_ms() - self.store_ms()) <= 1

    async def awaited(self, at_ms: int) -> None:
        """Wait until somebody waits for exactly that time."""
        await self.waits.until(lambda seen: at_ms in seen)

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """Wait, holding `condition`, until it is notified or the clock was advanced to the time."""
        with self._lock:
            # Registered before the look at the time: an advance either is seen here or notifies.
            self._waiting.append(condition)
            if until_ms is not None and until_ms <= self._now_ms:
                self._waiting.remove(condition)
                return
        self.waits.note(until_ms)
        condition.wait()
        with self._lock:
            self._waiting.remove(condition)

    def advance(self, seconds: float) -> None:
        """Let the time jump forward, and wake all that wait for it."""
        with self._lock:
            self._now_ms += round(seconds * 1_000)
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()
