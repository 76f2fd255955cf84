"""Time limits set by a workflow's code: `asyncio.timeout`, `wait_for`, `wait(timeout=...)`, anyio's, `call_later`.

They are timers of the event loop, which calls them when they are due, no matter what happened before. In a replay, that
could be before a result that came in time the first time. So the loop calls a `Limit` instead, and the turns of the run
decide when its callback is called (`Turns.reaches`).

`asyncio.sleep` is a timer too. It has no number and is not recorded. In a replay it, too, waits for recorded results
that can come first.
"""

from __future__ import annotations

import asyncio
from asyncio import format_helpers
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final

# The callback that completes the future of an `asyncio.sleep`.
_PAUSE: Final = "_set_result_unless_cancelled"


class Limit:
    """One of the timers that the code of a run sets. Used on the run's loop."""

    __slots__ = (
        "_args",
        "_context",
        "_is_in_context",
        "_loop",
        "_on_reached",
        "callback",
        "finished",
        "handle",
        "is_due",
        "number",
        "round",
        "when",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        on_reached: Callable[[Limit], None],
    ) -> None:
        self._loop = loop
        self.callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._on_reached = on_reached
        self.number: int | None = None  # Among the run's limits; `None` for an `asyncio.sleep`.
        self.finished: int | None = None  # The number of its result, once the limit is due.
        self.handle: asyncio.TimerHandle | None = None
        self.when = 0.0
        self.is_due = False
        self.round: object = None  # The round of the loop in which the limit became due.
        self._is_in_context = False

    def set(self, call_at: Callable[..., asyncio.TimerHandle], loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Set the timer on the loop."""
        self.when = when
        self.handle = call_at(loop, when, self._is_reached, context=self._context)

    @property
    def is_pause(self) -> bool:
        """Whether this limit belongs to an `asyncio.sleep`."""
        return getattr(self.callback, "__name__", "") == _PAUSE

    @property
    def is_cancelled(self) -> bool:
        """Whether the code has cancelled this limit."""
        return self.handle is not None and self.handle.cancelled()

    @property
    def is_set(self) -> bool:
        """Whether this limit may still become due."""
        return not self.is_due and not self.is_cancelled

    def _is_reached(self) -> None:
        self.is_due = self._is_in_context = True
        try:
            self._on_reached(self)
        finally:
            self._is_in_context = False

    def comes(self) -> None:
        """Call its callback, unless the code has cancelled it.

        It must not wait for the loop's next round: by then there may be a result, which the code would get although it
        is cancelled.
        """
        if self._is_in_context:
            self._call()
        else:
            self._context.run(self._call)

    def _call(self) -> None:
        """Call it as a loop does, and report an error as a loop does."""
        if self.is_cancelled:
            return
        try:
            self.callback(*self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            handle = asyncio.TimerHandle(self.when, self.callback, self._args, self._loop, self._context)
            source = format_helpers._format_callback_source(self.callback, self._args)
            self._loop.call_exception_handler(
                {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
            )
