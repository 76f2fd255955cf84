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

from tidings.engine.engine import Engine
from tidings.engine.live import LiveRun
from tidings.engine.loops import BackgroundLoop
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


class Host:
    """The parts that execute workflows, and their common life."""

    def __init__(self, engine: Engine, settings: Settings, registry: Registry) -> None:
        self.engine = engine
        self.settings = settings
        self.registry = registry
        self.app_version = settings.application_version or registry.version()
        self.port = engine.open_port()  # For code outside of any run.
        self._stopped = threading.Event()
        self.workers = Workers(settings.max_executor_threads)
        self._background = BackgroundLoop()
        self.runner = Runner(engine.parts, self.workers, self._background, self._take_up)
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
        loop = _loop_of_this_thread()  # What that executes cannot get on meanwhile.
        clock, committer = self.engine.clock, self.engine.committer
        begun = clock.now_ms()
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
            passed = (clock.now_ms() - begun) / 1_000
            if seconds is not None and passed >= seconds:
                self._warn_of_busy(seconds)
                return
            if seconds is not None and passed >= seconds / 2:
                self.runner.let_no_step_begin("tidings is being shut down; another process goes on with it")
            if self._stopped.wait(_LOOK_SECONDS):
                return

    def _warn_of_busy(self, seconds: float) -> None:
        busy = self.runner.busy()
        if busy:
            logger.warning(
                "after %g s %d workflows are still in the middle of a step, for example %r; it will run again",
                seconds,
                len(busy),
                busy[0],
            )

    def stop(self) -> None:
        """Execute nothing more, promptly. What is being committed is kept; runs go on at the next launch."""
        self._stopped.set()
        if self.engine.pid != os.getpid():
            return  # A forked child has none of the threads.
        self.supervisor.stop()
        self.engine.close_port(self.port, DBOSShutdownError())
        self.runner.close("tidings was shut down")
        self.engine.tell_dead()
        self.workers.stop()
        self._background.stop()

    def join(self) -> None:
        """Wait for its threads, once the engine is stopped or has discharged the runs."""
        self.supervisor.join()

    def _take_up(self, live: LiveRun) -> None:
        self.supervisor.take_up(live)


def _loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _do_nothing(_: Store) -> None:
    """An errand that only has its turn."""
