"""A step: user code whose result is recorded, tried again as its policy says.

Before the code runs, all that the run handed over earlier is durable, so no outside effect is ever
seen before an earlier event. A step that completed never runs again; one whose result was not yet
recorded runs again, hence *at least once*. A try that is not done in its time fails with an error
like any other: who calls the code sees to that (`engine.within`), because only there is a clock.
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


def step(slot: Slot, attempt: Callable[[int], Any], policy: RetryPolicy) -> Operation[Any]:
    """Run `attempt(number)` until it succeeds or may not be tried again; record how it ended."""
    return recorded(slot, _step(slot, attempt, policy))


def _step(slot: Slot, attempt: Callable[[int], Any], policy: RetryPolicy) -> Operation[Any]:
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
                failure = error  # The step has run: trying again would not make its result storable.
                break
            yield from _complete(slot, started, output)
            return value
        errors.append(failure)
        if policy.should_retry is not None:
            try:
                may_retry = yield Call(partial(policy.should_retry, failure))
            except Exception as error:
                failure = error  # Its context is the step's own error.
                break
            if not may_retry:
                break
        if number >= policy.max_attempts:
            if policy.max_attempts > 1:
                # Each as it can be kept: one that cannot must not hide what kind of failure this is.
                kept = yield from patiently(_kept, run.serializer, errors)
                failure = DBOSMaxStepRetriesExceeded(slot.name, policy.max_attempts, kept)
            break
        pause_ms = policy.pause_seconds(number) * 1_000
        yield Wait(due=Due(round(pause_ms)))
    text, raised = yield from patiently(dump_error, run.serializer, failure)
    yield Commit(run.unit(slot.done(started, (yield NOW), error=text)))
    return Failed(raised)


def _kept(serializer: Serializer, errors: list[BaseException]) -> list[BaseException]:
    return [dump_error(serializer, each)[1] for each in errors]


def _complete(slot: Slot, started: int, output: str) -> Operation[None]:
    """Record the result, and with it that streams are closed."""
    run = slot.run
    closed = run.close_streams(slot.closes)
    try:
        yield Commit(run.unit(slot.done(started, (yield NOW), output=output), closes=tuple(slot.closes)))
    except Abandoned:
        run.reopen_streams(closed)  # The result was withdrawn, and so is what takes effect with it.
        raise
