"""Runs workflows: each on a task or thread of its own, to one of the ways in which a run can end.

An execution ends in one of four ways:

- with an outcome (a value or an error), which is recorded;
- cancelled, taken over or shut down: it was refused (`Chain.kill`), and records nothing;
- off its recorded path (`DBOSUnexpectedStepError`): it stays PENDING for code that takes the path;
- with its event loop closed: it is claimed again and goes on on the background loop.

A caller that goes away (a web client that disconnects, `wait_for` around a handle) ends only its own
waiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

from tidings.core.history import Run
from tidings.core.operations.results import conclude, end_key
from tidings.engine.drive import drive, drive_async
from tidings.engine.loops import BackgroundLoop, is_closing, watch_loop
from tidings.engine.port import Parts, Port
from tidings.engine.probes import Point
from tidings.engine.registry import WorkflowFunction
from tidings.engine.scope import Scope, standing
from tidings.engine.ticket import Ticket
from tidings.engine.workers import Workers
from tidings.error import DBOSBaseException

logger = logging.getLogger("tidings")


class LiveRun:
    """A run that is being executed in this process.

    `ended` is settled with its result or error; `starting`, if the run's own start was its first
    unit, when that is durable.
    """

    __slots__ = ("args", "ended", "function", "kwargs", "port", "run", "starting", "task")

    def __init__(
        self, run: Run, port: Port, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.run = run
        self.port = port
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.ended = Ticket()
        self.starting: Ticket | None = None
        self.task: asyncio.Task[None] | None = None


class Runner:
    """The runs of this process."""

    def __init__(
        self, parts: Parts, workers: Workers, background: BackgroundLoop, detached: Callable[[LiveRun], None]
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._background = background
        self._detached = detached
        self._lock = threading.Lock()
        self._live: dict[str, LiveRun] = {}

    def live(self, workflow_id: str) -> LiveRun | None:
        """Return the run of this workflow, if it is being executed here."""
        return self._live.get(workflow_id)

    @property
    def has_live(self) -> bool:
        """Whether any run is executed here."""
        return bool(self._live)

    def all_live(self) -> list[LiveRun]:
        with self._lock:
            return list(self._live.values())

    def prepare(self, run: Run, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveRun:
        """Make ready to execute a run."""
        live = LiveRun(run, Port(self._parts, run.workflow_id), function, args, kwargs)
        with self._lock:
            self._live[run.workflow_id] = live
        self._parts.waiters.restore(end_key(run.workflow_id))
        return live

    def begin(self, live: LiveRun, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Execute a run: an async one on `loop`, if that is running here, else in the background."""
        if not live.function.is_async:
            context = contextvars.copy_context()
            self._workers.start(lambda: context.run(self.execute, live))
        elif loop is not None:
            self._begin_on(loop, live)
        else:
            background = self._background.get()
            background.call_soon_threadsafe(self._begin_on, background, live)

    def execute(self, live: LiveRun) -> None:
        """Execute a blocking run in this thread, to its end."""
        live.run.root.owner = threading.get_ident()
        value: Any = None
        error: BaseException | None = None
        with standing(Scope(live.run, live.port, live.run.root)):
            try:
                try:
                    value = live.function.function(*live.args, **live.kwargs)
                except Exception as failure:
                    error = failure
                value = drive(conclude(live.run, value, error, live.port.settle_failure), live.port)
            except BaseException as ending:
                self._ended(live, None, ending)
                if not isinstance(ending, (Exception, DBOSBaseException)):
                    raise  # KeyboardInterrupt, SystemExit: the workflow stays PENDING, the program ends.
            else:
                self._ended(live, value, None)

    def detach_from_closed_loops(self) -> None:
        """End the executions whose event loop was closed without cancelling its tasks first."""
        for live in self.all_live():
            if live.task is not None and live.task.get_loop().is_closed():
                live.port.detach()
                self._ended(live, None, live.port.chain.dead)

    def kill(self, workflow_id: str, error: BaseException) -> None:
        """Let a run write nothing more, and wake it from whatever it waits for."""
        live = self._live.get(workflow_id)
        if live is not None:
            live.port.chain.kill(error)

    def kill_all(self, error: Callable[[str], BaseException]) -> None:
        for live in self.all_live():
            live.port.chain.kill(error(live.run.workflow_id))

    def _begin_on(self, loop: asyncio.AbstractEventLoop, live: LiveRun) -> None:
        watch_loop(loop)
        live.task = loop.create_task(self._execute_async(live), name=live.run.workflow_id)

    async def _execute_async(self, live: LiveRun) -> None:
        live.run.root.owner = asyncio.current_task()
        value: Any = None
        error: BaseException | None = None
        with standing(Scope(live.run, live.port, live.run.root)):
            try:
                try:
                    value = await live.function.function(*live.args, **live.kwargs)
                except Exception as failure:
                    error = failure
                except asyncio.CancelledError as failure:
                    if is_closing(asyncio.get_running_loop()):
                        live.port.detach()
                    error = failure
                value = await drive_async(conclude(live.run, value, error, live.port.settle_failure), live.port)
            except BaseException as ending:
                self._ended(live, None, ending)
                if not isinstance(ending, (Exception, DBOSBaseException, asyncio.CancelledError)):
                    raise
            else:
                self._ended(live, value, None)

    def _ended(self, live: LiveRun, value: Any, error: BaseException | None) -> None:
        workflow_id = live.run.workflow_id
        with self._lock:
            if self._live.get(workflow_id) is live:
                del self._live[workflow_id]
        broken = live.run.broken
        if broken is not None and error is broken:
            logger.error("%s", broken, extra={"workflow_id": workflow_id})
            self._parts.waiters.fail(end_key(workflow_id), broken)
        live.ended.settle(value, error)
        self._parts.probes.passes(Point.RUN_ENDED, workflow_id)
        if live.port.is_detached:
            self._detached(live)
