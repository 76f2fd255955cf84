"""A step: user code whose result is recorded, and that is retried as its policy says.

Before the code runs, everything that the run handed over earlier is durable. So no outside effect is
seen before an earlier event. A step with a recorded result never runs again. A step without one runs
again after a crash, hence *at least once*. A try that takes longer than its time limit fails with an
ordinary error. The caller of the code raises it (`engine.runs.within`), because this layer has no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tidings.core.effects import BARRIER, NOW, Abandoned, Call, Commit, Due, Failed, Operation, Wait
from tidings.core.history import NOTHING_CLOSED, Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import recorded
from tidings.core.retry import RetryPolicy
from tidings.error import DBOSLimitError, DBOSMaxStepRetriesExceeded, DBOSSerializationError
from tidings.serialization import Serializer, dump, dump_error

TellRetry = Callable[[int, BaseException, float], None]  # number of the failed try, its error, pause in seconds


def step(
    slot: Slot, attempt: Callable[[int], Any], policy: RetryPolicy, tell_retry: TellRetry | None = None
) -> Operation[Any]:
    """Run `attempt(number)` until it succeeds or may not be retried; record how it ended.

    `tell_retry` is called before each pause.
    """
    return recorded(slot, _step(slot, attempt, policy, tell_retry))


def _step(
    slot: Slot, attempt: Callable[[int], Any], policy: RetryPolicy, tell_retry: TellRetry | None
) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started: int = yield NOW
    errors: list[BaseException] = []
    failure: BaseException
    while True:
        number = len(errors) + 1
        slot.closes = NOTHING_CLOSED
        try:
            value = yield Call(partial(attempt, number))
        except Exception as error:
            failure = error
        else:
            try:
                output = yield from patiently(dump, run.serializer, value, f"the result of step {slot.name!r}")
            except (DBOSSerializationError, DBOSLimitError) as error:
                failure = error  # The step has run: a retry would not make its result storable.
                break
            yield from _complete(slot, started, output)
            return value
        errors.append(failure)
        if policy.should_retry is not None:
            try:
                may_retry = yield Call(partial(policy.should_retry, failure))
            except Exception as error:
                failure = error  # Python sets the step's own error as its `__context__`.
                break
            if not may_retry:
                break
        if number >= policy.max_attempts:
            if policy.max_attempts > 1:
                # Replace errors that cannot be stored, so that they do not hide that the retries are used up.
                kept = yield from patiently(_kept, run.serializer, errors)
                last, failure = failure, DBOSMaxStepRetriesExceeded(slot.name, policy.max_attempts, kept)
                failure.__context__ = last  # For the traceback in the log; it is not recorded.
            break
        pause_seconds = policy.pause_seconds(number)
        if tell_retry is not None:
            tell_retry(number, failure, pause_seconds)
        yield Wait(due=Due(round(pause_seconds * 1_000)))
    text, raised = yield from patiently(dump_error, run.serializer, failure)
    yield Commit(run.unit(slot.done(started, (yield NOW), error=text)))
    return Failed(raised)


def _kept(serializer: Serializer, errors: list[BaseException]) -> list[BaseException]:
    return [dump_error(serializer, each)[1] for each in errors]


def _complete(slot: Slot, started: int, output: str) -> Operation[None]:
    """Record the result and, in the same unit, the closing of streams."""
    run = slot.run
    closed = run.close_streams(slot.closes)
    try:
        yield Commit(run.unit(slot.done(started, (yield NOW), output=output), closes=tuple(slot.closes)))
    except Abandoned:
        run.reopen_streams(closed)  # The result was withdrawn, and the closing with it.
        raise
