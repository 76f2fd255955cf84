"""An inbox with one consumer, which takes all items at once.

The consumer's pace makes the batches: the items that come while it works are its next batch. When it is idle it takes a
single item at once. It never waits for more items.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Many threads put items; one thread takes all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._bell = threading.Lock()  # Held, unless the consumer is to be woken.
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
        """Wait for an item, and take all. Empty only if the box is closed and drained; `None` after the timeout."""
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
        """Return the items that are not taken yet; they stay."""
        with self._lock:
            return list(self._items)

    def close(self) -> None:
        """Accept no more items; the consumer still gets those in the box."""
        with self._lock:
            self._closed = True
        self._ring()

    def _ring(self) -> None:
        """Wake the consumer. Each `put` rings until it is awake: a Ctrl-C may interrupt one right before its ring."""
        with contextlib.suppress(RuntimeError):  # The bell rings already.
            self._bell.release()
