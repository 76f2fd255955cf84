"""The thread that reads. Queries that arrive while it works are sent together.

A hundred waiters that wake at once become one query. A query that cannot be batched (a history, say) is an errand, run
in its turn. Lists may take long, so they go to lanes (`engine.database.lanes`). While the store is away, queries are
retried. A query that fails otherwise raises its error from its caller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from tidings.core.effects import (
    FindAllEvents,
    FindEnds,
    FindEvent,
    FindPendingBelow,
    FindWorkflow,
    ListExecutors,
    ListMessages,
    ListSteps,
    ListWorkflows,
    Query,
    ReadStream,
)
from tidings.engine.database.lanes import Lanes, what_to_raise
from tidings.engine.database.mailbox import Mailbox
from tidings.engine.database.outage import Contact, GivenUp, retrying
from tidings.engine.database.parked import Parked
from tidings.engine.hooks import Hooks
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.error import DBOSShutdownError
from tidings.limits import MAX_PAGE_BYTES
from tidings.store.protocol import Forbidden, Store

logger = logging.getLogger("tidings")

Q = TypeVar("Q", FindEvent, FindWorkflow, ReadStream)

_MAX_TOGETHER = 500

_LISTS: Final = (ListWorkflows, ListSteps, ListMessages, ListExecutors, FindPendingBelow)

_STOP_SECONDS = 2.0  # After that, no caller waits for the answer.


class Asker(Protocol):
    """The chain of a caller. Once it is dead, the caller needs no answer."""

    dead: BaseException | None


class Reading(Ticket):
    """The answer to a query. Settled when it is read."""

    __slots__ = ("asker",)

    def __init__(self, asker: Asker | None) -> None:
        super().__init__()
        self.asker = asker


class _Asked(Struct):
    """A query that waits for a database right."""

    tickets: list[Ticket]
    read: Callable[[Store], list[Any]]


class Reader:
    """Answers queries, many at a time."""

    def __init__(
        self, store: Store, hooks: Hooks, on_end: Callable[[], None], open_another: Callable[[], Store]
    ) -> None:
        """Prepare the thread.

        Args:
            store: the store to read from.
            hooks: see `Hooks`.
            on_end: called when the thread no longer uses the store.
            open_another: opens another store of the same database, for a lane.
        """
        self._store = store
        self._hooks = hooks
        self._on_end = on_end
        self._inbox: Mailbox[tuple[Query | Callable[[Store], Any], Reading]] = Mailbox()
        self._taken: list[tuple[Query | Callable[[Store], Any], Reading]] = []  # What the thread works on now.
        self.contact = Contact("reading from the database")
        self._parked: Parked[_Asked] = Parked("reading from the database")
        self._lanes = Lanes(open_another, hooks, self._tell_dead_in_lanes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidings-reader", daemon=True)
        self._is_started = False

    def start(self) -> None:
        self._thread.start()
        self._is_started = True

    def stop(self) -> None:
        """Answer all queries, then stop. A query that hangs is not waited for; it keeps using its connection."""
        self._inbox.close()
        self._stop.set()
        if not self._is_started:
            self._on_end()
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            self._settle_dead()
        self._lanes.stop(_STOP_SECONDS)

    @property
    def contacts(self) -> list[Contact]:
        """This thread's contact with the database, and each lane's."""
        return [self.contact, *self._lanes.contacts]

    def ask(self, question: Query | Callable[[Store], Any], asker: Asker | None = None) -> Ticket:
        """Put a query, or an errand on the reading connection."""
        ticket = Reading(asker)
        if isinstance(question, _LISTS):
            question = partial(_alone, question)
            if self._lanes.put(question, ticket):
                return ticket
            # No thread is left for a lane: this thread answers the query, and later ones wait.
        if not self._inbox.put((question, ticket)):
            ticket.settle(error=DBOSShutdownError())
        return ticket

    def tell_dead(self) -> None:
        """If the store is away, wake the callers that wait for an answer on a dead chain."""
        if self.contact.is_away:
            self._settle_dead()

    def _tell_dead_in_lanes(self) -> None:
        held = [ticket for ticket in self._lanes.held() if isinstance(ticket, Reading)]
        settle_all((each, None, each.asker.dead) for each in held if each.asker and each.asker.dead)

    def _settle_dead(self) -> None:
        self._tell_dead_in_lanes()
        parked = [ticket for each in self._parked.all() for ticket in each.tickets]
        held = [ticket for _, ticket in (*self._inbox.waiting(), *self._taken)]
        held += [ticket for ticket in parked if isinstance(ticket, Reading)]
        settle_all((each, None, each.asker.dead) for each in held if each.asker and each.asker.dead)

    def _run(self) -> None:
        try:
            while (taken := self._inbox.take_all(self._parked.timeout_seconds)) != []:
                self._taken = asked = taken or []  # None: it is only time to retry what is parked.
                self._try_parked()
                for start in range(0, len(asked), _MAX_TOGETHER):
                    self._answer(asked[start : start + _MAX_TOGETHER])
                self._taken = []
        finally:
            settle_all((ticket, None, DBOSShutdownError()) for each in self._parked.all() for ticket in each.tickets)
            self._on_end()

    def _try_parked(self) -> None:
        for reason, parked in self._parked.take_due().items():
            for index, each in enumerate(parked):
                self._settle(each.tickets, each.read, None)
                if index == 0 and self._parked.is_still(reason):
                    for other in parked[1:]:
                        self._parked.put(other, reason)
                    break

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
                case FindAllEvents() | FindEnds():
                    self._settle([ticket], partial(_alone_in_list, question))
                case ListWorkflows() | ListSteps() | ListMessages() | ListExecutors() | FindPendingBelow():
                    raise AssertionError(f"{question!r} is answered in a lane")
                case errand:
                    self._settle([ticket], partial(_run, errand))
        if events:
            self._together(events, _find_events)
        for limit in {query.limit for query, _ in streams}:
            self._together([each for each in streams if each[0].limit == limit], _read_streams)
        if workflows:
            self._together(workflows, _find_workflows)

    def _together(self, asked: Sequence[tuple[Q, Ticket]], read: Callable[[Sequence[Q], Store], list[Any]]) -> None:
        """Send queries of one kind together. If that fails, send each alone, because only one may be at fault."""
        self._settle(
            [ticket for _, ticket in asked],
            partial(read, [query for query, _ in asked]),
            partial(self._apart, asked, read) if len(asked) > 1 else None,
        )

    def _apart(self, asked: Sequence[tuple[Q, Ticket]], read: Callable[[Sequence[Q], Store], list[Any]]) -> None:
        for each in asked:
            self._together([each], read)

    def _settle(
        self,
        tickets: list[Ticket],
        read: Callable[[Store], list[Any]],
        apart: Callable[[], object] | None = None,
    ) -> None:
        if all(ticket.settled for ticket in tickets):
            return  # The callers no longer wait.
        try:
            answers = retrying(
                lambda: read(self._store),
                self._store.reconnect_reader,
                self._stop,
                self._hooks,
                self.contact,
                on_failure=self.tell_dead,
                is_wanted=lambda: not all(ticket.settled for ticket in tickets),
                parks=True,
            )
        except GivenUp:
            settle_all((ticket, None, DBOSShutdownError()) for ticket in tickets)
        except Exception as error:
            if apart is not None:
                apart()
                return
            if isinstance(error, Forbidden):
                self._parked.put(_Asked(tickets, read), str(error))
                return
            meant = what_to_raise(error)
            settle_all((ticket, None, meant) for ticket in tickets)
        else:
            settle_all((ticket, answer, None) for ticket, answer in zip(tickets, answers, strict=True))


def _find_events(asked: Sequence[FindEvent], store: Store) -> list[Any]:
    return list(store.latest_events([(query.workflow_id, query.key) for query in asked]))


def _find_workflows(asked: Sequence[FindWorkflow], store: Store) -> list[Any]:
    found = store.workflows([query.workflow_id for query in asked])
    return [found.get(query.workflow_id) for query in asked]


def _read_streams(asked: Sequence[ReadStream], store: Store) -> list[Any]:
    """Read a page for each query. If several ask for the same page, the store reads it once."""
    places = [(query.workflow_id, query.key, query.offset) for query in asked]
    return list(store.read_streams(places, asked[0].limit, MAX_PAGE_BYTES))


def _alone_in_list(query: Query, store: Store) -> list[Any]:
    return [_alone(query, store)]


def _alone(query: Query, store: Store) -> Any:
    """Answer a query that is sent alone."""
    match query:
        case FindAllEvents(workflow_id):
            return store.all_events(workflow_id)
        case FindEnds(workflow_ids):
            return store.ends(workflow_ids)
        case FindPendingBelow(workflow_ids, limit):
            return store.pending_below(workflow_ids, limit)
        case ListWorkflows(wanted):
            return store.list_workflows(wanted)
        case ListSteps(workflow_id, limit, offset, with_outputs):
            return store.steps(workflow_id, limit, offset, with_outputs)
        case ListMessages(workflow_id, limit, offset):
            return store.messages(workflow_id, limit, offset)
        case ListExecutors():
            return store.executors(), store.pending_groups()
        case FindEvent() | FindWorkflow() | ReadStream():
            raise AssertionError(f"{query!r} is sent together with others")


def _run(errand: Callable[[Store], Any], store: Store) -> list[Any]:
    return [errand(store)]
