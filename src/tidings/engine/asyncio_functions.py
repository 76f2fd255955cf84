"""Functions of asyncio that do something else for code of workflows, so that a replay, on any Python, does the same.

`wait_for`, on Python 3.11: from 3.12 on it awaits what it is given in its caller's task. On 3.11 it makes a task, which
would open a branch. So the same code would record other places on 3.11, and a workflow could not go on under a newer
Python. It would not be enough to let that task use its caller's branch: it begins one round of the event loop later,
so branches that are opened side by side would get other numbers. And once the task is made, nothing tells it from one
that the program made and gave to `wait_for`, which is a branch on every Python. So on 3.11, for code of a workflow,
`wait_for` does what it does on 3.12.

`as_completed`, on every Python: it makes tasks of coroutines in the order of a set, which is another one each time. The
branches would be numbered in that order. For code of a workflow it makes them in the order in which they are given.

All other code, also that of steps, gets what it got. What changes is the code of the function, not the name in
`asyncio`: programs may have imported the function already.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import tasks
from collections.abc import Awaitable, Callable, Iterable
from types import FunctionType
from typing import Any, Final

from tidings.engine.scope import current

# A constant to the reader, not to the type checker, which would take one of two ways for dead code.
_MAKES_A_TASK: Final = bool(sys.version_info < (3, 12))
_WAIT_FOR: Final = "_tidings_wait_for"
_AS_COMPLETED: Final = "_tidings_as_completed"

_settling = threading.Lock()

Function = Callable[..., Any]


def settle_asyncio() -> None:
    """Let these functions do in workflows what they are to do there."""
    if _MAKES_A_TASK:
        _change(asyncio.wait_for, _WAIT_FOR, _in_place_of_wait_for, _wait_for)
    _change(asyncio.as_completed, _AS_COMPLETED, _in_place_of_as_completed, _as_completed)


def _change(function: Any, name: str, in_place_of: Callable[[Function], Function], door: Any) -> None:
    """Let `function` call what stands in its place, which finds the function as it was."""
    if hasattr(tasks, name):
        return
    with _settling:  # Two loops may begin their first workflow at once.
        # Another library's function, or whatever it is, is left alone. It calls this one, or is no concern of ours.
        if getattr(function, "__globals__", None) is vars(tasks) and not hasattr(tasks, name):
            original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
            original.__kwdefaults__ = function.__kwdefaults__
            setattr(tasks, name, in_place_of(original))
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


def _is_in_workflow() -> bool:
    scope = current()
    return scope is not None and scope.attempt is None


# --- what the functions become: this code, among the names of `asyncio.tasks` -------------------------------------


async def _wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
    return await _tidings_wait_for(fut, timeout)  # type: ignore[name-defined]  # noqa: F821


def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    return _tidings_as_completed(fs, timeout)  # type: ignore[name-defined]  # noqa: F821
