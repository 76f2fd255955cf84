"""The records that every layer shares. They hold facts and decide nothing.

All are immutable. Each durable operation makes several, so they are msgspec structs: a frozen struct
is built about five times faster than a frozen dataclass. Values and errors are text here, in their
serialized form. Times are milliseconds since the epoch, on the store's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

# The name, in the history, of an operation that publishes an event. The event's row is its entry.
SET_EVENT: Final = "DBOS.set_event"
# The name of an operation that writes to a stream. The item's row is its entry.
WRITE_STREAM: Final = "DBOS.write_stream"


class Status(StrEnum):
    """The status of a workflow. The transitions are in `lifecycle`."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"  # a dead letter

    @classmethod
    def of(cls, stored: object) -> Status:
        """Return the status of a stored text. A status that this version does not know equals no known one.

        A row may be damaged, or written by a newer version. An error here would hide all rows read with it.
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
        """Whether this version of the library knows this status."""
        return self._value_ in Status._value2member_map_


class EntryState(StrEnum):
    """The state of an operation in the history."""

    OPEN = "OPEN"  # begun, and waiting until its deadline; a recovered run keeps waiting
    DONE = "DONE"  # its value or error is recorded
    ABANDONED = "ABANDONED"  # the program gave it up; a replay gives it up too


class Place(NamedTuple):
    """The place of an operation in a history: its branch, and its number in that branch, from 1."""

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
    # The number of the result among the results of its run, and how many operations had begun before it.
    finished: int | None = None
    begun: int | None = None
    target: str | None = None  # what it is aimed at: a topic, a destination, an id; a replay compares it


class OutgoingMessage(Struct, frozen=True, gc=False):
    """A message to send."""

    destination_id: str
    topic: str | None
    body: str
    sender_id: str | None
    idempotency_key: str | None
    sent_at_ms: int


class Take(Struct, frozen=True, gc=False):
    """Take the oldest unread message of `topic` sent to the unit's workflow.

    If there is one, it is marked read, and the unit's entry is written and points to it. The answer then
    also has up to `ahead` messages that follow it. If there is none, `otherwise` is written instead of the
    entry (nothing if it is `None`).
    """

    topic: str | None
    otherwise: Entry | None = None
    ahead: int = 0


class PublishedEvent(Struct, frozen=True, gc=False):
    """One version of an event. If the workflow's code published it, it is its own entry and has a place."""

    key: str
    version: int
    value: str
    at_ms: int
    branch: str | None = None
    position: int | None = None
    ordinal: int | None = None


class StreamItem(Struct, frozen=True, gc=False):
    """One value of a stream, at its offset from 0.

    If the workflow's code wrote it, it is its own entry: `branch`, `position` and `ordinal` are its place.
    If a step wrote it, they are the step's, and `attempt` is the number of the try that wrote it.
    """

    key: str
    offset: int
    value: str
    at_ms: int
    branch: str
    position: int
    ordinal: int
    attempt: int | None = None


# The app version of a workflow that no process has claimed and that any version of the code may execute.
ANY_VERSION: Final = ""


class NewWorkflow(Struct, frozen=True, gc=False):
    """A workflow to start, under epoch 1. The executor that commits it owns it, unless that executes no workflows.

    A workflow without an owner may have no app version (`ANY_VERSION`): it gets the version of the process
    that claims it.
    """

    workflow_id: str
    name: str
    inputs: str
    serialization: str
    app_version: str
    parent_id: str | None
    created_at_ms: int
    # If it is a method: its class, and the name of the configured instance that it was called on.
    class_name: str | None = None
    config_name: str | None = None
    timeout_ms: int | None = None  # from its start to its end
    deadline_ms: int | None = None  # when the timeout ends
    program: str | None = None  # the name of the program that starts it; only this program executes it
    is_id_chosen: bool = False  # the program chose the id and may have used it before; otherwise it is random
    is_owned: bool = True  # if False, it has epoch 0, and any process that can execute it may claim it


class Outcome(Struct, frozen=True, gc=False):
    """How a run ended."""

    status: Status
    output: str | None
    error: str | None
    at_ms: int


class Recovery(Struct, frozen=True, gc=False):
    """What is recorded when a workflow is recovered."""

    attempts: int  # how many processes in a row died with it before it recorded anything new
    progress: int  # how many operations it has recorded


class Stuck(Struct, frozen=True, gc=False):
    """Why a version of the code could not continue a workflow."""

    version: str
    operation: str  # where: "operation 3 of branch 1"
    recorded: str  # what is recorded there
    called: str  # what the code called instead
    at_ms: int
    code_hash: str | None = None  # a version that the user chose may be that of changed code


class Unit(Struct, frozen=True, gc=False):
    """Everything one workflow changes at once. It applies whole or not at all.

    `workflow_id` and `epoch` name the run whose history it extends; both are empty for a unit from
    outside any run. If a unit does not apply, an *answer* says why, never an exception:

    - `NoSuchWorkflow`: a destination does not exist.
    - `InUse`: the id of the workflow to start is in use.
    - `Stale`: an outcome, event, item or close of a run that is no longer pending under this epoch, or a
      start whose parent is not pending.
    - `NotPending`: some of the workflows to cancel are not pending.

    An entry alone, and a `Take`, always apply.

    `take_seen` names an unread message that the run has seen; it is taken instead of the oldest one. Only the
    run takes its messages, so the message is still there and unread. If it is not, the unit is faulty.
    """

    workflow_id: str | None = None
    epoch: int = 0
    entry: Entry | None = None
    messages: tuple[OutgoingMessage, ...] = ()
    take: Take | None = None
    put_back: int | None = None  # the seq of a taken message to mark unread again
    event: PublishedEvent | None = None
    start: NewWorkflow | None = None
    outcome: Outcome | None = None
    cancels: tuple[str, ...] = ()  # ids, all different, of workflows to cancel: all or none
    put_back_topic: str | None = None  # the topic of the message that is put back
    item: StreamItem | None = None
    closes: tuple[str, ...] = ()  # keys of streams to close; some may be closed already
    recovery: Recovery | None = None
    take_seen: int | None = None  # the seq of an unread message to take; the entry points to it
    stuck: Stuck | None = None  # the run cannot continue: the workflow stays pending, and has no owner any more

    @property
    def publishes(self) -> bool:
        """Whether it publishes something. Readers rely on an ended workflow to publish nothing more."""
        return self.item is not None or self.event is not None or bool(self.closes)

    @property
    def starts_child(self) -> bool:
        """Whether the run starts a workflow itself, not in a step."""
        return self.start is not None and self.start.parent_id is not None and self.start.parent_id == self.workflow_id


# --- answers to committed units ------------------------------------------------------------------


class Applied(Struct, frozen=True):
    """The unit applied. `ended` lists destinations that have ended and so may never receive the message."""

    ended: tuple[str, ...] = ()


class Taken(Struct, frozen=True, gc=False):
    """The message that a unit took. `seq` is its number in the store.

    `ahead` are the messages that follow it, the oldest first. They are only seen, not taken.
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
    """Workflows that the unit names, as destinations or to cancel, say, do not exist; nothing was written."""

    workflow_ids: tuple[str, ...]


class InUse(Struct, frozen=True):
    """The id of the workflow to start is in use by this one; nothing was written."""

    workflow: WorkflowRecord


class Stale(Struct, frozen=True):
    """The unit's workflow, or the parent of a start, is not pending (under this epoch); nothing was written."""

    status: Status


class NotPending(Struct, frozen=True):
    """Of the workflows to cancel, these have ended; nothing was written."""

    workflow_ids: tuple[str, ...]


Answer = Applied | Taken | Nothing | NoSuchWorkflow | InUse | Stale | NotPending
APPLIED = Applied()
NOTHING = Nothing()


# --- results of queries --------------------------------------------------------------------------


class WorkflowRecord(Struct, frozen=True, gc=False):
    """A workflow as the store has it.

    `inputs` are `None` only in a list that was queried without them.
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
    progress: int = 0  # at its last recovery
    program: str | None = None  # None: any program may execute it; an earlier tidings started it
    stuck: tuple[Stuck, ...] = ()  # the versions that could not continue it, the last one last
    damage: str | None = None  # what is wrong with its row; the wrong fields have a neutral value


class WorkflowFilter(Struct, frozen=True):
    """Which workflows to list, which part of the list, and how much of each.

    `None` matches any value, an empty tuple none. The list is in the order of the starts, or the reverse
    with `newest_first`; `offset` and `limit` count in that order.
    """

    workflow_ids: tuple[str, ...] | None = None
    statuses: tuple[Status, ...] | None = None
    names: tuple[str, ...] | None = None
    from_ms: int | None = None  # created at this time or later
    until_ms: int | None = None  # created at this time or earlier
    app_version: str | None = None
    parent_id: str | None = None
    executor_id: str | None = None
    is_stuck: bool | None = None  # whether some version could not continue it, and none does now
    id_prefix: str | None = None  # case-sensitive; no character is a wildcard
    limit: int | None = None
    offset: int = 0
    newest_first: bool = False
    with_inputs: bool = True  # if False, `inputs` is None and is not read
    with_outputs: bool = True  # if False, `output` and `error` are None


class StoredMessage(Struct, frozen=True, gc=False):
    """A stored message. `read_by` is the ordinal of the operation that took it; `None` while it is unread."""

    seq: int
    topic: str | None
    body: str
    sender_id: str | None
    idempotency_key: str | None
    sent_at_ms: int
    read_by: int | None
    damage: str | None = None  # what is wrong with its row


class RecordedEntry(Struct, frozen=True):
    """An entry, with the message that it took, or the key of the event or stream that it wrote to."""

    entry: Entry
    message: Taken | None = None
    key: str | None = None
    damage: str | None = None  # what is wrong with its row


class History(Struct, frozen=True):
    """Everything that one workflow has recorded. If a row of it is damaged, `damage` says so, and the rest is empty."""

    workflow_id: str
    entries: tuple[RecordedEntry, ...]
    event_versions: tuple[tuple[str, int], ...]  # (key, highest version)
    stream_lengths: tuple[tuple[str, int], ...] = ()  # (key, number of items), without empty streams
    closed_streams: tuple[str, ...] = ()
    damage: str | None = None


class StreamPage(Struct, frozen=True):
    """Some values of a stream, in order from the requested offset, without gaps.

    All fields come from one snapshot. `status` is `None` if no workflow has that id. If the stream
    `is_closed`, or its workflow has ended, `length` is final.
    """

    values: tuple[str, ...]
    length: int
    is_closed: bool
    status: Status | None


class End(Struct, frozen=True, gc=False):
    """The final status of a workflow, and when it ended."""

    status: Status
    at_ms: int


class EventRead(Struct, frozen=True):
    """The latest value of an event, and whether its workflow may still change it.

    Both come from one snapshot. `status` is `None` if no workflow has that id.
    """

    value: str | None
    status: Status | None


class Code(Struct, frozen=True, gc=False):
    """The code that a process executes workflows with."""

    program: str  # whose workflows it executes
    version: str  # the hash, unless the user chose another
    hash: str  # of the registered functions, and of all source files of the program
    takes_other_versions: bool  # whether the process also continues workflows of other versions


class Executor(Struct, frozen=True, gc=False):
    """One incarnation of a process that uses the store.

    It executes workflows only if it has an `app_version`: those of its `program`, and those without one.
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
    code_hash: str | None = None
    takes_other_versions: bool = False

    @property
    def code(self) -> Code | None:
        """The code that it executes workflows with, if it executes any."""
        if self.app_version is None:
            return None
        return Code(self.program or "", self.app_version, self.code_hash or "", self.takes_other_versions)

    def with_code(self, code: Code | None) -> Executor:
        """Return the same executor, executing other code, or none."""
        if code is None:
            return replace(self, program=None, app_version=None, code_hash=None, takes_other_versions=False)
        return replace(
            self,
            program=code.program,
            app_version=code.version,
            code_hash=code.hash,
            takes_other_versions=code.takes_other_versions,
        )


class ExecutorState(Struct, frozen=True):
    """The stored state of an executor: its fence, the number of its last batch, its pending runs (id to epoch)."""

    fence: int
    last_batch: int | None
    owned: dict[str, int]


class PendingGroup(Struct, frozen=True):
    """The number of pending workflows of one name, app version and program that one executor, or none, owns.

    All of them were stuck under the same versions, if any.
    """

    name: str
    app_version: str
    executor_id: str | None
    count: int
    example_id: str
    program: str | None = None
    stuck: tuple[Stuck, ...] = ()
