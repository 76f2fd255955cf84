"""Starting, awaiting and ending workflows.

A child's id, and the child itself, are one unit with the entry that started it. A result awaited in
a workflow is recorded. A run ends by one unit that counts only while the workflow is pending under
this run's epoch: of two executions of one workflow, or of an end and a cancellation, one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tidings.core.effects import (
    BARRIER,
    NOW,
    Commit,
    Due,
    Failed,
    FindStatuses,
    FindWorkflow,
    Operation,
    Read,
    Tell,
    WakeKey,
)
from tidings.core.history import Run, Slot, unexpected
from tidings.core.lifecycle import has_ended
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
    within,
)
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSConflictingWorkflowError,
    DBOSDamagedWorkflowError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSRunEndedError,
    DBOSSerializationError,
    DBOSShutdownError,
    DBOSWorkflowCancelledError,
)
from tidings.model import (
    Applied,
    InUse,
    NewWorkflow,
    NoSuchWorkflow,
    Outcome,
    Stale,
    Status,
    Unit,
    WorkflowRecord,
)
from tidings.serialization import Serializer, dump, dump_error, load, load_outcome, recorded_error

GET_RESULT = "DBOS.get_result"


def end_key(workflow_id: str) -> WakeKey:
    """What waits for the end of a workflow."""
    return ("end", workflow_id)


# --- starting ------------------------------------------------------------------------------------


class Started(Struct, frozen=True):
    """The workflow that a start gave, and the record of it unless it had been started before."""

    workflow_id: str
    new: NewWorkflow | None = None


def start(new: NewWorkflow, tell: Tell) -> Operation[Any]:
    """Start a workflow from outside any other, under an id that may be in use already."""
    answer = yield Commit(Unit(start=new), tell)
    match answer:
        case Applied():
            return Started(new.workflow_id, new)
        case InUse(found):
            conflict = _conflict(found, new)
            return Failed(conflict) if conflict else Started(new.workflow_id)
        case _:
            raise unexpected(answer)


def start_child(slot: Slot, make: Callable[[int], NewWorkflow], tell: Tell) -> Operation[Any]:
    """Start a child workflow: the child and the entry that started it are one unit."""
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
            return Started(new.workflow_id)
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


def get_result(serializer: Serializer, workflow_id: str, timeout_seconds: float | None) -> Operation[Any]:
    """Await the result of a workflow from a step or from outside any workflow."""
    ended = yield from _await_end(workflow_id, within(timeout_seconds), None)
    if ended is None:
        return Failed(_timed_out(workflow_id, timeout_seconds))
    return (yield from patiently(_result_of, serializer, ended))


def get_result_recorded(slot: Slot, workflow_id: str, timeout_seconds: float | None) -> Operation[Any]:
    """Await the result of a workflow in another one: what came of it is recorded."""
    return recorded(slot, _get_result_recorded(slot, workflow_id, timeout_seconds))


def _get_result_recorded(slot: Slot, workflow_id: str, timeout_seconds: float | None) -> Operation[Any]:
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
        return (yield from refuse(slot, _timed_out(workflow_id, timeout_seconds), started))
    try:
        result = yield from patiently(_result_of, run.serializer, ended)
    except DBOSSerializationError as error:
        return (yield from refuse(slot, error, started))
    if isinstance(result, Failed):
        return (yield from refuse(slot, result.error, started))
    yield Commit(run.unit(slot.done(started, (yield NOW), output=ended.output)))
    return result


def _await_end(workflow_id: str, due: Due | None, on_waiting: Unit | None) -> Operation[WorkflowRecord | None]:
    """Wait until the workflow has ended; `None` when the time is up."""

    def look() -> Operation[WorkflowRecord | None]:
        found: WorkflowRecord | None = yield Read(FindWorkflow(workflow_id))
        if found is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        return found if has_ended(found.status) else None

    return (yield from await_until((end_key(workflow_id),), look, due, on_waiting))


def wait_first(workflow_ids: tuple[str, ...]) -> Operation[Any]:
    """Wait until one of these workflows has ended; of those that have, give the one that is named first."""

    def look() -> Operation[str | None]:
        statuses: dict[str, Status] = yield Read(FindStatuses(workflow_ids))
        missing = [each for each in workflow_ids if each not in statuses]
        if missing:
            raise DBOSNonExistentWorkflowError(*missing)
        return next((each for each in workflow_ids if has_ended(statuses[each])), None)

    return (yield from await_until(tuple(map(end_key, dict.fromkeys(workflow_ids))), look, None, None))


def _result_of(serializer: Serializer, ended: WorkflowRecord) -> Any:
    if ended.damage is not None:
        return Failed(DBOSDamagedWorkflowError(ended.workflow_id, ended.damage))
    if ended.status is Status.CANCELLED:
        return Failed(DBOSAwaitedWorkflowCancelledError(ended.workflow_id))
    if ended.error is not None:
        return Failed(load_outcome(serializer, ended.error, f"the error of workflow {ended.workflow_id!r}"))
    return (
        None
        if ended.output is None
        else load(serializer, ended.output, f"the result of workflow {ended.workflow_id!r}")
    )


def _timed_out(workflow_id: str, timeout_seconds: float | None) -> TimeoutError:
    return TimeoutError(f"workflow {workflow_id!r} did not end within {timeout_seconds:g} seconds; it goes on")


# --- ending ---------------------------------------------------------------------------------------


def succeed(run: Run, value: Any) -> Operation[Any]:
    """End with a value. One that cannot be stored ends the workflow with the error that says so."""
    yield from _walked(run)
    try:
        output = yield from patiently(dump, run.serializer, value, f"the result of workflow {run.workflow_id!r}")
    except (DBOSSerializationError, DBOSLimitError) as error:
        return (yield from fail(run, error))
    yield from _end(run, Status.SUCCESS, output, None)
    return value


def fail(run: Run, error: BaseException) -> Operation[Any]:
    """End with an error."""
    if run.broken is not None:
        raise run.broken
    if isinstance(error, Exception):
        yield from _walked(run)
    else:
        error = recorded_error(error)  # SystemExit, say: it must not end who awaits the result.
    text, raised = yield from patiently(dump_error, run.serializer, error)
    yield from _end(run, Status.ERROR, None, text)
    return Failed(raised)


def _walked(run: Run) -> Operation[None]:
    """Let the end come after all that is recorded, as any new operation, and check that nothing is missing.

    Tasks that nobody waits for may have recorded something after the last operation of the function itself.
    """
    run.check_walked()
    run.expect_branches()
    yield from all_come_again(run)
    run.check_walked()


def conclude(
    run: Run, value: Any, error: BaseException | None, settle_failure: Callable[[], BaseException | None]
) -> Operation[Any]:
    """End with what the workflow function gave, or with the failure of a unit it had handed over.

    `settle_failure` takes such a failure as met, so that the end itself can be written.
    """
    try:
        return (yield from (succeed(run, value) if error is None else fail(run, error)))
    except DBOSShutdownError as stopped:  # Of the end itself: one that the workflow met is an error like others.
        raise DBOSRunEndedError(run.workflow_id, str(stopped)) from None
    except Exception:
        failure = settle_failure()
        if failure is None:
            raise
    try:
        return (yield from fail(run, failure))
    except DBOSRunEndedError:
        raise failure from None  # Not even its start could be kept.


def _end(run: Run, status: Status, output: str | None, error: str | None) -> Operation[None]:
    answer = yield Commit(run.unit(outcome=Outcome(status, output, error, (yield NOW))))
    match answer:
        case Applied():
            return
        case Stale(Status.CANCELLED):
            raise DBOSWorkflowCancelledError(run.workflow_id)
        case Stale() | NoSuchWorkflow():
            raise DBOSRunEndedError(run.workflow_id, "it was taken over or has ended elsewhere")
        case _:
            raise unexpected(answer)


def cancel(workflow_id: str) -> Operation[Any]:
    """Cancel a workflow if it is pending. Gives whether it was."""
    answer = yield Commit(Unit(cancel=workflow_id))
    match answer:
        case Applied():
            return True
        case Stale():
            return False
        case NoSuchWorkflow(workflow_ids):
            return Failed(DBOSNonExistentWorkflowError(*workflow_ids))
        case _:
            raise unexpected(answer)
