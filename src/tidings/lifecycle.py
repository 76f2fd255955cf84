"""All statuses of a workflow, and all transitions between them. The rules and the stores ask here.

A workflow is PENDING from its start until it ends, once. Ended statuses are final. An outcome replaces
only PENDING, and only under the epoch of the run that reached it. So if a workflow is executed twice,
at most one execution ends it.
"""

from __future__ import annotations

from typing import Final

from tidings.model import Status, Stuck, WorkflowRecord

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.PENDING: frozenset({Status.SUCCESS, Status.ERROR, Status.CANCELLED, Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED}),
    Status.SUCCESS: frozenset(),
    Status.ERROR: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED: frozenset(),
}

# The status of a new workflow.
FIRST: Final = Status.PENDING


def is_active(status: str) -> bool:
    """Tell whether a run of a workflow with this status may publish, start children, and end."""
    return status == Status.PENDING


def may_become(status: str, into: Status) -> bool:
    """Tell whether a workflow with this status may change to `into`. Nothing leads out of an unknown status."""
    return into in TRANSITIONS.get(Status.of(status), ())


def has_ended(status: Status) -> bool:
    """Tell whether a workflow with this status will never change again, as far as this version knows.

    A status that this version does not know counts as ended: this version has no transition out of it, so a waiter
    would never return.
    """
    return not TRANSITIONS.get(status)


def stuck_now(workflow: WorkflowRecord) -> Stuck | None:
    """Return why no process executes a pending workflow, if the last version that tried could not continue it."""
    is_left = workflow.status is Status.PENDING and workflow.executor_id is None
    return workflow.stuck[-1] if is_left and workflow.stuck else None
