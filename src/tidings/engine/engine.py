"""One process that runs workflows: builds the parts, starts and stops them in order. Read this first.

    code ── operation ── driver ── port ─┬─ chain ── committer ── store (writing connection)
                                         ├─ reader ────────────── store (reading connection)
                                         ├─ waiters   who waits for what
                                         │    └── hearing  what other processes have changed
                                         └─ timers    until when
    runner      executes runs, on event loops or on workers (threads)
    supervisor  keeps the lease, recovers the runs of processes that died

What a run writes goes through its chain to the committer, which makes it durable in batches and then
wakes the waiters. Nothing else writes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from functools import partial

from tidings import store as stores
from tidings.engine.clock import Clock, SystemClock
from tidings.engine.committer import Committer
from tidings.engine.hearing import Hearing
from tidings.engine.leases import Lease
from tidings.engine.loops import BackgroundLoop
from tidings.engine.port import Parts, Port
from tidings.engine.probes import Probes
from tidings.engine.reader import Reader
from tidings.engine.registry import Registry
from tidings.engine.runner import LiveRun, Runner
from tidings.engine.settings import Settings
from tidings.engine.starting import Starter
from tidings.engine.supervisor import Supervisor
from tidings.engine.ticket import Ticket
from tidings.engine.timers import Timers
from tidings.engine.waiters import Waiters
from tidings.engine.workers import Workers
from tidings.error import DBOSInitializationError, DBOSRunEndedError, DBOSShutdownError
from tidings.model import Executor, Status
from tidings.store.protocol import Store, Unavailable

logger = logging.getLogger("tidings")


class Engine:
    """The parts of one process, and their common life."""

    def __init__(self, settings: Settings, registry: Registry, clock: Clock | None = None) -> None:
        self.settings = settings
        self.registry = registry
        self.probes = Probes()
        self.pid = os.getpid()
        self.app_version = settings.application_version or registry.version()
        self.clock = clock or SystemClock()
        self.store: Store = stores.open(settings.database_url, settings.schema)
        self.waiters = Waiters()
        self.workers = Workers(settings.max_executor_threads)
        self.committer = Committer(self.store, self, self.waiters, self.clock, self.probes, settings.lease_ms)
        self.reader = Reader(self.store, self.probes)
        self.timers = Timers(self.clock)
        self.hearing = Hearing(self.store, self.waiters, self.committer, self, self.probes, settings)
        self._looks: list[Ticket] = []
        self._background = BackgroundLoop()
        self._lease = Lease(settings.executor_label, settings.lease_ms, self.clock)
        parts = Parts(
            self.committer, self.reader, self.timers, self.waiters, self.clock, self.probes, self.workers.parked
        )
        self.port = Port(parts)  # For code outside of any run.
        self.runner = Runner(parts, self.workers, self._background, self._take_up)
        self.starter = Starter(self.runner, self.clock, settings.serializer, self.app_version)
        self.supervisor = Supervisor(
            parts, self.runner, registry, settings.serializer, self.app_version, settings.lease_ms
        )

    # --- life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store and start the parts that operations need.

        Raises:
            DBOSInitializationError: the database is down, unfit, or newer than this library.
        """
        try:
            if self.settings.run_migrations:
                self.store.migrate()
            self.store.connect()
            self.clock.synchronise(self.store.now_ms())
            executor = self._lease.enlist(self.store)
            self.hearing.listen(executor.executor_id)
        except Unavailable as error:
            self._lease.release()
            self.store.close()
            raise DBOSInitializationError(f"the database did not answer: {error}") from error
        except BaseException:
            self._lease.release()
            self.store.close()
            raise
        self.committer.start(executor)
        self.reader.start()
        self.hearing.start()
        self.timers.start()

    def recover(self) -> None:
        """Begin to execute what ended processes left. Their operations must find this engine already."""
        self.supervisor.start()

    def stop(self) -> None:
        """End all parts, promptly. What is being committed is kept; runs go on at the next launch."""
        if self.pid != os.getpid():
            return  # A forked child has none of the threads, and must not touch the parent's connections.
        self.port.chain.kill(DBOSShutdownError())
        self.runner.kill_all(lambda workflow_id: DBOSRunEndedError(workflow_id, "tidings was shut down"))
        self.hearing.stop()
        self.timers.stop()
        self.workers.stop()
        self._background.stop()
        _ = self.committer.call(lambda store: self._lease.retire(store, self.committer.executor))
        has_stopped = self.committer.stop()
        self._lease.release()  # Also where the row could not be given back: the next launch must see us dead.
        has_stopped = self.reader.stop() and has_stopped
        self.supervisor.stop(wait=has_stopped)
        if has_stopped:  # A connection must not be closed under the thread that uses it.
            self.store.close()

    # --- what the committer asks of the owner of the runs --------------------------------------------

    def fence_moved(self, store: Store) -> Executor:
        """Another process has changed who owns runs of ours: drop those, and keep the rest."""
        self.runner.ownership_changes()
        executor = self.committer.executor
        found = store.refence(executor.executor_id)
        if found is None:
            logger.error("this process was taken for dead and its workflows were taken over; it goes on as a new one")
            self.runner.kill_all(lambda workflow_id: DBOSRunEndedError(workflow_id, "another process took it over"))
            renamed = self._lease.enlist(store)
            self.hearing.go_on_as(renamed.executor_id)
            return renamed
        fence, owned = found
        for live in self.runner.all_live():
            run = live.run
            is_starting = live.starting is not None and not live.starting.settled
            if owned.get(run.workflow_id) != run.epoch and not is_starting:
                logger.warning("workflow %r was taken over by another process", run.workflow_id)
                self.runner.kill(run.workflow_id, DBOSRunEndedError(run.workflow_id, "another process took it over"))
        return Executor(executor.executor_id, executor.label, executor.lease_until_ms, fence)

    def was_cancelled(self, workflow_id: str) -> None:
        """A workflow is CANCELLED: wake its run from whatever it waits for."""
        self.runner.cancelled(workflow_id)

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether this process executes that workflow."""
        return self.runner.live(workflow_id) is not None

    # --- what the listener asks of it -----------------------------------------------------------------

    def are_there(self) -> bool:
        """Tell whether this process executes anything."""
        return self.runner.has_live

    def stop_cancelled(self, among: Collection[str] | None = None) -> None:
        """Look which of these workflows, or of all, were cancelled, and stop their runs. Waits for nothing."""
        if among is not None:
            ids = [workflow_id for workflow_id in among if self.runs_here(workflow_id)]
        else:
            # A look at all that has not begun yet is as good as one more. Of two, the second has not.
            self._looks = [look for look in self._looks if not look.settled]
            ids = [live.run.workflow_id for live in self.runner.all_live()] if len(self._looks) < 2 else []
        if ids:
            look = self.reader.ask(partial(self._stop_cancelled, ids))
            if among is None:
                self._looks.append(look)

    def _stop_cancelled(self, workflow_ids: list[str], store: Store) -> None:
        for workflow_id, status in store.statuses(workflow_ids).items():
            if status is Status.CANCELLED:
                self.was_cancelled(workflow_id)

    # --- the end --------------------------------------------------------------------------------------

    def was_lost(self, error: BaseException) -> None:
        """Nothing can be written any more: nobody may hang for it."""
        self.port.chain.kill(error)
        self.runner.kill_all(lambda workflow_id: DBOSRunEndedError(workflow_id, str(error)))

    def _take_up(self, live: LiveRun) -> None:
        self.supervisor.take_up(live)
