"""Work that the process cannot begin now, for lack of a thread say: who tries it again, and what the log says.

The thread of the timers tries again, because it exists already and waits for nobody. The pauses grow from
20 ms to a second (`engine.outage`).

And operations that lack something, memory say, for what they do themselves: they wait, each on its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from tidings.engine.outage import Outage
from tidings.engine.ticket import Ticket
from tidings.engine.timers import Timers
from tidings.shortage import is_end_of_program, reason_of

_FIRST_PAUSE_MS = 20
_LONGEST_PAUSE_MS = 1_000


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
        if is_end_of_program(error):
            return  # Nothing begins any more. Whatever waits here goes on in another process.
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


class Lacking:
    """All operations of an engine that lack something now. The log says so once, and once when none does any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._outage: Outage | None = None

    def begin(self) -> None:
        """Count one more."""
        with self._lock:
            self._count += 1

    def say(self, error: BaseException) -> None:
        """Let the log say what is lacking."""
        with self._lock:
            if self._outage is None:
                self._outage = Outage("storing or rebuilding a value for an operation", time.monotonic())
            self._outage.say(reason_of(error))

    def end(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1
            if self._count == 0 and self._outage is not None:
                self._outage.say_over()
                self._outage = None


class Lasting:
    """The time in which one operation lacks something: a block."""

    __slots__ = ("_all", "_pause_ms")

    def __init__(self, lacking: Lacking) -> None:
        self._all = lacking
        self._pause_ms = _FIRST_PAUSE_MS

    def pause_ms(self, error: BaseException) -> int:
        """Return how long to pause, longer each time."""
        self._all.say(error)
        pause, self._pause_ms = self._pause_ms, min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        return pause

    def __enter__(self) -> Lasting:
        self._all.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._all.end()
