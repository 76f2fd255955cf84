"""Reads what the database holds at the end, through the public interface of a client."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from chaos.histories import (
    CANCELLED,
    ERROR,
    PENDING,
    SUCCESS,
    Final,
    FinalMessage,
    FinalWorkflow,
    History,
    Item,
    Outcome,
    Told,
    Writing,
)
from chaos.load.driving import recorded
from chaos.load.telling import text_of
from tidings import DBOSClient, MessageInfo, WorkflowStatus
from tidings.error import DBOSStreamTimeoutError

AT_ONCE = 8
LOOK_SECONDS = 0.2

# If a stream's workflow never ends, reading stops after this time.
STREAM_SECONDS = 1.0


async def await_ends(client: DBOSClient, seconds: float) -> bool:
    """Wait until no workflow is pending, at most this long. Returns whether none is."""
    deadline = time.monotonic() + seconds
    while await client.list_workflows_async(status=PENDING, limit=1):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True


async def read_final(client: DBOSClient, histories: Iterable[History]) -> Final:
    """Read every workflow with its steps, messages and events, and the streams that it may have written."""
    streams: dict[str, set[str]] = defaultdict(set)
    for history in histories:
        for record in history.records:
            if isinstance(record, Writing):
                streams[record.workflow_id].add(record.key)
    gate = asyncio.Semaphore(AT_ONCE)

    async def read(found: WorkflowStatus) -> FinalWorkflow:
        async with gate:
            return await _read_workflow(client, found, streams)

    listed = await client.list_workflows_async()
    workflows = await asyncio.gather(*map(read, listed))
    return Final(tuple(workflows), (time.time() - time.monotonic()) * 1_000)


async def _read_workflow(client: DBOSClient, found: WorkflowStatus, streams: Mapping[str, set[str]]) -> FinalWorkflow:
    workflow_id = found.workflow_id
    return FinalWorkflow(
        workflow_id,
        found.name,
        _outcome(found),
        tuple(recorded(each) for each in await client.list_workflow_steps_async(workflow_id)),
        tuple(_message(each) for each in await client.list_messages_async(workflow_id)),
        await client.get_all_events_async(workflow_id),
        {key: await _read_stream(client, workflow_id, key) for key in sorted(streams.get(workflow_id, ()))},
    )


def _outcome(found: WorkflowStatus) -> Outcome:
    match found.status:
        case "SUCCESS":
            return Outcome(SUCCESS, msgspec.convert(found.output, Told))
        case "ERROR":
            return Outcome(ERROR, error=None if found.error is None else text_of(found.error))
        case "CANCELLED":
            return Outcome(CANCELLED)
        case status:
            return Outcome(status)


def _message(found: MessageInfo) -> FinalMessage:
    value = found.value
    return FinalMessage(
        found.topic, value["sender"], value["number"], found.read_by is not None, found.sent_at_epoch_ms
    )


async def _read_stream(client: DBOSClient, workflow_id: str, key: str) -> tuple[Item, ...]:
    values: list[Item] = []
    reading = client.read_stream_async(workflow_id, key, timeout_seconds=STREAM_SECONDS)
    with suppress(DBOSStreamTimeoutError):
        async for value in reading:
            values += [msgspec.convert(value, Item)]  # The values before the timeout are kept.
    return tuple(values)
