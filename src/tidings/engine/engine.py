"""One process's dealings with one database: builds the parts, starts and stops them in order. Read this first.

    code ── operation ── driver ── port ─┬─ chain ── committer ── store (writing connection)
                                         ├─ reader ────────────── store (reading connection)
                                         ├─ waiters   who waits for what
                                         │    └── hearing  what other processes have changed
                                         └─ timers    until when

    host (engine.host), what `DBOS.launch` adds: it executes workflows

What a run writes goes through its chain to the committer, which makes it durable in batches and then
wakes the waiters. Nothing else writes. `DBOS` and every `DBOSClient` of one database share its engine
(`engine.sharing`). An engine without a host executes nothing and owns no workflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from tidings import store as stores
from tidings.engine.again import Lacking
from tidings.engine.clock import Clock, SystemClock
from tidings.engine.committer import Committer
from tidings.engine.hearing import Hearing
from tidings.engine.leases import Lease
from tidings.engine.port import Parts, Port
from tidings.engine.probes import Probes
from tidings.engine.reader import Reader
from tidings.engine.settings import Connection
from tidings.engine.ticket import Ticket
from tidings.engine.timekeeper import Timekeeper
from tidings.engine.timers import Timers
from tidings.engine.waiters import ORPHANS, Waiters
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.model import Executor, ExecutorState, Status
from tidings.shortage import is_shortage, reason_of
from tidings.store import damage
from tidings.store.protocol import KEEP_EXECUTORS_MS, Store, Unavailable

logger = logging.getLogger("tidings")

TAKEN_OVER = "another process took it over"

_GIVE_BACK_MS = 2_000


class Runs(Protocol):
    """What a host executes."""

    @property
    def has_live(self) -> bool:
        """Whether anything is executed."""

    def ids(self) -> list[str]:
        """Return the workflows that are executed."""

    def runs(self, workflow_id: str) -> bool:
        """Tell whether that workflow is executed."""

    def cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is CANCELLED."""

    def ownership_changes(self) -> None:
        """Call this before re-reading what this process owns: claims made earlier may be stale."""

    def kill_lost(self, owned: Mapping[str, int]) -> None:
        """Kill all runs but these, id to epoch: they go on elsewhere."""

    def kill_all(self, reason: str, *, only_recorded: bool = False) -> None:
        """Let all runs write nothing more, or all whose start is durable; wake them from whatever they wait for."""


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
    """What an engine without a host does about workflows that nobody owns."""


class _LastOut:
    """Closes a store in the last of the threads that use its connections: never under one, nor under who waits for it.

    Closing takes its time where other processes queue for the file.
    """

    def __init__(self, store: Store, users: int) -> None:
        self._store = store
        self._users = users
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """One of them is through."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._store.close()


class Engine:
    """The parts that all users of one database share, and their common life."""

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self.connection = connection
        self.pid = os.getpid()
        self.probes = Probes()
        self.clock = clock or SystemClock()
        self.store: Store = stores.open(connection.database_url, connection.schema)
        self.waiters = Waiters()
        last_out = _LastOut(self.store, 2)  # the committer and the reader
        self.committer = Committer(
            self.store, self, self.waiters, self.clock, self.probes, connection.lease_ms, last_out
        )
        self.reader = Reader(
            self.store, self.probes, last_out, lambda: stores.open(connection.database_url, connection.schema)
        )
        self.hearing = Hearing(self.store, self.waiters, self.committer, self, self.probes, connection)
        self.timers = Timers(self.clock)
        self.timekeeper = Timekeeper(self.clock, self.reader, self.timers, self.hearing.look_at_once)
        self.parts = Parts(self.committer, self.reader, self.timers, self.waiters, self.clock, self.probes, Lacking())
        self._runs: Runs = NoRuns()
        self._look: Callable[[], None] = _do_nothing
        self._ports: list[Port] = []
        self._looks: list[Ticket] = []
        self._lost = ""  # the executor of ours of whose batches the database lost some
        self._lease = Lease(connection.lease_ms, self.clock)

    # --- life -------------------------------------------------------------------------------------

    def open(self, label: str, *, migrate: bool) -> None:
        """Open the store and start the parts that operations need.

        Args:
            label: how people call this process.
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
        """End what still waits at this port with `error`, and refuse what comes."""
        if self.pid != os.getpid():
            return  # A forked child has none of the threads, and may find their locks taken for ever.
        self._ports.remove(port)
        port.chain.kill(error)
        self.tell_dead()

    def tell_dead(self) -> None:
        """Let nobody whose chain is dead wait for a store that is away."""
        self.committer.tell_dead()
        self.reader.tell_dead()

    def admit(self, runs: Runs, label: str, app_version: str, program: str, look: Callable[[], None]) -> None:
        """Answer for the runs of a host.

        Args:
            runs: what it executes.
            label: how it calls this process.
            app_version: of its code.
            program: whose workflows it executes.
            look: what it does when others may have left workflows that nobody owns; waits for nothing.
        """
        self._runs = runs
        self._look = look

        def describe(store: Store) -> None:
            executor = self.committer.executor
            self.committer.executor = self._lease.describe_anew(store, executor, label, app_version, program)

        self.committer.call(describe).result()

    def discharge(self) -> None:
        """Give back what the host's runs leave behind: the engine goes on as a new executor, which owns nothing.

        Behind all that the runs handed over, for nothing that comes later is theirs. It is waited for, but
        not for a store that is away: that gets it when it is back.
        """
        runs, self._runs, self._look = self._runs, NoRuns(), _do_nothing

        def give_back(store: Store) -> None:
            runs.ownership_changes()
            executor = self.committer.executor
            self._lease.retire(store, executor, (ORPHANS,))
            self.committer.executor = self._become_another(store, executor.label)
            self.waiters.restore_all()

        giving_back = self.committer.call(give_back)
        if not self.committer.is_away:
            self.timers.after(_GIVE_BACK_MS, giving_back)
            with contextlib.suppress(DBOSShutdownError):  # The committer has died: its lease is released.
                giving_back.result()

    def _become_another(
        self, store: Store, label: str, app_version: str | None = None, program: str | None = None
    ) -> Executor:
        """Enlist as a new executor, which owns nothing yet, and listen as that."""
        executor = self._lease.enlist(store, label, app_version, program)
        self.hearing.go_on_as(executor.executor_id)
        return executor

    def stop(self) -> None:
        """End all parts, promptly. What is being committed is kept.

        A thread that the database holds up is left behind. The last one closes the store, when it is let go.
        """
        if self.pid != os.getpid():
            return  # A forked child has none of the threads, and must not touch the parent's connections.
        self.hearing.stop()
        self.timers.stop()
        _ = self.committer.call(lambda store: self._lease.retire(store, self.committer.executor, (ORPHANS,)))
        self.committer.stop()
        self._lease.release()  # Also where the row could not be given back: the next launch must see us dead.
        self.reader.stop()

    # --- what the committer asks of the owner of the runs --------------------------------------------

    def fence_moved(self, store: Store, landed: int | None) -> Executor:
        """Another process has changed who owns runs of ours: drop those, and keep the rest.

        Or the database has not what it had: then what we know of any run may be wrong. All are dropped, and
        with a new executor this process takes up what is pending there, as any other would.
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
                "the database does not know this process any more, which was declared dead long ago; its workflows go "
                "on as the database has them, and the process goes on as a new one"
            )
        self._runs.kill_all(TAKEN_OVER, only_recorded=True)
        return self._become_another(store, executor.label, executor.app_version, executor.program)

    def _may_be_forgotten(self) -> bool:
        """Tell whether others may have removed this process's row: nobody does before its lease ended long ago."""
        return self.clock.now_ms() >= self.committer.renewed_until_ms + KEEP_EXECUTORS_MS

    def _say_what_is_lost(self, executor_id: str, found: ExecutorState | None, landed: int | None) -> None:
        if self._lost == executor_id:
            return  # It was said, and then the database went away once more.
        self._lost = executor_id
        if found is None:
            has = "it does not know this process any more"
        else:
            has = f"of this process it has the batches up to {found.last_batch or 0}"
        logger.critical(
            "the database at %s has lost what it had acknowledged (it was restored to an earlier time, overwritten or "
            "replaced, or a standby took over that lagged): %s, and it had acknowledged batches up to %d. "
            "Messages, events and results that were there may be missing, and steps run again whose results are. The "
            "workflows go on as the database has them, and this process goes on as a new one",
            stores.redact(self.connection.database_url),
            has,
            landed or 0,
        )

    def was_cancelled(self, workflow_id: str) -> None:
        """A workflow is CANCELLED: wake its run from whatever it waits for."""
        self._runs.cancelled(workflow_id)

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether this process executes that workflow."""
        return self._runs.runs(workflow_id)

    # --- what the listener asks of it -----------------------------------------------------------------

    def are_there(self) -> bool:
        """Tell whether this process executes anything."""
        return self._runs.has_live

    def stop_cancelled(self, among: Collection[str] | None = None) -> None:
        """Look which of these workflows, or of all, were cancelled, and stop their runs. Waits for nothing."""
        if among is not None:
            # Also those that are not here: one may be on its way, started or claimed, and not yet prepared.
            ids = [] if isinstance(self._runs, NoRuns) else list(among)
        else:
            # A look at all that has not begun yet is as good as one more. Of two, the second has not.
            self._looks = [look for look in self._looks if not look.settled]
            ids = self._runs.ids() if len(self._looks) < 2 else []
        if ids:
            look = self.reader.ask(partial(self._stop_cancelled, ids))
            if among is None:
                self._looks.append(look)

    def look_for_orphans(self) -> None:
        """Others may have left workflows that nobody owns. Waits for nothing."""
        self._look()

    def _stop_cancelled(self, workflow_ids: list[str], store: Store) -> None:
        for workflow_id, status in store.statuses(workflow_ids).items():
            if status is Status.CANCELLED:
                self.was_cancelled(workflow_id)

    def tend_outages(self) -> None:
        """Say of a database that does not answer how long it has not, and let nobody wait for it who is dead."""
        for asking in (self.committer.asking, *self.reader.askings):
            if asking.is_away:
                asking.say_if_held_up(stores.redact(self.connection.database_url))
                self.tell_dead()

    # --- the end --------------------------------------------------------------------------------------

    def was_lost(self, error: BaseException) -> None:
        """Nothing can be written any more: nobody may hang for it."""
        for port in list(self._ports):
            port.chain.kill(error)
        self._runs.kill_all(str(error))
        self._lease.release()  # Others may go on with the runs, though this process lives.
