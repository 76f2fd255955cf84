"""What the processes of a run did and saw, and what the database holds at the end: the records that the checker reads.

Each process writes its own journal. A record is written before what it announces is begun, or after what it tells of
was seen, so its time bounds the moment at which it happened. Times are those of the machine's monotonic clock, which
all processes share.

The values that workflows send, publish and stream are numbers that begin at 0 (events: at 1) and have no gaps, so that
a loss shows. What a workflow receives, and what it reads of others, it returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

# What a workflow ended as, to who awaited it: a result, an error, or nothing at all.
SUCCESS = "SUCCESS"
ERROR = "ERROR"
CANCELLED = "CANCELLED"
PENDING = "PENDING"

# The error that a workflow of the load is meant to end with.
MEANT = "MeantError"


class Received(msgspec.Struct, frozen=True, array_like=True):
    """A message, as its receiver got it."""

    topic: str | None
    sender: str
    number: int


class Left(msgspec.Struct, frozen=True, array_like=True):
    """Why a workflow receives no more on a topic: "stop" (it was told so), "timeout", or "count" (it has them all)."""

    topic: str | None
    why: str


class EventSeen(msgspec.Struct, frozen=True, array_like=True):
    """A version of another workflow's event that a workflow has read."""

    workflow_id: str
    key: str
    version: int | None


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A value in a stream: the how manieth of the workflow, or of a try of a step of it."""

    number: int
    attempt: str | None = None


class StreamSeen(msgspec.Struct, frozen=True, array_like=True):
    """What a workflow has read of a stream from this offset to its end."""

    workflow_id: str
    key: str
    offset: int
    values: tuple[Item, ...]


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a workflow of the load returns."""

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
    """One thing that was done or seen.

    Attributes:
        at: when, in ns of the monotonic clock.
    """

    at: int = msgspec.field(default_factory=time.monotonic_ns)


# --- messages -------------------------------------------------------------------------------------------


class Sending(Record, frozen=True):
    """A message is about to be sent. With a key, the same message may be sent again."""

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
    """The send has raised an error that says that nothing was sent."""

    sender: str
    number: int


class SendFailed(Record, frozen=True):
    """The send has raised another error: whether the message was sent is not known."""

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
    """A process begins to execute a workflow; of two executions that with the higher epoch counts."""

    workflow_id: str
    epoch: int


class Ending(Record, frozen=True):
    """An execution is about to end so."""

    workflow_id: str
    epoch: int
    outcome: Outcome


class Awaited(Record, frozen=True):
    """Somebody has awaited a workflow, and was told that it ended so."""

    workflow_id: str
    outcome: Outcome


class Cancelling(Record, frozen=True):
    """A workflow is about to be cancelled."""

    workflow_id: str


# --- steps ----------------------------------------------------------------------------------------------


class StepBegun(Record, frozen=True):
    """A try of a step begins; what it does outside is done now."""

    workflow_id: str
    step: str
    attempt: str
    epoch: int


class StepDone(Record, frozen=True):
    """A try of a step ends; its attempt is its result, unless it failed."""

    workflow_id: str
    step: str
    attempt: str
    error: str | None = None


class StepReturned(Record, frozen=True):
    """A workflow has got the result of a step, which is therefore recorded."""

    workflow_id: str
    step: str
    epoch: int
    attempt: str | None
    error: str | None = None


class StepsSampled(Record, frozen=True):
    """Somebody has listed the steps of a workflow; only those that are completed are told."""

    workflow_id: str
    steps: tuple[RecordedStep, ...]


# --- events ---------------------------------------------------------------------------------------------


class Setting(Record, frozen=True):
    """A workflow is about to publish this version of an event."""

    workflow_id: str
    key: str
    version: int


class Published(Record, frozen=True):
    """A step has begun behind the publication of this version, which is therefore durable."""

    workflow_id: str
    key: str
    version: int


class EventRead(Record, frozen=True):
    """A reader was given this version; `None` if it was told that there is none."""

    reader: str
    workflow_id: str
    key: str
    version: int | None
    began: int


# --- streams --------------------------------------------------------------------------------------------


class Writing(Record, frozen=True):
    """A value is about to be written to a stream: by the workflow itself, or by a try of a step of it."""

    workflow_id: str
    key: str
    number: int
    attempt: str | None = None


class StreamRead(Record, frozen=True):
    """A reader was given these values, the first of which has this offset."""

    reader: str
    workflow_id: str
    key: str
    offset: int
    values: tuple[Item, ...]


class StreamEnded(Record, frozen=True):
    """A reader was told that the stream has ended before this offset."""

    reader: str
    workflow_id: str
    key: str
    offset: int


# --- processes ------------------------------------------------------------------------------------------


class ProcessStarted(Record, frozen=True):
    """The conductor has started a process."""

    process: str


class Fault(Record, frozen=True):
    """The conductor has let something fail; `target` is a process, or what it happened to."""

    kind: str
    target: str
    seconds: float = 0.0


class ProcessEnded(Record, frozen=True):
    """A process has ended.

    Attributes:
        wanted: what the conductor did to it: "kill", "terminate", or nothing.
        code: its exit code, as `subprocess` tells it; `None` if it did not end when it was to.
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
    """What one process did and saw, in its order."""

    process: str
    records: Sequence[AnyRecord]


# --- the end --------------------------------------------------------------------------------------------


class FinalMessage(msgspec.Struct, frozen=True):
    """A message in the database, in the order of `list_messages`."""

    topic: str | None
    sender: str
    number: int
    is_read: bool
    sent_ms: int = 0


class FinalWorkflow(msgspec.Struct, frozen=True):
    """All that the database says of one workflow."""

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
        epoch_offset_ms: what is to be added to the monotonic clock, in ms, for the time since the epoch.
    """

    workflows: tuple[FinalWorkflow, ...]
    epoch_offset_ms: float = 0.0
