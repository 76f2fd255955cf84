"""What waits for a right that this process's database user has lost, while everything else goes on.

A unit that may not be written is put aside, and with it what its run hands over behind it, for that must not
overtake it. Of those that lack the same right one is tried again now and then; when it gets through, all are.
"""

from __future__ import annotations

import logging
import time
from typing import Final, Generic, TypeVar

logger = logging.getLogger("tidings")

T = TypeVar("T")

PAUSE_SECONDS: Final = 1.0


class Parked(Generic[T]):
    """What was put aside, by the reason. Used by one thread.

    Args:
        what: what needs the right, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._by_reason: dict[str, list[T]] = {}
        self._reason_of: dict[int, str] = {}  # of chains, by their identity: each is kept by what waits on it
        self._said: set[str] = set()
        self._due_at = 0.0

    @property
    def timeout_seconds(self) -> float | None:
        """How long the thread may wait for something else to do; `None` while nothing is parked."""
        return max(self._due_at - time.monotonic(), 0.0) if self._by_reason else None

    def all(self) -> list[T]:
        """Return all that is parked."""
        return [each for parked in tuple(self._by_reason.values()) for each in parked]

    def put(self, item: T, reason: str, chain: object = None) -> None:
        """Put something aside, and let what follows on its chain, if it has one, wait too."""
        if not self._by_reason:
            self._due_at = time.monotonic() + PAUSE_SECONDS
        self._by_reason.setdefault(reason, []).append(item)
        if chain is not None:
            self._reason_of[id(chain)] = reason
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("%s needs a right that is missing (%s); only what needs it waits", self._what, reason)

    def follows(self, item: T, chain: object) -> bool:
        """Tell whether what is before this one on its chain is parked; then so is this."""
        reason = self._reason_of.get(id(chain)) if self._reason_of else None
        if reason is None:
            return False
        self._by_reason[reason].append(item)
        return True

    def take_due(self) -> dict[str, list[T]]:
        """Return all, by reason, to be tried again; nothing if it is not time."""
        if not self._by_reason or time.monotonic() < self._due_at:
            return {}
        due, self._by_reason, self._reason_of = self._by_reason, {}, {}
        return due

    def is_still(self, reason: str) -> bool:
        """Tell whether what was tried again was put aside for the same reason; if not, say that it is over."""
        if reason in self._by_reason:
            return True
        self._said.discard(reason)
        logger.warning("%s has the right again that was missing (%s)", self._what, reason)
        return False
