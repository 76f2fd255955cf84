"""The class `DBOSClient`: talking with workflows from programs that run none."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tidings.api.caller import Caller, check_not_forked
from tidings.api.config import check_serializer
from tidings.api.events import Events
from tidings.api.managing import Management
from tidings.api.messages import Messages
from tidings.api.streams import Streams
from tidings.engine import scope as scopes
from tidings.engine import sharing
from tidings.engine.checking import check
from tidings.engine.scope import Scope
from tidings.engine.settings import Connection
from tidings.error import DBOSContextError, DBOSInitializationError, DBOSShutdownError
from tidings.serialization import JSONSerializer, Serializer

_LABEL = "client"
_DESTROYED = "this DBOSClient was destroyed; make a new one"

# Those that a program forgets stay open too, until it exits.
_open: set[DBOSClient] = set()


class DBOSClient(Management, Messages, Events, Streams):
    """Talks with the workflows of a database: sends to them, reads what they publish, awaits their ends.

    It runs no workflow. What it does is durable and prompt as with `DBOS`; in one process, both and all
    clients of a database share its connections (unless `DBOS` is configured to listen otherwise, or not
    at all). Its operations may be called from any thread, and in the steps of workflows, but not in the
    code of workflows itself: a client records nothing, so a replay would do it all again. Each has an
    `_async` form. As a context manager it is destroyed at the end of the block, and a client that is
    forgotten at the exit of the program.
    """

    _called = "DBOSClient"

    def __init__(
        self, *, system_database_url: str, dbos_system_schema: str = "tidings", serializer: Serializer | None = None
    ) -> None:
        """Connect to the database. May be called on a running event loop, which it holds up for a moment.

        Args:
            system_database_url: the URL that the programs which run the workflows have.
            dbos_system_schema: the PostgreSQL schema that holds the tables, as theirs.
            serializer: how values are stored, as theirs; typed JSON by default.

        Raises:
            DBOSInitializationError: the URL names no database; the database is down, has no tables of
                tidings yet (launch the program that runs the workflows once: it makes them), or newer
                ones than this library knows.
        """
        if not isinstance(dbos_system_schema, str):
            raise DBOSInitializationError(f"dbos_system_schema must be a string, not {dbos_system_schema!r}")
        if serializer is not None:
            check_serializer(serializer, "the serializer")
        self._serializer = serializer or JSONSerializer()
        self._caller = self._caller_outside
        connection = Connection(system_database_url, dbos_system_schema)
        self._engine = sharing.acquire(connection, _LABEL, migrate=False)
        self._port = self._engine.open_port()
        _open.add(self)

    def check_connection(self) -> None:
        """Check that the database answers, and takes what this client writes; within 10 s.

        Other operations wait for a database that is away, however long.

        Raises:
            DBOSInitializationError: it does not answer, is no longer fit, or was replaced; says why.
        """
        self._block("check_connection", lambda caller: check(caller.engine))

    async def check_connection_async(self) -> None:
        """Await `check_connection`."""
        await self._await(lambda caller: check(caller.engine))

    def destroy(self) -> None:
        """Disconnect, promptly: what waits in another thread or task gets a `DBOSShutdownError`.

        What is being committed is kept. `DBOS` and other clients go on. Harmless when repeated. May be
        called on a running event loop.
        """
        try:
            _open.remove(self)
        except KeyError:
            return  # Another thread, or an earlier call, was first.
        self._engine.close_port(self._port, DBOSShutdownError(_DESTROYED))
        sharing.release(self._engine)

    async def destroy_async(self) -> None:
        """Await `destroy`, without blocking the event loop."""
        await asyncio.to_thread(self.destroy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy_async()

    def _caller_outside(self, _: Callable[[], Scope | None]) -> Caller:
        self._check_open()
        scope = scopes.current()
        if scope is not None and scope.attempt is None:
            raise DBOSContextError(
                f"workflow {scope.run.workflow_id!r} called a DBOSClient, which records nothing: a replay would do it "
                "again. Call the client in a step, or use DBOS for workflows of this database"
            )
        return Caller(self._engine, self._port, self._serializer)

    def _check_open(self) -> None:
        if self not in _open:
            raise DBOSShutdownError(_DESTROYED)
        check_not_forked(self._engine, "made this DBOSClient", "make it")


def _destroy_all() -> None:
    for client in list(_open):
        client.destroy()


atexit.register(_destroy_all)
