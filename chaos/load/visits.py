"""The visits of a client: it looks for running workflows, of any process, and talks with them."""

from __future__ import annotations

import asyncio
import random

from chaos.journal import journal
from chaos.load import driving, workflows
from chaos.load.driving import Sender
from chaos.load.rounds import TOPICS
from chaos.load.workflows import APPROVAL, COUNT, STATE, THOUGHTS, TOKENS
from tidings import DBOSClient, WorkflowStatus

VISITORS = 3
LOOKED_AT = 30
READS = 8
PAUSE_SECONDS = 0.2

INTERESTING = workflows.names(
    (workflows.inbox, workflows.order, workflows.agent, workflows.approval, workflows.parent, workflows.counter)
)


async def visit_all(client: DBOSClient, is_over: asyncio.Event) -> None:
    """Visit workflows until it is over, several at a time."""
    await asyncio.gather(*(_visit_some(client, is_over) for _ in range(VISITORS)))


async def _visit_some(client: DBOSClient, is_over: asyncio.Event) -> None:
    sender = Sender(client, journal.new_name())
    while not is_over.is_set():
        found = await client.list_workflows_async(
            status="PENDING", name=INTERESTING, limit=LOOKED_AT, sort_desc=True, load_input=False
        )
        if found:
            await _visit(client, sender, random.choice(found))
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))


async def _visit(client: DBOSClient, sender: Sender, found: WorkflowStatus) -> None:
    """Do with this workflow what its kind is made for, or list its steps."""
    workflow_id = found.workflow_id
    if random.random() < 0.2:
        await driving.sample_steps(client, workflow_id, 60)
        return
    match found.name.removeprefix("chaos."):
        case "inbox":
            for _ in range(random.randint(1, 4)):
                await sender.send(workflow_id, random.choice(TOPICS))
        case "approval":
            await sender.send(workflow_id, APPROVAL)
        case "agent":
            key, offset = random.choice([(TOKENS, 0), (TOKENS, random.randint(0, 10)), (THOUGHTS, 0)])
            await driving.follow_stream(client, workflow_id, key, offset)
        case "counter":
            await _read_events(client, workflow_id, COUNT)
        case "order":
            await _read_events(client, workflow_id, STATE)
        case _:
            await driving.await_end(client, workflow_id)


async def _read_events(client: DBOSClient, workflow_id: str, key: str) -> None:
    reader = journal.new_name()
    for _ in range(READS):
        await driving.read_event(client, reader, workflow_id, key, 2.0)
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
