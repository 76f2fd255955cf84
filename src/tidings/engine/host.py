"""What executes workflows in this process: what `DBOS.launch` adds to an engine, and `destroy` takes away.

    starter     records that a workflow starts
    runner      executes runs, on event loops or on workers (threads)
    supervisor  keeps the lease, recovers the runs of processes that died

When a host stops, the engine may go on for its other users. So a host leaves nothing behind that is
owned and not executed: it claims nothing more, kills its runs, also those that are only about to
begin, and then gives back, between two batches, whatever is still recorded as this process's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from weakref import WeakSet

from tidings.engine.coroutines import Coroutines
from tidings.engine.engine import Engine
from tidings.engine.live import LiveRun
from tidings.engine.loops import BackgroundLoop, HomeLoop, running_loop
from tidings.engine.registry import Registry
from tidings.engine.runner import Runner
from tidings.engine.settings import Settings
from tidings.engine.starting import Starter
from tidings.engine.supervisor import Supervisor
from tidings.engine.ticket import Ticket
from tidings.engine.workers import Workers
from tidings.error import DBOSShutdownError
from tidings.store.protocol import Store

logger = logging.getLogger("tidings")


# How often it is looked whether what runs has come to rest.
_LOOK_SECONDS = 0.02

_MOST_NAMED = 3  # steps in one line of the log


class Host:
    """The parts that execute workflows, and their common life."""

    def __init__(
        self, engine: Engine, settings: Settings, registry: Registry, home: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Build the parts. Coroutines run on `home` while that event loop runs."""
        self.engine = engine
        self.settings = settings
        self.registry = registry
        self.app_version = settings.application_version or registry.version()
        self.port = engine.open_port()  # For code outside of any run.
        self.slow_steps: set[str] = set()  # whose names the log has said
        self._stopped = threading.Event()
        self._waited_seconds = 0.0  # for what runs to come to rest, in vain
        self._closed_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self.workers = Workers(settings.max_executor_threads, engine.timers)
        self._home = HomeLoop(home)
        self._background = BackgroundLoop(engine.timers)
        self.coroutines = Coroutines(self._home, self._background)
        self.runner = Runner(engine.parts, self.workers, self._home, self._background, self._take_up)
        self.starter = Starter(
            self.runner, registry, engine.clock, settings.serializer, self.app_version, settings.name
        )
        self.supervisor = Supervisor(
            engine.parts,
            self.runner,
            registry,
            settings.serializer,
            self.app_version,
            settings.name,
            engine.connection.lease_ms,
        )

    def admit(self) -> None:
        """Let the engine answer for the runs that there will be."""
        self.engine.admit(
            self.runner, self.settings.executor_label, self.app_version, self.settings.name, self.supervisor.look
        )

    def recover(self) -> None:
        """Begin to execute what ended processes left. Their operations must find this host already."""
        self.supervisor.start()

    def drain(self, seconds: float | None) -> None:
        """Take no more work, and let what is executed come to rest; then `stop` hands over what is left.

        In the first half of the time workflows may go on to their end. In the second half no step begins
        any more, and those that run may finish, so that none has to run again elsewhere. A workflow that
        only waits is at rest. Returns as soon as all are.

        Args:
            seconds: how long it may take; `None` is no limit.
        """
        if self.engine.pid != os.getpid():
            return
        self.supervisor.close()
        self.starter.close()
        loop = running_loop()  # What that executes cannot get on meanwhile.
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
                # One may just have ended, and another wait for its result: behind this, all that wakes has been told.
                turn = committer.call(_do_nothing)
            passed = (clock.own_ms() - begun) / 1_000
            if seconds is not None and passed >= seconds:
                self._waited_seconds = seconds
                return
            if seconds is not None and passed >= seconds / 2:
                self.runner.let_no_step_begin("tidings is being shut down; another process goes on with it")
            if self._stopped.wait(_LOOK_SECONDS):
                return

    def loop_closes(self, loop: asyncio.AbstractEventLoop) -> None:
        """An event loop is being closed: say once which steps that cuts off."""
        if loop not in self._closed_loops and not self._stopped.is_set():
            self._closed_loops.add(loop)
            self._say_cut_off("their event loop is closed", self.runner.running_steps(loop))

    def _say_cut_off(self, why: str, steps: list[tuple[str, str]]) -> None:
        if not steps:
            return
        named = ", ".join(f"step {step!r} of workflow {workflow_id!r}" for workflow_id, step in steps[:_MOST_NAMED])
        logger.warning(
            "%d running step%s cut off, for %s: %s%s; each runs again when its workflow goes on",
            len(steps),
            " is" if len(steps) == 1 else "s are",
            why,
            named,
            f" and {len(steps) - _MOST_NAMED} more" if len(steps) > _MOST_NAMED else "",
        )

    def stop(self) -> None:
        """Execute nothing more, promptly. What is being committed is kept; runs go on at the next launch."""
        self._stopped.set()
        if self.engine.pid != os.getpid():
            return  # A forked child has none of the threads.
        self.supervisor.stop()
        waited = f" after {self._waited_seconds:g} s" if self._waited_seconds else ""
        self._say_cut_off(f"tidings is shut down{waited}", self.runner.running_steps())
        self.engine.close_port(self.port, DBOSShutdownError())
        self.runner.close("tidings was shut down")
        self.engine.tell_dead()
        self.workers.stop()
        self._background.stop()

    def join(self) -> None:
        """Wait for its threads, once the engine is stopped or has discharged the runs."""
        self.supervisor.join()
        self._background.join()

    def _take_up(self, live: LiveRun) -> None:
        self.supervisor.take_up(live)


def _do_nothing(_: Store) -> None:
    """An errand that only has its turn."""
