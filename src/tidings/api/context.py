"""Context managers that set the id or the time limit of workflows started in their block."""

from __future__ import annotations

import contextlib
import logging
import sys
from contextvars import ContextVar
from types import FrameType

from tidings.api.naming import as_users_write_it
from tidings.core.history import Run
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.starting import WorkflowLimit
from tidings.limits import Seconds, check_id, check_time_limit

logger = logging.getLogger("tidings")


class _Block:
    """The settings of one entry into a manager's block."""

    __slots__ = ("ids", "limit", "manager", "run")

    def __init__(self, manager: object) -> None:
        self.manager = manager
        self.ids: list[str] = []  # until a start takes it
        self.limit: WorkflowLimit | None = None
        self.run: Run | None = None  # the run that set the limit: it is for children of that run, not for theirs


_Blocks = tuple[_Block, ...]

# The blocks around the running code, the innermost last. The managers do not keep them, because one manager may be
# entered in several tasks, and again inside its own block.
_ids: ContextVar[_Blocks] = ContextVar("tidings_workflow_ids", default=())
_limits: ContextVar[_Blocks] = ContextVar("tidings_workflow_limits", default=())


def _without(blocks: _Blocks, manager: object) -> _Blocks:
    """Return the blocks without the innermost block of this manager.

    There may be none. If a coroutine was abandoned inside its block, the garbage collector closes it in the context of
    some other code. The blocks of that context must stay.
    """
    for index in reversed(range(len(blocks))):
        if blocks[index].manager is manager:
            return blocks[:index] + blocks[index + 1 :]
    return blocks


class _Manager(contextlib.AbstractContextManager[None]):
    """A context manager. It warns if it is dropped without having been entered: then it has done nothing."""

    _is_used = True  # Until it is made: its constructor may fail.

    def __enter__(self) -> None:
        self._is_used = True

    def __del__(self) -> None:
        if not self._is_used:
            with contextlib.suppress(Exception):  # At the end of the program, say.
                _say_unused(type(self).__name__, sys._getframe(1))


def _say_unused(name: str, dropped: FrameType) -> None:
    logger.warning(
        "%s(...) was made and not entered, so it has no effect; it is dropped at %s:%d. Write: with %s(...): "
        "DBOS.start_workflow(function, ...)",
        name,
        dropped.f_code.co_filename,
        dropped.f_lineno,
        name,
    )


@as_users_write_it
class SetWorkflowID(_Manager):
    """Give an id to the first workflow that is started in the block.

    The id is an idempotency key: starting a workflow with the same id again returns the existing one.

    Args:
        workflow_id: text of 1 to 512 bytes.

    Raises:
        DBOSLimitError: the id is something else.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = check_id(workflow_id, "workflow_id")
        self._is_used = False

    def __enter__(self) -> None:
        super().__enter__()
        block = _Block(self)
        block.ids.append(self._workflow_id)
        _ids.set((*_ids.get(), block))

    def __exit__(self, *_: object) -> None:
        _ids.set(_without(_ids.get(), self))


@as_users_write_it
class SetWorkflowTimeout(_Manager):
    """Limit the time that each workflow started in the block may take, from its start to its end.

    At its deadline the workflow is cancelled, and so are its children: they inherit the deadline, unless they are
    started in a block of their own. The deadline is recorded with the start, so a crash does not extend it. A running
    step is not interrupted, but its result is not recorded.
    """

    def __init__(self, workflow_timeout_sec: Seconds | None) -> None:
        """Set the limit.

        Args:
            workflow_timeout_sec: in seconds or as a `timedelta`, more than 0; `None` lets children take longer than
                their parent.

        Raises:
            TypeError, DBOSLimitError: the time is something else.
        """
        self._limit = WorkflowLimit(check_time_limit(workflow_timeout_sec, "workflow_timeout_sec"))
        self._is_used = False

    def __enter__(self) -> None:
        super().__enter__()
        block = _Block(self)
        block.limit, block.run = self._limit, _current_run()
        _limits.set((*_limits.get(), block))

    def __exit__(self, *_: object) -> None:
        _limits.set(_without(_limits.get(), self))


def take_id() -> str | None:
    """Take the id that `SetWorkflowID` holds for the next start."""
    blocks = _ids.get()
    try:
        return blocks[-1].ids.pop() if blocks else None
    except IndexError:
        return None  # An earlier start, perhaps in another thread, has taken it.


def limit_for_start() -> WorkflowLimit | None:
    """Return the limit of a workflow that is started now; `None` if the code that starts it set none.

    A run inherits the context of the code that started it, but not the limit that was set there.
    """
    blocks = _limits.get()
    if not blocks:
        return None
    innermost = blocks[-1]
    return innermost.limit if innermost.run is _current_run() else None


def _current_run() -> Run | None:
    scope = scopes.current()
    return None if scope is None else scope.run
