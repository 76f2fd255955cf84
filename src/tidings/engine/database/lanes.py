"""Lanes: threads for queries that may take long. Each answers one query at a time, on its own connection.

A list of a large table may take as long as the database allows. No other query may wait for it: neither a quick one of
the reader, nor another list. A lane is opened when all others are busy, up to `MOST_LANES`, and closed when it has been
idle for a while.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tidings.engine.database.outage import Contact, GivenUp, retrying
from tidings.engine.hooks import Hooks
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.error import DBOSException, DBOSShutdownError
from tidings.store.protocol import Store, TooSlow

logger = logging.getLogger("tidings")

MOST_LANES: Final = 4
IDLE_SECONDS: Final = 10.0

Question = Callable[[Store], Any]


class Lanes:
    """Answers queries that may take long, each in a lane."""

    def __init__(self, open_store: Callable[[], Store], hooks: Hooks, on_failure: Callable[[], None]) -> None:
        """Prepare. `open_store` opens a store for a lane, `on_failure` is called after each failure of a query."""
        self._open_store = open_store
        self._hooks = hooks
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Question, Ticket]] = deque()
        self._answering: list[Ticket] = []
        self._lanes: dict[threading.Thread, Contact] = {}
        self._idle = 0
        self._stop = threading.Event()

    @property
    def contacts(self) -> list[Contact]:
        """Each lane's contact with the database."""
        with self._changed:
            return list(self._lanes.values())

    def put(self, question: Question, ticket: Ticket) -> bool:
        """Queue a query for a lane. False if there is no lane and none can be opened, because no thread is left."""
        with self._changed:
            if self._stop.is_set():
                ticket.settle(error=DBOSShutdownError())
                return True
            self._waiting.append((question, ticket))
            if self._idle >= len(self._waiting) or len(self._lanes) == MOST_LANES:
                self._changed.notify()
                return True
            contact = Contact("reading a list from the database")
            lane = threading.Thread(target=self._run, args=(contact,), name="tidings-lane", daemon=True)
            self._lanes[lane] = contact
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
        """Return the tickets of all queries that are not answered yet."""
        with self._changed:
            return [*(ticket for _, ticket in self._waiting), *self._answering]

    def stop(self, patience_seconds: float) -> None:
        """Answer nothing more. A lane that hangs in the database is not waited for; it closes its connection later."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
            lanes = list(self._lanes)
        for lane in lanes:
            if lane.is_alive():  # A lane that starts now finds nothing to do, and ends.
                lane.join(patience_seconds)
        settle_all((ticket, None, DBOSShutdownError()) for ticket in self.held())

    def _run(self, contact: Contact) -> None:
        store: Store | None = None
        is_connected = False
        try:
            while (taken := self._take()) is not None:
                question, ticket = taken
                try:
                    store = store or self._open_store()
                    self._answer(question, ticket, store, contact, is_connected=is_connected)
                    is_connected = True
                finally:
                    with self._changed:
                        self._answering.remove(ticket)
        finally:
            if store is not None:
                store.close()

    def _take(self) -> tuple[Question, Ticket] | None:
        """Wait for the next query whose caller still waits; `None` ends the lane."""
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

    def _answer(
        self, question: Question, ticket: Ticket, store: Store, contact: Contact, *, is_connected: bool
    ) -> None:
        try:
            answer = retrying(
                lambda: question(store),
                store.reconnect_reader,
                self._stop,
                self._hooks,
                contact,
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
    """Return the error that the caller of a failed query gets."""
    if isinstance(error, TooSlow):
        meant: Exception = DBOSException(
            f"the database cancelled the query each time it was tried: {error}. Ask for less (a limit, a narrower "
            "filter), or allow more time: ?options=-c%20statement_timeout%3D120s in the database URL"
        )
        meant.__cause__ = error
        return meant
    logger.error("a query failed; the call that asked it raises the error", exc_info=error)
    return error
