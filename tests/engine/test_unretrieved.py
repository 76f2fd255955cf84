"""A run that ends leaves no future whose error asyncio reports as never retrieved."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from tidings import JSONSerializer
from tidings.core.effects import Turn
from tidings.core.history import Run
from tidings.engine.database.chain import Chain
from tidings.engine.runs import thread_calls
from tidings.engine.runs.scope import code_of, run_of
from tidings.engine.runs.turns import Turns
from tidings.error import DBOSRunEndedError
from tidings.model import Entry, History, RecordedEntry

ENDED = DBOSRunEndedError("w", "tidings stopped in this process")


async def _refused_turn() -> Callable[[], None]:
    """Wait for a turn, in a task; what this gives refuses it."""
    recorded = RecordedEntry(Entry("1", 1, 1, "step", finished=1, begun=1))
    run = Run("w", 1, "flow", JSONSerializer(), History("w", (recorded,), ()))
    chain = Chain(Mock())
    turns = Turns(run, chain, run_of, code_of)
    _tasks.append(asyncio.create_task(turns.wait(Turn(1, 5))))
    _tasks.append(asyncio.create_task(turns.wait(Turn())))
    await asyncio.sleep(0)

    def refuse() -> None:
        chain.kill(ENDED)
        turns.comes_to_rest()

    return refuse


async def _thread_that_fails() -> Callable[[], None]:
    """Await a function in a thread; what this gives tells its error."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await ended

    _tasks.append(asyncio.create_task(wait()))
    await asyncio.sleep(0)
    result = thread_calls._Result()
    result.error = ENDED
    return lambda: thread_calls._tell(ended, result)


_tasks: list[asyncio.Task[None]] = []


@pytest.mark.parametrize("awaited", [_refused_turn, _thread_that_fails])
def test_what_the_end_of_a_run_settles_on_a_loop_that_goes_on_no_more_is_not_reported(awaited: Any) -> None:
    reported: list[str] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
    settle = loop.run_until_complete(awaited())
    settle()  # Whoever awaits it would go on in the next round, which never comes.
    loop.close()
    for task in _tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    _tasks.clear()
    del settle, task
    gc.collect()
    assert reported == []


@pytest.mark.parametrize("awaited", [_refused_turn, _thread_that_fails])
async def test_who_awaits_it_gets_the_error(awaited: Any) -> None:
    settle = await awaited()
    settle()
    errors = await asyncio.gather(*_tasks, return_exceptions=True)
    _tasks.clear()
    assert [str(each) for each in errors] == [str(ENDED)] * len(errors)
