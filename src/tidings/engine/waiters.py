"""Who waits for what, in this process.

Wake-ups are hints: they say when to look, the look in the database decides. So a wake-up may come
twice or for nothing, but it comes after the change is durable, and every waiter is registered here
*before* it looks; a change is then either seen by the look or followed by a wake-up.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable

from tidings.core.effects import WakeKey
from tidings.core.operations.messages import MESSAGE
from tidings.engine.arrivals import Arrival

_CANCELLED = "!"  # begins no name of a key

# The name that tells all processes that workflows were given back, and nobody owns them.
ORPHANS = "+"


def wake_name(key: WakeKey) -> str:
    """Return how other processes call `key`: short, and of fixed length.

    Should two keys ever have one name (72 bits), the waiters of one look later: a name is only a hint.
    """
    # Between the parts stands a character that no part can hold; no topic is not the empty topic.
    text = "\0".join("\0" if part is None else part for part in key)
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=9).digest()).decode()


def cancelled_name(workflow_id: str) -> str:
    """Return the name that tells the process which runs a workflow that it is cancelled."""
    return _CANCELLED + base64.urlsafe_b64encode(workflow_id.encode()).decode()


def cancelled_workflow(name: str) -> str | None:
    """Return the workflow that `cancelled_name` named so; `None` for any other name, and for nonsense."""
    if not name.startswith(_CANCELLED):
        return None
    try:
        return base64.urlsafe_b64decode(name[1:]).decode()
    except ValueError:  # Anybody may notify.
        return None


class Waiters:
    """Arrivals by key.

    A message is for one receiver, so it wakes one: who waits longest. One that was woken lets the
    next one look when its operation is over, because it may have taken another message, or given up.
    Everything else wakes all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One by itself, as most are, stands for a queue of one: a deque takes 0.7 kB.
        self._arrivals: dict[WakeKey, Arrival | deque[Arrival]] = {}
        self._names: dict[str, WakeKey] = {}  # of the keys in `_arrivals`
        self._failed: dict[WakeKey, BaseException] = {}
        self.on_first: Callable[[], None] | None = None  # called when somebody waits where nobody did

    def watch(self, keys: tuple[WakeKey, ...], *, may_fail: bool = True) -> Arrival:
        """Register an arrival. If it `may_fail`, it fails where what it waits for can no longer come."""
        arrival = Arrival(keys, may_fail)
        is_first = not self._arrivals
        with self._lock:
            for key in keys:
                if may_fail and key in self._failed:
                    arrival.settle(error=copy.copy(self._failed[key]))
                former = self._arrivals.get(key)
                if former is None:
                    self._arrivals[key] = arrival
                    self._names[wake_name(key)] = key
                elif isinstance(former, Arrival):
                    self._arrivals[key] = deque((former, arrival))
                else:
                    former.append(arrival)
        if is_first and self.on_first is not None:
            self.on_first()
        return arrival

    def forget(self, arrival: Arrival) -> None:
        """Remove an arrival that nobody waits for any more."""
        with self._lock:
            for key in arrival.keys:
                arrivals = self._arrivals.get(key)
                if arrivals is arrival:
                    self._remove(key)
                elif isinstance(arrivals, deque) and arrival in arrivals:
                    arrivals.remove(arrival)
                    if not arrivals:
                        self._remove(key)

    def take(self, keys: Iterable[WakeKey]) -> list[Arrival]:
        """Remove and return the arrivals that these keys wake, for the caller to settle with True."""
        taken: list[Arrival] = []
        if not self._arrivals:
            return taken
        with self._lock:
            for key in keys:
                taken += self._take_one(key) if key[0] == MESSAGE else self._remove(key)
        return taken

    def longest(self, keys: Iterable[WakeKey]) -> list[Arrival]:
        """Return who waits longest for each of these keys, once for each; they stay."""
        if not self._arrivals:
            return []
        with self._lock:
            found = [self._arrivals.get(key) for key in keys]
            return [each[0] if isinstance(each, deque) else each for each in found if each is not None]

    def take_named(self, names: Iterable[str]) -> list[Arrival]:
        """Remove and return the arrivals that are woken by the keys which other processes call so."""
        with self._lock:
            keys = [key for name in names if (key := self._names.get(name)) is not None]
        return self.take(keys)

    def take_all(self) -> list[Arrival]:
        """Remove and return all arrivals: each of them has to look."""
        with self._lock:
            return [arrival for key in list(self._arrivals) for arrival in self._remove(key)]

    def take_next(self, former: Arrival) -> list[Arrival]:
        """Return who is to look after `former`, if that was woken by something only one can have."""
        if not former.was_woken:
            return []
        with self._lock:
            return [arrival for key in former.keys for arrival in self._take_one(key)]

    def _remove(self, key: WakeKey) -> Iterable[Arrival]:
        arrivals = self._arrivals.pop(key, None)
        if arrivals is not None:
            self._names.pop(wake_name(key), None)
        return _each(arrivals)

    def fail(self, key: WakeKey, error: BaseException) -> None:
        """Raise `error` from all that waits for `key` and may fail, now and later: it cannot come here."""
        with self._lock:
            self._failed[key] = error
            failing = [arrival for arrival in _each(self._arrivals.get(key)) if arrival.may_fail]
        for arrival in failing:
            arrival.settle(error=copy.copy(error))

    def restore_all(self) -> None:
        """Take all failures back: whoever said so runs nothing here any more."""
        with self._lock:
            self._failed.clear()

    def restore(self, key: WakeKey) -> None:
        """Take a failure back: what `key` stands for may come again."""
        with self._lock:
            self._failed.pop(key, None)

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._arrivals

    @property
    def key_count(self) -> int:
        """How many different keys are waited for."""
        return len(self._arrivals)

    def has_failed(self, key: WakeKey) -> bool:
        """Tell whether what `key` stands for cannot come in this process."""
        return key in self._failed

    def _take_one(self, key: WakeKey) -> list[Arrival]:
        while (arrivals := self._arrivals.get(key)) is not None:
            arrival = arrivals if isinstance(arrivals, Arrival) else arrivals.popleft()
            if arrivals is arrival or not arrivals:
                self._remove(key)
            # One that is settled already, by its deadline or the end of its run, must not cost another its wake-up.
            if not arrival.settled:
                arrival.was_woken = True
                return [arrival]
        return []

    def __len__(self) -> int:
        with self._lock:
            return sum(len(_each(arrivals)) for arrivals in self._arrivals.values())


def _each(arrivals: Arrival | deque[Arrival] | None) -> Collection[Arrival]:
    if arrivals is None:
        return ()
    return (arrivals,) if isinstance(arrivals, Arrival) else arrivals
