"""Cancellations that came too late, because an answer came first.

Each is delivered again, right after the answer.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

_overtaken: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


def cancel_again() -> None:
    """Deliver a cancellation to this task again, after the answer that it came too late for.

    Does nothing if the cancellation was meant only for that one await: `asyncio.timeout` and `wait_for` withdraw their
    request (`uncancel`) when they end, which is before this runs. The count of requests does not change.
    """
    task = asyncio.current_task()
    assert task is not None
    _overtaken.add(task)
    task.get_loop().call_soon(_cancel_again, task)


def is_overtaken(task: asyncio.Task[Any]) -> bool:
    """Tell whether this task got an answer instead of a cancellation that will be delivered again."""
    return task in _overtaken


def _cancel_again(task: asyncio.Task[Any]) -> None:
    _overtaken.discard(task)
    if not task.done() and task.cancelling() > 0:
        task.uncancel()
        task.cancel()
