"""The class `DBOS`: configuration, launch, shutdown, and the subjects it is made of."""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from tidings.api.caller import Process, caller_in_app, current_host, is_running
from tidings.api.classes import Classes
from tidings.api.config import DBOSConfig, settings_from
from tidings.api.events import OwnEvents
from tidings.api.managing import Management
from tidings.api.messages import OwnMessages
from tidings.api.parallel import Parallel
from tidings.api.signals import TERM_SECONDS, TermHandler
from tidings.api.steps import Steps
from tidings.api.streams import OwnStreams
from tidings.api.workflows import REGISTRY, Workflows
from tidings.engine import scope as scopes
from tidings.engine import sharing
from tidings.engine.host import Host
from tidings.engine.loops import running_loop, watch_loop
from tidings.engine.settings import Settings
from tidings.error import DBOSInitializationError
from tidings.limits import check_timeout
from tidings.shortage import is_shortage, reason_of

T = TypeVar("T")


class _ClassProperty(Generic[T]):
    """A property of the class itself."""

    def __init__(self, getter: Callable[[], T]) -> None:
        self._getter = getter
        self.__doc__ = getter.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        return self._getter()


class Launched:
    """What `DBOS.launch()` returns: as a context manager it destroys at the end of the block."""

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        DBOS.destroy()

    async def __aenter__(self) -> Launched:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await DBOS.destroy_async()


class DBOS(Workflows, Classes, Steps, Parallel, Management, OwnMessages, OwnEvents, OwnStreams):
    """Durable workflows that communicate. One per process; all its operations are on the class."""

    is_one = True
    _called = "DBOS"
    _caller = staticmethod(caller_in_app)
    _settings: Settings | None = None

    def __init__(self, *, config: DBOSConfig) -> None:
        """Configure tidings for this process; `launch` starts it.

        Raises:
            DBOSInitializationError: an unknown key, a bad value, or tidings is running already.
        """
        if is_running():
            raise DBOSInitializationError(
                "tidings is running in this process; call DBOS.destroy() to configure it anew"
            )
        DBOS._settings = settings_from(config)

    @classmethod
    def launch(cls) -> Launched:
        """Open the database, recover what ended processes left, and be ready for calls.

        Called on a running event loop it makes that the one on which all async workflows run, while it runs: what
        they use (pools, clients) may belong to it. Register all workflows before. Called in the main thread of
        a program that does not handle SIGTERM, it lets SIGTERM end the program in good order: as
        `destroy(workflow_completion_timeout_sec=8)`, and then by the signal.

        Returns:
            A context manager that destroys at the end of its block.

        Raises:
            DBOSInitializationError: not configured, or the database is down, unfit or newer; or destroyed meanwhile.
        """
        home = running_loop()
        if home is not None:
            watch_loop(home)
        return cls._launch_at(home)

    @classmethod
    async def launch_async(cls) -> Launched:
        """Await `launch`, without blocking the event loop. While that runs, all async workflows run on it."""
        home = asyncio.get_running_loop()
        watch_loop(home)
        launched = await asyncio.to_thread(cls._launch_at, home)
        _ON_TERM.install()  # This may be the main thread.
        return launched

    @classmethod
    def _launch_at(cls, home: asyncio.AbstractEventLoop | None) -> Launched:
        if cls._settings is None:
            raise DBOSInitializationError("call DBOS(config={'name': ...}) before DBOS.launch()")
        with Process.launch_lock:
            _launch(cls._settings, home)
        _ON_TERM.install()
        return Launched()

    @classmethod
    def destroy(cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: float | None = 0) -> None:
        """Stop tidings in this process. Workflows go on in another process at once, or at the next launch.

        What is being committed is kept; a blocked `recv` is not waited for. Clients go on. Harmless when repeated.
        May be called on a running event loop; what runs on that loop cannot get on meanwhile, so with a
        timeout await `destroy_async` there. In a signal handler raise SystemExit instead: the exit of the
        program destroys too.

        Args:
            destroy_registry: forget the registered workflows and steps too.
            workflow_completion_timeout_sec: how long, in seconds, what runs may take to come to rest; `None`
                is no limit. In the first half of that time workflows may go on to their end. In the second
                half no step begins any more, and those that run may finish. One that waits (for a message,
                an event, a result, a time) is at rest. Nothing new is taken up meanwhile: no workflow of
                another process, and `start_workflow` outside of workflows raises `DBOSShutdownError`. 0
                stops at once: steps that run then will run again. Another call of `destroy` cuts it short.

        Raises:
            DBOSLimitError: the timeout is negative.
        """
        timeout = check_timeout(workflow_completion_timeout_sec, "workflow_completion_timeout_sec")
        drained = Process.host if timeout != 0 and is_running() else None
        if drained is not None:
            drained.drain(timeout)
        with Process.lock:
            Process.launch = None
            # Somebody else may have been first meanwhile, and have launched again.
            if drained is None or Process.host is drained:
                _ON_TERM.remove()
                try:
                    if Process.host is not None and is_running():
                        _close_host(Process.host)
                finally:
                    Process.host = None
        if destroy_registry:
            REGISTRY.clear()

    @classmethod
    async def destroy_async(
        cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: float | None = 0
    ) -> None:
        """Await `destroy`, without blocking the event loop: what runs on it may come to rest too."""
        _ON_TERM.remove()  # This may be the main thread.
        await asyncio.to_thread(
            cls.destroy,
            destroy_registry=destroy_registry,
            workflow_completion_timeout_sec=workflow_completion_timeout_sec,
        )

    @_ClassProperty
    @staticmethod
    def workflow_id() -> str | None:
        """The id of the workflow that the calling code is in, or `None`."""
        scope = scopes.current()
        return None if scope is None else scope.run.workflow_id

    @_ClassProperty
    @staticmethod
    def step_id() -> int | None:
        """The number of the step that the calling code is in, or `None`: the order in which it began."""
        scope = scopes.current()
        return None if scope is None or scope.attempt is None else scope.attempt.slot.ordinal

    @_ClassProperty
    @staticmethod
    def application_version() -> str:
        """The version of the code, which recovery matches workflows with."""
        return current_host().app_version

    @_ClassProperty
    @staticmethod
    def logger() -> logging.Logger:
        """The logger of tidings."""
        return logging.getLogger("tidings")


_ON_TERM = TermHandler(is_running, lambda: DBOS.destroy(workflow_completion_timeout_sec=TERM_SECONDS))


def _launch(settings: Settings, home: asyncio.AbstractEventLoop | None) -> None:
    """Launch, and let nobody who destroys meanwhile wait for the database."""
    launch = object()
    with Process.lock:
        if is_running() or Process.launch is not None:
            raise DBOSInitializationError("tidings is running in this process already; DBOS.launch() was called twice")
        Process.launch = launch
    try:
        host = _open_host(settings, home)
    except BaseException:
        with Process.lock:
            if Process.launch is launch:
                Process.launch = None
        raise
    with Process.lock:
        if Process.launch is launch:
            Process.launch = None
            Process.host = host
            try:
                host.recover()
            except Exception as error:
                Process.host = None
                _close_host(host)
                if is_shortage(error):
                    raise DBOSInitializationError(
                        f"this process cannot recover workflows: {reason_of(error)}"
                    ) from error
                raise
            return
    _close_host(host)
    raise DBOSInitializationError("DBOS.destroy() was called before DBOS.launch() was through")


def _open_host(settings: Settings, home: asyncio.AbstractEventLoop | None) -> Host:
    engine = sharing.acquire(settings.connection, settings.executor_label, migrate=settings.run_migrations)
    try:
        host = Host(engine, settings, REGISTRY, home)
    except BaseException:
        sharing.release(engine)
        raise
    try:
        host.admit()
    except BaseException:
        _close_host(host)
        raise
    return host


def _close_host(host: Host) -> None:
    host.stop()
    if not sharing.release(host.engine):
        host.engine.discharge()
    host.join()


atexit.register(DBOS.destroy)
