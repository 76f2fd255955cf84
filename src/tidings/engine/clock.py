"""The time, on the store's clock: deadlines and leases are compared by many machines.

Between two looks at the store's clock the local monotonic one carries it on, so a jump of the local
wall clock moves no deadline. Tests put a clock of their own in its place and let it jump.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now_ms(self) -> int:
        """Return the time in ms since the epoch on the store's clock."""

    def synchronise(self, store_ms: int) -> None:
        """Note what the store's clock says now."""

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """Wait, holding `condition`, until it is notified or the time has come."""


class SystemClock:
    """The machine's monotonic clock, set by the store's."""

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1_000 - time.monotonic() * 1_000

    def now_ms(self) -> int:
        return int(time.monotonic() * 1_000 + self._offset_ms)

    def synchronise(self, store_ms: int) -> None:
        self._offset_ms = store_ms - time.monotonic() * 1_000

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        if until_ms is None:
            condition.wait()
        else:
            # One ms more: now_ms() rounds down, and waking a moment early would mean spinning.
            condition.wait(min(max(until_ms - self.now_ms() + 1, 0) / 1_000, threading.TIMEOUT_MAX))
