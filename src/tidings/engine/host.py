"""What executes workflows in this process: what `DBOS.launch` adds to an engine, and `destroy` takes away.

    starter     records that a workflow starts
    runner      executes runs, on event loops or on workers (threads)
    supervisor  keeps the lease, recovers the runs of processes that died

When a host stops, the engine may go on for its other users. So a host leaves nothing behind that is
owned and not executed: it claims nothing more, kills its runs, also those that are only about to
begin, and then gives back, between two batches, whatever is still recorded as this process's.
"""

from __future__ import annotations

import os

from tidings.engine.engine import Engine
from tidings.engine.loops import BackgroundLoop
from tidings.engine.registry import Registry
from tidings.engine.runner import LiveRun, Runner
from tidings.engine.settings import Settings
from tidings.engine.starting import Starter
from tidings.engine.supervisor import Supervisor
from tidings.engine.workers import Workers
from tidings.error import DBOSShutdownError


class Host:
    """The parts that execute workflows, and their common life."""

    def __init__(self, engine: Engine, settings: Settings, registry: Registry) -> None:
        self.engine = engine
        self.settings = settings
        self.registry = registry
        self.app_version = settings.application_version or registry.version()
        self.port = engine.open_port()  # For code outside of any run.
        self.workers = Workers(settings.max_executor_threads)
        self._background = BackgroundLoop()
        self.runner = Runner(engine.parts, self.workers, self._background, self._take_up)
        self.starter = Starter(self.runner, engine.clock, settings.serializer, self.app_version)
        self.supervisor = Supervisor(
            engine.parts, self.runner, registry, settings.serializer, self.app_version, engine.connection.lease_ms
        )

    def admit(self) -> None:
        """Let the engine answer for the runs that there will be."""
        self.engine.admit(self.runner, self.settings.executor_label)

    def recover(self) -> None:
        """Begin to execute what ended processes left. Their operations must find this host already."""
        self.supervisor.start()

    def stop(self) -> None:
        """Execute nothing more, promptly. What is being committed is kept; runs go on at the next launch."""
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
