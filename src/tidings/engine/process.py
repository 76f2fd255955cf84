"""What this process runs: at most one host, launched and destroyed in order.

`DBOS.launch` and `DBOS.destroy` are calls of `launch` and `destroy`. At the exit of the program, all that still runs is
destroyed. A fork copies the state of the process, but no thread: in the child nothing runs.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading

from tidings.engine import clients, sharing
from tidings.engine.engine import Engine
from tidings.engine.host import Host
from tidings.engine.runs.registry import Registry
from tidings.engine.settings import Settings
from tidings.engine.signals import TERM_SECONDS, TermHandler
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.shortage import is_shortage, reason_of

REGISTRY = Registry()


class Process:
    """The host of this process, if it runs one."""

    settings: Settings | None = None  # What `DBOS(config=...)` was given.
    host: Host | None = None
    lock = threading.RLock()  # Held while the host is set or removed, but not while waiting for a database.
    launch_lock = threading.RLock()  # Held during a launch.
    launch: object | None = None  # The launch in progress. If it finds another value here, `destroy` has cancelled it.
    has_run = False  # A launch has succeeded.


def _begin_in_child() -> None:
    Process.lock = threading.RLock()  # The thread that held it at the fork does not exist here.
    Process.launch_lock = threading.RLock()
    Process.launch = None


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)


# --- what runs --------------------------------------------------------------------------------------


def is_running() -> bool:
    """Tell whether `DBOS` runs in this process. A host that a fork has copied does not run."""
    return Process.host is not None and Process.host.engine.pid == os.getpid()


def current_host() -> Host:
    """Return the running host.

    Raises:
        DBOSShutdownError: there is none.
    """
    host = Process.host
    if host is None:
        raise DBOSShutdownError(f"tidings is not running in this process: {_why_not_running()}")
    check_not_forked(host.engine, "called DBOS.launch()", "call DBOS.launch()")
    return host


def _why_not_running() -> str:
    if Process.launch is not None:
        return "DBOS.launch() has not returned yet; make this call after it"
    if Process.has_run:
        return "DBOS.destroy() has stopped it; call DBOS.launch() again, or make this call before DBOS.destroy()"
    if Process.settings is not None:
        return "DBOS.launch() was not called yet; call it (or await DBOS.launch_async()) before this"
    return "write DBOS(config={'name': ...}) and DBOS.launch() before this call"


def check_not_forked(engine: Engine, did: str, remedy: str) -> None:
    """Refuse an engine of the process that this one was forked from.

    Raises:
        DBOSShutdownError: this process was forked. The error says what to do.
    """
    if engine.pid != os.getpid():
        raise DBOSShutdownError(
            f"this process ({os.getpid()}) was forked from the one that {did} ({engine.pid}); "
            f"threads and connections do not survive a fork: {remedy} after the fork"
        )


# --- launching --------------------------------------------------------------------------------------


def launch(home: asyncio.AbstractEventLoop | None, *, executes: bool) -> None:
    """Launch a host with the configured settings. Its coroutines run on `home` while that event loop runs."""
    if Process.settings is None:
        raise DBOSInitializationError("call DBOS(config={'name': ...}) before DBOS.launch()")
    with Process.launch_lock:
        _launch(Process.settings, home, executes)
    handle_term()


def handle_term() -> None:
    """Shut down in order on SIGTERM, if this is the main thread and the program does not handle that signal."""
    _ON_TERM.install()


def leave_term() -> None:
    """Handle SIGTERM no more, if this is the main thread."""
    _ON_TERM.remove()


def _launch(settings: Settings, home: asyncio.AbstractEventLoop | None, executes: bool) -> None:
    """Launch, without holding the lock while the database is opened: `destroy` must not wait for that."""
    launch = object()
    with Process.lock:
        if is_running() or Process.launch is not None:
            raise DBOSInitializationError(
                "tidings is running in this process already, and DBOS.launch() was called again; call it once, or "
                "DBOS.destroy() in between"
            )
        Process.launch = launch
    try:
        host = _open_host(settings, home, executes)
    except BaseException:
        with Process.lock:
            if Process.launch is launch:
                Process.launch = None
        raise
    with Process.lock:
        if Process.launch is launch:
            Process.launch = None
            Process.host = host
            Process.has_run = True
            try:
                host.recover()
            except Exception as error:
                Process.host = None
                _close_host(host)
                if is_shortage(error):
                    raise DBOSInitializationError(
                        f"DBOS.launch() failed, because this process cannot recover workflows: {reason_of(error)}. "
                        "Free what it lacks, and launch again"
                    ) from error
                raise
            return
    _close_host(host)
    raise DBOSInitializationError(
        "DBOS.destroy() was called before DBOS.launch() had returned, so tidings does not run; call DBOS.launch() again"
    )


def _open_host(settings: Settings, home: asyncio.AbstractEventLoop | None, executes: bool) -> Host:
    engine = sharing.acquire(settings.connection, settings.executor_label, migrate=settings.run_migrations)
    try:
        host = Host(engine, settings, REGISTRY, home, executes=executes)
    except BaseException:
        sharing.release(engine)
        raise
    try:
        host.admit()
    except BaseException:
        _close_host(host)
        raise
    return host


# --- destroying -------------------------------------------------------------------------------------


def destroy(drain_seconds: float | None = 0, *, registry: bool = False) -> None:
    """Stop the host, if one runs, and cancel a launch that is in progress.

    Args:
        drain_seconds: how long running workflows may take to finish or pause; `None` is no limit.
        registry: whether to forget the registered functions too.
    """
    drained = Process.host if drain_seconds != 0 and is_running() else None
    if drained is not None:
        drained.drain(drain_seconds)
    with Process.lock:
        Process.launch = None
        # During the drain another thread may have called `destroy`, and launched again.
        if drained is None or Process.host is drained:
            leave_term()
            try:
                if Process.host is not None and is_running():
                    _close_host(Process.host)
            finally:
                Process.host = None
    if registry:
        REGISTRY.clear()


def _close_host(host: Host) -> None:
    host.stop()
    if not sharing.release(host.engine):
        host.engine.discharge()
    host.join()


_ON_TERM = TermHandler(is_running, lambda: destroy(TERM_SECONDS))

# The last one registered is called first: no step is given the end of a client as its error.
atexit.register(clients.close_all)
atexit.register(destroy)
