"""The queries: how each kind is sent, and which function of the store answers it.

One table (`ANSWERS`) for all kinds. The reader (`engine.database.reader`) does the sending.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from tidings.core.effects import (
    ExecutorList,
    FindAllEvents,
    FindEnds,
    FindEvent,
    FindPendingBelow,
    FindWorkflow,
    ListExecutors,
    ListMessages,
    ListSteps,
    ListWorkflows,
    ReadStream,
)
from tidings.engine.lock_files import has_died_here
from tidings.limits import MAX_PAGE_BYTES
from tidings.store.protocol import Store


def _one_group(_: Any) -> Hashable:
    return None


class Together(Struct, frozen=True):
    """Queries of this kind that wait at the same time are sent together. `read` returns their answers in order.

    If the kind has groups, only queries of one group are sent together.
    """

    read: Callable[[Sequence[Any], Store], list[Any]]
    group_of: Callable[[Any], Hashable] = _one_group


class Alone(Struct, frozen=True):
    """A query of this kind is sent alone."""

    read: Callable[[Any, Store], Any]


class InLane(Struct, frozen=True):
    """A query of this kind is sent alone, and may take long: a lane answers it."""

    read: Callable[[Any, Store], Any]


def _events(asked: Sequence[FindEvent], store: Store) -> list[Any]:
    return list(store.latest_events([(query.workflow_id, query.key) for query in asked]))


def _workflows(asked: Sequence[FindWorkflow], store: Store) -> list[Any]:
    found = store.workflows([query.workflow_id for query in asked])
    return [found.get(query.workflow_id) for query in asked]


def _limit(query: ReadStream) -> int:
    return query.limit


def _pages(asked: Sequence[ReadStream], store: Store) -> list[Any]:
    """Read a page for each query; all have the same limit. If several ask for the same page, it is read once."""
    places = [(query.workflow_id, query.key, query.offset) for query in asked]
    return list(store.read_streams(places, asked[0].limit, MAX_PAGE_BYTES))


def _all_events(query: FindAllEvents, store: Store) -> Any:
    return store.all_events(query.workflow_id)


def _ends(query: FindEnds, store: Store) -> Any:
    return store.ends(query.workflow_ids)


def _pending_below(query: FindPendingBelow, store: Store) -> Any:
    return store.pending_below(query.workflow_ids, query.limit)


def _list_of_workflows(query: ListWorkflows, store: Store) -> Any:
    return store.list_workflows(query.wanted)


def _steps(query: ListSteps, store: Store) -> Any:
    return store.steps(query.workflow_id, query.limit, query.offset, query.with_outputs)


def _messages(query: ListMessages, store: Store) -> Any:
    return store.messages(query.workflow_id, query.limit, query.offset)


def _executors(_: ListExecutors, store: Store) -> Any:
    executors = store.executors()
    # Looked at here, in the lane: files may be slow, and the caller may be on an event loop.
    dead = frozenset(each.executor_id for each in executors if has_died_here(each))
    return ExecutorList(executors, dead, store.pending_groups())


ANSWERS: Final[Mapping[type, Together | Alone | InLane]] = {
    FindEvent: Together(_events),
    FindWorkflow: Together(_workflows),
    ReadStream: Together(_pages, _limit),
    FindAllEvents: Alone(_all_events),
    FindEnds: Alone(_ends),
    FindPendingBelow: InLane(_pending_below),
    ListWorkflows: InLane(_list_of_workflows),
    ListSteps: InLane(_steps),
    ListMessages: InLane(_messages),
    ListExecutors: InLane(_executors),
}
