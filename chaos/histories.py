"""What the processes of a run did and saw, and what the database holds at the end: the records that the checker reads.

Each process writes its own journal. A record of an intention is written before the action begins; a record of an
observation is written after it was made. So a record's time is a bound for the moment when it happened. All times are
those of the machine's monotonic clock, which all processes share.

The values that workflows send, publish and stream are numbers without gaps, starting at 0 (events: at 1), so that a
loss is visible. A workflow returns what it received, and what it read from others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

# How a workflow ended for a caller that awaited it: a result, an error, or nothing at all.
SUCCESS = "SUCCESS"
ERROR = "ERROR"
CANCELLED = "CANCELLED"
PENDING = "PENDING"

# The error with which workflows of the load end on purpose.
MEANT = "MeantError"


class Received(msgspec.Struct, frozen=True, array_like=True):
    """A message, as its receiver got it."""

    topic: str | None
    sender: str
    number: int


class Left(msgspec.Struct, frozen=True, array_like=True):
    """Why a workflow stopped receiving on a topic: "stop" (a message said so), "timeout", or "count" (it has all)."""

    topic: str | None
    why: str


class EventSeen(msgspec.Struct, frozen=True, array_like=True):
    """A version of another workflow's event that a workflow read."""

    workflow_id: str
    key: str
    version: int | None


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A value in a stream: its number among the workflow's items, or among those of one try of a step."""

    number: int
    attempt: str | None = None


class StreamSeen(msgspec.Struct, frozen=True, array_like=True):
    """The items of a stream that a workflow read, from this offset to the end."""

    workflow_id: str
    key: str
    offset: int
    values: tuple[Item, ...]


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value that a workflow of the load returns."""

    received: tuple[Received, ...] = ()
    left: tuple[Left, ...] = ()
    events: tuple[EventSeen, ...] = ()
    streams: tuple[StreamSeen, ...] = ()
    value: Any = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a workflow ended."""

    status: str
    told: Told | None = None
    error: str | None = None


class RecordedStep(msgspec.Struct, frozen=True):
    """A completed operation as `list_workflow_steps` shows it; times in ms since the epoch."""

    function_id: int
    name: str
    output: Any = None
    error: str | None = None
    started_ms: int | None = None
    completed_ms: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that was done or seen.

    Attributes:
        at: when, in ns of the monotonic clock.
    """

    at: int = msgspec.field(default_factory=time.monotonic_ns)


# --- messages -------------------------------------------------------------------------------------------


class Sending(Record, frozen=True):
    """A message is about to be sent. If it has a key, it may be sent again."""

    sender: str
    number: int
    destination: str
    topic: str | None
    key: str | None = None


class Sent(Record, frozen=True):
    """The send has returned."""

    sender: str
    number: int


class Refused(Record, frozen=True):
    """The send has raised an error that means that nothing was sent."""

    sender: str
    number: int


class SendFailed(Record, frozen=True):
    """The send has raised another error: the message may have been sent or not."""

    sender: str
    number: int
    error: str


# --- workflows ------------------------------------------------------------------------------------------


class Starting(Record, frozen=True):
    """A workflow is about to be started, or to be started again, under this id."""

    workflow_id: str
    name: str


class Started(Record, frozen=True):
    """The start has returned."""

    workflow_id: str


class Execution(Record, frozen=True):
    """A process begins to execute a workflow; of two executions, the one with the higher epoch counts."""

    workflow_id: str
    epoch: int


class Ending(Record, frozen=True):
    """An execution is about to end with this outcome."""

    workflow_id: str
    epoch: int
    outcome: Outcome


class Awaited(Record, frozen=True):
    """A caller has awaited a workflow, and was told this outcome."""

    workflow_id: str
    outcome: Outcome


class Cancelling(Record, frozen=True):
    """A workflow is about to be cancelled."""

    workflow_id: str


# --- steps ----------------------------------------------------------------------------------------------


class StepBegun(Record, frozen=True):
    """A try of a step begins, and has its outside effects now."""

    workflow_id: str
    step: str
    attempt: str
    epoch: int


class StepDone(Record, frozen=True):
    """A try of a step ends; its result is the name of the try, unless it failed."""

    workflow_id: str
    step: str
    attempt: str
    error: str | None = None


class StepReturned(Record, frozen=True):
    """A workflow has the result of a step, so the step is recorded."""

    workflow_id: str
    step: str
    epoch: int
    attempt: str | None
    error: str | None = None


class StepsSampled(Record, frozen=True):
    """The steps of a workflow were listed; only the completed ones are kept."""

    workflow_id: str
    steps: tuple[RecordedStep, ...]


# --- events ---------------------------------------------------------------------------------------------


class Setting(Record, frozen=True):
    """A workflow is about to publish this version of an event."""

    workflow_id: str
    key: str
    version: int


class Published(Record, frozen=True):
    """A step has begun after this version was published, so the version is durable."""

    workflow_id: str
    key: str
    version: int


class EventRead(Record, frozen=True):
    """A reader got this version; `None` if it was told that there is none."""

    reader: str
    workflow_id: str
    key: str
    version: int | None
    began: int


# --- streams --------------------------------------------------------------------------------------------


class Writing(Record, frozen=True):
    """A value is about to be written to a stream, by the workflow itself or by a try of a step."""

    workflow_id: str
    key: str
    number: int
    attempt: str | None = None


class StreamRead(Record, frozen=True):
    """A reader got these values; the first one has this offset."""

    reader: str
    workflow_id: str
    key: str
    offset: int
    values: tuple[Item, ...]


class StreamEnded(Record, frozen=True):
    """A reader was told that the stream ended before this offset."""

    reader: str
    workflow_id: str
    key: str
    offset: int


# --- processes ------------------------------------------------------------------------------------------


class ProcessStarted(Record, frozen=True):
    """The conductor has started a process."""

    process: str


class Fault(Record, frozen=True):
    """The conductor has injected a fault; `target` is the process, or what it happened to."""

    kind: str
    target: str
    seconds: float = 0.0


class ProcessEnded(Record, frozen=True):
    """A process has ended.

    Attributes:
        wanted: how the conductor ended it: "kill", "terminate", or nothing.
        code: its exit code, as in `subprocess`; `None` if it did not end when told to.
    """

    process: str
    wanted: str | None
    code: int | None


AnyRecord = (
    Sending
    | Sent
    | Refused
    | SendFailed
    | Starting
    | Started
    | Execution
    | Ending
    | Awaited
    | Cancelling
    | StepBegun
    | StepDone
    | StepReturned
    | StepsSampled
    | Setting
    | Published
    | EventRead
    | Writing
    | StreamRead
    | StreamEnded
    | ProcessStarted
    | Fault
    | ProcessEnded
)


class History(msgspec.Struct, frozen=True):
    """What one process did and saw, in order."""

    process: str
    records: Sequence[AnyRecord]


# --- the end --------------------------------------------------------------------------------------------


class FinalMessage(msgspec.Struct, frozen=True):
    """A message in the database; messages are in the order of `list_messages`."""

    topic: str | None
    sender: str
    number: int
    is_read: bool
    sent_ms: int = 0


class FinalWorkflow(msgspec.Struct, frozen=True):
    """Everything the database says about one workflow."""

    workflow_id: str
    name: str
    outcome: Outcome
    steps: tuple[RecordedStep, ...] = ()
    messages: tuple[FinalMessage, ...] = ()
    events: dict[str, int] = {}
    streams: dict[str, tuple[Item, ...]] = {}


class Final(msgspec.Struct, frozen=True):
    """What the database holds at the end.

    Attributes:
        epoch_offset_ms: add this to the monotonic clock, in ms, to get the time since the epoch.
    """

    workflows: tuple[FinalWorkflow, ...]
    epoch_offset_ms: float = 0.0
