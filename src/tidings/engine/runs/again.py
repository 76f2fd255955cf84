"""Work that cannot begin now, for lack of a thread for example: when it is retried, and what is logged.

The timers' thread retries, because it exists already and never blocks. The pauses grow from 20 ms to a second
(`engine.database.outage`).

Operations that lack something for their own work, such as memory, each wait and retry by themselves (`Lasting`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable

from tidings.engine.database.outage import Outage
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers
from tidings.shortage import is_end_of_program, reason_of

_FIRST_PAUSE_MS = 20
_LONGEST_PAUSE_MS = 1_000


class Again:
    """One kind of work that may have to be retried."""

    def __init__(self, what: str, timers: Timers | None, try_again: Callable[[], None]) -> None:
        """Create it.

        Args:
            what: how the log describes the work.
            timers: these retry; with `None` the caller has to retry.
            try_again: retries the work. It may be called in any thread, must be quick, and raises nothing.
        """
        self._what = what
        self._timers = timers
        self._try_again = try_again
        self._lock = threading.Lock()
        self._outage: Outage | None = None
        self._is_due = False  # Whether the timers will retry.

    def fails(self, error: BaseException) -> None:
        """Note that the work cannot begin now. It is retried after a pause."""
        if is_end_of_program(error):
            return  # Python is shutting down, so no work begins here. Another process will do it.
        with self._lock:
            if self._outage is None:
                self._outage = Outage(self._what, time.monotonic())
            self._outage.say(reason_of(error))
            if self._is_due or self._timers is None:
                return
            with contextlib.suppress(Exception):  # If even this fails, the supervisor retries from time to time.
                due = Ticket()
                due.when_settled(self._again)
                self._timers.after(round(self._outage.next_pause() * 1_000), due)
                self._is_due = True

    def ends(self) -> None:
        """Note that nothing still waits for this work."""
        if self._outage is not None:
            with self._lock:
                outage, self._outage = self._outage, None
                if outage is not None:
                    outage.say_over()

    def _again(self) -> None:
        self._is_due = False
        self._try_again()


class Lacking:
    """All operations of an engine that lack something now.

    For each kind of operation, the log says once what is lacking, and once that the shortage is over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()  # By what the operations do.
        self._outages: dict[str, Outage] = {}

    def begin(self, what: str) -> None:
        """Count one more operation."""
        with self._lock:
            self._counts[what] += 1

    def say(self, what: str, error: BaseException) -> None:
        """Log what is lacking."""
        with self._lock:
            if what not in self._outages:
                self._outages[what] = Outage(what, time.monotonic())
            self._outages[what].say(reason_of(error))

    def end(self, what: str) -> None:
        """Count one operation less."""
        with self._lock:
            self._counts[what] -= 1
            if self._counts[what] == 0 and what in self._outages:
                self._outages.pop(what).say_over()


class Lasting:
    """A block for the time in which one operation lacks something."""

    __slots__ = ("_all", "_pause_ms", "_what")

    def __init__(self, lacking: Lacking, what: str) -> None:
        self._all = lacking
        self._what = what
        self._pause_ms = _FIRST_PAUSE_MS

    def pause_ms(self, error: BaseException) -> int:
        """Return how long to pause. Each pause is longer than the one before, up to a limit."""
        self._all.say(self._what, error)
        pause, self._pause_ms = self._pause_ms, min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        return pause

    def __enter__(self) -> Lasting:
        self._all.begin(self._what)
        return self

    def __exit__(self, *_: object) -> None:
        self._all.end(self._what)
