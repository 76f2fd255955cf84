"""Messages: `send` and `recv`.

Sending: the message, and from a workflow the entry that says it was sent, are one unit. A refusal
(an unknown destination) is recorded before it is raised, so replay takes the same path.

Receiving: the oldest unread message of the topic and the entry that consumed it are one unit, so no
crash loses or repeats a message. Watch before looking: the waiter is registered first, so a message
that arrives between the look and the wait wakes it. The first look that finds nothing writes the
deadline in the same unit, and its take stands: a message sent in this process is taken in the batch
that brings it. The last look, at the deadline, takes a message or records the timeout. Of messages that
wait already a look may see several; they are received one after the other without a look (`core.ahead`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tidings.core.effects import NOW, Commit, Defer, Failed, Operation, Receive, WakeKey, Watch
from tidings.core.history import Slot, unexpected
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import abandonable, by, finished, load_result, recorded, refuse, timing
from tidings.error import DBOSNonExistentWorkflowError, DBOSSerializationError
from tidings.model import Applied, NoSuchWorkflow, Nothing, Take, Taken, Unit
from tidings.model import Message as OutgoingMessage
from tidings.serialization import load
from tidings.shortage import is_shortage

SEND = "DBOS.send"
SEND_BULK = "DBOS.send_bulk"
RECV = "DBOS.recv"
MESSAGE = "message"

# Messages that only lack the time at which they are sent.
Letters = Callable[[int], tuple[OutgoingMessage, ...]]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received.

    Attributes:
        value: what was sent.
        topic: its topic, or `None` if it was sent without one.
        sender_id: the id of the workflow that sent it, or `None`.
        sent_at_epoch_ms: when, in ms on the store's clock.
        message_id: unique in the store; later messages of a topic have greater numbers.
    """

    value: Any
    topic: str | None
    sender_id: str | None
    sent_at_epoch_ms: int
    message_id: str


def arrival_key(workflow_id: str, topic: str | None) -> WakeKey:
    """What a receiver on `topic` waits for."""
    return (MESSAGE, workflow_id, topic)


def send(slot: Slot, letters: Letters) -> Operation[Sequence[str]]:
    """Send from a workflow: exactly once. Gives the destinations that have already ended."""
    return recorded(slot, _send(slot, letters))


def _send(slot: Slot, letters: Letters) -> Operation[Any]:
    now: int = yield NOW
    answer = yield Commit(slot.run.unit(slot.done(now, now), messages=letters(now)))
    match answer:
        case Applied():
            return answer.ended
        case NoSuchWorkflow(workflow_ids):
            return (yield from refuse(slot, DBOSNonExistentWorkflowError(*workflow_ids), now))
        case _:
            raise unexpected(answer)


def send_unrecorded(letters: Letters) -> Operation[Any]:
    """Send from a step or from outside any workflow."""
    answer = yield Commit(Unit(messages=letters((yield NOW))))
    match answer:
        case Applied():
            return answer.ended
        case NoSuchWorkflow(workflow_ids):
            return Failed(DBOSNonExistentWorkflowError(*workflow_ids))
        case _:
            raise unexpected(answer)


def receive(slot: Slot, topic: str | None, timeout_seconds: float | None) -> Operation[Message | None]:
    """Take the next message of `topic`, waiting for it until the deadline; `None` past it."""
    taken: Taken | None
    if slot.is_finished:
        entry = yield from finished(slot)
        taken = slot.recorded.message if slot.recorded else None
        if taken is None:  # The timeout, or a refusal.
            return cast("Message | None", (yield from load_result(slot, entry)))
        if taken.topic != topic:
            raise slot.run.diverge(slot.branch, slot.number, f"{RECV} on {taken.topic!r}", f"{RECV} on {topic!r}")
    else:
        seen = _seen(slot, topic)
        if seen is not None:
            return (yield from abandonable(slot, _take_seen(slot, topic, *seen)))
        return (yield from abandonable(slot, _take_and_open(slot, topic, timeout_seconds)))
    try:
        return _open(slot, taken)
    except DBOSSerializationError as error:
        raise slot.run.give_up(error) from None  # It could be rebuilt once; code that can will go on.


def _take_and_open(slot: Slot, topic: str | None, timeout_seconds: float | None) -> Operation[Message | None]:
    taken = yield from _take(slot, topic, timeout_seconds)
    if taken is None:
        return None
    try:
        return (yield from patiently(_open, slot, taken))
    except DBOSSerializationError as error:
        # Left unread, for code that can rebuild it; and recorded, so that a replay takes the same path.
        slot.run.ahead.forget(topic)  # It comes before what was seen behind it.
        failed = yield from refuse(slot, error, taken.sent_at_ms, put_back=taken)
        return cast("Message | None", failed)  # The driver raises it.


def _seen(slot: Slot, topic: str | None) -> tuple[Taken, Message] | None:
    """Give the next message of `topic`, and what it says, if it was seen already."""
    ahead = slot.run.ahead
    seen = ahead.next(topic)
    if seen is None:
        return None
    try:
        return seen, _open(slot, seen)
    except Exception as error:
        if not (isinstance(error, DBOSSerializationError) or is_shortage(error)):
            raise
        ahead.forget(topic)  # A look takes it, and what follows is that of any message that cannot be rebuilt.
        return None


def _take_seen(slot: Slot, topic: str | None, seen: Taken, message: Message) -> Operation[Message]:
    """Take what was seen, and go on at once."""
    run = slot.run
    now: int = yield NOW

    def taking() -> Unit:
        run.ahead.took(topic)  # Not before: who is interrupted until then has taken nothing.
        return run.unit(slot.done(now, now), take_seen=seen.seq)

    yield Defer(taking)
    return message


def _take(slot: Slot, topic: str | None, timeout_seconds: float | None) -> Operation[Taken | None]:
    run = slot.run
    now: int = yield NOW
    started, deadline = timing(slot, now, timeout_seconds)
    otherwise = None if slot.is_open else slot.open(started, deadline)
    due = by(started, deadline)
    over = due is not None and due.longest_ms <= 0
    while not over:
        arrival = yield Watch((arrival_key(run.workflow_id, topic),))
        now = yield NOW
        outlook = run.ahead.look(topic)
        unit = run.unit(slot.done(started, now), take=Take(topic, otherwise, outlook.wanted))
        run.standing = arrival, slot
        answer = yield Receive(unit, arrival, due)
        if isinstance(answer, Taken):
            run.ahead.saw(topic, outlook, answer)
            return answer
        slot.comes_no_more()
        otherwise, over = None, not answer
    now = yield NOW
    last = slot.done(started, now)
    outlook = run.ahead.look(topic)
    answer = yield Commit(run.unit(last, take=Take(topic, last, outlook.wanted)))
    match answer:
        case Taken():
            run.ahead.saw(topic, outlook, answer)
            return answer
        case Nothing():
            run.ahead.saw(topic, outlook, None)
            return None
        case _:
            raise unexpected(answer)


def _open(slot: Slot, taken: Taken) -> Message:
    """Rebuild the message."""
    run = slot.run
    what = f"the message {taken.seq} on topic {taken.topic!r} to workflow {run.workflow_id!r}"
    value = load(run.serializer, taken.body, what)
    return Message(value, taken.topic, taken.sender_id, taken.sent_at_ms, str(taken.seq))
