"""Messages: `send`, `send_bulk`, `recv`, `recv_message`, each with its `_async` twin."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tidings.api.caller import Face, shared
from tidings.api.naming import as_users_write_it
from tidings.core import targets
from tidings.core.effects import Failed, Operation
from tidings.core.operations import messages as operations
from tidings.core.operations.messages import Letter, Message
from tidings.core.operations.patience import patiently
from tidings.engine.caller import Caller
from tidings.limits import Seconds, check_id, check_key, check_timeout, check_topic
from tidings.serialization import dump
from tidings.slips import given

logger = logging.getLogger("tidings")


@as_users_write_it
@dataclass(frozen=True, slots=True)
class SendMessage:
    """One message of a `send_bulk`.

    Attributes:
        destination_id: the id of the workflow to send to.
        message: any value that can be stored.
        topic: the topic, or `None` for none.
        idempotency_key: sending again with the same key to the same destination does nothing.
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
            topic: the message's topic; a `recv` on this topic receives it.
            idempotency_key: sending again with the same key to the same destination does nothing.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSSerializationError: the message cannot be stored. The error names the path inside it.
            DBOSLimitError: an id, topic, key or message is outside its limits.

        Durable: when it returns. Workflow code sends exactly once: a replay sends nothing. A step sends once per try,
        unless there is an `idempotency_key`.
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

        Args:
            messages: the messages to send. An idempotency key may be used once per destination, because a second
                message with it would be dropped.

        Raises:
            ValueError: a key is used twice for one destination. The error names both and the indexes. Nothing was sent.
            DBOSNonExistentWorkflowError: some workflows do not exist. The error names their ids. Nothing was sent.
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
    def recv(cls, topic: str | None = None, timeout_seconds: Seconds | None = 60, *, default: Any = None) -> Any:
        """Wait for the next message of a topic, and consume it.

        Args:
            topic: receive only messages of this topic; `None` receives those sent without one.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.
            default: the value to return at the timeout.

        Returns:
            The message's value, or `default` at the timeout.

        Raises:
            DBOSContextError: called in a step or outside of a workflow.
            DBOSSerializationError: this program cannot rebuild the message, for example because it lacks the class. The
                message stays unread.

        Durable: the message is consumed and recorded in one change, so no crash loses or repeats it. A replay returns
        the same value. The deadline is recorded, so a crash does not extend it.
        """
        message = cls._block("recv", lambda caller: _receive(caller, "DBOS.recv", topic, timeout_seconds))
        return default if message is None else message.value

    @classmethod
    async def recv_async(
        cls, topic: str | None = None, timeout_seconds: Seconds | None = 60, *, default: Any = None
    ) -> Any:
        """Await `recv`. If it is cancelled (`asyncio.wait_for`), it consumes nothing or returns its message."""
        message = await cls._await(lambda caller: _receive(caller, "DBOS.recv_async", topic, timeout_seconds))
        return default if message is None else message.value

    @classmethod
    def recv_message(cls, topic: str | None = None, timeout_seconds: Seconds | None = 60) -> Message | None:
        """Wait for the next message of a topic, consume it, and return it with its sender and time.

        Args:
            topic: receive only messages of this topic; `None` receives those sent without one.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.

        Returns:
            A `Message` (value, topic, sender_id, sent_at_epoch_ms, message_id), or `None` at the timeout.

        Raises:
            DBOSContextError, DBOSSerializationError: as `recv`.

        Durable: as `recv`.
        """
        return cls._block("recv_message", lambda caller: _receive(caller, "DBOS.recv_message", topic, timeout_seconds))

    @classmethod
    async def recv_message_async(cls, topic: str | None = None, timeout_seconds: Seconds | None = 60) -> Message | None:
        """Await `recv_message`."""
        return await cls._await(lambda caller: _receive(caller, "DBOS.recv_message_async", topic, timeout_seconds))


def _send(caller: Caller, name: str, bulk: Sequence[SendMessage]) -> Operation[None]:
    if not isinstance(bulk, Iterable):
        raise TypeError(f"send_bulk takes a list of SendMessage(...), not {given(bulk)}")
    letters = []
    for index, each in enumerate(bulk):
        letters.append((yield from patiently(_letter, caller, each, index if name == operations.SEND_BULK else None)))
    _refuse_repeated_keys([(each.destination_id, each.idempotency_key) for each in letters])
    if caller.workflow is not None:
        target = targets.of_messages([(each.destination_id, each.topic) for each in letters])
        ended = yield from operations.send(caller.workflow.begin(name, target=target), letters)
    else:
        caller.check_attempt()  # Again: dumping a large message takes time.
        ended = yield from operations.send_unrecorded(letters, caller.workflow_id)
    if isinstance(ended, Failed):
        return ended  # type: ignore[return-value]  # The driver raises it.
    for workflow_id in ended or ():
        logger.warning(
            "a message was sent to workflow %r, which has ended, so nobody will receive it; it is kept, unread",
            workflow_id,
        )


def _letter(caller: Caller, each: SendMessage, index: int | None) -> Letter:
    if not isinstance(each, SendMessage):
        raise TypeError(f"send_bulk takes a list of SendMessage(...), and at index {index} is {given(each)}")
    destination_id = check_id(each.destination_id, "destination_id")
    topic = check_topic(each.topic)
    key = None if each.idempotency_key is None else check_key(each.idempotency_key, "idempotency_key")
    what = "the message" if index is None else f"message {index}"
    body = dump(caller.serializer, each.message, f"{what} to workflow {destination_id!r}")
    return Letter(destination_id, topic, body, key)


def _refuse_repeated_keys(keys: list[tuple[str, str | None]]) -> None:
    """Refuse two messages with the same destination and key: the second one would be dropped."""
    first: dict[tuple[str, str | None], int] = {}
    for index, each in enumerate(keys):
        destination_id, key = each
        if key is not None and first.setdefault(each, index) != index:
            raise ValueError(
                f"send_bulk: the messages at index {first[each]} and {index} have the same destination_id "
                f"({destination_id!r:.100}) and the same idempotency_key ({key!r:.100}), so the second one would be "
                "dropped; nothing was sent. Give each a key of its own"
            )


def _receive(
    caller: Caller, called: str, topic: str | None, timeout_seconds: Seconds | None
) -> Operation[Message | None]:
    topic = check_topic(topic)
    timeout = check_timeout(timeout_seconds)
    slot = caller.begin_in_workflow(operations.RECV, called, targets.of_topic(topic, timeout))
    return operations.receive(slot, topic, timeout)
