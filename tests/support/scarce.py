"""What a process may lack, for the length of a block: threads, descriptors, memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from tests.support.app import Sightings

# The threads that execute workflows and steps. Those of tests, and those of an engine, can be started.
EXECUTING = ("tidings-worker", "tidings-step", "tidings-loop")


@contextlib.contextmanager
def no_threads(*names: str) -> Iterator[Sightings]:
    """Let no thread of these names be started; all that execute workflows and steps, if none is given.

    What was refused is noted.
    """
    refused = Sightings()
    real_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name in (names or EXECUTING):
            refused.note(thread.name)
            raise RuntimeError("can't start new thread")
        real_start(thread)

    with patch.object(threading.Thread, "start", start):
        yield refused


@contextlib.contextmanager
def failing(owner: Any, name: str, error: Callable[[], BaseException]) -> Iterator[Sightings]:
    """Let each call of `owner.name` fail. The calls are noted."""
    refused = Sightings()

    def fail(*_: Any, **__: Any) -> Any:
        refused.note(name)
        raise error()

    with patch.object(owner, name, fail):
        yield refused
