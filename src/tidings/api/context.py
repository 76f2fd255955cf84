"""Context managers that say how the workflows started in their block are started."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar

from tidings.core.history import Run
from tidings.engine import scope as scopes
from tidings.engine.starting import Limit
from tidings.limits import check_id, check_time_limit

# What the blocks set that the code is in, the innermost last. Not kept by the managers themselves: one
# may be entered in several tasks, and again within its own block.
_ids: ContextVar[tuple[list[str], ...]] = ContextVar("tidings_workflow_ids", default=())

# With the run whose code set it: that code's children get the limit, not theirs.
_limits: ContextVar[tuple[tuple[Limit, Run | None], ...]] = ContextVar("tidings_workflow_limits", default=())


class SetWorkflowID(contextlib.AbstractContextManager[None]):
    """Give an id to the first workflow that is started in the block.

    The id is an idempotency key: starting the same id again returns the same execution.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = check_id(workflow_id, "workflow_id")

    def __enter__(self) -> None:
        _ids.set((*_ids.get(), [self._workflow_id]))

    def __exit__(self, *_: object) -> None:
        _ids.set(_ids.get()[:-1])


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
        self._limit = Limit(check_time_limit(workflow_timeout_sec, "workflow_timeout_sec"))

    def __enter__(self) -> None:
        _limits.set((*_limits.get(), (self._limit, _current_run())))

    def __exit__(self, *_: object) -> None:
        _limits.set(_limits.get()[:-1])


def take_id() -> str | None:
    """Take the id that `SetWorkflowID` holds for the next start."""
    blocks = _ids.get()
    return blocks[-1].pop() if blocks and blocks[-1] else None


def limit_for_start() -> Limit | None:
    """Return the limit of a workflow that is started now; `None` if the code that starts it set none.

    The code of a run inherits the context of whoever started it, whose limit is not its own.
    """
    blocks = _limits.get()
    if not blocks:
        return None
    limit, run = blocks[-1]
    return limit if run is _current_run() else None


def _current_run() -> Run | None:
    scope = scopes.current()
    return None if scope is None else scope.run
