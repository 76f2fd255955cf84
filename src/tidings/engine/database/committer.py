"""The one thread that writes. Group commit: units that arrive while one batch is flushed form the next batch.

Running workflows hand over *units*. Each batch of units is one transaction, under this executor's fence. Waiters are
woken only after the commit. If a batch fails, the committer decides what happens:

- A unit's data cannot be stored. The committer finds the unit by splitting the batch. Only this unit fails, and later
  units of its run are refused.
- The fence has moved, so nothing was written. The owner re-reads what it still owns and kills the lost runs. The rest
  is committed under the new fence. The same happens if the database lacks the last batch that landed; then all runs
  are lost.
- A unit needs a right that the database user has lost. It is found in the same way and parked
  (`engine.database.parked`).
- Any other failure: the whole batch is retried, under its number, until the store is back. If a commit may have landed,
  the number that the store keeps tells, and the answers are recalled. So no batch is written twice, and none is lost.

Only this thread uses the store's writing connection. Other work that needs it (claims, leases) comes as an errand.
"""

from __future__ import annotations

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
from tidings.engine.database.mailbox import Mailbox
from tidings.engine.database.outage import HELD_UP_SECONDS, STOP_SECONDS, Contact, GivenUp, retrying
from tidings.engine.database.parked import Parked
from tidings.engine.hooks import Hooks, Point
from tidings.engine.waiting.arrivals import Arrival, TakeJob
from tidings.engine.waiting.clock import Clock
from tidings.engine.waiting.jobs import Errand, Job, Sender, ToldJob
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.engine.waiting.waiters import ORPHANS, Waiters, cancelled_name, wake_name
from tidings.error import DBOSException, DBOSRunEndedError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.limits import MAX_BATCH_BYTES, MAX_BATCH_UNITS, MAX_BYTES_IN_FLIGHT, MAX_UNITS_IN_FLIGHT
from tidings.model import Answer, Applied, Executor, NoSuchWorkflow, Stale, Status, Take, Unit
from tidings.store.protocol import WAKE_ALL, Batch, DataError, Fenced, Forbidden, Store, StoreError

logger = logging.getLogger("tidings")

T = TypeVar("T")

# A batch with more names than this wakes all waiters instead.
MAX_NAMES = 2_000


class Owner(Protocol):
    """The owner of the runs of this process: its engine."""

    def fence_moved(self, store: Store, landed: int | None) -> Executor:
        """Kill the runs that this process no longer owns. Returns the executor to continue as.

        `landed` is the number of the present executor's last batch that is known to have landed.
        """

    def was_cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is now CANCELLED, if it is here."""

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether this process executes that workflow."""

    def was_lost(self, error: BaseException) -> None:
        """Stop all runs: the committer has died and writes nothing more."""


class Committer:
    """Makes units durable, in batches."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        waiters: Waiters,
        clock: Clock,
        hooks: Hooks,
        lease_ms: int,
        on_end: Callable[[], None],
    ) -> None:
        """Prepare the thread. `on_end` is called when it no longer uses the store."""
        self._store = store
        self._owner = owner
        self._waiters = waiters
        self._clock = clock
        self._hooks = hooks
        self._lease_ms = lease_ms
        self._on_end = on_end
        self._inbox: Mailbox[Job | Errand] = Mailbox()
        self._begin = threading.Lock()
        self._gauge = threading.Lock()
        self._number = 0
        self._landed = ("", 0)  # The last batch known to have landed: executor id and number.
        self._bytes = 0
        self._units = 0
        self._taken: list[Job | Errand] = []  # What the thread works on now.
        self._parked: Parked[Job] = Parked("writing to the database")
        self._aboard: list[Job] = []  # Waiting takes that were added to the present batch.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidings-committer", daemon=True)
        self._is_started = False
        self.contact = Contact("writing to the database")
        self.executor = Executor("", "", 0, 0)
        self.last_commit_ms = 0  # On this process's own clock.
        self.renewed_until_ms = 0  # The lease in the executor's row, on the store's clock.
        self.died: BaseException | None = None

    # --- from any thread --------------------------------------------------------------------------

    def start(self, executor: Executor) -> None:
        self.executor = executor
        self.last_commit_ms = self._clock.own_ms()  # Enlisting set its lease a moment ago.
        self.renewed_until_ms = executor.lease_until_ms
        self._thread.start()
        self._is_started = True

    def stop(self) -> None:
        """Write what was handed over, then stop. Does not wait for a store that is away.

        A commit that hangs is not waited for either; it keeps using its connection.
        """
        self._inbox.close()
        self._stop.set()
        if not self._is_started:
            self._on_end()
            return
        patience = max(STOP_SECONDS - self.contact.held_up_seconds, 0.0)
        self._thread.join(min(patience, HELD_UP_SECONDS))
        if self._thread.is_alive():
            self._settle_dead()
            self._thread.join(max(patience - HELD_UP_SECONDS, 0.0))
        if self._thread.is_alive():
            logger.warning(
                "the database has not confirmed the last commit after %.1f s; shutting down without waiting for it",
                self.contact.held_up_seconds,
            )

    def submit(self, unit: Unit, chain: Sender, *, wakes: tuple[str, ...] = (), tell: Tell | None = None) -> Job:
        """Hand over a unit, and names to wake besides its own. The job is settled when it is durable or has failed.

        `tell` is called in the thread that settles the job. For an answer, that is the committer's thread.
        """
        return self._hand_over(Job(unit, chain, wakes) if tell is None else ToldJob(unit, chain, wakes, tell))

    def submit_take(self, unit: Unit, chain: Sender, arrival: Arrival) -> Job:
        """Hand over a unit that takes a message, for the arrival that its answer settles."""
        return self._hand_over(TakeJob(unit, chain, arrival))

    def _hand_over(self, job: Job) -> Job:
        with self._gauge:
            self._bytes += job.size
            self._units += 1
        if not self._inbox.put(job):
            error = self._closed()
            if job.unit.workflow_id is not None:
                job.chain.failure = error  # So that the run's barrier lets no step begin.
            job.settle(error=error)
        return job

    def withdraw(self, job: Job) -> bool:
        """Withdraw a job. Returns False if it is too late: the job will be settled."""
        with self._begin:
            if job.begun or job.settled:
                return False
            job.withdrawn = True
            return True

    def call(self, function: Callable[[Store], Any], *, parks: bool = False) -> Ticket:
        """Run `function` on the writing connection, between two batches.

        If a database right is missing, the errand is retried until there is one. With `parks` it fails with `Forbidden`
        instead.
        """
        errand = Errand(function, parks=parks)
        if not self._inbox.put(errand):
            errand.settle(error=self._closed())
        return errand

    def tell_dead(self) -> None:
        """If the store is away, settle the jobs of dead chains, so that nothing waits for them. They may still land."""
        if self.is_away:
            self._settle_dead()

    @property
    def is_away(self) -> bool:
        """Whether the store failed when it was last asked, or has not answered for long."""
        return self.contact.is_away

    @property
    def lease_ends_ms(self) -> int:
        """Until when on its own clock no other process may declare this process dead, as far as it knows."""
        return self.last_commit_ms + self._lease_ms

    @property
    def landed(self) -> int | None:
        """The number of this executor's last batch that is known to have landed. For the committer's thread only."""
        whose, number = self._landed
        return number if whose == self.executor.executor_id else None

    @property
    def is_full(self) -> bool:
        """Whether too much is in flight: a caller that hands over more should wait."""
        return self._bytes > MAX_BYTES_IN_FLIGHT or self._units > MAX_UNITS_IN_FLIGHT

    def _settle_dead(self) -> None:
        waiting = (*self._inbox.waiting(), *self._taken, *self._aboard, *self._parked.all())
        held = [item for item in waiting if isinstance(item, Job)]
        settle_all((job, None, job.chain.dead) for job in held if job.chain.dead is not None)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (taken := self._inbox.take_all(self._parked.timeout_seconds)) != []:
                self._taken = items = taken or []  # None: it is only time to retry what is parked.
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
            # A defect, or a crash that a test simulates. Nothing more may be written, and no caller may hang.
            self.died = error
            logger.critical(
                "writing to the database failed permanently: %r; no workflow can continue in this process. Restart it",
                error,
                exc_info=error,
            )
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
        """Return the jobs to commit: without those that were withdrawn, refused or parked."""
        admitted = []
        parked = None if self._parked.is_empty else self._parked
        with self._begin:
            for job in jobs:
                if job.withdrawn:
                    continue
                job.begun = True
                refusal = job.chain.refusal()
                if refusal is not None:
                    job.settle(error=refusal)
                elif parked is None or job.unit.workflow_id is None or not parked.follows(job, job.chain):
                    admitted.append(job)
                else:
                    job.begun = False  # It may still be withdrawn.
        return admitted

    def _board(self, jobs: list[Job]) -> list[Job]:
        """Return the waiting takes that the messages of these jobs may answer, to be committed in the same batch.

        A batch writes messages before takes, so each take finds its message. If a job does not apply, its message is
        missing, and the take waits on.
        """
        if self._waiters.is_empty:
            return []
        keys = [arrival_key(each.destination_id, each.topic) for job in jobs for each in job.unit.messages]
        riders: list[Job] = []
        now = self._clock.now_ms()
        for arrival in self._waiters.longest(keys):
            waiting_take = arrival.board() if len(riders) < MAX_BATCH_UNITS else None
            if waiting_take is not None:
                riders.append(TakeJob(_again(waiting_take.unit, now), waiting_take.waiting.chain, arrival))
        return self._admit(riders)

    def _commit(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        self._hooks.passes(Point.BATCH_TAKEN, jobs)
        try:
            jobs, answers = self._write(jobs)
        except (DataError, Forbidden) as error:
            if len(jobs) == 1 and isinstance(error, Forbidden):
                self._park(jobs[0], str(error))
            elif len(jobs) == 1:
                self._fail(jobs[0], error)
            else:
                middle = len(jobs) // 2
                # Admit both halves again: meanwhile the fence may have moved, and runs may be lost.
                self._commit(self._admit(jobs[:middle]))
                self._commit(self._admit(jobs[middle:]))
        except GivenUp:
            settle_all((job, None, self._closed()) for job in jobs)
        else:
            self._hooks.passes(Point.BATCH_COMMITTED, jobs)
            self._tell(jobs, answers)
            self._hooks.passes(Point.BATCH_TOLD, jobs)

    def _park(self, job: Job, reason: str) -> None:
        """Park a unit, and the later units of its run, until the missing right is granted."""
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
        """Commit one batch, with as many tries as it takes. Returns the jobs that were committed, and the answers."""
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
        """Return the names of the keys that other processes may wait for.

        The name of a message is left out if this process runs the receiver. Only the receiver waits for it, and it runs
        in one process. To move that run, another process first raises this executor's fence. If the batch has not
        landed by then, it is refused and its names are made again. If it has landed, the other process looks for
        messages after its claim, and finds this one.
        """
        own: list[str] = []
        names: set[str] = set()
        for job in jobs:
            own += job.wakes
            names.update(map(cancelled_name, job.unit.cancels))
            if job.unit.stuck is not None or (job.unit.start is not None and not job.unit.start.is_owned):
                names.add(ORPHANS)  # Nobody owns the workflow from now on.
        keys = set(_wake_keys(job.unit for job in jobs))
        names.update(wake_name(key) for key in keys if not (key[0] == MESSAGE and self._owner.runs_here(key[1] or "")))
        return own + (sorted(names) if len(names) <= MAX_NAMES else [WAKE_ALL])

    def _do(self, errand: Errand) -> None:
        try:
            value = self._refenced(partial(errand.function, self._store), parks=errand.parks)
        except GivenUp:
            errand.settle(error=self._closed())
        except Exception as error:
            errand.settle(error=error)
        else:
            errand.settle(value)

    def _refenced(self, ask: Callable[[], T], *, parks: bool) -> T:
        """Call `ask` until it is not fenced. A claim moves the fence, even if its answer was lost."""
        while True:
            try:
                return self._retrying(ask, parks=parks)
            except Fenced:
                self._refence()

    def _refence(self) -> None:
        """Continue under the present fence, without the runs that were taken over."""
        self.executor = self._retrying(partial(self._owner.fence_moved, self._store, self.landed))

    def _retrying(
        self, ask: Callable[[], T], recall: Callable[[], T | None] | None = None, *, parks: bool = False
    ) -> T:
        return retrying(
            ask, self._store.reconnect, self._stop, self._hooks, self.contact, recall, self.tell_dead, parks=parks
        )

    # --- answers and wake-ups ---------------------------------------------------------------------

    def _tell(self, jobs: list[Job], answers: list[Answer]) -> None:
        """Settle the jobs of a committed batch, and wake the waiters for its changes."""
        results: list[tuple[Ticket, Any, BaseException | None]] = []
        applied: list[Unit] = []
        for job, answer in zip(jobs, answers, strict=True):
            if type(answer) is Applied:
                applied.append(job.unit)
                for workflow_id in job.unit.cancels:
                    self._owner.was_cancelled(workflow_id)
            elif job.unit.publishes or (job.unit.starts_child and isinstance(answer, (Stale, NoSuchWorkflow))):
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
    """Kill a run whose publication or start was refused: it was cancelled, for example, and did not know it yet."""
    workflow_id = job.unit.workflow_id or ""
    error: BaseException
    if answer == Stale(Status.CANCELLED):
        error = DBOSWorkflowCancelledError(workflow_id)
    else:
        error = DBOSRunEndedError(workflow_id, "it was taken over or has ended elsewhere")
    job.chain.kill(error)
    return job.chain.dead or error


def _batch_from(items: list[Job | Errand], start: int) -> list[Job]:
    """Return the jobs from `start` on that fit into one batch: at least one."""
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
    """Return a take to be committed again, now. Without the entry for a take that finds no message: that is written."""
    assert unit.entry is not None
    assert unit.take is not None
    return replace(unit, entry=replace(unit.entry, completed_at_ms=now_ms), take=Take(unit.take.topic))


def _wake_keys(units: Iterable[Unit]) -> list[WakeKey]:
    """Return the keys under which waiters for these units' changes are registered.

    A key is returned once for each message, because each message wakes one receiver. Any other key wakes all its
    waiters, and is returned once.
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
            if unit.outcome is not None or unit.stuck is not None:
                others.add(end_key(workflow_id))
        others.update(map(end_key, unit.cancels))
    return [*messages, *others]
