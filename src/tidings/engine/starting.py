"""Starting workflows: the record of the start, and the run that is then to be executed.

A start from outside under a fresh random id cannot meet another, so it is handed over as the first
unit of the new run and not waited for; the run's own barrier keeps everything behind it. Under a
chosen id the store's answer decides whether this start or an earlier one counts. In a workflow the
child and the entry that started it are one unit. Who gets the answer late executes nothing: what may
have been taken over meanwhile is recorded, and whoever owns it goes on with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tidings.core.effects import Failed, Operation
from tidings.core.history import Run
from tidings.core.operations.recorded import deadline_of
from tidings.core.operations.results import Started, start, start_child
from tidings.engine.clock import Clock
from tidings.engine.receivers import Receiver
from tidings.engine.registry import WorkflowFunction
from tidings.engine.runner import LiveRun, Runner
from tidings.engine.scope import Scope
from tidings.error import DBOSRunEndedError, DBOSShutdownError, DBOSWorkflowCancelledError
from tidings.model import NewWorkflow, Unit
from tidings.serialization import Serializer, dump, load


class Start(Struct, frozen=True):
    """A workflow that was started: to be executed here if `live`, else it was started before."""

    workflow_id: str
    live: LiveRun | None


class Limit(Struct, frozen=True):
    """How long a workflow may take, in seconds; `None` is no limit."""

    seconds: float | None


class Starter:
    """Starts workflows of one engine."""

    def __init__(self, runner: Runner, clock: Clock, serializer: Serializer, app_version: str) -> None:
        self._runner = runner
        self._clock = clock
        self._serializer = serializer
        self._app_version = app_version
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
    ) -> Operation[Start]:
        """Start a workflow: a child where `scope` is a workflow. The caller executes it.

        A method is called on `receiver`, which is not among `args`. `choose_id` is asked once the
        arguments are known to be fit; `None` lets the id be random. Without a `limit` of its own a
        child has its parent's deadline.
        """
        if self._is_closing and scope is None:
            raise DBOSShutdownError(
                "tidings is being shut down in this process, which starts no more workflows; start it in another one"
            )
        inputs = dump(self._serializer, {"args": list(args), "kwargs": kwargs}, _what(function))
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
            )

        if parent is None and workflow_id is None:
            started_now = new(self._clock.now_ms())
            live = self._prepare(started_now, function, receiver)
            try:
                live.port.chain.defer(lambda: Unit(fresh_id, 1, start=started_now))
                live.starting = live.port.chain.barrier()
            except DBOSRunEndedError:  # To who starts it, the end of a run that never began is an ordinary error.
                raise DBOSShutdownError from None
            except DBOSWorkflowCancelledError:
                pass  # Its time was up already, so it was started.
            return Start(fresh_id, live)
        generation = self._runner.generation
        if parent is not None:
            started = yield from start_child(parent.begin(function.name, child=True), new)
        else:
            started = yield from start(new(self._clock.now_ms()))
        if isinstance(started, Failed):
            return started  # type: ignore[return-value]  # The driver raises it.
        assert isinstance(started, Started)
        if started.new is None:
            return Start(started.workflow_id, None)
        return Start(started.workflow_id, self._prepare(started.new, function, receiver, generation))

    def _prepare(
        self, new: NewWorkflow, function: WorkflowFunction, receiver: Receiver | None, generation: int | None = None
    ) -> LiveRun:
        """Execute with what was recorded, as a recovery would: the caller may change its own objects."""
        recorded = load(self._serializer, new.inputs, _what(function))
        run = Run(new.workflow_id, 1, function.name, self._serializer, deadline_ms=new.deadline_ms)
        args = (receiver.target, *recorded["args"]) if receiver is not None else tuple(recorded["args"])
        return self._runner.prepare(run, function, args, recorded["kwargs"], generation)


def _limits(limit: Limit | None, parent: Scope | None, now_ms: int) -> tuple[int | None, int | None]:
    """Return the timeout and the deadline of a workflow that starts now, in ms."""
    if limit is None:
        return None, parent.run.deadline_ms if parent is not None else None
    if limit.seconds is None:
        return None, None
    return round(limit.seconds * 1_000), deadline_of(now_ms, limit.seconds)


def _what(function: WorkflowFunction) -> str:
    what = f"the arguments of workflow {function.name!r}"
    if next(iter(function.signature.parameters), None) in {"self", "cls"}:
        what += " (if it is a method, decorate its class with @DBOS.dbos_class())"
    return what
