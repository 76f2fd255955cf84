"""Units and queries that need a right which the database user has lost. All others continue.

A unit that may not be written is parked, together with the later units of its run, which must not overtake it. Of the
items that need the same right, one is retried now and then. When it succeeds, all are retried.
"""

from __future__ import annotations

import logging
import time
from typing import Final, Generic, TypeVar

logger = logging.getLogger("tidings")

T = TypeVar("T")

PAUSE_SECONDS: Final = 1.0


class Parked(Generic[T]):
    """Parked items, by the reason. Used by one thread.

    Args:
        what: the activity that needs the right, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._by_reason: dict[str, list[T]] = {}
        self._reason_of: dict[int, str] = {}  # By `id` of the chain; the parked item keeps the chain alive.
        self._said: set[str] = set()
        self._due_at = 0.0

    @property
    def timeout_seconds(self) -> float | None:
        """How long the thread may wait for other work; `None` while nothing is parked."""
        return max(self._due_at - time.monotonic(), 0.0) if self._by_reason else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is parked."""
        return not self._by_reason

    def all(self) -> list[T]:
        """Return all parked items."""
        return [each for parked in tuple(self._by_reason.values()) for each in parked]

    def put(self, item: T, reason: str, chain: object = None) -> None:
        """Park an item. Later items of its chain, if it has one, are parked too (`follows`)."""
        if not self._by_reason:
            self._due_at = time.monotonic() + PAUSE_SECONDS
        self._by_reason.setdefault(reason, []).append(item)
        if chain is not None:
            self._reason_of[id(chain)] = reason
        if reason not in self._said:
            self._said.add(reason)
            logger.warning(
                "%s needs a database right that is missing (%s); only what needs this right waits, and is retried. "
                "Grant the right to this database user",
                self._what,
                reason,
            )

    def follows(self, item: T, chain: object) -> bool:
        """If an earlier item of this chain is parked, park this item too. Returns whether it did."""
        reason = self._reason_of.get(id(chain)) if self._reason_of else None
        if reason is None:
            return False
        self._by_reason[reason].append(item)
        return True

    def take_due(self) -> dict[str, list[T]]:
        """Return all items, by reason, to be retried; nothing if no retry is due."""
        if not self._by_reason or time.monotonic() < self._due_at:
            return {}
        due, self._by_reason, self._reason_of = self._by_reason, {}, {}
        return due

    def is_still(self, reason: str) -> bool:
        """Tell whether a retried item was parked again for this reason; if not, log that the right is back."""
        if reason in self._by_reason:
            return True
        self._said.discard(reason)
        logger.warning("%s has the missing database right again (%s)", self._what, reason)
        return False
