"""How often a step is retried, and after which pauses. Pure arithmetic; the waiting is an effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MAX_INTERVAL_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to retry a failed step.

    Attributes:
        max_attempts: the number of tries, the first included; 1 means no retries.
        interval_seconds: the pause after the first failure.
        backoff_rate: the factor from one pause to the next; a pause is one hour at most.
        should_retry: called with each error, returns a bool or an awaitable; `None` retries after every error.
    """

    max_attempts: int = 1
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None

    def pause_seconds(self, failures: int) -> float:
        """Return the pause after this number of failures in a row, from 1."""
        try:
            return min(self.interval_seconds * self.backoff_rate ** (failures - 1), MAX_INTERVAL_SECONDS)
        except OverflowError:
            return MAX_INTERVAL_SECONDS


NO_RETRIES = RetryPolicy()
