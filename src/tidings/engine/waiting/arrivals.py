"""Arrivals: what a watch or a receive waits for. A wake-up of its keys or the answer to its take settles it.

A receive hands over its take together with its arrival, and waits only for the arrival. If there is no message, the
take becomes a waiting take (`WaitingTake`). The committer commits it again in the batch that brings a message
(`Arrival.board`), and this message settles the arrival. So one commit lies between a send and its receive, and no
query.

An arrival keeps the state of its receive. `core.receive_state` has the states, the transitions and their reasons. Here
each event is one method, which makes the transition under the arrival's lock and then does what the new state asks
for. Nothing else happens under the lock, so it is never held long, and no other lock is acquired inside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from tidings.core.effects import Due, WakeKey
from tidings.core.receive_state import AFTER, FIRST, IN_BATCH, IN_FIRST_BATCH, Event, State
from tidings.engine.waiting.jobs import Job, Sender
from tidings.engine.waiting.ticket import Ticket
from tidings.model import Nothing, Unit

# Python 3.11 is slow to get a member from its enum.
_LOOK: Final = Event.LOOK
_BOARD: Final = Event.BOARD
_NOTHING: Final = Event.NOTHING
_ANSWER: Final = Event.ANSWER
_RESULT: Final = Event.RESULT
_STOP: Final = Event.STOP
_SETTLED: Final = State.SETTLED


class TakeOwner(Protocol):
    """The run of a waiting take."""

    @property
    def chain(self) -> Sender:
        """The chain that takes the run's units."""

    def stay(self, arrival: Arrival) -> BaseException | None:
        """Let the arrival wait until its deadline or the end of the run. If the run is dead, return the reason."""


class WaitingTake:
    """A take, and its deadline. `job` is the first commit of the take, until that is answered."""

    __slots__ = ("due", "job", "unit", "waiting")

    def __init__(self, unit: Unit, due: Due | None, waiting: TakeOwner) -> None:
        self.unit = unit
        self.due = due
        self.waiting = waiting
        self.job: Job | None = None


class Arrival(Ticket):
    """Settled by the next wake-up of any of its keys, or by the answer to its take.

    Its gate guards `state`. In any other ticket, the gate belongs to the first settler.
    """

    __slots__ = ("_missed", "_nothing_came", "keys", "may_fail", "state", "waiting_take", "was_woken", "woken_by")

    def __init__(self, keys: tuple[WakeKey, ...], may_fail: bool) -> None:
        super().__init__()
        self.keys = keys
        self.may_fail = may_fail
        self.state = FIRST
        self.was_woken = False
        self.woken_by: WakeKey | None = None  # The key that was woken; None: the waiter looks at all of its keys.
        self.waiting_take: WaitingTake | None = None
        self._missed: tuple[Any, BaseException | None] | None = None  # The result noted while a batch had the take.
        self._nothing_came: Callable[[], None] | None = None

    def look(self, waiting_take: WaitingTake) -> bool:
        """Begin to look with this take. False if the arrival is settled already: there is nothing to hand over."""
        with self._gate:
            self.state = after = AFTER[self.state][_LOOK]
            if after is _SETTLED:
                return False
            self.waiting_take = waiting_take
            return True

    def board(self) -> WaitingTake | None:
        """Return the take to commit in the batch that brings a message; `None` if it may not join the batch."""
        with self._gate:
            before = self.state
            self.state = after = AFTER[before][_BOARD]
            return None if after is before else self.waiting_take

    def answer(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Settle the arrival with the answer to its take. Returns the futures to wake on their loops."""
        with self._gate:
            self.state = AFTER[self.state][_ANSWER]
        return self._finish(value, error)

    def nothing(self) -> list[asyncio.Future[None]]:
        """Continue to wait: there was no message. A result that was noted meanwhile settles the arrival now."""
        waiting_take = self.waiting_take
        assert waiting_take is not None
        if self.state in IN_FIRST_BATCH:  # No other thread ends that.
            waiting_take.job = None
            error = waiting_take.waiting.stay(self)
            if error is not None:
                return self.answer(None, error)
        with self._gate:
            self.state = AFTER[self.state][_NOTHING]
            nothing_came, self._nothing_came = self._nothing_came, None
            missed = self._missed
            if missed is not None:
                self.state = AFTER[self.state][_RESULT]
        if nothing_came is not None:
            nothing_came()
        return [] if missed is None else self._finish(*missed)

    def stop_waiting(self, nothing_came: Callable[[], None]) -> bool:
        """See `core.effects.WaitingReceive`."""
        with self._gate:
            self.state = after = AFTER[self.state][_STOP]
            if after in IN_BATCH:
                self._nothing_came = nothing_came
            return after is not State.STOPPED

    def withdraw(self) -> None:
        """Note that the take was withdrawn before its first batch."""
        with self._gate:
            self.state = AFTER[self.state][Event.WITHDRAW]

    def _note(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Settle the arrival from elsewhere. While a batch has the take, the result is only noted."""
        with self._gate:
            before = self.state
            self.state = after = AFTER[before][_RESULT]
            if after is not _SETTLED:
                self._missed = (value, error)
                return []
            if before is _SETTLED:
                return []
        return self._finish(value, error)


class TakeJob(Job):
    """A take on its way to the store. Its answer settles the arrival that the receive waits for."""

    __slots__ = ("_arrival",)

    def __init__(self, unit: Unit, chain: Sender, arrival: Arrival) -> None:
        super().__init__(unit, chain)
        self._arrival = arrival

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        self.settled = True
        if error is None and type(value) is Nothing:
            return self._arrival.nothing()
        return self._arrival.answer(value, error)
