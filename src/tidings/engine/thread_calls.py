"""Functions in other threads that a task of a workflow awaits: `asyncio.to_thread`, `run_in_executor`, anyio's.

While its task awaits it, such a function may call operations: they are the task's own, at the task's next places. They
are performed on the event loop of the task, by a *helper* task that stands in its place, so a run is still walked in
one thread. The code of a step goes back to the thread that called it.

A task whose first operation comes from a thread has a branch too. Its number may not depend on how quick the threads
are: so it is drawn when the call begins, which is on the loop, and the loop's order is that of the code. These branches
are numbered apart from others (`t1`, `t2`), because most functions in threads call no operation.

Of a future that `run_in_executor` gives, the task may await something else, or several at once. Operations of the
function wait until its task awaits it alone. Where it is awaited together with others the order would be that of the
threads; there they are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from tidings.engine import scope as scopes
from tidings.engine.scope import Scope
from tidings.engine.workers import Workers, parked
from tidings.error import DBOSContextError, DBOSRunEndedError

logger = logging.getLogger("tidings")

R = TypeVar("R")

Form = Callable[[], Coroutine[Any, Any, Any]]

_SAY_AFTER_SECONDS: Final = 10.0
# How often a thread looks whether the loop that it waits for was closed.
_LOOK_SECONDS: Final = 1.0

_helpers: set[asyncio.Task[Any]] = set()  # A loop holds its tasks only weakly.
_here = threading.local()  # `.call` that this thread is in


def call_from(loop: asyncio.AbstractEventLoop) -> ThreadCall | None:
    """Return a new call for the running task of a workflow; `None` for all other code."""
    scope = scopes.current()
    if scope is None or scope.attempt is not None:
        return None
    task = asyncio.current_task(loop)
    return ThreadCall(loop, task, scope) if task is not None and scopes.may_walk(scope, task) else None


def call_here() -> ThreadCall | None:
    """Return the call that this thread is in, where an operation of the workflow would be that of its task."""
    scope = scopes.current()
    if scope is None or scope.attempt is not None or scope.branch.owner == threading.get_ident():
        return None
    call: ThreadCall | None = getattr(_here, "call", None)
    return call if call is not None and call.scope.run is scope.run else None


def call_together(loop: asyncio.AbstractEventLoop, functions: Sequence[Callable[[], R]], workers: Workers) -> list[R]:
    """Call each function in a thread of its own, and wait for all, on a loop that runs for this long in this thread."""

    async def call_one(function: Callable[[], R]) -> R:
        call = call_from(loop)
        run = function if call is None else partial(call.run, function)
        value: R = await workers.call(partial(contextvars.copy_context().run, run))
        return value

    async def call_all() -> list[R | BaseException]:
        return await asyncio.gather(*map(call_one, functions), return_exceptions=True)

    with parked():
        results = loop.run_until_complete(call_all())
    errors = [each for each in results if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda each: isinstance(each, Exception)):
        raise error  # The end of the workflow before any error of its own.
    return cast(list[R], results)


class ThreadCall:
    """A function in another thread, for a task of a workflow. On the loop of the task, except where it is said."""

    __slots__ = ("_asked", "_helper", "_is_over", "awaited", "loop", "scope", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], scope: Scope) -> None:
        self.loop = loop
        self.task = task
        self.scope = scopes.number_for_thread(scope, task)
        self.awaited: Awaited | None = None  # If others than its task could await it.
        self._asked: asyncio.Future[None] | None = None
        self._helper: asyncio.Task[Any] | None = None
        self._is_over = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function. In the thread."""
        former = getattr(_here, "call", None)
        _here.call = self
        try:
            return function(*args)
        finally:
            _here.call = former

    def perform(self, form: Form) -> Any:
        """Perform an operation, in its awaiting form, as the task of this call. In the thread, which waits."""
        inbox: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        context = contextvars.copy_context()
        try:
            self.loop.call_soon_threadsafe(self._begin, form, inbox, context)
        except RuntimeError:
            raise self._lost() from None
        while True:
            try:
                with parked():
                    message = inbox.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if self.loop.is_closed():
                    raise self._lost() from None
                continue
            if isinstance(message, _Result):
                return message()
            message()

    def _lost(self) -> BaseException:
        return self.scope.port.chain.dead or DBOSRunEndedError(self.scope.run.workflow_id, "its event loop was closed")

    def _begin(self, form: Form, inbox: queue.SimpleQueue[Callable[[], Any]], context: contextvars.Context) -> None:
        task = context.run(self.loop.create_task, self._perform(form, inbox))
        _helpers.add(task)
        task.add_done_callback(_helpers.discard)

    async def _perform(self, form: Form, inbox: queue.SimpleQueue[Callable[[], Any]]) -> None:
        helper = self._helper = asyncio.current_task()
        result = _Result()
        try:
            if not self._is_over:
                await self._until_awaited()
            if self._is_over:
                raise self._left_behind()
            scope = scopes.open_for_thread(self.scope, self.task)
            scope.branch.owner = helper
            _inboxes[helper] = inbox  # type: ignore[index]
            try:
                with scopes.standing(scope):
                    result.value = await form()
            finally:
                scope.branch.owner = self.task
        except BaseException as error:
            result.error = error
        finally:
            self._helper = None
            inbox.put(result)
            if self.awaited is not None:
                self.awaited.helper_ended()

    async def _until_awaited(self) -> None:
        """Wait until the task awaits this call, and nothing else.

        Raises:
            DBOSContextError: it awaits it together with others.
        """
        awaited = self.awaited
        if awaited is None:
            return
        warning = self.loop.call_later(_SAY_AFTER_SECONDS, self._say_not_awaited)
        try:
            while not self._is_over and getattr(self.task, "_fut_waiter", None) is not awaited:
                if awaited.is_asked:
                    raise DBOSContextError(
                        f"a thread called an operation of workflow {self.scope.run.workflow_id!r}, which awaits that "
                        "thread together with others: the order of their operations would differ at each run. Give "
                        "each a task of its own: await asyncio.gather(asyncio.to_thread(function), ...)"
                    )
                self._asked = self.loop.create_future()
                await self._asked
        finally:
            warning.cancel()

    def _say_not_awaited(self) -> None:
        logger.warning(
            "a thread called an operation of workflow %r, which does not await that thread: the operation waits until "
            "it does. Use await asyncio.to_thread(function) in a task of its own",
            self.scope.run.workflow_id,
            extra={"workflow_id": self.scope.run.workflow_id},
        )

    def asked(self) -> None:
        """Look again: somebody awaits it now."""
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def leave_behind(self) -> bool:
        """Let the function call nothing more: nobody awaits it now. Tells whether an operation is still to be ended."""
        self._is_over = True
        self.asked()
        if self._helper is None:
            return False
        self._helper.cancel()
        return True

    async def settle(self) -> None:
        """Wait until its last operation is over, whatever cancels this."""
        while self.leave_behind():
            assert self._helper is not None
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._helper])

    def _left_behind(self) -> DBOSContextError:
        return DBOSContextError(
            f"a thread called an operation of workflow {self.scope.run.workflow_id!r}, which does not await that "
            "thread any more"
        )


class _Result:
    """How an operation ended, for the thread that waits for it."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


_inboxes: weakref.WeakKeyDictionary[asyncio.Task[Any], queue.SimpleQueue[Callable[[], Any]]] = (
    weakref.WeakKeyDictionary()
)


async def in_calling_thread(function: Callable[[], Any]) -> Any:
    """Call a function in the thread whose operation the running helper performs."""
    helper = asyncio.current_task()
    assert helper is not None
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    _inboxes[helper].put(partial(_call_and_tell, function, loop, ended))
    return await ended


def _call_and_tell(function: Callable[[], Any], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Any]) -> None:
    result = _Result()
    try:
        result.value = function()
    except BaseException as error:
        result.error = error
    with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
        loop.call_soon_threadsafe(_tell, ended, result)


def _tell(ended: asyncio.Future[Any], result: _Result) -> None:
    if ended.done():
        return
    if isinstance(result.error, StopIteration):
        result.error = RuntimeError("a step raised StopIteration")
    if result.error is not None:
        ended.set_exception(result.error)
    else:
        ended.set_result(result.value)


class Awaited(asyncio.Future[Any]):
    """What `run_in_executor` gives to a task of a workflow.

    A cancellation ends the operation that the thread is in, before the task hears of it: else both would take places.
    """

    def __init__(self, call: ThreadCall, inner: asyncio.Future[Any]) -> None:
        super().__init__(loop=call.loop)
        self._call = call
        self._inner = inner
        self._is_cancelling = False
        self.is_asked = False
        inner.add_done_callback(self._take)

    def add_done_callback(self, *args: Any, **kwargs: Any) -> None:
        super().add_done_callback(*args, **kwargs)
        self.is_asked = True
        self._call.asked()

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        if self._call.leave_behind():
            self._is_cancelling = True
            return True
        self._inner.cancel()
        return super().cancel(msg)

    def helper_ended(self) -> None:
        """Let a cancellation that waited for this come through."""
        if self._is_cancelling and not self.done():
            self._inner.cancel()
            super().cancel()

    def _take(self, inner: asyncio.Future[Any]) -> None:
        error = None if inner.cancelled() else inner.exception()
        if self.done():
            return
        if inner.cancelled():
            super().cancel()
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(inner.result())
