"""Runs workflows: each on a task or thread of its own, to one of the ways in which a run can end.

An execution ends in one of these ways:

- with an outcome (a value or an error), which is recorded; a SystemExit is an error like others;
- cancelled, taken over or shut down: it was refused (`Chain.kill`), and records nothing;
- unable to replay (off its recorded path, or without a class that a value needs): it stays PENDING,
  for code that can;
- with its event loop closed, or before it could begin: it is claimed again and goes on, on the background loop
  if it is async.

A coroutine runs on the event loop on which the program launched, while that runs: what it uses belongs there.
Without such a loop it runs on its starter's, or on the background loop.

A caller that goes away (a web client that disconnects, `wait_for` around a handle) ends only its own
waiting.

A start is known here from before its hand-over until its run has begun (`engine.starts`). It is a run of
this process as soon as its record is durable, because the committer's thread says so before it does
anything else. So a run that only waits for its event loop, however long that is blocked, never looks
like one that nobody executes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, cast
from weakref import ref

from tidings.core.effects import Due
from tidings.core.history import Run
from tidings.core.operations.results import conclude, end_key
from tidings.engine.asyncio_functions import settle_asyncio
from tidings.engine.chain import Chain
from tidings.engine.drive import drive, drive_async
from tidings.engine.executors import settle_threads
from tidings.engine.live import Alarm, LiveRun
from tidings.engine.loops import BackgroundLoop, HomeLoop, is_closing, running_loop, watch_loop
from tidings.engine.port import Parts, Port
from tidings.engine.probes import Point
from tidings.engine.registry import WorkflowFunction
from tidings.engine.scope import Scope, code_of, run_of, standing
from tidings.engine.starts import Starts
from tidings.engine.turns import Turns
from tidings.engine.workers import Workers
from tidings.error import DBOSException, DBOSRunEndedError, DBOSWorkflowCancelledError
from tidings.model import Answer, Applied, Unit

logger = logging.getLogger("tidings")


# What a program that called a workflow in its own thread is to see.
_FOR_THE_CALLER = (KeyboardInterrupt, SystemExit)


class Runner:
    """The runs of this process."""

    def __init__(
        self,
        parts: Parts,
        workers: Workers,
        home: HomeLoop,
        background: BackgroundLoop,
        detached: Callable[[LiveRun], None],
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._home = home
        self._background = background
        self._detached = detached
        self._lock = threading.Lock()
        self._live: dict[str, LiveRun] = {}
        self._starts = Starts()
        self._closed: str | None = None
        self._no_more_steps: str | None = None
        self.generation = 0  # Grows whenever this process may have lost runs.
        self._is_claiming = False
        self._cancelled: set[str] = set()  # while claiming, and not executed here: perhaps what is being claimed

    def live(self, workflow_id: str) -> LiveRun | None:
        """Return the run of this workflow, if it is being executed here."""
        return self._live.get(workflow_id)

    @property
    def has_live(self) -> bool:
        """Whether any run is executed here."""
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

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Claim runs in the block, and prepare them, in one thread at a time.

        One of them may be cancelled elsewhere before it is prepared, and this process hear of that first.
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
        """Return which of these nobody here executes. Exact in the committer's thread.

        That thread makes starts durable, and at once makes their runs this process's (`recorded`). The one
        exception is a start whose caller was told of a failure while the database was away: if it landed all
        the same, it is unattended indeed.
        """
        return [each for each in workflow_ids if each not in self._live]

    def prepare_claimed(
        self, run: Run, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any], generation: int
    ) -> LiveRun | None:
        """Make ready to execute a claimed run; `None` if ownership has changed since that `generation`."""
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
        """Make ready to execute a run whose start is going to be handed over.

        After this its starter must `begin`, `execute`, `forget` or `give_up` the run.

        Args:
            run: the run, under its first epoch.
            function: what it executes.
            args: what that is called with.
            kwargs: what that is called with, too.
            loop: where the starter waits, and a coroutine is to run; `None` if the starter is a thread.
        """
        live = self._new(run, function, args, kwargs)
        live.loop = None if loop is None else ref(loop)
        with self._lock:
            self._starts.add(live)
        return live

    def begins_unrecorded(self, live: LiveRun) -> None:
        """Let a start be executed before it is durable: it is the first unit of its own run."""
        with self._lock:
            self._add(live)

    def recorded(self, live: LiveRun) -> None:
        """Make a run this process's: its start is durable. Called in the committer's thread, and raises nothing."""
        with self._lock:
            live.is_recorded = True
            if self._live.get(live.run.workflow_id) is live:  # It began unrecorded.
                self._set_alarm(live)
            elif not live.over:
                self._add(live)
            if live.is_given_up:
                self._starts.give_up(live)  # Once more: now there is something to take up.
        self._parts.waiters.restore(end_key(live.run.workflow_id))

    def refused(self, live: LiveRun) -> None:
        """Note that a start was refused, or failed. Takes no lock, and raises nothing."""
        live.is_refused = True
        if live.is_given_up:
            self._starts.give_up(live)

    def forget(self, live: LiveRun) -> None:
        """Note that this start came to nothing: the workflow had been started before, say."""
        with self._lock:
            self._starts.forget(live)

    def give_up(self, live: LiveRun) -> None:
        """Note that the starter ends without having begun this run. If it is recorded, the supervisor soon executes it.

        Takes no lock: a coroutine that is collected calls this, perhaps in a thread that holds the lock.
        """
        self._starts.give_up(live)

    def _take_given_up(self) -> None:
        """End the executions that never began because their starters have ended, so that they are taken up."""
        with self._lock:
            given_up = self._starts.take_given_up()
        for live in given_up:
            if not live.has_begun and (live.is_recorded or live.is_refused):
                self._detach(live)

    # --- executing --------------------------------------------------------------------------------

    def _new(self, run: Run, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveRun:
        return LiveRun(run, Port(self._parts, run.workflow_id, ahead=run.ahead), function, args, kwargs)

    def _add(self, live: LiveRun) -> None:
        workflow_id = live.run.workflow_id
        former = self._live.get(workflow_id)
        self._live[workflow_id] = live
        if former is not None:
            former.port.chain.kill(DBOSRunEndedError(workflow_id, "another execution goes on with it"))
        if self._closed is not None:
            live.port.chain.kill(DBOSRunEndedError(workflow_id, self._closed))
        live.port.no_more_steps = self._no_more_steps
        if workflow_id in self._cancelled:
            live.port.chain.kill(DBOSWorkflowCancelledError(workflow_id))
        self._set_alarm(live)

    def _set_alarm(self, live: LiveRun) -> None:
        """Cancel the workflow at its deadline. Not before its start is durable: there would be nothing to cancel."""
        if live.run.due is not None and live.is_recorded and live.alarm is None:
            live.alarm = self.cancel_at(live.run.due, live.run.workflow_id)

    def cancel_at(self, due: Due, workflow_id: str) -> Alarm:
        """Cancel a workflow when its time is up, also if it cannot be executed; unless the alarm is switched off."""
        alarm = Alarm()
        alarm.when_settled(partial(self._time_is_up, alarm, workflow_id))
        self._parts.timers.at(due, alarm)
        return alarm

    def _time_is_up(self, alarm: Alarm, workflow_id: str) -> None:
        if not alarm.is_off:
            _ = Chain(self._parts.committer).commit(Unit(cancel=workflow_id), partial(_say_time_is_up, workflow_id))

    def begin(self, live: LiveRun) -> None:
        """Execute a run: a function in a thread, a coroutine on an event loop.

        Where no thread or loop can be started now, the run waits for one. It raises what keeps a task from being
        made: then its caller gives the run up.
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
            except RuntimeError:  # It was closed just now.
                self._begin_in_background(live)
        else:
            self._begin_in_background(live)

    def _has_begun(self, live: LiveRun) -> None:
        with self._lock:
            self._starts.begun(live)

    def _begin_in_background(self, live: LiveRun) -> None:
        live.home = None
        if not self._background.call(partial(self._begin_brought, live)):
            self._ended(live, None, live.port.chain.dead)  # The host has stopped, and the run was killed by that.

    def _begin_at_home(self, home: asyncio.AbstractEventLoop, live: LiveRun) -> None:
        if is_closing(home):
            self._begin_in_background(live)
        else:
            self._begin_brought(live, home)

    def _begin_brought(self, live: LiveRun, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a run that another thread has brought to this loop."""
        if live.over:
            return  # It took too long, and is executed elsewhere.
        try:
            self._begin_on(loop, live)
        except BaseException:
            self.give_up(live)
            raise

    def execute(self, live: LiveRun, *, for_caller: bool = False) -> None:
        """Execute a blocking run in this thread, to its end.

        Args:
            for_caller: the thread is its caller's, who is to see a KeyboardInterrupt or SystemExit;
                the workflow then stays PENDING. In a thread of ours they are errors like others.
        """
        try:
            self._has_begun(live)
            live.run.root.owner = threading.get_ident()
            live.port.is_in_thread = True
            live.port.turns = Turns(live.run, live.port.chain, run_of, code_of) if live.run.has_turns else None
            settle_asyncio()
            settle_threads()
            with standing(Scope(live.run, live.port, live.run.root)):
                value, error = self._call(live, for_caller)
                self._ended(live, self._drive_end(live, value, error), None)
        except BaseException as ending:
            self._ended(live, None, ending)
            if for_caller and isinstance(ending, _FOR_THE_CALLER):
                raise

    def _call(self, live: LiveRun, for_caller: bool) -> tuple[Any, BaseException | None]:
        """Call the workflow function. Gives its value or its error."""
        try:
            live.port.chain.check()
            return live.function.function(*live.args, **live.kwargs), None
        except BaseException as failure:
            if for_caller and isinstance(failure, _FOR_THE_CALLER):
                raise
            return None, failure

    def _drive_end(self, live: LiveRun, value: Any, error: BaseException | None) -> Any:
        _raise_if_dead(live, error)
        port = live.port.for_end()
        return drive(conclude(live.run, value, error, port.settle_failure), port)

    def detach_lost(self) -> None:
        """End the executions that cannot go on here, so that they are taken up.

        Their starter is gone, or their event loop was closed without cancelling its tasks first.
        """
        self._take_given_up()
        self._workers.try_again()
        self._background.try_again()
        home_stands_still = self._home.look()
        for live in self.all_live():
            task = live.task
            if task is not None and task.get_loop().is_closed():
                self._detach(live)
                # Its task will never run again. Say so to asyncio, which would warn of it, and to its
                # coroutine, which would else be ended whenever it is collected.
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(Exception):
                    cast(Coroutine[Any, Any, None], live.coroutine).close()
            elif live.home is not None and home_stands_still and live.is_recorded:
                self._detach(live)  # Nobody may ever run that loop again. If somebody does, this execution is over.

    def _detach(self, live: LiveRun) -> None:
        live.port.detach()
        self._ended(live, None, live.port.chain.dead)

    def cancelled(self, workflow_id: str) -> None:
        """Stop the run of a workflow that is CANCELLED; also one that is only about to begin here."""
        with self._lock:
            live = self._live.get(workflow_id)
            killed = self._starts.of(workflow_id) if live is None else [live]
            if self._is_claiming and not killed:
                self._cancelled.add(workflow_id)
        for each in killed:
            each.port.chain.kill(DBOSWorkflowCancelledError(workflow_id))

    def kill_lost(self, owned: Mapping[str, int]) -> None:
        """Kill the runs that are not among these, id to epoch: another process goes on with them."""
        for live in self.all_live():
            run = live.run
            if live.is_recorded and owned.get(run.workflow_id) != run.epoch:
                logger.warning("workflow %r was taken over by another process", run.workflow_id)
                live.port.chain.kill(DBOSRunEndedError(run.workflow_id, "another process took it over"))

    def kill_all(self, reason: str, *, only_recorded: bool = False) -> None:
        """Let all runs write nothing more, and wake them from whatever they wait for.

        With `only_recorded` those go on whose start is not durable yet: the store knows nothing of them.
        """
        for live in self.all_live():
            if only_recorded and not live.is_recorded:
                continue
            live.port.chain.kill(DBOSRunEndedError(live.run.workflow_id, reason))

    def busy(self, besides: asyncio.AbstractEventLoop | None = None) -> list[str]:
        """Return the workflows that do something, and do not only wait; not those that `besides` executes."""
        return [
            live.run.workflow_id
            for live in self.all_live()
            if not live.port.is_idle and (besides is None or not live.waits_on(besides))
        ]

    def running_steps(self, on: asyncio.AbstractEventLoop | None = None) -> list[tuple[str, str]]:
        """Return the steps that run, each with its workflow before it: all, or those of what this loop executes."""
        return [
            (live.run.workflow_id, step)
            for live in self.all_live()
            if on is None or live.waits_on(on)
            for step in tuple(live.port.steps)
        ]

    def let_no_step_begin(self, reason: str) -> None:
        """Let the steps that run get on; a run ends where it would begin another one."""
        with self._lock:
            self._no_more_steps = reason
        for live in self.all_live():
            live.port.no_more_steps = reason

    def close(self, reason: str) -> None:
        """Kill all runs, also those that are only about to begin."""
        with self._lock:
            self._closed = reason
        self.kill_all(reason)

    def _begin_on(self, loop: asyncio.AbstractEventLoop, live: LiveRun) -> None:
        watch_loop(loop)
        settle_asyncio()
        settle_threads()
        live.coroutine = self._execute_async(live)
        try:
            live.task = loop.create_task(live.coroutine, name=live.run.workflow_id)
        except BaseException:
            live.coroutine.close()  # A task factory has failed. Python would warn that it was never awaited.
            raise
        self._has_begun(live)
        live.task.add_done_callback(lambda _: self._task_done(live))

    def _task_done(self, live: LiveRun) -> None:
        """Take up a run whose task was cancelled before it could begin."""
        if not live.over:
            self._detach(live)

    async def _execute_async(self, live: LiveRun) -> None:
        live.run.root.owner = asyncio.current_task()
        live.port.turns = Turns(live.run, live.port.chain, run_of, code_of) if live.run.has_turns else None
        value: Any = None
        error: BaseException | None = None
        with standing(Scope(live.run, live.port, live.run.root)):
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
                value = await drive_async(conclude(live.run, value, error, port.settle_failure), port)
                self._ended(live, value, None)
            except BaseException as ending:
                self._ended(live, None, ending)
                if isinstance(ending, (GeneratorExit, KeyboardInterrupt)):
                    raise

    def _ended(self, live: LiveRun, value: Any, error: BaseException | None) -> None:
        """An execution is over: it may write nothing more, whatever tasks and threads it has left."""
        workflow_id = live.run.workflow_id
        with self._lock:
            if live.over:
                return
            live.over = True
            if live.alarm is not None and live.run.broken is None:  # What cannot go on here may be cancelled still.
                live.alarm.switch_off()
            if self._live.get(workflow_id) is live:
                del self._live[workflow_id]
        chain = live.port.chain
        if error is not None and chain.dead is not None:
            error = chain.dead  # Whatever the refusals made the code raise: a BaseExceptionGroup, say.
        chain.kill(DBOSRunEndedError(workflow_id, "it has ended"))
        broken = live.run.broken
        if isinstance(error, DBOSException) and broken is not None:
            logger.error("%s", broken, extra={"workflow_id": workflow_id})
            self._parts.waiters.fail(end_key(workflow_id), broken)
        live.ended.settle(value, error)
        self._parts.probes.passes(Point.RUN_ENDED, workflow_id)
        if live.port.is_detached:
            self._detached(live)


def _say_time_is_up(workflow_id: str, answer: Answer | None) -> None:
    """Say that a workflow was cancelled at its deadline. One that has ended by then is not."""
    if type(answer) is Applied:
        logger.warning(
            "workflow %r has taken longer than it may: it is cancelled", workflow_id, extra={"workflow_id": workflow_id}
        )


def _raise_if_dead(live: LiveRun, error: BaseException | None) -> None:
    """Do not try to record what the code of a dead run raised or returned."""
    if live.port.chain.dead is not None:
        raise live.port.chain.dead from error
