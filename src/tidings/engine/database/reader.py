"""The thread that reads. Queries that arrive while it works are sent together.

A hundred waiters that wake at once become one query. How each kind of query is sent, and what answers it, is in
`engine.database.queries`. A query that is sent alone (a history, say) is an errand, run in its turn. Lists may take
long, so they go to lanes (`engine.database.lanes`). While the store is away, queries are retried. A query that fails
otherwise raises its error from its caller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from msgspec import Struct

from tidings.core.effects import Query
from tidings.engine.database.lanes import Lanes, what_to_raise
from tidings.engine.database.mailbox import Mailbox
from tidings.engine.database.outage import Contact, GivenUp, retrying
from tidings.engine.database.parked import Parked
from tidings.engine.database.queries import ANSWERS, InLane, Together
from tidings.engine.hooks import Hooks
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.error import DBOSShutdownError
from tidings.store.protocol import Forbidden, Store

logger = logging.getLogger("tidings")

Errand = Callable[[Store], Any]
ReadTogether = Callable[[Sequence[Any], Store], list[Any]]
_Item = Errand | tuple[Together, Query]  # What the thread is asked: an errand, or a query to send with others.

_MAX_TOGETHER: Final = 500
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
        self._inbox: Mailbox[tuple[_Item, Reading]] = Mailbox()
        self._taken: list[tuple[_Item, Reading]] = []  # What the thread works on now.
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

    def ask(self, question: Query | Errand, asker: Asker | None = None) -> Ticket:
        """Put a query, or an errand on the reading connection."""
        ticket = Reading(asker)
        how = ANSWERS.get(type(question))
        asked: _Item
        if how is None:
            asked = cast(Errand, question)
        elif isinstance(how, Together):
            asked = how, cast(Query, question)
        else:
            asked = partial(how.read, question)
            if isinstance(how, InLane) and self._lanes.put(asked, ticket):
                return ticket
            # If no thread is left for a lane, this thread answers the query, and later ones wait.
        if not self._inbox.put((asked, ticket)):
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

    def _answer(self, asked: list[tuple[_Item, Reading]]) -> None:
        groups: dict[tuple[Together, Hashable], list[tuple[Query, Ticket]]] = {}
        for each, ticket in asked:
            if isinstance(each, tuple):
                how, query = each
                groups.setdefault((how, how.group_of(query)), []).append((query, ticket))
            else:
                self._settle([ticket], partial(_run, each))
        for (how, _), group in groups.items():
            self._together(group, how.read)

    def _together(self, asked: Sequence[tuple[Query, Ticket]], read: ReadTogether) -> None:
        """Send queries of one kind together. If that fails, send each alone, because only one may be at fault."""
        self._settle(
            [ticket for _, ticket in asked],
            partial(read, [query for query, _ in asked]),
            partial(self._apart, asked, read) if len(asked) > 1 else None,
        )

    def _apart(self, asked: Sequence[tuple[Query, Ticket]], read: ReadTogether) -> None:
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


def _run(errand: Errand, store: Store) -> list[Any]:
    return [errand(store)]
