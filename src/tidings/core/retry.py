"""How often and how fast a step is tried again. Pure arithmetic; the waiting is an effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MAX_INTERVAL_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try a failed step again.

    Attributes:
        max_attempts: tries in all, the first included; 1 means no retries.
        interval_seconds: the pause after the first failure.
        backoff_rate: what each further pause is multiplied with; a pause is one hour at most.
        should_retry: asked about each error (plain or awaitable answer); `None` means always.
    """

    max_attempts: int = 1
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None

    def pause_seconds(self, failures: int) -> float:
        """Return the pause after that many failures in a row, counted from 1."""
        try:
            return min(self.interval_seconds * self.backoff_rate ** (failures - 1), MAX_INTERVAL_SECONDS)
        except OverflowError:
            return MAX_INTERVAL_SECONDS


NO_RETRIES = RetryPolicy()
