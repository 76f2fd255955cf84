"""The workflows of the load: every way in which workflows talk, blocking and async, and short, so that there are many.

Each does the same in every execution, whatever fails, and returns what it received and read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from chaos.histories import EventSeen, Item, Left, Received, Sending, Sent, StreamSeen, Told
from chaos.journal import journal
from chaos.load.telling import Letter, Said, Teller, letter
from tidings import DBOS, WorkflowHandleAsync

PAUSE_SECONDS = 0.15
TOKENS, THOUGHTS = "tokens", "thoughts"
STATE, COUNT = "state", "count"
PAYMENT, RECEIPT, APPROVAL, NEWS, BALL = "payment", "receipt", "approval", "news", "ball"
THOUGHTS_IN_A_STEP = 3


@DBOS.workflow(name="chaos.inbox")
async def inbox(topics: list[str | None]) -> Said:
    """Receive on several topics in parallel, on each until a message says stop."""
    me = Teller()
    received = await asyncio.gather(*(_drain(me, topic) for topic in topics))
    left = tuple(Left(topic, "stop") for topic in topics)
    return me.ends(Told(received=tuple(each for branch in received for each in branch), left=left))


async def _drain(me: Teller, topic: str | None) -> list[Received]:
    received: list[Received] = []
    stopped = False
    while not stopped:
        message = await me.receive_async(topic)
        assert message is not None
        received.append(message.received)
        stopped = message.stop
        await me.publish_async(f"received on {topic}", len(received))
        if len(received) % 5 == 1:
            await me.step_async(f"file {len(received)} of {topic}")
    return received


@DBOS.workflow(name="chaos.bank")
def bank(orders: int) -> Said:
    """Take a payment for each order, and send it a receipt."""
    me = Teller()
    received = []
    for number in range(orders):
        payment = _expected(me.receive(PAYMENT))
        received.append(payment.received)
        me.publish(COUNT, number + 1)
        me.step(f"book {number}")
        me.send(payment.sender, RECEIPT, number)
    return me.ends(Told(received=tuple(received), left=(Left(PAYMENT, "count"),)))


@DBOS.workflow(name="chaos.order")
def order(bank_id: str, inbox_id: str) -> Said:
    """Pay, wait for the receipt, ship, and send a message from a step."""
    me = Teller()
    me.publish(STATE, 1)
    me.step("price", fails=True)
    me.publish(STATE, 2)
    me.send(bank_id, PAYMENT, 0)
    receipt = _expected(me.receive(RECEIPT))
    me.publish(STATE, 3)
    DBOS.sleep(PAUSE_SECONDS)

    def tell(attempt: str) -> None:
        # In a step: sent once for each try.
        sender = f"{me.workflow_id} {attempt}"
        journal.note(Sending(sender, 0, inbox_id, NEWS))
        DBOS.send(inbox_id, letter(NEWS, sender, 0), NEWS)
        journal.note(Sent(sender, 0))

    me.step("ship", tell)
    me.publish(STATE, 4)
    return me.ends(Told(received=(receipt.received,), left=(Left(RECEIPT, "count"),)))


@DBOS.workflow(name="chaos.agent")
async def agent(length: int) -> Said:
    """Stream tokens, and thoughts in steps; close the first stream, and leave the other one open."""
    me = Teller()

    async def think(attempt: str) -> None:
        for number in range(THOUGHTS_IN_A_STEP):
            await me.write_async(THOUGHTS, number, attempt)
            await asyncio.sleep(0.005)

    for number in range(length):
        await me.write_async(TOKENS, number)
        if number % 4 == 1:
            await me.step_async(f"think {number}", think, fails=True)
        if number % 4 == 3:
            await DBOS.sleep_async(PAUSE_SECONDS)
    await DBOS.close_stream_async(TOKENS)
    await me.step_async("reconsider", think)
    return me.ends(Told())


@DBOS.workflow(name="chaos.approval")
def approval(timeout_seconds: float) -> Said:
    """Wait for a message, but not without limit."""
    me = Teller()
    me.publish(STATE, 1)
    message = me.receive(APPROVAL, timeout_seconds)
    me.publish(STATE, 2)
    me.step("file")
    if message is None:
        return me.ends(Told(left=(Left(APPROVAL, "timeout"),), value="too late"))
    return me.ends(Told(received=(message.received,), left=(Left(APPROVAL, "stop"),), value="approved"))


@DBOS.workflow(name="chaos.parent")
async def parent(children: int) -> Said:
    """Start children in parallel, and loop over them as they end; a replay in another order would raise an error."""
    me = Teller()

    async def raise_child(number: int) -> WorkflowHandleAsync[Said]:
        await me.step_async(f"prepare {number}")
        return await me.start_async(child, f"{me.workflow_id}/{number}", me.workflow_id, number)

    handles = await asyncio.gather(*map(raise_child, range(children)))
    statuses = []
    async for handle in DBOS.as_completed_async(handles):
        outcome = await me.await_async(handle)
        await me.step_async(f"praise {handle.workflow_id}", fails=True)
        statuses.append(outcome.status)
    assert len(statuses) == children, "each child ends once"
    received = [_expected(await me.receive_async(NEWS)).received for _ in range(children)]
    return me.ends(Told(received=tuple(received), left=(Left(NEWS, "count"),), value=statuses))


@DBOS.workflow(name="chaos.child")
def child(parent_id: str, number: int) -> Said:
    """Work, write home, and work again."""
    me = Teller()
    me.step("grow")
    me.send(parent_id, NEWS, 0)
    me.publish(STATE, 1)
    DBOS.sleep(PAUSE_SECONDS)
    me.step("grow more", fails=True)
    return me.ends(Told(value=number))


@DBOS.workflow(name="chaos.player")
async def player(other_id: str, rallies: int, serves: bool) -> Said:
    """Send a ball to and fro. The one who serves must start after the other."""
    me = Teller()
    received = []
    for number in range(rallies):
        if serves:
            await me.send_async(other_id, BALL, number)
        received.append(_expected(await me.receive_async(BALL)).received)
        if not serves:
            await me.send_async(other_id, BALL, number)
        await me.publish_async(COUNT, number + 1)
        await DBOS.sleep_async(PAUSE_SECONDS)
    return me.ends(Told(received=tuple(received), left=(Left(BALL, "count"),)))


@DBOS.workflow(name="chaos.counter")
async def counter(until: int) -> Said:
    """Publish one version after the other; now and then a step shows that the version before is durable."""
    me = Teller()
    for version in range(1, until + 1):
        await me.publish_async(COUNT, version)
        if version % 3 == 0:
            await me.step_async(f"count {version}")
        if version % 5 == 0:
            await DBOS.sleep_async(PAUSE_SECONDS)
    return me.ends(Told())


@DBOS.workflow(name="chaos.watcher")
async def watcher(counter_id: str, until: int, agent_id: str) -> Said:
    """Read events and streams of other workflows; the values read are recorded."""
    me = Teller()
    events, stream = await asyncio.gather(_watch(counter_id, until), _follow(agent_id))
    await me.step_async("file")
    return me.ends(Told(events=tuple(events), streams=(stream,)))


async def _watch(workflow_id: str, until: int) -> list[EventSeen]:
    seen: list[EventSeen] = []
    while not seen or seen[-1].version != until:
        version = await DBOS.get_event_async(workflow_id, COUNT, None)
        seen.append(EventSeen(workflow_id, COUNT, version))
        await DBOS.sleep_async(PAUSE_SECONDS)
    return seen


async def _follow(workflow_id: str) -> StreamSeen:
    values = [item async for item in DBOS.read_stream_async(workflow_id, TOKENS)]
    return StreamSeen(workflow_id, TOKENS, 0, tuple(msgspec.convert(value, Item) for value in values))


@DBOS.workflow(name="chaos.victim")
def victim() -> Said:
    """Wait for a message that never comes, until it is cancelled."""
    me = Teller()
    me.step("despair")
    me.receive("nothing")
    return me.ends(Told())


@DBOS.workflow(name="chaos.failing")
def failing() -> Said:
    """Fail in a step, continue, and end with an error."""
    me = Teller()
    why = me.failing_step("risk")
    me.step("mourn")
    raise me.fails(why)


def _expected(message: Letter | None) -> Letter:
    assert message is not None
    return message


def names(functions: Sequence[Any]) -> list[str]:
    """Return the names under which workflows are recorded."""
    return [f"chaos.{function.__name__}" for function in functions]
