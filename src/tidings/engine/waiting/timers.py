"""Deadlines: one thread that settles tickets when their time has come.

Most deadlines never pass, because a message comes first. Their tickets stay in the heap and are skipped. When the heap
has doubled, it is rebuilt without them. It is also rebuilt when the store's clock has stepped: the heap is ordered by
this process's own clock, and a step moves recorded deadlines on it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from tidings.core.effects import Due
from tidings.engine.waiting.clock import Clock
from tidings.engine.waiting.ticket import Ticket, settle_all

_REBUILD_FROM = 1_000


def _do_nothing() -> None:
    """The default for `on_turn`."""


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
        """Begin. `on_turn` is called after each wait, at least once a second. It must not block."""
        self._on_turn = on_turn
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def at(self, due: Due, ticket: Ticket) -> None:
        """Settle `ticket` with False when `due` passes, unless it is settled before."""
        with self._changed:
            heapq.heappush(self._heap, (self._clock.due_ms(due), next(self._numbers), ticket, due))
            if len(self._heap) >= self._rebuild_at:
                self._heap = [item for item in self._heap if not item[2].settled]
                heapq.heapify(self._heap)
                self._rebuild_at = max(_REBUILD_FROM, 2 * len(self._heap))
            if self._heap and self._heap[0][2] is ticket:
                self._changed.notify()

    def after(self, ms: int, ticket: Ticket) -> None:
        """Settle `ticket` with False after `ms`, unless it is settled before."""
        self.at(Due(ms), ticket)

    def begin(self, due: Due) -> None:
        """Start the time of `due` now, unless it has started. `at` may be called later."""
        self._clock.due_ms(due)

    def is_over(self, due: Due) -> bool:
        """Tell whether `due` has started and passed, even if its ticket is not settled yet."""
        return due.own_ms is not None and self._clock.own_ms() >= self._clock.due_ms(due)

    def look_anew(self) -> None:
        """Compute all deadlines again: the store's clock has stepped."""
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
