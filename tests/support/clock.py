"""A clock that a test can move forward; the engine uses it in place of the system's."""

from __future__ import annotations

import threading

from tests.support.app import Sightings
from tidings.engine.waiting.clock import OffsetClock


class ManualClock(OffsetClock):
    """A `tidings.engine.waiting.clock.Clock` that stands still until it is advanced.

    It does not follow the store's clock: `synchronise` only notes the time. A test may use `store_ms` as the store's
    clock, and let it step with `step`.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000, *, follows: bool = False) -> None:
        super().__init__(0)
        self._follows = follows
        self._ahead_ms = 0
        self._lock = threading.Lock()
        self._now_ms = now_ms
        self._waiting: list[threading.Condition] = []
        self.synchronised_ms: int | None = None
        self.waits = Sightings()  # the times of the waits

    def own_ms(self) -> int:
        """Return the time in ms on the process's own clock: the same as on the store's, until that is stepped."""
        return self._now_ms

    def awake_ms(self) -> int:
        """Return the same time: no machine is suspended here, although the time jumps."""
        return self._now_ms

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """Note the time on the store's clock."""
        self.synchronised_ms = store_ms
        return self._follows and super().synchronise(store_ms, asked_ms)

    def store_ms(self) -> int:
        """Return the time of the simulated store's clock, in ms since the epoch."""
        return self._now_ms + self._ahead_ms

    def step(self, seconds: float) -> None:
        """Let the store's clock step, forward or back, without notifying anybody."""
        self._ahead_ms += round(seconds * 1_000)

    @property
    def knows(self) -> bool:
        """Whether the process knows the time on the store's clock, to 1 ms: that much is lost in rounding."""
        return abs(self.now_ms() - self.store_ms()) <= 1

    async def awaited(self, at_ms: int) -> None:
        """Wait until a wait for exactly that time begins."""
        await self.waits.until(lambda seen: at_ms in seen)

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """Wait, holding `condition`, until it is notified or the clock reaches the time."""
        with self._lock:
            # Registered before the time is checked: an advance is either seen here, or notifies the condition.
            self._waiting.append(condition)
            if until_ms is not None and until_ms <= self._now_ms:
                self._waiting.remove(condition)
                return
        self.waits.note(until_ms)
        condition.wait()
        with self._lock:
            self._waiting.remove(condition)

    def advance(self, seconds: float) -> None:
        """Move the time forward, and wake all waits."""
        with self._lock:
            self._now_ms += round(seconds * 1_000)
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def pass_unnoticed(self, seconds: float) -> None:
        """Move the time forward without waking any wait, as on a machine that is too busy."""
        with self._lock:
            self._now_ms += round(seconds * 1_000)
