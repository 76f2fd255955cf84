"""Messages: `send` and `recv`.

Sending: the message and, in a workflow, the entry of the send are one unit. A refusal (an unknown
destination) is recorded before it is raised, so a replay takes the same path.

Receiving: the oldest unread message of the topic and the entry that takes it are one unit, so no
crash loses or repeats a message.

1. Watch before looking. The waiter is registered first, so a message that arrives between the look
   and the wait wakes the run.
2. The first look that finds nothing writes the deadline, in the same unit. Its take then waits in the
   committer: a message sent in this process is taken in the batch that brings it (`core.receive_state`).
3. The last look, at the deadline, takes a message or records the timeout.

A look may also see the messages that follow; later receives take these without a look (`core.ahead`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from tidings.core.effects import NOW, Commit, Defer, Failed, Missed, Operation, Receive, WakeKey, Watch
from tidings.core.history import Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import (
    abandonable,
    by,
    finished,
    load_result,
    recorded,
    refuse,
    timing,
    unexpected,
)
from tidings.error import DBOSNonExistentWorkflowError, DBOSSerializationError
from tidings.model import Applied, NoSuchWorkflow, Nothing, OutgoingMessage, Take, Taken, Unit
from tidings.serialization import load
from tidings.shortage import is_shortage

SEND = "DBOS.send"
SEND_BULK = "DBOS.send_bulk"
RECV = "DBOS.recv"
MESSAGE = "message"


class Letter(NamedTuple):
    """A message to send, with its value as text."""

    destination_id: str
    topic: str | None
    body: str
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received.

    Attributes:
        value: what was sent.
        topic: its topic, or `None` if it was sent without one.
        sender_id: the id of the workflow that sent it; `None` if no workflow did.
        sent_at_epoch_ms: the time of the send, in ms on the store's clock.
        message_id: unique in the store; later messages of a topic have greater numbers.
    """

    value: Any
    topic: str | None
    sender_id: str | None
    sent_at_epoch_ms: int
    message_id: str


def arrival_key(workflow_id: str, topic: str | None) -> WakeKey:
    """Return the key that a receive on `topic` watches."""
    return (MESSAGE, workflow_id, topic)


def send(slot: Slot, letters: Sequence[Letter]) -> Operation[Sequence[str]]:
    """Send from a workflow: exactly once. Returns the destinations that have already ended."""
    return recorded(slot, _send(slot, letters))


def _send(slot: Slot, letters: Sequence[Letter]) -> Operation[Any]:
    now: int = yield NOW
    messages = _dated(letters, slot.run.workflow_id, now)
    answer = yield Commit(slot.run.unit(slot.done(now, now), messages=messages))
    match answer:
        case Applied():
            return answer.ended
        case NoSuchWorkflow(workflow_ids):
            return (yield from refuse(slot, _unknown(workflow_ids), now))
        case _:
            raise unexpected(answer)


def _dated(letters: Sequence[Letter], sender_id: str | None, now_ms: int) -> tuple[OutgoingMessage, ...]:
    return tuple(
        OutgoingMessage(destination_id, topic, body, sender_id, key, now_ms)
        for destination_id, topic, body, key in letters
    )


def _unknown(workflow_ids: Sequence[str]) -> DBOSNonExistentWorkflowError:
    return DBOSNonExistentWorkflowError(*workflow_ids, nothing="nothing was sent")


def send_unrecorded(letters: Sequence[Letter], sender_id: str | None) -> Operation[Any]:
    """Send from a step (then `sender_id` is its workflow) or from outside any workflow."""
    answer = yield Commit(Unit(messages=_dated(letters, sender_id, (yield NOW))))
    match answer:
        case Applied():
            return answer.ended
        case NoSuchWorkflow(workflow_ids):
            return Failed(_unknown(workflow_ids))
        case _:
            raise unexpected(answer)


def receive(slot: Slot, topic: str | None, timeout_seconds: float | None) -> Operation[Message | None]:
    """Take the next message of `topic`, or wait for one until the deadline; `None` after that."""
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
        raise slot.run.give_up(error) from None  # Some code could rebuild the message once, and other code may still.


def _take_and_open(slot: Slot, topic: str | None, timeout_seconds: float | None) -> Operation[Message | None]:
    taken = yield from _take(slot, topic, timeout_seconds)
    if taken is None:
        if timeout_seconds is not None:
            yield Missed(slot.run.workflow_id, slot.run.name, topic, timeout_seconds)
        return None
    try:
        return (yield from patiently(_open, slot, taken))
    except DBOSSerializationError as error:
        # Put back as unread, for code that can rebuild it. The error is recorded, so a replay takes the same path.
        slot.run.ahead.forget(topic)  # The message put back comes before those that were seen.
        failed = yield from refuse(slot, error, taken.sent_at_ms, put_back=taken)
        return cast("Message | None", failed)  # The driver raises it.


def _seen(slot: Slot, topic: str | None) -> tuple[Taken, Message] | None:
    """Return the next message of `topic`, stored and rebuilt, if it was seen already."""
    ahead = slot.run.ahead
    seen = ahead.next(topic)
    if seen is None:
        return None
    try:
        return seen, _open(slot, seen)
    except Exception as error:
        if not (isinstance(error, DBOSSerializationError) or is_shortage(error)):
            raise
        ahead.forget(topic)  # The next look takes this message, as any that cannot be rebuilt.
        return None


def _take_seen(slot: Slot, topic: str | None, seen: Taken, message: Message) -> Operation[Message]:
    """Take a seen message, and continue without waiting for the commit."""
    run = slot.run
    now: int = yield NOW

    def taking() -> Unit:
        run.ahead.took(topic)  # Only now: a receive interrupted earlier has taken nothing.
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
        run.waiting_receive = arrival, slot
        answer = yield Receive(unit, arrival, due)
        if isinstance(answer, Taken):
            run.ahead.saw(topic, outlook, answer)
            return answer
        number = slot.finished
        slot.comes_no_more()
        if number is not None:
            run.nothing_came(number)  # Others may wait for it; a wake-up that finds no message tells them nothing.
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
