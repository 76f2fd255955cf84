"""A temporary, real PgBouncer before a PostgreSQL server.

The program is `TEST_PGBOUNCER_BIN` (a file or its directory), else the one on PATH, else /usr/sbin/pgbouncer, where
Debian's package puts it. If root starts it, it runs as another user, as PostgreSQL does.

It ends with this process at the latest (`tests.support.programs`); its files are in the run's temporary directory.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from harness.password import PASSWORD
from harness.postgres import account, free_port
from harness.proxy import through
from tests.support import programs

START_TIMEOUT_SECONDS = 60

Mode = Literal["transaction", "session"]

_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")

# Any user of the server may connect without a password, as on the server itself.
_AUTHENTICATION: Final = {
    "auth_type": "trust",
    "auth_user": "postgres",
    "auth_query": "select usename, coalesce(passwd, '') from pg_catalog.pg_shadow where usename = $1",
    "admin_users": "postgres",
}


class PgBouncerError(Exception):
    """PgBouncer could not be found or started."""


class PgBouncer:
    """PgBouncer on the loopback address, before the server that `server_url` names.

    As a context manager it starts, and is removed at the end. Each keyword is a setting of PgBouncer: `PgBouncer(url,
    "transaction", default_pool_size="2")`. The other settings are those that tidings' documentation advises,
    `ignore_startup_parameters = options`, with room for many connections.

    Raises:
        PgBouncerError: No PgBouncer was found on this machine.
    """

    def __init__(self, server_url: str, mode: Mode, **settings: str) -> None:
        self._program = find_program()
        self.mode: Mode = mode
        self.port = free_port()
        self._user = account()
        self.directory = Path(tempfile.mkdtemp(prefix="tidings-pgbouncer-"))
        if self._user.uid is not None:
            shutil.chown(self.directory, self._user.uid, self._user.gid)
        server = conninfo_to_dict(server_url)
        self._host, self._port = server.get("host") or "127.0.0.1", server.get("port") or 5432
        self._settings = self._defaults() | settings
        self._process: programs.Program | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start PgBouncer and return once it answers.

        Raises:
            PgBouncerError: It ended at once, or did not answer within `START_TIMEOUT_SECONDS`. The error contains its
                log.
        """
        configuration = self.directory / "pgbouncer.ini"
        settings = "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        configuration.write_text(
            f"[databases]\n* = host={self._host} port={self._port}\n\n[pgbouncer]\n{settings}", encoding="utf-8"
        )
        (self.directory / "users").write_text('"postgres" ""\n', encoding="utf-8")
        log = self.directory / "log"
        with log.open("ab") as output:
            self._process = programs.start(
                self._program, configuration, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise PgBouncerError(f"{self._program} ended instead of starting:\n{log.read_text()}")
            if time.monotonic() > deadline:
                raise PgBouncerError(f"{self._program} did not answer:\n{log.read_text()}")
            time.sleep(0.02)

    def close(self) -> None:
        """Stop PgBouncer if it runs, and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database_url: str) -> str:
        """Return the URL of the same database through PgBouncer."""
        return through(database_url, self.port)

    def ask(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command at PgBouncer's console, such as `show pools`, and return the rows of the answer."""
        with psycopg.connect(self._console, autocommit=True, prepare_threshold=None) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def disconnect(self, database: str) -> None:
        """End all connections to a database: those of clients, and those to the server."""
        if any(row[0] == database for row in self.ask("show databases")):
            self.ask(f'kill "{database}"')
            self.ask(f'resume "{database}"')

    @property
    def log(self) -> str:
        """The log of PgBouncer so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def _console(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/pgbouncer?sslmode=disable&gssencmode=disable"

    def _answers(self) -> bool:
        try:
            self.ask("show version")
        except psycopg.OperationalError:
            return False
        return True

    def _defaults(self) -> dict[str, str]:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_file": str(self.directory / "users"),
            "pool_mode": self.mode,
            "max_client_conn": "1000",
            "default_pool_size": "100",
            "ignore_startup_parameters": "options",
        }
        if self._user.name is not None:
            settings["user"] = self._user.name
        return settings | _AUTHENTICATION


def find_program() -> Path:
    """Find PgBouncer's program.

    Raises:
        PgBouncerError: It is not on this machine. The error says what to do.
    """
    if given := os.environ.get("TEST_PGBOUNCER_BIN"):
        program = Path(given)
        return program / "pgbouncer" if program.is_dir() else program
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES])
    if found := shutil.which("pgbouncer", path=path):
        return Path(found)
    raise PgBouncerError(
        "PgBouncer was not found. Install the package `pgbouncer` of Debian or of your system (its service need not "
        "run), or set TEST_PGBOUNCER_BIN to the program."
    )


def version_of(program: Path) -> str:
    """Return the version of a PgBouncer, such as `1.18.0`."""
    return programs.run(program, "--version", timeout=60).stdout.split()[1]
