"""Retries for an operation's own work, such as storing or rebuilding a value.

If the process lacks something for that work (memory, say; see `shortage`), the operation waits and retries. The
workflow's code does not see this, and the error is never recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from tidings.core.effects import LACK, Due, Lack, Operation, Wait
from tidings.shortage import is_shortage

P = ParamSpec("P")
T = TypeVar("T")


def patiently(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
    """Call `function` until no shortage stops it, and return its value. Calling it again must be harmless."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if not is_shortage(error):
            raise
        lack = error
    return (yield from _again(LACK, partial(function, *args, **kwargs), lack))


def without(what: Lack, function: Callable[[], T]) -> Operation[T]:
    """Call `function` as `patiently` does; `what` names the work for the log."""
    try:
        return function()
    except Exception as error:
        if not is_shortage(error):
            raise
        lack = error
    return (yield from _again(what, function, lack))


def _again(what: Lack, function: Callable[[], T], lack: Exception) -> Operation[T]:
    with (yield what) as lasting:
        while True:
            yield Wait(due=Due(lasting.pause_ms(lack)))
            try:
                return function()
            except Exception as error:
                if not is_shortage(error):
                    raise
                lack = error
