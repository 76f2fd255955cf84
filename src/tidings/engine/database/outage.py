"""Retry until the store answers: the pauses, and the log messages.

If the store fails, the call is retried. If it neither answers nor fails, all that can be done is to log that, and to
wake callers that need not wait (`Contact.is_away`). In both cases the log says what is wrong, for how long, and when it
is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tidings.engine.hooks import Hooks, Point
from tidings.shortage import is_shortage, reason_of
from tidings.store.protocol import Forbidden, TooSlow, Unavailable

logger = logging.getLogger("tidings")
T = TypeVar("T")

STOP_SECONDS = 10.0  # How long a stop waits for a store that hangs.

# A store that has not answered for this long is away: callers with a dead chain stop waiting for it.
HELD_UP_SECONDS = 2.0
# After this long the log says so.
SAY_HELD_UP_SECONDS = 5.0

# How often a query is tried that the store cancels.
MOST_CUT_OFF = 3

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_SAID_FROM_SECONDS = 0.1  # The log omits a shorter duration.
_SAY_AGAIN_SECONDS = 10.0
_MOST_REASONS = 10  # New reasons are logged at once, up to so many.


class GivenUp(Exception):
    """The store is away and the process is stopping."""


class Outage:
    """A time in which the store does not answer: how long it lasts, and what was logged of it."""

    def __init__(self, what: str, began: float) -> None:
        self._what = what
        self._began = began
        self._said_at = 0.0
        self._reasons: list[str] = []
        self._pause = _FIRST_PAUSE_SECONDS

    def say(self, reason: str) -> None:
        """Log why the store does not answer: a new reason at once, any reason every ten seconds."""
        now = time.monotonic()
        if reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            self._reasons.append(reason)
        elif now - self._said_at < _SAY_AGAIN_SECONDS:
            return
        self._said_at = now
        lasted = now - self._began
        since = f"has failed for {lasted:.1f} s" if lasted >= _SAID_FROM_SECONDS else "has failed"
        logger.warning("%s %s (%s); trying again, nothing is lost", self._what, since, reason)

    def say_over(self) -> None:
        """Log that the store answers again."""
        lasted = time.monotonic() - self._began
        logger.warning("%s works again after %.1f s (%s)", self._what, lasted, self._reasons[0])

    def next_pause(self) -> float:
        """Return how many seconds to pause, longer each time."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        return pause


class Contact:
    """One thread's contact with the store: since when it waits for an answer, and the present outage.

    Only that thread calls `begins`, `fails` and `ends`; any thread may call the rest.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()  # Guards the outage, because another thread may call `say_if_held_up`.
        self._since: float | None = None
        self._outage: Outage | None = None
        self._fails = False

    @property
    def held_up_seconds(self) -> float:
        """For how long the store has neither answered nor failed; 0 if no call is under way."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_away(self) -> bool:
        """Whether the store failed when it was last asked, or has not answered for long."""
        return self._fails or self.held_up_seconds > HELD_UP_SECONDS

    def begins(self) -> None:
        """Note that a call begins."""
        self._since = time.monotonic()

    def fails(self, error: Unavailable) -> float:
        """Note and log that the store cannot serve. Returns how many seconds to pause."""
        with self._lock:
            outage = self._noted()
            self._since = None
            self._fails = True
            outage.say(str(error))
            return outage.next_pause()

    def ends(self, *, answered: bool) -> None:
        """Note that the store has answered, or that the caller has given up."""
        self._since = None
        self._fails = False
        if self._outage is not None:
            with self._lock:
                outage, self._outage = self._outage, None
                if answered and outage is not None:
                    outage.say_over()

    def say_if_held_up(self, database: str) -> None:
        """Log that the store does not answer, if it has not for long."""
        if self.held_up_seconds > SAY_HELD_UP_SECONDS:
            with self._lock:
                if self._since is not None:  # It may have answered just now.
                    self._noted().say(f"{database}: it does not answer")

    def _noted(self) -> Outage:
        """Return the present outage. It began with the call."""
        if self._outage is None:
            self._outage = Outage(self._what, self._since or time.monotonic())
        return self._outage


def retrying(
    ask: Callable[[], T],
    reconnect: Callable[[], None],
    stop: threading.Event,
    hooks: Hooks,
    contact: Contact,
    recall: Callable[[], T | None] | None = None,
    on_failure: Callable[[], None] = lambda: None,
    is_wanted: Callable[[], bool] | None = None,
    connects_first: bool = False,
    parks: bool = False,
) -> T:
    """Call `ask` until the store answers, with a new connection after each failure.

    A shortage in this process (of memory, say) is retried in the same way. After a failed commit that may have landed,
    `recall` is called first: its answer tells whether it did. `on_failure` is called after each failure.

    With `is_wanted` the call is a query, and nothing is lost without its answer. So it is given up when it is no
    longer wanted, or when the store has cancelled it `MOST_CUT_OFF` times.

    Raises:
        Forbidden: a database right is missing; only with `parks`.
        GivenUp: `stop` was set while the store was away, or the query is no longer wanted.
        TooSlow: the store cancelled the query each time.
    """
    has_failed, doubtful, gives_up, cut_off = connects_first, False, False, 0
    try:
        while True:
            contact.begins()
            try:
                if has_failed:
                    reconnect()
                answer = recall() if doubtful and recall is not None else None
                doubtful = False
                if answer is None:
                    answer = ask()
            except Exception as failure:
                if parks and isinstance(failure, Forbidden):
                    raise
                error = _as_unavailable(failure)
                has_failed = not isinstance(error, (TooSlow, Forbidden))  # After these the connection still works.
                cut_off += isinstance(error, TooSlow)
                if is_wanted is not None and cut_off == MOST_CUT_OFF:
                    raise
                pause = contact.fails(error)
                on_failure()
                doubtful = doubtful or error.ambiguous
                hooks.passes(Point.STORE_UNAVAILABLE, error)
                if stop.wait(pause) or (is_wanted is not None and not is_wanted()):
                    gives_up = True
                    raise GivenUp from failure
            else:
                return answer
    finally:
        contact.ends(answered=not gives_up)  # A refusal is an answer too.


def _as_unavailable(failure: Exception) -> Unavailable:
    """Return `failure` as an `Unavailable` if it may pass. Raises any other: it is an answer, or a defect."""
    if isinstance(failure, Unavailable):
        return failure
    if is_shortage(failure):
        return Unavailable(reason_of(failure), ambiguous=True)  # It may have come after the commit.
    raise failure
