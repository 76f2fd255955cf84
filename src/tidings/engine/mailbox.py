"""An inbox with one consumer that takes all there is at once.

The consumer's own pace makes the batches: what comes in while it works is its next batch, and when
it is idle it takes a lone item at once. No wait for company, no timer.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Many threads put, one takes all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._bell = threading.Lock()  # Held while there is nothing to ring for.
        self._bell.acquire()
        self._sleeping = False
        self._closed = False

    def put(self, item: T) -> bool:
        """Add an item; False if the box is closed and the item was not taken."""
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
            is_sleeping = self._sleeping
        if is_sleeping:
            self._ring()
        return True

    def take_all(self, timeout_seconds: float | None = None) -> list[T] | None:
        """Wait until there is an item, and take them all; empty only when closed and drained, `None` at the timeout."""
        while True:
            with self._lock:
                self._sleeping = False
                if self._items or self._closed:
                    items, self._items = self._items, []
                    return items
                self._sleeping = True
            if timeout_seconds is None:
                self._bell.acquire()
            elif not self._bell.acquire(timeout=timeout_seconds):
                return None

    def waiting(self) -> list[T]:
        """Return the items that nobody has taken yet; they stay."""
        with self._lock:
            return list(self._items)

    def close(self) -> None:
        """Take no more items; the consumer still gets those that are in."""
        with self._lock:
            self._closed = True
        self._ring()

    def _ring(self) -> None:
        """Wake the consumer. It is rung for until it is awake: a Ctrl-C may come right before the bell rings."""
        with contextlib.suppress(RuntimeError):  # It rings already.
            self._bell.release()
