"""When a run is at rest, as seen from its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
import uvloop

from tests.support.engines import running
from tidings import DBOS, JSONSerializer
from tidings.core.history import Run
from tidings.engine.runs import libraries, rest, scope
from tidings.engine.runs.rest import Rest

_HERE: ContextVar[Run | None] = ContextVar("here", default=None)


def _code_of(context: Context) -> Run | None:
    return context.get(_HERE)


class Waiter:
    """A run that waits for rest, in whose context callbacks may be put on the loop."""

    def __init__(self) -> None:
        self.run = Run("w", 1, "flow", JSONSerializer())
        self.rested = asyncio.Event()
        self.looks = 0
        self.inside: set[asyncio.Task[Any]] = set()
        self.context = copy_context()
        self.context.run(_HERE.set, self.run)

    def comes_to_rest(self) -> None:
        self.rested.set()

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        return task in self.inside

    def moves(self, tasks: list[asyncio.Task[Any]]) -> bool:
        self.looks += 1
        return False


async def test_it_rests_when_its_last_callback_has_run() -> None:
    loop, waiter, left = asyncio.get_running_loop(), Waiter(), [5]

    def hop() -> None:
        left[0] -= 1
        if left[0]:
            loop.call_soon(hop, context=waiter.context)

    loop.call_soon(hop, context=waiter.context)
    Rest(loop, _code_of).ask(waiter)
    await waiter.rested.wait()
    assert left == [0]


async def test_code_that_polls_keeps_nobody_waiting_for_ever() -> None:
    loop, waiter = asyncio.get_running_loop(), Waiter()

    def poll() -> None:
        if not waiter.rested.is_set():
            loop.call_soon(poll, context=waiter.context)

    loop.call_soon(poll, context=waiter.context)
    Rest(loop, _code_of).ask(waiter)
    await waiter.rested.wait()


async def test_what_other_threads_add_meanwhile_harms_nothing() -> None:
    """They do, at any moment: between any two of the callbacks that are looked at, too."""
    loop, waiter = asyncio.get_running_loop(), Waiter()
    looking = Rest(loop, _code_of)

    def code_of(context: Context) -> Run | None:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(lambda: None,))
        thread.start()
        thread.join()
        return _code_of(context)

    looking._code_of = code_of
    looking.ask(waiter)
    for _ in range(3):
        loop.call_soon(lambda: None)
    await asyncio.wait_for(waiter.rested.wait(), 20)


async def test_a_loop_that_does_not_show_what_is_ready_is_watched_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, waiter = asyncio.get_running_loop(), Waiter()
    looking = Rest(loop, _code_of)
    monkeypatch.setattr(looking, "_ready", lambda: None)
    assert not looking.all_rest()
    looking.ask(waiter)
    await waiter.rested.wait()
    assert waiter.looks == rest._QUIET_LOOKS


def test_a_loop_that_does_not_show_what_is_ready_notes_what_it_is_given() -> None:
    """Its tasks are never gone over, and a run with code that is about to run is not at rest."""
    libraries.settle_libraries()
    left, looked = [5], [0]

    async def main() -> None:
        loop, waiter = asyncio.get_running_loop(), Waiter()
        elsewhere = threading.Thread(target=loop.call_soon_threadsafe, args=(lambda: None,))

        def hop() -> None:
            left[0] -= 1
            if left[0]:
                loop.call_soon(hop, context=waiter.context)

        loop.call_soon(hop, context=waiter.context)
        Rest(loop, _code_of).ask(waiter)
        elsewhere.start()
        await waiter.rested.wait()
        elsewhere.join()
        looked[0] = waiter.looks

    uvloop.run(main())
    assert left == [0]
    assert looked == [0]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_work_of_many_branches_grows_with_their_number(
    database_url: str, run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = 0

    def code_of(context: Context) -> Run | None:
        nonlocal contexts
        contexts += 1
        return plainly(context)

    plainly = scope.code_of
    monkeypatch.setattr(scope, "code_of", code_of)

    def work(count: int) -> int:
        @DBOS.workflow(name=f"{count} branches")
        def order() -> None:
            run(main())

        async def step() -> None:
            await DBOS.run_step_async({"name": "step"}, lambda: asyncio.sleep(0))

        async def main() -> None:
            await asyncio.gather(*(step() for _ in range(count)))

        nonlocal contexts
        contexts = 0
        order()
        return contexts

    with running(database_url):
        assert work(120) < 3 * work(60) + 500


async def test_the_looks_of_two_loops_do_not_disturb_each_other() -> None:
    """Blocking workflows run event loops of their own, each in its thread."""
    here, elsewhere = Waiter(), Waiter()

    async def rest_elsewhere() -> None:
        Rest(asyncio.get_running_loop(), _code_of).ask(elsewhere)
        await asyncio.wait_for(elsewhere.rested.wait(), 20)

    def comes_to_rest() -> None:  # Within a look.
        thread = threading.Thread(target=asyncio.run, args=(rest_elsewhere(),))
        thread.start()
        thread.join()
        here.rested.set()

    here.comes_to_rest = comes_to_rest  # type: ignore[method-assign]
    Rest(asyncio.get_running_loop(), _code_of).ask(here)
    await here.rested.wait()
    assert elsewhere.rested.is_set()


async def test_nothing_at_all_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Rest(asyncio.get_running_loop(), _code_of)
    monkeypatch.setattr(looking, "_ready", deque)
    assert looking.all_rest()
