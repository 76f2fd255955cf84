"""What a store promises to the engine. Both backends keep to it; `tests/store` holds them to it.

A store keeps records and answers questions. It knows SQL and nothing of workflows: which unit to
write, when to retry and whom to wake is decided elsewhere.

Threads: the *writing* methods are called from one thread (the committer's), the *reading* ones
from another (the reader's); each side has its own connection and no lock. `migrate` comes before
both, `close` after both.

Errors: `DataError` says that a unit's data cannot be stored, and nothing of the batch was written.
`Fenced` says that this executor's fence has moved, or that the store has not what it had, and
nothing was written. `Unavailable` is
everything that may pass (connection, disk, lock, timeout): the same call may be made again after
`reconnect`; if `ambiguous`, a commit may or may not have landed, and `recall` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from msgspec import Struct

from tidings.model import (
    Answer,
    EventRead,
    Executor,
    ExecutorState,
    History,
    PendingGroup,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)

# A name that wakes everybody: too much has changed to name it, or names were missed.
WAKE_ALL: Final = "*"

# What begins a name that only the executor that sent it hears, and so learns that it does hear.
PROBE: Final = "?"

# How long the row of a dead executor is kept after its lease: a process that was cut off in the
# middle of a commit must find it, to learn whether the commit landed.
KEEP_EXECUTORS_MS: Final = 24 * 3_600_000


class StoreError(Exception):
    """The root of what a store raises."""


class DataError(StoreError):
    """The data of a unit cannot be stored; nothing of the batch was written."""


class Fenced(StoreError):
    """This executor may not write: ownership of runs has changed, or the store lacks its last batch. Nothing was
    written; `refence` tells which."""


class Unavailable(StoreError):
    """The store cannot serve now. If `ambiguous`, a commit may have landed all the same."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class Forbidden(Unavailable):
    """This user has not the right to do this, any more. Nothing was written; something else may go through."""


class TooSlow(Unavailable):
    """The store cut a statement off that took longer than it allows. It may have been busy; or that is always so."""


class Batch(Struct, frozen=True):
    """Units that are committed together, under one executor's fence.

    `number` grows with every batch of the executor and is written with it. `landed` is that of the last
    one known to have landed, `None` before the first: a store that has another one has lost something,
    and fences the batch. `now_ms` and
    `lease_ms` renew the lease: it runs until `now_ms + lease_ms`. `wakes` are the names, short and
    without spaces, that listeners of other executors hear once the batch is durable, and not before;
    they are part of it. A name that begins with `PROBE` is heard by this executor's own listener alone.
    """

    executor_id: str
    fence: int
    number: int
    now_ms: int
    lease_ms: int
    units: Sequence[Unit]
    wakes: Sequence[str] = ()
    landed: int | None = None


class Listener(Protocol):
    """Hears what the batches of other executors wake. Used by one thread, but for `interrupt`.

    It hears what is committed after `listen` returned. What it hears are hints: names of units that
    were refused are among them. After it was lost, or where it hears `WAKE_ALL`, all must look.

    Attributes:
        obstacle: what may keep a listener of this store from hearing, for the log.
    """

    obstacle: str

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        """Wait for names, at most so long; none where it was interrupted.

        `is_awaited` tells whether anybody in this process waits now. A listener that has to look
        asks it before each look, and looks seldom while nobody does; who begins to wait interrupts.

        Raises:
            Unavailable: the connection is lost, and so may names be.
        """

    def interrupt(self) -> None:
        """Let `hear`, or the next one, return soon. From any thread; harmless after `close`."""

    def close(self) -> None:
        """Hear no more; harmless when repeated."""


class Store(Protocol):
    """A database that holds workflows, their entries, messages, events and streams.

    Attributes:
        identity: the same for two stores of one database, as far as their URLs tell.
    """

    identity: str

    # --- before and after -----------------------------------------------------------------------

    def migrate(self) -> None:
        """Bring the schema to this library's version; safe when many processes do it at once.

        Raises:
            DBOSInitializationError: the schema is newer than the library, or the database is unfit.
        """

    def connect(self) -> None:
        """Open both connections. Raises `DBOSInitializationError` where the schema is missing."""

    def close(self) -> None:
        """Close both connections; harmless when repeated."""

    # --- writing: the committer's thread ----------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """Write `batch` in one transaction, durably, and answer each unit in its order.

        The first statement renews the executor's row under its fence and notes `batch.number`.
        Within a batch: starts, then destinations are looked up, and whether who publishes (events,
        items, closings) is pending under its epoch, then outcomes, cancellations, messages (`seq` in list
        order), takes (first those of messages that were seen; then each takes a different one, the oldest
        first, in list order per topic), then looks ahead at what is unread still, then the rest. An entry
        replaces an OPEN one at its place and no other. A look ahead stops before the bodies it gives take
        more than `MAX_AHEAD_BYTES` of UTF-8.
        What answers show of other workflows (`InUse`, `Applied.ended`) is as of the batch's end.

        A batch is tried again under its number. One that has landed is never written twice.

        Raises:
            DataError: also for a version of an event, or an item at an offset of a stream, that is
                there already; and for a message seen before that is not there, or not unread any more.
            Fenced: also for a batch that has landed, if this store was not left in doubt about it; and
                where the executor's last batch is another than `batch.landed`.
            Unavailable
        """

    def recall(self, batch: Batch) -> list[Answer] | None:
        """Tell whether `batch` landed: its answers, as `commit` gave them but without a look ahead, or `None`.

        Waits until a backend that still works on it has ended. What answers show of other workflows
        is as of now. Without the executor's row nothing tells, and it counts as not landed.
        """

    def reconnect(self) -> None:
        """Replace the writing connection. Raises `Unavailable` if that fails."""

    def enlist(self, executor: Executor) -> int:
        """Add an executor's row, or renew all of it but the fence and the last batch.

        Returns the fence it has, whatever was given.
        """

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """Remove the row of an executor under this fence; its pending workflows lose their owner.

        Listeners of other executors then hear the names in `wakes`. Changes nothing under another fence.
        """

    def refence(self, executor_id: str) -> ExecutorState | None:
        """Return the executor's fence, its last batch, and the pending runs it owns, as of now.

        Waits for a takeover in progress. `None` if it has no row any more.
        """

    def claim(
        self, executor: Executor, dead: Collection[str], names: Collection[str], app_version: str, limit: int
    ) -> list[WorkflowRecord]:
        """Take over up to `limit` pending workflows, oldest first, that are dead executors' or nobody's.

        In one transaction: check the executor's own fence (else `Fenced`) and raise it by one, under which the
        executor goes on; so a store that loses the claim fences the next batch. Raise the fences of the
        `dead` ones, so that a batch of theirs in flight either ends before or changes nothing, then
        raise each run's epoch, and count a recovery attempt for each that a dead one owned. Only workflows
        of these `names` and this `app_version`, and of the executor's program; those of none become its
        program's. Rows of dead executors that own nothing pending any more are
        removed, a day after their lease.
        """

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """Raise the epoch of these runs, where they are pending and this executor's already.

        Raises the executor's own fence by one, as `claim` does.

        Raises:
            Fenced: the executor's own fence has moved.
        """

    # --- reading: the reader's thread --------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the store's clock."""

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """Read all that these workflows recorded, entries in the order they began. Called after a claim."""

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """Read these workflows; an id that does not exist is missing from the answer."""

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """Read how these workflows stand, and no more; an id that does not exist is missing from the answer."""

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """Read the workflows that a filter describes. Text that no store can hold matches nothing."""

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        """Read a part of what a workflow recorded, in the order operations began; `None` if there is none such.

        Published events and items of streams that no step wrote are among it, without their values. Without
        outputs `output` and `error` are `None`, and the body of a message is "".
        """

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        """Read a part of all messages sent to a workflow, the oldest first; `None` if there is none such."""

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """Read the latest value of each (workflow id, key), in order."""

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """Read the latest value of each key; `None` if the workflow does not exist."""

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """Read a page of each (workflow id, key, offset), in order.

        A page has up to `limit` values, and stops once they take `max_bytes` or more of UTF-8: it has one
        at least, if there is one at the offset. What is asked for several times is read once.
        """

    def executors(self) -> list[Executor]:
        """Read all executors."""

    def pending_groups(self) -> list[PendingGroup]:
        """Count what is pending by name, version, owner and program; the example of each group is its oldest."""

    def reconnect_reader(self) -> None:
        """Replace the reading connection. Raises `Unavailable` if that fails."""

    # --- hearing: the listener's thread --------------------------------------------------------------

    def listen(self, executor_id: str) -> Listener:
        """Begin to hear what the batches of other executors wake. Raises `Unavailable` if that fails."""
