"""A pair of PostgreSQL servers, a primary and a standby that streams from it: to kill the one and promote the other.

    with ReplicatedPair(synchronous=True) as pair:
        DBOS(config={..., "system_database_url": pair.url})
        pair.fail_over()

The standby begins as a copy of the primary's data, made before either of them runs, so no more programs are needed
than `PostgresServer` needs.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from tests.support.postgres import PostgresError, PostgresServer

_NAME: Final = "standby"
_SETTINGS: Final = {
    "fsync": "off",
    # A standby that lost its primary, or has it back, tries again soon.
    "wal_retrieve_retry_interval": "100ms",
}
_PATIENCE_SECONDS: Final = 60.0


class ReplicatedPair:
    """Two servers, both running: what is committed on `primary` is streamed to `standby`.

    Args:
        synchronous: whether the primary acknowledges a commit only when the standby has it too.

    Attributes:
        url: of both: the primary first.
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
        self.url = f"postgresql://postgres@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/postgres"

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
        """Let nothing more come to the standby: what is committed from now on is on the primary alone."""
        self._set(self.standby, "primary_conninfo", "")
        self._await(self.standby, "select 1 where not exists (select from pg_stat_wal_receiver)")

    def resume(self) -> None:
        """Let the standby have all that was held back, and what comes."""
        conninfo = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={_NAME}"
        self._set(self.standby, "primary_conninfo", conninfo)

    def await_streaming(self) -> None:
        """Wait until the standby has applied all that the primary has written so far."""
        [(written,)] = ask(self.primary, "select pg_current_wal_lsn()::text")
        self._await(self.standby, f"select 1 where pg_last_wal_replay_lsn() >= '{written}'")

    def promote(self) -> None:
        """Let the standby take writes. The primary should not run any more: there would be two."""
        [(is_promoted,)] = ask(self.standby, "select pg_promote()")
        assert is_promoted

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.primary.kill()
        self.promote()

    def await_held_commit(self) -> int:
        """Wait until a commit waits for the standby's word; return the number of the server's process that waits."""
        [(number,)] = self._await(self.primary, "select pid from pg_stat_activity where wait_event = 'SyncRep'")
        return int(number)

    def _set(self, server: PostgresServer, name: str, value: str) -> None:
        with (server.directory / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"{name} = '{value}'\n")
        if server.is_running:
            ask(server, "select pg_reload_conf()")

    def _await(self, server: PostgresServer, query: str) -> list[tuple[Any, ...]]:
        """Ask until there is an answer: a server tells nobody about its replication."""
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
        return self._original.programs  # Which this user can reach.

    def _make_data(self) -> None:
        data = self.directory / "data"
        # As the servers' user, whose directories these are.
        for command in (
            ["cp", "-R", str(self._original.directory / "data"), str(data)],
            ["touch", str(data / _SIGNAL)],
        ):
            program, *arguments = command
            copy = self._run(Path(program), *arguments, output=PIPE)
            output, _ = copy.communicate()
            if copy.returncode != 0:
                self.close()
                raise PostgresError(f"{program} failed:\n{output.decode()}")


_SIGNAL: Final = "standby.signal"


def ask(server: PostgresServer, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on this one server of several."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []
