"""Context managers that say how the workflows started in their block are started."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar

from tidings.core.history import Run
from tidings.engine import scope as scopes
from tidings.engine.starting import Limit
from tidings.error import DBOSLimitError
from tidings.limits import check_id, check_timeout

_next_id: ContextVar[list[str] | None] = ContextVar("tidings_next_workflow_id", default=None)

# What was set where the blocks around this one began. Not kept by the managers themselves: one may be
# entered in several tasks, and again within its own block.
_former_ids: ContextVar[tuple[list[str] | None, ...]] = ContextVar("tidings_former_workflow_ids", default=())

# The timeout that was set, and the run whose code set it: that code's children get it, not theirs.
_timeout: ContextVar[tuple[Limit, Run | None] | None] = ContextVar("tidings_workflow_timeout", default=None)

_former_timeouts: ContextVar[tuple[tuple[Limit, Run | None] | None, ...]] = ContextVar(
    "tidings_former_workflow_timeouts", default=()
)


class SetWorkflowID(contextlib.AbstractContextManager[None]):
    """Give an id to the first workflow that is started in the block.

    The id is an idempotency key: starting the same id again returns the same execution.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = check_id(workflow_id, "workflow_id")

    def __enter__(self) -> None:
        _former_ids.set((*_former_ids.get(), _next_id.get()))
        _next_id.set([self._workflow_id])

    def __exit__(self, *_: object) -> None:
        *others, former = _former_ids.get()
        _former_ids.set(tuple(others))
        _next_id.set(former)


class SetWorkflowTimeout(contextlib.AbstractContextManager[None]):
    """Limit the time that each workflow started in the block may take, from its start to its end.

    Past it the workflow is cancelled, with whatever children it has: they inherit its deadline,
    unless they are started in a block of their own. The deadline is recorded with the start; a crash
    does not put it off. A step that runs is not interrupted, but what it returns is not recorded.
    """

    def __init__(self, workflow_timeout_sec: float | None) -> None:
        """Take the timeout.

        Args:
            workflow_timeout_sec: in seconds, more than 0; `None` lets children take longer than their parent.
        """
        is_number = isinstance(workflow_timeout_sec, (int, float)) and not isinstance(workflow_timeout_sec, bool)
        if is_number and not workflow_timeout_sec > 0:  # type: ignore[operator]  # Nor is NaN.
            raise DBOSLimitError(
                f"a workflow timeout must be more than 0 seconds, or None for no limit; got {workflow_timeout_sec!r}"
            )
        self._limit = Limit(check_timeout(workflow_timeout_sec, "workflow_timeout_sec"))

    def __enter__(self) -> None:
        _former_timeouts.set((*_former_timeouts.get(), _timeout.get()))
        _timeout.set((self._limit, _current_run()))

    def __exit__(self, *_: object) -> None:
        *others, former = _former_timeouts.get()
        _former_timeouts.set(tuple(others))
        _timeout.set(former)


def take_id() -> str | None:
    """Take the id that `SetWorkflowID` holds for the next start."""
    chosen = _next_id.get()
    return chosen.pop() if chosen else None


def limit_for_start() -> Limit | None:
    """Return the limit of a workflow that is started now; `None` if the code that starts it set none.

    The code of a run inherits the context of whoever started it, whose limit is not its own.
    """
    found = _timeout.get()
    return None if found is None or found[1] is not _current_run() else found[0]


def _current_run() -> Run | None:
    scope = scopes.current()
    return None if scope is None else scope.run
