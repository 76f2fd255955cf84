"""Messages: `send`, `send_bulk`, `recv`, `recv_message`, each with its `_async` twin."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidings.api.caller import Caller, Face, shared
from tidings.core.effects import Failed, Operation
from tidings.core.operations import messages as operations
from tidings.core.operations.messages import Message
from tidings.core.operations.patience import patiently
from tidings.limits import check_id, check_key, check_timeout, check_topic
from tidings.model import Message as OutgoingMessage
from tidings.serialization import dump

logger = logging.getLogger("tidings")


@dataclass(frozen=True, slots=True)
class SendMessage:
    """One message of a `send_bulk`.

    Attributes:
        destination_id: the id of the workflow to send to.
        message: any value that can be stored.
        topic: the topic, or `None` for none.
        idempotency_key: makes repeats of this message to this destination no-ops.
    """

    destination_id: str
    message: Any
    topic: str | None = None
    idempotency_key: str | None = None


class Messages(Face):
    """Messages sent to a workflow: durable, in order, each received once."""

    @shared
    def send(
        cls, destination_id: str, message: Any, topic: str | None = None, idempotency_key: str | None = None
    ) -> None:
        """Send a message to a workflow.

        Args:
            destination_id: the id of a workflow, running or ended.
            message: any value that can be stored.
            topic: what kind of message it is; `recv` of this topic receives it.
            idempotency_key: repeats with the same key to the same destination are no-ops.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSSerializationError: the message cannot be stored; names the path inside it.
            DBOSLimitError: an id, topic, key or message is outside its limits.

        Durable: when it returns. Sent from a workflow it is delivered exactly once, and a replay
        sends nothing. Sent from a step it repeats with the step's tries unless it has an
        `idempotency_key`.
        """
        bulk = [SendMessage(destination_id, message, topic, idempotency_key)]
        cls._block("send", lambda caller: _send(caller, operations.SEND, bulk))

    @shared
    async def send_async(
        cls, destination_id: str, message: Any, topic: str | None = None, idempotency_key: str | None = None
    ) -> None:
        """Await `send`."""
        bulk = [SendMessage(destination_id, message, topic, idempotency_key)]
        await cls._await(lambda caller: _send(caller, operations.SEND, bulk))

    @shared
    def send_bulk(cls, messages: Sequence[SendMessage]) -> None:
        """Send many messages at once, all or none; each destination receives them in list order.

        Raises:
            DBOSNonExistentWorkflowError: names the ids that do not exist; nothing was sent.
            DBOSSerializationError, DBOSLimitError: as `send`.

        Durable: when it returns, all of them; as `send`.
        """
        cls._block("send_bulk", lambda caller: _send(caller, operations.SEND_BULK, messages))

    @shared
    async def send_bulk_async(cls, messages: Sequence[SendMessage]) -> None:
        """Await `send_bulk`."""
        await cls._await(lambda caller: _send(caller, operations.SEND_BULK, messages))


class OwnMessages(Messages):
    """The messages that a workflow receives."""

    @classmethod
    def recv(cls, topic: str | None = None, timeout_seconds: float | None = 60, *, default: Any = None) -> Any:
        """Wait for the next message of a topic, and consume it.

        Args:
            topic: receive only messages of this topic; `None` receives those sent without one.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.
            default: what is returned at the timeout.

        Returns:
            The message's value, or `default` at the timeout.

        Raises:
            DBOSContextError: called in a step or outside of a workflow.
            DBOSSerializationError: the message cannot be rebuilt here (its class is missing); it
                stays unread.

        Durable: with the record that it was received; no crash loses or repeats it. A replay
        returns the same value. The time that is left survives a crash.
        """
        message = cls._block("recv", lambda caller: _receive(caller, topic, timeout_seconds))
        return default if message is None else message.value

    @classmethod
    async def recv_async(
        cls, topic: str | None = None, timeout_seconds: float | None = 60, *, default: Any = None
    ) -> Any:
        """Await `recv`. Cancelled (`asyncio.wait_for`), it consumes nothing or returns its message."""
        message = await cls._await(lambda caller: _receive(caller, topic, timeout_seconds))
        return default if message is None else message.value

    @classmethod
    def recv_message(cls, topic: str | None = None, timeout_seconds: float | None = 60) -> Message | None:
        """Wait for the next message of a topic, and consume it; as `recv`, but return all of it.

        Returns:
            A `Message` (value, topic, sender_id, sent_at_epoch_ms, message_id), `None` at the timeout.

        Raises:
            DBOSContextError, DBOSSerializationError: as `recv`.

        Durable: as `recv`.
        """
        return cls._block("recv_message", lambda caller: _receive(caller, topic, timeout_seconds))

    @classmethod
    async def recv_message_async(cls, topic: str | None = None, timeout_seconds: float | None = 60) -> Message | None:
        """Await `recv_message`."""
        return await cls._await(lambda caller: _receive(caller, topic, timeout_seconds))


def _send(caller: Caller, name: str, bulk: Sequence[SendMessage]) -> Operation[None]:
    sender_id = caller.workflow_id
    checked = []
    for index, each in enumerate(bulk):
        checked.append((yield from patiently(_check, caller, each, index if name == operations.SEND_BULK else None)))

    def letters(now_ms: int) -> tuple[OutgoingMessage, ...]:
        if caller.attempt is not None:
            caller.attempt.check_running()  # Again: to store a large message takes time.
        return tuple(
            OutgoingMessage(destination_id, topic, body, sender_id, key, now_ms)
            for destination_id, topic, body, key in checked
        )

    if caller.workflow is not None:
        ended = yield from operations.send(caller.workflow.begin(name), letters)
    else:
        ended = yield from operations.send_unrecorded(letters)
    if isinstance(ended, Failed):
        return ended  # type: ignore[return-value]  # The driver raises it.
    for workflow_id in ended or ():
        logger.warning("a message was sent to workflow %r, which has ended; it is kept, unread", workflow_id)


def _check(caller: Caller, each: SendMessage, index: int | None) -> tuple[str, str | None, str, str | None]:
    if not isinstance(each, SendMessage):
        raise TypeError(f"send_bulk takes SendMessage objects, not {type(each).__name__} (at index {index})")
    destination_id = check_id(each.destination_id, "destination_id")
    topic = check_topic(each.topic)
    key = None if each.idempotency_key is None else check_key(each.idempotency_key, "idempotency_key")
    what = "the message" if index is None else f"message {index}"
    return destination_id, topic, dump(caller.serializer, each.message, f"{what} to workflow {destination_id!r}"), key


def _receive(caller: Caller, topic: str | None, timeout_seconds: float | None) -> Operation[Message | None]:
    topic = check_topic(topic)
    timeout = check_timeout(timeout_seconds)
    return operations.receive(caller.begin_in_workflow(operations.RECV), topic, timeout)
