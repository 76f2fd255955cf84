"""The records that every layer shares. They hold facts and decide nothing.

All are immutable. They are msgspec structs rather than dataclasses because each durable operation
makes several: a frozen struct is built about five times faster than a frozen dataclass. Values and
errors are text here: serialization has happened before, or happens after.
Times are milliseconds since the epoch on the store's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

# What an operation that publishes an event is called in the history: the event's row is its entry.
SET_EVENT: Final = "DBOS.set_event"
# And one that writes to a stream, alike.
WRITE_STREAM: Final = "DBOS.write_stream"


class Status(StrEnum):
    """Where a workflow stands. The transitions between them are in `core.lifecycle`."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"  # a dead letter

    @classmethod
    def of(cls, stored: object) -> Status:
        """Return the status that is stored so. One that this version does not know keeps its text, and equals none.

        A row may be damaged, or written by a newer version. To fail here would fail all that is read with it.
        """
        text = stored if isinstance(stored, str) else repr(stored)
        known = cls._value2member_map_.get(text)
        if isinstance(known, Status):
            return known
        unknown = str.__new__(cls, text)
        unknown._name_ = unknown._value_ = text
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this version of the library knows what it means."""
        return self._value_ in Status._value2member_map_


class EntryState(StrEnum):
    """How far an operation came."""

    OPEN = "OPEN"  # begun, and waiting until its deadline: a recovered run waits on
    DONE = "DONE"  # its value or error is recorded
    ABANDONED = "ABANDONED"  # the program stopped waiting for it; so does a replay


class Place(NamedTuple):
    """Where in a run's history an operation stands: the branch, and its number there from 1."""

    branch: str
    number: int


class Entry(Struct, frozen=True, gc=False):
    """The record of one operation."""

    branch: str
    position: int
    ordinal: int
    name: str
    state: EntryState = EntryState.DONE
    output: str | None = None
    error: str | None = None
    child_workflow_id: str | None = None
    deadline_ms: int | None = None
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    # Where the result stands among the results of its run, and how many operations had begun before it.
    finished: int | None = None
    begun: int | None = None


class Message(Struct, frozen=True, gc=False):
    """A message on its way."""

    destination_id: str
    topic: str | None
    body: str
    sender_id: str | None
    idempotency_key: str | None
    sent_at_ms: int


class Take(Struct, frozen=True, gc=False):
    """Take the oldest unread message of `topic` sent to the unit's workflow.

    If there is one, it is marked read and the unit's entry is written, pointing at it. If there is
    none, `otherwise` is written in the entry's place (nothing if it is `None`). The answer then tells of
    up to `ahead` messages that wait behind it.
    """

    topic: str | None
    otherwise: Entry | None = None
    ahead: int = 0


class PublishedEvent(Struct, frozen=True, gc=False):
    """One version of an event. From a workflow it is its own entry, and so carries a place."""

    key: str
    version: int
    value: str
    at_ms: int
    branch: str | None = None
    position: int | None = None
    ordinal: int | None = None


class StreamItem(Struct, frozen=True, gc=False):
    """One value of a stream, at its offset from 0.

    Written by a workflow it is its own entry: `branch`, `position` and `ordinal` are its place.
    Written by a step it has the step's, and the number of the `attempt` that wrote it.
    """

    key: str
    offset: int
    value: str
    at_ms: int
    branch: str
    position: int
    ordinal: int
    attempt: int | None = None


class NewWorkflow(Struct, frozen=True, gc=False):
    """A workflow to start. It is owned by the executor that commits it, under epoch 1."""

    workflow_id: str
    name: str
    inputs: str
    serialization: str
    app_version: str
    parent_id: str | None
    created_at_ms: int
    # The class whose method it is, and the name of the configured instance it was called on.
    class_name: str | None = None
    config_name: str | None = None
    timeout_ms: int | None = None  # from its start to its end
    deadline_ms: int | None = None  # when that is over
    program: str | None = None  # the name of the program that starts it, and alone executes it
    is_id_chosen: bool = False  # by the program, which may have used it before; if not, it is random


class Outcome(Struct, frozen=True, gc=False):
    """How a run ended."""

    status: Status
    output: str | None
    error: str | None
    at_ms: int


class Recovery(Struct, frozen=True, gc=False):
    """What is noted when a workflow is recovered: after how many deaths of its process without progress, and where."""

    attempts: int
    progress: int  # how many operations it had recorded


class Unit(Struct, frozen=True, gc=False):
    """Everything one workflow changes at once. It applies whole or not at all.

    `workflow_id` and `epoch` name the run whose history it extends; both are empty for a unit that
    comes from outside any run. What may keep a unit from applying is an *answer*, never an
    exception: a destination that does not exist (`NoSuchWorkflow`), an id in use (`InUse`), an
    outcome, an event, an item or a closing of a run that is no longer pending under this epoch
    (`Stale`). An entry alone, and a `Take`, always apply.

    `take_seen` names a message that was seen to wait for the run, and is taken instead of the oldest one. Only
    the run takes what is sent to it, so that one is there and unread; if it is not, the unit is at fault.
    """

    workflow_id: str | None = None
    epoch: int = 0
    entry: Entry | None = None
    messages: tuple[Message, ...] = ()
    take: Take | None = None
    put_back: int | None = None  # the seq of a taken message to mark unread again
    event: PublishedEvent | None = None
    start: NewWorkflow | None = None
    outcome: Outcome | None = None
    cancel: str | None = None  # a workflow to cancel if it is pending
    put_back_topic: str | None = None  # of the message that is put back
    item: StreamItem | None = None
    closes: tuple[str, ...] = ()  # keys of streams that take no more items; one may be closed already
    recovery: Recovery | None = None
    take_seen: int | None = None  # the seq of an unread message to take; the entry points at it

    @property
    def publishes(self) -> bool:
        """Whether it shows something to readers, who trust that a workflow that has ended says nothing more."""
        return self.item is not None or self.event is not None or bool(self.closes)


# --- answers: what a committed unit says back ---------------------------------------------------


class Applied(Struct, frozen=True):
    """The unit applied. `ended` names destinations that have ended, and so may never receive."""

    ended: tuple[str, ...] = ()


class Taken(Struct, frozen=True, gc=False):
    """The message that a unit took. `seq` is its number in the store.

    `ahead` are messages that wait behind it, the oldest first. They are only seen: nobody took them.
    """

    seq: int
    body: str
    topic: str | None
    sender_id: str | None
    sent_at_ms: int
    ahead: tuple[Taken, ...] = ()


class Nothing(Struct, frozen=True):
    """There was no message to take; `otherwise` was written."""


class NoSuchWorkflow(Struct, frozen=True):
    """These destinations (or the workflow to end, to cancel or to publish for) do not exist; nothing was written."""

    workflow_ids: tuple[str, ...]


class InUse(Struct, frozen=True):
    """The id of the workflow to start is taken by this one; nothing was written."""

    workflow: WorkflowRecord


class Stale(Struct, frozen=True):
    """The workflow to end, to cancel or to publish for is not pending (under this epoch); nothing was written."""

    status: Status


Answer = Applied | Taken | Nothing | NoSuchWorkflow | InUse | Stale
APPLIED = Applied()
NOTHING = Nothing()


# --- what is read back ---------------------------------------------------------------------------


class WorkflowRecord(Struct, frozen=True, gc=False):
    """A workflow as the store knows it.

    `inputs` are `None` only in a list that was asked for without them; every other answer has them.
    """

    workflow_id: str
    status: Status
    name: str
    inputs: str | None
    output: str | None
    error: str | None
    serialization: str
    epoch: int
    executor_id: str | None
    app_version: str
    parent_id: str | None
    created_at_ms: int
    updated_at_ms: int
    class_name: str | None = None
    config_name: str | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    recovery_attempts: int = 0
    progress: int = 0  # of its last recovery
    program: str | None = None  # None: started before programs were told apart, and any may execute it
    damage: str | None = None  # what is wrong with its row; the fields that are wrong stand at a neutral value


class WorkflowFilter(Struct, frozen=True):
    """Which workflows to list, which part of the list, and how much of each.

    `None` stands for any, and an empty tuple for none. The list is in the order of starting, or in
    the reverse order with `newest_first`; `offset` and `limit` count in that order.
    """

    workflow_ids: tuple[str, ...] | None = None
    statuses: tuple[Status, ...] | None = None
    names: tuple[str, ...] | None = None
    from_ms: int | None = None  # created then or later
    until_ms: int | None = None  # created then or earlier
    app_version: str | None = None
    parent_id: str | None = None
    executor_id: str | None = None
    id_prefix: str | None = None  # as it stands: case counts, and no character is a wildcard
    limit: int | None = None
    offset: int = 0
    newest_first: bool = False
    with_inputs: bool = True  # if not, `inputs` is None, and large ones are not read
    with_outputs: bool = True  # if not, `output` and `error` are None


class StoredMessage(Struct, frozen=True, gc=False):
    """A message read back, with the ordinal of the operation that took it: `None` while it is unread."""

    seq: int
    topic: str | None
    body: str
    sender_id: str | None
    idempotency_key: str | None
    sent_at_ms: int
    read_by: int | None
    damage: str | None = None  # what is wrong with its row


class RecordedEntry(Struct, frozen=True):
    """An entry read back, with the message it took, or the key of the event or stream it wrote to."""

    entry: Entry
    message: Taken | None = None
    key: str | None = None
    damage: str | None = None  # what is wrong with its row


class History(Struct, frozen=True):
    """All that one workflow has recorded. Where a row of it is damaged, it says so, and holds nothing."""

    workflow_id: str
    entries: tuple[RecordedEntry, ...]
    event_versions: tuple[tuple[str, int], ...]  # (key, highest version)
    stream_lengths: tuple[tuple[str, int], ...] = ()  # (key, number of items); none for an empty one
    closed_streams: tuple[str, ...] = ()
    damage: str | None = None


class StreamPage(Struct, frozen=True):
    """Some values of a stream, in their order from the offset that was asked for, without a gap.

    Values and the rest come from one snapshot. `status` is `None` where no workflow has that id. A
    stream that `is_closed`, or whose workflow has ended, has no more values than `length`.
    """

    values: tuple[str, ...]
    length: int
    is_closed: bool
    status: Status | None


class EventRead(Struct, frozen=True):
    """The latest value of an event, and whether its workflow may still change it.

    Both come from one snapshot. `status` is `None` where no workflow has that id.
    """

    value: str | None
    status: Status | None


class Executor(Struct, frozen=True, gc=False):
    """One incarnation of a process that uses the store.

    It executes workflows if it has an `app_version`: those of its `program`, and those of none.
    """

    executor_id: str
    label: str
    lease_until_ms: int
    fence: int
    lease_ms: int = 10_000
    host: str = ""
    pid: int = 0
    started_at_ms: int = 0
    app_version: str | None = None
    program: str | None = None


class ExecutorState(Struct, frozen=True):
    """How the store has an executor: its fence, the number of its last batch, and its pending runs, id to epoch."""

    fence: int
    last_batch: int | None
    owned: dict[str, int]


class PendingGroup(Struct, frozen=True):
    """How many workflows of one name, code version and program are pending with one executor, or with nobody."""

    name: str
    app_version: str
    executor_id: str | None
    count: int
    example_id: str
    program: str | None = None
