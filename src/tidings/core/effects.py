"""What a durable operation may ask of the world.

An operation (`core.operations`) is a generator that yields effects and is resumed with what they
gave. It knows neither threads nor event loops nor the clock; the drivers (`engine.drive`) are the
only code that performs effects, and the only code that knows blocking from awaiting.

An effect that the program gave up (a cancelled await) raises `Abandoned` inside the operation,
which may still `Defer`, and must then let it pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from tidings.model import Answer, Unit, WorkflowFilter

T = TypeVar("T")

# What a waiter waits for: ("message", workflow id, topic), ("event", workflow id, key), ("end", id).
WakeKey = tuple[str | None, ...]


class Standing(Protocol):
    """The arrival of a take that stands."""

    def stands_no_more(self, nothing_came: Callable[[], None]) -> bool:
        """Let its take not be committed again on its own; from now on a message only wakes it.

        Tells whether it is under way now. If it is, and finds no message, `nothing_came` is called, in any thread.
        """


class Call(Struct, frozen=True):
    """Run user code. Resumes with its result; an awaiting driver awaits it first."""

    function: Callable[[], Any]


# Hears of the answer to a unit; of `None` if there is none: the unit was refused, or failed, or nobody waits for a
# database that is away (then it may land all the same).
Tell = Callable[[Answer | None], None]


class Commit(Struct, frozen=True):
    """Make a unit durable, after all that the run handed over before. Resumes with its answer.

    `tell` hears of the answer first: before the operation goes on, however late that is, and before
    any later batch. It is called in another thread, must be quick and raise nothing, and is not called
    for a unit that was withdrawn.
    """

    unit: Unit
    tell: Tell | None = None


class Defer(Struct, frozen=True):
    """Hand over a unit and go on. `make` is called under the run's lock, so that what it numbers
    and the hand-over are one: two threads cannot swap between them."""

    make: Callable[[], Unit]


class Barrier(Struct, frozen=True):
    """Wait until everything the run handed over is durable, and the run is known to be this process's still."""


class Watch(Struct, frozen=True):
    """Begin to watch for these keys, before looking. Resumes with an arrival to `Wait` for."""

    keys: tuple[WakeKey, ...]


class Due:
    """When a wait is over: at its deadline, on the store's clock, if that is recorded; and after `longest_ms` at most.

    One operation has one, for all its waits. `own_ms` is noted by the clock of the process at the first of
    them: when the longest wait is over, whatever becomes of the store's clock.
    """

    __slots__ = ("deadline_ms", "longest_ms", "own_ms")

    def __init__(self, longest_ms: int, deadline_ms: int | None = None) -> None:
        self.longest_ms = longest_ms
        self.deadline_ms = deadline_ms
        self.own_ms: int | None = None


class Wait(Struct, frozen=True):
    """Pause until the arrival wakes or the time is up. Resumes with True if it was woken.

    Without an arrival it waits for the time alone; without both, for ever.
    """

    arrival: Any = None
    due: Due | None = None


class Receive(Struct, frozen=True):
    """Commit a unit that takes a message; if there is none, wait, and let the take *stand*.

    A take that stands is committed again together with a message that it waits for, in the batch of
    its sender, unless the arrival was told that it `stands_no_more`. Resumes with the `Taken`, with
    True if it was woken and is to look again, or with False when its time is up.
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


class FindStatuses(Struct, frozen=True, gc=False):
    """How these workflows stand: a dict of their statuses, without those that do not exist."""

    workflow_ids: tuple[str, ...]


class ListWorkflows(Struct, frozen=True):
    """The workflows that a filter describes: a list of `WorkflowRecord`."""

    wanted: WorkflowFilter


class ListSteps(Struct, frozen=True, gc=False):
    """A part of what a workflow recorded: a list of `RecordedEntry`, or `None` if it does not exist."""

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
    """All executors, and what is pending with them: a list of `Executor` and one of `PendingGroup`."""


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
    | FindStatuses
    | ListWorkflows
    | ListSteps
    | ListMessages
    | ListExecutors
)


class Read(Struct, frozen=True):
    """Ask the store. Resumes with what the query says.

    `asked` is what was asked ahead: the query is then on its way already.
    """

    query: Query
    asked: Any = None


class Turn(Struct, frozen=True):
    """Wait, in a run with parallel branches, until it is this result's turn to come.

    `finished` is its number, and `begun` how many operations had begun before it. Without a number it
    is a new operation's turn: in a replay, when all that is recorded has come.
    """

    finished: int | None = None
    begun: int = 0


class Now(Struct, frozen=True):
    """Resumes with the time in ms on the store's clock."""


class Lack(Struct, frozen=True):
    """This process lacks something, memory say, for the operation's own work, which will be tried again.

    Resumes with a block that lasts until that has come to something; it gives the pauses between the tries.
    """


class Abandoned(BaseException):
    """The program stopped waiting for this operation."""


class Failed(Struct, frozen=True):
    """What an operation returns to raise `error` from its caller.

    A generator cannot raise every exception itself: a StopIteration would become a RuntimeError.
    """

    error: BaseException


Effect = Call | Commit | Defer | Barrier | Watch | Wait | Receive | Read | Turn | Now | Lack
Operation = Generator[Effect, Any, T]

BARRIER = Barrier()
NOW = Now()
LACK = Lack()
