"""Connections to an SQLite file, and what their errors mean to the layers above.

The file is in WAL mode. Each of our connections uses `synchronous=FULL`: a commit is durable when it returns, and group
commit makes that affordable. It begins its transactions explicitly and never checkpoints by itself. All settings that
we depend on are made explicitly, because builds of SQLite have different defaults.

A connection does not survive `os.fork()`: the child must open its own and not use the inherited ones. SQLite's locks
belong to the process, so a child that only exits does no harm.
"""

from __future__ import annotations

import logging
import operator
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from tidings.error import DBOSInitializationError
from tidings.shortage import reason_of
from tidings.store.protocol import DataError, StoreError, Unavailable
from tidings.store.sqlite.place import advice, database_name, shown

_log = logging.getLogger("tidings.store")

OLDEST_SQLITE: Final = (3, 35, 0)  # the first with RETURNING

# How long SQLite itself waits for a lock. Our own processes queue on the side lock and never wait here; this is for
# other programs that write to the same file.
BUSY_TIMEOUT_MS: Final = 5_000

# How to read text that is not UTF-8: as text that is no valid JSON and shows the bytes. This is slower, so it is used
# only for files where such text was found. One damaged value must not make everything fail that is read with it.
_LENIENT: Final = operator.methodcaller("decode", "utf-8", "backslashreplace")
_NOT_UTF_8: Final = "Could not decode to UTF-8"
_damaged: set[str] = set()  # the paths of such files

# Size of the page cache, in KiB. The writer uses the indexes of all running workflows.
CACHE_KIB: Final = 32 * 1024


# Set on each connection, whatever the defaults of this SQLite build are.
_PINNED: Final = {
    # Our guarantees depend on these.
    "synchronous": "full",
    "locking_mode": "normal",  # not `exclusive`: other processes use the file
    "wal_autocheckpoint": "0",
    "query_only": "off",
    "read_uncommitted": "off",
    "ignore_check_constraints": "off",
    # A trigger removes the rows that belong to a workflow; no foreign key is declared.
    "foreign_keys": "off",
    "recursive_triggers": "off",
    # Migrations depend on what this makes of renaming a table.
    "legacy_alter_table": "off",
    # A truncated file must cause an error, and not crash the process.
    "mmap_size": "0",
    # No temporary directory is needed, wherever TMPDIR points.
    "temp_store": "memory",
    "cache_size": f"-{CACHE_KIB}",
    "automatic_index": "on",
    # For a file that is created now; for an existing one see `schema.check`.
    "encoding": "'UTF-8'",
}


def connect(path: str, mode: Literal["rw", "rwc"] = "rw") -> sqlite3.Connection:
    """Open `path`; with `rwc` a missing file is created. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}&cache=private",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,  # one thread opens it and another uses it; never two at once
    )
    if path in _damaged:
        connection.text_factory = _LENIENT
    try:
        for name, value in _PINNED.items():
            connection.execute(f"pragma {name} = {value}")
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
    """Put the file into WAL mode, which is permanent. Called under the side lock: the change waits for no other lock.

    Raises:
        sqlite3.Error
    """
    # The answer is a row; it stays "delete" if a log is not possible here.
    (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"SQLite cannot keep a write-ahead log here (journal mode {mode!r})")


# --- what errors mean ------------------------------------------------------------------------------

_FAULTS_OF_DATA: Final = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}

# Errors that may pass without a change to the program. Even a damaged file may be restored.
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


# What an operator can do about them.
_REMARKS: Final = {
    sqlite3.SQLITE_ERROR: "somebody emptied the file while it was in use; tidings continues when its tables are back",
    sqlite3.SQLITE_BUSY: "another program has been writing to it, or has left a transaction open, for seconds",
    sqlite3.SQLITE_READONLY: "the file, or its directory, is not writable",
    sqlite3.SQLITE_CANTOPEN: "the file, or its directory, is missing or not readable",
    sqlite3.SQLITE_FULL: "its disk is full, or a limit on its size is reached",
    sqlite3.SQLITE_CORRUPT: "it is damaged; put a good copy in its place",
}


def classify(error: Exception, path: str, *, ambiguous: bool = False) -> StoreError | None:
    """Return the store error for `error`; `None` for a mistake in our own code.

    Binding a value may fail before SQLite sees it: UnicodeEncodeError for a lone surrogate, OverflowError for an
    integer of more than 64 bits.
    """
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return DataError(str(error))
    if isinstance(error, (OSError, MemoryError)):  # from the side lock; and SQLITE_NOMEM
        return Unavailable(f"{database_name(path)}: {shown(reason_of(error))}", ambiguous=ambiguous)
    if str(error).startswith(_NOT_UTF_8):
        _damaged.add(path)  # The next connection can read it.
        return Unavailable(f"{database_name(path)}: it holds a damaged value: text that is not UTF-8 ({error!r:.200})")
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in _FAULTS_OF_DATA or isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)):
        return DataError(str(error))
    if primary in _FAULTS_THAT_PASS or str(error).startswith("no such table: tidings_"):
        remark = _REMARKS.get(primary)
        return Unavailable(f"{database_name(path)}: {error}{f': {remark}' if remark else ''}", ambiguous=ambiguous)
    return None


@contextmanager
def classified(path: str, *, ambiguous: bool = False) -> Iterator[None]:
    """Turn errors raised inside into the store's own errors."""
    try:
        yield
    except (sqlite3.Error, OSError, MemoryError, UnicodeEncodeError, OverflowError) as error:
        meant = classify(error, path, ambiguous=ambiguous)
        if meant is None:
            raise
        raise meant from error


@contextmanager
def unfit(path: str) -> Iterator[None]:
    """Turn errors raised inside, during the start, into an error that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, MemoryError) as error:
        raise DBOSInitializationError(f"{database_name(path)}: {advice(error, path)}") from error


# --- which SQLite this is ----------------------------------------------------------------------------


def check_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise `DBOSInitializationError` if Python's SQLite is too old."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        raise DBOSInitializationError(
            f"this Python has SQLite {have}, and tidings needs {need}: use another Python, or PostgreSQL"
        )
