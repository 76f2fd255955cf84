"""Deadlines: one thread that settles tickets when their time has come.

Most deadlines never pass (a message comes first). Those are left in the heap and skipped; when more
than half of it is dead, it is built anew. So it is when the store's clock has stepped: the heap is in
the order of this process's own clock, and a step moves the deadlines that are recorded.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from tidings.core.effects import Due
from tidings.engine.clock import Clock
from tidings.engine.ticket import Ticket, settle_all

_REBUILD_FROM = 1_000


def _do_nothing() -> None:
    """What timers without an engine do at each turn."""


class Timers:
    """Settles tickets with False when their time has come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._heap: list[tuple[int, int, Ticket, Due]] = []
        self._numbers = itertools.count()
        self._rebuild_at = _REBUILD_FROM
        self._stopped = False
        self._on_turn = _do_nothing
        self._thread = threading.Thread(target=self._run, name="tidings-timers", daemon=True)

    def start(self, on_turn: Callable[[], None] = _do_nothing) -> None:
        """Begin; `on_turn` is called at least as often as the clock lets nobody wait longer, and waits for nothing."""
        self._on_turn = on_turn
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def at(self, due: Due, ticket: Ticket) -> None:
        """Settle `ticket` with False when this is over, if nothing has settled it before."""
        with self._changed:
            heapq.heappush(self._heap, (self._clock.due_ms(due), next(self._numbers), ticket, due))
            if len(self._heap) >= self._rebuild_at:
                self._heap = [item for item in self._heap if not item[2].settled]
                heapq.heapify(self._heap)
                self._rebuild_at = max(_REBUILD_FROM, 2 * len(self._heap))
            if self._heap and self._heap[0][2] is ticket:
                self._changed.notify()

    def after(self, ms: int, ticket: Ticket) -> None:
        """Settle `ticket` with False in so many ms, if nothing has settled it before."""
        self.at(Due(ms), ticket)

    def look_anew(self) -> None:
        """The store's clock has stepped: see which deadlines have moved."""
        with self._changed:
            self._heap = [(self._clock.due_ms(due), number, ticket, due) for _, number, ticket, due in self._heap]
            heapq.heapify(self._heap)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._take_due()
                if not due and not self._stopped:
                    self._clock.wait(self._changed, self._heap[0][0] if self._heap else None)
                    due = self._take_due()
                if self._stopped:
                    return
            settle_all((ticket, False, None) for ticket in due)
            self._on_turn()

    def _take_due(self) -> list[Ticket]:
        now = self._clock.own_ms()
        due = []
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].settled):
            ticket = heapq.heappop(self._heap)[2]
            if not ticket.settled:
                due.append(ticket)
        return due
