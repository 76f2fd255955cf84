"""All that one process does with one database: builds the parts, starts and stops them in order. Read this first.

    code ── operation ── driver ── port ─┬─ chain ── committer ── store (writing connection)
                                         ├─ reader ────────────── store (reading connection)
                                         ├─ waiters   which waiters wait for which keys
                                         │    └── hearing  wake-ups from other processes
                                         └─ timers    deadlines

    host (engine.host): added by `DBOS.launch`, executes workflows

A run hands its units to its chain, and the chain to the committer. The committer makes them durable in batches, and
then wakes the waiters. Nothing else writes. `DBOS` and every `DBOSClient` of one database share its engine
(`engine.sharing`). An engine without a host executes nothing and owns no workflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from tidings import store as stores
from tidings.engine.database.committer import Committer
from tidings.engine.database.hearing import Hearing
from tidings.engine.database.reader import Reader
from tidings.engine.database.timekeeper import Timekeeper
from tidings.engine.hooks import Hooks
from tidings.engine.ownership.leases import Lease
from tidings.engine.ownership.neglect import Neglect
from tidings.engine.ownership.progress import who_executes
from tidings.engine.runs.again import Lacking
from tidings.engine.runs.other_topics import OtherTopics
from tidings.engine.runs.port import Parts, Port
from tidings.engine.settings import Connection
from tidings.engine.waiting.clock import Clock, SystemClock
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers
from tidings.engine.waiting.waiters import ORPHANS, Waiters
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.model import Code, Executor, ExecutorState, Status, WorkflowRecord
from tidings.shortage import is_shortage, reason_of
from tidings.store import damage
from tidings.store.protocol import KEEP_EXECUTORS_MS, Store, Unavailable

logger = logging.getLogger("tidings")

TAKEN_OVER = "another process took it over"

_GIVE_BACK_MS = 2_000


class HostRuns(Protocol):
    """The runs of a host."""

    @property
    def has_live(self) -> bool:
        """Whether the host executes any workflow."""

    def ids(self) -> list[str]:
        """Return the ids of the workflows that the host executes."""

    def runs(self, workflow_id: str) -> bool:
        """Tell whether the host executes that workflow."""

    def cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is CANCELLED."""

    def ownership_changes(self) -> None:
        """Call this before re-reading what this process owns: claims made earlier may be stale."""

    def kill_lost(self, owned: Mapping[str, int]) -> None:
        """Kill all runs except `owned` (id to epoch): other processes continue the killed ones."""

    def kill_all(self, reason: str, *, only_recorded: bool = False) -> None:
        """Let all runs write nothing more, and wake them from their waits.

        With `only_recorded`, only the runs whose start is durable.
        """


class NoRuns:
    """The runs of an engine without a host."""

    has_live = False

    def ids(self) -> list[str]:
        return []

    def runs(self, workflow_id: str) -> bool:
        return False

    def cancelled(self, workflow_id: str) -> None:
        pass

    def ownership_changes(self) -> None:
        pass

    def kill_lost(self, owned: Mapping[str, int]) -> None:
        pass

    def kill_all(self, reason: str, *, only_recorded: bool = False) -> None:
        pass


def _do_nothing() -> None:
    """Ignore workflows that nobody owns: for an engine without a host."""


class _LastOut:
    """Closes a store when the last thread that uses its connections ends, and in that thread.

    So no connection is closed while a thread uses it. And no caller waits for the close, which may take long where
    other processes queue for the file.
    """

    def __init__(self, store: Store, users: int) -> None:
        self._store = store
        self._users = users
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Note that one of the threads has ended."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._store.close()


class Engine:
    """The parts that all users of one database share. They start and stop together."""

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self.connection = connection
        self.pid = os.getpid()
        self.hooks = Hooks()
        self.clock = clock or SystemClock()
        self.store: Store = stores.open(connection.database_url, connection.schema)
        self.waiters = Waiters()
        last_out = _LastOut(self.store, 2)  # the committer and the reader
        self.committer = Committer(
            self.store, self, self.waiters, self.clock, self.hooks, connection.lease_ms, last_out
        )
        self.reader = Reader(
            self.store, self.hooks, last_out, lambda: stores.open(connection.database_url, connection.schema)
        )
        self.neglect = Neglect(self.waiters, self.reader, self.clock, self.runs_here, self._names_here)
        self.hearing = Hearing(self.store, self.waiters, self.committer, self, self.hooks, connection)
        self.timers = Timers(self.clock)
        self.timekeeper = Timekeeper(self.clock, self.reader, self.timers, self.hearing.look_at_once)
        self.parts = Parts(
            self.committer,
            self.reader,
            self.timers,
            self.waiters,
            self.clock,
            self.hooks,
            Lacking(),
            OtherTopics(self.reader),
        )
        self._runs: HostRuns = NoRuns()
        self._look: Callable[[], None] = _do_nothing
        self._names: Callable[[], Collection[str]] | None = None
        self._ports: list[Port] = []
        self._looks: list[Ticket] = []
        self._lost = ""  # The executor of this process whose lost batches were logged.
        self._lease = Lease(connection.lease_ms, self.clock)

    # --- life -------------------------------------------------------------------------------------

    def open(self, label: str, *, migrate: bool) -> None:
        """Open the store and start the parts that operations need.

        Args:
            label: the name of this process, for people.
            migrate: whether to bring the schema up to date first.

        Raises:
            DBOSInitializationError: the database is down, unfit, or newer than this library.
        """
        damage.say_again()
        try:
            if migrate:
                self.store.migrate()
            self.store.connect()
            self.timekeeper.measure(self.store)
            executor = self._lease.enlist(self.store, label)
            self.hearing.listen(executor.executor_id)
        except Unavailable as error:
            self._lease.release()
            self.store.close()
            raise DBOSInitializationError(f"the database did not answer: {error}") from error
        except BaseException:
            self._lease.release()
            self.store.close()
            raise
        try:
            for start in (
                partial(self.committer.start, executor),
                self.reader.start,
                self.hearing.start,
                partial(self.timers.start, self.timekeeper.look),
            ):
                start()
        except BaseException as error:
            self.stop()
            if is_shortage(error):
                raise DBOSInitializationError(f"this process cannot start what it needs: {reason_of(error)}") from error
            raise

    def open_port(self) -> Port:
        """Make a port for code outside of any run."""
        port = Port(self.parts)
        self._ports.append(port)
        return port

    def close_port(self, port: Port, error: BaseException) -> None:
        """Raise `error` from all calls that still wait at this port, and refuse later calls."""
        if self.pid != os.getpid():
            return  # A forked child has none of the threads, and their locks may never be released in it.
        self._ports.remove(port)
        port.chain.kill(error)
        self.tell_dead()

    def tell_dead(self) -> None:
        """If the store is away, wake the callers that wait for it on a dead chain."""
        self.committer.tell_dead()
        self.reader.tell_dead()

    def admit(
        self,
        runs: HostRuns,
        label: str,
        code: Code,
        look: Callable[[], None],
        names: Callable[[], Collection[str]],
    ) -> None:
        """Manage the runs of a host from now on.

        Args:
            runs: the runs of the host.
            label: the host's name for this process.
            code: the code that it executes workflows with.
            look: called when other processes may have left workflows that nobody owns. Must not block.
            names: returns the names of the workflows that it can execute.
        """
        self._runs = runs
        self._look = look
        self._names = names

        def describe(store: Store) -> None:
            executor = self.committer.executor
            self.committer.executor = self._lease.describe_anew(store, executor, label, code)

        self.committer.call(describe).result()

    def discharge(self) -> None:
        """Give back the workflows that the host still owns. The engine continues as a new executor, which owns none.

        The committer does this after all units that the runs handed over; the host's runs hand over nothing later.
        The caller waits until it is done, but not while the store is away: then it is done once the store is back.
        """
        runs, self._runs, self._look, self._names = self._runs, NoRuns(), _do_nothing, None

        def give_back(store: Store) -> None:
            runs.ownership_changes()
            executor = self.committer.executor
            self._lease.retire(store, executor, (ORPHANS,))
            self.committer.executor = self._become_another(store, executor.label)
            self.waiters.restore_all()

        giving_back = self.committer.call(give_back)
        if not self.committer.is_away:
            self.timers.after(_GIVE_BACK_MS, giving_back)
            with contextlib.suppress(DBOSShutdownError):  # The committer has died: the lease is released already.
                giving_back.result()

    def _become_another(self, store: Store, label: str, code: Code | None = None) -> Executor:
        """Enlist as a new executor, which owns nothing yet, and listen under its id."""
        executor = self._lease.enlist(store, label, code)
        self.hearing.go_on_as(executor.executor_id)
        return executor

    def stop(self) -> None:
        """Stop all parts, promptly. A commit under way is finished.

        A thread that hangs in the database is not waited for. The last such thread closes the store when it returns.
        """
        if self.pid != os.getpid():
            return  # A forked child has none of the threads, and must not touch the parent's connections.
        self.hearing.stop()
        self.timers.stop()
        _ = self.committer.call(lambda store: self._lease.retire(store, self.committer.executor, (ORPHANS,)))
        self.committer.stop()
        self._lease.release()  # Even if the row could not be removed: the next launch must see this executor as dead.
        self.reader.stop()

    # --- called by the committer ----------------------------------------------------------------------

    def fence_moved(self, store: Store, landed: int | None) -> Executor:
        """Kill the runs that another process took over, and keep the rest.

        Or the database lost batches that it had confirmed. Then what this process knows of any run may be wrong. So it
        kills all runs, becomes a new executor, and recovers what is pending, as any other process would.
        """
        self._runs.ownership_changes()
        executor = self.committer.executor
        found = store.refence(executor.executor_id)
        if found is not None and found.last_batch == landed:
            self._runs.kill_lost(found.owned)
            return replace(executor, fence=found.fence)
        if found is not None or (landed is not None and not self._may_be_forgotten()):
            self._say_what_is_lost(executor.executor_id, found, landed)
        elif self._runs.has_live:
            logger.error(
                "this process no longer has a row in the database: other processes declared it dead, because it had "
                "not renewed its lease for a long time. Its workflows continue from what the database holds, and this "
                "process continues under a new executor id"
            )
        self._runs.kill_all(TAKEN_OVER, only_recorded=True)
        return self._become_another(store, executor.label, executor.code)

    def _may_be_forgotten(self) -> bool:
        """Tell whether other processes may have removed this process's row.

        They remove a row only `KEEP_EXECUTORS_MS` after its lease has ended.
        """
        return self.clock.now_ms() >= self.committer.renewed_until_ms + KEEP_EXECUTORS_MS

    def _say_what_is_lost(self, executor_id: str, found: ExecutorState | None, landed: int | None) -> None:
        if self._lost == executor_id:
            return  # It was logged already; then the database failed once more.
        self._lost = executor_id
        if found is None:
            has = "it has no row for this process"
        else:
            has = f"it has the batches of this process up to {found.last_batch or 0}"
        logger.critical(
            "%s has lost changes that it had confirmed (it was restored to an earlier time, overwritten or replaced, "
            "or a standby that lagged took over): %s, and it had confirmed batches up to %d. Messages, events and "
            "results may be missing, and steps whose results are missing run again. The workflows continue from what "
            "the database holds, and this process continues under a new executor id",
            self.store.name,
            has,
            landed or 0,
        )

    def was_cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is now CANCELLED, and wake it from its wait."""
        self._runs.cancelled(workflow_id)

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether this process executes that workflow."""
        return self._runs.runs(workflow_id)

    # --- called by the listener -----------------------------------------------------------------------

    def has_runs(self) -> bool:
        """Tell whether this process executes any workflow."""
        return self._runs.has_live

    def stop_cancelled(self, among: Collection[str] | None = None) -> None:
        """Find which of these workflows, or of all, were cancelled, and stop their runs. Does not block."""
        if among is not None:
            # Also those without a run here: a workflow may be started or claimed, and its run not yet prepared.
            ids = [] if isinstance(self._runs, NoRuns) else list(among)
        else:
            # If two queries for all are pending, the second has not begun. It sees what a third one would.
            self._looks = [look for look in self._looks if not look.settled]
            ids = self._runs.ids() if len(self._looks) < 2 else []
        if ids:
            look = self.reader.ask(partial(self._stop_cancelled, ids))
            if among is None:
                self._looks.append(look)

    def look_for_orphans(self) -> None:
        """Look for workflows that nobody owns: other processes may have left some. Does not block."""
        self._look()

    def tell_waiting(self) -> None:
        """Check now and then whether a caller here waits for a workflow that nobody executes. Does not block."""
        self.neglect.look(self.committer.executor.executor_id)

    def who_executes(self, found: WorkflowRecord, alive: Sequence[Executor]) -> str:
        """Return which process executes a pending workflow, or why none does: text for an error."""
        return who_executes(found, alive, self.committer.executor.executor_id, self._names_here())

    def _names_here(self) -> Collection[str] | None:
        names = self._names
        return None if names is None else names()

    def _stop_cancelled(self, workflow_ids: list[str], store: Store) -> None:
        for workflow_id, status in store.statuses(workflow_ids).items():
            if status is Status.CANCELLED:
                self.was_cancelled(workflow_id)

    def tend_outages(self) -> None:
        """If the database does not answer, log for how long, and wake the callers that wait on a dead chain."""
        for contact in (self.committer.contact, *self.reader.contacts):
            if contact.is_away:
                contact.say_if_held_up(self.store.name)
                self.tell_dead()

    # --- the end --------------------------------------------------------------------------------------

    def was_lost(self, error: BaseException) -> None:
        """Kill all chains and runs, so that no caller hangs: the committer has died and writes nothing more."""
        for port in list(self._ports):
            port.chain.kill(error)
        self._runs.kill_all(str(error))
        self._lease.release()  # Other processes may continue the runs, although this process lives.
