"""Asking a store again until it answers: the pauses, and what the log says meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tidings.engine.probes import Point, Probes
from tidings.store.protocol import Unavailable

logger = logging.getLogger("tidings")
T = TypeVar("T")

STOP_SECONDS = 10.0  # How long a stop waits for a store that neither answers nor fails.
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 10.0


class GivenUp(Exception):
    """The store is away and the process is stopping."""


class Outage:
    """A time in which the store does not answer: how long it lasts, and what was said of it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._said: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def say(self, error: Unavailable) -> None:
        """Log the error, at most every ten seconds."""
        now = time.monotonic()
        if self._said is None or now - self._said >= _SAY_AGAIN_SECONDS:
            self._said = now
            lasted = now - self._began
            logger.warning(
                "the database has not answered for %.1f s (%s); trying again, nothing is lost", lasted, error
            )

    def say_over(self) -> None:
        """Log that the store answers again."""
        logger.warning("the database answers again after %.1f s", time.monotonic() - self._began)

    def next_pause(self) -> float:
        """Return how many seconds to pause, longer each time."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        return pause


def retrying(
    ask: Callable[[], T],
    reconnect: Callable[[], None],
    stop: threading.Event,
    probes: Probes,
    recall: Callable[[], T | None] | None = None,
    on_failure: Callable[[], None] = lambda: None,
) -> T:
    """Call `ask` until the store answers, with a new connection after each failure.

    After a failure that may have landed, `recall` is asked first whether it did. `on_failure` is called
    after each.

    Raises:
        GivenUp: `stop` was set while the store was away.
    """
    outage: Outage | None = None
    doubtful = False
    while True:
        try:
            if outage is not None:
                reconnect()
            answer = recall() if doubtful and recall is not None else None
            doubtful = False
            if answer is None:
                answer = ask()
        except Unavailable as error:
            outage = outage or Outage()
            outage.say(error)
            on_failure()
            doubtful = doubtful or error.ambiguous
            probes.passes(Point.STORE_UNAVAILABLE, error)
            if stop.wait(outage.next_pause()):
                raise GivenUp from error
        else:
            if outage is not None:
                outage.say_over()
            return answer
