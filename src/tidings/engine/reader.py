"""The one thread that reads. Questions that queue up while one is answered are asked together.

A hundred waiters that wake at once become one query. What does not fit a batched query (a history,
say) is an errand, run in its turn. A store that is away is asked again until it is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tidings.core.effects import (
    FindAllEvents,
    FindEvent,
    FindStatuses,
    FindWorkflow,
    ListExecutors,
    ListMessages,
    ListSteps,
    ListWorkflows,
    Query,
    ReadStream,
)
from tidings.engine.mailbox import Mailbox
from tidings.engine.outage import Asking, GivenUp, retrying
from tidings.engine.probes import Probes
from tidings.engine.ticket import Ticket, settle_all
from tidings.error import DBOSShutdownError
from tidings.limits import MAX_PAGE_BYTES
from tidings.store.protocol import Store

logger = logging.getLogger("tidings")

_MAX_TOGETHER = 500

_STOP_SECONDS = 2.0  # Nothing is lost with an answer that nobody waits for any more.


class Asker(Protocol):
    """The chain of who asks: what it asked is of no use once it is dead."""

    dead: BaseException | None


class Reading(Ticket):
    """The answer to a question. Settled when it is read."""

    __slots__ = ("asker",)

    def __init__(self, asker: Asker | None) -> None:
        super().__init__()
        self.asker = asker


class Reader:
    """Answers queries, many at a time."""

    def __init__(self, store: Store, probes: Probes, on_end: Callable[[], None]) -> None:
        """Take what it works with, and what is called when it uses the store no more."""
        self._store = store
        self._probes = probes
        self._on_end = on_end
        self._inbox: Mailbox[tuple[Query | Callable[[Store], Any], Reading]] = Mailbox()
        self._taken: list[tuple[Query | Callable[[Store], Any], Reading]] = []  # What the thread is at.
        self.asking = Asking("reading from the database")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidings-reader", daemon=True)
        self._is_started = False

    def start(self) -> None:
        self._thread.start()
        self._is_started = True

    def stop(self) -> None:
        """Answer what was asked, then stop. A query that hangs is left behind, and uses its connection still."""
        self._inbox.close()
        self._stop.set()
        if not self._is_started:
            self._on_end()
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            self._settle_dead()

    def ask(self, question: Query | Callable[[Store], Any], asker: Asker | None = None) -> Ticket:
        """Put a query, or an errand on the reading connection."""
        ticket = Reading(asker)
        if not self._inbox.put((question, ticket)):
            ticket.settle(error=DBOSShutdownError())
        return ticket

    def tell_dead(self) -> None:
        """While the store is away, tell dead chains that wait for an answer."""
        if self.asking.is_away:
            self._settle_dead()

    def _settle_dead(self) -> None:
        held = [ticket for _, ticket in (*self._inbox.waiting(), *self._taken)]
        settle_all((each, None, each.asker.dead) for each in held if each.asker and each.asker.dead)

    def _run(self) -> None:
        try:
            while asked := self._inbox.take_all():
                self._taken = asked
                for start in range(0, len(asked), _MAX_TOGETHER):
                    self._answer(asked[start : start + _MAX_TOGETHER])
                self._taken = []
        finally:
            self._on_end()

    def _answer(self, asked: list[tuple[Query | Callable[[Store], Any], Reading]]) -> None:
        events: list[tuple[FindEvent, Ticket]] = []
        workflows: list[tuple[FindWorkflow, Ticket]] = []
        streams: list[tuple[ReadStream, Ticket]] = []
        for question, ticket in asked:
            match question:
                case FindEvent():
                    events.append((question, ticket))
                case FindWorkflow():
                    workflows.append((question, ticket))
                case ReadStream():
                    streams.append((question, ticket))
                case (
                    FindAllEvents() | FindStatuses() | ListWorkflows() | ListSteps() | ListMessages() | ListExecutors()
                ):
                    self._settle([ticket], partial(_alone, question))
                case errand:
                    self._settle([ticket], partial(_run, errand))
        if events:
            keys = [(query.workflow_id, query.key) for query, _ in events]
            self._settle([ticket for _, ticket in events], lambda store: store.latest_events(keys))
        for limit in {query.limit for query, _ in streams}:
            self._read_streams(limit, [(query, ticket) for query, ticket in streams if query.limit == limit])
        if workflows:
            ids = [query.workflow_id for query, _ in workflows]

            def find(store: Store) -> list[Any]:
                found = store.workflows(ids)
                return [found.get(workflow_id) for workflow_id in ids]

            self._settle([ticket for _, ticket in workflows], find)

    def _read_streams(self, limit: int, asked: list[tuple[ReadStream, Ticket]]) -> None:
        """Read a page for each. Those that many ask for, who stand at one place, the store reads once."""
        places = [(query.workflow_id, query.key, query.offset) for query, _ in asked]
        self._settle([ticket for _, ticket in asked], lambda store: store.read_streams(places, limit, MAX_PAGE_BYTES))

    def _settle(self, tickets: list[Ticket], read: Callable[[Store], list[Any]]) -> None:
        try:
            answers = retrying(
                lambda: read(self._store),
                self._store.reconnect_reader,
                self._stop,
                self._probes,
                self.asking,
                on_failure=self.tell_dead,
            )
        except GivenUp:
            settle_all((ticket, None, DBOSShutdownError()) for ticket in tickets)
        except Exception as error:
            logger.exception("a query failed")
            settle_all((ticket, None, error) for ticket in tickets)
        else:
            settle_all((ticket, answer, None) for ticket, answer in zip(tickets, answers, strict=True))


def _alone(query: Query, store: Store) -> list[Any]:
    """Answer a query that is asked by itself."""
    match query:
        case FindAllEvents(workflow_id):
            return [store.all_events(workflow_id)]
        case FindStatuses(workflow_ids):
            return [store.statuses(workflow_ids)]
        case ListWorkflows(wanted):
            return [store.list_workflows(wanted)]
        case ListSteps(workflow_id, limit, offset, with_outputs):
            return [store.steps(workflow_id, limit, offset, with_outputs)]
        case ListMessages(workflow_id, limit, offset):
            return [store.messages(workflow_id, limit, offset)]
        case ListExecutors():
            return [(store.executors(), store.pending_groups())]
        case FindEvent() | FindWorkflow() | ReadStream():
            raise AssertionError(f"{query!r} is asked together with others")


def _run(errand: Callable[[Store], Any], store: Store) -> list[Any]:
    return [errand(store)]
