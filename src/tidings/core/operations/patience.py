"""What an operation does itself, with no user code in it: to store or rebuild a value, say.

Where the process lacks something for that, the operation waits and tries again. The code of the workflow sees
nothing of it, and no such error is ever recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tidings.core.effects import LACK, Due, Operation, Wait
from tidings.shortage import is_shortage

P = ParamSpec("P")
T = TypeVar("T")


def patiently(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
    """Return what `function` gives, however often that takes. It must do no harm when it is called again."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if not is_shortage(error):
            raise
        lack = error
    with (yield LACK) as lasting:
        while True:
            yield Wait(due=Due(lasting.pause_ms(lack)))
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if not is_shortage(error):
                    raise
                lack = error
