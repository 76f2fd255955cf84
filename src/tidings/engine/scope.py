"""Where code stands: in a workflow, on a branch of its run, or in an attempt of one of its steps.

Carried by a context variable, so it follows tasks and `asyncio.to_thread`. A task that calls its
first operation in a workflow opens a branch; other threads may not, except inside a step.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import Context, ContextVar
from functools import partial

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

    __slots__ = ("attempt", "branch", "port", "run")

    def __init__(self, run: Run, port: Port, branch: Branch, attempt: Attempt | None = None) -> None:
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
    owner = scope.branch.owner
    if owner is task:
        return scope
    if not isinstance(owner, asyncio.Task) or task is None or owner.get_loop() is not task.get_loop():
        raise _elsewhere(scope)
    run, port = scope.run, scope.port
    branched = Scope(run, port, scope.branch.open_child(task))
    run.branch_opens()
    if port.turns is None:
        port.turns = Turns(run, port.chain, run_of, code_of)
    task.add_done_callback(run.ahead.branch_ends)
    task.add_done_callback(partial(port.turns.branch_ends, branched.branch.path))
    _scope.set(branched)
    return branched


def _elsewhere(scope: Scope) -> DBOSContextError:
    return DBOSContextError(
        f"workflow {scope.run.workflow_id!r} is called from a thread or event loop that is not its own; "
        "the order of its operations would differ at each run. Use tasks of its own loop, or a step"
    )
