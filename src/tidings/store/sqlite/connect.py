"""Connections to an SQLite file, and what their errors mean to the layers above.

The file is in WAL mode. Every connection of ours has `synchronous=FULL` (a commit is durable when
it returns; group commit makes that affordable), begins its transactions explicitly, and never
checkpoints on its own.

A connection does not survive `os.fork()`: the child must open its own and leave the inherited ones
alone. SQLite's own locks belong to the process, so a child that merely exits harms nothing.
"""

from __future__ import annotations

import functools
import logging
import operator
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from tidings.error import DBOSInitializationError
from tidings.shortage import reason_of
from tidings.store.migrate import REMEDY
from tidings.store.protocol import DataError, StoreError, Unavailable

_log = logging.getLogger("tidings.store")

OLDEST_SQLITE: Final = (3, 35, 0)  # RETURNING

# How long to wait for somebody else's lock inside SQLite. Our own processes queue on the side lock
# and never meet it: this is for other programs that write to the same file.
BUSY_TIMEOUT_MS: Final = 5_000

# How text that is not UTF-8 is read: as text that no JSON is, with its bytes in view. Only for a file where some was
# found, because this takes longer. What one damaged value must not do is to fail all that is read with it.
_LENIENT: Final = operator.methodcaller("decode", "utf-8", "backslashreplace")
_NOT_UTF_8: Final = "Could not decode to UTF-8"
_damaged: set[str] = set()  # the paths of such files

# Pages kept in memory, in KiB. The writer touches the indexes of all running workflows.
CACHE_KIB: Final = 32 * 1024


def connect(path: str, mode: Literal["rw", "rwc"] = "rw") -> sqlite3.Connection:
    """Open `path`; with `rwc` the file is made if there is none. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,  # opened by one thread and used by another; never by two at once
    )
    if path in _damaged:
        connection.text_factory = _LENIENT
    try:
        connection.execute("pragma synchronous = full")
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute(f"pragma cache_size = -{CACHE_KIB}")
        connection.execute("pragma temp_store = memory")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: str) -> sqlite3.Connection:
    """Open `path` for reading only. Raises `sqlite3.Error`."""
    connection = connect(path)
    connection.execute("pragma query_only = on")
    return connection


def use_log(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, where it stays. Called under the side lock: the change waits for nobody.

    Raises:
        sqlite3.Error
    """
    # The answer is a row, and stays "delete" where there can be no log.
    (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"SQLite cannot keep a write-ahead log here (journal mode {mode!r})")


def database_name(path: str) -> str:
    """How errors and the log name the database."""
    return f"SQLite database {path}"


# --- what errors mean ------------------------------------------------------------------------------

_FAULTS_OF_DATA: Final = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}

# What may pass without a change to the program. A damaged file is among them: it may be restored.
_FAULTS_THAT_PASS: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_NOTADB,
}


# What an operator wants to be told of them.
_REMARKS: Final = {
    sqlite3.SQLITE_ERROR: "somebody emptied the file while it was in use; work goes on when its tables are back",
    sqlite3.SQLITE_BUSY: "another program has been writing to it, or has left a change open, for seconds",
    sqlite3.SQLITE_READONLY: "it, or its directory, may not be written to",
    sqlite3.SQLITE_CANTOPEN: "it, or its directory, is not there, or may not be read",
    sqlite3.SQLITE_FULL: "there is no room left on its disk, or it has a limit",
    sqlite3.SQLITE_CORRUPT: "it is damaged; put a good copy in its place",
}


def classify(error: Exception, path: str, *, ambiguous: bool = False) -> StoreError | None:
    """Return what `error` is to the store's caller; `None` for a mistake in our own code.

    The binding of values fails before SQLite sees them: UnicodeEncodeError for a lone surrogate,
    OverflowError for an integer of more than 64 bits.
    """
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return DataError(str(error))
    if isinstance(error, (OSError, MemoryError)):  # of the side lock; SQLITE_NOMEM
        return Unavailable(f"{database_name(path)}: {reason_of(error)}", ambiguous=ambiguous)
    if str(error).startswith(_NOT_UTF_8):
        _damaged.add(path)  # The next connection reads it.
        return Unavailable(f"{database_name(path)}: it holds a damaged value, text that is not UTF-8 ({error!r:.200})")
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in _FAULTS_OF_DATA or isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)):
        return DataError(str(error))
    if primary in _FAULTS_THAT_PASS or str(error).startswith("no such table: tidings_"):
        remark = _REMARKS.get(primary)
        return Unavailable(f"{database_name(path)}: {error}{f': {remark}' if remark else ''}", ambiguous=ambiguous)
    return None


@contextmanager
def classified(path: str, *, ambiguous: bool = False) -> Iterator[None]:
    """Turn what is raised inside into the store's own errors."""
    try:
        yield
    except (sqlite3.Error, OSError, MemoryError, UnicodeEncodeError, OverflowError) as error:
        meant = classify(error, path, ambiguous=ambiguous)
        if meant is None:
            raise
        raise meant from error


@contextmanager
def unfit(path: str) -> Iterator[None]:
    """Turn what is raised inside, while starting, into an error that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, MemoryError) as error:
        raise DBOSInitializationError(f"{database_name(path)}: {_advice(error, path)}") from error


def _advice(error: Exception, path: str) -> str:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    directory = Path(path).parent
    if not directory.is_dir():
        return f"there is no directory {directory}: create it first"
    if Path(path).is_dir():
        return "this is a directory: name a file in it"
    if primary == sqlite3.SQLITE_NOTADB:
        return "this file is not an SQLite database: name another one, or a new one"
    if primary == sqlite3.SQLITE_CANTOPEN and not Path(path).exists():
        return f"there is no such file ({error}): {REMEDY}"
    if str(error).startswith("malformed database schema"):
        return (
            f"this Python's SQLite cannot read the tables in it ({error}): the file was made by a newer SQLite than "
            f"{sqlite3.sqlite_version}, so use a Python that carries a newer one; or the file is damaged"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or isinstance(error, PermissionError):
        return f"this user may not write to it ({error}): the file and its directory must be writable"
    return reason_of(error)


# --- which SQLite this is ----------------------------------------------------------------------------


def check_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise `DBOSInitializationError` where Python carries an SQLite that is too old."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        raise DBOSInitializationError(
            f"this Python carries SQLite {have}, and tidings needs {need}: use another Python, or PostgreSQL"
        )


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite can corrupt a file when a checkpoint races with a commit."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return version >= (3, 7, 0) and not fixed


@functools.cache
def warn_of_wal_reset_bug() -> None:
    """Say once per process what this SQLite asks of the application's own connections."""
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        _log.warning(
            "SQLite %s has the WAL-reset bug. tidings guards its own connections; if your program opens the same file "
            "itself, let it execute 'PRAGMA wal_autocheckpoint=0'",
            sqlite3.sqlite_version,
        )
