"""The retry options of steps: checks them together, and refuses options that have no effect.

A step is retried only with `retries_allowed=True`. Without it the other options have no effect. If they switched
retries on, a step would run more often than its author has ever seen. If they were ignored, the author would rely on
retries that never happen. So they are refused, and the error says what to write.

Three cases are not refused: `retries_allowed=False` is a decision, passing the default pause or rate asks for nothing,
and `max_attempts=1` means what it says.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypedDict

from tidings.core.retry import NO_RETRIES, RetryPolicy
from tidings.limits import Seconds, check_seconds
from tidings.slips import plainly

ShouldRetry = Callable[[BaseException], bool | Awaitable[bool]]


class _Default(int):
    """A default, which differs from the same number given by a program."""


DEFAULT_ATTEMPTS: Final = _Default(3)
DEFAULT_INTERVAL_SECONDS: Final = 1.0
DEFAULT_BACKOFF_RATE: Final = 2.0


class RetryOptions(TypedDict, total=False):
    """Options that say whether and how a step is retried. `@DBOS.step` describes them."""

    retries_allowed: bool | None
    interval_seconds: Seconds
    max_attempts: int
    backoff_rate: float
    should_retry: ShouldRetry | None


def policy_from(given: RetryOptions, step: str, write: Callable[[dict[str, Any]], str]) -> RetryPolicy:
    """Return the retry policy of a step.

    Args:
        given: its options.
        step: its name.
        write: returns the code of a step with the options that it is given, for errors.

    Raises:
        TypeError, ValueError: an option has a bad value, or has no effect without another one.
    """
    what = f"step {step!r}: "
    allowed = given.get("retries_allowed")
    attempts = given.get("max_attempts", DEFAULT_ATTEMPTS)
    interval = check_seconds(given.get("interval_seconds", DEFAULT_INTERVAL_SECONDS), f"{what}interval_seconds")
    backoff_rate = given.get("backoff_rate", DEFAULT_BACKOFF_RATE)
    should_retry = given.get("should_retry")
    _check(what, allowed, attempts, backoff_rate, should_retry)
    policy = RetryPolicy(int(attempts), interval, backoff_rate, should_retry)
    if allowed:
        return policy
    if allowed is None:
        _refuse_in_vain(policy, step, write, is_default=isinstance(attempts, _Default))
    return NO_RETRIES


def _check(what: str, allowed: object, attempts: object, backoff_rate: object, should_retry: object) -> None:
    if allowed is not None and not isinstance(allowed, bool):
        raise TypeError(f"{what}retries_allowed must be True or False, not {plainly(allowed)}")
    if type(attempts) not in (int, _Default):
        raise TypeError(f"{what}max_attempts must be a whole number, not {plainly(attempts)}")
    if int(attempts) < 1:  # type: ignore[call-overload]
        raise ValueError(f"{what}max_attempts must be 1 or more, not {attempts}")
    if isinstance(backoff_rate, bool) or not isinstance(backoff_rate, (int, float)):
        raise TypeError(f"{what}backoff_rate must be a number, not {plainly(backoff_rate)}")
    if not 0 <= backoff_rate < math.inf:  # This refuses NaN too.
        raise ValueError(f"{what}backoff_rate must be 0 or more, and finite, not {backoff_rate}")
    if isinstance(should_retry, type) and issubclass(should_retry, BaseException):
        name = should_retry.__name__
        raise TypeError(
            f"{what}should_retry must be a function that gets the error, not the class {name}: write "
            f"should_retry=lambda error: isinstance(error, {name})"
        )
    if should_retry is not None and not callable(should_retry):
        raise TypeError(f"{what}should_retry must be a function, not {plainly(should_retry)}")


def _refuse_in_vain(
    policy: RetryPolicy, step: str, write: Callable[[dict[str, Any]], str], *, is_default: bool
) -> None:
    """Refuse options that ask for retries, although the step is not retried."""
    in_vain: dict[str, Any] = {}
    if policy.max_attempts > 1 and not is_default:
        in_vain["max_attempts"] = policy.max_attempts
    if policy.interval_seconds != DEFAULT_INTERVAL_SECONDS:
        in_vain["interval_seconds"] = policy.interval_seconds
    if policy.backoff_rate != DEFAULT_BACKOFF_RATE:
        in_vain["backoff_rate"] = policy.backoff_rate
    if policy.should_retry is not None:
        in_vain["should_retry"] = ...
    if in_vain:
        names, does = " and ".join(in_vain), "does" if len(in_vain) == 1 else "do"
        raise ValueError(
            f"step {step!r}: {names} {does} nothing without retries_allowed=True, because the step is tried once. "
            f"Write {write({'retries_allowed': True} | in_vain)}, or leave {names} out"
        )


def as_keywords(options: dict[str, Any]) -> str:
    """Write a decorated step with these options."""
    return f"@DBOS.step({', '.join(f'{name}={_text(value)}' for name, value in options.items())})"


def as_dict(options: dict[str, Any]) -> str:
    """Write a call of `DBOS.run_step` with these options."""
    return f"DBOS.run_step({{{', '.join(f'{name!r}: {_text(value)}' for name, value in options.items())}}}, ...)"


def _text(value: object) -> str:
    return "..." if value is ... else f"{value:g}" if isinstance(value, float) else f"{value!r:.20}"
