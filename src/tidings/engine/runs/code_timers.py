"""Makes the timers that a workflow's code sets fire in their turn, on every event loop (`engine.runs.code_limits`).

A run without branches whose code has set only one limit has no turns. They are not needed: the given-up operation is
recorded, and no other timer could have given it up.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import timeouts
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final

from tidings.engine.runs.asyncio_functions import IS_PAST
from tidings.engine.runs.cancelling import is_overtaken
from tidings.engine.runs.code_limits import Limit
from tidings.engine.runs.scope import Scope, current, takes_turns


def _settle_loop(loop_class: Any) -> None:
    plainly_at = loop_class.call_at

    def call_at(
        self: Any, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        limit = _limit(self, callback, args, context)
        if limit is None:
            plain: asyncio.TimerHandle = plainly_at(self, when, callback, *args, context=context)
            return plain
        limit.set(plainly_at, self, when)
        assert limit.handle is not None
        return limit.handle

    loop_class.call_at = call_at


def _settle_uvloop() -> None:
    loop_class: Any = sys.modules["uvloop"].Loop
    _settle_loop(loop_class)
    plainly_later = loop_class.call_later

    def call_later(
        self: Any, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if _scope_of_code(self, callback) is None:
            plain: asyncio.TimerHandle = plainly_later(self, delay, callback, *args, context=context)
            return plain
        handle: asyncio.TimerHandle = self.call_at(self.time() + delay, callback, *args, context=context)
        return handle

    loop_class.call_later = call_later


def _settle_timeout() -> None:
    """Make `asyncio.timeout` set a timer even if its time is up already.

    Whether it is up depends on the speed of the machine, unless it was up from the start; then no timer is set. If the
    time is up but a recorded result came first, the timeout may be rescheduled, as if it were not up.
    """
    plainly = asyncio.Timeout.reschedule
    states: Any = timeouts._State  # type: ignore[attr-defined]

    def reschedule(self: Any, when: float | None) -> None:
        if self._state is states.EXPIRING and is_overtaken(self._task):
            self._task.uncancel()
            self._state = states.ENTERED
        plainly(self, when)
        soon = self._timeout_handler
        loop = asyncio.get_running_loop()
        if vars(self).pop(IS_PAST, False):
            return
        if when is not None and not hasattr(soon, "when") and _scope_of_code(loop, self._on_timeout) is not None:
            soon.cancel()
            self._timeout_handler = loop.call_at(when, self._on_timeout)

    asyncio.Timeout.reschedule = reschedule  # type: ignore[method-assign]


def _scope_of_code(loop: asyncio.AbstractEventLoop, callback: Callable[..., Any]) -> Scope | None:
    """Return the scope of the workflow code that sets a timer; `None` for other code, and inside an operation."""
    scope = current()
    if scope is None or scope.attempt is not None or scope.port.chain.dead is not None:
        return None
    owner = scope.branch.owner
    is_here = owner.get_loop() is loop if isinstance(owner, asyncio.Task) else owner == threading.get_ident()
    if not is_here or (getattr(callback, "__module__", None) or "").startswith("tidings."):
        return None
    turns, task = scope.port.turns, asyncio.current_task(loop)
    return None if turns is not None and task is not None and turns.is_inside(task) else scope


def _limit(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
) -> Limit | None:
    scope = _scope_of_code(loop, callback)
    if scope is None:
        return None
    limit = Limit(loop, callback, args, context, partial(_reached, scope, loop))
    if not limit.is_pause:
        limit.number = scope.run.next_limit()
        scope.port.note_limit(limit)
    return limit


def _reached(scope: Scope, loop: asyncio.AbstractEventLoop, limit: Limit) -> None:
    port = scope.port
    if port.chain.dead is not None:
        limit.comes()
    elif port.turns is not None and port.turns.is_on(loop):
        port.turns.reaches(limit)
    elif limit.number is not None and any(each.is_set for each in port.limits):
        takes_turns(scope, loop).reaches(limit)  # Records which of the limits was reached.
    else:
        limit.comes()


# Make loops of each of these libraries do so.
CHANGES: Final[dict[str, Callable[[], None]]] = {
    "asyncio": lambda: _settle_loop(asyncio.BaseEventLoop),
    "asyncio.timeouts": _settle_timeout,
    "uvloop": _settle_uvloop,
}
