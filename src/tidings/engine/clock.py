"""Two clocks: this process's own, which never steps, and the store's, which all processes share.

Leases, limits and pauses of this process count on its own clock. Where the system has one that goes on
while the machine is suspended, it is that one. Deadlines that are stored are on the store's clock: own
time plus an offset, which is set by a look at the store once a second (`engine.timers`).

The store's clock may step: somebody sets it, or the machine was suspended with its own clock. Then

- a wait never lasts longer than it was asked to, on its own clock, however far the store's goes back;
- a step forward counts at once for deadlines that are still to come. One that the step skipped, if it was more than
  a second, is over after `GRACE_MS`: a step may be taken back, and a wait that was ended cannot.

Tests put a clock of their own in its place and let it jump.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import Final, Protocol

from tidings.core.effects import Due

# How long deadlines that a step forward has skipped are kept, in case the step is taken back.
GRACE_MS: Final = 4_000

# A change of the offset that is more than drift: somebody set the clock.
_STEP_MS: Final = 1_000

# No thread waits longer without a look at its own clock: what it waits with may stand still in a suspend.
_LONGEST_WAIT_SECONDS: Final = 1.0


def _find_clock() -> int | None:
    """Return the system's clock that never steps and goes on in a suspend; `None` for Python's own choice."""
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
    """What the engine asks of time."""

    def own_ms(self) -> int:
        """Return the time in ms on this process's own clock, which never steps."""

    def awake_ms(self) -> int:
        """Return the time in ms on a clock that may stand still while the machine is suspended."""

    def now_ms(self) -> int:
        """Return the time in ms since the epoch on the store's clock."""

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """Note what the store's clock said after it was asked for at `asked_ms`. Tells whether it has stepped."""

    def due_ms(self, due: Due) -> int:
        """Return when this is over, as far as is known now, on this process's own clock."""

    def wait(self, condition: threading.Condition, until_ms: int | None) -> None:
        """Wait, holding `condition`, until it is notified or the time has come on its own clock. May return early."""


class OffsetClock:
    """What all clocks have in common: own time, and the store's at an offset from it."""

    def __init__(self, offset_ms: float) -> None:
        self._offset_ms = offset_ms
        self._skipped_until_ms = 0  # deadlines until then, on the store's clock, were skipped by the last step forward
        self._grace_until_ms = 0  # and are over from then on, on our own

    def own_ms(self) -> int:
        """See `Clock.own_ms`."""
        raise NotImplementedError

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return int(self.own_ms() + self._offset_ms)

    def synchronise(self, store_ms: int, asked_ms: int) -> bool:
        """See `Clock.synchronise`.

        The answer may have taken long, so it only bounds the offset. An offset within the bounds is right.
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
    """The machine's clock that goes on in a suspend, set by the store's."""

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
            # One ms more: own_ms() rounds down, and waking a moment early would mean spinning.
            seconds = min(seconds, max(until_ms - self.own_ms() + 1, 0) / 1_000)
        condition.wait(seconds)
