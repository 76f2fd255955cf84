"""Where calls in other threads begin: `run_in_executor` of event loops, anyio's threads, pools, and threads.

For code of workflows the first two note which task they call for (`engine.thread_calls`); for all other code they do
what they did. Nothing else tells a thread for whom it works: a context is a copy, and does not say of which task.

Of pools and other threads it is noted which workflow has them do something (`stray_of`). They have no context, so a
step that they call would run as a plain function, and not be recorded.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidings.engine import scope as scopes
from tidings.engine.scope import Scope
from tidings.engine.thread_calls import Awaited, call_from

_settling = threading.Lock()
_working = threading.local()  # `.of`: where the code of a workflow stands that has a pool's thread do this


def settle_threads() -> None:
    """Let threads that tasks of workflows await be known, with each library that the program has imported by now."""
    for name in tuple(_left):
        if name in sys.modules:
            with _settling:
                settle = _left.pop(name, None)
                if settle is not None:
                    settle()


def stray_of() -> str | None:
    """Return the workflow that has this thread do what it does, without its context; `None` if there is none."""
    scope = _cause()
    return None if scope is None else scope.run.workflow_id


def _cause() -> Scope | None:
    scope: Scope | None = getattr(_working, "of", None) or getattr(threading.current_thread(), _MARK, None)
    if scope is None or scope.port.chain.dead is not None:
        return None  # The workflow is over: what a thread does by now is not its code's.
    return scope


def _causing() -> Scope | None:
    """Return for which workflow what this code begins in another thread is done: not for a step of it."""
    scope = scopes.current() or _cause()
    return scope if scope is not None and scope.attempt is None else None


def _settle_pools() -> None:
    original = ThreadPoolExecutor.submit

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scope = _causing()
        if scope is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _work, scope, fn, *args, **kwargs)

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


def _work(scope: Scope, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _working.of = scope
    try:
        return function(*args, **kwargs)
    finally:
        _working.of = None


def _settle_thread() -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        scope = _causing()
        if scope is not None and not _serves_others(self):
            setattr(self, _MARK, scope)
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]


def _serves_others(thread: threading.Thread) -> bool:
    """Tell whether a thread is a pool's, and so may work for anybody later."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or ""
    return module.startswith(_POOLS) or type(thread).__module__.startswith(_POOLS)


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


_MARK = "_tidings_of"
_POOLS = ("concurrent.", "anyio.", "tidings.", "asyncio.")

_left: dict[str, Callable[[], None]] = {
    "concurrent.futures.thread": _settle_pools,
    "threading": _settle_thread,
    "asyncio": lambda: _settle_loop(asyncio.BaseEventLoop),
    "uvloop": _settle_uvloop,
    "anyio": _settle_anyio,
}
