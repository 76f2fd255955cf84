"""How programs talk with workflows from outside, through `DBOS` or a client, and record what they did and saw."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import msgspec

from chaos.histories import (
    Awaited,
    Cancelling,
    EventRead,
    Item,
    RecordedStep,
    Refused,
    SendFailed,
    Sending,
    Sent,
    Started,
    Starting,
    StepsSampled,
    StreamEnded,
    StreamRead,
)
from chaos.journal import journal
from chaos.load.telling import letter, outcome_of_async, text_of
from tidings import DBOS, DBOSClient, SetWorkflowID, StepInfo
from tidings.error import DBOSException, DBOSNonExistentWorkflowError, DBOSShutdownError

Face = type[DBOS] | DBOSClient

# A reader records this many values together.
TOGETHER = 16

RESTART_PAUSE_SECONDS = 0.1


class Sender:
    """Sends numbered messages, each after the one before was acknowledged. Its name is unique in the whole run."""

    def __init__(self, face: Face, name: str) -> None:
        self._face = face
        self._name = name
        self._numbers = itertools.count()

    async def send(self, destination: str, topic: str | None, *, stop: bool = False) -> None:
        """Send the next message."""
        await self.send_number(next(self._numbers), destination, topic, stop=stop)

    async def send_number(
        self, number: int, destination: str, topic: str | None, key: str | None = None, *, stop: bool = False
    ) -> None:
        """Send the message with this number; if it has a key, it may be sent again."""
        journal.note(Sending(self._name, number, destination, topic, key))
        value = letter(topic, self._name, number, stop=stop)
        try:
            await self._face.send_async(destination, value, topic, key)
        except DBOSNonExistentWorkflowError:
            journal.note(Refused(self._name, number))
        except DBOSException as error:
            journal.note(SendFailed(self._name, number, text_of(error)))
            raise
        else:
            journal.note(Sent(self._name, number))


async def start(function: Callable[..., Any], workflow_id: str, *args: Any) -> None:
    """Start a workflow, or start it again; on this event loop if it is async.

    A process that was overtaken may be told that the outcome of the start is unknown. Then it tries again.
    """
    journal.note(Starting(workflow_id, function.__name__))
    while True:
        try:
            with SetWorkflowID(workflow_id):
                await DBOS.start_workflow_async(function, *args)
        except DBOSShutdownError:
            await asyncio.sleep(RESTART_PAUSE_SECONDS)
        else:
            break
    journal.note(Started(workflow_id))


async def await_end(face: Face, workflow_id: str) -> None:
    """Await the end of a workflow."""
    outcome = await outcome_of_async(face.get_result_async(workflow_id))
    journal.note(Awaited(workflow_id, outcome))


async def cancel(face: Face, workflow_id: str) -> None:
    """Cancel a workflow."""
    journal.note(Cancelling(workflow_id))
    await face.cancel_workflow_async(workflow_id)


async def read_event(face: Face, reader: str, workflow_id: str, key: str, timeout_seconds: float | None) -> int | None:
    """Read an event."""
    began = time.monotonic_ns()
    version: int | None = await face.get_event_async(workflow_id, key, timeout_seconds)
    journal.note(EventRead(reader, workflow_id, key, version, began))
    return version


async def watch_event(face: Face, workflow_id: str, key: str, until: int, pause_seconds: float) -> None:
    """Read an event repeatedly, until it has this version."""
    reader = journal.new_name()
    while True:
        if await read_event(face, reader, workflow_id, key, None) == until:
            return
        await asyncio.sleep(pause_seconds)


async def follow_stream(face: Face, workflow_id: str, key: str, offset: int) -> None:
    """Read a stream live, from an offset to its end."""
    reader = journal.new_name()
    values: list[Item] = []

    def say() -> None:
        nonlocal offset
        if values:
            journal.note(StreamRead(reader, workflow_id, key, offset, tuple(values)))
        offset += len(values)
        values.clear()

    try:
        async for value in face.read_stream_async(workflow_id, key, offset=offset):
            values.append(msgspec.convert(value, Item))
            if len(values) >= TOGETHER:
                say()
    finally:
        say()
    journal.note(StreamEnded(reader, workflow_id, key, offset))


async def sample_steps(face: Face, workflow_id: str, limit: int) -> None:
    """List the steps of a workflow, and record the completed ones."""
    steps = await face.list_workflow_steps_async(workflow_id, limit=limit)
    completed = tuple(recorded(each) for each in steps if each["completed_at_epoch_ms"] is not None)
    journal.note(StepsSampled(workflow_id, completed))


def recorded(step: StepInfo) -> RecordedStep:
    """Return an operation in the form that histories have."""
    return RecordedStep(
        step["function_id"],
        step["function_name"],
        step["output"],
        None if step["error"] is None else text_of(step["error"]),
        step["started_at_epoch_ms"],
        step["completed_at_epoch_ms"],
    )
