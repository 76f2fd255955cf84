"""Executes workflows in this process: `DBOS.launch` adds a host to an engine, `DBOS.destroy` removes it.

    starter     records that a workflow starts
    runner      executes runs, on event loops or on workers (threads)
    supervisor  keeps the lease, recovers the runs of processes that died

When a host stops, the engine may stay open for its other users. So no workflow may stay owned and not executed. The
host claims nothing more and kills its runs, even those about to begin. Then the engine gives back, between two
batches, all workflows that this process still owns.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from weakref import WeakSet

from tidings.engine.engine import Engine
from tidings.engine.ownership.supervisor import Supervisor
from tidings.engine.program_files import hash_with_files
from tidings.engine.runs.attempts import StepParts
from tidings.engine.runs.coroutines import Coroutines
from tidings.engine.runs.live import LiveRun
from tidings.engine.runs.loops import BackgroundLoop, HomeLoop, running_loop
from tidings.engine.runs.registry import Registry
from tidings.engine.runs.runner import Runner
from tidings.engine.runs.starting import Starter
from tidings.engine.runs.workers import Workers
from tidings.engine.settings import Settings
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSShutdownError
from tidings.model import ANY_VERSION, Code
from tidings.store.protocol import Store

logger = logging.getLogger("tidings")


# How often `drain` checks whether all runs are idle.
_LOOK_SECONDS = 0.02

_MOST_NAMED = 3  # How many steps one log line names.

# How many functions `asyncio.to_thread` runs at once, not counting those that wait in an operation: asyncio's default.
_MOST_CALLERS = min(32, (os.cpu_count() or 1) + 4)


class Host:
    """The parts that execute workflows. They start and stop together."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        registry: Registry,
        home: asyncio.AbstractEventLoop | None = None,
        *,
        executes: bool = True,
    ) -> None:
        """Build the parts. Coroutines run on `home` while that event loop runs.

        A host that does not execute recovers nothing. What it starts is recorded for other processes to execute.
        """
        self.engine = engine
        self.settings = settings
        self.registry = registry
        self._executes = executes
        self.app_version = settings.application_version or registry.version()
        self.port = engine.open_port()  # For code outside of any run.
        self.slow_steps: set[str] = set()  # The slow steps that were logged.
        self._stopped = threading.Event()
        self._waited_seconds = 0.0  # How long `drain` waited before it gave up.
        self._closed_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self.workers = Workers(settings.max_executor_threads, engine.timers)
        # Not among `workers`: a blocking workflow may run an event loop in its thread. It keeps its place there while
        # its tasks await these functions.
        self._callers = Workers(_MOST_CALLERS, engine.timers, returns_at_once=True)
        self._home = HomeLoop(home)
        self._background = BackgroundLoop(engine.timers)
        self.coroutines = Coroutines(self._home, self._background)
        self.step_parts = StepParts(
            workers=self.workers, coroutines=self.coroutines, timers=engine.timers, loop_closes=self._loop_closes
        )
        self.runner = Runner(
            engine.parts,
            self.workers,
            self._callers,
            self._home,
            self._background,
            self._take_up,
            gives_back_stuck=settings.takes_other_versions,
        )
        self.starter = Starter(
            self.runner,
            registry,
            engine.clock,
            settings.serializer,
            self.app_version if executes else settings.application_version or ANY_VERSION,
            settings.name,
            executes=executes,
        )
        self.supervisor = Supervisor(
            engine.parts,
            self.runner,
            registry,
            settings.serializer,
            self.app_version,
            settings.name,
            engine.connection.lease_ms,
            takes_other_versions=settings.takes_other_versions,
        )

    def admit(self) -> None:
        """Let the engine manage the runs of this host.

        A host that does not execute is not admitted. Other processes see it as a client, which gets no share of a
        takeover.
        """
        if not self._executes:
            return
        settings, registry = self.settings, self.registry
        functions = registry.version() if settings.application_version else self.app_version
        code_hash = hash_with_files(functions, registry.packages())
        self.engine.admit(
            self.runner,
            settings.executor_label,
            Code(settings.name, self.app_version, code_hash, settings.takes_other_versions),
            self.supervisor.look,
            registry.workflow_names,
        )

    def recover(self) -> None:
        """Begin to recover the workflows of ended processes. Their operations must find this host already."""
        if self._executes:
            self.supervisor.start()

    def drain(self, seconds: float | None) -> None:
        """Take no new work, and let running workflows finish or pause. `stop` then gives back the rest.

        In the first half of the time workflows may run to their end. In the second half no step begins. Steps
        that run may finish, so that none has to run again elsewhere. Returns as soon as all runs are idle.

        Args:
            seconds: how long this may take; `None` is no limit.
        """
        if self.engine.pid != os.getpid():
            return
        self.supervisor.close()
        self.starter.close()
        loop = running_loop()  # The loop's runs cannot make progress while this call blocks it.
        clock, committer = self.engine.clock, self.engine.committer
        begun = clock.own_ms()
        turn: Ticket | None = None
        while True:
            is_told = turn is not None and turn.settled
            if self.runner.busy(loop):
                turn = None
            elif is_told or committer.is_away:
                return
            elif turn is None:
                # A run may have ended a moment ago, and another wait for its result. Once this errand is done, the
                # committer has woken all waiters of earlier batches.
                turn = committer.call(_do_nothing)
            passed = (clock.own_ms() - begun) / 1_000
            if seconds is not None and passed >= seconds:
                self._waited_seconds = seconds
                return
            if seconds is not None and passed >= seconds / 2:
                self.runner.let_no_step_begin(
                    "tidings is shutting down in this process; another process continues the workflow"
                )
            if self._stopped.wait(_LOOK_SECONDS):
                return

    def _loop_closes(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log, once for each event loop that closes, which steps that cuts off."""
        is_running = not self._stopped.is_set() and self.engine.pid == os.getpid()
        if is_running and loop not in self._closed_loops:
            self._closed_loops.add(loop)
            self._say_cut_off("their event loop is closed", self.runner.running_steps(loop))

    def _say_cut_off(self, why: str, steps: list[tuple[str, str]]) -> None:
        if not steps:
            return
        named = ", ".join(f"step {step!r} of workflow {workflow_id!r}" for workflow_id, step in steps[:_MOST_NAMED])
        logger.warning(
            "%d running step%s cut off, because %s: %s%s; each runs again when its workflow continues",
            len(steps),
            " is" if len(steps) == 1 else "s are",
            why,
            named,
            f" and {len(steps) - _MOST_NAMED} more" if len(steps) > _MOST_NAMED else "",
        )

    def stop(self) -> None:
        """Stop executing, promptly. A commit under way is finished; runs continue after the next launch."""
        self._stopped.set()
        if self.engine.pid != os.getpid():
            return  # A forked child has none of the threads.
        self.supervisor.stop()
        waited = f" after {self._waited_seconds:g} s" if self._waited_seconds else ""
        self._say_cut_off(f"tidings is shut down{waited}", self.runner.running_steps())
        if not self.engine.committer.is_away:
            self.supervisor.say_last_unread()
        self.engine.close_port(self.port, DBOSShutdownError())
        self.runner.close("tidings was shut down")
        self.engine.tell_dead()
        self.workers.stop()
        self._callers.stop()
        self._background.stop()

    def join(self) -> None:
        """Wait for the threads of this host to end. Call it after the engine has stopped or discharged the runs."""
        self.supervisor.join()
        self._background.join()

    def _take_up(self, live: LiveRun) -> None:
        self.supervisor.take_up(live)


def _do_nothing(_: Store) -> None:
    """An errand that does nothing: when it is done, all before it is done."""
