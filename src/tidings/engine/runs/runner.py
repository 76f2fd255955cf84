"""Runs workflows: each in a task or thread of its own, until its execution ends.

An execution ends in one of these ways:

- With an outcome (a value or an error), which is recorded. A SystemExit is an error like any other.
- Killed (`Chain.kill`), because the workflow was cancelled or taken over, or the process shuts down. It records
  nothing.
- Unable to replay: off its recorded path, or without a class that a value needs. The workflow stays PENDING, for code
  that can replay it.
- Its event loop was closed, or it could not begin. The workflow is claimed again and resumed, on the background loop if
  it is async.

A coroutine runs on the event loop on which the program launched, if that runs: the objects it uses may belong to that
loop. Otherwise it runs on its starter's loop, or on the background loop.

A caller that stops waiting (a web client that disconnects, `wait_for` around a handle) does not end the workflow.

A start is known here before it is handed over, and until its run has begun (`engine.runs.starts`). When its record
becomes durable, the run belongs to this process at once: the committer's thread calls `recorded` before it does
anything else. So a run that only waits for a blocked event loop, however long, never looks like one that no process
executes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, cast
from weakref import ref

from tidings.blocks import contextmanager
from tidings.core.effects import Due
from tidings.core.history import Run
from tidings.core.operations.results import Ended, conclude, end_key
from tidings.engine.database.chain import Chain
from tidings.engine.hooks import Point
from tidings.engine.runs import reports
from tidings.engine.runs.drive import drive, drive_async
from tidings.engine.runs.libraries import settle_libraries
from tidings.engine.runs.live import Alarm, LiveRun
from tidings.engine.runs.loops import BackgroundLoop, HomeLoop, is_closing, running_loop, watch_loop
from tidings.engine.runs.port import Parts, Port
from tidings.engine.runs.registry import WorkflowFunction
from tidings.engine.runs.scope import Scope, code_of, inside, run_of
from tidings.engine.runs.starts import Starts
from tidings.engine.runs.tasks import root_task
from tidings.engine.runs.turns import Turns
from tidings.engine.runs.workers import Workers
from tidings.error import DBOSException, DBOSRunEndedError, DBOSUnexpectedStepError, DBOSWorkflowCancelledError
from tidings.model import Answer, Applied, Stuck, Unit

logger = logging.getLogger("tidings")


# Ended workflows whose unread messages are not counted yet. Beyond this number, the oldest are not counted.
_MOST_TO_COUNT = 50_000

# Errors that a program sees if it called the workflow in its own thread.
_FOR_THE_CALLER = (KeyboardInterrupt, SystemExit)


class Runner:
    """The runs of this process."""

    def __init__(
        self,
        parts: Parts,
        workers: Workers,
        callers: Workers,
        home: HomeLoop,
        background: BackgroundLoop,
        detached: Callable[[LiveRun], None],
        *,
        gives_back_stuck: bool = False,
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._callers = callers
        self._home = home
        self._background = background
        self._detached = detached
        self._gives_back_stuck = gives_back_stuck  # Whether other versions may take what this one cannot continue.
        self._lock = threading.Lock()
        self._live: dict[str, LiveRun] = {}
        self._starts = Starts()
        self._closed: str | None = None
        self._no_more_steps: str | None = None
        self.generation = 0  # Increased whenever this process may have lost runs.
        self._is_claiming = False
        self._to_count: deque[tuple[str, str]] = deque(maxlen=_MOST_TO_COUNT)  # Id and name of workflows that ended.
        self._cancelled: set[str] = set()  # Cancelled while claiming and not executed here: perhaps being claimed.

    def live(self, workflow_id: str) -> LiveRun | None:
        """Return the run of this workflow, if it is being executed here."""
        return self._live.get(workflow_id)

    @property
    def has_live(self) -> bool:
        """Whether any run is being executed here."""
        return bool(self._live)

    def ids(self) -> list[str]:
        """Return the workflows that are being executed here."""
        return [live.run.workflow_id for live in self.all_live()]

    def runs(self, workflow_id: str) -> bool:
        """Tell whether this workflow is being executed here."""
        return workflow_id in self._live

    def all_live(self) -> list[LiveRun]:
        with self._lock:
            return list(self._live.values())

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Claim runs and prepare them inside this block, in one thread at a time.

        Another process may cancel a claimed workflow before it is prepared here. The block remembers cancellations
        until then.
        """
        with self._lock:
            self._is_claiming = True
        try:
            yield
        finally:
            with self._lock:
                self._is_claiming = False
                self._cancelled.clear()

    def unattended(self, workflow_ids: Iterable[str]) -> list[str]:
        """Return which of these workflows are not executed here. Exact if called in the committer's thread.

        Reason: that thread makes starts durable, and at once makes their runs this process's (`recorded`). The one
        exception is a start whose caller got an error while the database was away. If it was committed after all, no
        run here executes it.
        """
        return [each for each in workflow_ids if each not in self._live]

    def prepare_claimed(
        self, run: Run, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any], generation: int
    ) -> LiveRun | None:
        """Prepare to execute a claimed run; `None` if ownership has changed since that `generation`."""
        live = self._new(run, function, args, kwargs)
        live.is_recorded = True
        with self._lock:
            if generation != self.generation:
                return None
            self._add(live)
        self._parts.waiters.restore(end_key(run.workflow_id))
        return live

    def ownership_changes(self) -> None:
        """Call this before re-reading what this process owns: claims made earlier may be stale."""
        with self._lock:
            self.generation += 1

    # --- starts -----------------------------------------------------------------------------------

    def plan(
        self,
        run: Run,
        function: WorkflowFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> LiveRun:
        """Prepare to execute a run whose start will be handed over.

        After this its starter must `begin`, `execute`, `forget` or `give_up` the run.

        Args:
            run: the run, under its first epoch.
            function: the workflow function to execute.
            args: its positional arguments.
            kwargs: its keyword arguments.
            loop: the loop on which the starter waits, and on which a coroutine runs; `None` if the starter is a thread.
        """
        live = self._new(run, function, args, kwargs)
        live.loop = None if loop is None else ref(loop)
        with self._lock:
            self._starts.add(live)
        return live

    def begins_unrecorded(self, live: LiveRun) -> None:
        """Let a run be executed before its start is durable: the start is the first unit of the run."""
        with self._lock:
            self._add(live)

    def recorded(self, live: LiveRun) -> None:
        """Note that a start is durable. From now on the run belongs to this process.

        Called in the committer's thread; raises nothing.
        """
        with self._lock:
            live.is_recorded = True
            if self._live.get(live.run.workflow_id) is live:  # It began before its start was durable.
                self._set_alarm(live)
            elif not live.over:
                self._add(live)
            if live.is_given_up:
                self._starts.give_up(live)  # Again: only now there is a start to resume.
        self._parts.waiters.restore(end_key(live.run.workflow_id))

    def refused(self, live: LiveRun) -> None:
        """Note that a start was refused, or failed. Takes no lock, and raises nothing."""
        live.is_refused = True
        if live.is_given_up:
            self._starts.give_up(live)

    def forget(self, live: LiveRun) -> None:
        """Drop this start: the workflow had been started before, for example."""
        with self._lock:
            self._starts.forget(live)

    def give_up(self, live: LiveRun) -> None:
        """Note that the starter ended before it began this run.

        If the start is recorded, the supervisor soon executes it. Takes no lock: the finalizer of a coroutine calls
        this, perhaps in a thread that holds the lock.
        """
        self._starts.give_up(live)

    def _take_given_up(self) -> None:
        """End the planned runs whose starters have ended, so that these workflows are resumed."""
        with self._lock:
            given_up = self._starts.take_given_up()
        for live in given_up:
            if not live.has_begun and (live.is_recorded or live.is_refused):
                self._detach(live)

    # --- executing --------------------------------------------------------------------------------

    def _new(self, run: Run, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveRun:
        port = Port(self._parts, run.workflow_id, ahead=run.ahead)
        port.callers = self._callers
        return LiveRun(run, port, function, args, kwargs)

    def _add(self, live: LiveRun) -> None:
        workflow_id = live.run.workflow_id
        former = self._live.get(workflow_id)
        self._live[workflow_id] = live
        if former is not None:
            former.port.chain.kill(DBOSRunEndedError(workflow_id, "a newer execution in this process replaced it"))
        if self._closed is not None:
            live.port.chain.kill(DBOSRunEndedError(workflow_id, self._closed))
        live.port.no_more_steps = self._no_more_steps
        if workflow_id in self._cancelled:
            live.port.chain.kill(DBOSWorkflowCancelledError(workflow_id))
        if live.run.due is not None:
            self._set_alarm(live)

    def _set_alarm(self, live: LiveRun) -> None:
        """Set an alarm that cancels the workflow at its deadline.

        It is set once the start is durable: before, there is nothing to cancel.
        """
        if live.run.due is not None and live.is_recorded and live.alarm is None:
            live.alarm = self.cancel_at(live.run.due, live.run.workflow_id, live.run.name)

    def cancel_at(self, due: Due, workflow_id: str, name: str) -> Alarm:
        """Cancel a workflow at its deadline, even if it cannot be executed, unless the alarm is switched off."""
        alarm = Alarm()
        alarm.when_settled(partial(self._time_is_up, alarm, workflow_id, name))
        self._parts.timers.at(due, alarm)
        return alarm

    def _time_is_up(self, alarm: Alarm, workflow_id: str, name: str) -> None:
        if not alarm.is_off:
            self.cancel_overdue(workflow_id, name)

    def cancel_overdue(self, workflow_id: str, name: str) -> None:
        """Cancel a workflow whose deadline has passed. Does not wait."""
        tell = (
            None if self.runs(workflow_id) else partial(_say_time_is_up, workflow_id, name)
        )  # Otherwise `cancelled` logs it.
        _ = Chain(self._parts.committer).commit(Unit(cancels=(workflow_id,)), tell)

    def begin(self, live: LiveRun) -> None:
        """Execute a run: a function in a thread, a coroutine on an event loop.

        If no thread or loop can be started now, the run waits for one. If its task cannot be created, this raises, and
        the caller gives the run up.
        """
        if not live.function.is_async:
            context = contextvars.copy_context()
            self._workers.start(lambda: context.run(self.execute, live))
            self._has_begun(live)
            return
        home, here = self._home.get(), running_loop()
        if here is not None and (here is home or (home is None and live.loop is not None)):
            self._begin_on(here, live)
        elif home is not None:
            live.home = ref(home)
            try:
                home.call_soon_threadsafe(self._begin_at_home, home, live)
            except RuntimeError:  # The loop was closed just now.
                self._begin_in_background(live)
        else:
            self._begin_in_background(live)

    def _has_begun(self, live: LiveRun) -> None:
        with self._lock:
            self._starts.begun(live)

    def _begin_in_background(self, live: LiveRun) -> None:
        live.home = None
        if not self._background.call(partial(self._begin_brought, live)):
            self._ended(live, None, live.port.chain.dead)  # The host has stopped, which killed the run.

    def _begin_at_home(self, home: asyncio.AbstractEventLoop, live: LiveRun) -> None:
        if is_closing(home):
            self._begin_in_background(live)
        else:
            self._begin_brought(live, home)

    def _begin_brought(self, live: LiveRun, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a run that another thread or loop has sent to this loop."""
        if live.over:
            return  # It waited too long, and another execution replaced it.
        try:
            self._begin_on(loop, live)
        except BaseException:
            self.give_up(live)
            raise

    def execute(self, live: LiveRun, *, for_caller: bool = False) -> None:
        """Execute a blocking run in this thread, to its end.

        Args:
            for_caller: whether the thread is the caller's. Then a KeyboardInterrupt or SystemExit is raised to the
                caller, and the workflow stays PENDING. In the library's own threads they are errors like any other.
        """
        try:
            self._has_begun(live)
            live.run.root.owner = threading.get_ident()
            live.port.is_in_thread = True
            live.port.turns = _turns_of(live)
            settle_libraries()
            self._say_begins(live)
            with inside(Scope(live.run, live.port, live.run.root)):
                value, error = self._call(live, for_caller)
                self._concluded(live, self._drive_end(live, value, error))
        except BaseException as ending:
            self._ended(live, None, ending)
            if for_caller and isinstance(ending, _FOR_THE_CALLER):
                raise

    def _call(self, live: LiveRun, for_caller: bool) -> tuple[Any, BaseException | None]:
        """Call the workflow function. Returns its value or its error."""
        try:
            live.port.chain.check()
            return live.function.function(*live.args, **live.kwargs), None
        except BaseException as failure:
            if for_caller and isinstance(failure, _FOR_THE_CALLER):
                raise
            return None, failure

    def _drive_end(self, live: LiveRun, value: Any, error: BaseException | None) -> Ended:
        _raise_if_dead(live, error)
        port = live.port.for_end()
        return drive(conclude(live.run, value, error, port.settle_failure), port)

    def detach_lost(self) -> None:
        """End the executions that cannot continue here, so that their workflows are resumed.

        Their starter has ended, or their event loop was closed without cancelling its tasks first.
        """
        self._take_given_up()
        self._workers.try_again()
        self._callers.try_again()
        self._background.try_again()
        home_stands_still = self._home.look()
        for live in self.all_live():
            task = live.task
            if task is not None and task.get_loop().is_closed():
                self._detach(live)
                # The task will never run again. Keep asyncio from warning of that, and close the coroutine now:
                # otherwise garbage collection would close it at any time.
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(Exception):
                    cast(Coroutine[Any, Any, None], live.coroutine).close()
            elif live.home is not None and home_stands_still and live.is_recorded:
                self._detach(live)  # That loop may never run again. If it does, this execution is over.

    def _detach(self, live: LiveRun) -> None:
        live.port.detach()
        self._ended(live, None, live.port.chain.dead)

    def cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is CANCELLED, even if the run has not begun here yet."""
        with self._lock:
            live = self._live.get(workflow_id)
            killed = self._starts.of(workflow_id) if live is None else [live]
            if self._is_claiming and not killed:
                self._cancelled.add(workflow_id)
        for each in killed:
            self._say_cancelled(each)
            each.port.chain.kill(DBOSWorkflowCancelledError(workflow_id))

    def _say_cancelled(self, live: LiveRun) -> None:
        with self._lock:
            if live.is_said_cancelled or live.port.chain.dead is not None:
                return
            live.is_said_cancelled = True
        is_overdue = live.alarm is not None and live.alarm.settled
        say = reports.took_too_long if is_overdue else reports.cancelled
        say(live.run.workflow_id, live.run.name)
        self.count_unread_of(live.run.workflow_id, live.run.name)

    def count_unread_of(self, workflow_id: str, name: str) -> None:
        """Note that a workflow has ended, so that its unread messages are counted."""
        self._to_count.append((workflow_id, name))

    def take_to_count(self) -> dict[str, str]:
        """Return the workflows, id to name, that have ended since the last call."""
        taken = {}
        with contextlib.suppress(IndexError):
            while True:
                workflow_id, name = self._to_count.popleft()
                taken[workflow_id] = name
        return taken

    def kill_lost(self, owned: Mapping[str, int]) -> None:
        """Kill the runs that are not in `owned` (id to epoch): another process executes them now."""
        for live in self.all_live():
            run = live.run
            if live.is_recorded and owned.get(run.workflow_id) != run.epoch:
                logger.warning(
                    "workflow %r was taken over by another process, so this one stops executing it", run.workflow_id
                )
                live.port.chain.kill(DBOSRunEndedError(run.workflow_id, "another process took it over"))

    def kill_all(self, reason: str, *, only_recorded: bool = False) -> None:
        """Let no run write anything more, and end all their waits.

        With `only_recorded`, runs whose start is not durable yet continue: the store does not know them.
        """
        for live in self.all_live():
            if only_recorded and not live.is_recorded:
                continue
            live.port.chain.kill(DBOSRunEndedError(live.run.workflow_id, reason))

    def busy(self, besides: asyncio.AbstractEventLoop | None = None) -> list[str]:
        """Return the workflows that do more than wait, except those that need the loop `besides`."""
        return [
            live.run.workflow_id
            for live in self.all_live()
            if not live.port.is_idle and (besides is None or not live.waits_on(besides))
        ]

    def running_steps(self, on: asyncio.AbstractEventLoop | None = None) -> list[tuple[str, str]]:
        """Return the steps that run, as (workflow id, step): all, or only those of runs that need the loop `on`."""
        return [
            (live.run.workflow_id, step)
            for live in self.all_live()
            if on is None or live.waits_on(on)
            for step in tuple(live.port.steps)
        ]

    def let_no_step_begin(self, reason: str) -> None:
        """Let running steps finish. A run ends when it would begin another step."""
        with self._lock:
            self._no_more_steps = reason
        for live in self.all_live():
            live.port.no_more_steps = reason

    def close(self, reason: str) -> None:
        """Kill all runs, also those that begin later."""
        with self._lock:
            self._closed = reason
        self.kill_all(reason)

    def _begin_on(self, loop: asyncio.AbstractEventLoop, live: LiveRun) -> None:
        watch_loop(loop)
        settle_libraries()
        live.coroutine = self._execute_async(live)
        try:
            with inside(None):  # Outside of the starting workflow: the new task is not one of its tasks.
                live.task = root_task(loop, live.coroutine, live.run, live.run.workflow_id)
        except BaseException:
            # A task factory has failed. Without this, Python would warn that it was never awaited.
            live.coroutine.close()
            raise
        self._has_begun(live)
        live.task.add_done_callback(lambda _: self._task_done(live))

    def _task_done(self, live: LiveRun) -> None:
        """Resume a run whose task was cancelled before it began."""
        if not live.over:
            self._detach(live)

    async def _execute_async(self, live: LiveRun) -> None:
        live.run.root.owner = asyncio.current_task()
        live.port.turns = _turns_of(live)
        value: Any = None
        error: BaseException | None = None
        self._say_begins(live)
        with inside(Scope(live.run, live.port, live.run.root)):
            try:
                try:
                    live.port.chain.check()
                    value = await live.function.function(*live.args, **live.kwargs)
                except BaseException as failure:
                    if isinstance(failure, (GeneratorExit, KeyboardInterrupt)):
                        raise
                    if isinstance(failure, asyncio.CancelledError) and is_closing(asyncio.get_running_loop()):
                        live.port.detach()
                    error = failure
                _raise_if_dead(live, error)
                port = live.port.for_end()
                ended = await drive_async(conclude(live.run, value, error, port.settle_failure), port)
                self._concluded(live, ended)
            except BaseException as ending:
                self._ended(live, None, ending)
                if isinstance(ending, (GeneratorExit, KeyboardInterrupt)):
                    raise

    def _say_begins(self, live: LiveRun) -> None:
        if reports.is_told_of_all():
            live.began_ms = self._parts.clock.own_ms()
            reports.begins(live.run)

    def _concluded(self, live: LiveRun, ended: Ended) -> None:
        """Report that a workflow has ended. Its outcome is recorded."""
        if not live.over:
            self.count_unread_of(live.run.workflow_id, live.run.name)
            if ended.reason is not None:
                reports.failed(live.run, ended.reason)
            elif live.began_ms is not None:
                reports.succeeded(live.run, self._parts.clock.own_ms() - live.began_ms)
        self._ended(live, ended.value, ended.error)

    def _ended(self, live: LiveRun, value: Any, error: BaseException | None) -> None:
        """End an execution: its remaining tasks and threads can write nothing more."""
        workflow_id = live.run.workflow_id
        with self._lock:
            if live.over:
                return
            live.over = True
            if live.alarm is not None and live.run.broken is None:  # A run that cannot replay may still be cancelled.
                live.alarm.switch_off()
            if self._live.get(workflow_id) is live:
                del self._live[workflow_id]
        chain = live.port.chain
        if error is not None and chain.dead is not None:
            # Not the error that the workflow's code made of the refusals: a BaseExceptionGroup, say.
            error = chain.dead
        chain.kill(DBOSRunEndedError(workflow_id, "it has ended"))
        broken = live.run.broken
        if isinstance(error, DBOSException) and broken is not None:
            if self._gives_back_stuck and isinstance(broken, DBOSUnexpectedStepError):
                self._give_back_stuck(live, broken)
            else:
                self._parts.waiters.fail(end_key(workflow_id), broken)
            logger.error("%s", broken, extra={"workflow_id": workflow_id})
        live.ended.settle(value, error)
        self._parts.hooks.passes(Point.RUN_ENDED, workflow_id)
        if live.port.is_detached:
            self._detached(live)

    def _give_back_stuck(self, live: LiveRun, broken: DBOSUnexpectedStepError) -> None:
        """Record that this version cannot continue the workflow. It is nobody's then; another version may take it."""
        executor = self._parts.committer.executor
        broken.version = executor.app_version
        stuck = Stuck(
            version=executor.app_version or "",
            operation=broken.operation,
            recorded=broken.recorded,
            called=broken.called,
            at_ms=self._parts.clock.now_ms(),
            code_hash=executor.code_hash,
        )
        unit = Unit(live.run.workflow_id, live.run.epoch, stuck=stuck)
        _ = Chain(self._parts.committer).commit(unit)  # If it fails, the workflow stays this process's.


def _say_time_is_up(workflow_id: str, name: str, answer: Answer | None) -> None:
    """Log that a workflow was cancelled at its deadline, unless it had ended by then."""
    if type(answer) is Applied:
        reports.took_too_long(workflow_id, name)


def _turns_of(live: LiveRun) -> Turns | None:
    """Return the turns of a run that had branches; else `None`."""
    run, port = live.run, live.port
    return Turns(run, port.chain, run_of, code_of, port.limits) if run.has_turns else None


def _raise_if_dead(live: LiveRun, error: BaseException | None) -> None:
    """Raise why the run is dead, if it is, so that the code's value or error is not recorded."""
    if live.port.chain.dead is not None:
        raise live.port.chain.dead from error
