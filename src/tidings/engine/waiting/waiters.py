"""The waiters of this process, by the keys that they wait for.

A wake-up is a hint: it makes the waiter look, and the query decides. So a wake-up may come twice or for nothing. But no
change is missed, for two reasons: every waiter is registered here *before* it looks, and a wake-up comes *after* its
change is durable. So the look sees the change, or a wake-up follows it.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from tidings.core.effects import WakeKey
from tidings.core.operations.messages import MESSAGE
from tidings.engine.waiting.arrivals import Arrival

_CANCELLED = "!"  # No name of a key begins with it.

# The name that tells all processes that some workflows have no owner.
ORPHANS = "+"

# How many new waits are noted for `take_begun`; of more, the oldest are dropped.
_MOST_BEGUN: Final = 50_000


def wake_name(key: WakeKey) -> str:
    """Return the name of `key` for other processes: short, and of fixed length.

    If two keys ever had the same name (72 bits), the waiters of one would look late. That is safe: names are hints.
    """
    # The parts are joined by a character that no part can hold. `None` differs from the empty topic.
    text = "\0".join(["\0" if part is None else part for part in key])
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=9).digest()).decode()


def cancelled_name(workflow_id: str) -> str:
    """Return the name that tells the process of a workflow's run that the workflow is cancelled."""
    return _CANCELLED + base64.urlsafe_b64encode(workflow_id.encode()).decode()


def cancelled_workflow(name: str) -> str | None:
    """Return the workflow that a name of `cancelled_name` means; `None` for any other text."""
    if not name.startswith(_CANCELLED):
        return None
    try:
        return base64.urlsafe_b64decode(name[1:]).decode()
    except ValueError:  # Any program may notify, with any text.
        return None


class Waiters:
    """Arrivals by key.

    A message is for one receiver, so it wakes one waiter: the one that waits longest. When the operation of a woken
    waiter ends, the next waiter looks, because the first may have taken another message or given up. Any other change
    wakes all waiters.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Most keys have one arrival. It is stored without a queue, because a deque takes 0.7 kB.
        self._arrivals: dict[WakeKey, Arrival | deque[Arrival]] = {}
        # The keys in `_arrivals`: by name, and those without a name yet. Making a name takes longer than all else here.
        # It is needed only when another process wakes a name, and most waits end before that.
        self._names: dict[str, WakeKey] = {}
        self._unnamed: dict[WakeKey, None] = {}
        self._failed: dict[WakeKey, BaseException] = {}
        self._begun: deque[WakeKey] = deque(maxlen=_MOST_BEGUN)  # Keys of waits that began lately, except messages.
        self._abandoned: deque[Arrival] = deque()  # Still registered. A deque's appends are atomic.
        self.on_first: Callable[[], None] | None = None  # Called when the first waiter comes.

    def watch(self, keys: tuple[WakeKey, ...], *, may_fail: bool = True) -> Arrival:
        """Register an arrival. If it `may_fail`, the failure of one of its keys settles it (`fail`)."""
        arrival = Arrival(keys, may_fail)
        self.register(arrival)
        return arrival

    def register(self, arrival: Arrival) -> None:
        """Register an arrival for its keys."""
        is_first = not self._arrivals
        with self._lock:
            self._remove_abandoned()
            for key in arrival.keys:
                if arrival.may_fail and key in self._failed:
                    arrival.settle(error=copy.copy(self._failed[key]))
                former = self._arrivals.get(key)
                if former is None:
                    self._arrivals[key] = arrival
                    self._unnamed[key] = None
                    if key[0] != MESSAGE:
                        self._begun.append(key)
                elif isinstance(former, Arrival):
                    self._arrivals[key] = deque((former, arrival))
                else:
                    former.append(arrival)
        if is_first and self.on_first is not None:
            self.on_first()

    def forget(self, arrival: Arrival) -> None:
        """Remove an arrival that no operation waits for."""
        with self._lock:
            self._forget(arrival)

    def abandon(self, arrivals: Iterable[Arrival]) -> None:
        """Let a later call remove these arrivals. Takes no lock, because the garbage collector may call this."""
        self._abandoned.extend(arrivals)

    def _forget(self, arrival: Arrival) -> None:
        for key in arrival.keys:
            arrivals = self._arrivals.get(key)
            if arrivals is arrival:
                self._remove(key)
            elif isinstance(arrivals, deque) and arrival in arrivals:
                arrivals.remove(arrival)
                if not arrivals:
                    self._remove(key)

    def _remove_abandoned(self) -> None:
        while self._abandoned:
            self._forget(self._abandoned.popleft())

    def take(self, keys: Iterable[WakeKey]) -> list[Arrival]:
        """Remove and return the arrivals that these keys wake, for the caller to settle with True."""
        taken: list[Arrival] = []
        if not self._arrivals:
            return taken
        with self._lock:
            for key in keys:
                if key[0] == MESSAGE:
                    taken += self._take_one(key)
                    continue
                for arrival in self._remove(key):
                    arrival.woken_by = key
                    taken.append(arrival)
        return taken

    def longest(self, keys: Iterable[WakeKey]) -> list[Arrival]:
        """Return the arrival that has waited longest for each of these keys. It stays registered."""
        if not self._arrivals:
            return []
        with self._lock:
            found = [self._arrivals.get(key) for key in keys]
            return [each[0] if isinstance(each, deque) else each for each in found if each is not None]

    def take_named(self, names: Iterable[str]) -> list[Arrival]:
        """Remove and return the arrivals that these names from other processes wake."""
        if not self._arrivals:
            return []
        with self._lock:
            self._names.update((wake_name(key), key) for key in self._unnamed)
            self._unnamed.clear()
            keys = [key for name in names if (key := self._names.get(name)) is not None]
        return self.take(keys)

    def take_all(self) -> list[Arrival]:
        """Remove and return all arrivals: each of them has to look."""
        with self._lock:
            self._remove_abandoned()
            return [arrival for key in list(self._arrivals) for arrival in self._remove(key)]

    def take_next(self, former: Arrival) -> list[Arrival]:
        """Return the waiter that replaces `former`, if a message woke `former`."""
        if not former.was_woken:
            return []
        with self._lock:
            return [arrival for key in former.keys for arrival in self._take_one(key)]

    def _remove(self, key: WakeKey) -> Iterable[Arrival]:
        arrivals = self._arrivals.pop(key, None)
        if arrivals is None:
            return ()
        if key in self._unnamed:
            del self._unnamed[key]
        else:
            del self._names[wake_name(key)]
        return _each(arrivals)

    def fail(self, key: WakeKey, error: BaseException) -> None:
        """Raise `error` from all present and later waiters for `key` that may fail.

        Used for changes that this process cannot make, such as the end of a workflow that it cannot execute.
        """
        with self._lock:
            self._failed[key] = error
            failing = [arrival for arrival in _each(self._arrivals.get(key)) if arrival.may_fail]
        for arrival in failing:
            arrival.settle(error=copy.copy(error))

    def restore_all(self) -> None:
        """Remove all failures: the host that reported them has stopped."""
        with self._lock:
            self._failed.clear()

    def restore(self, key: WakeKey) -> None:
        """Remove the failure of `key`: this process executes its workflow again."""
        with self._lock:
            self._failed.pop(key, None)

    @property
    def is_empty(self) -> bool:
        """Whether there are no waiters."""
        if self._abandoned:
            with self._lock:
                self._remove_abandoned()
        return not self._arrivals

    @property
    def key_count(self) -> int:
        """How many different keys have waiters."""
        return len(self._arrivals)

    def take_begun(self) -> list[WakeKey]:
        """Return the keys of the waits that began since the last call, except those of messages."""
        with self._lock:
            begun, self._begun = self._begun, deque(maxlen=_MOST_BEGUN)
        return list(begun)

    def has(self, key: WakeKey) -> bool:
        """Tell whether `key` has a waiter."""
        return key in self._arrivals

    def has_failed(self, key: WakeKey) -> bool:
        """Tell whether `key` has a failure (`fail`)."""
        return key in self._failed

    def _take_one(self, key: WakeKey) -> list[Arrival]:
        while (arrivals := self._arrivals.get(key)) is not None:
            arrival = arrivals if isinstance(arrivals, Arrival) else arrivals.popleft()
            if arrivals is arrival or not arrivals:
                self._remove(key)
            # Skip arrivals that a deadline or the end of their run has settled: the wake-up must reach one that waits.
            if not arrival.settled:
                arrival.was_woken = True
                return [arrival]
        return []

    def __len__(self) -> int:
        with self._lock:
            self._remove_abandoned()
            return sum(len(_each(arrivals)) for arrivals in self._arrivals.values())


def _each(arrivals: Arrival | deque[Arrival] | None) -> Collection[Arrival]:
    if arrivals is None:
        return ()
    return (arrivals,) if isinstance(arrivals, Arrival) else arrivals
