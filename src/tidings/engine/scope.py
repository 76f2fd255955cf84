"""Where code stands: in a workflow, on a branch of its run, or in an attempt of one of its steps.

Carried by a context variable, so it follows tasks and `asyncio.to_thread`. A task that calls its
first operation in a workflow opens a branch, also where a blocking workflow runs an event loop in its
own thread. Other threads walk no branch: they call operations inside a step, or for the task that
awaits them (`engine.thread_calls`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

from tidings.core.history import Branch, Run, Slot
from tidings.engine.port import Port
from tidings.engine.turns import Turns
from tidings.error import DBOSContextError


class Attempt:
    """One try of a step. What it writes counts only while it runs."""

    __slots__ = ("name", "number", "over", "slot")

    def __init__(self, name: str, slot: Slot, number: int) -> None:
        self.name = name
        self.slot = slot
        self.number = number
        self.over = False

    def check_running(self) -> None:
        """Refuse what a finished attempt still tries to write."""
        if self.over:
            raise DBOSContextError(
                f"try {self.number} of step {self.name!r} is over, so it can write no more; "
                "wait for your threads and tasks before the step returns"
            )


class Decision(Attempt):
    """A step's `should_retry` is asked. What it called in the workflow would take a place there, of which a replay,
    which does not ask again, knows nothing.
    """

    __slots__ = ()

    def __init__(self, name: str, slot: Slot) -> None:
        super().__init__(name, slot, 0)

    def check_running(self) -> None:
        """Refuse everything."""
        raise DBOSContextError(
            f"{self.name!r}, which is the should_retry of step {self.slot.name!r}, called an operation; it may only "
            "look at the error, for a replay does not ask it again. Do this in the step, or in the workflow after it"
        )


class Scope:
    """Where code stands. In a step if `attempt` is set, else in the workflow function."""

    __slots__ = ("_threads", "attempt", "branch", "port", "run")

    def __init__(self, run: Run, port: Port, branch: Branch, attempt: Attempt | None = None) -> None:
        self._threads = 0
        self.run = run
        self.port = port
        self.branch = branch
        self.attempt = attempt

    def begin(self, name: str, *, key: str | None = None, child: bool = False) -> Slot:
        """Take the next place on this branch; see `Run.begin`."""
        dead = self.port.chain.dead
        if dead is not None:
            raise dead
        slot = self.run.begin(self.branch, name, key=key, child=child)
        if self.port.turns is not None and self.run.has_turns:
            self.port.turns.look()
        return slot

    def next_for_thread(self) -> Branch:
        """Number a branch that leaves this one with a call in another thread."""
        self._threads += 1
        path = f"t{self._threads}"
        return Branch(f"{self.branch.path}.{path}" if self.branch.path else path)


_scope: ContextVar[Scope | None] = ContextVar("tidings_scope", default=None)


def current() -> Scope | None:
    """Return where the calling code stands, without claiming a branch for it."""
    return _scope.get()


def run_of(context: Context) -> Run | None:
    """Return the run that code with this context is in."""
    scope = context.get(_scope)
    return None if scope is None else scope.run


def code_of(context: Context) -> Run | None:
    """Return the run whose workflow function, and no step, code with this context is in."""
    scope = context.get(_scope)
    return None if scope is None or scope.attempt is not None else scope.run


class standing:  # noqa: N801  (a block; a generator's would take 0.5 kB of each run that waits)
    """Stand at a scope (outside of any workflow if it is `None`) for the length of the block."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        # A coroutine whose loop was closed is ended by whoever collects it, in another context.
        with contextlib.suppress(ValueError):
            _scope.reset(self._token)


def of_thread() -> Scope | None:
    """Return where the calling thread stands, for a blocking operation."""
    scope = _scope.get()
    if scope is not None and scope.attempt is None and scope.branch.owner != threading.get_ident():
        raise _elsewhere(scope)
    return scope


def of_task() -> Scope | None:
    """Return where the calling task stands; its first operation in a workflow opens its branch."""
    scope = _scope.get()
    if scope is None or scope.attempt is not None:
        return scope
    task = asyncio.current_task()
    if scope.branch.owner is task:
        return scope
    if task is None or not may_walk(scope, task):
        raise _elsewhere(scope)
    branched = _from_thread.get(task)
    if branched is None or branched.branch.owner is None:
        branched = Scope(scope.run, scope.port, scope.branch.open_child(task))
        _opens(branched, task)
    _scope.set(branched)
    return branched


def may_walk(scope: Scope, task: asyncio.Task[Any]) -> bool:
    """Tell whether a running task walks this branch, or may open one that leaves it."""
    owner = scope.branch.owner
    if isinstance(owner, asyncio.Task):
        return owner.get_loop() is task.get_loop()
    return owner == threading.get_ident()  # A loop in the thread of a blocking workflow.


def _opens(scope: Scope, task: asyncio.Task[Any]) -> None:
    """Note that a task has opened a branch."""
    run, port = scope.run, scope.port
    run.branch_opens()
    if port.turns is None or not port.turns.is_on(task.get_loop()):
        port.turns = Turns(run, port.chain, run_of, code_of)  # A blocking workflow may run one loop after the other.
    task.add_done_callback(run.ahead.branch_ends)
    task.add_done_callback(partial(port.turns.branch_ends, scope.branch.path))


# --- calls in other threads ------------------------------------------------------------------------------

# Of tasks that had no branch when they first called a function in a thread: the one that is theirs if that, and not the
# task itself, calls the first operation. Until then it has no owner.
_from_thread: weakref.WeakKeyDictionary[asyncio.Task[Any], Scope] = weakref.WeakKeyDictionary()


def number_for_thread(scope: Scope, task: asyncio.Task[Any]) -> Scope:
    """Return where operations of a function stand that a task is going to call in another thread."""
    if scope.branch.owner is task:
        return scope
    numbered = _from_thread.get(task)
    if numbered is None:
        numbered = _from_thread[task] = Scope(scope.run, scope.port, scope.next_for_thread())
    return numbered


def open_for_thread(scope: Scope, task: asyncio.Task[Any]) -> Scope:
    """Let the first operation of the function open the branch that was numbered for it."""
    if scope.branch.owner is None:
        scope.branch.owner = task
        _opens(scope, task)
    return scope


def _elsewhere(scope: Scope) -> DBOSContextError:
    return DBOSContextError(
        f"workflow {scope.run.workflow_id!r} is called from a thread or event loop that is not its own; "
        "the order of its operations would differ at each run. Use tasks of its own loop, a step, or await "
        "asyncio.to_thread(...), or in a blocking workflow DBOS.run_parallel(...)"
    )
