"""The table of statuses, and the arithmetic of retries."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.core.effects import Barrier, Call, Commit, Due, Failed, Now, Wait
from tidings.core.history import Run
from tidings.core.operations.steps import step
from tidings.core.retry import MAX_INTERVAL_SECONDS, NO_RETRIES, RetryPolicy
from tidings.error import DBOSMaxStepRetriesExceeded
from tidings.lifecycle import FIRST, TRANSITIONS, has_ended, is_active, may_become
from tidings.model import APPLIED, Status
from tidings.serialization import JSONSerializer

# --- statuses --------------------------------------------------------------------------------------------


def test_every_status_is_in_the_table_and_only_pending_ever_changes() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert TRANSITIONS[Status.PENDING] == set(Status) - {Status.PENDING}
    for status in Status:
        assert has_ended(status) == (status is not Status.PENDING)
        assert has_ended(status) == (TRANSITIONS[status] == set())
        assert is_active(status) == may_become(status, Status.CANCELLED) == (status is FIRST)
    assert not is_active("of a newer version")
    assert not may_become("of a newer version", Status.CANCELLED)


# --- pauses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (RetryPolicy(5, 1.0, 2.0), [1, 2, 4, 8]),
        (RetryPolicy(5, 0.5, 3.0), [0.5, 1.5, 4.5, 13.5]),
        (RetryPolicy(5, 2.0, 1.0), [2, 2, 2, 2]),
        (RetryPolicy(5, 2.0, 0.0), [2, 0, 0, 0]),
        (RetryPolicy(5, 0.0, 2.0), [0, 0, 0, 0]),
        (RetryPolicy(5, 1_800.0, 2.0), [1_800, 3_600, 3_600, 3_600]),
    ],
)
def test_each_pause_is_the_former_times_the_rate(policy: RetryPolicy, pauses: list[float]) -> None:
    assert [policy.pause_seconds(failures) for failures in range(1, 5)] == pauses


@given(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_pause_is_never_negative_and_never_longer_than_an_hour(failures: int, interval: float, rate: float) -> None:
    assert 0 <= RetryPolicy(10, interval, rate).pause_seconds(failures) <= MAX_INTERVAL_SECONDS


# --- a step with retries -----------------------------------------------------------------------------------


def _walk(policy: RetryPolicy, outcomes: list[Any]) -> tuple[Any, list[float], int]:
    """Run a step whose tries end in `outcomes`; return its result, its pauses in seconds, and how often it tried."""
    run = Run("w", 1, "flow", JSONSerializer())
    now, pauses, tries = 1_000, [], 0

    def attempt(number: int) -> Any:
        nonlocal tries
        tries += 1
        assert number == tries
        outcome = outcomes[number - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    operation: Generator[Any, Any, Any] = step(run.begin(run.root, "step"), attempt, policy)
    effect = next(operation)
    while True:
        try:
            match effect:
                case Barrier():
                    effect = operation.send(None)
                case Now():
                    effect = operation.send(now)
                case Commit():
                    effect = operation.send(APPLIED)
                case Wait(None, Due(longest_ms=pause_ms)):
                    pauses.append(pause_ms / 1_000)
                    now += pause_ms
                    effect = operation.send(False)
                case Call(function):
                    try:
                        value = function()
                    except Exception as error:
                        effect = operation.throw(error)
                    else:
                        effect = operation.send(value)
                case _:
                    raise AssertionError(effect)
        except StopIteration as stop:
            return stop.value, pauses, tries


def test_a_step_is_tried_until_it_succeeds_with_a_pause_after_each_failure() -> None:
    result = _walk(RetryPolicy(5, 1.0, 2.0), [ValueError(1), ValueError(2), "third time"])
    assert result == ("third time", [1.0, 2.0], 3)


def test_a_step_that_fails_as_often_as_it_may_says_so_with_all_errors() -> None:
    errors = [ValueError(number) for number in range(3)]
    failed, pauses, tries = _walk(RetryPolicy(3, 1.0, 2.0), list(errors))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, DBOSMaxStepRetriesExceeded)
    assert [repr(error) for error in failed.error.errors] == [repr(error) for error in errors]
    assert (pauses, tries) == ([1.0, 2.0], 3)


def test_without_retries_the_error_is_the_steps_own() -> None:
    failed, pauses, tries = _walk(NO_RETRIES, [ValueError("only")])
    assert isinstance(failed, Failed)
    assert repr(failed.error) == "ValueError('only')"
    assert (pauses, tries) == ([], 1)


def test_who_is_asked_may_stop_the_tries() -> None:
    policy = RetryPolicy(10, 1.0, 2.0, should_retry=lambda error: "again" in str(error))
    failed, pauses, tries = _walk(policy, [ValueError("again"), KeyError("enough")])
    assert isinstance(failed, Failed)
    assert repr(failed.error) == "KeyError('enough')"
    assert (pauses, tries) == ([1.0], 2)


def test_a_result_that_cannot_be_stored_is_not_tried_again() -> None:
    failed, pauses, tries = _walk(RetryPolicy(10, 1.0, 2.0), [object()])
    assert isinstance(failed, Failed)
    assert "the result of step 'step'" in str(failed.error)
    assert (pauses, tries) == ([], 1)
