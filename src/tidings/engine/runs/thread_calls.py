"""Functions in other threads that a task of a workflow awaits: `asyncio.to_thread`, `run_in_executor`, anyio's.

While its task awaits it, such a function may call operations. They count as the task's own, at the task's next places.
A *helper* task performs them on the task's event loop, as a substitute for the task. So all operations of a run are
performed in one thread. Code of steps is called in the thread that called the step.

A task that calls a function in a thread before its first operation has a branch, too. Its number must not depend on the
speed of threads. So it is assigned when the call begins: that happens on the loop, in the order of the code. These
branches have numbers of their own (`t1`, `t2`), because many such tasks call no operation at all.

While such a function runs, the run is not at rest (`engine.runs.rest`). No other code gets a result before the function
calls its next operation, or its task has its result. So what the code sees does not depend on the speed of threads. The
run waits only for a moment, because the function may be slow, or wait for another branch.

A task need not await the future of `run_in_executor` at once, or may await several together. Operations of the function
wait until its task awaits this future alone. If the task awaits it together with others, the order of the operations
would depend on the threads. Then they are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import logging
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from tidings.blocks import contextmanager
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.loops import note_thread
from tidings.engine.runs.scope import Scope
from tidings.engine.runs.workers import Workers, without_permit
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSContextError, DBOSRunEndedError, DBOSShutdownError

logger = logging.getLogger("tidings")

R = TypeVar("R")

Form = Callable[[], Coroutine[Any, Any, Any]]


class Begins(enum.Enum):
    """When an operation that a thread calls may begin."""

    AT_ONCE = enum.auto()  # It takes no place: it only awaits other operations.
    AT_REST = enum.auto()  # Its result has a number, and so a turn.
    ALONE = enum.auto()  # It has no numbered result: its thread continues at once, so no other may be running.


Inbox = queue.SimpleQueue[Callable[[], Any]]  # What a thread must call while it waits, and the result at the end.

_SAY_AFTER_SECONDS: Final = 10.0
# How often a waiting thread checks whether its loop was closed, after the first check.
_LOOK_SECONDS: Final = 1.0
_FIRST_LOOK_SECONDS: Final = 0.1
# After this many checks, with these pauses, a run stops waiting for a function in a thread. Checks are counted instead
# of seconds, because a blocked loop keeps its threads waiting, too.
_MOST_LOOKS: Final = 20
_PAUSE_SECONDS: Final = 0.05

_helpers: set[asyncio.Task[Any]] = set()  # A loop refers to its tasks only weakly.
_here = threading.local()  # `.call`: the call that this thread executes


def call_from(loop: asyncio.AbstractEventLoop) -> ThreadCall | None:
    """Return a new call for the running task of a workflow; `None` for all other code."""
    scope = scopes.current()
    if scope is None or scope.attempt is not None:
        return None
    task = asyncio.current_task(loop)
    return ThreadCall(loop, task, scope) if task is not None and scopes.may_walk(scope, task) else None


def call_here() -> ThreadCall | None:
    """Return the call that this thread executes, if an operation of the workflow would count as its task's here."""
    scope = scopes.current()
    if scope is None or scope.attempt is not None or scope.branch.owner == threading.get_ident():
        return None
    call: ThreadCall | None = getattr(_here, "call", None)
    return call if call is not None and call.scope.run is scope.run else None


async def call_together(functions: Sequence[Callable[[], R]], workers: Workers) -> list[R]:
    """Call each function in its own thread, and await the end of all.

    Raises:
        The error of the first function that failed.
    """
    loop = asyncio.get_running_loop()

    async def call_one(function: Callable[[], R]) -> R:
        call = call_from(loop)
        run = function if call is None else partial(call.run, function)
        in_context = partial(contextvars.copy_context().run, run)
        if call is None:
            return cast(R, await workers.call(in_context))
        try:
            with call.running():
                call.queues(workers, workers.limit)
                return await call.result(workers.call(in_context))
        finally:
            await call.settle()

    results = await asyncio.gather(*map(call_one, functions), return_exceptions=True)
    errors = [each for each in results if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda each: isinstance(each, Exception)):
        raise error  # The end of the workflow first, before errors of functions.
    return cast(list[R], results)


class ThreadCall:
    """A function in another thread, called by a task of a workflow.

    Its methods run on the task's loop, unless they say otherwise.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_helper",
        "_is_over",
        "_looks",
        "_number",
        "_queue",
        "_timer",
        "_turns",
        "awaited",
        "has_begun",
        "lend",
        "loop",
        "scope",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], scope: Scope) -> None:
        self.loop = loop
        self.task = task
        self.scope = scopes.number_for_thread(scope, task)
        self._turns = scopes.takes_turns(scope, loop)
        self._number = scope.run.next_call(self.scope.branch)
        self._turns.calls.add(self._number)
        self.awaited: Awaited | None = None  # Set if code other than the task could await the function.
        self._asked: asyncio.Future[None] | None = None
        self._helper: asyncio.Task[Any] | None = None
        self._is_over = False
        self.has_begun = False
        self._queue: Queue | None = None
        self._timer: asyncio.TimerHandle | None = None  # Set while nothing gets a turn because the function runs.
        self._looks = 0
        # Called in the thread, now and then, while it waits. It may let the thread's pool have one more thread. Its
        # return value is called when this thread continues.
        self.lend: Callable[[], Callable[[], None] | None] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Note the end of the call when the block ends. The block calls the function and awaits it."""
        try:
            yield
        finally:
            self.ends()

    def queues(self, pool: object, threads: int) -> None:
        """Note that a pool will call the function.

        The run does not wait for this call while earlier calls wait for the same pool.
        """
        self._queue = queue_of(self.loop, pool)
        self._queue.enter(self, threads)

    async def awaiting(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Await a coroutine for the thread. The thread does nothing meanwhile, so the run does not wait for it."""
        self.stops()
        try:
            return await coroutine
        finally:
            if self.has_begun:
                self.goes_on()

    def goes_on(self) -> None:
        """Give no turns while the function runs: it will soon call its first or next operation."""
        if self._timer is None and not self._is_over:
            self._looks = 0
            self._turns.waits_for(self._number)
            self._look_later()

    def stops(self) -> None:
        """Give turns again: the function has called an operation, or waits for something itself."""
        self._turns.waits_no_more_for(self._number)
        self._look_no_more()

    def may_end(self) -> asyncio.Future[None] | None:
        """Return what the task must wait for after the function has ended; `None` if it may continue."""
        return self._turns.may_end(self._number)

    async def result(self, ended: Awaitable[R]) -> R:
        """Return the result of the function, once its task may continue."""
        try:
            return await ended
        except asyncio.CancelledError:
            self.ends()
            raise
        finally:
            may_end = self.may_end()
            if may_end is not None:
                await may_end

    def ends(self) -> None:
        """Stop waiting for the function: its task continues."""
        if self._queue is not None:
            self._queue.leave(self)
            self._queue = None
        self._turns.is_over(self._number)
        self._look_no_more()

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        # In an empty context: otherwise this timer would count as code of the run that is about to run.
        self._timer = self.loop.call_later(_PAUSE_SECONDS, self._look, context=contextvars.Context())

    def _look(self) -> None:
        self._looks += 1
        if self._looks < _MOST_LOOKS:
            self._look_later()
        else:
            self._timer = None
            self._turns.waits_no_more_for(self._number, is_slow=True)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function, unless its task no longer awaits it. Called in the thread."""
        if self._is_over:
            return None
        self.has_begun = True
        if self._queue is not None and self in self._queue.behind:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._queue.gets_thread, self)
        former = getattr(_here, "call", None)
        _here.call = self
        try:
            return self._run_inside(function, *args)
        finally:
            _here.call = former

    def _run_inside(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function in a scope of its own, also if it is `Context.run`, or part of it as in `to_thread`."""
        context = getattr(getattr(function, "func", function), "__self__", None)
        run: Callable[..., Any] = context.run if isinstance(context, contextvars.Context) else _call
        if run(scopes.current) is None:
            return function(*args)  # In no workflow: its caller has not passed its context.
        inside = scopes.inside(scopes.within_call(self.scope, self._number, self.task))
        run(inside.__enter__)
        try:
            return function(*args)
        finally:
            run(inside.__exit__)

    def perform(self, form: Form, begins: Begins = Begins.AT_REST) -> Any:
        """Perform an operation, in its async form, as the call's task. Called in the thread, which waits meanwhile."""
        inbox: Inbox = queue.SimpleQueue()
        context = contextvars.copy_context()
        try:
            self.loop.call_soon_threadsafe(self._begin, form, inbox, context, begins)
        except RuntimeError:
            raise self._lost() from None
        while True:
            message = self._next(inbox)
            if isinstance(message, _Result):
                return message()
            message()

    def _next(self, inbox: Inbox) -> Callable[[], Any]:
        """Wait for a function that the helper wants this thread to call, or for the result."""
        seconds = _FIRST_LOOK_SECONDS
        with contextlib.ExitStack() as lent:
            while True:
                try:
                    with without_permit():
                        return inbox.get(timeout=seconds)
                except queue.Empty:
                    if self.loop.is_closed():
                        raise self._lost() from None
                seconds = _LOOK_SECONDS
                give_back = None if self.lend is None else self.lend()
                if give_back is not None:
                    lent.callback(give_back)

    def _lost(self) -> BaseException:
        return self.scope.port.chain.dead or DBOSRunEndedError(self.scope.run.workflow_id, "its event loop was closed")

    def _begin(self, form: Form, inbox: Inbox, context: contextvars.Context, begins: Begins) -> None:
        self.stops()
        result = _Result()
        task = context.run(self.loop.create_task, self._perform(form, inbox, result, begins))
        _helpers.add(task)
        task.add_done_callback(partial(self._helper_is_done, inbox, result))

    def _helper_is_done(self, inbox: Inbox, result: _Result, helper: asyncio.Task[None]) -> None:
        _helpers.discard(helper)
        if not result.has_begun:  # Cancelled before its first line, as `asyncio.run` does with all tasks at its end.
            result.error = self._left_behind() if self._is_over else asyncio.CancelledError()
            self.goes_on()
            inbox.put(result)

    async def _perform(self, form: Form, inbox: Inbox, result: _Result, begins: Begins) -> None:
        result.has_begun = True
        helper = self._helper = asyncio.current_task()
        try:
            if not self._is_over:
                await self._until_awaited()
            if begins is not Begins.AT_ONCE and not self._is_over:
                await self._turns.begins(self.scope.branch, alone=begins is Begins.ALONE)
            if self._is_over:
                raise self._left_behind()
            scope = scopes.open_for_thread(self.scope, self.task)
            scope.branch.owner = helper
            _inboxes[helper] = inbox  # type: ignore[index]
            try:
                with scopes.inside(scope):
                    result.value = await form()
            finally:
                scope.branch.owner = self.task
        except BaseException as error:
            result.error = error
        finally:
            self._helper = None
            self.goes_on()
            inbox.put(result)
            if self.awaited is not None:
                self.awaited.helper_ended()

    async def _until_awaited(self) -> None:
        """Wait until the task awaits this call, and nothing else.

        Raises:
            DBOSContextError: the task awaits the call together with others.
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
                        "thread together with others, so a replay could not repeat the order of their operations. "
                        "Give each a task of its own: await asyncio.gather(asyncio.to_thread(function), ...)"
                    )
                self._asked = self.loop.create_future()
                await self._asked
        finally:
            warning.cancel()

    def _say_not_awaited(self) -> None:
        logger.warning(
            "a thread called an operation of workflow %r, which does not await that thread: the operation waits until "
            "the workflow awaits it. Use await asyncio.to_thread(function) in a task of its own",
            self.scope.run.workflow_id,
            extra={"workflow_id": self.scope.run.workflow_id},
        )

    def asked(self) -> None:
        """Check again: some code awaits it now."""
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def leave_behind(self) -> bool:
        """Let the function call no more operations: its task no longer awaits it.

        Tells whether an operation is still running.
        """
        self._is_over = True
        self.ends()
        self.asked()
        if self._helper is None:
            return False
        self._helper.cancel()
        return True

    async def settle(self) -> None:
        """Wait until the thread's last operation is over, even if this wait is cancelled."""
        while self.leave_behind():
            assert self._helper is not None
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._helper])

    def _left_behind(self) -> DBOSContextError:
        return DBOSContextError(
            f"a thread called an operation of workflow {self.scope.run.workflow_id!r}, which no longer awaits that "
            "thread, so the operation was refused; await the thread until it ends"
        )


def _call(function: Callable[..., Any]) -> Any:
    return function()


class Queue:
    """The calls that tasks on one loop have handed to a pool, and that have not ended."""

    __slots__ = ("_executing", "_threads", "behind")

    def __init__(self) -> None:
        self._threads = self._executing = 0
        self.behind: dict[ThreadCall, None] = {}  # Calls for which no thread is free yet.

    def enter(self, call: ThreadCall, threads: int) -> None:
        """Add a call. The pool has `threads` threads."""
        self._threads = threads
        self.behind[call] = None
        if self._executing < threads:
            self.gets_thread(call)

    def gets_thread(self, call: ThreadCall) -> None:
        """Note that a thread executes this call, unless the call has ended."""
        if call in self.behind:
            del self.behind[call]
            self._executing += 1
            call.goes_on()

    def leave(self, call: ThreadCall) -> None:
        """Remove a call: it has ended, or its task no longer awaits it."""
        if call in self.behind:
            del self.behind[call]
            return
        self._executing -= 1
        if self.behind and self._executing < self._threads:
            self.gets_thread(next(iter(self.behind)))


_queues: weakref.WeakKeyDictionary[object, weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Queue]]
_queues = weakref.WeakKeyDictionary()


def queue_of(loop: asyncio.AbstractEventLoop, pool: object) -> Queue:
    """Return the calls that tasks on this loop have handed to a pool."""
    return _queues.setdefault(pool, weakref.WeakKeyDictionary()).setdefault(loop, Queue())


class _Result:
    """How an operation ended. The thread that waits for it calls this."""

    __slots__ = ("error", "has_begun", "value")

    def __init__(self) -> None:
        self.has_begun = False
        self.value: Any = None
        self.error: BaseException | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


_inboxes: weakref.WeakKeyDictionary[asyncio.Task[Any], Inbox] = weakref.WeakKeyDictionary()


async def in_calling_thread(function: Callable[[], Any]) -> Any:
    """Call a function in the thread whose operation the running helper performs."""
    helper = asyncio.current_task()
    assert helper is not None
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    _inboxes[helper].put(partial(_call_and_tell, function, loop, ended))
    return await ended


def start_call(call: ThreadCall, callers: Workers, function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Call the function in one of the library's threads.

    If it waits in an operation there, it does not keep other calls from a thread.
    """
    ended: asyncio.Future[Any] = call.loop.create_future()
    begun = callers.call(partial(_call_and_tell, function, call.loop, ended))
    begun.when_settled(partial(_tell_refusal, begun, call.loop, ended))
    note_thread(call.loop, begun)
    return ended


def _tell_refusal(begun: Ticket, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Any]) -> None:
    """Tell the task if no thread can still begin the call. A call that has begun reports its own end."""
    try:
        begun.result()
    except DBOSShutdownError as error:
        result = _Result()
        result.error = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_tell, ended, result)


def _call_and_tell(function: Callable[[], Any], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Any]) -> None:
    result = _Result()
    try:
        result.value = function()
    except BaseException as error:
        result.error = error
    with contextlib.suppress(RuntimeError):  # The loop is closed: no task waits.
        loop.call_soon_threadsafe(_tell, ended, result)


def _tell(ended: asyncio.Future[Any], result: _Result) -> None:
    if ended.done():
        return
    if isinstance(result.error, StopIteration):
        result.error = RuntimeError("a function in a thread raised StopIteration")
    if result.error is not None:
        ended.set_exception(result.error)
        # Marked as retrieved. If the loop ends before a task awaits it, the workflow is resumed elsewhere.
        ended.exception()
    else:
        ended.set_result(result.value)


class Awaited(asyncio.Future[Any]):
    """The future that `run_in_executor` returns to a task of a workflow.

    A cancellation first ends the operation that the thread is in, and only then reaches the task. Otherwise both could
    take places at the same time.
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
        """Deliver the cancellation that waited for the helper's end."""
        if self._is_cancelling and not self.done():
            self._inner.cancel()
            super().cancel()

    def _take(self, inner: asyncio.Future[Any]) -> None:
        may_end = self._call.may_end()
        if may_end is None:
            self._pass_on(inner)
        else:
            may_end.add_done_callback(lambda _: self._pass_on(inner))

    def _pass_on(self, inner: asyncio.Future[Any]) -> None:
        error = None if inner.cancelled() else inner.exception()
        if not self.done():
            if inner.cancelled():
                super().cancel()
            elif error is not None:
                self.set_exception(error)
                if self._call.scope.port.chain.is_cut_short:
                    self.exception()  # The run was ended on purpose, so asyncio need not report this error.
            else:
                self.set_result(inner.result())
        self._call.ends()  # From here on its task is about to run.
