"""The rounds of a worker: it starts workflows that talk with each other, and talks with them itself.

All ids, and all messages with a key, follow from the name of the round. So a worker that was killed in the middle of a
round plays it again: started workflows are found, messages are not sent twice, and the rest is done now.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from chaos.journal import journal
from chaos.load import driving, workflows
from chaos.load.driving import Sender
from chaos.load.workflows import APPROVAL, COUNT, NEWS, THOUGHTS, TOKENS
from tidings import DBOS

TOPICS: tuple[str | None, ...] = (None, NEWS, "a::b")
ORDERS = 3
CHILDREN = 3
RALLIES = 6
PAUSE_SECONDS = 0.2
LANES = "abc"


class Round:
    """One round, with this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._dice = random.Random(name)
        self._tokens = self._dice.randint(12, 40)
        self._versions = self._dice.randint(10, 40)
        self._patience = [self._dice.uniform(0.2, 4.0) for _ in range(2)]
        self._keyed = self._dice.randint(5, 15)

    def id_of(self, what: str) -> str:
        """Return the id of one of its workflows."""
        return f"{self.name}/{what}"

    async def play(self) -> None:
        """Start all workflows, talk with them, and await all their ends."""
        started = await self._start()
        await asyncio.gather(*(talk() for talk in self._talks()), *map(self._await_end, started))
        await self._stop()
        await self._await_end(self.id_of("inbox"))
        await driving.sample_steps(DBOS, self.id_of("bank"), 100)

    async def _start(self) -> list[str]:
        """Start all workflows; return all ids except that of the inbox, which ends when it is told to."""
        name = self.id_of
        orders = [name(f"order {number}") for number in range(ORDERS)]
        await driving.start(workflows.inbox, name("inbox"), list(TOPICS))
        await driving.start(workflows.bank, name("bank"), ORDERS)
        await driving.start(workflows.player, name("right"), name("left"), RALLIES, False)
        plan: list[tuple[Callable[..., Any], str, tuple[Any, ...]]] = [
            *((workflows.order, each, (name("bank"), name("inbox"))) for each in orders),
            (workflows.player, name("left"), (name("right"), RALLIES, True)),
            (workflows.agent, name("agent"), (self._tokens,)),
            (workflows.counter, name("counter"), (self._versions,)),
            *(
                (workflows.approval, name(f"approval {number}"), (timeout,))
                for number, timeout in enumerate(self._patience)
            ),
            (workflows.parent, name("parent"), (CHILDREN,)),
            (workflows.victim, name("victim"), ()),
            (workflows.failing, name("failing"), ()),
        ]
        await asyncio.gather(*(driving.start(function, each, *args) for function, each, args in plan))
        await driving.start(workflows.watcher, name("watcher"), name("counter"), self._versions, name("agent"))
        return [name("bank"), name("right"), *(each for _, each, _ in plan), name("watcher")]

    def _talks(self) -> list[Callable[[], Awaitable[None]]]:
        name = self.id_of
        middle = self._tokens // 2
        return [
            self._send,
            self._send,
            self._send_with_keys,
            self._cancel,
            self._sample,
            *(lambda number=number: self._approve(number) for number in range(len(self._patience))),
            lambda: driving.watch_event(DBOS, name("counter"), COUNT, self._versions, PAUSE_SECONDS / 2),
            lambda: driving.follow_stream(DBOS, name("agent"), TOKENS, 0),
            lambda: driving.follow_stream(DBOS, name("agent"), TOKENS, middle),
            lambda: driving.follow_stream(DBOS, name("agent"), THOUGHTS, 0),
        ]

    async def _send(self) -> None:
        sender = Sender(DBOS, journal.new_name())
        for _ in range(random.randint(3, 12)):
            await sender.send(self.id_of("inbox"), random.choice(TOPICS))
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))

    async def _send_with_keys(self) -> None:
        sender = Sender(DBOS, f"{self.name} with keys")
        for number in range(self._keyed):
            topic = TOPICS[number % len(TOPICS)]
            for _ in range(random.randint(1, 3)):
                await sender.send_number(number, self.id_of("inbox"), topic, f"key::{number}")

    async def _approve(self, number: int) -> None:
        await asyncio.sleep(random.uniform(0, 1.3 * self._patience[number]))
        await Sender(DBOS, journal.new_name()).send(self.id_of(f"approval {number}"), APPROVAL)

    async def _cancel(self) -> None:
        await asyncio.sleep(random.uniform(0, 3))
        await driving.cancel(DBOS, self.id_of("victim"))

    async def _sample(self) -> None:
        for what in ("agent", "order 0", "inbox", "parent", "counter"):
            await asyncio.sleep(random.uniform(0, 0.5))
            await driving.sample_steps(DBOS, self.id_of(what), 60)

    async def _stop(self) -> None:
        sender = Sender(DBOS, f"{self.name} stop")
        for number, topic in enumerate(TOPICS):
            await sender.send_number(number, self.id_of("inbox"), topic, f"stop {number}", stop=True)

    async def _await_end(self, workflow_id: str) -> None:
        await driving.await_end(DBOS, workflow_id)


async def play_rounds(directory: Path, slot: str, is_over: asyncio.Event) -> None:
    """Play rounds until it is over, several at a time."""
    await asyncio.gather(*(_play_lane(directory, f"{slot}{lane}", is_over) for lane in LANES))


async def _play_lane(directory: Path, lane: str, is_over: asyncio.Event) -> None:
    """Play one round after the other, first the one that an earlier process of this slot left unfinished."""
    begun = directory / f"{lane}.round"
    first = int(begun.read_text()) if begun.exists() else None
    for number in itertools.count(first or 0):
        if is_over.is_set() and number != first:
            return
        beginning = begun.with_suffix(".beginning")
        beginning.write_text(str(number))
        beginning.rename(begun)
        await Round(f"{lane}.{number}").play()
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
