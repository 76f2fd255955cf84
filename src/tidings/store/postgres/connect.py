"""Connections to PostgreSQL, and what its errors mean to the layers above.

All that we ask of a session goes with the start of the connection (`options`), nothing is SET
later: so a reconnect needs no second step, and a pooler cannot hand us a session that lacks it
unnoticed. PgBouncer refuses `options` unless told `ignore_startup_parameters = options`; then the
server's defaults hold, which are right unless somebody turned `synchronous_commit` off, and plans
may be worse. Where a pooler in transaction mode mixes prepared statements up, the store goes on
without them (`lost_prepared`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tidings.error import DBOSInitializationError
from tidings.shortage import reason_of
from tidings.store import held, redact
from tidings.store.postgres.options import options
from tidings.store.postgres.patience import NothingLeft, impatient
from tidings.store.postgres.servers import Servers
from tidings.store.postgres.statements import Statements, prepare
from tidings.store.postgres.wire import ServerError, Wire
from tidings.store.protocol import DataError, Forbidden, StoreError, TooSlow, Unavailable

OLDEST_SERVER: Final = 14
MAX_SCHEMA_BYTES: Final = 63  # longer names PostgreSQL cuts off without an error

# What `refuse` in the schema raises.
FENCE_MOVED: Final = "TD001"
UNIT_REFUSED: Final = "TD002"
MESSAGE_GONE: Final = "TD003"
LEFTOVERS_FOUND: Final = "TD004"

# A number that is drawn and taken all the same: see `queries/numbers.sql`.
UNIQUE_VIOLATION: Final = "23505"
MESSAGES_PKEY: Final = "messages_pkey"

_SETTINGS: Final = {
    # The promises. A commit that was answered is on disk.
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    # Nothing waits for ever. A process that is stopped in the middle of a batch must not hold its
    # row, and so those who take over its runs, for long.
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    # The server too must notice that the other end is gone.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    # Every statement is a few looks into an index, for arrays whose length the planner cannot know.
    # One plan, made once, must be right while the tables grow from nothing and statistics are old:
    # so leave it no choice. And never spend time on compiling such a plan.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "cpu_tuple_cost": "0.1",
    "cpu_index_tuple_cost": "0.05",
    "cpu_operator_cost": "0.0001",
    "enable_mergejoin": "off",
    "jit": "off",
    # A batch (8 MB) that is put in order stays in memory.
    "work_mem": "32MB",
}

# Migrations wait for each other, and may have much to do.
MIGRATION_LOCK_SECONDS: Final = 120
_MIGRATION_SETTINGS: Final = _SETTINGS | {"statement_timeout": "0", "lock_timeout": f"{MIGRATION_LOCK_SECONDS}s"}

# How soon libpq gives up: a network that is dead without a sign is noticed within 15 s, whether something
# was sent (`tcp_user_timeout`) or not (keepalives). A URL may say otherwise.
_PATIENCE: Final[dict[str, str | int | None]] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # ms
    "application_name": "tidings",
}


# How often to connect anew where a pooler gives us a session that is out of step.
_TRIES: Final = 10


class Database:
    """Where the tables are: a server, a database and a schema. It opens connections and holds none.

    Raises:
        DBOSInitializationError: the URL or the schema's name cannot be.
    """

    def __init__(self, url: str, schema: str) -> None:
        if not schema or "\0" in schema or len(schema.encode(errors="replace")) > MAX_SCHEMA_BYTES:
            raise DBOSInitializationError(
                f"{schema!r} cannot name a schema: PostgreSQL takes 1 to {MAX_SCHEMA_BYTES} bytes without NUL"
            )
        try:
            self._given = conninfo_to_dict(url)
        except psycopg.Error:  # whose text may repeat parts of the password
            raise DBOSInitializationError(
                f"{redact(url)!r} is not a PostgreSQL URL: use postgresql://user:password@host:5432/database, "
                "with special characters in user and password percent-encoded"
            ) from None
        if "@" in str(self._given.get("host", "")):
            raise DBOSInitializationError(f"{redact(url)!r}: the password or the user holds an '@'; write it as %40")
        self.servers = Servers(self._given)
        self.schema = schema
        self.statements: Statements = prepare(schema)
        self.name = _name(self._given)
        # A channel's name takes 63 bytes, as a schema's does.
        self.channel = "tidings_" + hashlib.blake2b(schema.encode(), digest_size=16).hexdigest()

    def open(self, *, for_migration: bool = False) -> psycopg.Connection:
        """Open a connection in autocommit mode, and see that it answers what it is asked.

        PgBouncer in session mode may give us a session with an answer under way that nobody waits for: it takes a
        notification for the end of the query with which it cleans a session up. From then on each question would get
        the answer to the one before.

        Raises:
            psycopg.OperationalError: also where this process has no descriptor, thread or memory left for it.
        """
        try:
            return self._open(for_migration=for_migration)
        except (OSError, MemoryError) as error:
            raise psycopg.OperationalError(f"this process can open no connection: {reason_of(error)}") from error

    def _open(self, *, for_migration: bool) -> psycopg.Connection:
        settings = _MIGRATION_SETTINGS if for_migration else _SETTINGS
        where = self.servers.preference() | self._given | self.servers.in_order()
        chosen = {"options": options(settings, str(self._given.get("options") or ""))}
        conninfo = make_conninfo("", **_PATIENCE | where | chosen)
        # Psycopg prepares nothing here: `wire` does it.
        for number in range(_TRIES):
            forks = held.forks()
            connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
            held.hold(connection, _socket_of)
            # A child that was forked meanwhile has a copy of the socket, and would keep the session alive.
            is_copied = held.forks() != forks and number + 1 < _TRIES
            if not is_copied and _answers_right(connection):
                self.servers.found(connection)
                return connection
            connection.close()
        raise psycopg.OperationalError(
            f"{_TRIES} new connections got answers to other questions: restart the pooler before the server"
        )

    def wire(self, *, prepared: bool) -> Wire:
        """Open a connection and return a wire over it. Raises `psycopg.OperationalError`."""
        connection = self.open()
        try:
            return Wire(connection, self.statements, prepared=prepared)
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, MemoryError)):
                raise psycopg.OperationalError(f"this process can wait for no answer: {reason_of(error)}") from error
            raise

    def unavailable(self, reason: object, *, ambiguous: bool = False) -> Unavailable:
        """The error that says this database cannot serve now, and what is to be done where somebody must."""
        remark = _REMARKS.get(getattr(reason, "sqlstate", None) or "")
        text = _one_line(str(reason)) + (f": {remark}" if remark else "")
        return Unavailable(f"{self.name}: {text}", ambiguous=ambiguous)

    def unfit(self, error: psycopg.Error) -> DBOSInitializationError:
        """The error for what went wrong while starting."""
        return DBOSInitializationError(f"{self.name}: {_one_line(str(error))}{_advice(error)}")


def _socket_of(connection: psycopg.Connection) -> int:
    return connection.pgconn.socket


def _answers_right(connection: psycopg.Connection) -> bool:
    """Tell whether a new connection answers what it is asked. Raises, and closes it, if it does not answer at all."""
    question = secrets.randbelow(2**31)  # A text would be one of the server's encoding.
    try:
        with impatient(connection):
            result = connection.execute(f"select {question}".encode())
            return result.description is not None and result.fetchone() == (question,)
    except NothingLeft:  # It is this process's fault, and no sign of what the connection is like.
        connection.close()
        raise
    except psycopg.Error:
        if connection.closed:
            raise
        return False  # Somebody else's error: what it says is not for this program's log.
    except BaseException:
        connection.close()
        raise


def check_server(connection: psycopg.Connection, database: Database) -> None:
    """Raise `DBOSInitializationError` if the server is too old, or its text is not Unicode."""
    version = connection.info.server_version // 10_000
    if version < OLDEST_SERVER:
        raise DBOSInitializationError(
            f"{database.name}: this is PostgreSQL {version}, and tidings needs {OLDEST_SERVER} or newer"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DBOSInitializationError(
            f"{database.name}: its encoding is {encoding}, and tidings needs UTF8: "
            "create database ... template template0 encoding 'UTF8'"
        )


# --- what errors mean ------------------------------------------------------------------------------

# SQLSTATE classes: data exceptions, violated constraints, limits of the server.
_FAULTS_OF_DATA: Final = ("22", "23", "54")

# Classes that only a change to the program or the schema can cure: features, cardinality, syntax and
# names and rights.
_FAULTS_OF_OURS: Final = ("0A", "21", "42")

_DUPLICATE_PREPARED_STATEMENT: Final = "42P05"
_INVALID_STATEMENT_NAME: Final = "26000"

_NO_RIGHT: Final = "42501"
_CUT_OFF: Final = "57014"  # by the statement's time-out, or by somebody who looks after the server

_RESTORED: Final = "work goes on when the tables of tidings are there again, or this user may use them again"

# What somebody may mend while we wait, though it looks like a fault of ours; and what an operator wants to be told.
_REMARKS: Final = {
    "25006": "it is read-only, as a standby is; work goes on when the server that the URL leads to takes writes",
    "3F000": _RESTORED,
    "42P01": _RESTORED,
    _NO_RIGHT: _RESTORED,
}


def classify(error: ServerError, database: Database) -> StoreError | None:
    """Return what `error` is to the store's caller; `None` for a mistake in our own statements."""
    if error.sqlstate.startswith(_FAULTS_OF_DATA):
        return DataError(str(error))
    if error.sqlstate.startswith(_FAULTS_OF_OURS) and error.sqlstate not in _REMARKS:
        return None
    unavailable = database.unavailable(error)
    if error.sqlstate == _NO_RIGHT:
        return Forbidden(str(unavailable))
    return TooSlow(str(unavailable)) if error.sqlstate == _CUT_OFF else unavailable


def lost_prepared(error: ServerError) -> bool:
    """Tell whether prepared statements get mixed up: a pooler gives us another session now and then."""
    return error.sqlstate in (_INVALID_STATEMENT_NAME, _DUPLICATE_PREPARED_STATEMENT)


def _advice(error: psycopg.Error) -> str:
    text = str(error)
    if "unsupported startup parameter" in text:
        return ": set ignore_startup_parameters = options in PgBouncer's configuration"
    if "unsupported options startup parameter" in text:
        return ": write each setting in the URL's options as -c name=value, for PgBouncer takes nothing else"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return ": migrate as a user who may create there, then grant this one the use of the schema"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return ": another process has been migrating for long"
    return ""


def _name(given: Mapping[str, str | int | None]) -> str:
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    port = f":{given['port']}" if given.get("port") else ""
    return f"PostgreSQL database {given.get('dbname') or given.get('user') or ''!r} at {host}{port}"


def _one_line(text: str) -> str:
    """Return libpq's text in one line, without its guesses at the cause, which stand in lines of their own."""
    return " ".join(re.sub(r"\n\t[^\n]*", "", text).split())
