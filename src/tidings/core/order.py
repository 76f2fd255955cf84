"""The numbers of results, and the order in which the code gets new results.

Branches may share state (a list, say). So results are numbered, and the code gets them in the order of their numbers:
the first time as said here (`coming`), in a replay as `core.replay` says.

A receive may wait long with its number. It must not keep other results back, so its take ends when another result is
numbered (`end_waiting_receive`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from tidings.core.effects import WaitingReceive


class Numbered(Protocol):
    """An operation whose result may have a number: a slot."""

    finished: int | None


class Order:
    """The new results of one execution. A run is an order: each operation uses it, so it is no object of its own."""

    __slots__ = ("_finished", "_undelivered", "coming", "waiting_receive", "when_nothing_came")

    def __init__(self) -> None:
        self._finished = 0  # The number of the last result.
        # New results that have a number and that the code has not got yet, the next one first. None without branches:
        # then there is one result at a time.
        self.coming: dict[int, None] | None = None
        self._undelivered: int | None = None
        # The receive whose take waits. It has the last number, and no operation has begun since.
        self.waiting_receive: tuple[WaitingReceive, Numbered] | None = None
        # Called, in any thread, with the number of an expected result that will not come. None without branches.
        self.when_nothing_came: Callable[[int], None] | None = None

    def takes_turns(self) -> None:
        """Deliver results to the code one at a time from now on, in the order of their numbers."""
        if self.coming is None:
            self.coming = {} if self._undelivered is None else {self._undelivered: None}

    def next_finished(self, instead_of: int | None) -> int:
        """Number the next result. `instead_of` is the earlier number of the same operation's result."""
        self.end_waiting_receive()
        self._finished += 1
        if self.coming is None:
            self._undelivered = self._finished
        else:
            if instead_of is not None:
                self.coming.pop(instead_of, None)
            self.coming[self._finished] = None
        return self._finished

    def comes_no_more(self, number: int | None) -> None:
        """Stop waiting for the result with this number: the code has it, or it will not come."""
        if self.coming is None:
            self._undelivered = None
        elif number is not None:
            self.coming.pop(number, None)

    def is_next(self, number: int) -> bool:
        """Whether the code has got every new result before this one."""
        return not self.coming or next(iter(self.coming)) == number

    def end_waiting_receive(self) -> None:
        """End the waiting take, because another result is numbered, or another operation begins or is about to.

        The take's number is lower. If the committer committed it later, a replay would deliver its result too early.
        So it is either in a batch already, or it only wakes its receive, which takes under a new number.
        """
        if self.waiting_receive is None:
            return
        arrival, slot = self.waiting_receive
        self.waiting_receive = None
        number = slot.finished
        if number is not None and not arrival.stop_waiting(partial(self.nothing_came, number)):
            self.comes_no_more(number)

    def nothing_came(self, number: int) -> None:
        """Tell the turns that a numbered result does not come. May be called in any thread."""
        if self.when_nothing_came is not None:
            self.when_nothing_came(number)
