"""Starting, awaiting and ending workflows.

A child, its id and the entry of its start are one unit. A result awaited in a workflow is recorded.
A run ends by one unit, which applies only while the workflow is pending under this run's epoch. So of
two executions of one workflow, or of an end and a cancellation, only the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from tidings.core.effects import (
    BARRIER,
    NOW,
    Commit,
    Due,
    ExecutorList,
    Failed,
    FindWorkflow,
    ListExecutors,
    Operation,
    Read,
    Tell,
    WakeKey,
)
from tidings.core.history import Run, Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import (
    abandonable,
    all_come_again,
    await_until,
    by,
    finished,
    load_result,
    recorded,
    refuse,
    timing,
    unexpected,
    within,
)
from tidings.core.recovery import heirs
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSConflictingWorkflowError,
    DBOSDamagedWorkflowError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSRunEndedError,
    DBOSSerializationError,
    DBOSShutdownError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
)
from tidings.lifecycle import has_ended, stuck_now
from tidings.model import (
    Applied,
    Executor,
    InUse,
    NewWorkflow,
    NoSuchWorkflow,
    Outcome,
    Stale,
    Status,
    Unit,
    WorkflowRecord,
)
from tidings.serialization import Serializer, dump, dump_error, load, load_awaited, recorded_error

GET_RESULT = "DBOS.get_result"


def end_key(workflow_id: str) -> WakeKey:
    """Return the key that a waiter for the end of a workflow watches."""
    return ("end", workflow_id)


# --- starting ------------------------------------------------------------------------------------


class Started(Struct, frozen=True):
    """The workflow that a start returns. `new` is its record, or `None` if it existed before: then that is `found`."""

    workflow_id: str
    new: NewWorkflow | None = None
    found: WorkflowRecord | None = None


def start(new: NewWorkflow, tell: Tell | None = None) -> Operation[Any]:
    """Start a workflow from a step, or from outside any workflow under an id that may be in use already.

    A workflow started in a step is a child of the step's workflow. Once the parent has ended, nothing is started.
    """
    answer = yield Commit(Unit(start=new), tell)
    match answer:
        case Applied():
            return Started(new.workflow_id, new)
        case InUse(found):
            refused = _conflict(found, new) or (yield from stuck_error(found))
            return Failed(refused) if refused else Started(new.workflow_id, found=found)
        case Stale() | NoSuchWorkflow():
            raise _ended(new.parent_id or "", answer)
        case _:
            raise unexpected(answer)


def start_child(slot: Slot, make: Callable[[int], NewWorkflow], tell: Tell) -> Operation[Any]:
    """Start a child workflow: the child and the entry of its start are one unit."""
    if slot.is_finished:
        entry = yield from finished(slot)
        if entry.error is not None:
            return (yield from load_result(slot, entry))
        assert entry.child_workflow_id is not None
        return Started(entry.child_workflow_id)
    return (yield from abandonable(slot, _start_child(slot, make, tell)))


def _start_child(slot: Slot, make: Callable[[int], NewWorkflow], tell: Tell) -> Operation[Any]:
    now: int = yield NOW
    new = yield from patiently(make, now)
    entry = slot.done(now, now, child_workflow_id=new.workflow_id)
    answer = yield Commit(slot.run.unit(entry, start=new), tell)
    match answer:
        case Applied():
            return Started(new.workflow_id, new)
        case InUse(found):
            conflict = _conflict(found, new)
            if conflict is not None:
                return (yield from refuse(slot, conflict, now, child_workflow_id=new.workflow_id))
            yield Commit(slot.run.unit(entry))
            return Started(new.workflow_id, found=found)
        case _:
            raise unexpected(answer)


def _conflict(found: WorkflowRecord, new: NewWorkflow) -> DBOSConflictingWorkflowError | None:
    recorded, called = _function_of(found), _function_of(new)
    if found.program is not None and new.program is not None and found.program != new.program:
        recorded, called = (
            f"{text} of the program {each.program!r}" for text, each in ((recorded, found), (called, new))
        )
    return None if recorded == called else DBOSConflictingWorkflowError(new.workflow_id, recorded, called)


def _function_of(workflow: WorkflowRecord | NewWorkflow) -> str:
    text = f"the function {workflow.name!r}"
    if workflow.class_name is not None:
        text += f" of {workflow.class_name}"
    return text if workflow.config_name is None else f"{text}({workflow.config_name!r})"


# --- awaiting -------------------------------------------------------------------------------------


# Describes which of these living executors executes a workflow that has not ended.
Explain = Callable[[WorkflowRecord, Sequence[Executor]], str]

# A caller with a shorter timeout probably polls. To explain each of these timeouts would cost more than it helps.
_EXPLAINED_SECONDS = 1.0


def get_result(
    serializer: Serializer, workflow_id: str, timeout_seconds: float | None, explain: Explain
) -> Operation[Any]:
    """Await the result of a workflow from a step or from outside any workflow.

    Raises:
        DBOSUnexpectedStepError: no version of the code that tried could continue it. In a workflow this is no outcome,
            and the wait goes on.
    """
    ended = yield from _await_end(workflow_id, within(timeout_seconds), None, may_be_stuck=False)
    if ended is None:
        return Failed((yield from _timed_out(workflow_id, timeout_seconds, explain)))
    return (yield from patiently(_result_of, serializer, ended))


def get_result_recorded(
    slot: Slot, workflow_id: str, timeout_seconds: float | None, explain: Explain
) -> Operation[Any]:
    """Await the result of a workflow in another one, and record it."""
    return recorded(slot, _get_result_recorded(slot, workflow_id, timeout_seconds, explain))


def _get_result_recorded(
    slot: Slot, workflow_id: str, timeout_seconds: float | None, explain: Explain
) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started, deadline = timing(slot, (yield NOW), timeout_seconds)
    try:
        ended = yield from _await_end(
            workflow_id, by(started, deadline), None if slot.is_open else run.unit(slot.open(started, deadline))
        )
    except DBOSNonExistentWorkflowError as error:
        return (yield from refuse(slot, error, started))
    if ended is None:
        timed_out = yield from _timed_out(workflow_id, timeout_seconds, explain)
        return (yield from refuse(slot, timed_out, started))
    try:
        result = yield from patiently(_result_of, run.serializer, ended)
    except DBOSSerializationError as error:
        return (yield from refuse(slot, error, started))
    if isinstance(result, Failed):
        return (yield from refuse(slot, result.error, started))
    yield Commit(run.unit(slot.done(started, (yield NOW), output=ended.output)))
    return result


def _await_end(
    workflow_id: str, due: Due | None, on_waiting: Unit | None, *, may_be_stuck: bool = True
) -> Operation[WorkflowRecord | None]:
    """Wait until the workflow has ended; `None` when the time is up."""

    def look() -> Operation[WorkflowRecord | None]:
        found: WorkflowRecord | None = yield Read(FindWorkflow(workflow_id))
        if found is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        stuck = None if may_be_stuck else (yield from stuck_error(found))
        if stuck is not None:
            raise stuck
        return found if has_ended(found.status) else None

    return (yield from await_until((end_key(workflow_id),), look, due, on_waiting))


def stuck_error(found: WorkflowRecord) -> Operation[DBOSUnexpectedStepError | None]:
    """Return why no process can execute a workflow; `None` if it is not stuck, or if other code is about to take it."""
    stuck = stuck_now(found)
    if stuck is None:
        return None
    listed: ExecutorList = yield Read(ListExecutors())
    now: int = yield NOW
    if heirs(found, listed.alive(now)):
        return None
    return DBOSUnexpectedStepError(found.workflow_id, stuck.operation, stuck.recorded, stuck.called, stuck.version)


def _result_of(serializer: Serializer, ended: WorkflowRecord) -> Any:
    if ended.damage is not None:
        return Failed(DBOSDamagedWorkflowError(ended.workflow_id, ended.damage))
    if ended.status is Status.CANCELLED:
        return Failed(DBOSAwaitedWorkflowCancelledError(ended.workflow_id))
    if ended.error is not None:
        return Failed(load_awaited(serializer, ended.error, f"the error of workflow {ended.workflow_id!r}"))
    return (
        None
        if ended.output is None
        else load(serializer, ended.output, f"the result of workflow {ended.workflow_id!r}")
    )


def _timed_out(workflow_id: str, timeout_seconds: float | None, explain: Explain) -> Operation[TimeoutError]:
    assert timeout_seconds is not None
    text = f"workflow {workflow_id!r} did not end within {timeout_seconds:g} s"
    if timeout_seconds < _EXPLAINED_SECONDS:
        return TimeoutError(text)
    found: WorkflowRecord | None = yield Read(FindWorkflow(workflow_id))
    listed: ExecutorList = yield Read(ListExecutors())
    now: int = yield NOW
    return TimeoutError(text if found is None else f"{text}; {explain(found, listed.alive(now))}")


# --- ending ---------------------------------------------------------------------------------------


class Ended(Struct, frozen=True):
    """The value or error that a workflow has ended with; it is recorded.

    Attributes:
        value: the value.
        error: the error that callers which await the workflow get.
        reason: the error that its code raised; `error` stands in for one that cannot be stored.
    """

    value: Any = None
    error: BaseException | None = None
    reason: BaseException | None = None


def succeed(run: Run, value: Any) -> Operation[Ended]:
    """End with a value, or with an error if the value cannot be stored."""
    yield from _walked(run)
    try:
        output = yield from patiently(dump, run.serializer, value, f"the result of workflow {run.workflow_id!r}")
    except (DBOSSerializationError, DBOSLimitError) as error:
        return (yield from fail(run, error))
    yield from _end(run, Status.SUCCESS, output, None)
    return Ended(value)


def fail(run: Run, reason: BaseException) -> Operation[Ended]:
    """End with an error."""
    if run.broken is not None:
        raise run.broken
    if isinstance(reason, Exception):
        yield from _walked(run)
        error = reason
    else:
        error = recorded_error(reason)  # SystemExit, say: it must not end a program that awaits the result.
    text, raised = yield from patiently(dump_error, run.serializer, error)
    yield from _end(run, Status.ERROR, None, text)
    return Ended(error=raised, reason=reason)


def _walked(run: Run) -> Operation[None]:
    """Wait until everything recorded has been replayed, and check that the code reached all of it.

    Tasks that the workflow function does not await may have recorded something after its last operation.
    """
    run.check_walked()
    run.expect_branches()
    if run.has_turns:
        yield from all_come_again(run)
        run.check_walked()


def conclude(
    run: Run, value: Any, error: BaseException | None, settle_failure: Callable[[], BaseException | None]
) -> Operation[Ended]:
    """End with the outcome of the workflow function, or with the failure of a unit that it had handed over.

    `settle_failure` returns the failure, if there is one, and clears it, so the end itself can be written.
    """
    try:
        return (yield from (succeed(run, value) if error is None else fail(run, error)))
    except DBOSShutdownError as stopped:  # Raised by writing the end, not by the workflow.
        raise DBOSRunEndedError(run.workflow_id, str(stopped)) from None
    except Exception:
        failure = settle_failure()
        if failure is None:
            raise
    try:
        return (yield from fail(run, failure))
    except DBOSRunEndedError:
        raise failure from None  # Not even the start was written.


def _end(run: Run, status: Status, output: str | None, error: str | None) -> Operation[None]:
    answer = yield Commit(run.unit(outcome=Outcome(status, output, error, (yield NOW))))
    match answer:
        case Applied():
            return
        case Stale() | NoSuchWorkflow():
            raise _ended(run.workflow_id, answer)
        case _:
            raise unexpected(answer)


def _ended(workflow_id: str, answer: Stale | NoSuchWorkflow) -> DBOSWorkflowCancelledError | DBOSRunEndedError:
    """Return the error that ends a run whose workflow is no longer pending under the run's epoch."""
    if answer == Stale(Status.CANCELLED):
        return DBOSWorkflowCancelledError(workflow_id)
    return DBOSRunEndedError(workflow_id, "it was taken over or has ended elsewhere")
