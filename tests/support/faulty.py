"""A store that fails on purpose: it kills, loses connections, refuses data and pauses where a test sets a trap.

It sits between an engine and a real store. Nothing in it is random: a `Trap` defines the call, the moment (before or
after the real call) and the fault. After a trap has killed, nothing more can be written through the store, as in a dead
process.
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
    End,
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

# A test that waits this long has failed. It is so long because a busy machine is slow. The watchdog waits still longer.
PATIENCE_SECONDS = 300.0


class Killed(BaseException):
    """The process has died here."""


class Moment(Enum):
    """When a trap fires: before the real call, or after it, when its effect is durable."""

    BEFORE = "before"
    AFTER = "after"


class Gate:
    """Holds each thread that reaches it until the test opens it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, *_: object) -> None:
        """Wait until the gate is open."""
        self._reached.set()
        assert self._opened.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def await_reached(self) -> None:
        """Wait until a thread waits at the gate."""
        assert self._reached.wait(PATIENCE_SECONDS), "nobody came to the gate"

    @property
    def is_reached(self) -> bool:
        """Whether a thread has reached the gate."""
        return self._reached.is_set()

    def open(self) -> None:
        """Let all waiting threads through, and all that come later."""
        self._opened.set()


@dataclass(slots=True)
class Trap:
    """A fault at some calls of the store.

    Attributes:
        act: what it does: raise, block or note something.
        on: the method; `None` means each method that writes.
        moment: before or after the real call.
        number: the number of the call of that method (or of all that write), from 1; `None` means each call.
        where: restricts it to commits whose batch this accepts.
        times: how often it fires.
        sprung: how often it has fired.
    """

    act: Callable[[], None]
    on: str | None = "commit"
    moment: Moment = Moment.BEFORE
    number: int | None = None
    where: Callable[[Batch], bool] | None = None
    times: int | None = 1
    sprung: int = field(default=0, compare=False)

    def springs(self, on: str, moment: Moment, number: int, batch: Batch | None) -> bool:
        """Tell whether it fires at this call, and count the call."""
        if self.on not in (None, on) or moment is not self.moment or self.sprung == self.times:
            return False
        if self.number not in (None, number):
            return False
        if self.where is not None and (batch is None or not self.where(batch)):
            return False
        self.sprung += 1
        return True


class FaultyStore:
    """A `Store` that passes calls on to another one, except where a trap is set."""

    def __init__(self, inner: Store, *traps: Trap) -> None:
        self.inner = inner
        self.identity = inner.identity
        self.name = inner.name
        self.traps = list(traps)
        self.killed = False
        self.batches: list[Batch] = []  # the committed batches, in order
        self.calls: Counter[str | None] = Counter()  # of each method; `None` counts all methods that write
        self.is_audible: Callable[[str], bool] = lambda name: True  # the names that its listeners hear
        self._lock = threading.Lock()
        self._is_poison: Callable[[Unit], bool] = lambda unit: False

    # --- setting traps ----------------------------------------------------------------------------

    def set(self, trap: Trap) -> Trap:
        """Set one more trap. It counts calls from now on."""
        self.traps.append(trap)
        return trap

    def kill(self) -> NoReturn:
        """Kill the process: this engine writes nothing more."""
        self.killed = True
        raise Killed

    def kill_at(self, number: int, moment: Moment) -> Trap:
        """Kill the process at the nth call that writes."""
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
        """Lose the connection: before the call, or during COMMIT, which has `landed` or not."""
        ambiguous = landed is not None

        def act() -> None:
            raise Unavailable("the connection was lost", ambiguous=ambiguous)

        moment = Moment.AFTER if landed else Moment.BEFORE
        return self.set(Trap(act, on=on, moment=moment, number=number, where=where, times=times))

    def poison(self, is_poison: Callable[[Unit], bool]) -> None:
        """Always refuse the data of these units, after the check of the fence, as a database does."""
        self._is_poison = is_poison

    def hold(
        self,
        on: str = "commit",
        *,
        moment: Moment = Moment.BEFORE,
        number: int | None = None,
        where: Callable[[Batch], bool] | None = None,
    ) -> Gate:
        """Hold the next call of this kind at a gate."""
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
        """Hold the next call of this kind at this gate."""
        # Before the traps that raise: a held call waits before any other trap fires.
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
        self,
        executor: Executor,
        dead: Collection[str],
        names: Collection[str],
        app_version: str,
        limit: int,
        reserved: Collection[str] | None = None,
    ) -> list[WorkflowRecord]:
        return self._write("claim", lambda: self.inner.claim(executor, dead, names, app_version, limit, reserved))

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        return self._write("reclaim", lambda: self.inner.reclaim(executor, workflow_ids))

    # --- reading, and the rest ------------------------------------------------------------------------

    def migrate(self) -> None:
        self.inner.migrate()

    def reset(self, *, truncate: bool) -> None:
        self.inner.reset(truncate=truncate)

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

    def count_unread(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        return self._read("count_unread", lambda: self.inner.count_unread(workflow_ids))

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

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        return self._read("ends", lambda: self.inner.ends(workflow_ids))

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        return self._read("pending_below", lambda: self.inner.pending_below(workflow_ids, limit))

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

    # --- firing traps ------------------------------------------------------------------------------

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
    """A listener that hears only the names that its store lets through, and loses its connection at a trap."""

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
    """What a listener hears through a pooler in transaction mode: nothing."""
    return False


def hears_only_probes(name: str) -> bool:
    """What a listener hears if every hint is lost without a sign: only its own probes."""
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
    """Claim from an executor as another process would that has declared it dead. This raises its fence.

    The claimer writes nothing more: after `lease_ms` others take over from it.
    """
    program = next((each.program for each in store.executors() if each.executor_id == executor_id), None)
    claimer = Executor("claimer", "claimer", lease_until_ms, 0, lease_ms, program=program)
    claimer = replace(claimer, fence=store.enlist(claimer))
    return store.claim(claimer, [executor_id], names, version, 1_000)


__all__ = ["DataError", "FaultyStore", "Fenced", "Gate", "Killed", "Moment", "Trap", "Unavailable", "move_fence"]
