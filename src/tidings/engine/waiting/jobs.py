"""What the committer gets: jobs (units on their way to the store), and errands for the writing connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tidings.core.effects import Tell
from tidings.engine.waiting.ticket import Ticket
from tidings.model import Unit
from tidings.store.protocol import Store

# How much each cancelled workflow adds to the size of its unit.
_BYTES_PER_CANCELLED = 1_000


class Sender(Protocol):
    """The chain of a job. It says whether its units may still commit, and keeps the first failure."""

    dead: BaseException | None
    failure: BaseException | None

    def refusal(self) -> BaseException | None:
        """Return why no unit of this chain may commit now; `None` if one may."""

    def kill(self, error: BaseException) -> None:
        """Refuse everything from now on."""


class Job(Ticket):
    """A unit on its way to the store. Settled with its answer when it is durable."""

    __slots__ = ("begun", "chain", "size", "unit", "wakes", "withdrawn")

    def __init__(self, unit: Unit, chain: Sender, wakes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.unit = unit
        self.chain = chain
        self.wakes = wakes
        self.size = _size(unit)
        self.begun = False
        self.withdrawn = False


class ToldJob(Job):
    """A job with a callback. `tell` gets the answer before any waiter wakes, and before a later batch commits."""

    __slots__ = ("_tell",)

    def __init__(self, unit: Unit, chain: Sender, wakes: tuple[str, ...], tell: Tell) -> None:
        super().__init__(unit, chain, wakes)
        self._tell: Tell | None = tell

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        tell, self._tell = self._tell, None  # The callback refers to the run, and the run to this job.
        if tell is not None:
            tell(value if error is None else None)
        return super()._finish(value, error)


class Errand(Ticket):
    """Something else to do on the writing connection. Settled with the result of `function`."""

    __slots__ = ("function", "parks")

    def __init__(self, function: Callable[[Store], Any], *, parks: bool = False) -> None:
        super().__init__()
        self.function = function
        self.parks = parks


def _size(unit: Unit) -> int:
    """Estimate the bytes of a unit; characters are close enough."""
    size = 200
    if unit.entry is not None:
        size += len(unit.entry.output or "") + len(unit.entry.error or "")
    if unit.event is not None:
        size += len(unit.event.value)
    if unit.item is not None:
        size += len(unit.item.value)
    if unit.start is not None:
        size += len(unit.start.inputs)
    if unit.outcome is not None:
        size += len(unit.outcome.output or "") + len(unit.outcome.error or "")
    for message in unit.messages:
        size += len(message.body) + 200
    if unit.cancels:
        size += len(unit.cancels) * _BYTES_PER_CANCELLED
    return size
