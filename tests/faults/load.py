"""Some dozens of workflows that do everything at once, and what must have come of it: nothing lost, nothing twice.

No process dies here. So a step runs exactly once, whatever happens to the database, unless that loses its result.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from tests.support.face import Face, Handle
from tests.support.rows import Rows

WORKFLOWS = 24
ROUNDS = 3
HOUR = 3_600.0


class Load:
    """A ring of workflows. Each one gets messages from outside and from the one before it."""

    def __init__(self, face: Face, workflows: int = WORKFLOWS, rounds: int = ROUNDS) -> None:
        self._face = face
        self._workflows = workflows
        self._rounds = rounds
        self.steps: Counter[tuple[int, int]] = Counter()
        self._handles: list[Handle] = []

        @face.step(name="faults.work")
        async def work(number: int, turn: int) -> int:
            self.steps[number, turn] += 1
            await face.write_stream("log", ["step", turn])
            return number * 100 + turn

        @face.workflow(name="faults.turn")
        async def take_turns(number: int) -> list[Any]:
            await face.recv("go", HOUR)
            seen: list[Any] = []
            for turn in range(rounds):
                seen.append(await work(number, turn))
                await face.set_event("turn", turn)
                await face.write_stream("log", ["workflow", turn])
                await face.send(f"w{(number + 1) % workflows}", [number, turn], "ring")
                seen.append(await face.recv("ring", HOUR))
                seen.append(await face.recv("outside", HOUR))
            await face.close_stream("log")
            return seen

        self.workflow = take_turns

    async def start(self) -> None:
        """Start all workflows at once, and then let them go: they send to each other."""
        self._handles = await asyncio.gather(*map(self._start, range(self._workflows)))
        await asyncio.gather(*(self._face.send(each.workflow_id, None, "go") for each in self._handles))

    async def send(self, turn: int) -> None:
        """Send each workflow what it waits for in this turn, at once."""
        await asyncio.gather(*(self._face.send(f"w{number}", turn, "outside") for number in range(self._workflows)))

    async def run(self, in_between: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Run all of it, and something before each turn."""
        await self.start()
        for turn in range(self._rounds):
            if in_between is not None:
                await in_between()
            await self.send(turn)
        await self.await_results()

    async def await_results(self, again: Collection[int] = ()) -> None:
        """Wait for all ends, and check what the workflows themselves saw; of the turns `again` the steps ran twice."""
        results = await asyncio.gather(*(each.get_result() for each in self._handles))
        assert results == [self._expected(number) for number in range(self._workflows)]
        ran = {turn: 1 + (turn in again) for turn in range(self._rounds)}
        assert self.steps == {(number, turn): ran[turn] for number in range(self._workflows) for turn in ran}

    async def check(self, rows: Rows) -> None:
        """Check what is in the database now: all of it, once."""
        items = [[who, turn] for turn in range(self._rounds) for who in ("step", "workflow")]
        for number in range(self._workflows):
            assert await self._face.read(f"w{number}", "log") == items
            assert await self._face.get_event(f"w{number}", "turn", 0) == self._rounds - 1
        counts = rows.counts()
        turns = self._workflows * self._rounds
        assert counts["workflows"] == self._workflows
        assert counts["messages"] == self._workflows + 2 * turns
        assert counts["closed_streams"] == self._workflows
        assert rows.run("select count(*), count(distinct workflow_id) from {workflows} where status = 'SUCCESS'") == [
            (self._workflows, self._workflows)
        ]

    def _expected(self, number: int) -> list[Any]:
        before = (number - 1) % self._workflows
        return [value for turn in range(self._rounds) for value in (number * 100 + turn, [before, turn], turn)]

    async def _start(self, number: int) -> Handle:
        return await self._face.start(self.workflow, number, workflow_id=f"w{number}")
