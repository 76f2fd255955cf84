"""A waiter for many keys, each until it is woken: for a loop over thousands of workflows.

An arrival waits for the next wake-up of any of its keys. To wait for the one after that, all keys must be registered
again. In a gathering each key is registered once, stays until it is woken, and the loop learns which keys were woken.
So a loop over n keys registers n keys and looks n times, in whichever order they are woken.

A gathering outlives the operation that made it; the loop owns it. The garbage collector may close it in any thread, at
any moment, so closing takes no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from tidings.core.effects import WakeKey
from tidings.engine.waiting.arrivals import Arrival
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.waiters import Waiters


class _Part(Arrival):
    """The wake-up of one key."""

    __slots__ = ("_gathering",)

    def __init__(self, key: WakeKey, may_fail: bool, gathering: Gathering) -> None:
        super().__init__((key,), may_fail)
        self._gathering = gathering

    @property
    def error(self) -> BaseException | None:
        """The failure of this key, if it has one (`Waiters.fail`)."""
        return self._error

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        self._value, self._error = value, error
        self.settled = True
        return self._gathering.note(self)


class Bell(Ticket):
    """Settled with True when any key is woken."""

    __slots__ = ("_parts",)

    def __init__(self, parts: dict[WakeKey, _Part]) -> None:
        super().__init__()
        self._parts = parts

    @property
    def keys(self) -> tuple[WakeKey, ...]:
        """The keys, like those of an arrival. For tests only: this copies all keys."""
        return tuple(self._parts)


class Gathering:
    """See `core.effects.Gathering`."""

    __slots__ = ("_bell", "_may_fail", "_parts", "_waiters", "_woken")

    def __init__(self, waiters: Waiters, may_fail: bool) -> None:
        self._waiters = waiters
        self._may_fail = may_fail
        self._parts: dict[WakeKey, _Part] = {}
        self._woken: deque[_Part] = deque()
        self._bell: Bell | None = None

    def watch(self, keys: Iterable[WakeKey]) -> None:
        """Watch for these keys, before looking."""
        for key in keys:
            if key not in self._parts:
                part = self._parts[key] = _Part(key, self._may_fail, self)
                self._waiters.register(part)

    def forget(self, keys: Iterable[WakeKey]) -> None:
        """Stop watching for these keys: they have come."""
        self._waiters.abandon([part for key in keys if (part := self._parts.pop(key, None)) is not None])

    def bell(self) -> Bell:
        """Return a ticket for the next wake-up, settled if there is one that was not taken yet."""
        bell = self._bell = Bell(self._parts)
        if self._woken:  # The bell is set already. So a wake-up either rings it or is found here.
            bell.settle(True)
        return bell

    def take(self) -> dict[WakeKey, BaseException | None]:
        """Return the woken keys in order, each with its failure or `None`. They are no longer watched."""
        found: dict[WakeKey, BaseException | None] = {}
        while self._woken:
            part = self._woken.popleft()
            [key] = part.keys
            if self._parts.get(key) is part:
                del self._parts[key]
                found[key] = part.error
                if part.error is not None:
                    self._waiters.abandon([part])  # A failure does not unregister it.
        return found

    def close(self) -> None:
        """Stop watching for all keys."""
        parts = list(self._parts.values())
        self._parts.clear()
        self._waiters.abandon(parts)

    def note(self, part: _Part) -> list[asyncio.Future[None]]:
        """Note that a key was woken. Returns the futures to wake on their loops."""
        self._woken.append(part)
        return [] if self._bell is None else self._bell.ring()
