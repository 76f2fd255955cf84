"""One try of a step: where it runs and how long it may take. Also the call of `should_retry`.

Without a time limit a blocking step runs in the calling thread. With one it runs in a thread of its own, because the
calling thread could not leave it at the timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any

from tidings.api.caller import Caller, current_host, is_running
from tidings.core.history import Slot
from tidings.engine.runs.loops import is_closing, running_loop
from tidings.engine.runs.registry import StepFunction
from tidings.engine.runs.scope import Attempt, RetryDecision, Scope, current, inside
from tidings.engine.runs.thread_calls import in_calling_thread
from tidings.engine.runs.within import TimeLimit
from tidings.error import DBOSStepTimeoutError

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Try = Callable[[Scope, Slot, int], Any]
Attempting = Callable[[Caller, StepFunction, Args, Kwargs], Try]
Decide = Callable[[BaseException], Any]
AskRetry = Callable[[Decide, Scope, Slot, BaseException], Any]


def blocking_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return a function that tries a step, for a blocking workflow. An async step runs on an event loop."""
    if step.timeout_seconds is None:
        return partial(_call, step, args, kwargs)
    if step.is_async:
        return partial(_finish_within, caller, step, args, kwargs)
    return partial(_call_within, caller, step, args, kwargs)


def awaiting_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return a function that tries a step, for an async workflow."""
    if step.is_async and step.timeout_seconds is None:
        return partial(_await, step, args, kwargs)
    if step.is_async:
        return partial(_await_within, caller, step, args, kwargs)
    if step.timeout_seconds is None:
        return partial(_await_in_thread, step, args, kwargs)
    return partial(_await_in_thread_within, caller, step, args, kwargs)


def threaded_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return a function that tries a step in the calling thread, if possible. An async workflow awaits that thread."""
    if step.is_async or step.timeout_seconds is not None:
        return awaiting_attempt(caller, step, args, kwargs)
    return partial(_await_in_calling_thread, step, args, kwargs)


def _call(step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int) -> Any:
    with _attempting(step, workflow, slot, number):
        return _finish(step.function(*args, **kwargs), workflow)


def _finish(value: Any, workflow: Scope) -> Any:
    """Return a function's value. An awaitable is run to its end first, unless that would block an event loop."""
    if isawaitable(value) and running_loop() is None:
        return current_host().coroutines.finish(value, workflow.port)
    return value


def _finish_within(
    caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    with _attempting(step, workflow, slot, number) as attempt:
        limit = _limit(caller, step, workflow, attempt)
        return _finish(limit.await_call(partial(step.function, *args, **kwargs)), workflow)


async def _await(step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int) -> Any:
    with _attempting(step, workflow, slot, number):
        return await step.function(*args, **kwargs)


async def _await_in_thread(
    step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    """Try a `def` function in a worker thread. If it returns an awaitable, that is awaited here."""
    with _attempting(step, workflow, slot, number):
        value = await current_host().workers.call(_in_this_context(step, args, kwargs))
        return await value if isawaitable(value) else value


async def _await_in_calling_thread(
    step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    with _attempting(step, workflow, slot, number):
        here = current()

        def call() -> Any:
            with inside(here):
                return step.function(*args, **kwargs)

        value = await in_calling_thread(call)
        return await value if isawaitable(value) else value


def _call_within(
    caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    def call() -> Any:
        return _finish(step.function(*args, **kwargs), workflow)

    with _attempting(step, workflow, slot, number) as attempt:
        return _limit(caller, step, workflow, attempt).call(partial(contextvars.copy_context().run, call))


async def _await_within(
    caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    with _attempting(step, workflow, slot, number) as attempt:
        return await _limit(caller, step, workflow, attempt).await_call(partial(step.function, *args, **kwargs))


async def _await_in_thread_within(
    caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    with _attempting(step, workflow, slot, number) as attempt:
        return await _limit(caller, step, workflow, attempt).await_in_thread(_in_this_context(step, args, kwargs))


def _in_this_context(step: StepFunction, args: Args, kwargs: Kwargs) -> Callable[[], Any]:
    """Return a call of a step's function for another thread, in the context of this one."""
    return partial(contextvars.copy_context().run, step.function, *args, **kwargs)


def _limit(caller: Caller, step: StepFunction, workflow: Scope, attempt: Attempt) -> TimeLimit:
    seconds = step.timeout_seconds
    assert seconds is not None

    def give_up() -> DBOSStepTimeoutError:
        attempt.over = True  # At once, so that the thread writes no more: the workflow may continue later.
        return DBOSStepTimeoutError(step.name, workflow.run.workflow_id, attempt.number, seconds)

    return TimeLimit(current_host().workers, caller.engine.timers, seconds, give_up, workflow.port.chain.check_alive)


class _attempting:  # noqa: N801  (read as a function)
    """Makes its block an attempt of a step. The attempt ends with the block, even if its thread still runs.

    Not a generator's context manager: that sets the traceback of a raised error, and some errors are frozen.
    """

    __slots__ = ("_attempt", "_standing", "_step", "_workflow")

    def __init__(self, step: StepFunction, workflow: Scope, slot: Slot, number: int) -> None:
        self._step = step
        self._workflow = workflow
        self._attempt = Attempt(step.name, slot, number, step.policy.max_attempts)

    def __enter__(self) -> Attempt:
        workflow, attempt = self._workflow, self._attempt
        workflow.port.begin_step(self._step.name)
        self._standing = inside(Scope(workflow.run, workflow.port, workflow.branch, attempt))
        self._standing.__enter__()
        return attempt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, asyncio.CancelledError):
                _say_if_cut_off()
        finally:
            self._attempt.over = True
            self._workflow.port.end_step(self._step.name)
            self._standing.__exit__(kind, error, traceback)


def _say_if_cut_off() -> None:
    """Log it if a step was cancelled because its event loop is closing."""
    with contextlib.suppress(RuntimeError):  # A `def` function raised it, in a thread without a loop.
        loop = asyncio.get_running_loop()
        if is_closing(loop) and is_running():
            current_host().loop_closes(loop)


# --- whether to try again -----------------------------------------------------------------------------


def ask_retry(decide: Decide, workflow: Scope, slot: Slot, error: BaseException) -> Any:
    """Call a step's `should_retry`, which may call no operation."""
    with inside(_deciding(decide, workflow, slot)):
        return _finish(decide(error), workflow)


async def ask_retry_async(decide: Decide, workflow: Scope, slot: Slot, error: BaseException) -> Any:
    """Call a step's `should_retry`, and await its answer if necessary."""
    with inside(_deciding(decide, workflow, slot)):
        answer = decide(error)
        return await answer if isawaitable(answer) else answer


def _deciding(decide: Decide, workflow: Scope, slot: Slot) -> Scope:
    decision = RetryDecision(getattr(decide, "__qualname__", repr(decide)), slot)
    return Scope(workflow.run, workflow.port, workflow.branch, decision)
