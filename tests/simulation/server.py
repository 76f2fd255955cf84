"""The database of a simulation: one set of records, in memory, and who listens to what is committed.

What it holds and does is the model's (`tests.store.model_store`). It runs in no simulated thread: a request arrives, is
done at one moment of virtual time, and its answer goes back. So a process may die, or lose its connection, between its
request and the change, or between the change and the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from tests.simulation.primitives import EPOCH_SECONDS
from tests.simulation.scheduler import Scheduler
from tests.store.model_store import ModelStore
from tidings.model import Answer
from tidings.store.protocol import KEEP_EXECUTORS_MS, Batch
from tidings.store.wakes import audible


class Witness(Protocol):
    """Who sees every batch that lands."""

    def landed(self, batch: Batch, answers: Sequence[Answer]) -> None:
        """Look at a batch and what came of it."""

    def claimed_from(self, executor_ids: Collection[str]) -> None:
        """Look at whom a process takes for dead."""


class Hearer(Protocol):
    """A listener, as the server knows it."""

    executor_id: str

    def send(self, name: str) -> None:
        """Send it a name; it may get lost on the way."""


class Server(ModelStore):
    """The records that all simulated processes share."""

    def __init__(self, scheduler: Scheduler, witness: Witness) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._witness = witness
        self.hearers: list[Hearer] = []
        self.is_down = False
        self.ahead_seconds = 0.0  # of the time that passes: somebody has set its clock

    def now_ms(self) -> int:
        return int((EPOCH_SECONDS + self._scheduler.now + self.ahead_seconds) * 1_000)

    def commit(self, batch: Batch) -> list[Answer]:
        """Write a batch, let it be looked at, and tell the listeners."""
        answers = super().commit(batch)
        self._witness.landed(batch, answers)
        self._tell(batch.executor_id, batch.wakes)
        return answers

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """Remove an executor, and tell the listeners."""
        executor = self.records.executors.get(executor_id)
        super().retire(executor_id, fence, wakes)
        if executor is not None and executor.fence == fence:
            self._tell(executor_id, wakes)

    def _tell(self, by: str, names: Sequence[str]) -> None:
        for hearer in tuple(self.hearers):
            for name in audible(names, by, hearer.executor_id):
                hearer.send(name)

    def claim(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Take over from the dead. Their rows stay for a day: one may ask whether its last batch landed."""
        self._witness.claimed_from(args[1])
        executors, landed = dict(self.records.executors), dict(self.records.landed)
        claimed = super().claim(*args, **kwargs)
        for executor_id, row in executors.items():
            if executor_id not in self.records.executors and row.lease_until_ms + KEEP_EXECUTORS_MS > self.now_ms():
                self.records.executors[executor_id] = replace(row, fence=row.fence + 1)
                if executor_id in landed:
                    self.records.landed[executor_id] = landed[executor_id]
        return claimed


Call = Callable[[Server], Any]
