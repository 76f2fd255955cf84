"""The one thread that writes. Group commit: what queues up while one batch syncs is the next batch.

Running workflows hand over *units*; each batch of them is one transaction, under this executor's
fence. Waiters are told only after the commit. The committer decides what happens when a batch does
not go through:

- a unit whose data cannot be stored is found by splitting the batch; it alone fails, and what its
  run handed over behind it is refused;
- a moved fence changes nothing in the database: the owner re-reads what it still owns, lost runs are
  dropped, and the rest is committed under the new fence. So does a database that lacks the last batch
  that landed: there all runs are lost;
- a unit that needs a right which this user has lost is found alike and put aside (`engine.parked`);
- anything else is tried again, the batch whole and under its number, until the store is back. Where
  a commit may have landed, the number that the store remembers tells, and its answers are recalled:
  never done twice, never dropped.

Only this thread uses the store's writing connection; what else needs it (claims, leases) comes in
as an errand.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from tidings.core.effects import Tell, WakeKey
from tidings.core.operations.events import event_key
from tidings.core.operations.messages import MESSAGE, arrival_key
from tidings.core.operations.results import end_key
from tidings.core.operations.streams import stream_key
from tidings.engine.arrivals import Arrival, Sender
from tidings.engine.clock import Clock
from tidings.engine.mailbox import Mailbox
from tidings.engine.outage import HELD_UP_SECONDS, STOP_SECONDS, Asking, GivenUp, retrying
from tidings.engine.parked import Parked
from tidings.engine.probes import Point, Probes
from tidings.engine.ticket import Ticket, settle_all
from tidings.engine.waiters import Waiters, cancelled_name, wake_name
from tidings.error import DBOSException, DBOSRunEndedError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.limits import MAX_BATCH_BYTES, MAX_BATCH_UNITS, MAX_BYTES_IN_FLIGHT, MAX_UNITS_IN_FLIGHT
from tidings.model import Answer, Applied, Executor, Nothing, Stale, Status, Take, Unit
from tidings.store.protocol import WAKE_ALL, Batch, DataError, Fenced, Forbidden, Store, StoreError

logger = logging.getLogger("tidings")

T = TypeVar("T")

# More names than this say no more than that much has changed.
MAX_NAMES = 2_000


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


class TakeJob(Job):
    """A take on its way, for a receive that waits for its arrival: the answer goes there."""

    __slots__ = ("_arrival",)

    def __init__(self, unit: Unit, chain: Sender, arrival: Arrival) -> None:
        super().__init__(unit, chain)
        self._arrival = arrival

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        self.settled = True
        if error is None and type(value) is Nothing:
            return self._arrival.stay()
        return self._arrival.answer(value, error)


class ToldJob(Job):
    """A job with a callback. `tell` gets the answer before any waiter wakes, and before a later batch commits."""

    __slots__ = ("_tell",)

    def __init__(self, unit: Unit, chain: Sender, wakes: tuple[str, ...], tell: Tell) -> None:
        super().__init__(unit, chain, wakes)
        self._tell = tell

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        self._tell(value if error is None else None)
        return super()._finish(value, error)


class Errand(Ticket):
    """Something else to do on the writing connection. Settled with what `function` gives."""

    __slots__ = ("function", "parks")

    def __init__(self, function: Callable[[Store], Any], *, parks: bool = False) -> None:
        super().__init__()
        self.function = function
        self.parks = parks


class Owner(Protocol):
    """Who answers for the runs of this process."""

    def fence_moved(self, store: Store, landed: int | None) -> Executor:
        """Drop the runs that are no longer this process's; return the executor to go on as.

        `landed` is the last batch of this one that is known to have landed.
        """

    def was_cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is now CANCELLED, if it is here."""

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether this process executes that workflow."""

    def was_lost(self, error: BaseException) -> None:
        """Stop all runs: nothing can be written any more."""


class Committer:
    """Makes units durable, in batches."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        waiters: Waiters,
        clock: Clock,
        probes: Probes,
        lease_ms: int,
        on_end: Callable[[], None],
    ) -> None:
        """Take what it works with, and what is called when it uses the store no more."""
        self._store = store
        self._owner = owner
        self._waiters = waiters
        self._clock = clock
        self._probes = probes
        self._lease_ms = lease_ms
        self._on_end = on_end
        self._inbox: Mailbox[Job | Errand] = Mailbox()
        self._begin = threading.Lock()
        self._gauge = threading.Lock()
        self._number = 0
        self._landed = ("", 0)  # the last batch known to have landed: whose, and its number
        self._bytes = 0
        self._units = 0
        self._taken: list[Job | Errand] = []  # What the thread is at.
        self._parked: Parked[Job] = Parked("writing to the database")
        self._aboard: list[Job] = []  # The takes that ride along with that.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidings-committer", daemon=True)
        self._is_started = False
        self.asking = Asking("writing to the database")
        self.executor = Executor("", "", 0, 0)
        self.last_commit_ms = 0  # on its own clock
        self.renewed_until_ms = 0  # what its row says, on the store's clock
        self.died: BaseException | None = None

    # --- from any thread --------------------------------------------------------------------------

    def start(self, executor: Executor) -> None:
        self.executor = executor
        self.last_commit_ms = self._clock.own_ms()  # It was enlisted just now.
        self.renewed_until_ms = executor.lease_until_ms
        self._thread.start()
        self._is_started = True

    def stop(self) -> None:
        """Write what was handed over, then stop. A store that is away is not waited for.

        A commit that hangs is left behind, and uses its connection still.
        """
        self._inbox.close()
        self._stop.set()
        if not self._is_started:
            self._on_end()
            return
        patience = max(STOP_SECONDS - self.asking.held_up_seconds, 0.0)
        self._thread.join(min(patience, HELD_UP_SECONDS))
        if self._thread.is_alive():
            self._settle_dead()
            self._thread.join(max(patience - HELD_UP_SECONDS, 0.0))
        if self._thread.is_alive():
            logger.warning(
                "the database holds the last commit up; leaving after %.1f s without its answer",
                self.asking.held_up_seconds,
            )

    def submit(self, unit: Unit, chain: Sender, *, wakes: tuple[str, ...] = (), tell: Tell | None = None) -> Job:
        """Hand over a unit, and names to wake besides its own. The job is settled when it is durable, or cannot be.

        `tell` hears of the answer in the thread that settles the job: this committer's, if it is an answer.
        """
        return self._hand_over(Job(unit, chain, wakes) if tell is None else ToldJob(unit, chain, wakes, tell))

    def submit_take(self, unit: Unit, chain: Sender, arrival: Arrival) -> Job:
        """Hand over a unit that takes a message, for an arrival that is held for its answer."""
        return self._hand_over(TakeJob(unit, chain, arrival))

    def _hand_over(self, job: Job) -> Job:
        with self._gauge:
            self._bytes += job.size
            self._units += 1
        if not self._inbox.put(job):
            error = self._closed()
            if job.unit.workflow_id is not None:
                job.chain.failure = error  # Its barrier must let no step begin.
            job.settle(error=error)
        return job

    def withdraw(self, job: Job) -> bool:
        """Take a job back; False if it is too late, and it will be settled."""
        with self._begin:
            if job.begun or job.settled:
                return False
            job.withdrawn = True
            return True

    def call(self, function: Callable[[Store], Any], *, parks: bool = False) -> Ticket:
        """Run `function` on the writing connection, between two batches.

        If the caller `parks` what needs a right that is missing, it fails with `Forbidden`, and else waits.
        """
        errand = Errand(function, parks=parks)
        if not self._inbox.put(errand):
            errand.settle(error=self._closed())
        return errand

    def tell_dead(self) -> None:
        """While the store is away, tell who waits for a unit of a dead chain. It may land all the same."""
        if self.is_away:
            self._settle_dead()

    @property
    def is_away(self) -> bool:
        """Whether the store failed when it was last asked, or has not answered for long."""
        return self.asking.is_away

    @property
    def lease_ends_ms(self) -> int:
        """Until when on its own clock nobody takes this process for dead, as far as it knows."""
        return self.last_commit_ms + self._lease_ms

    @property
    def landed(self) -> int | None:
        """The number of this executor's last batch that is known to have landed. For the thread itself."""
        whose, number = self._landed
        return number if whose == self.executor.executor_id else None

    @property
    def is_full(self) -> bool:
        """Whether as much is in flight as may be: who hands over more should wait."""
        return self._bytes > MAX_BYTES_IN_FLIGHT or self._units > MAX_UNITS_IN_FLIGHT

    def _settle_dead(self) -> None:
        waiting = (*self._inbox.waiting(), *self._taken, *self._aboard, *self._parked.all())
        held = [item for item in waiting if isinstance(item, Job)]
        settle_all((job, None, job.chain.dead) for job in held if job.chain.dead is not None)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (taken := self._inbox.take_all(self._parked.timeout_seconds)) != []:
                self._taken = items = taken or []  # None where it is only time to try again what is parked.
                self._try_parked()
                start = 0
                while start < len(items):
                    first = items[start]
                    if isinstance(first, Errand):
                        start += 1
                        self._do(first)
                    else:
                        jobs = _batch_from(items, start)
                        start += len(jobs)
                        admitted = self._admit(jobs)
                        self._aboard = self._board(admitted)
                        self._commit(admitted + self._aboard)
                        self._aboard = []
                        size = sum(job.size for job in jobs)
                        with self._gauge:
                            self._bytes -= size
                            self._units -= len(jobs)
                self._taken = []
            settle_all((job, None, self._closed()) for job in self._parked.all())
        except BaseException as error:
            # A defect (or a test's simulated crash): nothing may be written any more, and nobody may hang.
            self.died = error
            logger.critical("the committer has died: %r; no workflow can go on in this process", error, exc_info=error)
            self._inbox.close()
            left = [*self._taken, *self._aboard, *self._parked.all()]
            self._taken, self._aboard = [], []
            while left:
                settle_all((item, None, self._closed()) for item in left)
                left = self._inbox.take_all() or []
            self._owner.was_lost(self._closed())
        finally:
            self._on_end()

    def _admit(self, jobs: Iterable[Job]) -> list[Job]:
        """Leave out what was withdrawn, and what its run may not write any more."""
        admitted = []
        with self._begin:
            for job in jobs:
                if job.withdrawn:
                    continue
                job.begun = True
                refusal = job.chain.refusal()
                if refusal is not None:
                    job.settle(error=refusal)
                elif job.unit.workflow_id is None or not self._parked.follows(job, job.chain):
                    admitted.append(job)
                else:
                    job.begun = False  # It may still be withdrawn.
        return admitted

    def _board(self, jobs: list[Job]) -> list[Job]:
        """Let the takes that wait for messages of these jobs ride along, behind them.

        In a batch messages come before takes, so they find theirs. A job that does not apply leaves its
        take without one, to stand on.
        """
        if self._waiters.is_empty:
            return []
        keys = [arrival_key(each.destination_id, each.topic) for job in jobs for each in job.unit.messages]
        riders: list[Job] = []
        now = self._clock.now_ms()
        for arrival in self._waiters.longest(keys):
            stand = arrival.board() if len(riders) < MAX_BATCH_UNITS else None
            if stand is not None:
                riders.append(TakeJob(_again(stand.unit, now), stand.waiting.chain, arrival))
        return self._admit(riders)

    def _commit(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        self._probes.passes(Point.BATCH_TAKEN, jobs)
        try:
            jobs, answers = self._write(jobs)
        except (DataError, Forbidden) as error:
            if len(jobs) == 1 and isinstance(error, Forbidden):
                self._park(jobs[0], str(error))
            elif len(jobs) == 1:
                self._fail(jobs[0], error)
            else:
                middle = len(jobs) // 2
                # Both halves are admitted anew: the fence may have moved meanwhile, and runs been lost.
                self._commit(self._admit(jobs[:middle]))
                self._commit(self._admit(jobs[middle:]))
        except GivenUp:
            settle_all((job, None, self._closed()) for job in jobs)
        else:
            self._probes.passes(Point.BATCH_COMMITTED, jobs)
            self._tell(jobs, answers)
            self._probes.passes(Point.BATCH_TOLD, jobs)

    def _park(self, job: Job, reason: str) -> None:
        """Put a unit aside until there is a right that it needs, and what its run hands over behind it."""
        job.begun = False
        self._parked.put(job, reason, None if job.unit.workflow_id is None else job.chain)

    def _try_parked(self) -> None:
        for reason, parked in self._parked.take_due().items():
            left: list[Job | Errand] = [*parked]
            first: list[Job] = []
            while left and not first:
                first = self._admit(parked[len(parked) - len(left) :][:1])
                left = left[1:]
            self._commit(first)
            if first and self._parked.is_still(reason):
                for job in parked[len(parked) - len(left) :]:
                    self._park(job, reason)
                continue
            start = 0
            while start < len(left):
                jobs = _batch_from(left, start)
                start += len(jobs)
                self._commit(self._admit(jobs))

    def _write(self, jobs: list[Job]) -> tuple[list[Job], list[Answer]]:
        """Commit one batch, however often it takes. Gives the jobs it held in the end."""
        while True:
            self._number += 1
            executor = self.executor
            begun, now = self._clock.own_ms(), self._clock.now_ms()
            units = [job.unit for job in jobs]
            wakes = self._names_for_others(jobs)
            batch = Batch(
                executor.executor_id, executor.fence, self._number, now, self._lease_ms, units, wakes, self.landed
            )
            try:
                answers = self._retrying(
                    partial(self._store.commit, batch), partial(self._store.recall, batch), parks=True
                )
            except Fenced:
                self._refence()
                jobs = self._admit(jobs)
                if not jobs:
                    return [], []
                continue
            self.last_commit_ms, self.renewed_until_ms = begun, now + self._lease_ms
            self._landed = executor.executor_id, batch.number
            return jobs, answers

    def _names_for_others(self, jobs: list[Job]) -> list[str]:
        """Return what other processes may wait for.

        Whoever receives a message runs in one process only. If that is this one when the batch lands,
        no other has to hear of it: to move the run, another process raises our fence first. Then the
        batch does not land, and the names are made anew; or it landed before, and whoever takes the
        run over looks later.
        """
        own: list[str] = []
        names: set[str] = set()
        for job in jobs:
            own += job.wakes
            if job.unit.cancel is not None:
                names.add(cancelled_name(job.unit.cancel))
        keys = set(_wake_keys(job.unit for job in jobs))
        names.update(wake_name(key) for key in keys if not (key[0] == MESSAGE and self._owner.runs_here(key[1] or "")))
        return own + (sorted(names) if len(names) <= MAX_NAMES else [WAKE_ALL])

    def _do(self, errand: Errand) -> None:
        try:
            try:
                value = self._retrying(partial(errand.function, self._store), parks=errand.parks)
            except Fenced:
                self._refence()
                value = self._retrying(partial(errand.function, self._store), parks=errand.parks)
        except GivenUp:
            errand.settle(error=self._closed())
        except Exception as error:
            errand.settle(error=error)
        else:
            errand.settle(value)

    def _refence(self) -> None:
        """Go on under the fence as it is now, without the runs that were taken over."""
        self.executor = self._retrying(partial(self._owner.fence_moved, self._store, self.landed))

    def _retrying(
        self, ask: Callable[[], T], recall: Callable[[], T | None] | None = None, *, parks: bool = False
    ) -> T:
        return retrying(
            ask, self._store.reconnect, self._stop, self._probes, self.asking, recall, self.tell_dead, parks=parks
        )

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, jobs: list[Job], answers: list[Answer]) -> None:
        """Settle the tickets of a committed batch, and wake who waits for what it brought."""
        results: list[tuple[Ticket, Any, BaseException | None]] = []
        applied: list[Unit] = []
        for job, answer in zip(jobs, answers, strict=True):
            if type(answer) is Applied:
                applied.append(job.unit)
                if job.unit.cancel is not None:
                    self._owner.was_cancelled(job.unit.cancel)
            elif job.unit.publishes:
                results.append((job, None, _end_of_run(job, answer)))
                continue
            results.append((job, answer, None))
        if not self._waiters.is_empty:
            results += [(arrival, True, None) for arrival in self._waiters.take(_wake_keys(applied))]
        settle_all(results)

    def _fail(self, job: Job, error: StoreError) -> None:
        what = f"workflow {job.unit.workflow_id!r}" if job.unit.workflow_id else "the caller"
        failure = DBOSException(f"the store cannot keep what {what} wrote: {error}")
        failure.__cause__ = error
        if job.unit.workflow_id is not None:
            job.chain.failure = failure
        job.settle(error=failure)

    def _closed(self) -> BaseException:
        if self.died is not None:
            return DBOSShutdownError(f"tidings stopped in this process after an error: {self.died!r}")
        return DBOSShutdownError()


def _end_of_run(job: Job, answer: Answer) -> BaseException:
    """End a run that may publish nothing more: before it heard of that, its workflow was cancelled, for example."""
    workflow_id = job.unit.workflow_id or ""
    error: BaseException
    if answer == Stale(Status.CANCELLED):
        error = DBOSWorkflowCancelledError(workflow_id)
    else:
        error = DBOSRunEndedError(workflow_id, "it was taken over or has ended elsewhere")
    job.chain.kill(error)
    return job.chain.dead or error


def _batch_from(items: list[Job | Errand], start: int) -> list[Job]:
    """Return the jobs from `start` on that fit one batch: at least one."""
    jobs: list[Job] = []
    size = 0
    for index in range(start, min(len(items), start + MAX_BATCH_UNITS)):
        item = items[index]
        if isinstance(item, Errand) or (jobs and size + item.size > MAX_BATCH_BYTES):
            break
        jobs.append(item)
        size += item.size
    return jobs


def _again(unit: Unit, now_ms: int) -> Unit:
    """Return a take to be committed once more, now. What it writes if there is no message is written."""
    assert unit.entry is not None
    assert unit.take is not None
    return replace(unit, entry=replace(unit.entry, completed_at_ms=now_ms), take=Take(unit.take.topic))


def _wake_keys(units: Iterable[Unit]) -> list[WakeKey]:
    """Return what waiters of these units' effects are registered under.

    Each message is named, for each wakes one receiver. Anything else wakes all, and is named once.
    """
    messages: list[WakeKey] = []
    others: set[WakeKey] = set()
    for unit in units:
        if unit.messages:
            messages += [arrival_key(message.destination_id, message.topic) for message in unit.messages]
        workflow_id = unit.workflow_id
        if workflow_id is not None:
            if unit.put_back is not None:
                messages.append(arrival_key(workflow_id, unit.put_back_topic))
            if unit.event is not None:
                others.add(event_key(workflow_id, unit.event.key))
            if unit.item is not None:
                others.add(stream_key(workflow_id, unit.item.key))
            if unit.closes:
                others.update(stream_key(workflow_id, key) for key in unit.closes)
            if unit.outcome is not None:
                others.add(end_key(workflow_id))
        if unit.cancel is not None:
            others.add(end_key(unit.cancel))
    return [*messages, *others]


def _size(unit: Unit) -> int:
    """Estimate the bytes a unit holds; characters are near enough."""
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
    return size
