"""Where calls in other threads begin: `run_in_executor` of event loops, and anyio's threads.

For code of workflows these note which task they call for (`engine.thread_calls`); for all other code they do what they
did. Nothing else tells a thread for whom it works: a context is a copy, and does not say of which task.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidings.engine.thread_calls import Awaited, call_from

_settling = threading.Lock()


def settle_threads() -> None:
    """Let threads that tasks of workflows await be known, with each library that the program has imported by now."""
    for name in tuple(_left):
        if name in sys.modules:
            with _settling:
                settle = _left.pop(name, None)
                if settle is not None:
                    settle()


def _settle_loop(loop_class: Any) -> None:
    original = loop_class.run_in_executor

    def run_in_executor(self: Any, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        # A function for another process cannot say for whom it is called; nor is there a workflow.
        call = call_from(self) if executor is None or isinstance(executor, ThreadPoolExecutor) else None
        if call is None:
            plain: asyncio.Future[Any] = original(self, executor, func, *args)
            return plain
        call.awaited = Awaited(call, original(self, executor, call.run, func, *args))
        return call.awaited

    loop_class.run_in_executor = run_in_executor


def _settle_uvloop() -> None:
    _settle_loop(sys.modules["uvloop"].Loop)


def _settle_anyio() -> None:
    backend = importlib.import_module("anyio._backends._asyncio").AsyncIOBackend
    original = backend.run_sync_in_worker_thread

    async def run_sync_in_worker_thread(_: Any, func: Callable[..., Any], args: Any, *more: Any, **named: Any) -> Any:
        call = call_from(asyncio.get_running_loop())
        if call is None:
            return await original(func, args, *more, **named)
        try:
            return await original(call.run, (func, *args), *more, **named)
        finally:
            await call.settle()

    backend.run_sync_in_worker_thread = classmethod(run_sync_in_worker_thread)


_left: dict[str, Callable[[], None]] = {
    "asyncio": lambda: _settle_loop(asyncio.BaseEventLoop),
    "uvloop": _settle_uvloop,
    "anyio": _settle_anyio,
}
