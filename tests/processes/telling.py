"""What a process of a test says and answers: lines of JSON on its output, calls on its input.

Each line of the input is a call: a number, a name and arguments. It is answered when the call returns, with the number.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tidings.engine.engine import Engine
from tidings.engine.hooks import Point

HOUR = 3_600.0
ONLY_HEARD: dict[str, Any] = {"recheck_seconds": HOUR, "polling_interval_seconds": HOUR}
_say_one = threading.Lock()


def say(what: str, *details: Any) -> None:
    """Say one line."""
    with _say_one:
        sys.stdout.write(json.dumps([what, *details]) + "\n")
        sys.stdout.flush()


def say_what_happens(engine: Engine) -> None:
    """From now on say what waits, and which runs are over."""
    engine.hooks.set(Point.WAITING, lambda arrival: say("waiting", list(arrival.keys) if arrival else []))
    engine.hooks.set(Point.RUN_ENDED, lambda workflow_id: say("ended", workflow_id))


def answer(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Make the calls that are asked for, each in a thread, until the input ends."""
    for line in sys.stdin:
        number, name, *arguments = json.loads(line)
        threading.Thread(target=_call, args=(calls[name], number, *arguments), daemon=True).start()


def _call(function: Callable[..., Any], number: int, *arguments: Any) -> None:
    """Make a call, and say what it returned or raised."""
    try:
        value = function(*arguments)
    except Exception as error:
        say("raised", number, type(error).__name__)
    else:
        say("returned", number, value)
