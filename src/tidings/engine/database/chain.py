"""One run's way to the committer: its units in order, and whether it may still write.

Units are numbered and handed over under the chain's lock. After a deferred unit has failed, no later unit commits, and
the run gets the failure at its next operation or its end. A dead run (cancelled, taken over, shut down) refuses every
operation, and its waits end with the reason.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

from tidings.core.effects import Tell
from tidings.engine.database.committer import Committer
from tidings.engine.waiting.arrivals import Arrival
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.error import DBOSRunEndedError
from tidings.model import Unit


class Chain:
    """The units of one run, and whether it lives. Units from outside any run go through chains of their own."""

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
        """Hand over a unit whose answer the caller waits for. `tell` is called with the answer first.

        After an outcome the chain takes no more units.
        """
        with self._lock:
            self._check()
            if unit.outcome is not None:
                self._sealed = DBOSRunEndedError(unit.workflow_id or "", "the workflow has ended")
            return self._committer.submit(unit, self, tell=tell)

    def take(self, unit: Unit, arrival: Arrival) -> Job:
        """Hand over a unit that takes a message, for the arrival that its answer settles."""
        with self._lock:
            self._check()
            return self._committer.submit_take(unit, self, arrival)

    def defer(self, make: Callable[[], Unit], tell: Tell | None = None) -> Ticket | None:
        """Number a unit and hand it over without waiting. Returns a ticket to wait for if too much is in flight."""
        with self._lock:
            self._check()
            self._last = self._committer.submit(make(), self, tell=tell)
            return self._last if self._committer.is_full else None

    def barrier(self) -> Ticket | None:
        """Return the last deferred unit to wait for, or `None` if all are durable."""
        with self._lock:
            self._check()
            last = self._last
            if last is None or last.settled:
                self._last = None
                return None
            return last

    def wait(self, ticket: Ticket) -> None:
        """Register a ticket that the run waits for, so that `kill` can settle it."""
        with self._lock:
            self._check()
            if self._last is not None and self._last.settled:
                self._last = None  # A run that waits for days need not keep its last unit.
            self._waits.add(ticket)

    def done_waiting(self, ticket: Ticket) -> None:
        with self._lock:
            self._waits.discard(ticket)

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for a ticket that is not settled yet."""
        with self._lock:
            return any(not ticket.settled for ticket in self._waits)

    def kill(self, error: BaseException) -> None:
        """Refuse all later operations with `error`, and end all waits of the run with the same error."""
        with self._lock:
            if self.dead is not None:
                return
            self.dead = error
            self._last = None  # No barrier waits for this job now, and it refers to this chain.
            waits, self._waits = self._waits, set()
        if waits:
            settle_all((ticket, None, copy.copy(error)) for ticket in waits)  # Copies: each is raised in another place.

    def refusal(self) -> BaseException | None:
        """Return why no unit of this chain may commit now, or `None`. The committer calls it for each batch."""
        return self.dead or self.failure

    @property
    def is_cut_short(self) -> bool:
        """Whether the run can write nothing more, although its function has not ended."""
        with self._lock:
            refused = self.dead or self.failure or self._committer.died
            return refused is not None and self._sealed is None

    def check(self) -> None:
        """Raise the reason if the run may write nothing more."""
        with self._lock:
            self._check()

    def check_alive(self) -> None:
        """Raise the reason if the run is dead. After a failed unit it may still read."""
        if self.dead is not None:
            raise copy.copy(self.dead)

    def _check(self) -> None:
        refusal = self.dead or self.failure or self._sealed
        if refusal is not None:
            raise copy.copy(refusal)  # A copy: each raise makes the traceback of an error longer.
