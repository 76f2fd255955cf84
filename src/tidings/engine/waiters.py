"""Who waits for what, in this process.

Wake-ups are hints: they say when to look, the look in the database decides. So a wake-up may come
twice or for nothing, but it comes after the change is durable, and every waiter is registered here
*before* it looks; a change is then either seen by the look or followed by a wake-up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tidings.core.effects import WakeKey
from tidings.engine.ticket import Ticket


class Arrival(Ticket):
    """The next wake-up of any of some keys."""

    __slots__ = ("keys",)

    def __init__(self, keys: tuple[WakeKey, ...]) -> None:
        super().__init__()
        self.keys = keys


class Waiters:
    """Arrivals by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: dict[WakeKey, list[Arrival]] = {}
        self._failed: dict[WakeKey, BaseException] = {}

    def watch(self, keys: tuple[WakeKey, ...]) -> Arrival:
        """Register an arrival. Where what it waits for can no longer come, it has failed already."""
        arrival = Arrival(keys)
        with self._lock:
            for key in keys:
                if key in self._failed:
                    arrival.settle(error=self._failed[key])
                self._arrivals.setdefault(key, []).append(arrival)
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
        """Remove and return the arrivals of these keys, for the caller to settle with True."""
        taken: list[Arrival] = []
        if not self._arrivals:
            return taken
        with self._lock:
            for key in keys:
                taken += self._arrivals.pop(key, ())
        return taken

    def fail(self, key: WakeKey, error: BaseException) -> None:
        """Raise `error` from all that waits for `key`, now and later: it cannot come here."""
        with self._lock:
            self._failed[key] = error
            arrivals = self._arrivals.pop(key, [])
        for arrival in arrivals:
            arrival.settle(error=error)

    def restore(self, key: WakeKey) -> None:
        """Take a failure back: what `key` stands for may come again."""
        with self._lock:
            self._failed.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(arrivals) for arrivals in self._arrivals.values())
