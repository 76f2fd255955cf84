"""Tasks of workflows whose sets have the same order in each execution.

asyncio and anyio keep tasks in sets: those of a group, and those that `asyncio.wait` returns. The order of a set
depends on hashes, and the hash of a task is its address. So these would differ in each execution:

- the order in which a group cancels its tasks,
- the order in which the clean-up of these tasks opens branches,
- the order of `for task in done`.

If a workflow's code creates a task, its hash depends on the task that created it, and on how many that task had created
before. A replay creates the same tasks, and so the same sets.

Such a task also says whose it is if it fails and no code awaits it. asyncio reports the error, but not the workflow.

Two kinds of tasks are not changed: those of a task factory that the program has set (except asyncio's own factory), and
those created by `asyncio.Task(...)` and not by their loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeVar
from zlib import crc32

from tidings.core.history import Run
from tidings.engine.runs.reports import said
from tidings.engine.runs.scope import current
from tidings.error import DBOSBaseException, DBOSRunEndedError, DBOSShutdownError

logger = logging.getLogger("tidings")

T = TypeVar("T")

# How a task ends if its run is over: the process stops, say, or another one continues the workflow. The task's code has
# not failed, so asyncio's report is enough.
_ENDS: Final = (DBOSShutdownError, DBOSRunEndedError, DBOSBaseException)

_BITS: Final = 24  # The bits on the right of a hash, which number the tasks of one maker.


class Maker:
    """What creates tasks. It gives them their hashes."""

    __slots__ = ("_made", "_origin")

    def __init__(self, origin: int) -> None:
        self._origin = origin
        self._made = 0

    def next(self) -> int:
        """Return the hash of the next task."""
        self._made += 1
        return (self._origin << _BITS) + self._made


class OrderedTask(asyncio.Task[Any]):
    """A task that a workflow's code has created, or that executes a workflow."""

    __slots__ = ("_hash", "_maker", "_workflow_id")

    def __init__(
        self, made: int, coroutine: Coroutine[Any, Any, Any], workflow_id: str | None = None, **named: Any
    ) -> None:
        """Make the task. With a `workflow_id` it is one that the code of this workflow has created."""
        self._hash = made  # Before `__init__`, because that puts the task into a set.
        self._maker: Maker | None = None
        self._workflow_id = workflow_id
        super().__init__(coroutine, **named)

    def __hash__(self) -> int:
        return self._hash

    def __del__(self) -> None:
        if self._log_traceback and self._workflow_id is not None:  # Its error was not retrieved.
            with contextlib.suppress(Exception):
                if not isinstance(self._exception, _ENDS):
                    _say_not_awaited(self, self._workflow_id)
        super().__del__()

    @property
    def maker(self) -> Maker:
        """This task as the creator of other tasks."""
        if self._maker is None:
            origin, number = divmod(self._hash, 1 << _BITS)
            self._maker = Maker(crc32(b"%d" % number, origin))
        return self._maker


def _say_not_awaited(task: OrderedTask, workflow_id: str) -> None:
    """Log a failed task that no code has awaited. asyncio then reports its error, with the traceback."""
    coroutine = task.get_coro()
    error = task._exception  # `exception()` would mark it as retrieved.
    assert error is not None
    logger.error(
        "a task of workflow %r, which runs %s(), has failed, and no code of the workflow awaits it: %s. So the "
        "workflow did not notice. Await the task, or create it in an asyncio.TaskGroup",
        workflow_id,
        getattr(coroutine, "__qualname__", "a coroutine"),
        said(error),
        extra={"workflow_id": workflow_id},
    )


# For tasks that are not ordered themselves: the main task of a loop in a blocking workflow, for example.
_makers: weakref.WeakKeyDictionary[asyncio.Task[Any], Maker] = weakref.WeakKeyDictionary()


class _Root(threading.local):
    """The hash of the task that this thread is about to create in order to execute a run."""

    made: int | None = None


_root = _Root()
_changed: set[Callable[..., Any]] = set()  # The changed `create_task` functions of the libraries' loops.


def root_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], run: Run, name: str
) -> asyncio.Task[Any]:
    """Create the task that executes a run."""
    made = _maker_of(run).next()
    if type(loop).create_task in _changed and loop.get_task_factory() is None:
        return OrderedTask(made, coroutine, loop=loop, name=name)  # As `create_task` would create it.
    _root.made = made
    try:
        return loop.create_task(coroutine, name=name)
    finally:
        _root.made = None


def _maker_of(run: Run) -> Maker:
    return Maker(crc32(run.workflow_id.encode(errors="surrogatepass")))


def _make(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    made: int,
    workflow_id: str | None,
    named: dict[str, Any],
) -> asyncio.Task[Any] | None:
    factory: Any = loop.get_task_factory()
    if factory is not None:
        if factory is not getattr(asyncio, "eager_task_factory", None):
            return None
        named = {"eager_start": True, **named}
    return OrderedTask(made, coroutine, workflow_id, loop=loop, **named)


def _made_by_code(loop: asyncio.AbstractEventLoop) -> tuple[int | None, str | None]:
    """Return the hash for a task that the running task creates, and its workflow; `None` if that is no workflow's."""
    scope = current()
    creator = None if scope is None or scope.attempt is not None else asyncio.current_task(loop)
    if scope is None or creator is None:
        return None, None
    maker = creator.maker if isinstance(creator, OrderedTask) else _makers.get(creator)
    if maker is None:
        maker = _makers[creator] = _maker_of(scope.run)
    return maker.next(), scope.run.workflow_id


class InOrder(set[T]):
    """A set that iterates in the order in which its elements were added."""

    def __init__(self, elements: Iterable[T] = ()) -> None:
        self._order = dict.fromkeys(elements)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[T]:
        for element in tuple(self._order):
            if element in self:
                yield element
        for element in super().__iter__():
            if element not in self._order:
                yield element

    def add(self, element: T) -> None:
        if element not in self:
            self._order.pop(element, None)
            self._order[element] = None
            super().add(element)

    def remove(self, element: T) -> None:
        super().remove(element)
        self._order.pop(element, None)

    def discard(self, element: object) -> None:
        super().discard(element)
        self._order.pop(element, None)  # type: ignore[arg-type]

    def clear(self) -> None:
        super().clear()
        self._order.clear()

    def copy(self) -> InOrder[T]:
        return InOrder(self)

    def pop(self) -> T:
        for element in self:
            self.remove(element)
            return element
        return super().pop()


# --- what event loops and anyio do differently for code of workflows -------------------------------------------------


def _settle_loop(loop_class: Any) -> None:
    original = loop_class.create_task

    def create_task(self: Any, coro: Any, **named: Any) -> asyncio.Task[Any]:
        made, workflow_id = _root.made, None
        if made is not None:
            _root.made = None  # An eager task creates others meanwhile.
        else:
            made, workflow_id = _made_by_code(self)
        task = None
        if made is not None and asyncio.iscoroutine(coro):
            task = _make(self, coro, made, workflow_id, named)
        if task is not None:
            return task
        plain: asyncio.Task[Any] = original(self, coro, **named)
        return plain

    loop_class.create_task = create_task
    _changed.add(create_task)


def _settle_anyio() -> None:
    scope_class = importlib.import_module("anyio._backends._asyncio").CancelScope
    original = scope_class.__init__

    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807  (a class's of anyio)
        original(self, *args, **named)
        if current() is not None:
            self._child_scopes = InOrder(self._child_scopes)

    scope_class.__init__ = __init__


# Make these libraries create ordered tasks for code of workflows.
CHANGES: Final[dict[str, Callable[[], None]]] = {
    "asyncio": lambda: _settle_loop(asyncio.BaseEventLoop),
    "uvloop": lambda: _settle_loop(sys.modules["uvloop"].Loop),
    "anyio": _settle_anyio,
}
