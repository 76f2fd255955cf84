"""The effects: what a durable operation may ask its driver to do.

An operation (`core.operations`) is a generator. It yields effects, and a driver (`engine.runs.drive`)
resumes it with their results. The operation knows no thread, no event loop and no clock. The
drivers are the only code that performs effects: one blocks, the other awaits. The user code of a step
has both forms too (`engine.runs.attempts`); a driver runs it as a `Call`.

When the program gives up an effect (it cancels the await), the driver raises `Abandoned` inside the
operation. The operation may still `Defer` a unit; then it must let `Abandoned` propagate.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from tidings.model import Answer, Executor, PendingGroup, Unit, WorkflowFilter

T = TypeVar("T")

# The key that a waiter waits for: ("message", workflow id, topic), ("event", workflow id, key), ("end", id).
WakeKey = tuple[str | None, ...]


class WaitingReceive(Protocol):
    """The arrival of a take that found no message and waits."""

    def stop_waiting(self, nothing_came: Callable[[], None]) -> bool:
        """Stop the committer from committing the take again; from now on a message only wakes the run.

        Returns false if nothing comes under the number of the take. Otherwise a batch has the take, or it is settled.
        If a batch has it and there is no message, `nothing_came` is called, in any thread. See `core.receive_state`.
        """


class Call(Struct, frozen=True):
    """Run user code. Resumes with its result; an awaiting driver awaits it first."""

    function: Callable[[], Any]


# Called with the answer to a unit. Called with `None` if the unit was refused or failed, or if the caller stopped
# waiting for a database that is away; in the last case the unit may still become durable.
Tell = Callable[[Answer | None], None]


class Commit(Struct, frozen=True):
    """Make a unit durable, after everything that the run handed over earlier. Resumes with its answer.

    `tell` is called with the answer before the operation continues, and before any later batch. It runs
    in another thread, must be quick and must not raise. It is not called for a withdrawn unit.
    """

    unit: Unit
    tell: Tell | None = None


class Defer(Struct, frozen=True):
    """Hand over a unit and continue. `make` is called under the run's lock, so units are handed over in
    the order in which `make` numbered them, whatever thread they come from."""

    make: Callable[[], Unit]


class Barrier(Struct, frozen=True):
    """Wait until everything the run handed over is durable, and this process is known to still own the run."""


class Watch(Struct, frozen=True):
    """Start watching these keys, before looking. Resumes with an arrival to `Wait` for.

    After the wait, `woken_by` of the arrival is the key that was woken; `None` if it may have been any.
    """

    keys: tuple[WakeKey, ...]


class Gathering(Protocol):
    """Many watched keys, each until it is woken. Several operations, one after the other, use it."""

    def watch(self, keys: Iterable[WakeKey]) -> None:
        """Start watching these keys, before looking."""

    def forget(self, keys: Iterable[WakeKey]) -> None:
        """Stop watching these keys."""

    def bell(self) -> Any:
        """Return what to `Wait` for: the next wake-up, or an earlier wake-up that was not taken yet."""

    def take(self) -> dict[WakeKey, BaseException | None]:
        """Return the keys woken since the last call, in order, and stop watching them.

        The value of a key is the error that keeps its wake-up from coming, or `None`.
        """

    def close(self) -> None:
        """Stop watching all keys. Takes no lock, because a finalizer may call it while any lock is held."""


class Gather(Struct, frozen=True):
    """Prepare to watch many keys. Resumes with a `Gathering` that watches none yet."""


class Missed(Struct, frozen=True):
    """Report that a receive of a workflow has timed out: its topic may have been named wrong. Resumes at once."""

    workflow_id: str
    name: str
    topic: str | None
    timeout_seconds: float


class Due:
    """When a wait ends: at its recorded deadline, if any, on the store's clock; and after `longest_ms` at the latest.

    One operation has one `Due` for all its waits. The first wait sets `own_ms`: the time, on the process's
    own clock, at which the wait ends even if the store's clock steps.
    """

    __slots__ = ("deadline_ms", "longest_ms", "own_ms")

    def __init__(self, longest_ms: int, deadline_ms: int | None = None) -> None:
        self.longest_ms = longest_ms
        self.deadline_ms = deadline_ms
        self.own_ms: int | None = None


class Wait(Struct, frozen=True):
    """Pause until the arrival (or the bell of a gathering) is woken, or the time is up. Resumes with True if woken.

    Without an arrival it waits for the time alone; without either, until the program gives the operation up.
    """

    arrival: Any = None
    due: Due | None = None


class Receive(Struct, frozen=True):
    """Commit a unit that takes a message; if there is none, wait, with the take kept by the committer.

    The committer commits a waiting take again in the batch that brings a message for it, unless
    `stop_waiting` was called on the arrival. Resumes with the `Taken`; with True if the run was woken
    and must look again; with False when its time is up.
    """

    unit: Unit
    arrival: Any
    due: Due | None


class FindEvent(Struct, frozen=True, gc=False):
    """The latest value of an event and its workflow's status: an `EventRead`."""

    workflow_id: str
    key: str


class FindAllEvents(Struct, frozen=True, gc=False):
    """The latest value of each key: a dict of texts, or `None` if the workflow does not exist."""

    workflow_id: str


class FindWorkflow(Struct, frozen=True, gc=False):
    """A `WorkflowRecord`, or `None` if no workflow has that id."""

    workflow_id: str


class FindEnds(Struct, frozen=True, gc=False):
    """Which of these have ended: a dict of `End`.

    Pending ones are left out, except those that are stuck. An id that does not exist has `None`.
    """

    workflow_ids: tuple[str, ...]


class FindPendingBelow(Struct, frozen=True, gc=False):
    """Up to `limit` pending workflows below these (their children, and so on): a list of ids."""

    workflow_ids: tuple[str, ...]
    limit: int


class ListWorkflows(Struct, frozen=True):
    """The workflows that a filter describes: a list of `WorkflowRecord`."""

    wanted: WorkflowFilter


class ListSteps(Struct, frozen=True, gc=False):
    """A part of the history of a workflow: a list of `RecordedEntry`, or `None` if it does not exist."""

    workflow_id: str
    limit: int | None
    offset: int
    with_outputs: bool


class ListMessages(Struct, frozen=True, gc=False):
    """A part of all messages sent to a workflow: a list of `StoredMessage`, or `None` if it does not exist."""

    workflow_id: str
    limit: int | None
    offset: int


class ListExecutors(Struct, frozen=True, gc=False):
    """All executors that are in the database, and all pending workflows: an `ExecutorList`."""


class ExecutorList(Struct, frozen=True):
    """The executors in the database.

    Attributes:
        executors: all of them.
        dead_here: the ids of those that were processes of this host, and have died; whatever their leases say.
        pending: the pending workflows, counted by owner.
    """

    executors: list[Executor]
    dead_here: frozenset[str]
    pending: list[PendingGroup]

    def alive(self, now_ms: int) -> list[Executor]:
        """Return the executors that live, at this time on the store's clock."""
        dead = self.dead_here
        return [each for each in self.executors if each.lease_until_ms > now_ms and each.executor_id not in dead]


class ReadStream(Struct, frozen=True, gc=False):
    """Up to `limit` values of a stream, from an offset on: a `StreamPage`."""

    workflow_id: str
    key: str
    offset: int
    limit: int


Query = (
    ReadStream
    | FindEvent
    | FindAllEvents
    | FindWorkflow
    | FindEnds
    | FindPendingBelow
    | ListWorkflows
    | ListSteps
    | ListMessages
    | ListExecutors
)


class Read(Struct, frozen=True):
    """Query the store. Resumes with the result.

    `asked` is the pending query, if it was sent ahead of time.
    """

    query: Query
    asked: Any = None


class Aside(Struct, frozen=True):
    """Perform an effect that is not part of the run. The run may have ended already."""

    effect: Commit | Read


class Turn(Struct, frozen=True):
    """Wait for the turn of this result, in a run with parallel branches.

    `finished` is the result's number. `begun` is how many operations had begun before it. Without a number, wait for
    the turn of a new operation: in a replay, after everything recorded has been replayed.
    """

    finished: int | None = None
    begun: int = 0


class Now(Struct, frozen=True):
    """Resumes with the time in ms on the store's clock."""


class Lack(Struct, frozen=True):
    """Report a shortage (of memory, say) in the operation's own work, which will be retried.

    `what` names that work, for the log. Resumes with a context manager to hold until the work succeeds or fails; it
    says how long to pause between the tries.
    """

    what: str


class Abandoned(BaseException):
    """The program stopped waiting for this operation."""


class Failed(Struct, frozen=True):
    """What an operation returns to raise `error` from its caller.

    A generator cannot raise every exception itself: a StopIteration would become a RuntimeError.
    """

    error: BaseException


Effect = Call | Commit | Defer | Barrier | Watch | Wait | Receive | Read | Gather | Aside | Turn | Now | Lack | Missed
Operation = Generator[Effect, Any, T]

BARRIER = Barrier()
NOW = Now()
LACK = Lack("storing or rebuilding a value for an operation")
