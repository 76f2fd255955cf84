"""Where calls in other threads begin: `run_in_executor` of event loops, anyio's threads, pools, and threads.

For code of workflows, the first two note the calling task (`engine.runs.thread_calls`). For all other code they do what
they did before. A thread cannot learn this in another way: its context is a copy, and does not name the task.

Functions that workflow code gives to pools and to threads of its own are *strays*: they run without the workflow's
context, so an operation that they call would not be recorded. The workflow is noted in a context variable, in the
context of the thread while it calls the function (`stray_of`). So a thread that also works for other code is a stray
only for the workflow's functions. The same holds for an event loop in such a thread: a coroutine that other code sends
there brings the context of that code.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

from tidings.core.effects import Lack
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.again import Lasting
from tidings.engine.runs.loops import threads_ended
from tidings.engine.runs.scope import Scope
from tidings.engine.runs.thread_calls import Awaited, ThreadCall, call_from, call_here, start_call
from tidings.shortage import is_shortage

# The workflow code for which this thread works, without its context.
_stray_from: ContextVar[Scope | None] = ContextVar("tidings_stray_from", default=None)


def stray_of() -> str | None:
    """Return the workflow whose code has another thread call this code, without its context; `None` for other code."""
    scope = _cause()
    return None if scope is None else scope.run.workflow_id


def _cause() -> Scope | None:
    scope = _stray_from.get()
    if scope is None or scope.port.chain.dead is not None:
        return None  # The execution is over, so the thread no longer works for it.
    return scope


def _causing() -> Scope | None:
    """Return the scope of the workflow code that starts work in another thread now; `None` if a step starts it."""
    scope = scopes.current() or _cause()
    return scope if scope is not None and scope.attempt is None else None


def _settle_pools() -> None:
    original = ThreadPoolExecutor.submit

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scope = _causing()
        if scope is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _work, scope, fn, *args, **kwargs)

    original_callback = Future.add_done_callback

    def add_done_callback(self: Any, fn: Callable[[Any], Any]) -> None:
        scope = _causing()
        original_callback(self, fn if scope is None else partial(_work, scope, fn))

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
    Future.add_done_callback = add_done_callback  # type: ignore[method-assign]


def _settle_thread_pools() -> None:
    """Note the workflow in each way in which `multiprocessing.pool.ThreadPool` is given a function."""
    pool = sys.modules["multiprocessing.pool"].ThreadPool
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        setattr(pool, name, _noting(getattr(pool, name)))


def _noting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        scope = _causing()
        if scope is not None:
            func = partial(_work, scope, func)
            kwargs |= {
                each: partial(_work, scope, kwargs[each]) for each in ("callback", "error_callback") if kwargs.get(each)
            }
        return original(self, func, *args, **kwargs)

    return submit


def _work(scope: Scope, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    former = _stray_from.set(scope)
    try:
        return function(*args, **kwargs)
    finally:
        _stray_from.reset(former)


def _settle_thread() -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        scope = _causing()
        if scope is not None and not _serves_others(self):
            self.run = partial(_run_thread, self, scope, self.run)  # type: ignore[method-assign]
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]


def _run_thread(thread: threading.Thread, scope: Scope, run: Callable[[], None]) -> None:
    try:
        _work(scope, run)
    finally:
        vars(thread).pop("run", None)  # It refers to the thread.


def _serves_others(thread: threading.Thread) -> bool:
    """Tell whether a thread belongs to a pool, and so may work for other code later."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or ""
    return module.startswith(_POOLS) or type(thread).__module__.startswith(_POOLS)


def _settle_loop(loop_class: Any) -> None:
    original = loop_class.run_in_executor

    def run_in_executor(self: Any, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        # A function in another process cannot call operations, because the workflow is not there.
        call = call_from(self) if executor is None or isinstance(executor, ThreadPoolExecutor) else None
        if call is None:
            plain: asyncio.Future[Any] = original(self, executor, func, *args)
            return plain
        callers, pool = call.scope.port.callers, executor or _chosen_default(self)
        if pool is None and callers is not None:
            call.queues(callers, callers.limit)
            inner = start_call(call, callers, partial(_work, call.scope, call.run, func, *args))
        else:
            if pool is None:
                call.goes_on()
            else:
                call.queues(pool, pool._max_workers)
                call.lend = partial(_lend_thread, call, pool)
            inner = original(self, executor, call.run, func, *args)
        call.awaited = Awaited(call, inner)
        return call.awaited

    original_end = loop_class.shutdown_default_executor

    async def shutdown_default_executor(self: Any, *args: Any, **kwargs: Any) -> None:
        await threads_ended(self)
        await original_end(self, *args, **kwargs)

    loop_class.run_in_executor = run_in_executor
    loop_class.shutdown_default_executor = shutdown_default_executor


def _chosen_default(loop: asyncio.AbstractEventLoop) -> ThreadPoolExecutor | None:
    """Return the pool that the program has set for this loop, but not one that the loop created itself."""
    pool: Any
    try:
        pool = loop._default_executor  # type: ignore[attr-defined]
        is_its_own = pool is not None and pool._thread_name_prefix == "asyncio"
    except AttributeError:  # uvloop hides its pool, and gives its threads no name.
        pool = next((each for each in gc.get_referents(loop) if isinstance(each, ThreadPoolExecutor)), None)
        is_its_own = pool is not None and _made_with(pool) == _made_with(ThreadPoolExecutor())
    return None if is_its_own else pool


def _made_with(pool: Any) -> tuple[Any, ...]:
    return pool._max_workers, pool._thread_name_prefix.partition("-")[0], getattr(pool, "_initializer", None)


def _lend_thread(call: ThreadCall, pool: Any) -> None:
    """Let the program's pool have one more thread, if calls queue there while a call waits in a replay.

    When several workflows replay at once, calls that wait for their turn may fill a pool. The call that has the next
    turn may then be queued. A pool of one thread has the same order in each replay, and needs no other thread.
    """
    if call.scope.run.has_turns and len(pool._threads) > 1 and not pool._work_queue.empty():
        # As `submit` does it.
        with pool._shutdown_lock, contextlib.suppress(RuntimeError):
            pool._max_workers = len(pool._threads) + 1
            pool._adjust_thread_count()


def _settle_uvloop() -> None:
    _settle_loop(sys.modules["uvloop"].Loop)


def _settle_anyio() -> None:
    backend = importlib.import_module("anyio._backends._asyncio").AsyncIOBackend
    original = backend.run_sync_in_worker_thread

    async def run_sync_in_worker_thread(_: Any, func: Callable[..., Any], args: Any, *more: Any, **named: Any) -> Any:
        call = call_from(asyncio.get_running_loop())
        if call is None:
            return await original(func, args, *more, **named)
        limiter = named.pop("limiter", None) or next(iter(more[1:]), None) or backend.current_default_thread_limiter()
        call.lend = partial(_lend_token, call.loop, limiter)
        more, named = more[:1], {**named, "limiter": _Place(call, limiter)}
        try:
            with call.running():
                return await call.result(_begun(call, lambda: original(call.run, (func, *args), *more, **named)))
        finally:
            await call.settle()

    backend.run_sync_in_worker_thread = classmethod(run_sync_in_worker_thread)


def _settle_portals() -> None:
    portal = importlib.import_module("anyio.from_thread").BlockingPortal
    original = portal.call

    def call(self: Any, func: Callable[..., Any], *args: Any) -> Any:
        here = call_here()
        return original(self, func if here is None else partial(_awaited, here, func), *args)

    portal.call = call


async def _awaited(call: ThreadCall, function: Callable[..., Any], *args: Any) -> Any:
    value = function(*args)
    if not inspect.isawaitable(value):
        return value
    is_of_call = inspect.iscoroutine(value) and asyncio.get_running_loop() is call.loop
    return await (call.awaiting(cast(Any, value)) if is_of_call else value)


class _Place:
    """The token that anyio waits for before it calls a function. Until the call has it, nothing waits for the call."""

    def __init__(self, call: ThreadCall, limiter: Any) -> None:
        self._call = call
        self._limiter = limiter

    async def __aenter__(self) -> None:
        await self._limiter.__aenter__()
        self._call.goes_on()

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._limiter.__aexit__(*raised)


async def _begun(call: ThreadCall, function: Callable[[], Awaitable[Any]]) -> Any:
    """Await the start of a call, and retry as long as no thread can be started for it."""
    lasting: Lasting | None = None
    with contextlib.ExitStack() as lacking:
        while True:
            try:
                return await function()
            except RuntimeError as error:
                if call.has_begun or not is_shortage(error):
                    raise
                lasting = lasting or lacking.enter_context(call.scope.port.perform(_THREAD))
                pause_seconds = lasting.pause_ms(error) / 1_000
            await asyncio.sleep(pause_seconds)


def _lend_token(loop: asyncio.AbstractEventLoop, limiter: Any) -> Callable[[], None] | None:
    """Let another call use the token of a call that waits in an operation, until this one continues."""
    if limiter.total_tokens <= 1:
        return None  # The program uses it as a lock.

    def change(by: int) -> None:
        limiter.total_tokens += by

    def give_back() -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(change, -1)

    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(change, 1)
    return give_back


_THREAD = Lack("starting a thread for a function of a workflow")
_POOLS = ("concurrent.", "multiprocessing.", "anyio.", "tidings.", "asyncio.")

# Make these libraries note the threads that tasks of workflows await.
CHANGES: Final[dict[str, Callable[[], None]]] = {
    "concurrent.futures.thread": _settle_pools,
    "multiprocessing.pool": _settle_thread_pools,
    "threading": _settle_thread,
    "asyncio": lambda: _settle_loop(asyncio.BaseEventLoop),
    "uvloop": _settle_uvloop,
    "anyio": _settle_anyio,
    "anyio.from_thread": _settle_portals,
}
