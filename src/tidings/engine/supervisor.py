"""Taking over the runs of the dead, and going on with them: recovery.

A supervisor thread renews the lease when no batch does, looks for executors that have died
(`engine.takeover`), claims their pending workflows (only this program's, of functions registered here, and of
this code version), reads what they recorded, and executes them from there. Claiming raises the dead one's
fence first, so it can write nothing more even if it was only slow.

It looks twice a second whether somebody has died, and with each third of the lease for what nobody
owns; and at once when another process says that it gave something back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from msgspec.structs import replace

from tidings.core.effects import Due
from tidings.core.history import Run
from tidings.core.operations.recorded import by
from tidings.core.operations.results import end_key
from tidings.core.recovery import is_dead_letter, recovery_of
from tidings.engine.chain import Chain
from tidings.engine.leases import sweep
from tidings.engine.live import LiveRun
from tidings.engine.outage import Outage
from tidings.engine.port import Parts
from tidings.engine.registry import Registry, WorkflowFunction
from tidings.engine.runner import Runner
from tidings.engine.takeover import CLAIM_TOGETHER, Takeover
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
from tidings.model import History, Outcome, Recovery, Status, Unit, WorkflowFilter, WorkflowRecord
from tidings.serialization import Serializer, dump_error, load
from tidings.shortage import is_shortage, reason_of
from tidings.store.protocol import Forbidden, Store, Unavailable

logger = logging.getLogger("tidings")

_LOOK_MS = 500
_STOP_SECONDS = 2.0


class Supervisor:
    """Keeps this process's lease, and takes over from processes that lost theirs."""

    def __init__(
        self,
        parts: Parts,
        runner: Runner,
        registry: Registry,
        serializer: Serializer,
        app_version: str,
        program: str,
        lease_ms: int,
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
        self._round_at_ms = parts.clock.own_ms()  # when the next whole round is due
        self._takeover = Takeover(parts, registry, app_version, program, lease_ms, self._claim_of_others)
        self._unattended: set[str] = set()
        self._outage: Outage | None = None  # in which runs that were claimed cannot be prepared
        self._lacks = ""  # the right that was missing at the last look
        self._thread = threading.Thread(target=self._run, name="tidings-supervisor", daemon=True)

    def start(self) -> None:
        """Report what will not be recovered, and begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and claim nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def close(self) -> None:
        """Take nothing more from others; go on with what is this process's."""
        self._is_closing = True

    def look(self) -> None:
        """Look at once: others may have left workflows. Waits for nothing."""
        with self._changed:
            self._has_news = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the end of its last look; not for a database that holds that up."""
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def take_up(self, live: LiveRun) -> None:
        """Execute a run again that could not go on, or not begin, where it was."""
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
                if str(error) != self._lacks:  # It is said once.
                    self._lacks = str(error)
                    logger.warning("no workflows are recovered here, for a right is missing (%s); trying again", error)
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
        if is_round:
            self._round_at_ms = self._parts.clock.own_ms() + self._lease_ms // 3

    def _renew(self) -> None:
        committer = self._parts.committer
        if self._parts.clock.own_ms() - committer.last_commit_ms >= self._lease_ms // 3:
            Chain(committer).commit(Unit()).result()

    def _claim_of_others(self, dead: Collection[str], names: Collection[str], limit: int) -> int:
        """Claim what these dead executors own, and what nobody does."""
        return self._claim(
            lambda store: store.claim(self._parts.committer.executor, dead, names, self._app_version, limit)
        )

    def _resume_detached(self) -> None:
        self._runner.detach_lost()
        with self._changed:
            detached, self._detached = self._detached, []
        # If that fails they are found unattended, which is soon enough for another try.
        self._resume([live.run.workflow_id for live in detached])

    def _resume_unattended(self) -> None:
        """Execute what this process owns and nobody here executes, if that was so at the last look too.

        A claim may have come to nothing after it was made. A start is never found here while its starter
        lives: it is executed here, as far as anybody can see, from the moment it is durable.
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
        """Claim anew, in the committer's thread, what still nobody here executes."""
        return store.reclaim(self._parts.committer.executor, self._runner.unattended(ids))

    def _claim(self, claim: Callable[[Store], list[WorkflowRecord]]) -> int:
        """Claim runs and execute them. Gives how many there were.

        In the committer's inbox this comes behind all that former executions handed over.
        """

        def note_generation(store: Store) -> tuple[list[WorkflowRecord], int]:
            claimed: list[WorkflowRecord] = []
            if not self._stopped:
                committer = self._parts.committer
                claimed = claim(store)
                committer.executor = replace(committer.executor, fence=committer.executor.fence + 1)  # As it is there.
            return claimed, self._runner.generation  # It changes in the committer's thread only, which is this.

        with self._runner.claiming():
            claimed, generation = self._parts.committer.call(note_generation, parks=True).result()
            self._execute(claimed, generation)
        return len(claimed)

    def _execute(self, claimed: list[WorkflowRecord], generation: int) -> None:
        if not claimed:
            return
        ids = [record.workflow_id for record in claimed]
        by_id = self._histories(ids)
        for record in claimed:
            try:
                if not self._execute_one(record, by_id[record.workflow_id], generation):
                    return  # What is ours all the same is found unattended at the next looks.
                self._unattended.discard(record.workflow_id)
            except Exception as error:
                if not is_shortage(error):
                    raise
                self._unattended.add(record.workflow_id)  # It is prepared again in the next round.
                self._outage = self._outage or Outage("preparing workflows to go on", time.monotonic())
                self._outage.say(reason_of(error))
        if self._outage is not None and self._unattended.isdisjoint(ids):
            self._outage.say_over()
            self._outage = None

    def _execute_one(self, record: WorkflowRecord, history: History, generation: int) -> bool:
        """Execute one claimed run. False if it may be this process's no more, and none that was claimed with it."""
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
                "workflow %r could not be executed; trying again",
                run.workflow_id,
                extra={"workflow_id": run.workflow_id},
            )
        return True

    def _histories(self, ids: list[str]) -> dict[str, History]:
        """Read what these have recorded. Where they cannot be read together, the one that cannot is found alone."""
        try:
            read = self._parts.reader.ask(lambda store: store.histories(ids)).result()
        except (DBOSShutdownError, Unavailable):
            raise
        except Exception as error:
            if isinstance(error.__cause__, Unavailable):
                raise  # What passes is no damage.
            if len(ids) == 1:
                return {ids[0]: History(ids[0], (), (), damage=f"what it has recorded cannot be read: {error}")}
            middle = len(ids) // 2
            return self._histories(ids[:middle]) | self._histories(ids[middle:])
        return {history.workflow_id: history for history in read}

    def _begin(self, live: LiveRun, recovery: Recovery | None) -> None:
        """Execute a claimed run, and note what is known of its recovery."""
        run = live.run
        try:
            if recovery is not None:
                with contextlib.suppress(DBOSRunEndedError, DBOSWorkflowCancelledError):  # It is over already.
                    live.port.chain.defer(partial(Unit, run.workflow_id, run.epoch, recovery=recovery))
            self._runner.begin(live)
        except BaseException:
            self._runner.give_up(live)
            raise

    def _is_over(self, record: WorkflowRecord, recovery: Recovery) -> bool:
        """Tell whether a workflow is not to be executed any more; then it is ended."""
        if record.deadline_ms is not None and record.deadline_ms <= self._parts.clock.now_ms():
            _ = Chain(self._parts.committer).commit(Unit(cancel=record.workflow_id))  # Its time was up meanwhile.
            return True
        function = self._registry.workflow(record.name)
        if function is not None and is_dead_letter(recovery, function.max_recovery_attempts):
            self._end_as_dead_letter(record, recovery)
            return True
        return False

    def _call_of(self, record: WorkflowRecord) -> tuple[WorkflowFunction, tuple[Any, ...], dict[str, Any]]:
        """Return what is to be called, and with what. Raises a `DBOSException` if this program cannot."""
        function, receiver = self._find(record)
        if record.inputs is None:  # Only a list may leave them out.
            raise DBOSDamagedWorkflowError(record.workflow_id, "its inputs are NULL")
        inputs = load(self._serializer, record.inputs, f"the arguments of workflow {record.workflow_id!r}")
        return function, *_arguments(inputs, function, receiver, record.workflow_id)

    def _leave_pending(self, record: WorkflowRecord, error: DBOSException) -> None:
        workflow_id = record.workflow_id
        if record.damage is None:  # That was logged when its row was read.
            logger.error("workflow %r stays PENDING: %s", workflow_id, error, extra={"workflow_id": workflow_id})
        self._parts.waiters.fail(end_key(workflow_id), error)
        due = _due_of(record)
        if due is not None:
            _ = self._runner.cancel_at(due, workflow_id)

    def _end_as_dead_letter(self, record: WorkflowRecord, recovery: Recovery) -> None:
        error = MaxRecoveryAttemptsExceededError(record.workflow_id, recovery.attempts)
        logger.error("%s", error, extra={"workflow_id": record.workflow_id})
        text, _ = dump_error(self._serializer, error)
        now = self._parts.clock.now_ms()
        outcome = Outcome(Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED, None, text, now)
        _ = Chain(self._parts.committer).commit(Unit(record.workflow_id, record.epoch, outcome=outcome))

    def _find(self, record: WorkflowRecord) -> tuple[WorkflowFunction, tuple[Any, ...]]:
        """Return the function of a workflow, and what it is called on if it is a method."""
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
            if each.program is not None and each.program != self._program:
                reason = (
                    f"they belong to the program {each.program!r}, of which no process runs, and this is "
                    f"{self._program!r}; start that one, or, if this is the same program under a new name, set 'name' "
                    "to the old one until they have ended"
                )
            elif each.app_version != self._app_version:
                reason = (
                    f"they were started by version {each.app_version!r} of the code, and this is "
                    f"{self._app_version!r}; run that version until they have ended, or, if the new code takes the "
                    "same path, set 'application_version' to it"
                )
            else:
                reason = str(DBOSWorkflowFunctionNotFoundError(each.example_id, each.name))
            logger.warning(
                "%d pending workflows of %r are not recovered here, for example %r: %s",
                each.count,
                each.name,
                each.example_id,
                reason,
            )


def _due_of(record: WorkflowRecord) -> Due | None:
    return by(record.created_at_ms, record.deadline_ms)


def _arguments(
    inputs: Any, function: WorkflowFunction, receiver: tuple[Any, ...], workflow_id: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take the recorded arguments apart. One that does not fit must not keep other workflows from going on."""
    try:
        args, kwargs = (*receiver, *inputs["args"]), dict(inputs["kwargs"])
        function.signature.bind(*args, **kwargs)
    except Exception as error:
        if is_shortage(error):
            raise
        called = f"{function.name}{function.signature} ({error})"
        raise DBOSUnexpectedStepError(workflow_id, "its start", "other arguments", called) from error
    return args, kwargs
