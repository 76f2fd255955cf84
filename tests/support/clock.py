"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class ManualClock:
    """The engine's `Clock`, moved by `advance` alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now_ms = 1_700_000_000_000
        self._waiting: set[threading.Condition] = set()

    def now_ms(self) -> int:
        return self._now_ms

    def synchronise(self, store_ms: int) -> None:
        """The store's own clock is not asked."""

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        with self._lock:
            if until_ms is not None and until_ms <= self._now_ms:
                return
            self._waiting.add(condition)
        # Whoever advances the clock now cannot notify before this wait has begun: we hold the condition.
        condition.wait()

    def advance(self, seconds: float) -> None:
        """Move the time, and wake whoever waits for a time."""
        with self._lock:
            self._now_ms += round(seconds * 1_000)
            waiting, self._waiting = self._waiting, set()
        for condition in waiting:
            with condition:
                condition.notify_all()
