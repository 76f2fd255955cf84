"""Threads that each answer one question at a time, on a connection of its own: for questions that may take long.

A list of a large table may take as long as the database allows. Whoever asks something else must not wait for
it: neither for what the reader answers in a moment, nor for another list. A lane is opened when all others are
busy, up to a few, and closed when it has had nothing to do for a while.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tidings.engine.outage import Asking, GivenUp, retrying
from tidings.engine.probes import Probes
from tidings.engine.ticket import Ticket, settle_all
from tidings.error import DBOSException, DBOSShutdownError
from tidings.store.protocol import Store, TooSlow

logger = logging.getLogger("tidings")

MOST_LANES: Final = 4
IDLE_SECONDS: Final = 10.0

Question = Callable[[Store], Any]


class Lanes:
    """Answers questions, each by itself."""

    def __init__(self, open_store: Callable[[], Store], probes: Probes, on_failure: Callable[[], None]) -> None:
        """Take what opens a store to read from, and what is called after each failure of one."""
        self._open_store = open_store
        self._probes = probes
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Question, Ticket]] = deque()
        self._answering: list[Ticket] = []
        self._lanes: dict[threading.Thread, Asking] = {}
        self._idle = 0
        self._stop = threading.Event()

    @property
    def askings(self) -> list[Asking]:
        """What each lane asks of the database."""
        with self._changed:
            return list(self._lanes.values())

    def put(self, question: Question, ticket: Ticket) -> bool:
        """Let a lane answer it. False if there is none, and none can be opened, as no thread is left."""
        with self._changed:
            if self._stop.is_set():
                ticket.settle(error=DBOSShutdownError())
                return True
            self._waiting.append((question, ticket))
            if self._idle >= len(self._waiting) or len(self._lanes) == MOST_LANES:
                self._changed.notify()
                return True
            asking = Asking("reading a list from the database")
            lane = threading.Thread(target=self._run, args=(asking,), name="tidings-lane", daemon=True)
            self._lanes[lane] = asking
        try:
            lane.start()
        except Exception:  # No thread is left: another lane answers, if there is one.
            with self._changed:
                del self._lanes[lane]
                if not self._lanes and (question, ticket) in self._waiting:
                    self._waiting.remove((question, ticket))
                    return False
        return True

    def held(self) -> list[Ticket]:
        """Return the tickets of all that is not answered yet."""
        with self._changed:
            return [*(ticket for _, ticket in self._waiting), *self._answering]

    def stop(self, patience_seconds: float) -> None:
        """Answer nothing more. A lane that the database holds up is left behind, and closes its connection later."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
            lanes = list(self._lanes)
        for lane in lanes:
            lane.join(patience_seconds)
        settle_all((ticket, None, DBOSShutdownError()) for ticket in self.held())

    def _run(self, asking: Asking) -> None:
        store: Store | None = None
        is_connected = False
        try:
            while (taken := self._take()) is not None:
                question, ticket = taken
                try:
                    store = store or self._open_store()
                    self._answer(question, ticket, store, asking, is_connected=is_connected)
                    is_connected = True
                finally:
                    with self._changed:
                        self._answering.remove(ticket)
        finally:
            if store is not None:
                store.close()

    def _take(self) -> tuple[Question, Ticket] | None:
        """Wait for the next question that somebody still waits for; `None` ends the lane."""
        with self._changed:
            while not self._stop.is_set():
                while self._waiting:
                    question, ticket = self._waiting.popleft()
                    if not ticket.settled:
                        self._answering.append(ticket)
                        return question, ticket
                self._idle += 1
                came = self._changed.wait(IDLE_SECONDS)
                self._idle -= 1
                if not came and not self._waiting:
                    break
            del self._lanes[threading.current_thread()]
            return None

    def _answer(self, question: Question, ticket: Ticket, store: Store, asking: Asking, *, is_connected: bool) -> None:
        try:
            answer = retrying(
                lambda: question(store),
                store.reconnect_reader,
                self._stop,
                self._probes,
                asking,
                on_failure=self._on_failure,
                is_wanted=lambda: not ticket.settled,
                connects_first=not is_connected,
            )
        except GivenUp:
            ticket.settle(error=DBOSShutdownError())
        except Exception as error:
            ticket.settle(error=what_to_raise(error))
        else:
            ticket.settle(answer)


def what_to_raise(error: Exception) -> Exception:
    """Return what is raised from who asked a question that failed."""
    if isinstance(error, TooSlow):
        meant: Exception = DBOSException(
            f"the database cut the question off each time it was asked: {error}. Ask for less (a limit, a narrower "
            "filter), or allow more: ?options=-c%20statement_timeout%3D120s in the database URL"
        )
        meant.__cause__ = error
        return meant
    logger.error("a query failed", exc_info=error)
    return error
