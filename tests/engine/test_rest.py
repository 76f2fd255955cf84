"""When a run is at rest, as seen from its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from tidings import JSONSerializer
from tidings.core.history import Run
from tidings.engine import rest
from tidings.engine.rest import Rest
from tidings.engine.stuck import Motion

_HERE: ContextVar[Run | None] = ContextVar("here", default=None)


def _code_of(context: Context) -> Run | None:
    return context.get(_HERE)


class Asking:
    """A run that waits for rest, in whose context callbacks may be put on the loop."""

    def __init__(self) -> None:
        self.run = Run("w", 1, "flow", JSONSerializer())
        self.rested = asyncio.Event()
        self.motions = 0
        self.inside: set[asyncio.Task[Any]] = set()
        self.context = copy_context()
        self.context.run(_HERE.set, self.run)

    def comes_to_rest(self) -> None:
        self.rested.set()

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        return task in self.inside

    def motion(self) -> Motion:
        self.motions += 1
        return Motion.WAITS


async def test_it_rests_when_its_last_callback_has_run() -> None:
    loop, asking, left = asyncio.get_running_loop(), Asking(), [5]

    def hop() -> None:
        left[0] -= 1
        if left[0]:
            loop.call_soon(hop, context=asking.context)

    loop.call_soon(hop, context=asking.context)
    Rest(loop, _code_of).ask(asking)
    await asking.rested.wait()
    assert left == [0]


async def test_code_that_polls_keeps_nobody_waiting_for_ever() -> None:
    loop, asking = asyncio.get_running_loop(), Asking()

    def poll() -> None:
        if not asking.rested.is_set():
            loop.call_soon(poll, context=asking.context)

    loop.call_soon(poll, context=asking.context)
    Rest(loop, _code_of).ask(asking)
    await asking.rested.wait()


async def test_what_other_threads_add_meanwhile_harms_nothing() -> None:
    """They do, at any moment: between any two of the callbacks that are looked at, too."""
    loop, asking = asyncio.get_running_loop(), Asking()
    looking = Rest(loop, _code_of)

    def code_of(context: Context) -> Run | None:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(lambda: None,))
        thread.start()
        thread.join()
        return _code_of(context)

    looking._code_of = code_of
    looking.ask(asking)
    for _ in range(3):
        loop.call_soon(lambda: None)
    await asyncio.wait_for(asking.rested.wait(), 20)


async def test_a_loop_that_does_not_show_what_is_ready_is_watched_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asking = asyncio.get_running_loop(), Asking()
    looking = Rest(loop, _code_of)
    monkeypatch.setattr(looking, "_ready", lambda: None)
    assert not looking.all_rest()
    looking.ask(asking)
    await asking.rested.wait()
    assert asking.motions == rest._QUIET_LOOKS


async def test_nothing_at_all_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Rest(asyncio.get_running_loop(), _code_of)
    monkeypatch.setattr(looking, "_ready", deque)
    assert looking.all_rest()
