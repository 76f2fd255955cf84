"""Two clocks: this process's own, which never steps, and the store's, which all processes share.

Leases, limits and pauses of this process use its own clock. If the system has a clock that continues while the machine
is suspended, the own clock is that one. Recorded deadlines are on the store's clock: own time plus an offset. The
process asks the store for its time once a second, and corrects the offset (`engine.database.timekeeper`).

The store's clock may step: somebody sets it. Or it seems to step, because this machine was suspended and its own clock
stopped meanwhile. Then

- a wait never lasts longer on the own clock than was asked for, however far the store's clock goes back;
- a step forward applies at once to deadlines that are still to come. A deadline skipped by a step of more than a
  second passes after `GRACE_MS`: the step may be corrected, and an ended wait cannot be resumed.

Tests replace the clock by one that they can make jump.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import Final, Protocol

from tidings.core.effects import Due

# How long a deadline that a step forward has skipped still waits, in case the step is corrected.
GRACE_MS: Final = 4_000

# A greater change of the offset is a step; a smaller one is drift.
_STEP_MS: Final = 1_000

# A thread reads the own clock at least this often: the timeout of a wait may pause while the machine is suspended.
_LONGEST_WAIT_SECONDS: Final = 1.0


def _find_clock() -> int | None:
    """Return the system's clock that never steps and continues in a suspend; `None` for `time.monotonic`."""
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    number: int | None = getattr(time, name, None)
    if number is not None:
        try:
            time.clock_gettime(number)
        except OSError:
            return None
    return number


_CLOCK: Final = _find_clock()


def own_seconds() -> float:
    """Return the time in s on this process's own clock."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Clock(Protocol):
    """The clocks that the engine uses."""

    def own_ms(self) -> int:
        """Return the time in ms on this process's own clock, which never steps."""

    def awake_ms(self) -> int:
        """Return the time in ms on a clock that may stop while the machine is suspended."""

    def now_ms(self) -> int:
        """Return the time in ms since the epoch on the store's clock."""

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """Correct the offset: asked at `asked_ms`, the store said `store_ms`. Returns whether its clock stepped."""

    def due_ms(self, due: Due) -> int:
        """Return when `due` passes on the own clock, by the present offset."""

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """Wait, holding `condition`, until it is notified or `until_ms` on the own clock. May return early."""


class OffsetClock:
    """What all clocks have in common: the store's time is the own time plus an offset."""

    def __init__(self, offset_ms: float) -> None:
        self._offset_ms = offset_ms
        self._skipped_until_ms = 0  # The last step forward skipped deadlines until this time (store's clock).
        self._grace_until_ms = 0  # They pass at this time (own clock).

    def own_ms(self) -> int:
        """See `Clock.own_ms`."""
        raise NotImplementedError

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return int(self.own_ms() + self._offset_ms)

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """See `Clock.synchronise`.

        The answer may have taken long, so it only bounds the offset. An offset within the bounds is kept.
        """
        now_ms = self.own_ms()
        former = self._offset_ms
        self._offset_ms = min(max(former, store_ms - 1 - now_ms), store_ms + 1 - asked_ms)
        change = self._offset_ms - former
        if change > _STEP_MS:
            self._skipped_until_ms = int(now_ms + self._offset_ms)
            self._grace_until_ms = now_ms + GRACE_MS
        return abs(change) > _STEP_MS

    def due_ms(self, due: Due) -> int:
        """See `Clock.due_ms`."""
        if due.own_ms is None:
            due.own_ms = self._first_due(due)
        if due.deadline_ms is None:
            return due.own_ms
        stored_ms = math.ceil(due.deadline_ms - self._offset_ms)
        if due.deadline_ms <= self._skipped_until_ms:
            stored_ms = max(stored_ms, self._grace_until_ms)
        return min(due.own_ms, stored_ms)

    def _first_due(self, due: Due) -> int:
        left = due.longest_ms
        if due.deadline_ms is not None:
            left = min(left, math.ceil(due.deadline_ms - self.now_ms()))
        return self.own_ms() + left


class SystemClock(OffsetClock):
    """The machine's clock that continues in a suspend, and the store's clock."""

    def __init__(self) -> None:
        super().__init__(time.time() * 1_000 - own_seconds() * 1_000)

    def own_ms(self) -> int:
        """See `Clock.own_ms`."""
        return int(own_seconds() * 1_000)

    def awake_ms(self) -> int:
        """See `Clock.awake_ms`."""
        return int(time.monotonic() * 1_000)

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """See `Clock.wait`."""
        seconds = _LONGEST_WAIT_SECONDS
        if until_ms is not None:
            # One ms more: own_ms() rounds down, and waking early would make the caller spin.
            seconds = min(seconds, max(until_ms - self.own_ms() + 1, 0) / 1_000)
        condition.wait(seconds)
