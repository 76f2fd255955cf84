"""The class `DBOS`: configuration, launch, shutdown, and the subjects it is made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from tidings import store as stores
from tidings.api import logs
from tidings.api.caller import require_loop
from tidings.api.classes import Classes
from tidings.api.completing import Completing
from tidings.api.config import DBOSConfig, check_schema, settings_from
from tidings.api.events import OwnEvents
from tidings.api.filters import flag
from tidings.api.managing import Management
from tidings.api.messages import OwnMessages
from tidings.api.naming import as_users_write_it
from tidings.api.parallel import Parallel
from tidings.api.sealed import Sealed, SealedInstance
from tidings.api.steps import Steps, StepStatus, step_status_of
from tidings.api.streams import OwnStreams
from tidings.api.versions import Patches
from tidings.api.workflows import Workflows
from tidings.engine import process
from tidings.engine.caller import caller_in_app
from tidings.engine.process import Process, current_host, is_running
from tidings.engine.resetting import DEFAULT_SCHEMA, reset
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.loops import running_loop, watch_loop
from tidings.error import DBOSInitializationError, DBOSShutdownError
from tidings.limits import Seconds, check_timeout

T = TypeVar("T")

# The default of the configuration. If it is left out or given by position, an error says what to write.
_MISSING: Any = None


class _ClassProperty(Generic[T]):
    """A property of the class itself."""

    def __init__(self, getter: Callable[[], T]) -> None:
        self._getter = getter
        self.__doc__ = getter.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        try:
            return self._getter()
        except DBOSShutdownError as error:
            raise _NoValueYet(str(error)) from None


class _NoValueYet(DBOSShutdownError, AttributeError):
    """For code that inspects a class: `hasattr`, or `unittest.mock` with `autospec`. It expects no other error."""


class Launched:
    """The result of `DBOS.launch()`. As a context manager it calls `DBOS.destroy` at the end of the block."""

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


@as_users_write_it
class DBOS(
    SealedInstance,
    Workflows,
    Classes,
    Steps,
    Parallel,
    Management,
    Completing,
    OwnMessages,
    OwnEvents,
    OwnStreams,
    Patches,
    metaclass=Sealed,
):
    """Durable workflows that communicate. There is one `DBOS` per process, and all operations are on the class."""

    is_one = True
    _called = "DBOS"
    _caller = staticmethod(caller_in_app)

    def __init__(self, nothing: None = None, /, *, config: DBOSConfig = _MISSING) -> None:
        """Configure tidings for this process; `launch` starts it.

        Args:
            nothing: leave this out; the configuration is given by keyword.
            config: see `DBOSConfig`.

        Raises:
            TypeError: the configuration was given by position.
            DBOSInitializationError: a key is unknown, a value is bad, or tidings is already running.
        """
        if nothing is not None:
            raise TypeError("DBOS takes its configuration by keyword; write DBOS(config={'name': ...})")
        if is_running():
            raise DBOSInitializationError(
                "tidings is running in this process; to configure it again, call DBOS.destroy() before DBOS(config=...)"
            )
        try:
            Process.settings = settings_from(config)
            log_level = config.get("log_level")
        except Exception as error:
            error.__traceback__ = None  # Also of a defect: the frames hold the configuration.
            raise
        logs.show(logs.level_from(log_level))

    @classmethod
    def launch(cls, *, execute: bool = True) -> Launched:
        """Open the database, recover the workflows of ended processes, and accept calls.

        Register all workflows before.

        If it is called on a running event loop, all async workflows run on that loop, as long as the loop runs. So they
        may use objects that belong to the loop, such as pools and clients.

        If it is called in the main thread of a program that does not handle SIGTERM, that signal shuts the program down
        in order: as `destroy(workflow_completion_timeout_sec=8)` does, and then by the signal.

        Args:
            execute: whether this process executes workflows. Use `False` for a migration script, a console, or a web
                server without workers. Such a process takes over nothing and executes nothing; it may send, read,
                await, cancel and list. A workflow that it starts or calls is recorded, and another process executes it:
                one that registers the function, and has the same `name` in its configuration. That happens at once if
                such a process runs, else when one is launched. Any version of the code may execute it, unless
                `application_version` is configured here.

        Returns:
            A context manager that calls `destroy` at the end of its block.

        Raises:
            TypeError: `execute` is neither `True` nor `False`.
            DBOSInitializationError: tidings is not configured, or already running; the database is down, unfit for use,
                or newer than this library; or `destroy` was called meanwhile.
        """
        home = running_loop()
        if home is not None:
            watch_loop(home)
        return cls._launch_at(home, execute)

    @classmethod
    async def launch_async(cls, *, execute: bool = True) -> Launched:
        """Await `launch`, without blocking the event loop. All async workflows run on this loop, as long as it runs."""
        require_loop("DBOS.launch_async()", "DBOS.launch()")
        home = asyncio.get_running_loop()
        watch_loop(home)
        launched = await asyncio.to_thread(cls._launch_at, home, execute)
        process.handle_term()  # This may be the main thread.
        return launched

    @classmethod
    def _launch_at(cls, home: asyncio.AbstractEventLoop | None, execute: bool) -> Launched:
        process.launch(home, executes=flag(execute, "execute"))
        return Launched()

    @classmethod
    def destroy(cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: Seconds | None = 0) -> None:
        """Stop tidings in this process. Another process resumes its workflows at once, or else the next launch does.

        Commits in progress are kept. Waiting calls, such as a `recv`, are not waited for. Clients are not affected.
        Calling it again does nothing. In a signal handler raise `SystemExit` instead: the exit of the program calls
        `destroy` too.

        It may be called on a running event loop, but it blocks that loop, so workflows on it cannot continue meanwhile.
        With a timeout, await `destroy_async` there.

        Args:
            destroy_registry: whether to forget the registered workflows and steps too.
            workflow_completion_timeout_sec: how long to let running workflows finish or pause, in seconds or as a
                `timedelta`; `None` means no limit. In the first half of that time workflows may run to their ends. In
                the second half no step begins, and running steps may finish. A workflow that waits (for a message, an
                event, a result, a time) counts as paused. Meanwhile no new work is taken: no workflow of another
                process, and `start_workflow` outside of workflows raises `DBOSShutdownError`. 0 stops at once: steps
                that are running will run again. Another call of `destroy` ends the wait.

        Raises:
            DBOSLimitError: the timeout is negative, or more than a hundred years.
        """
        flag(destroy_registry, "destroy_registry")
        timeout = check_timeout(workflow_completion_timeout_sec, "workflow_completion_timeout_sec")
        process.destroy(timeout, registry=destroy_registry)

    @classmethod
    async def destroy_async(
        cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: Seconds | None = 0
    ) -> None:
        """Await `destroy`, without blocking the event loop: workflows on it can finish or pause too."""
        require_loop("DBOS.destroy_async()", "DBOS.destroy()")
        process.leave_term()  # This may be the main thread.
        await asyncio.to_thread(
            cls.destroy,
            destroy_registry=destroy_registry,
            workflow_completion_timeout_sec=workflow_completion_timeout_sec,
        )

    @classmethod
    def reset_system_database(
        cls, *, system_database_url: stores.DatabaseURL | None = None, schema: str | None = None, truncate: bool = False
    ) -> None:
        """Delete all workflows, messages, events and streams of a database, for example before each test.

        Only what tidings created in the database is removed. The next launch creates its tables again.

        Args:
            system_database_url: the database; by default the configured one.
            schema: the PostgreSQL schema; by default the configured one, or "tidings" without a configuration.
            truncate: whether to keep the tables and the rights on them, and delete only the rows.

        Raises:
            DBOSInitializationError: the database is in use by `DBOS`, a `DBOSClient` or another process; or it is down,
                unfit for use, or newer than this library; or no database is given or configured. Nothing was deleted.
        """
        flag(truncate, "truncate")
        settings = Process.settings
        configured = None if settings is None else settings.connection
        url: stores.DatabaseURL | None = configured.database_url if configured is not None else None
        if system_database_url is not None:
            url = stores.address(system_database_url, "system_database_url")
        if url is None:
            raise DBOSInitializationError(
                "DBOS.reset_system_database() was given no database: give it system_database_url=..., or call "
                "DBOS(config={'name': ...}) first"
            )
        named = configured.schema if configured is not None else DEFAULT_SCHEMA
        reset(url, named if schema is None else check_schema(schema, "schema"), truncate=truncate)

    @_ClassProperty
    @staticmethod
    def workflow_id() -> str | None:
        """The id of the workflow that the calling code is in, or `None`."""
        scope = scopes.current()
        return None if scope is None else scope.run.workflow_id

    @_ClassProperty
    @staticmethod
    def step_id() -> int | None:
        """The number of the step that the calling code is in, or `None`. Operations are numbered as they begin."""
        scope = scopes.current()
        return None if scope is None or scope.attempt is None else scope.attempt.slot.ordinal

    @_ClassProperty
    @staticmethod
    def step_status() -> StepStatus | None:
        """The step that the calling code is in, and its current try; `None` outside of steps."""
        scope = scopes.current()
        return None if scope is None or scope.attempt is None else step_status_of(scope.attempt)

    @_ClassProperty
    @staticmethod
    def executor_id() -> str:
        """The unique id of this process, as in `WorkflowStatus.executor_id` and in `list_executors`.

        Each launch gets a new id. The configured `executor_id` is something else: the `label` in `list_executors`.

        Raises:
            DBOSShutdownError: tidings is not running in this process.
        """
        return current_host().engine.committer.executor.executor_id

    @_ClassProperty
    @staticmethod
    def application_version() -> str:
        """The version of the code, by which recovery chooses workflows.

        Raises:
            DBOSShutdownError: tidings is not running in this process.
        """
        return current_host().app_version

    @_ClassProperty
    @staticmethod
    def logger() -> logging.Logger:
        """The logger of tidings. The program may use it too.

        If the program has configured no logging, the logger writes to standard error, from level INFO up. The
        `log_level` of the configuration changes that level.
        """
        return logs.shown_logger()
