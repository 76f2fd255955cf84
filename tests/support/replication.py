"""Two PostgreSQL servers, a primary and a standby that streams from it. A test can kill one and promote the other.

    with ReplicatedPair(synchronous=True) as pair:
        DBOS(config={..., "system_database_url": pair.url})
        pair.fail_over()

The standby begins as a copy of the primary's data, made before either of them runs. So it needs only the programs that
`PostgresServer` needs.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from harness.password import PASSWORD
from harness.postgres import PostgresServer

_NAME: Final = "standby"
_SETTINGS: Final = {
    "fsync": "off",
    # A standby that has lost its primary reconnects soon.
    "wal_retrieve_retry_interval": "100ms",
}
_PATIENCE_SECONDS: Final = 60.0


class ReplicatedPair:
    """Two running servers: commits on `primary` are streamed to `standby`.

    Args:
        synchronous: whether the primary acknowledges a commit only when the standby has it too.

    Attributes:
        url: the URL of both servers, the primary first.
    """

    def __init__(self, *, synchronous: bool) -> None:
        self._is_synchronous = synchronous
        self._life = ExitStack()
        self.primary = PostgresServer(**_SETTINGS)
        self._life.callback(self.primary.close)
        try:
            self.standby = _Copy(self.primary, **_SETTINGS)
        except BaseException:
            self._life.close()
            raise
        self._life.callback(self.standby.close)
        self.url = (
            f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/postgres"
        )

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.resume()
            self.standby.start()
            self.await_streaming()
            if self._is_synchronous:
                self._set(self.primary, "synchronous_standby_names", _NAME)
                self._await(self.primary, "select 1 from pg_stat_replication where sync_state = 'sync'")
        except BaseException:
            self._life.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._life.close()

    def hold(self) -> None:
        """Stop the streaming: commits from now on are only on the primary."""
        self._set(self.standby, "primary_conninfo", "")
        self._await(self.standby, "select 1 where not exists (select from pg_stat_wal_receiver)")

    def resume(self) -> None:
        """Continue the streaming, including all that was held back."""
        conninfo = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={_NAME}"
        self._set(self.standby, "primary_conninfo", conninfo)

    def await_streaming(self) -> None:
        """Wait until the standby has applied all that the primary has written so far."""
        [(written,)] = ask(self.primary, "select pg_current_wal_lsn()::text")
        self._await(self.standby, f"select 1 where pg_last_wal_replay_lsn() >= '{written}'")

    def promote(self) -> None:
        """Let the standby accept writes. The primary must have ended, or there would be two primaries."""
        # Do not wait inside the server: changes that it applies meanwhile may conflict with the statement, and cancel
        # it.
        [(is_asked,)] = ask(self.standby, "select pg_promote(wait => false)")
        assert is_asked
        self._await(self.standby, "select 1 where not pg_is_in_recovery()")

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.primary.kill()
        self.promote()

    def await_held_commit(self) -> int:
        """Wait until a commit waits for the standby; return the id of the server process that waits."""
        [(number,)] = self._await(self.primary, "select pid from pg_stat_activity where wait_event = 'SyncRep'")
        return int(number)

    def _set(self, server: PostgresServer, name: str, value: str) -> None:
        with (server.directory / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"{name} = '{value}'\n")
        if server.is_running:
            ask(server, "select pg_reload_conf()")

    def _await(self, server: PostgresServer, query: str) -> list[tuple[Any, ...]]:
        """Query until there is an answer, because a server sends no events about its replication."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = threading.Event()
        while not (found := ask(server, query)):
            assert time.monotonic() < deadline, f"there was never an answer to {query!r}"
            pause.wait(0.005)
        return found


class _Copy(PostgresServer):
    """A server with the data of another one that does not run: its standby."""

    def __init__(self, original: PostgresServer, **settings: str) -> None:
        self._original = original
        super().__init__(**settings)

    def _executable(self, programs: Path) -> Path:
        return self._original.programs  # This user can read them.

    def _make_data(self) -> None:
        data = self.directory / "data"
        # Run as the servers' user, who owns these directories.
        self._command(Path("cp"), "-R", str(self._original.directory / "data"), str(data))
        self._command(Path("touch"), str(data / _SIGNAL))


_SIGNAL: Final = "standby.signal"


def ask(server: PostgresServer, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on this server."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []
