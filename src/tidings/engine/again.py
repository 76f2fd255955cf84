"""Work that the process cannot begin now, for lack of a thread say: who tries it again, and what the log says.

The thread of the timers tries again, because it exists already and waits for nobody. The pauses grow from
20 ms to a second (`engine.outage`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from tidings.engine.outage import Outage
from tidings.engine.ticket import Ticket
from tidings.engine.timers import Timers
from tidings.shortage import reason_of


class Again:
    """One kind of work that may have to be tried again."""

    def __init__(self, what: str, timers: Timers | None, try_again: Callable[[], None]) -> None:
        """Take what the log calls the work, and what tries it: any thread's, quick, and raises nothing.

        Without `timers` somebody else has to try again.
        """
        self._what = what
        self._timers = timers
        self._try_again = try_again
        self._lock = threading.Lock()
        self._outage: Outage | None = None
        self._is_due = False  # The timers are going to try.

    def fails(self, error: BaseException) -> None:
        """Note that the work cannot begin now. It is tried again after a pause."""
        with self._lock:
            if self._outage is None:
                self._outage = Outage(self._what, time.monotonic())
            self._outage.say(reason_of(error))
            if self._is_due or self._timers is None:
                return
            with contextlib.suppress(Exception):  # Not even that: the supervisor tries now and then.
                due = Ticket()
                due.when_settled(self._again)
                self._timers.after(round(self._outage.next_pause() * 1_000), due)
                self._is_due = True

    def ends(self) -> None:
        """Note that nothing waits for this any more."""
        if self._outage is not None:
            with self._lock:
                outage, self._outage = self._outage, None
                if outage is not None:
                    outage.say_over()

    def _again(self) -> None:
        self._is_due = False
        self._try_again()
