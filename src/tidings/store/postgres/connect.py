"""Connections to PostgreSQL, and what its errors mean to the layers above.

Psycopg's frames and errors, and the texts of servers, hold or repeat what the URL gives, which may be a password. So no
error leaves `Database.open` as it is (`shown`).

All settings of a session are sent with the start of the connection (`options`), so a reconnect needs no second step.
Settings that do not take effect that way are SET afterwards, or in each transaction behind a pooler (`sessions`). If a
pooler in transaction mode mixes up prepared statements, the store continues without them (`lost_prepared`).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from tidings.error import DBOSInitializationError
from tidings.shortage import reason_of
from tidings.store import held
from tidings.store.postgres import sessions, settings, urls
from tidings.store.postgres.servers import Servers
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.shown import Shown, named_in
from tidings.store.postgres.statements import Statements, prepare
from tidings.store.postgres.wire import ServerError, Wire
from tidings.store.protocol import DataError, Forbidden, Severed, StoreError, TooSlow, Unavailable
from tidings.store.urls import DatabaseURL, address

logger = logging.getLogger("tidings")

OLDEST_SERVER: Final = 14
MAX_SCHEMA_BYTES: Final = 63  # PostgreSQL truncates longer names without an error

# The messages of PgBouncer and of Amazon's RDS Proxy.
_REFUSALS_OF_OPTIONS: Final = ("unsupported startup parameter", "support command-line options")

# The SQLSTATEs that the schema's function `refuse` raises.
FENCE_MOVED: Final = "TD001"
UNIT_REFUSED: Final = "TD002"
MESSAGE_GONE: Final = "TD003"
LEFTOVERS_FOUND: Final = "TD004"

# A sequence gave a number that a row has already: see `queries/numbers.sql`.
UNIQUE_VIOLATION: Final = "23505"
MESSAGES_PKEY: Final = "messages_pkey"

# When libpq gives up: a network that fails silently is noticed within 15 s, both while data is being sent
# (`tcp_user_timeout`) and while the connection is idle (keepalives). A URL may set other values.
_PATIENCE: Final[dict[str, str | int | None]] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # ms
    "application_name": "tidings",
    # Overrides PGTARGETSESSIONATTRS, which may be set for other programs: on a standby nothing can be written.
    "target_session_attrs": "any",
}


# What was logged once: pairs of a database's identity and a message.
_told: Final[set[tuple[str, str]]] = set()

# PostgreSQL since 17 ends a session whose transaction takes longer than a setting says.
_ENDS_SESSIONS: Final = 170_000
_ENDED_BY_NEWER: Final = "25P04"

# How often to connect again if a pooler returns a session that answers an earlier question.
_TRIES: Final = 10


class Database:
    """Where the tables are: a server, a database and a schema. It opens connections and keeps none.

    Attributes:
        name: how errors and log messages call it.
        identity: equal for the same URL and schema; neither can be read from it.

    Raises:
        DBOSInitializationError: the URL or the schema's name is not valid.
    """

    def __init__(self, url: DatabaseURL, schema: str) -> None:
        url = address(url)
        _check_schema(schema)
        self._given = urls.read(url)
        self._shown = Shown(self._given, frozenset(_PATIENCE) | {"client_encoding", "options"})
        self.servers = Servers(self._given)
        self.schema = schema
        self.statements: Statements = prepare(schema)
        self.name = self._shown.name
        self.identity = hashlib.blake2b(f"{url} {schema}".encode(errors="replace"), digest_size=16).hexdigest()
        # A channel's name is limited to 63 bytes, and a schema's name may have as many; so the channel has a hash.
        self.channel = "tidings_" + hashlib.blake2b(schema.encode(), digest_size=16).hexdigest()
        self._wanted = settings.wanted(str(self._given.get("options") or ""))
        self._takes_options = True
        self._pins_newer = False
        if self._wanted.overruled and (self.identity, "options") not in _told:
            _told.add((self.identity, "options"))
            logger.info(
                "%s: the URL's options set %s. tidings sets that itself and ignores the URL's value; remove it there",
                self.name,
                ", ".join(self._wanted.overruled),
            )

    def open(self, *, for_migration: bool = False) -> Session:
        """Open a connection in autocommit mode, with tidings' settings, and check that it answers.

        Raises:
            psycopg.OperationalError: also if this process has no descriptor, thread or memory left.
        """
        try:
            return self._open(self._wanted.migrating() if for_migration else self._wanted)
        except psycopg.Error as error:
            failure = self._shown.clean(error)
        except (OSError, MemoryError) as error:
            failure = psycopg.OperationalError(
                self._shown.text(f"this process cannot open a connection: {reason_of(error)}")
            )
        raise failure

    def _open(self, wanted: settings.Wanted) -> Session:
        for number in range(_TRIES):
            forks = held.forks()
            session = self._connect(wanted)
            version = session.pgconn.server_version
            held.hold(session, _socket_of)
            # A child forked meanwhile has a copy of the socket, which would keep the session open.
            is_copied = held.forks() != forks and number + 1 < _TRIES
            try:
                if not is_copied and sessions.settle(session, wanted):
                    self.servers.found(session)
                    return session
            except psycopg.Error as error:
                may_be_ended = error.sqlstate in (None, _ENDED_BY_NEWER)  # None: the reason was lost with the session.
                if self._pins_newer or version < _ENDS_SESSIONS or not may_be_ended:
                    raise
                # Too short for the one statement that would set it. A server that has this setting takes it as an
                # option too; for one that is older, it would be an error.
                self._pins_newer = True
            session.close()
        raise psycopg.OperationalError(
            f"{_TRIES} new connections in a row got answers to other questions: restart the pooler that is in front of "
            "the server"
        )

    def _connect(self, wanted: settings.Wanted) -> Session:
        """Connect; without `options` if a pooler refuses them."""
        while True:
            takes_options = self._takes_options
            try:
                with self._shown.in_log():
                    # Psycopg prepares no statements here: `wire` does it.
                    return Session.connect(self._conninfo(wanted), autocommit=True, prepare_threshold=None)
            except psycopg.Error as error:
                failure = error
            except UnicodeError:
                failure = psycopg.OperationalError("a host name in its URL is not valid")
            except BaseException as error:
                # Ctrl-C, say. The frames that led here hold the password.
                error.__cause__ = error.__context__ = None
                raise error.with_traceback(None)  # noqa: B904
            if not takes_options or wanted.others or not _refuses_options(failure):
                raise self._shown.clean(failure)
            self._takes_options = False

    def _conninfo(self, wanted: settings.Wanted) -> str:
        if self._pins_newer:
            wanted = wanted._replace(settings={**wanted.settings, **settings.NEWER})
        where = self.servers.preference() | self._given | self.servers.in_order()
        if where.get("host"):
            where = {"hostaddr": "", **where}  # Otherwise PGHOSTADDR would count, and lead to another host.
        # Sent even if empty: otherwise PGOPTIONS would count.
        ours = {"client_encoding": "UTF8", "options": wanted.options if self._takes_options else ""}
        return make_conninfo("", **_PATIENCE | where | ours)

    def wire(
        self,
        *,
        prepared: bool,
        check: Callable[[Session, Database], None] | None = None,
        only_reads: bool = False,
    ) -> Wire:
        """Open a connection, `check` it, and return a wire over it. Raises `psycopg.OperationalError`."""
        connection = self.open()
        try:
            if check is not None:
                check(connection, self)
            return Wire(
                connection,
                self.statements,
                prepared=prepared,
                only_reads=only_reads,
                longer_by_seconds=self._wanted.longer_by_seconds,
            )
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, MemoryError)):
                raise psycopg.OperationalError(f"this process cannot wait for answers: {reason_of(error)}") from error
            raise

    def unavailable(self, reason: object, *, ambiguous: bool = False, remark: str | None = None) -> Unavailable:
        """Return the error for a database that cannot serve now. It says what to do, if anything."""
        remark = remark or _REMARKS.get(getattr(reason, "sqlstate", None) or "")
        text = self._shown_line(str(reason)) + (f": {remark}" if remark else "")
        return Unavailable(f"{self.name}: {text}", ambiguous=ambiguous)

    def severed(self, reason: str) -> Severed | None:
        """Return the error for a session that was ended because it was idle; else `None`. Logs the cause once."""
        remedy = next((remedy for text, remedy in _IDLENESS.items() if text in reason), None)
        if remedy is None:
            return None
        if (self.identity, remedy) not in _told:
            _told.add((self.identity, remedy))
            logger.warning(
                "%s: sessions that have been idle for a while are ended (%s). tidings reconnects, and nothing is lost; "
                "but meanwhile it hears no wake-ups from other processes. This is logged once. %s",
                self.name,
                reason,
                remedy,
            )
        return Severed(f"{self.name}: {reason}")

    def unfit(self, error: psycopg.Error, remedy: str = "") -> DBOSInitializationError:
        """Return the error for a failure at the start. A `remedy` says what to do about this one."""
        text = self._shown_line(error.diag.message_primary or str(error)).rstrip(".")
        return DBOSInitializationError(f"{self.name}: {text}{remedy or self._advice(error, text)}")

    def _shown_line(self, text: str) -> str:
        return _one_line(self._shown.text(text))

    def _advice(self, error: psycopg.Error, text: str) -> str:
        variable = next(
            (f". {each} in the environment says so: correct it, or unset it" for each in named_in(text)), ""
        )
        return variable or advice(error, text, self._shown.place)


def _socket_of(connection: psycopg.Connection) -> int:
    return connection.pgconn.socket


def _check_schema(schema: str) -> None:
    try:
        size = len(schema.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_SCHEMA_BYTES or "\0" in schema:
        named = repr(schema) if re.fullmatch(r"[\w. -]{0,40}", schema) else f"a text of {len(schema)} characters"
        raise DBOSInitializationError(
            f"{named} cannot name a schema: PostgreSQL takes 1 to {MAX_SCHEMA_BYTES} bytes of UTF-8 without NUL"
        )


def _refuses_options(error: psycopg.Error) -> bool:
    """Tell whether a pooler refuses `options`, or ours. Each kind of pooler has its own message."""
    return any(each in str(error) for each in _REFUSALS_OF_OPTIONS)


def check_server(connection: psycopg.Connection, database: Database) -> None:
    """Raise `DBOSInitializationError` if the server is too old, or its encoding is not UTF8."""
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

# SQLSTATE classes: data exceptions, violated constraints, exceeded limits.
_FAULTS_OF_DATA: Final = ("22", "23", "54")

# SQLSTATE classes that only a change of the program or the schema can fix: features, cardinality, and syntax, names
# and rights.
_FAULTS_OF_OURS: Final = ("0A", "21", "42")

_DUPLICATE_PREPARED_STATEMENT: Final = "42P05"
_INVALID_STATEMENT_NAME: Final = "26000"

# A sequence is exhausted, so no message or workflow gets a number. See `queries/numbers.sql`.
NUMBERS_USED_UP: Final = "2200H"

# `begin read write` on a standby.
_NOT_THERE: Final = "0A000"
_READ_ONLY: Final = "25006"

_NO_RIGHT: Final = "42501"
_CUT_OFF: Final = "57014"  # by the statement timeout, or by an administrator

_RESTORED: Final = "tidings continues when its tables exist again, or when this user may use them again"

# Errors that an operator can fix while tidings waits, although some look like mistakes in our statements.
_REMARKS: Final = {
    _READ_ONLY: "it is read-only, as a standby is; tidings continues when the server at the URL takes writes",
    "3F000": _RESTORED,
    "42P01": _RESTORED,
    _NO_RIGHT: _RESTORED,
}


# Messages that say that a session was ended because it was idle, and what to do about each.
_IDLENESS: Final = {
    "57P05": "A pooler keeps tidings from setting idle_session_timeout = 0. Let the owner of the database run: alter "
    "role ... set idle_session_timeout = 0, for the role in the URL",
    "client_idle_timeout": "Set client_idle_timeout = 0 in PgBouncer's configuration",
}


def classify(error: ServerError, database: Database) -> StoreError | None:
    """Return the store error for `error`; `None` for a mistake in our own statements."""
    if error.sqlstate == _NOT_THERE and error.statement == "begin":
        return database.unavailable(error, remark=_REMARKS[_READ_ONLY])
    if error.sqlstate == NUMBERS_USED_UP:
        return database.unavailable(error)
    if error.sqlstate.startswith(_FAULTS_OF_DATA):
        return DataError(str(error))
    if error.sqlstate.startswith(_FAULTS_OF_OURS) and error.sqlstate not in _REMARKS:
        return None
    unavailable = database.unavailable(error)
    if error.sqlstate == _NO_RIGHT:
        return Forbidden(str(unavailable))
    return TooSlow(str(unavailable)) if error.sqlstate == _CUT_OFF else unavailable


def lost_prepared(error: ServerError) -> bool:
    """Tell whether prepared statements got mixed up: a pooler gives us different sessions over time."""
    return error.sqlstate in (_INVALID_STATEMENT_NAME, _DUPLICATE_PREPARED_STATEMENT)


# What to do about errors while connecting. They have no SQLSTATE, only a text.
_ADVICE_ON_CONNECTING: Final = (
    ("Connection refused", "No server listens there: start PostgreSQL, or put the right host and port into {host}"),
    ("No such file or directory", "No server listens there: start PostgreSQL, or put its host into {host}"),
    ("failed to resolve host", "There is no host of that name: put the right one into {host}"),
    ("could not translate host name", "There is no host of that name: put the right one into {host}"),
    ("timeout expired", "The host does not answer: check its name, and that this machine can reach the server's port"),
    (
        "password authentication failed",
        "Put the right user and password into {user}; percent-encode special characters in them",
    ),
    ("no password supplied", "Put the password into the URL (postgresql://user:password@host/database)"),
    ("no pg_hba.conf entry", "The server does not let this user in from here: its pg_hba.conf must allow it"),
    ("definition of service", "Correct the service in {service}, or define it in the file of services"),
    ("command-line argument", "Correct the 'options' in the URL, as in ?options=-c%20work_mem%3D64MB"),
    ("invalid value for parameter", "Correct the setting in the URL's 'options', or leave it out"),
    ("unrecognized configuration parameter", "Correct the setting in the URL's 'options', or leave it out"),
)
_MISSING: Final = re.compile(r'(database|role) "([^"]*)" does not exist')


def advice(error: psycopg.Error, text: str, place: Callable[[str], str] = lambda _: "the URL") -> str:
    """Return what to do about a failure at the start, if anything.

    Args:
        error: the failure.
        text: its text, without what may not be shown.
        place: tells where a parameter of the connection is given.
    """
    if "unsupported startup parameter" in text:
        return (
            ": take the options out of the URL, or set ignore_startup_parameters = options in PgBouncer's configuration"
        )
    if "unsupported options startup parameter" in text:
        return ": write each setting in the URL's options as -c name=value; PgBouncer accepts nothing else"
    if isinstance(error, psycopg.errors.FeatureNotSupported):
        return ": it is a standby; give the URL of the server that takes writes"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return ": migrate as a user who may create objects there, then grant this user the use of the schema"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return ": another process has been migrating for a long time; launch again when it is done"
    missing = _MISSING.search(text)
    if missing is not None:
        kind, name = missing.groups()
        named, keyword = ("user", "user") if kind == "role" else (kind, "dbname")
        create = "" if name.startswith("<") else f' (create {kind} "{name}")'
        return f". Create it{create}, or put the right {named} into {place(keyword)}"
    places = {keyword: place(keyword) for keyword in ("host", "user", "service")}
    return next((f". {said.format(**places)}" for words, said in _ADVICE_ON_CONNECTING if words in text), "")


def _one_line(text: str) -> str:
    """Return libpq's message in one line, without its guesses at the cause, which are on lines of their own."""
    return " ".join(re.sub(r"\n\t[^\n]*", "", text).split())
