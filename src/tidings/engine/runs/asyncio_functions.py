"""Functions of asyncio that behave differently for code of workflows, so that replays agree on every Python version.

`wait_for`, on Python 3.11. From 3.12 on, it awaits its argument in its caller's task. On 3.11 it creates a task, which
would open a branch. So the same code would record other places on 3.11, and a workflow could not continue on a newer
Python. Letting this task use its caller's branch would not be enough. It begins one round of the event loop later, so
branches opened side by side would get other numbers. Nor can the task be told from one that the program created and
gave to `wait_for`, which is a branch on every Python. So on 3.11, `wait_for` does for code of a workflow what it does
on 3.12.

`as_completed`, on every Python. It creates tasks for coroutines in the order of a set, which differs in each execution.
The branches would be numbered in that order. For code of a workflow, it creates them in the order of its arguments.

`wait`, on every Python. It returns sets. Sets of a workflow's tasks have the same order each time
(`engine.runs.tasks`). Sets of other futures, such as those of a `gather` or a `shield`, have not. For code of a
workflow, these sets are in the order of the arguments.

`timeout`, on every Python. It notes whether its time was up from the start. Such a timeout is up in each execution,
whatever the speed of the machine (`engine.runs.code_timers`).

`run_coroutine_threadsafe`, on every Python. A function in a thread that a workflow awaits may use it to await a
coroutine. Until the coroutine has ended, the thread does nothing, so nothing waits for the thread
(`engine.runs.thread_calls`).

For all other code, and for code of steps, the functions behave as before. The code object of each function is replaced,
not its name in `asyncio`, because programs may have imported the function already.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import tasks, timeouts
from collections.abc import Awaitable, Callable, Iterable
from types import FunctionType
from typing import Any, Final

from tidings.engine.runs.scope import current
from tidings.engine.runs.tasks import InOrder, OrderedTask
from tidings.engine.runs.thread_calls import call_here

# For readers a constant, but not for the type checker, which would treat one of the two branches as dead code.
_MAKES_A_TASK: Final = bool(sys.version_info < (3, 12))
_WAIT_FOR: Final = "_tidings_wait_for"
_AS_COMPLETED: Final = "_tidings_as_completed"
_WAIT: Final = "_tidings_wait"
_TIMEOUT: Final = "_tidings_timeout"
IS_PAST: Final = "_tidings_is_past"  # Of a timeout.
_RUN: Final = "_tidings_run_coroutine_threadsafe"

_settling = threading.Lock()

Function = Callable[..., Any]


def settle_asyncio() -> None:
    """Change these functions for code of workflows."""
    if _MAKES_A_TASK:
        _change(asyncio.wait_for, _WAIT_FOR, _in_place_of_wait_for, _wait_for)
    _change(asyncio.as_completed, _AS_COMPLETED, _in_place_of_as_completed, _as_completed)
    _change(asyncio.wait, _WAIT, _in_place_of_wait, _wait)
    _change(asyncio.timeout, _TIMEOUT, _in_place_of_timeout, _timeout)
    _change(asyncio.run_coroutine_threadsafe, _RUN, _in_place_of_run_coroutine_threadsafe, _run_coroutine_threadsafe)


def _change(function: Any, name: str, in_place_of: Callable[[Function], Function], door: Any) -> None:
    """Make `function` call its replacement, which can call the original function."""
    module = tasks if name != _TIMEOUT else timeouts
    if hasattr(module, name):
        return
    with _settling:  # Two loops may begin their first workflow at once.
        # If another library replaced the function, leave it alone. Either it calls the original, or it is not our
        # concern.
        if getattr(function, "__globals__", None) is vars(module) and not hasattr(module, name):
            original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
            original.__kwdefaults__ = function.__kwdefaults__
            setattr(module, name, in_place_of(original))
            function.__code__ = door.__code__


def _in_place_of_wait_for(original: Function) -> Function:
    async def wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
        if not _is_in_workflow() or timeout is None or timeout <= 0:
            return await original(fut, timeout)
        async with asyncio.timeout(timeout):
            return await fut

    return wait_for


def _in_place_of_as_completed(original: Function) -> Function:
    def as_completed(fs: Iterable[Any], timeout: float | None) -> Any:
        if _is_in_workflow() and not asyncio.isfuture(fs) and not asyncio.iscoroutine(fs):
            fs = [asyncio.ensure_future(each) for each in dict.fromkeys(fs)]
        return original(fs, timeout=timeout)

    return as_completed


def _in_place_of_wait(original: Function) -> Function:
    async def wait(fs: Iterable[Any], timeout: float | None, return_when: str) -> Any:
        if not _is_in_workflow() or asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
            return await original(fs, timeout=timeout, return_when=return_when)
        given = list(fs)
        sets = await original(given, timeout=timeout, return_when=return_when)
        if all(isinstance(each, OrderedTask) for each in given):
            return sets
        return tuple(InOrder(each for each in given if each in found) for found in sets)

    return wait


def _in_place_of_timeout(original: Function) -> Function:
    def timeout(delay: float | None) -> Any:
        made = original(delay)
        if delay is not None and delay <= 0:
            setattr(made, IS_PAST, True)
        return made

    return timeout


def _in_place_of_run_coroutine_threadsafe(original: Function) -> Function:
    def run_coroutine_threadsafe(coro: Any, loop: asyncio.AbstractEventLoop) -> Any:
        call = call_here() if asyncio.iscoroutine(coro) else None
        return original(coro if call is None or call.loop is not loop else call.awaiting(coro), loop)

    return run_coroutine_threadsafe


def _is_in_workflow() -> bool:
    scope = current()
    return scope is not None and scope.attempt is None


# --- the new code of the functions: it runs with the names of asyncio's module ------------------------------


async def _wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
    return await _tidings_wait_for(fut, timeout)  # type: ignore[name-defined]  # noqa: F821


async def _wait(fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED) -> Any:
    return await _tidings_wait(fs, timeout, return_when)  # type: ignore[name-defined]  # noqa: F821


def _timeout(delay: float | None) -> Any:
    return _tidings_timeout(delay)  # type: ignore[name-defined]  # noqa: F821


def _run_coroutine_threadsafe(coro: Any, loop: asyncio.AbstractEventLoop) -> Any:
    return _tidings_run_coroutine_threadsafe(coro, loop)  # type: ignore[name-defined]  # noqa: F821


def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    return _tidings_as_completed(fs, timeout)  # type: ignore[name-defined]  # noqa: F821


CHANGES: Final = {"asyncio": settle_asyncio}
