"""Where code runs: in a workflow, on a branch of its run, or in an attempt of one of its steps.

A context variable holds it, so tasks and `asyncio.to_thread` inherit it. A task that calls its first operation in a
workflow opens a branch. This also holds for a blocking workflow that runs an event loop in its own thread. Other
threads have no branch: they call operations inside a step, or for the task that awaits them
(`engine.runs.thread_calls`).
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

from tidings.core.history import Run, Slot
from tidings.core.places import Branch
from tidings.engine.database.chain import Chain
from tidings.engine.runs.port import Port
from tidings.engine.runs.turns import Turns
from tidings.error import DBOSContextError
from tidings.model import RecordedEntry


class Attempt:
    """One attempt of a step. Only what it writes while it runs counts."""

    __slots__ = ("max_attempts", "name", "number", "over", "slot")

    def __init__(self, name: str, slot: Slot, number: int, max_attempts: int) -> None:
        self.name = name
        self.slot = slot
        self.number = number  # from 1
        self.max_attempts = max_attempts
        self.over = False

    def check_running(self) -> None:
        """Refuse writes of an attempt that is over."""
        if self.over:
            raise DBOSContextError(
                f"try {self.number} of step {self.name!r} is over, so it can write no more; "
                "wait for your threads and tasks before the step returns"
            )


class RetryDecision(Attempt):
    """The call of a step's `should_retry`.

    A replay does not call it again. So an operation that it called would take a place that the replay does not reach.
    """

    __slots__ = ()

    def __init__(self, name: str, slot: Slot) -> None:
        super().__init__(name, slot, 0, 1)

    def check_running(self) -> None:
        """Refuse everything."""
        raise DBOSContextError(
            f"{self.name!r}, the should_retry of step {self.slot.name!r}, called an operation. It may only look at the "
            "error, because a replay does not call it again. Call the operation in the step, or after it"
        )


class Scope:
    """Where code runs: in a step if `attempt` is set, else in the workflow function."""

    __slots__ = ("_threads", "attempt", "branch", "port", "run")

    def __init__(self, run: Run, port: Port, branch: Branch, attempt: Attempt | None = None) -> None:
        self._threads = 0
        self.run = run
        self.port = port
        self.branch = branch
        self.attempt = attempt

    def begin(self, name: str, *, key: str | None = None, child: bool = False, target: str | None = None) -> Slot:
        """Take the next place on this branch; see `Run.begin`."""
        dead = self.port.chain.dead
        if dead is not None:
            raise dead
        slot = self.run.begin(self.branch, name, key=key, child=child, target=target)
        if self.port.turns is not None and self.run.has_turns:
            self.port.turns.look()
        return slot

    def next_recorded(self) -> RecordedEntry | None:
        """Return what is recorded at the next place of this branch, without taking it."""
        dead = self.port.chain.dead
        if dead is not None:
            raise dead
        return self.run.next_recorded(self.branch)

    def next_for_thread(self) -> Branch:
        """Number a branch for a call in another thread."""
        self._threads += 1
        path = f"t{self._threads}"
        return Branch(f"{self.branch.path}.{path}" if self.branch.path else path)


_scope: ContextVar[Scope | None] = ContextVar("tidings_scope", default=None)


def current() -> Scope | None:
    """Return the scope of the calling code, without opening a branch for it."""
    return _scope.get()


def run_of(context: Context) -> Run | None:
    """Return the run that code with this context belongs to."""
    scope = context.get(_scope)
    return None if scope is None else scope.run


def code_of(context: Context) -> Run | None:
    """Return the run that workflow code with this context belongs to; `None` for code of a step."""
    scope = context.get(_scope)
    return None if scope is None or scope.attempt is not None else scope.run


class inside:  # noqa: N801  (used as a block; a generator would take 0.5 kB for each waiting run)
    """Make a scope the current one during the block; with `None`, the block is outside of any workflow."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        # If its loop was closed, a coroutine is ended by garbage collection, in another context.
        try:  # noqa: SIM105  (`suppress` would cost time in each run)
            _scope.reset(self._token)
        except ValueError:
            pass


def of_thread() -> Scope | None:
    """Return the scope of the calling thread, for a blocking operation."""
    scope = _scope.get()
    if scope is not None and scope.attempt is None and scope.branch.owner != threading.get_ident():
        raise _elsewhere(scope)
    return scope


def of_task() -> Scope | None:
    """Return the scope of the calling task. Its first operation in a workflow opens its branch."""
    scope = _scope.get()
    if scope is None or scope.attempt is not None:
        return scope
    task = asyncio.current_task()
    if scope.branch.owner is task:
        return scope
    if task is None or not may_walk(scope, task):
        raise _elsewhere(scope)
    numbered = _from_thread.get(task)
    if numbered is not None:
        branched = open_for_thread(numbered, task)
    else:
        branched = Scope(scope.run, scope.port, scope.branch.open_child(task))
        _opens(branched, task)
    _scope.set(branched)
    return branched


def may_walk(scope: Scope, task: asyncio.Task[Any]) -> bool:
    """Tell whether a running task owns this branch, or may open a branch below it."""
    owner = scope.branch.owner
    if isinstance(owner, asyncio.Task):
        return owner.get_loop() is task.get_loop()
    return owner == threading.get_ident()  # The task is on a loop in the thread of a blocking workflow.


def _opens(scope: Scope, task: asyncio.Task[Any]) -> None:
    """Note that a task has opened a branch."""
    run, port = scope.run, scope.port
    run.ahead.branch_opens()
    turns = takes_turns(scope, task.get_loop())
    task.add_done_callback(run.ahead.branch_ends)
    task.add_done_callback(partial(turns.branch_ends, scope.branch.path))
    task.add_done_callback(partial(_quiet_if_cut_short, port.chain))


def takes_turns(scope: Scope, loop: asyncio.AbstractEventLoop) -> Turns:
    """Make results come in turn to the code on this loop, and return its turns."""
    run, port = scope.run, scope.port
    run.takes_turns()
    turns = port.turns
    if turns is None or not turns.is_on(loop):
        if turns is not None and not run.turns:
            turns.leave_loop()
        port.turns = turns = Turns(
            run, port.chain, run_of, code_of, port.limits
        )  # A blocking workflow may run several loops.
    return turns


def _quiet_if_cut_short(chain: Chain, task: asyncio.Task[Any]) -> None:
    """Keep asyncio from reporting the end of a run again for each branch that no task awaits.

    The code that shut the process down or cancelled the workflow knows of it, and a defect is logged once. Other errors
    of a branch are reported.
    """
    if chain.is_cut_short and not task.cancelled():
        task.exception()


# --- calls in other threads ------------------------------------------------------------------------------

# Branches of tasks that had none when they first called a function in a thread. Such a branch becomes the task's with
# the first operation, of the function or of the task itself. Until then it has no owner.
_from_thread: weakref.WeakKeyDictionary[asyncio.Task[Any], Scope] = weakref.WeakKeyDictionary()


def number_for_thread(scope: Scope, task: asyncio.Task[Any]) -> Scope:
    """Return the scope for operations of a function that a task will call in another thread."""
    if scope.branch.owner is task:
        return scope
    numbered = _from_thread.get(task)
    if numbered is None:
        numbered = _from_thread[task] = Scope(scope.run, scope.port, scope.next_for_thread())
    return numbered


def open_for_thread(scope: Scope, task: asyncio.Task[Any]) -> Scope:
    """Open the branch that was numbered when the task first called a function, if it is not open yet."""
    if scope.branch.owner is None:
        scope.branch.owner = task
        _opens(scope, task)
    return scope


def within_call(scope: Scope, number: str, task: asyncio.Task[Any]) -> Scope:
    """Return the scope inside a function that a task calls in another thread.

    The thread may run coroutines on the task's loop. Their branches are numbered below the call, so these numbers do
    not depend on other threads.
    """
    return Scope(scope.run, scope.port, Branch(number, task))


def _elsewhere(scope: Scope) -> DBOSContextError:
    return DBOSContextError(
        f"an operation of workflow {scope.run.workflow_id!r} was called from a thread or event loop that is not its "
        "own, so a replay could not repeat the order of its operations. In an async workflow, use tasks on its own "
        "loop, or await asyncio.to_thread(...); in a blocking one, use DBOS.run_parallel(...); or call it in a step"
    )
