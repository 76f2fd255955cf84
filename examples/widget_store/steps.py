"""The steps of both programs: they retry patiently, and the tour can kill them between their work and its record."""

import functools
import os
import signal
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from examples.widget_store.settings import settings
from examples.widget_store.timeline import Colour, tell
from tidings import DBOS

P = ParamSpec("P")
R = TypeVar("R")


def patient_step(*, max_attempts: int = 1000) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a step that is retried while the other program, or a database, is unavailable.

    Args:
        max_attempts: 9 attempts take about 5 s, 1000 about 40 days: the pauses grow to an hour.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        retried = DBOS.step(retries_allowed=True, interval_seconds=0.1, backoff_rate=1.5, max_attempts=max_attempts)
        return retried(_die_after(function))

    return decorate


def _die_after(function: Callable[P, R]) -> Callable[P, R]:
    """For the tour: let the power fail after this step's work, but before its record."""

    @functools.wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R:
        result = function(*args, **kwargs)
        if settings().die_after == function.__name__:
            tell(f"the power fails: {function.__name__} is done, but not recorded", colour=Colour.RED)
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return work
