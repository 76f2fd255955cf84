"""What a replay waits for, as seen from its tasks."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context

import pytest

from tidings import JSONSerializer
from tidings.core.history import Run
from tidings.engine.runs import stuck
from tidings.engine.runs.stuck import Motion, motion_of

_HERE: ContextVar[Run | None] = ContextVar("here", default=None)


def _run_of(context: Context) -> Run | None:
    return context.get(_HERE)


class Running:
    """A run whose tasks wait, each for its turn or for something else."""

    def __init__(self, *awaited: asyncio.Future[None]) -> None:
        self.run = Run("w", 1, "flow", JSONSerializer())
        self.context = copy_context()
        self.context.run(_HERE.set, self.run)
        self.tasks = [self.begin(future) for future in awaited]

    def begin(self, awaited: asyncio.Future[None]) -> asyncio.Task[None]:
        async def wait() -> None:
            await awaited

        return asyncio.get_running_loop().create_task(wait(), context=self.context)

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()


async def test_w2_many_runs_are_looked_at_in_one_round_by_going_over_their_tasks_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, looked = asyncio.get_running_loop(), 0
    context_of = stuck._context_of

    def counting(task: asyncio.Task[None]) -> Context | None:
        nonlocal looked
        looked += 1
        return context_of(task)

    monkeypatch.setattr(stuck, "_context_of", counting)
    turn = loop.create_future()
    running = [Running(turn, turn) for _ in range(20)]
    other = Running(turn, loop.create_future())
    await asyncio.sleep(0)
    for _ in range(2):  # Rounds.
        looked = 0
        assert {motion_of(each.run, {turn}, _run_of) for each in running} == {Motion.STUCK}
        assert motion_of(other.run, {turn}, _run_of) is Motion.WAITS
        assert looked == len(asyncio.all_tasks())
        await asyncio.sleep(0)
    for each in (*running, other):
        each.end()


async def test_tasks_and_timers_that_are_new_are_seen_in_the_next_round() -> None:
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    first, second = Running(turn), Running(turn)
    await asyncio.sleep(0)
    assert motion_of(first.run, {turn}, _run_of) is motion_of(second.run, {turn}, _run_of) is Motion.STUCK
    first.tasks.append(first.begin(loop.create_future()))
    timer = loop.call_later(60, print, context=second.context)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert motion_of(first.run, {turn}, _run_of) is motion_of(second.run, {turn}, _run_of) is Motion.WAITS
    timer.cancel()
    for each in (first, second):
        each.end()
