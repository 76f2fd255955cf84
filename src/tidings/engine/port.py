"""What effects mean: the parts of the engine that operations are performed on, and one run's chain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from tidings.core.ahead import Ahead
from tidings.core.effects import (
    Barrier,
    Call,
    Commit,
    Defer,
    Effect,
    Lack,
    Now,
    Query,
    Read,
    Receive,
    Turn,
    Wait,
    WakeKey,
    Watch,
)
from tidings.engine.again import Lacking, Lasting
from tidings.engine.arrivals import Arrival, Stand
from tidings.engine.chain import Chain
from tidings.engine.clock import Clock
from tidings.engine.committer import Committer, Job
from tidings.engine.probes import Point, Probes
from tidings.engine.reader import Reader
from tidings.engine.ticket import Ticket, settle_all
from tidings.engine.timers import Timers
from tidings.engine.turns import Turns
from tidings.engine.waiters import Waiters
from tidings.error import DBOSRunEndedError
from tidings.model import Unit


class Parts(Struct, frozen=True):
    """The parts of an engine that operations use."""

    committer: Committer
    reader: Reader
    timers: Timers
    waiters: Waiters
    clock: Clock
    probes: Probes
    lacking: Lacking


class Port:
    """Performs effects for one run, or for code outside of any."""

    __slots__ = (
        "_ahead",
        "_parts",
        "_workflow_id",
        "chain",
        "is_detached",
        "is_in_thread",
        "no_more_steps",
        "steps",
        "turns",
    )

    def __init__(
        self, parts: Parts, workflow_id: str | None = None, chain: Chain | None = None, ahead: Ahead | None = None
    ) -> None:
        self._parts = parts
        self._ahead = ahead  # what its run has seen of its messages
        self._workflow_id = workflow_id
        self.chain = chain or Chain(parts.committer)
        self.is_detached = False
        self.is_in_thread = False  # Its run is executed by a thread: event loops in there belong to its program.
        self.turns: Turns | None = None
        self.steps: list[str] = []  # the names of those of which a try is running now
        self.no_more_steps: str | None = None  # and why not

    @property
    def is_idle(self) -> bool:
        """Whether its run only waits now: for a message, a result, a time."""
        return not self.steps and self.chain.is_waiting

    def begin_step(self, name: str) -> None:
        """Note a try of a step that begins; unless none may any more, which ends this execution."""
        if self.no_more_steps is not None:
            self.chain.kill(DBOSRunEndedError(self._workflow_id or "", self.no_more_steps))
        self.chain.check_alive()
        self.steps.append(name)

    def end_step(self, name: str) -> None:
        """Note a try of a step that is over."""
        self.steps.remove(name)

    @property
    def is_outside(self) -> bool:
        """Whether this is for code outside of any run, whose operations nobody replays."""
        return self._workflow_id is None

    def for_end(self) -> Port:
        """Make a port for the end of the run: on its chain, until a failure there is settled."""
        port = Port(self._parts, self._workflow_id, self.chain)
        port.turns = self.turns
        return port

    def perform(self, effect: Effect) -> Any:
        """Begin an effect. Gives its value, or a ticket to wait for."""
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
            case Lack():
                return Lasting(self._parts.lacking)
            case Call() | Watch() | Wait() | Receive() | Turn():
                raise AssertionError(f"{effect!r} is performed by the driver")

    def _still_ours(self) -> Ticket | None:
        """Where the lease may have run out, ask first whether the run is this process's still.

        A process that stood still, or was cut off, may have been taken over; its fence keeps it from
        writing, but not from user code with outside effects.
        """
        committer = self._parts.committer
        if self.is_outside or self._parts.clock.own_ms() < committer.lease_ends_ms:
            return None
        return self.chain.commit(Unit())

    def ask(self, query: Query) -> Ticket:
        """Put a query whose answer is wanted later."""
        return self._parts.reader.ask(query, self.chain)

    def watch(self, keys: tuple[WakeKey, ...]) -> Arrival:
        """Watch for `keys`, before looking.

        What cannot come in this process any more fails only for code outside of any run: a workflow
        waits until it comes elsewhere, or after the next deployment.
        """
        return self._parts.waiters.watch(keys, may_fail=self.is_outside)

    def forget(self, arrival: Arrival) -> None:
        """Watch no more. An arrival that one key woke is still registered under its others."""
        self._parts.waiters.forget(arrival)

    def pass_on(self, arrival: Arrival) -> None:
        """Watch no more, and let the next one look: there may be more than this one took."""
        self._parts.waiters.forget(arrival)
        settle_all((each, True, None) for each in self._parts.waiters.take_next(arrival))

    @contextlib.contextmanager
    def waiting(self, wait: Wait) -> Iterator[Ticket]:
        """Let an arrival's ticket, or a new one, end when its time is up and with the run."""
        ticket = wait.arrival if wait.arrival is not None else Ticket()
        self._forget_ahead()
        self.chain.wait(ticket)
        try:
            if wait.due is not None:
                self._parts.timers.at(wait.due, ticket)
            self._parts.probes.passes(Point.WAITING, wait.arrival)
            yield ticket
        finally:
            self.chain.done_waiting(ticket)

    def receive(self, receive: Receive) -> Arrival:
        """Hand over a take, and let its arrival be settled with the answer, or woken, or end as others do.

        An arrival that was woken before is settled already. What this gives is to be `received`.
        """
        arrival: Arrival = receive.arrival
        if arrival.hold():
            stand = arrival.stand = Stand(receive.unit, receive.due, self)
            stand.job = self.chain.take(receive.unit, arrival)
        return arrival

    def received(self, arrival: Arrival) -> None:
        """Wait for it no more, whether it was answered or not: who was interrupted takes nothing."""
        if not arrival.settled:
            arrival.settle(False)
        self.chain.done_waiting(arrival)

    def stay(self, arrival: Arrival) -> BaseException | None:
        """See `engine.arrivals.Waiting`. Called by the committer."""
        self._forget_ahead()
        try:
            self.chain.wait(arrival)
        except BaseException as refusal:
            return refusal
        if arrival.stand is not None and arrival.stand.due is not None:
            self._parts.timers.at(arrival.stand.due, arrival)
        self._parts.probes.passes(Point.WAITING, arrival)
        return None

    def _forget_ahead(self) -> None:
        """Keep nothing for a run that waits, perhaps for days."""
        if self._ahead is not None:
            self._ahead.forget_all()

    def withdraw_take(self, arrival: Arrival) -> bool:
        """Take the take of a receive back before its first look; False if it is too late for that."""
        job = None if arrival.stand is None else arrival.stand.job
        return job is not None and self.withdraw(job)

    def withdraw(self, job: Job) -> bool:
        return self._parts.committer.withdraw(job)

    def settle_failure(self) -> BaseException | None:
        """Take the failure of a unit as met, so that the run's end can be written, and nothing else.

        The end goes through a chain of its own; the failed one stays behind, and refuses all that was
        or will be handed over to it. A kill that comes in between is missed, and need not be seen: the
        end counts only while the workflow is pending under this run's epoch.
        """
        failure = self.chain.failure
        if failure is None or self.chain.dead is not None:
            return None
        self.chain.kill(DBOSRunEndedError(self._workflow_id or "", f"one of its writes failed: {failure}"))
        self.chain = Chain(self._parts.committer)
        return failure

    def detach(self) -> None:
        """End this execution, and only it: it cannot go on here, as its event loop is closing for example."""
        if self._workflow_id is not None and self.chain.dead is None:
            self.is_detached = True
            self.chain.kill(
                DBOSRunEndedError(
                    self._workflow_id, "its event loop was closed, or its caller has ended; the workflow is resumed"
                )
            )


class Watching:
    """What one operation watches for: one arrival at a time, forgotten when the operation is over."""

    __slots__ = ("_arrival", "_port")

    def __init__(self, port: Port) -> None:
        self._port = port
        self._arrival: Arrival | None = None

    def on(self, keys: tuple[WakeKey, ...]) -> Arrival:
        """Watch for `keys`, and for the former ones no more."""
        if self._arrival is not None:
            self._port.forget(self._arrival)
        self._arrival = self._port.watch(keys)
        return self._arrival

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        if self._arrival is not None:
            self._port.pass_on(self._arrival)
