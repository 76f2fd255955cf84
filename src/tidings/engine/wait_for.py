"""`asyncio.wait_for` in workflows on Python 3.11: as on every later Python, without a task of its own.

From Python 3.12 on `wait_for` awaits what it is given in its caller's task. On 3.11 it makes a task, which would
open a branch. So the same code would record other places on 3.11, and a workflow could not go on under a newer
Python. It would not be enough to let that task use its caller's branch: it begins one round of the event loop later,
so branches that are opened side by side would get other numbers.

Once the task is made, nothing tells it from one that the program made and gave to `wait_for`, which is a branch on
every Python. So `wait_for` itself changes: on 3.11, for code of a workflow, it does what it does on 3.12. All
other code, also that of steps, gets what it got. What changes is the code of the function, not the name in `asyncio`:
programs may have imported the function already.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import tasks
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, Final, cast

from tidings.engine.scope import current

# A constant to the reader, not to the type checker, which would take one of two ways for dead code.
_MAKES_A_TASK: Final = bool(sys.version_info < (3, 12))
_NAME: Final = "_tidings_wait_for"

_settling = threading.Lock()

WaitFor = Callable[[Awaitable[Any], float | None], Awaitable[Any]]


def settle_wait_for() -> None:
    """Let `asyncio.wait_for` be one place in workflows, if this Python's is not."""
    if not _MAKES_A_TASK or hasattr(tasks, _NAME):
        return
    with _settling:  # Two loops may begin their first workflow at once.
        function = asyncio.wait_for
        # Another library's function, or whatever it is, is left alone. It calls this one, or is no concern of ours.
        if getattr(function, "__globals__", None) is vars(tasks) and not hasattr(tasks, _NAME):
            original = cast(WaitFor, FunctionType(function.__code__, function.__globals__, function.__name__))
            setattr(tasks, _NAME, _in_place_of(original))
            function.__code__ = _door.__code__


def _in_place_of(original: WaitFor) -> WaitFor:
    async def wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
        scope = current()
        if scope is None or scope.attempt is not None or timeout is None or timeout <= 0:
            return await original(fut, timeout)
        async with asyncio.timeout(timeout):
            return await fut

    return wait_for


async def _door(fut: Awaitable[Any], timeout: float | None) -> Any:
    """What `asyncio.wait_for` becomes: this code, among the names of `asyncio.tasks`."""
    return await _tidings_wait_for(fut, timeout)  # type: ignore[name-defined]  # noqa: F821
