"""Starting workflows: the record of the start, and the run that is then to be executed.

A start from outside under a fresh random id cannot meet another, so it is handed over as the first
unit of the new run and not waited for; the run's own barrier keeps everything after it. Under a
chosen id the store's answer decides whether this start or an earlier one counts. In a workflow the
child and the entry that started it are one unit.

The run is planned before its start is handed over, and is this process's from the moment that the start
is durable. So nothing treats it as lost while the caller has not yet heard of that. A caller that never
hears of it (it was cancelled, its loop was closed) gives the run up, and the supervisor executes it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, Self

from msgspec import Struct

from tidings.core.effects import Failed, Operation
from tidings.core.history import Run
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import by, deadline_of
from tidings.core.operations.results import Started, start, start_child
from tidings.engine.clock import Clock
from tidings.engine.live import LiveRun
from tidings.engine.receivers import Receiver
from tidings.engine.registry import Registry, WorkflowFunction
from tidings.engine.runner import Runner
from tidings.engine.scope import Scope
from tidings.error import DBOSRunEndedError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.model import Answer, Applied, NewWorkflow, Unit
from tidings.serialization import Serializer, dump, load
from tidings.shortage import is_shortage


class Start(Struct, frozen=True):
    """A workflow that was started: executed here as `live`, unless it had been started before."""

    workflow_id: str
    live: LiveRun | None


class Limit(Struct, frozen=True):
    """How long a workflow may take, in seconds; `None` is no limit."""

    seconds: float | None


class Starter:
    """Starts workflows of one engine."""

    def __init__(
        self,
        runner: Runner,
        registry: Registry,
        clock: Clock,
        serializer: Serializer,
        app_version: str,
        program: str,
    ) -> None:
        self._runner = runner
        self._registry = registry
        self._clock = clock
        self._serializer = serializer
        self._app_version = app_version
        self._program = program
        self._is_closing = False

    def close(self) -> None:
        """Start nothing more but what workflows and their steps start."""
        self._is_closing = True

    def start(
        self,
        function: WorkflowFunction,
        receiver: Receiver | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        choose_id: Callable[[], str | None],
        limit: Limit | None,
        scope: Scope | None,
        loop: asyncio.AbstractEventLoop | None,
        in_caller: bool,
    ) -> Operation[Start]:
        """Start a workflow: a child where `scope` is a workflow.

        A method is called on `receiver`, which is not among `args`. `choose_id` is asked once the
        arguments are known to be fit; `None` lets the id be random. Without a `limit` of its own a
        child has its parent's deadline. A coroutine runs on `loop`, which is the running one, or in the
        background. With `in_caller` a function runs in this thread, to its end.
        """
        if self._is_closing and scope is None:
            raise DBOSShutdownError(
                "tidings is being shut down in this process, which starts no more workflows; start it in another one"
            )
        inputs = yield from patiently(dump, self._serializer, {"args": list(args), "kwargs": kwargs}, _what(function))
        workflow_id = choose_id()
        fresh_id = workflow_id or uuid.uuid4().hex
        parent = scope if scope is not None and scope.attempt is None else None

        def new(now_ms: int) -> NewWorkflow:
            return NewWorkflow(
                fresh_id,
                function.name,
                inputs,
                self._serializer.name(),
                self._app_version,
                parent.run.workflow_id if parent is not None else None,
                now_ms,
                receiver.class_name if receiver is not None else None,
                receiver.config_name if receiver is not None else None,
                *_limits(limit, parent, now_ms),
                program=self._program,
                is_id_chosen=workflow_id is not None,
            )

        with _Plan(self._runner, lambda made: self._plan(made, function, receiver, loop)) as plan:
            if parent is not None:
                slot = parent.begin(function.name, child=True)
                started = yield from start_child(slot, lambda now_ms: plan.of(new(now_ms)), plan.tell)
            elif workflow_id is not None:
                started = yield from start((yield from patiently(plan.of, new(self._clock.now_ms()))), plan.tell)
            else:
                started = self._start_unseen((yield from patiently(plan.of, new(self._clock.now_ms()))), plan)
            if isinstance(started, Failed):
                return started  # type: ignore[return-value]  # The driver raises it.
            assert isinstance(started, Started)
            if started.new is None:
                plan.drop()
                return Start(started.workflow_id, None)
            return Start(started.workflow_id, plan.carry_out(in_caller=in_caller))

    def _start_unseen(self, new: NewWorkflow, plan: _Plan) -> Started:
        """Hand the start over as the first unit of its own run, which may begin before that is durable."""
        assert plan.live is not None
        self._runner.begins_unrecorded(plan.live)
        chain = plan.live.port.chain
        try:
            chain.defer(lambda: Unit(new.workflow_id, 1, start=new), plan.tell)
            plan.live.starting = chain.barrier()
        except DBOSRunEndedError:  # To who starts it, the end of a run that never began is an ordinary error.
            self._runner.refused(plan.live)
            raise DBOSShutdownError from None
        except DBOSWorkflowCancelledError:
            pass  # It was started, and cancelled since.
        return Started(new.workflow_id, new)

    def _plan(
        self,
        new: NewWorkflow,
        function: WorkflowFunction,
        receiver: Receiver | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> LiveRun:
        """Plan a run with what will be recorded, as a recovery would: the caller may change its own objects.

        So it runs the function that is registered now, also where the caller still has a former one.

        Raises:
            DBOSWorkflowFunctionNotFoundError, DBOSConflictingRegistrationError: a recovery would not find the function.
        """
        current = self._registry.current(function)
        recorded = load(self._serializer, new.inputs, _what(function))
        run = Run(new.workflow_id, 1, function.name, self._serializer, due=by(new.created_at_ms, new.deadline_ms))
        args = (receiver.target, *recorded["args"]) if receiver is not None else tuple(recorded["args"])
        if current is not function:
            current.signature.bind(*args, **recorded["kwargs"])  # It was checked with the former one's.
        return self._runner.plan(run, current, args, recorded["kwargs"], loop)


class _Plan:
    """The run that a start plans, and what becomes of it. A block that does not carry it out gives it up."""

    __slots__ = ("_is_done", "_make", "_runner", "live")

    def __init__(self, runner: Runner, make: Callable[[NewWorkflow], LiveRun]) -> None:
        self._runner = runner
        self._make = make
        self._is_done = False
        self.live: LiveRun | None = None

    def of(self, new: NewWorkflow) -> NewWorkflow:
        """Plan the run of this workflow, which is going to be handed over."""
        self.live = self._make(new)
        return new

    def tell(self, answer: Answer | None) -> None:
        """Hear what came of the start, in the committer's thread."""
        if self.live is not None:
            if type(answer) is Applied:
                self._runner.recorded(self.live)
            else:
                self._runner.refused(self.live)

    def carry_out(self, *, in_caller: bool) -> LiveRun:
        """Begin the run; or execute it in this thread, to its end."""
        assert self.live is not None
        if in_caller:
            self._runner.execute(self.live, for_caller=True)
        else:
            try:
                self._runner.begin(self.live)
            except Exception as error:
                if not is_shortage(error):
                    raise
                self._runner.give_up(self.live)  # Its start is durable, or will be: the supervisor soon executes it.
        self._is_done = True
        return self.live

    def drop(self) -> None:
        """Forget the run: the workflow had been started before."""
        if self.live is not None:  # In a replay there is none: the record says which child was started.
            self._runner.forget(self.live)
        self._is_done = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None and not self._is_done:
            self._runner.give_up(self.live)


def _limits(limit: Limit | None, parent: Scope | None, now_ms: int) -> tuple[int | None, int | None]:
    """Return the timeout and the deadline of a workflow that starts now, in ms."""
    if limit is None:
        return None, parent.run.due.deadline_ms if parent is not None and parent.run.due is not None else None
    if limit.seconds is None:
        return None, None
    return round(limit.seconds * 1_000), deadline_of(now_ms, limit.seconds)


def _what(function: WorkflowFunction) -> str:
    what = f"the arguments of workflow {function.name!r}"
    if next(iter(function.signature.parameters), None) in {"self", "cls"}:
        what += " (if it is a method, decorate its class with @DBOS.dbos_class())"
    return what
