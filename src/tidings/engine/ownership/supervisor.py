"""Recovery: takes over the workflows of dead executors, and continues them.

A supervisor thread renews the lease when no batch does. It looks for dead executors (`engine.ownership.takeover`),
claims their pending workflows, reads the histories, and continues from there. It claims only workflows of this program
and code version, with functions registered here. A claim first raises the fence of the dead executor. So that executor
can write nothing more, even if it was only slow.

The thread looks for dead executors twice a second. It looks for workflows without an owner at each third of the lease,
and at once when another process has given workflows back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from tidings.core.effects import Due
from tidings.core.history import Run
from tidings.core.operations.recorded import by
from tidings.core.operations.results import end_key
from tidings.core.recovery import is_dead_letter, recovery_of
from tidings.engine.database.chain import Chain
from tidings.engine.database.outage import Outage
from tidings.engine.lock_files import sweep
from tidings.engine.ownership.takeover import CLAIM_TOGETHER, Takeover
from tidings.engine.runs import reports
from tidings.engine.runs.live import LiveRun
from tidings.engine.runs.port import Parts
from tidings.engine.runs.registry import Registry, WorkflowFunction
from tidings.engine.runs.runner import Runner
from tidings.engine.waiting.ticket import Ticket
from tidings.error import (
    DBOSDamagedWorkflowError,
    DBOSException,
    DBOSRunEndedError,
    DBOSShutdownError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
    DBOSWorkflowFunctionNotFoundError,
    MaxRecoveryAttemptsExceededError,
)
from tidings.model import ANY_VERSION, History, Outcome, Recovery, Status, Unit, WorkflowFilter, WorkflowRecord
from tidings.serialization import Serializer, dump_error, load
from tidings.shortage import is_shortage, reason_of
from tidings.store.protocol import Forbidden, Store, Unavailable

logger = logging.getLogger("tidings")

_LOOK_MS = 500
_STOP_SECONDS = 2.0
_LAST_SECONDS = 0.5  # How long a host that stops waits for an answer that is only logged.


class _Unread(NamedTuple):
    """A query for the unread messages of ended workflows: the names of these by id, and the ticket of the answer."""

    names: dict[str, str]
    counted: Ticket


class Supervisor:
    """Renews this process's lease, and recovers the workflows of processes that lost theirs."""

    def __init__(
        self,
        parts: Parts,
        runner: Runner,
        registry: Registry,
        serializer: Serializer,
        app_version: str,
        program: str,
        lease_ms: int,
        *,
        takes_other_versions: bool,
    ) -> None:
        self._parts = parts
        self._runner = runner
        self._registry = registry
        self._serializer = serializer
        self._app_version = app_version
        self._program = program
        self._lease_ms = lease_ms
        self._changed = threading.Condition()
        self._stopped = False
        self._is_closing = False
        self._detached: list[LiveRun] = []
        self._has_news = False
        self._round_at_ms = parts.clock.own_ms()  # When the next whole round is due.
        self._takeover = Takeover(
            parts,
            registry,
            app_version,
            program,
            lease_ms,
            self._claim_of_others,
            takes_other_versions=takes_other_versions,
        )
        self._unattended: set[str] = set()
        self._outage: Outage | None = None  # A shortage in which claimed runs cannot be prepared.
        self._lacks = ""  # The database right that was missing at the last look.
        self._thread = threading.Thread(target=self._run, name="tidings-supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread. It first logs which pending workflows will not be recovered here."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and claiming."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def close(self) -> None:
        """Take over nothing more; continue what this process owns."""
        self._is_closing = True

    def look(self) -> None:
        """Look at once: other processes may have left workflows. Does not block."""
        with self._changed:
            self._has_news = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the last look to end, but only shortly, because the database may hang."""
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def take_up(self, live: LiveRun) -> None:
        """Execute a run again that could not begin or continue where it was."""
        with self._changed:
            self._detached.append(live)
            self._changed.notify()

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        first = True
        while True:
            try:
                if first:
                    sweep()
                    self._report_leftovers()
                self._turn()
                first = False
                self._lacks = ""
            except DBOSShutdownError:
                return
            except Forbidden as error:
                if str(error) != self._lacks:  # Log it once.
                    self._lacks = str(error)
                    logger.warning(
                        "workflows of ended processes cannot be recovered: a database right is missing (%s); trying "
                        "again. Grant the right to this database user",
                        error,
                    )
            except Exception:
                logger.exception("looking for workflows to recover failed; trying again")
            with self._changed:
                if not (self._stopped or self._detached or self._has_news):
                    pause_ms = min(_LOOK_MS, self._lease_ms // 6)
                    self._parts.clock.wait(self._changed, self._parts.clock.own_ms() + pause_ms)
                if self._stopped:
                    return

    def _turn(self) -> None:
        self._resume_detached()
        has_news, self._has_news = self._has_news, False
        is_round = self._parts.clock.own_ms() >= self._round_at_ms
        if is_round:
            self._resume_unattended()
            self._renew()
        if not self._is_closing:
            self._takeover.look(thorough=is_round or has_news)
        self._say_unread(self._ask_unread())
        if is_round:
            self._round_at_ms = self._parts.clock.own_ms() + self._lease_ms // 3

    def say_last_unread(self) -> None:
        """Log which of the last workflows left messages unread. Waits at most half a second for the database."""
        asked, is_there = self._ask_unread(), threading.Event()
        if asked is not None:
            asked.counted.when_settled(is_there.set)
            if is_there.wait(_LAST_SECONDS):
                with contextlib.suppress(Exception):
                    self._say_unread(asked)

    def _ask_unread(self) -> _Unread | None:
        names = self._runner.take_to_count()
        if not names or not reports.logger.isEnabledFor(logging.WARNING):
            return None
        return _Unread(names, self._parts.reader.ask(lambda store: store.count_unread(list(names))))

    def _say_unread(self, asked: _Unread | None) -> None:
        if asked is not None:
            for workflow_id, count in asked.counted.result().items():
                reports.left_unread(workflow_id, asked.names[workflow_id], count)

    def _renew(self) -> None:
        committer = self._parts.committer
        if self._parts.clock.own_ms() - committer.last_commit_ms >= self._lease_ms // 3:
            Chain(committer).commit(Unit()).result()

    def _claim_of_others(
        self, dead: Collection[str], names: Collection[str], reserved: Collection[str] | None, limit: int
    ) -> list[WorkflowRecord]:
        """Claim workflows that these dead executors own, and workflows without an owner; see `Store.claim`."""
        return self._claim(
            lambda store: store.claim(self._parts.committer.executor, dead, names, self._app_version, limit, reserved)
        )

    def _resume_detached(self) -> None:
        self._runner.detach_lost()
        with self._changed:
            detached, self._detached = self._detached, []
        # If this fails, a later round finds these workflows unattended, and tries again.
        self._resume([live.run.workflow_id for live in detached])

    def _resume_unattended(self) -> None:
        """Execute the workflows that this process owns but does not execute, if the last round found them too.

        A claim may have landed although its runs did not begin. A started workflow is never found here while its
        starter lives: from the moment its start is durable, it counts as executed here.
        """
        executor_id = self._parts.committer.executor.executor_id
        wanted = WorkflowFilter(
            executor_id=executor_id, statuses=(Status.PENDING,), with_inputs=False, with_outputs=False
        )
        listed = self._parts.reader.ask(lambda store: store.list_workflows(wanted)).result()
        owned = [each.workflow_id for each in listed]
        unattended = {
            each
            for each in owned
            if self._runner.live(each) is None and not self._parts.waiters.has_failed(end_key(each))
        }
        seen_twice, self._unattended = sorted(unattended & self._unattended), unattended
        self._resume(seen_twice)

    def _resume(self, ids: list[str]) -> None:
        for start in range(0, len(ids), CLAIM_TOGETHER):
            self._claim(partial(self._reclaim, ids[start : start + CLAIM_TOGETHER]))

    def _reclaim(self, ids: list[str], store: Store) -> list[WorkflowRecord]:
        """Claim again, in the committer's thread, those that this process still does not execute."""
        return store.reclaim(self._parts.committer.executor, self._runner.unattended(ids))

    def _claim(self, claim: Callable[[Store], list[WorkflowRecord]]) -> list[WorkflowRecord]:
        """Claim workflows and execute them.

        The claim goes through the committer's inbox, so it comes after all units that earlier runs handed over.
        """

        def note_generation(store: Store) -> tuple[list[WorkflowRecord], int]:
            claimed: list[WorkflowRecord] = []
            if not self._stopped:
                committer = self._parts.committer
                claimed = claim(store)
                committer.executor = replace(committer.executor, fence=committer.executor.fence + 1)  # As in the row.
            return claimed, self._runner.generation  # Only this thread, the committer's, changes it.

        with self._runner.claiming():
            claimed: list[WorkflowRecord]
            claimed, generation = self._parts.committer.call(note_generation, parks=True).result()
            self._execute(claimed, generation)
        return claimed

    def _execute(self, claimed: list[WorkflowRecord], generation: int) -> None:
        if not claimed:
            return
        ids = [record.workflow_id for record in claimed]
        by_id = self._histories(ids)
        for record in claimed:
            try:
                if not self._execute_one(record, by_id[record.workflow_id], generation):
                    return  # A later round finds those that are still ours.
                self._unattended.discard(record.workflow_id)
            except Exception as error:
                if not is_shortage(error):
                    raise
                self._unattended.add(record.workflow_id)  # The next round prepares it again.
                self._outage = self._outage or Outage("preparing workflows to continue", time.monotonic())
                self._outage.say(reason_of(error))
        if self._outage is not None and self._unattended.isdisjoint(ids):
            self._outage.say_over()
            self._outage = None

    def _execute_one(self, record: WorkflowRecord, history: History, generation: int) -> bool:
        """Execute one claimed run. False if this process may have lost it, and with it all runs of the same claim."""
        damage = record.damage or history.damage
        if damage is not None:
            self._leave_pending(record, DBOSDamagedWorkflowError(record.workflow_id, damage))
            return True
        recovery = recovery_of(record, history)
        if self._is_over(record, recovery):
            return True
        try:
            function, args, kwargs = self._call_of(record)
        except DBOSException as error:
            self._leave_pending(record, error)
            return True
        run = Run(record.workflow_id, record.epoch, record.name, self._serializer, history, due=_due_of(record))
        live = self._runner.prepare_claimed(run, function, args, kwargs, generation)
        if live is None:
            return False
        try:
            self._begin(live, recovery if recovery != Recovery(record.recovery_attempts, record.progress) else None)
        except Exception:
            logger.exception(
                "recovering workflow %r failed; trying again",
                run.workflow_id,
                extra={"workflow_id": run.workflow_id},
            )
        return True

    def _histories(self, ids: list[str]) -> dict[str, History]:
        """Read the histories of these workflows. If that fails, read halves, down to the one that cannot be read."""
        try:
            read = self._parts.reader.ask(lambda store: store.histories(ids)).result()
        except (DBOSShutdownError, Unavailable):
            raise
        except Exception as error:
            if isinstance(error.__cause__, Unavailable):
                raise  # A failure that may pass is no damage.
            if len(ids) == 1:
                return {ids[0]: History(ids[0], (), (), damage=f"its history cannot be read: {error}")}
            middle = len(ids) // 2
            return self._histories(ids[:middle]) | self._histories(ids[middle:])
        return {history.workflow_id: history for history in read}

    def _begin(self, live: LiveRun, recovery: Recovery | None) -> None:
        """Begin a claimed run, and record its recovery attempts if they have changed."""
        run = live.run
        try:
            if recovery is not None:
                with contextlib.suppress(DBOSRunEndedError, DBOSWorkflowCancelledError):  # It has ended already.
                    live.port.chain.defer(partial(Unit, run.workflow_id, run.epoch, recovery=recovery))
            self._runner.begin(live)
        except BaseException:
            self._runner.give_up(live)
            raise

    def _is_over(self, record: WorkflowRecord, recovery: Recovery) -> bool:
        """Tell whether a workflow must no longer be executed, and end it then."""
        if record.deadline_ms is not None and record.deadline_ms <= self._parts.clock.now_ms():
            self._runner.cancel_overdue(record.workflow_id, record.name)  # It has timed out meanwhile.
            return True
        function = self._registry.workflow(record.name)
        if function is not None and is_dead_letter(recovery, function.max_recovery_attempts):
            self._end_as_dead_letter(record, recovery)
            return True
        return False

    def _call_of(self, record: WorkflowRecord) -> tuple[WorkflowFunction, tuple[Any, ...], dict[str, Any]]:
        """Return the function of a workflow, and its arguments. Raises a `DBOSException` if this program cannot."""
        function, receiver = self._find(record)
        if record.inputs is None:  # A claim always reads them; only a list may leave them out.
            raise DBOSDamagedWorkflowError(record.workflow_id, "its inputs are NULL")
        inputs = load(self._serializer, record.inputs, f"the arguments of workflow {record.workflow_id!r}")
        return function, *_arguments(inputs, function, receiver, record.workflow_id)

    def _leave_pending(self, record: WorkflowRecord, error: DBOSException) -> None:
        workflow_id = record.workflow_id
        if record.damage is None:  # Damage was logged when the row was read.
            logger.error("workflow %r stays PENDING: %s", workflow_id, error, extra={"workflow_id": workflow_id})
        self._parts.waiters.fail(end_key(workflow_id), error)
        due = _due_of(record)
        if due is not None:
            _ = self._runner.cancel_at(due, workflow_id, record.name)

    def _end_as_dead_letter(self, record: WorkflowRecord, recovery: Recovery) -> None:
        error = MaxRecoveryAttemptsExceededError(record.workflow_id, recovery.attempts)
        extra = {"workflow_id": record.workflow_id, "workflow_name": record.name}
        logger.error("%s", error, extra=extra)
        text, _ = dump_error(self._serializer, error)
        now = self._parts.clock.now_ms()
        outcome = Outcome(Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED, None, text, now)
        _ = Chain(self._parts.committer).commit(Unit(record.workflow_id, record.epoch, outcome=outcome))
        self._runner.count_unread_of(record.workflow_id, record.name)

    def _find(self, record: WorkflowRecord) -> tuple[WorkflowFunction, tuple[Any, ...]]:
        """Return the function of a workflow, and its receiver if it is a method."""
        function = self._registry.workflow(record.name)
        if function is None:
            raise DBOSWorkflowFunctionNotFoundError(record.workflow_id, record.name)
        if record.class_name is None:
            return function, ()
        receiver = self._registry.receivers.find(record.class_name, record.config_name)
        if receiver is None:
            raise DBOSWorkflowFunctionNotFoundError(
                record.workflow_id, record.name, record.class_name, record.config_name
            )
        return function, (receiver.target,)

    def _report_leftovers(self) -> None:
        for each in self._takeover.leftovers():
            is_one = each.count == 1
            they, were, have, belong = ("it", "was", "has", "belongs") if is_one else ("they", "were", "have", "belong")
            if each.program is not None and each.program != self._program:
                reason = (
                    f"{they} {belong} to the program {each.program!r}, which is not running, and this is "
                    f"{self._program!r}; start that program, or, if this is the same program under a new name, set "
                    f"'name' to the old name until {they} {have} ended"
                )
            elif self._registry.workflow(each.name) is None:
                reason = str(DBOSWorkflowFunctionNotFoundError(each.example_id, each.name))
            elif each.app_version not in (self._app_version, ANY_VERSION):
                reason = (
                    f"{they} {were} started by version {each.app_version!r} of the code, and this is "
                    f"{self._app_version!r}; run that version until {they} {have} ended, or, if the new code makes the "
                    "same calls, set 'recover_versions' to 'compatible'"
                )
            else:
                reason = str(DBOSWorkflowFunctionNotFoundError(each.example_id, each.name))
            logger.warning(
                "%d pending workflow%s of %r %s not recovered here, for example %r: %s",
                each.count,
                "" if is_one else "s",
                each.name,
                "is" if is_one else "are",
                each.example_id,
                reason,
            )


def _due_of(record: WorkflowRecord) -> Due | None:
    return by(record.created_at_ms, record.deadline_ms)


def _arguments(
    inputs: Any, function: WorkflowFunction, receiver: tuple[Any, ...], workflow_id: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the recorded arguments. Arguments that do not fit raise a `DBOSException`: others must still recover."""
    try:
        args, kwargs = (*receiver, *inputs["args"]), dict(inputs["kwargs"])
        function.check_call(args, kwargs)
    except Exception as error:
        if is_shortage(error):
            raise
        called = f"{function.name}{function.signature} ({error})"
        raise DBOSUnexpectedStepError(workflow_id, "its start", "other arguments", called) from error
    return args, kwargs
