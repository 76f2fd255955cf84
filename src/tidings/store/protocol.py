"""What a store promises to the engine. Both backends keep to it; `tests/store` holds them to it.

A store keeps records and answers questions. It knows SQL and nothing about workflows. The engine decides which unit
to write, when to retry and which waiters to wake.

Threads: the committer's thread calls the *writing* methods, the reader's thread calls the *reading* ones. Each side has
its own connection and no lock. `migrate` is called before both, `close` after both.

Errors:

* `DataError`: a unit's data cannot be stored. Nothing of the batch was written.
* `Fenced`: this executor's fence has moved, or the store lost batches it had acknowledged. Nothing was written.
* `Unavailable`: a failure that may pass (connection, disk, lock, timeout). The caller may make the same call again
  after `reconnect`. If it is `ambiguous`, a commit may or may not have landed: ask `recall`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from msgspec import Struct

from tidings.model import (
    Answer,
    End,
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

# Counting a workflow's unread messages stops here.
MOST_COUNTED: Final = 1_000

# A name that wakes all waiters: too many changes to name each one, or names were missed.
WAKE_ALL: Final = "*"

# The prefix of names that only the sending executor hears. They prove that its listener hears.
PROBE: Final = "?"

# How long the row of a dead executor is kept after its lease ends. A process that was cut off in the middle of a
# commit needs its row to learn whether the commit landed.
KEEP_EXECUTORS_MS: Final = 24 * 3_600_000


class StoreError(Exception):
    """The base class of the errors that a store raises."""


class DataError(StoreError):
    """The data of a unit cannot be stored; nothing of the batch was written."""


class Fenced(StoreError):
    """This executor may not write: ownership of runs has changed, or the store lacks its last batch. Nothing was
    written; `refence` tells which of the two it is."""


class Unavailable(StoreError):
    """The store cannot serve now. If `ambiguous`, a commit may have landed nevertheless."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class Forbidden(Unavailable):
    """This user lacks a right for this, perhaps since a moment ago. Nothing was written; other calls may succeed."""


class Severed(Unavailable):
    """The other end closed an idle connection. The call was not sent; the log says what to do."""


class TooSlow(Unavailable):
    """The store cancelled a statement that ran longer than allowed. The store may be busy, or this may recur."""


class Batch(Struct, frozen=True):
    """Units that are committed together, under one executor's fence.

    `number` grows with each batch of the executor and is written with it. `landed` is the number of the last batch
    known to have landed, `None` before the first. A store that has another number has lost batches, and fences this
    one. `now_ms` and `lease_ms` renew the lease until `now_ms + lease_ms`. `wakes` are names, short and without spaces,
    and part of the batch: listeners of other executors hear them once the batch is durable, and not before. Only this
    executor's own listener hears a name that begins with `PROBE`.
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
    """Hears the names that batches of other executors wake. Used by one thread, except for `interrupt`.

    It hears the names that are committed after `listen` returned. They are hints: some may come from units that were
    refused. When the listener was lost, or hears `WAKE_ALL`, all waiters must look again.

    Attributes:
        obstacle: what may keep a listener of this store from hearing, as a text for the log.
    """

    obstacle: str

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        """Wait for names, at most this long; return none if interrupted.

        `is_awaited` tells whether anything in this process waits now. A listener that polls asks it before each poll,
        and polls seldom while nothing waits. A waiter that begins to wait interrupts it.

        Raises:
            Unavailable: the connection is lost, and names may be lost with it.
        """

    def interrupt(self) -> None:
        """Make `hear`, or its next call, return soon. May be called from any thread; harmless after `close`."""

    def close(self) -> None:
        """Stop hearing; harmless when repeated."""


class Store(Protocol):
    """A database that holds workflows, their entries, messages, events and streams.

    Attributes:
        identity: equal for two stores of the same database, as far as their URLs tell. Do not show it.
        name: how errors and log messages call the database. It holds no secret.
    """

    identity: str
    name: str

    # --- before and after -----------------------------------------------------------------------

    def migrate(self) -> None:
        """Bring the schema to this library's version; safe when many processes do it at once.

        Raises:
            DBOSInitializationError: the schema is newer than the library, or the database is unfit.
        """

    def reset(self, *, truncate: bool) -> None:
        """Remove everything that `migrate` made, or with `truncate` only the rows, as one change.

        No process may use the database meanwhile.

        Raises:
            DBOSInitializationError: the database is unfit, or this user lacks the right.
        """

    def connect(self) -> None:
        """Open both connections. Raises `DBOSInitializationError` if the schema is missing."""

    def close(self) -> None:
        """Close both connections; harmless when repeated."""

    # --- writing: the committer's thread ----------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """Write `batch` in one transaction, durably, and answer each unit in its order.

        The first statement renews the executor's row under its fence and notes `batch.number`. Then, in this order:

        1. starts, and a check that the parents of started workflows are pending;
        2. a check that the destinations exist;
        3. a check that each run that publishes (events, items, closings) is pending under its epoch;
        4. outcomes, then cancellations, then messages (`seq` in list order);
        5. takes: first of the messages that were seen before. Then each other take gets a different message, the oldest
           first, in list order per topic;
        6. looks ahead at the messages still unread. A look ahead stops before the bodies it returns exceed
           `MAX_AHEAD_BYTES` of UTF-8;
        7. the rest. An entry replaces an OPEN entry at its position, and no other.

        What answers show of other workflows (`InUse`, `Applied.ended`) is their state at the batch's end.

        A batch is retried under its own number. A batch that has landed is never written twice.

        Raises:
            DataError: also if that version of an event, or an item at that offset of a stream, exists already; and if a
                message that was seen before is missing or no longer unread.
            Fenced: also for a batch that has landed, unless this store was left in doubt about it; and if the
                executor's last batch is not `batch.landed`.
            Unavailable
        """

    def recall(self, batch: Batch) -> list[Answer] | None:
        """Return the answers of `batch` if it landed, as `commit` gave them but without looks ahead; else `None`.

        Waits until no backend works on the batch. What answers show of other workflows is their state now.
        If the executor's row is gone, the batch counts as not landed.
        """

    def reconnect(self) -> None:
        """Replace the writing connection. Raises `Unavailable` if that fails."""

    def enlist(self, executor: Executor) -> int:
        """Add an executor's row, or renew all its columns except the fence and the last batch.

        Returns the fence in the row; the fence of `executor` is ignored.
        """

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """Remove an executor's row if it has this fence; its pending workflows lose their owner.

        Listeners of other executors then hear the names in `wakes`. Under another fence this changes nothing.
        """

    def refence(self, executor_id: str) -> ExecutorState | None:
        """Return the executor's fence, its last batch, and the pending runs that it owns now.

        Waits for a takeover in progress. Returns `None` if the executor's row is gone.
        """

    def claim(
        self,
        executor: Executor,
        dead: Collection[str],
        names: Collection[str],
        app_version: str,
        limit: int,
        reserved: Collection[str] | None = None,
    ) -> list[WorkflowRecord]:
        """Take over up to `limit` pending workflows, oldest first, that belong to dead executors or to none.

        All in one transaction:

        1. Check the executor's own fence (else `Fenced`) and raise it by one. The executor continues under the new
           fence, so a store that loses the claim fences its next batch.
        2. Raise the fences of the `dead` executors, so that a batch of theirs in flight either ends before this or
           changes nothing.
        3. Raise each run's epoch, and count a recovery attempt for each run that a dead executor owned.

        Takes only workflows with these `names` and of the executor's program, never one that its code under this
        `app_version` could not continue. Of other versions it takes those that are not in `reserved`, and those that
        some version could not continue; none with `reserved=None`. What it takes has this version from now on, and this
        program.

        What it leaves of the dead loses its owner if some version could not continue it: it shows as stuck. Its epoch
        and its recovery attempts are raised as by a claim. Also removes the rows of dead executors that own nothing
        pending, a day after their lease ended.
        """

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """Raise the epoch of these runs, if they are pending and belong to this executor already.

        Raises the executor's own fence by one, as `claim` does.

        Raises:
            Fenced: the executor's own fence has moved.
        """

    # --- reading: the reader's thread --------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the store's clock."""

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """Read everything that these workflows recorded, entries in the order they began. Called after a claim."""

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """Read these workflows; an id that does not exist is missing from the answer."""

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """Read only the statuses of these workflows; an id that does not exist is missing from the answer."""

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        """Read how these workflows ended. `None` means that there is no such workflow.

        Pending ones are left out, except those that a version of the code could not continue and that nobody owns.
        """

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        """Find up to `limit` pending workflows below these: their children, their children's children, and so on.

        The search continues below workflows that have ended. Closer generations come first in the list.
        """

    def count_unread(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        """Count the unread messages of these workflows, up to `MOST_COUNTED` each; every id is in the answer."""

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """Read the workflows that a filter describes. Text that no store can hold matches nothing."""

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        """Read a part of a workflow's history, in the order operations began; `None` if there is no such workflow.

        It includes published events and stream items that no step wrote, without their values. Without outputs,
        `output` and `error` are `None`, and the body of a message is "".
        """

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        """Read a part of all messages sent to a workflow, oldest first; `None` if there is no such workflow."""

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """Read the latest value of each (workflow id, key), in order."""

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """Read the latest value of each key; `None` if the workflow does not exist."""

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """Read a page of each (workflow id, key, offset), in order.

        A page has up to `limit` values, and stops once they take `max_bytes` or more of UTF-8. It has at least one
        value if there is one at the offset. A page that is asked for several times is read once.
        """

    def executors(self) -> list[Executor]:
        """Read all executors."""

    def pending_groups(self) -> list[PendingGroup]:
        """Count pending workflows by name, version, owner and program; each group's example is its oldest."""

    def reconnect_reader(self) -> None:
        """Replace the reading connection. Raises `Unavailable` if that fails."""

    # --- hearing: the listener's thread --------------------------------------------------------------

    def listen(self, executor_id: str) -> Listener:
        """Begin to hear the names that batches of other executors wake. Raises `Unavailable` if that fails."""
