"""A store that fails on purpose: it kills, loses connections, refuses data and pauses where a test says.

It stands between an engine and a real store. Nothing in it is random: a `Trap` says at which call of
which method, before or after the real one, what happens. Once a trap has killed, the store is that of
a dead process: nothing more can be written through it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn, TypeVar

from msgspec.structs import replace

from tidings.model import (
    Answer,
    EventRead,
    Executor,
    ExecutorState,
    History,
    PendingGroup,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store.protocol import PROBE, Batch, DataError, Fenced, Listener, Store, Unavailable

T = TypeVar("T")

# A test that waits this long has failed: nothing here takes more than a moment.
# For a machine that has other things to do: what is to come soon comes, only late. The watchdog waits still longer.
PATIENCE_SECONDS = 300.0


class Killed(BaseException):
    """The process has died here."""


class Moment(Enum):
    """When a trap springs: before the real call, or after it, when it is durable."""

    BEFORE = "before"
    AFTER = "after"


class Gate:
    """Holds a thread that comes by until the test opens it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, *_: object) -> None:
        """Stand here until the gate is open."""
        self._reached.set()
        assert self._opened.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def await_reached(self) -> None:
        """Wait until a thread stands at the gate."""
        assert self._reached.wait(PATIENCE_SECONDS), "nobody came to the gate"

    @property
    def is_reached(self) -> bool:
        """Whether a thread has come to the gate."""
        return self._reached.is_set()

    def open(self) -> None:
        """Let through whoever stands here, and all that come later."""
        self._opened.set()


@dataclass(slots=True)
class Trap:
    """What happens at some calls.

    Attributes:
        act: raises, or blocks, or notes.
        on: the method; `None` means each that writes.
        moment: before or after the real call.
        number: at which call of that method (or of all that write), counted from 1; `None`: at each.
        where: only at a commit whose batch this accepts.
        times: how often it springs.
        sprung: how often it has sprung.
    """

    act: Callable[[], None]
    on: str | None = "commit"
    moment: Moment = Moment.BEFORE
    number: int | None = None
    where: Callable[[Batch], bool] | None = None
    times: int | None = 1
    sprung: int = field(default=0, compare=False)

    def springs(self, on: str, moment: Moment, number: int, batch: Batch | None) -> bool:
        """Tell whether it springs at this call, and count it."""
        if self.on not in (None, on) or moment is not self.moment or self.sprung == self.times:
            return False
        if self.number not in (None, number):
            return False
        if self.where is not None and (batch is None or not self.where(batch)):
            return False
        self.sprung += 1
        return True


class FaultyStore:
    """A `Store` that does what another one does, except where a trap is set."""

    def __init__(self, inner: Store, *traps: Trap) -> None:
        self.inner = inner
        self.identity = inner.identity
        self.traps = list(traps)
        self.killed = False
        self.batches: list[Batch] = []  # those that were committed, in order
        self.calls: Counter[str | None] = Counter()  # of each method; under None, of all that write
        self.is_audible: Callable[[str], bool] = lambda name: True  # which names its listeners hear
        self._lock = threading.Lock()
        self._is_poison: Callable[[Unit], bool] = lambda unit: False

    # --- setting traps ----------------------------------------------------------------------------

    def set(self, trap: Trap) -> Trap:
        """Set one more trap, which counts calls from the first one on."""
        self.traps.append(trap)
        return trap

    def kill(self) -> NoReturn:
        """Die: nothing more is written by this engine."""
        self.killed = True
        raise Killed

    def kill_at(self, number: int, moment: Moment) -> Trap:
        """Die at the nth call that writes."""
        return self.set(Trap(self.kill, on=None, moment=moment, number=number))

    def lose(
        self,
        on: str = "commit",
        *,
        landed: bool | None = None,
        number: int | None = None,
        where: Callable[[Batch], bool] | None = None,
        times: int | None = 1,
    ) -> Trap:
        """Lose the connection: before anything happened, or in COMMIT, when it `landed` or not."""
        ambiguous = landed is not None

        def act() -> None:
            raise Unavailable("the connection was lost", ambiguous=ambiguous)

        moment = Moment.AFTER if landed else Moment.BEFORE
        return self.set(Trap(act, on=on, moment=moment, number=number, where=where, times=times))

    def poison(self, is_poison: Callable[[Unit], bool]) -> None:
        """Refuse the data of these units, always; as a database does, after the fence was found in its place."""
        self._is_poison = is_poison

    def hold(
        self,
        on: str = "commit",
        *,
        moment: Moment = Moment.BEFORE,
        number: int | None = None,
        where: Callable[[Batch], bool] | None = None,
    ) -> Gate:
        """Hold the next such call at a gate."""
        gate = Gate()
        self.set_gate(gate, on, moment=moment, number=number, where=where)
        return gate

    def set_gate(
        self,
        gate: Gate,
        on: str = "commit",
        *,
        moment: Moment = Moment.BEFORE,
        number: int | None = None,
        where: Callable[[Batch], bool] | None = None,
    ) -> None:
        """Hold the next such call at this gate."""
        # In front of what raises: who is held is held before anything else happens.
        self.traps.insert(0, Trap(gate, on=on, moment=moment, number=number, where=where))

    # --- writing ------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        def write() -> list[Answer]:
            if any(map(self._is_poison, batch.units)):
                found = self.inner.refence(batch.executor_id)
                if found is not None and found.fence == batch.fence:
                    raise DataError("this cannot be stored")
            answers = self.inner.commit(batch)
            self.batches.append(batch)
            return answers

        return self._write("commit", write, batch)

    def recall(self, batch: Batch) -> list[Answer] | None:
        return self._read("recall", lambda: self.inner.recall(batch))

    def reconnect(self) -> None:
        self._read("reconnect", self.inner.reconnect)

    def enlist(self, executor: Executor) -> int:
        return self._read("enlist", lambda: self.inner.enlist(executor))

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        self._read("retire", lambda: self.inner.retire(executor_id, fence, wakes))

    def refence(self, executor_id: str) -> ExecutorState | None:
        return self._read("refence", lambda: self.inner.refence(executor_id))

    def claim(
        self, executor: Executor, dead: Collection[str], names: Collection[str], app_version: str, limit: int
    ) -> list[WorkflowRecord]:
        return self._write("claim", lambda: self.inner.claim(executor, dead, names, app_version, limit))

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        return self._write("reclaim", lambda: self.inner.reclaim(executor, workflow_ids))

    # --- reading, and the rest ------------------------------------------------------------------------

    def migrate(self) -> None:
        self.inner.migrate()

    def connect(self) -> None:
        self.inner.connect()

    def close(self) -> None:
        self._read("close", self.inner.close)

    def now_ms(self) -> int:
        return self._read("now_ms", self.inner.now_ms)

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        return self._read("histories", lambda: self.inner.histories(workflow_ids))

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        return self._read("workflows", lambda: self.inner.workflows(workflow_ids))

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        return self._read("latest_events", lambda: self.inner.latest_events(keys))

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        return self._read("all_events", lambda: self.inner.all_events(workflow_id))

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        return self._read("read_streams", lambda: self.inner.read_streams(wanted, limit, max_bytes))

    def executors(self) -> list[Executor]:
        return self._read("executors", self.inner.executors)

    def pending_groups(self) -> list[PendingGroup]:
        return self._read("pending_groups", self.inner.pending_groups)

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        return self._read("statuses", lambda: self.inner.statuses(workflow_ids))

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        return self._read("list_workflows", lambda: self.inner.list_workflows(wanted))

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        return self._read("steps", lambda: self.inner.steps(workflow_id, limit, offset, with_outputs))

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        return self._read("messages", lambda: self.inner.messages(workflow_id, limit, offset))

    def reconnect_reader(self) -> None:
        self._read("reconnect_reader", self.inner.reconnect_reader)

    # --- hearing --------------------------------------------------------------------------------------

    def listen(self, executor_id: str) -> Listener:
        return FaultyListener(self, self._read("listen", lambda: self.inner.listen(executor_id)))

    # --- springing traps ------------------------------------------------------------------------------

    def _write(self, on: str, call: Callable[[], T], batch: Batch | None = None) -> T:
        return self._do(on, call, batch, counted=(on, None))

    def _read(self, on: str, call: Callable[[], T]) -> T:
        return self._do(on, call, None, counted=(on,))

    def _do(self, on: str, call: Callable[[], T], batch: Batch | None, counted: tuple[str | None, ...]) -> T:
        with self._lock:
            self.calls.update(counted)
            numbers = {name: self.calls[name] for name in counted}
        if self.killed and (on == "retire" or None in counted):
            raise Killed
        self._spring(on, Moment.BEFORE, numbers, batch)
        answer = call()
        self._spring(on, Moment.AFTER, numbers, batch)
        return answer

    def _spring(self, on: str, moment: Moment, numbers: dict[str | None, int], batch: Batch | None) -> None:
        for trap in tuple(self.traps):
            if trap.on in numbers and trap.springs(on, moment, numbers[trap.on], batch):
                trap.act()


class FaultyListener:
    """A listener that hears only what its store lets through, and loses its connection where a trap says."""

    def __init__(self, store: FaultyStore, inner: Listener) -> None:
        self._store = store
        self._inner = inner
        self.obstacle = inner.obstacle

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        def hear() -> list[str]:
            return [name for name in self._inner.hear(timeout_seconds, is_awaited) if self._store.is_audible(name)]

        return self._store._read("hear", hear)

    def interrupt(self) -> None:
        self._inner.interrupt()

    def close(self) -> None:
        self._inner.close()


def hears_nothing(name: str) -> bool:
    """What gets through behind a pooler in transaction mode."""
    return False


def hears_only_probes(name: str) -> bool:
    """What gets through where every hint is lost, and nobody can know."""
    return name.startswith(PROBE)


def move_fence(
    store: Store,
    executor_id: str,
    *,
    names: Sequence[str],
    version: str,
    lease_until_ms: int = 0,
    lease_ms: int = 10_000,
) -> list[WorkflowRecord]:
    """Claim from an executor that is taken for dead, as another process would; raises its fence.

    The claimer is never heard of again: after `lease_ms` others take over from it.
    """
    program = next((each.program for each in store.executors() if each.executor_id == executor_id), None)
    claimer = Executor("claimer", "claimer", lease_until_ms, 0, lease_ms, program=program)
    claimer = replace(claimer, fence=store.enlist(claimer))
    return store.claim(claimer, [executor_id], names, version, 1_000)


__all__ = ["DataError", "FaultyStore", "Fenced", "Gate", "Killed", "Moment", "Trap", "Unavailable", "move_fence"]
