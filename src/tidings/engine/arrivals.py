"""What somebody waits for: the next wake-up of some keys, or a message that is taken for him.

A receive hands over its take together with its arrival, and waits for the arrival alone. If there is
no message the take *stands*: the committer commits it again in the batch that brings one
(`Waiters.board`), and what it took is the answer. So between a send and who receives it lies one
commit, and no look.

While a take is being committed its arrival is *held*: nobody else can settle it, and who comes to do
so (a wake-up, the deadline, the end of the run) is noted and counts if there was no message. So a
message that was taken is always the answer, and nobody takes a second one at that place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tidings.core.effects import Due, WakeKey
from tidings.engine.ticket import Ticket, wake
from tidings.model import Unit

if TYPE_CHECKING:
    from tidings.engine.committer import Job


class Sender(Protocol):
    """The chain of a job: whether its units may still commit, and where a failure is left."""

    dead: BaseException | None
    failure: BaseException | None

    def refusal(self) -> BaseException | None:
        """Why no unit of this chain may commit now."""

    def kill(self, error: BaseException) -> None:
        """Refuse everything from now on."""


class Waiting(Protocol):
    """Whose take stands."""

    @property
    def chain(self) -> Sender:
        """Where its units go."""

    def stay(self, arrival: Arrival) -> BaseException | None:
        """Let the arrival wait until its deadline, for as long as the run lives; gives why it is dead if it is."""


class Stand:
    """A take, and by when it is to be answered. It may `board` a batch until its run goes on elsewhere.

    `job` is its first look, while that is not answered.
    """

    __slots__ = ("due", "has_looked", "job", "may_board", "unit", "waiting")

    def __init__(self, unit: Unit, due: Due | None, waiting: Waiting) -> None:
        self.unit = unit
        self.due = due
        self.waiting = waiting
        self.may_board = True
        self.has_looked = False
        self.job: Job | None = None


class Arrival(Ticket):
    """The next wake-up of any of some keys, or the answer to the take that stands for one."""

    __slots__ = ("_missed", "_nothing_came", "keys", "may_fail", "stand", "was_woken")

    def __init__(self, keys: tuple[WakeKey, ...], may_fail: bool) -> None:
        super().__init__()
        self.keys = keys
        self.may_fail = may_fail
        self.was_woken = False
        self.stand: Stand | None = None
        self._missed: tuple[Any, BaseException | None] | None = None
        self._nothing_came: Callable[[], None] | None = None

    def hold(self) -> bool:
        """Keep the answer for who commits the take; False if it is settled, or held already."""
        return self._gate.acquire(blocking=False)

    def answer(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Settle it, as who holds it; gives the futures to wake on their loops."""
        return self._finish(value, error)

    def stay(self) -> list[asyncio.Future[None]]:
        """Wait on: there was no message. Gives the futures to wake, if something else came meanwhile."""
        stand = self.stand
        assert stand is not None
        if not stand.has_looked:
            stand.has_looked = True
            stand.job = None
            error = stand.waiting.stay(self)
            if error is not None:
                return self.answer(None, error)
        return self.let_go()

    def let_go(self) -> list[asyncio.Future[None]]:
        """Hold it no more; what came meanwhile settles it now."""
        self._gate.release()
        nothing_came, self._nothing_came = self._nothing_came, None
        if nothing_came is not None:
            nothing_came()
        return [] if self._missed is None else self._note(*self._missed)

    def stands_no_more(self, nothing_came: Callable[[], None]) -> bool:
        """See `core.effects.Standing`. Who boards holds the arrival first, and looks at this then."""
        self._nothing_came = nothing_came
        if self.stand is not None:
            self.stand.may_board = False
        return self._gate.locked()

    def board(self) -> Stand | None:
        """Hold it, and give the take to commit with a message; `None` if none stands."""
        stand = self.stand
        if stand is None or not self.hold():
            return None
        if not stand.may_board:
            wake(self.let_go())
            return None
        return stand

    def _note(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        if self._gate.acquire(blocking=False):
            return self._finish(value, error)
        self._missed = (value, error)
        # Who held it may have let go just now, and have looked too early for what was missed.
        return self._finish(value, error) if self._gate.acquire(blocking=False) else []
