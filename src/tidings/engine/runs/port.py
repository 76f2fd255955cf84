"""What each effect means: it is performed on the parts of the engine, and on the chain of one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from tidings.blocks import contextmanager
from tidings.core.ahead import Ahead
from tidings.core.effects import (
    Aside,
    Barrier,
    Call,
    Commit,
    Defer,
    Effect,
    Gather,
    Lack,
    Missed,
    Now,
    Query,
    Read,
    Receive,
    Turn,
    Wait,
    WakeKey,
    Watch,
)
from tidings.engine.database.chain import Chain
from tidings.engine.database.committer import Committer
from tidings.engine.database.reader import Reader
from tidings.engine.hooks import Hooks, Point
from tidings.engine.runs.again import Lacking, Lasting
from tidings.engine.runs.code_limits import Limit
from tidings.engine.runs.other_topics import OtherTopics
from tidings.engine.runs.turns import Turns
from tidings.engine.runs.workers import Workers
from tidings.engine.waiting.arrivals import Arrival, WaitingTake
from tidings.engine.waiting.clock import Clock
from tidings.engine.waiting.gathering import Gathering
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.engine.waiting.timers import Timers
from tidings.engine.waiting.waiters import Waiters
from tidings.error import DBOSRunEndedError
from tidings.model import Unit

_FEW_LIMITS: Final = 16


class Parts(Struct, frozen=True):
    """The parts of an engine that operations use."""

    committer: Committer
    reader: Reader
    timers: Timers
    waiters: Waiters
    clock: Clock
    hooks: Hooks
    lacking: Lacking
    other_topics: OtherTopics


class Port:
    """Performs effects for one run, or for code outside of any run."""

    __slots__ = (
        "_ahead",
        "_most_limits",
        "_parts",
        "_workflow_id",
        "callers",
        "chain",
        "is_detached",
        "is_in_thread",
        "limits",
        "no_more_steps",
        "steps",
        "turns",
    )

    def __init__(
        self, parts: Parts, workflow_id: str | None = None, chain: Chain | None = None, ahead: Ahead | None = None
    ) -> None:
        self._parts = parts
        self._ahead = ahead  # The messages that the run has seen and not taken.
        self._workflow_id = workflow_id
        self.chain = chain or Chain(parts.committer)
        self.is_detached = False
        self.is_in_thread = False  # A thread executes the run, so event loops in that thread belong to the program.
        self.turns: Turns | None = None
        self.limits: list[Limit] = []  # Limits that the run has set; some may be due or cancelled.
        self._most_limits = _FEW_LIMITS  # If there are more, those that are no longer set are dropped.
        self.steps: list[str] = []  # Steps of which an attempt is running.
        self.no_more_steps: str | None = None  # Why no step may begin; `None` if steps may begin.
        self.callers: Workers | None = None  # The pool for functions that the run's tasks call in threads.

    @property
    def is_idle(self) -> bool:
        """Whether the run only waits now: for a message, a result or a time."""
        return not self.steps and self.chain.is_waiting

    def begin_step(self, name: str) -> None:
        """Note that an attempt of a step begins. If no step may begin, this ends the execution."""
        if self.no_more_steps is not None:
            self.chain.kill(DBOSRunEndedError(self._workflow_id or "", self.no_more_steps))
        self.chain.check_alive()
        self.steps.append(name)

    def end_step(self, name: str) -> None:
        """Note that an attempt of a step is over."""
        self.steps.remove(name)

    def note_limit(self, limit: Limit) -> None:
        """Note a time limit that the code of the run has set."""
        self.limits.append(limit)
        if len(self.limits) > self._most_limits:
            self.limits[:] = [each for each in self.limits if each.is_set]
            self._most_limits = max(2 * len(self.limits), _FEW_LIMITS)  # So the list is cleaned only now and then.

    @property
    def is_outside(self) -> bool:
        """Whether this is for code outside of any run. Its operations are never replayed."""
        return self._workflow_id is None

    def for_end(self) -> Port:
        """Make a port for the end of the run. It shares the run's chain until `settle_failure` replaces that."""
        port = Port(self._parts, self._workflow_id, self.chain)
        port.turns = self.turns
        return port

    def perform(self, effect: Effect) -> Any:  # noqa: PLR0911  (one for each effect)
        """Begin an effect. Returns its value, or a ticket to wait for."""
        match effect:
            case Commit(unit, tell):
                return self.chain.commit(unit, tell)
            case Now():
                return self._parts.clock.now_ms()
            case Barrier():
                return self.chain.barrier() or self._still_ours()
            case Defer(make):
                return self.chain.defer(make)
            case Read(query, asked):
                self.chain.check_alive()
                return self.ask(query) if asked is None else asked
            case Lack(what):
                return Lasting(self._parts.lacking, what)
            case Missed():
                return self._parts.other_topics.look(effect)
            case Gather():
                return Gathering(self._parts.waiters, self.is_outside)
            case Aside(aside):
                return Port(self._parts).perform(aside)
            case Call() | Watch() | Wait() | Receive() | Turn():
                raise AssertionError(f"{effect!r} is performed by the driver")

    def _still_ours(self) -> Ticket | None:
        """If the lease may have expired, ask the store first whether this process still owns the run.

        A process that was stopped or disconnected for a while may have lost its runs to another process. Its fence
        prevents writes, but not user code with outside effects.
        """
        committer = self._parts.committer
        if self.is_outside or self._parts.clock.own_ms() < committer.lease_ends_ms:
            return None
        return self.chain.commit(Unit())

    def ask(self, query: Query) -> Ticket:
        """Send a query without waiting for its answer."""
        return self._parts.reader.ask(query, self.chain)

    def watch(self, keys: tuple[WakeKey, ...]) -> Arrival:
        """Watch for `keys`, before looking.

        If the process can no longer learn of a change, this fails only for code outside of any run. A workflow waits
        instead, until another process or the next deployment continues it.
        """
        return self._parts.waiters.watch(keys, may_fail=self.is_outside)

    def forget(self, arrival: Arrival) -> None:
        """Stop watching. An arrival that one key woke is still registered under its other keys."""
        self._parts.waiters.forget(arrival)

    def pass_on(self, arrival: Arrival) -> None:
        """Stop watching, and wake the next waiter: there may be more messages than this waiter took."""
        self._parts.waiters.forget(arrival)
        settle_all((each, True, None) for each in self._parts.waiters.take_next(arrival))

    @contextmanager
    def waiting(self, wait: Wait) -> Iterator[Ticket]:
        """Register a ticket, the arrival's or a new one, for the length of the block.

        It is settled at its deadline, or when the run is killed.
        """
        ticket = wait.arrival if wait.arrival is not None else Ticket()
        self._forget_ahead()
        self.chain.wait(ticket)
        try:
            if wait.due is not None:
                self._parts.timers.at(wait.due, ticket)
            self._parts.hooks.passes(Point.WAITING, wait.arrival)
            yield ticket
        finally:
            self.chain.done_waiting(ticket)

    def receive(self, receive: Receive) -> Arrival:
        """Hand over a take. Its answer, a wake-up, the deadline or the end of the run settles the arrival.

        If a wake-up came earlier, the arrival is settled already and nothing is handed over. Call `received` when the
        wait is over.
        """
        arrival: Arrival = receive.arrival
        waiting_take = WaitingTake(receive.unit, receive.due, self)
        if arrival.look(waiting_take):
            waiting_take.job = self.chain.take(receive.unit, arrival)
        return arrival

    def received(self, arrival: Arrival) -> None:
        """End the wait, answered or not. A receive that was interrupted takes nothing."""
        if not arrival.settled:
            arrival.settle(False)
        self.chain.done_waiting(arrival)

    def stay(self, arrival: Arrival) -> BaseException | None:
        """See `engine.waiting.arrivals.TakeOwner`. Called by the committer."""
        self._forget_ahead()
        try:
            self.chain.wait(arrival)
        except BaseException as refusal:
            return refusal
        if arrival.waiting_take is not None and arrival.waiting_take.due is not None:
            self._parts.timers.at(arrival.waiting_take.due, arrival)
        self._parts.hooks.passes(Point.WAITING, arrival)
        return None

    def _forget_ahead(self) -> None:
        """Keep no seen messages for a run that waits: it may wait for days."""
        if self._ahead is not None:
            self._ahead.forget_all()

    def withdraw_take(self, arrival: Arrival) -> bool:
        """Withdraw the take of a receive before its first commit; false if it is too late for that."""
        job = None if arrival.waiting_take is None else arrival.waiting_take.job
        if job is None or not self.withdraw(job):
            return False
        arrival.withdraw()
        return True

    def withdraw(self, job: Job) -> bool:
        return self._parts.committer.withdraw(job)

    def settle_failure(self) -> BaseException | None:
        """Accept the failure of a unit, so that the run's end can be written, and nothing else.

        The end goes through a new chain. The old chain refuses every unit that was or will be handed over to it. A kill
        between the two may be missed. That is safe, because the end counts only while the workflow is pending under
        this run's epoch.
        """
        failure = self.chain.failure
        if failure is None or self.chain.dead is not None:
            return None
        self.chain.kill(DBOSRunEndedError(self._workflow_id or "", f"one of its writes failed: {failure}"))
        self.chain = Chain(self._parts.committer)
        return failure

    def detach(self) -> None:
        """End only this execution, because it cannot continue here: its event loop is closing, for example."""
        if self._workflow_id is not None and self.chain.dead is None:
            self.is_detached = True
            self.chain.kill(
                DBOSRunEndedError(
                    self._workflow_id, "its event loop was closed, or its caller has ended; the workflow is resumed"
                )
            )


class CurrentArrival:
    """The arrival that one operation watches with: one at a time, forgotten when the operation is over."""

    __slots__ = ("_arrival", "_port")

    def __init__(self, port: Port) -> None:
        self._port = port
        self._arrival: Arrival | None = None

    def watch(self, keys: tuple[WakeKey, ...]) -> Arrival:
        """Watch for `keys` instead of the keys watched before."""
        if self._arrival is not None:
            self._port.forget(self._arrival)
        self._arrival = self._port.watch(keys)
        return self._arrival

    def __enter__(self) -> CurrentArrival:
        return self

    def __exit__(self, *_: object) -> None:
        if self._arrival is not None:
            self._port.pass_on(self._arrival)
