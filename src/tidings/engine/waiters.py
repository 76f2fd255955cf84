"""Who waits for what, in this process.

Wake-ups are hints: they say when to look, the look in the database decides. So a wake-up may come
twice or for nothing, but it comes after the change is durable, and every waiter is registered here
*before* it looks; a change is then either seen by the look or followed by a wake-up.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterable

from tidings.core.effects import WakeKey
from tidings.core.operations.messages import MESSAGE
from tidings.engine.ticket import Ticket


class Arrival(Ticket):
    """The next wake-up of any of some keys."""

    __slots__ = ("keys", "may_fail", "was_woken")

    def __init__(self, keys: tuple[WakeKey, ...], may_fail: bool) -> None:
        super().__init__()
        self.keys = keys
        self.may_fail = may_fail
        self.was_woken = False


class Waiters:
    """Arrivals by key.

    A message is for one receiver, so it wakes one: who waits longest. One that was woken lets the
    next one look when its operation is over, because it may have taken another message, or given up.
    Everything else wakes all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: dict[WakeKey, deque[Arrival]] = {}
        self._failed: dict[WakeKey, BaseException] = {}

    def watch(self, keys: tuple[WakeKey, ...], *, may_fail: bool = True) -> Arrival:
        """Register an arrival. If it `may_fail`, it fails where what it waits for can no longer come."""
        arrival = Arrival(keys, may_fail)
        with self._lock:
            for key in keys:
                if may_fail and key in self._failed:
                    arrival.settle(error=copy.copy(self._failed[key]))
                self._arrivals.setdefault(key, deque()).append(arrival)
        return arrival

    def forget(self, arrival: Arrival) -> None:
        """Remove an arrival that nobody waits for any more."""
        with self._lock:
            for key in arrival.keys:
                arrivals = self._arrivals.get(key)
                if arrivals is not None and arrival in arrivals:
                    arrivals.remove(arrival)
                    if not arrivals:
                        del self._arrivals[key]

    def take(self, keys: Iterable[WakeKey]) -> list[Arrival]:
        """Remove and return the arrivals that these keys wake, for the caller to settle with True."""
        taken: list[Arrival] = []
        if not self._arrivals:
            return taken
        with self._lock:
            for key in keys:
                taken += self._take_one(key) if key[0] == MESSAGE else self._arrivals.pop(key, ())
        return taken

    def take_next(self, former: Arrival) -> list[Arrival]:
        """Return who is to look after `former`, if that was woken by something only one can have."""
        if not former.was_woken:
            return []
        with self._lock:
            return [arrival for key in former.keys for arrival in self._take_one(key)]

    def fail(self, key: WakeKey, error: BaseException) -> None:
        """Raise `error` from all that waits for `key` and may fail, now and later: it cannot come here."""
        with self._lock:
            self._failed[key] = error
            failing = [arrival for arrival in self._arrivals.get(key, ()) if arrival.may_fail]
        for arrival in failing:
            arrival.settle(error=copy.copy(error))

    def restore(self, key: WakeKey) -> None:
        """Take a failure back: what `key` stands for may come again."""
        with self._lock:
            self._failed.pop(key, None)

    def has_failed(self, key: WakeKey) -> bool:
        """Tell whether what `key` stands for cannot come in this process."""
        return key in self._failed

    def _take_one(self, key: WakeKey) -> list[Arrival]:
        arrivals = self._arrivals.get(key)
        if arrivals is None:
            return []
        arrival = arrivals.popleft()
        if not arrivals:
            del self._arrivals[key]
        arrival.was_woken = True
        return [arrival]

    def __len__(self) -> int:
        with self._lock:
            return sum(len(arrivals) for arrivals in self._arrivals.values())
