"""The statuses of a workflow and the transitions between them: all of them, and nothing else.

A workflow is PENDING from its start until its one end. Ended statuses are final. An outcome is
written only over PENDING and only under the epoch of the run that reached it, so of two executions
of one workflow at most one can end it.
"""

from __future__ import annotations

from typing import Final

from tidings.model import Status

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.PENDING: frozenset({Status.SUCCESS, Status.ERROR, Status.CANCELLED, Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED}),
    Status.SUCCESS: frozenset(),
    Status.ERROR: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.MAX_RECOVERY_ATTEMPTS_EXCEEDED: frozenset(),
}


def has_ended(status: Status) -> bool:
    """Tell whether a workflow of this status will never change again, as far as this version knows.

    Nothing that this version does leads out of a status that it does not know: waiting for more would never end.
    """
    return not TRANSITIONS.get(status)
