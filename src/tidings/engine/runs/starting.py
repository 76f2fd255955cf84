"""Starting workflows: the record of the start, and the run that is executed after it.

There are four kinds of start:

- From outside, with a random id: no other start can have this id. So the start is handed over as the first unit of the
  new run, without waiting for it. The run's own barrier makes everything else wait for it.
- With a chosen id: the store's answer decides whether this start or an earlier one counts.
- In a workflow: the child and the entry that started it are one unit.
- In a step: the step's workflow is the parent. The answer tells whether it was still pending: a cancelled workflow
  starts nothing more.

The run is planned before its start is handed over, and belongs to this process from the moment the start is durable. So
nothing treats it as lost while the caller does not know yet that the start is durable. A caller that never learns it
(because it was cancelled, or its loop was closed) gives the run up, and the supervisor executes it.

A process that executes no workflows plans no run. Its starts have no owner, and the other processes of the program are
told to look for them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, Self

from msgspec import Struct

from tidings.core import targets
from tidings.core.effects import Failed, Operation
from tidings.core.history import Run
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import by, deadline_of
from tidings.core.operations.results import Started, start, start_child
from tidings.engine.runs.live import LiveRun
from tidings.engine.runs.receivers import Receiver
from tidings.engine.runs.registry import Registry, WorkflowFunction
from tidings.engine.runs.repeats import Repeats
from tidings.engine.runs.runner import Runner
from tidings.engine.runs.scope import Scope
from tidings.engine.waiting.clock import Clock
from tidings.error import DBOSRunEndedError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.model import Answer, Applied, NewWorkflow, Unit
from tidings.serialization import Serializer, dump, load
from tidings.shortage import is_shortage


class Start(Struct, frozen=True):
    """A workflow that was started. Its run is `live`, unless the workflow had been started before."""

    workflow_id: str
    live: LiveRun | None


class WorkflowLimit(Struct, frozen=True):
    """The timeout of a workflow in seconds; `None` is no limit."""

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
        *,
        executes: bool = True,
    ) -> None:
        """Prepare. With `executes=False`, start workflows for other processes; then the version may be any."""
        self._runner = runner
        self._registry = registry
        self._clock = clock
        self._serializer = serializer
        self._app_version = app_version
        self._program = program
        self._executes = executes
        self._repeats = Repeats(serializer)
        self._is_closing = False

    def close(self) -> None:
        """Refuse all starts except those by workflows and their steps."""
        self._is_closing = True

    def start(
        self,
        function: WorkflowFunction,
        receiver: Receiver | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        choose_id: Callable[[], str | None],
        limit: WorkflowLimit | None,
        scope: Scope | None,
        loop: asyncio.AbstractEventLoop | None,
        in_caller: bool,
    ) -> Operation[Start]:
        """Start a workflow. It is a child if `scope` is a workflow, or a step of one.

        A method is called on `receiver`, which is not among `args`. `choose_id` is called once the arguments are known
        to be valid; if it returns `None`, the id is random. Without a `limit` of its own, a child has its parent's
        deadline. A coroutine runs on `loop`, which is the running one, or in the background. With `in_caller`, a
        function runs in this thread, to its end.
        """
        if self._is_closing and scope is None:
            raise DBOSShutdownError(
                "tidings is being shut down in this process, so it starts no more workflows; start them in another "
                "process"
            )
        inputs = yield from patiently(
            dump, self._serializer, {"args": list(args), "kwargs": kwargs}, function.arguments
        )
        workflow_id = choose_id()
        fresh_id = workflow_id or uuid.uuid4().hex
        in_workflow = scope if scope is not None and scope.attempt is None else None

        def new(now_ms: int) -> NewWorkflow:
            return NewWorkflow(
                fresh_id,
                function.name,
                inputs,
                self._serializer.name(),
                self._app_version,
                scope.run.workflow_id if scope is not None else None,
                now_ms,
                receiver.class_name if receiver is not None else None,
                receiver.config_name if receiver is not None else None,
                *_limits(limit, scope, now_ms),
                program=self._program,
                is_id_chosen=workflow_id is not None,
                is_owned=self._executes,
            )

        if not self._executes:
            made = yield from patiently(new, self._clock.now_ms())
            return (yield from self._start_for_others(function, receiver, made))

        with _Plan(self._runner, lambda made: self._plan(made, function, receiver, loop)) as plan:
            if in_workflow is not None:
                target = None if workflow_id is None else targets.of_child(workflow_id)
                slot = in_workflow.begin(function.name, child=True, target=target)
                started = yield from start_child(slot, lambda now_ms: plan.of(new(now_ms)), plan.tell)
            elif workflow_id is not None or scope is not None:
                started = yield from start((yield from patiently(plan.of, new(self._clock.now_ms()))), plan.tell)
            else:
                started = self._start_unseen((yield from patiently(plan.of, new(self._clock.now_ms()))), plan)
            if isinstance(started, Failed):
                return started  # type: ignore[return-value]  # The driver raises it.
            assert isinstance(started, Started)
            if started.new is None:
                plan.drop()
                yield from self._compare(started, inputs, function, receiver)
                return Start(started.workflow_id, None)
            return Start(started.workflow_id, plan.carry_out(in_caller=in_caller))

    def _start_for_others(
        self, function: WorkflowFunction, receiver: Receiver | None, new: NewWorkflow
    ) -> Operation[Start]:
        """Record a start that has no owner.

        What would keep the workflow from being executed is detected here, as far as this process can.
        """
        self._registry.current(function)
        load(self._serializer, new.inputs, function.arguments)
        started = yield from start(new)
        if isinstance(started, Failed):
            return started  # type: ignore[return-value]  # The driver raises it.
        yield from self._compare(started, new.inputs, function, receiver)
        return Start(started.workflow_id, None)

    def _compare(
        self, started: Started, inputs: str, function: WorkflowFunction, receiver: Receiver | None
    ) -> Operation[None]:
        if started.found is not None:
            yield from patiently(self._repeats.note, started.found, inputs, function, receiver)

    def _start_unseen(self, new: NewWorkflow, plan: _Plan) -> Started:
        """Hand the start over as the first unit of its own run, which may begin before the start is durable."""
        assert plan.live is not None
        self._runner.begins_unrecorded(plan.live)
        chain = plan.live.port.chain
        try:
            chain.defer(lambda: Unit(new.workflow_id, 1, start=new), plan.tell)
            plan.live.starting = chain.barrier()
        except DBOSRunEndedError:  # The run never began, so the caller gets an ordinary error.
            self._runner.refused(plan.live)
            raise DBOSShutdownError from None
        except DBOSWorkflowCancelledError:
            pass  # The workflow was started, and cancelled right after.
        return Started(new.workflow_id, new)

    def _plan(
        self,
        new: NewWorkflow,
        function: WorkflowFunction,
        receiver: Receiver | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> LiveRun:
        """Plan a run with the arguments as they will be recorded, because the caller may change its own objects.

        Like a recovery, it runs the function that is registered now, even if the caller still has an earlier one.

        Raises:
            DBOSWorkflowFunctionNotFoundError, DBOSConflictingRegistrationError: a recovery would not find the function.
        """
        current = self._registry.current(function)
        recorded = load(self._serializer, new.inputs, function.arguments)
        run = Run(new.workflow_id, 1, function.name, self._serializer, due=by(new.created_at_ms, new.deadline_ms))
        args = (receiver.target, *recorded["args"]) if receiver is not None else tuple(recorded["args"])
        if current is not function:
            # The arguments were checked with the earlier function's signature.
            current.check_call(args, recorded["kwargs"])
        return self._runner.plan(run, current, args, recorded["kwargs"], loop)


class _Plan:
    """The run that a start plans. A block that ends without `carry_out` or `drop` gives the run up."""

    __slots__ = ("_is_done", "_make", "_runner", "live")

    def __init__(self, runner: Runner, make: Callable[[NewWorkflow], LiveRun]) -> None:
        self._runner = runner
        self._make = make
        self._is_done = False
        self.live: LiveRun | None = None

    def of(self, new: NewWorkflow) -> NewWorkflow:
        """Plan the run of this workflow, whose start will be handed over."""
        self.live = self._make(new)
        return new

    def tell(self, answer: Answer | None) -> None:
        """Note the answer to the start. Called in the committer's thread."""
        if self.live is not None:
            if type(answer) is Applied:
                self._runner.recorded(self.live)
            else:
                self._runner.refused(self.live)

    def carry_out(self, *, in_caller: bool) -> LiveRun:
        """Begin the run. With `in_caller`, execute it to its end in this thread."""
        assert self.live is not None
        if in_caller:
            self._runner.execute(self.live, for_caller=True)
        else:
            try:
                self._runner.begin(self.live)
            except Exception as error:
                if not is_shortage(error):
                    raise
                self._runner.give_up(self.live)  # Its start is, or will be, durable: the supervisor soon executes it.
        self._is_done = True
        return self.live

    def drop(self) -> None:
        """Drop the run: the workflow had been started before."""
        if self.live is not None:  # A replay plans none: the record names the child.
            self._runner.forget(self.live)
        self._is_done = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None and not self._is_done:
            self._runner.give_up(self.live)


def _limits(limit: WorkflowLimit | None, parent: Scope | None, now_ms: int) -> tuple[int | None, int | None]:
    """Return the timeout and the deadline of a workflow that starts now, in ms."""
    if limit is None:
        return None, parent.run.due.deadline_ms if parent is not None and parent.run.due is not None else None
    if limit.seconds is None:
        return None, None
    return round(limit.seconds * 1_000), deadline_of(now_ms, limit.seconds)
