"""The class `DBOSClient`: for programs that talk to workflows and run none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidings import store as stores
from tidings.api.absent import missing_of_client
from tidings.api.caller import require_loop
from tidings.api.completing import Completing
from tidings.api.config import check_schema, check_serializer
from tidings.api.dbos import DBOS
from tidings.api.events import Events
from tidings.api.managing import Management
from tidings.api.messages import Messages
from tidings.api.naming import as_users_write_it
from tidings.api.streams import Streams
from tidings.api.versions import Versions
from tidings.engine.caller import Caller, refuse_stray
from tidings.engine.checking import check
from tidings.engine.clients import Membership
from tidings.engine.process import check_not_forked
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.scope import Scope
from tidings.engine.settings import Connection
from tidings.error import DBOSContextError
from tidings.serialization import JSONSerializer, Serializer


@as_users_write_it
class DBOSClient(Management, Completing, Messages, Events, Streams, Versions):
    """Talks to the workflows of a database: sends messages, reads events and streams, awaits results.

    A client runs no workflow. Its operations are as durable and as prompt as those of `DBOS`, and each has an `_async`
    form. They may be called from any thread and in steps, but not in workflow code: a client records nothing, so a
    replay would repeat the operation.

    In one process, `DBOS` and all clients of a database share connections, unless `DBOS` is configured to listen
    differently. As a context manager, a client is destroyed at the end of the block. Clients that are still open are
    destroyed at the program's exit.

    A client makes no tables, and no SQLite file. A relative path in its URL begins in the client's current folder: if
    the program that runs the workflows has another one, give both the absolute path.
    """

    _called = "DBOSClient"

    def __init__(
        self,
        nothing: None = None,
        /,
        *,
        system_database_url: stores.DatabaseURL,
        dbos_system_schema: str = "tidings",
        serializer: Serializer | None = None,
    ) -> None:
        """Connect to the database. May be called on a running event loop, which it blocks for a moment.

        Args:
            nothing: leave this out; the URL is given by keyword.
            system_database_url: the URL of the database, as in the programs that run the workflows, in any form that
                `DBOSConfig` takes.
            dbos_system_schema: the PostgreSQL schema that holds the tables, as in those programs.
            serializer: how values are stored, as in those programs; typed JSON by default.

        Raises:
            DBOSInitializationError: the URL names no database; or the database is down, has no tables of tidings yet,
                or newer ones than this library knows. To create the tables, launch the program that runs the workflows.
        """
        if nothing is not None:  # Not shown in the error: it may hold a password.
            raise TypeError("DBOSClient takes a URL by keyword; write DBOSClient(system_database_url=...)")
        url = stores.address(system_database_url, "system_database_url")
        schema = check_schema(dbos_system_schema, "dbos_system_schema")
        if serializer is not None:
            check_serializer(serializer, "the serializer")
        self._serializer = serializer or JSONSerializer()
        self._caller = self._caller_outside
        connection = Connection(url, schema)
        self._membership = Membership(connection)
        self._engine, self._port = self._membership.engine, self._membership.port

    def __repr__(self) -> str:
        engine = getattr(self, "_engine", None)
        return f"<DBOSClient of {engine.store.name}>" if engine is not None else "<DBOSClient of no database>"

    if not TYPE_CHECKING:  # A type checker would accept any name.

        def __getattr__(self, name: str) -> Any:
            raise missing_of_client(name, dir(type(self)), dir(DBOS))

    def check_connection(self) -> None:
        """Check, within 10 s, that the database answers and accepts this client's writes.

        Other operations wait without limit while the database is unavailable.

        Raises:
            DBOSInitializationError: the database does not answer, is no longer fit for use, or was replaced. The error
                says why.
        """
        self._block("check_connection", lambda caller: check(caller.engine))

    async def check_connection_async(self) -> None:
        """Await `check_connection`."""
        await self._await(lambda caller: check(caller.engine))

    def destroy(self) -> None:
        """Disconnect at once: calls that wait in other threads or tasks raise `DBOSShutdownError`.

        Commits in progress are kept. `DBOS` and other clients are not affected. Calling it again does nothing. It may
        be called on a running event loop.
        """
        self._membership.close()

    async def destroy_async(self) -> None:
        """Await `destroy`, without blocking the event loop."""
        require_loop("DBOSClient.destroy_async()", "DBOSClient.destroy()")
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

    def _caller_outside(self, _: Callable[[], Scope | None], called: str) -> Caller:
        self._check_open()
        scope = scopes.current()
        if scope is None:
            refuse_stray(called, "Call the client in a step, or use DBOS for workflows of this database")
        if scope is not None and scope.attempt is None:
            raise DBOSContextError(
                f"workflow {scope.run.workflow_id!r} called a DBOSClient, which records nothing: a replay would do it "
                "again. Call the client in a step, or use DBOS for workflows of this database"
            )
        return Caller(self._engine, self._port, self._serializer)

    def _check_open(self) -> None:
        self._membership.check_open()
        check_not_forked(self._engine, "made this DBOSClient", "make it")
