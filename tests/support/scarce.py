"""Shortages of a process during a block: threads, descriptors, memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from tests.support.app import Sightings

# The threads that execute workflows and steps. The tests and the engine can still start theirs.
EXECUTING = ("tidings-worker", "tidings-step", "tidings-loop")


@contextlib.contextmanager
def no_threads(*names: str) -> Iterator[Sightings]:
    """Refuse to start threads with these names; by default all that execute workflows and steps.

    Each refusal is noted.
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
