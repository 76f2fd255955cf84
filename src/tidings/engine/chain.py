"""One run's way to the committer: its units in order, and whether it may still write.

Numbering and hand-over happen under the chain's lock. After one deferred unit failed, none behind it
commits, and the run meets the failure at its next operation or its end. A dead run (cancelled,
taken over, shut down) refuses every operation; what it waits for is woken with the reason.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

from tidings.core.effects import Tell
from tidings.engine.arrivals import Arrival
from tidings.engine.committer import Committer, Job
from tidings.engine.ticket import Ticket, settle_all
from tidings.error import DBOSRunEndedError
from tidings.model import Unit


class Chain:
    """The units of one run, and its life. Units from outside any run go through a chain of their own."""

    __slots__ = ("_committer", "_last", "_lock", "_sealed", "_waits", "dead", "failure")

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._lock = threading.Lock()
        self._last: Job | None = None
        self._waits: set[Ticket] = set()
        self._sealed: BaseException | None = None
        self.dead: BaseException | None = None
        self.failure: BaseException | None = None

    def commit(self, unit: Unit, tell: Tell | None = None) -> Job:
        """Hand over a unit whose answer somebody waits for; `tell` hears of it first.

        After an outcome nothing more is taken.
        """
        with self._lock:
            self._check()
            if unit.outcome is not None:
                self._sealed = DBOSRunEndedError(unit.workflow_id or "", "the workflow has ended")
            return self._committer.submit(unit, self, tell=tell)

    def take(self, unit: Unit, arrival: Arrival) -> Job:
        """Hand over a unit that takes a message, for an arrival that is held for its answer."""
        with self._lock:
            self._check()
            return self._committer.submit_take(unit, self, arrival)

    def defer(self, make: Callable[[], Unit], tell: Tell | None = None) -> Ticket | None:
        """Number a unit, hand it over and go on. Gives a ticket to wait for if too much is in flight."""
        with self._lock:
            self._check()
            self._last = self._committer.submit(make(), self, tell=tell)
            return self._last if self._committer.is_full else None

    def barrier(self) -> Ticket | None:
        """Give the last deferred unit to wait for, or `None` if all are durable."""
        with self._lock:
            self._check()
            last = self._last
            if last is None or last.settled:
                self._last = None
                return None
            return last

    def wait(self, ticket: Ticket) -> None:
        """Register what the run waits for, so that its death can wake it."""
        with self._lock:
            self._check()
            if self._last is not None and self._last.settled:
                self._last = None  # Who waits for days need not keep what it wrote before.
            self._waits.add(ticket)

    def done_waiting(self, ticket: Ticket) -> None:
        with self._lock:
            self._waits.discard(ticket)

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for something that has not come yet."""
        with self._lock:
            return any(not ticket.settled for ticket in self._waits)

    def kill(self, error: BaseException) -> None:
        """Refuse everything from now on with `error`, and wake what the run waits for."""
        with self._lock:
            if self.dead is not None:
                return
            self.dead = error
            waits, self._waits = self._waits, set()
        settle_all((ticket, None, error) for ticket in waits)

    def refusal(self) -> BaseException | None:
        """Why no unit of this chain may commit now. Asked by the committer for each batch."""
        return self.dead or self.failure

    def check(self) -> None:
        """Raise why the run may write nothing more, if it may not."""
        with self._lock:
            self._check()

    def check_alive(self) -> None:
        """Raise why the run is dead, if it is. A failure of what it wrote keeps nobody from reading."""
        if self.dead is not None:
            raise copy.copy(self.dead)

    def _check(self) -> None:
        refusal = self.dead or self.failure or self._sealed
        if refusal is not None:
            raise copy.copy(refusal)  # One that is raised again and again would grow its traceback for ever.
