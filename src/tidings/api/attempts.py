"""One try of a step: where it runs, what it stands in, and what it may take; and asking whether there is another.

Without a time limit a blocking step runs where it was called. With one it runs in a thread of its
own, because nothing can interrupt it where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from inspect import isawaitable
from typing import Any

from tidings.api.caller import Caller, current_host, is_running
from tidings.core.history import Slot
from tidings.engine.loops import is_closing, running_loop
from tidings.engine.registry import StepFunction
from tidings.engine.scope import Attempt, Decision, Scope, current, standing
from tidings.engine.thread_calls import in_calling_thread
from tidings.engine.within import TimeLimit
from tidings.error import DBOSStepTimeoutError

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Try = Callable[[Scope, Slot, int], Any]
Attempting = Callable[[Caller, StepFunction, Args, Kwargs], Try]
Decide = Callable[[BaseException], Any]
Asking = Callable[[Decide, Scope, Slot, BaseException], Any]


def blocking_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return what tries a step, for a workflow that blocks. An async function runs on an event loop meanwhile."""
    if step.timeout_seconds is None:
        return partial(_call, step, args, kwargs)
    if step.is_async:
        return partial(_finish_within, caller, step, args, kwargs)
    return partial(_call_within, caller, step, args, kwargs)


def awaiting_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return what tries a step, for a workflow that awaits."""
    if step.is_async and step.timeout_seconds is None:
        return partial(_await, step, args, kwargs)
    if step.is_async:
        return partial(_await_within, caller, step, args, kwargs)
    if step.timeout_seconds is None:
        return partial(_await_in_thread, step, args, kwargs)
    return partial(_await_in_thread_within, caller, step, args, kwargs)


def threaded_attempt(caller: Caller, step: StepFunction, args: Args, kwargs: Kwargs) -> Try:
    """Return what tries a step that was called in a thread which a workflow awaits: there, if that can be."""
    if step.is_async or step.timeout_seconds is not None:
        return awaiting_attempt(caller, step, args, kwargs)
    return partial(_await_in_calling_thread, step, args, kwargs)


def _call(step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int) -> Any:
    with _attempting(step, workflow, slot, number):
        return _finish(step.function(*args, **kwargs), workflow)


def _finish(value: Any, workflow: Scope) -> Any:
    """Return the value that a function gave; what can be awaited is, where that holds no event loop up."""
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
    """Try a `def` function in a worker thread. It may give an awaitable, which is awaited here."""
    with _attempting(step, workflow, slot, number):
        value = await current_host().workers.call(_in_this_context(step, args, kwargs))
        return await value if isawaitable(value) else value


async def _await_in_calling_thread(
    step: StepFunction, args: Args, kwargs: Kwargs, workflow: Scope, slot: Slot, number: int
) -> Any:
    with _attempting(step, workflow, slot, number):
        here = current()

        def call() -> Any:
            with standing(here):
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
    """Return the call of a step's function, to be made in another thread."""
    return partial(contextvars.copy_context().run, step.function, *args, **kwargs)


def _limit(caller: Caller, step: StepFunction, workflow: Scope, attempt: Attempt) -> TimeLimit:
    seconds = step.timeout_seconds
    assert seconds is not None

    def give_up() -> DBOSStepTimeoutError:
        attempt.over = True  # Now: the workflow may have to wait before it can go on.
        return DBOSStepTimeoutError(step.name, workflow.run.workflow_id, attempt.number, seconds)

    return TimeLimit(current_host().workers, caller.engine.timers, seconds, give_up, workflow.port.chain.check_alive)


@contextlib.contextmanager
def _attempting(step: StepFunction, workflow: Scope, slot: Slot, number: int) -> Iterator[Attempt]:
    """Stand in an attempt of a step. It is over at the end of the block, though a thread may still run."""
    attempt = Attempt(step.name, slot, number)
    workflow.port.begin_step(step.name)
    with standing(Scope(workflow.run, workflow.port, workflow.branch, attempt)):
        try:
            yield attempt
        except asyncio.CancelledError:
            _say_if_cut_off()
            raise
        finally:
            attempt.over = True
            workflow.port.end_step(step.name)


def _say_if_cut_off() -> None:
    """Let the log say so if a step was cancelled because its event loop is being closed."""
    with contextlib.suppress(RuntimeError):  # A `def` function raised it, in a thread without a loop.
        loop = asyncio.get_running_loop()
        if is_closing(loop) and is_running():
            current_host().loop_closes(loop)


# --- whether to try again -----------------------------------------------------------------------------


def asking(decide: Decide, workflow: Scope, slot: Slot, error: BaseException) -> Any:
    """Ask a step's `should_retry`, where no operation may be called."""
    with standing(_deciding(decide, workflow, slot)):
        return _finish(decide(error), workflow)


async def asking_async(decide: Decide, workflow: Scope, slot: Slot, error: BaseException) -> Any:
    """Ask a step's `should_retry`, and await what it answers."""
    with standing(_deciding(decide, workflow, slot)):
        answer = decide(error)
        return await answer if isawaitable(answer) else answer


def _deciding(decide: Decide, workflow: Scope, slot: Slot) -> Scope:
    decision = Decision(getattr(decide, "__qualname__", repr(decide)), slot)
    return Scope(workflow.run, workflow.port, workflow.branch, decision)
