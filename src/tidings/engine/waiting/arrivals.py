"""Arrivals: what a watch or a receive waits for. A wake-up of its keys or the answer to its take settles it.

A receive hands over its take together with its arrival, and waits only for the arrival. If there is no message, the
take becomes a waiting take (`WaitingTake`). The committer commits it again in the batch that brings a message
(`Arrival.board`), and this message settles the arrival. So one commit lies between a send and its receive, and no
query.

While a take is being committed, its arrival is *held*: nothing else can settle it. A wake-up, the deadline or the end
of the run is noted meanwhile, and counts only if there was no message. So a message that was taken is always the
answer, and no second message is taken at that place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tidings.core.effects import Due, WakeKey
from tidings.engine.waiting.jobs import Job, Sender
from tidings.engine.waiting.ticket import Ticket, wake
from tidings.model import Nothing, Unit


class TakeOwner(Protocol):
    """The run of a waiting take."""

    @property
    def chain(self) -> Sender:
        """The chain that takes the run's units."""

    def stay(self, arrival: Arrival) -> BaseException | None:
        """Let the arrival wait until its deadline or the end of the run. If the run is dead, return the reason."""


class WaitingTake:
    """A waiting take, and its deadline.

    The take may join batches (`board`) until its run numbers another result or begins another operation. `job` is the
    first commit of the take, until that is answered.
    """

    __slots__ = ("due", "has_looked", "job", "may_board", "unit", "waiting")

    def __init__(self, unit: Unit, due: Due | None, waiting: TakeOwner) -> None:
        self.unit = unit
        self.due = due
        self.waiting = waiting
        self.may_board = True
        self.has_looked = False
        self.job: Job | None = None


class Arrival(Ticket):
    """Settled by the next wake-up of any of its keys, or by the answer to its take."""

    __slots__ = ("_missed", "_nothing_came", "keys", "may_fail", "waiting_take", "was_woken", "woken_by")

    def __init__(self, keys: tuple[WakeKey, ...], may_fail: bool) -> None:
        super().__init__()
        self.keys = keys
        self.may_fail = may_fail
        self.was_woken = False
        self.woken_by: WakeKey | None = None  # The key that was woken; None: the waiter looks at all of its keys.
        self.waiting_take: WaitingTake | None = None
        self._missed: tuple[Any, BaseException | None] | None = None
        self._nothing_came: Callable[[], None] | None = None

    def hold(self) -> bool:
        """Reserve the arrival for the answer to its take; False if it is settled or held already."""
        return self._gate.acquire(blocking=False)

    def answer(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Settle the arrival; only for its holder. Returns the futures to wake on their loops."""
        return self._finish(value, error)

    def stay(self) -> list[asyncio.Future[None]]:
        """Continue to wait: there was no message. A result that was noted meanwhile settles the arrival now."""
        waiting_take = self.waiting_take
        assert waiting_take is not None
        if not waiting_take.has_looked:
            waiting_take.has_looked = True
            waiting_take.job = None
            error = waiting_take.waiting.stay(self)
            if error is not None:
                return self.answer(None, error)
        return self.let_go()

    def let_go(self) -> list[asyncio.Future[None]]:
        """Release the hold. A result that was noted meanwhile settles the arrival now."""
        self._gate.release()
        nothing_came, self._nothing_came = self._nothing_came, None
        if nothing_came is not None:
            nothing_came()
        return [] if self._missed is None else self._note(*self._missed)

    def stop_waiting(self, nothing_came: Callable[[], None]) -> bool:
        """See `core.effects.WaitingReceive`. The committer holds the arrival before it reads `may_board`."""
        self._nothing_came = nothing_came
        if self.waiting_take is not None:
            self.waiting_take.may_board = False
        return self._gate.locked()

    def board(self) -> WaitingTake | None:
        """Hold the arrival and return its waiting take, to be committed with a message; `None` if it has none."""
        waiting_take = self.waiting_take
        if waiting_take is None or not self.hold():
            return None
        if not waiting_take.may_board:
            wake(self.let_go())
            return None
        return waiting_take

    def _note(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        if self._gate.acquire(blocking=False):
            return self._finish(value, error)
        self._missed = (value, error)
        # Try again: the holder may have released it after the first try and before `_missed` was set.
        return self._finish(value, error) if self._gate.acquire(blocking=False) else []


class TakeJob(Job):
    """A take on its way to the store. Its answer settles the arrival that the receive waits for."""

    __slots__ = ("_arrival",)

    def __init__(self, unit: Unit, chain: Sender, arrival: Arrival) -> None:
        super().__init__(unit, chain)
        self._arrival = arrival

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        self.settled = True
        if error is None and type(value) is Nothing:
            return self._arrival.stay()
        return self._arrival.answer(value, error)
