"""Attempts of steps: where the code of a step runs, how long it may take, and whether it is tried again.

The API describes a call of a step (`StepCall`). `run_step` and `run_step_async` run it: the rules of a step
(`core.operations.steps`) ask for one attempt after the other, and for the answer of `should_retry`.

Each of the two forms has one function for an attempt. The blocking one runs the code in the calling thread, and an
async function on an event loop. With a time limit a plain function runs in a thread of its own, because the calling
thread could not leave it at the limit. The awaiting form runs a plain function in a worker thread, or in the thread
that called the step.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any

from msgspec import Struct

from tidings.core.effects import Operation
from tidings.core.history import Slot
from tidings.core.operations import steps
from tidings.engine.runs import reports
from tidings.engine.runs.coroutines import Coroutines
from tidings.engine.runs.drive import drive, drive_async
from tidings.engine.runs.loops import is_closing, running_loop
from tidings.engine.runs.registry import StepFunction
from tidings.engine.runs.scope import Attempt, RetryDecision, Scope, current, inside
from tidings.engine.runs.thread_calls import in_calling_thread
from tidings.engine.runs.within import TimeLimit
from tidings.engine.runs.workers import Workers
from tidings.engine.waiting.timers import Timers
from tidings.error import DBOSStepTimeoutError


class StepParts(Struct, frozen=True, kw_only=True):
    """The parts of a host that attempts use. `loop_closes` logs the steps that a closing event loop cuts off."""

    workers: Workers
    coroutines: Coroutines
    timers: Timers
    loop_closes: Callable[[asyncio.AbstractEventLoop], None]


class StepCall(Struct, frozen=True, kw_only=True):
    """A call of a step by the code of a workflow.

    `code` calls the step's function with its arguments. With `stays_in_thread` an async workflow awaits the thread that
    called the step, and a plain function without a time limit runs in that thread.
    """

    step: StepFunction
    code: Callable[[], Any]
    workflow: Scope
    slot: Slot
    parts: StepParts
    stays_in_thread: bool = False


def run_step(call: StepCall) -> Any:
    """Run a step, blocking this thread."""
    return drive(_operation(call, _attempt, _ask_retry), call.workflow.port)


def run_step_async(call: StepCall) -> Coroutine[Any, Any, Any]:
    """Run a step, awaiting its attempts."""
    return drive_async(_operation(call, _attempt_async, _ask_retry_async), call.workflow.port)


def _operation(
    call: StepCall, attempt: Callable[[StepCall, int], Any], ask_retry: Callable[[StepCall, BaseException], Any]
) -> Operation[Any]:
    policy = call.step.policy
    if policy.should_retry is not None:
        policy = dataclasses.replace(policy, should_retry=partial(ask_retry, call))
    return steps.step(
        call.slot,
        partial(attempt, call),
        policy,
        partial(reports.tries_again, call.workflow.run, call.step.name, policy.max_attempts),
    )


# --- one attempt ---------------------------------------------------------------------------------------


def _attempt(call: StepCall, number: int) -> Any:
    """Try a step, blocking this thread."""
    with _attempting(call, number) as attempt:
        limit = _limit(call, attempt)
        if limit is None:
            return _finish(call, call.code())
        if call.step.is_async:
            return _finish(call, limit.await_call(call.code))
        return limit.call(_in_this_context(lambda: _finish(call, call.code())))


async def _attempt_async(call: StepCall, number: int) -> Any:
    """Try a step, awaiting its code. If a plain function returns an awaitable, that is awaited here."""
    with _attempting(call, number) as attempt:
        limit = _limit(call, attempt)
        if call.step.is_async:
            return await (call.code() if limit is None else limit.await_call(call.code))
        if limit is not None:
            return await limit.await_in_thread(_in_this_context(call.code))
        if call.stays_in_thread:
            value = await in_calling_thread(_in_this_scope(call.code))
        else:
            value = await call.parts.workers.call(_in_this_context(call.code))
        return await value if isawaitable(value) else value


def _finish(call: StepCall, value: Any) -> Any:
    """Return a function's value. An awaitable is run to its end first, unless that would block an event loop."""
    if isawaitable(value) and running_loop() is None:
        return call.parts.coroutines.finish(value, call.workflow.port)
    return value


def _in_this_context(code: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function for another thread that calls `code` in the context of this one."""
    return partial(contextvars.copy_context().run, code)


def _in_this_scope(code: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function for the thread that called the step: it calls `code` in that context, but in this scope."""
    here = current()

    def run() -> Any:
        with inside(here):
            return code()

    return run


def _limit(call: StepCall, attempt: Attempt) -> TimeLimit | None:
    seconds = call.step.timeout_seconds
    if seconds is None:
        return None
    workflow = call.workflow

    def give_up() -> DBOSStepTimeoutError:
        attempt.over = True  # At once, so that the thread writes no more: the workflow may continue later.
        return DBOSStepTimeoutError(attempt.name, workflow.run.workflow_id, attempt.number, seconds)

    return TimeLimit(
        workers=call.parts.workers,
        timers=call.parts.timers,
        seconds=seconds,
        give_up=give_up,
        check=workflow.port.chain.check_alive,
    )


class _attempting:  # noqa: N801  (read as a function)
    """Makes its block an attempt of a step. The attempt ends with the block, even if its thread still runs.

    Not a generator's context manager: that sets the traceback of a raised error, and some errors are frozen.
    """

    __slots__ = ("_attempt", "_call", "_standing")

    def __init__(self, call: StepCall, number: int) -> None:
        self._call = call
        self._attempt = Attempt(call.step.name, call.slot, number, call.step.policy.max_attempts)

    def __enter__(self) -> Attempt:
        workflow, attempt = self._call.workflow, self._attempt
        workflow.port.begin_step(attempt.name)
        self._standing = inside(Scope(workflow.run, workflow.port, workflow.branch, attempt))
        self._standing.__enter__()
        return attempt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, asyncio.CancelledError):
                self._say_if_cut_off()
        finally:
            self._attempt.over = True
            self._call.workflow.port.end_step(self._attempt.name)
            self._standing.__exit__(kind, error, traceback)

    def _say_if_cut_off(self) -> None:
        """Log it if a step was cancelled because its event loop is closing."""
        with contextlib.suppress(RuntimeError):  # A `def` function raised it, in a thread without a loop.
            loop = asyncio.get_running_loop()
            if is_closing(loop):
                self._call.parts.loop_closes(loop)


# --- whether to try again -----------------------------------------------------------------------------


def _ask_retry(call: StepCall, error: BaseException) -> Any:
    """Call a step's `should_retry`, which may call no operation."""
    with _deciding(call):
        return _finish(call, _should_retry(call, error))


async def _ask_retry_async(call: StepCall, error: BaseException) -> Any:
    """Call a step's `should_retry`, and await its answer if necessary."""
    with _deciding(call):
        answer = _should_retry(call, error)
        return await answer if isawaitable(answer) else answer


def _should_retry(call: StepCall, error: BaseException) -> Any:
    should_retry = call.step.policy.should_retry
    assert should_retry is not None
    return should_retry(error)


def _deciding(call: StepCall) -> inside:
    """Make the block the call of a step's `should_retry`."""
    should_retry, workflow = call.step.policy.should_retry, call.workflow
    decision = RetryDecision(getattr(should_retry, "__qualname__", repr(should_retry)), call.slot)
    return inside(Scope(workflow.run, workflow.port, workflow.branch, decision))
