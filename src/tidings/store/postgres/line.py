"""One line of a store to its database: a wire that is replaced when it breaks, and the meaning of its errors.

A store has two lines, one for writing and one for reading. Each is used by one thread at a time. The errors of a call
become those of `store.protocol`, or one of the errors below, which only the committing of batches knows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import psycopg

from tidings.store.postgres.connect import (
    FENCE_MOVED,
    LEFTOVERS_FOUND,
    MESSAGE_GONE,
    MESSAGES_PKEY,
    NUMBERS_USED_UP,
    UNIQUE_VIOLATION,
    UNIT_REFUSED,
    Database,
    classify,
    lost_prepared,
)
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.statements import StatementCall
from tidings.store.postgres.wire import Lost, ServerError, Wire
from tidings.store.protocol import DataError, Fenced
from tidings.store.rows import Row

logger = logging.getLogger("tidings")

BEGIN: Final = StatementCall("begin")
COMMIT: Final = StatementCall("commit")

Answers = Mapping[str, list[Row]]
Check = Callable[[Session, Database], None]

# The databases whose pooler mixes up prepared statements, by their stores' identity. This process no longer prepares
# statements there. So later stores of a database need not detect the pooler again, and the log says it once.
_unprepared: set[str] = set()
_unprepared_lock: Final = threading.Lock()


class UnitRefused(Exception):
    """Some unit of the batch does not apply. The transaction is rolled back."""


class NumberTaken(Exception):
    """The sequence of messages gave a number that is in use. The transaction is rolled back."""


class LeftoversFound(Exception):
    """A new workflow's id has rows of an earlier workflow. The transaction is rolled back."""


class MixedUp(Exception):
    """Prepared statements got mixed up within a transaction. It is rolled back; nothing is prepared from now on."""


class Line:
    """Runs calls on one wire, and opens that wire.

    Attributes:
        wire: the open wire, or `None`.
    """

    def __init__(self, database: Database, *, only_reads: bool = False) -> None:
        """Prepare a line. Nothing is opened yet."""
        self._database = database
        self._only_reads = only_reads
        self.wire: Wire | None = None

    def open(self, check: Check | None = None) -> None:
        """Open the wire, and `check` its session. Raises `psycopg.Error`."""
        prepared = self._database.identity not in _unprepared
        self.wire = self._database.wire(prepared=prepared, check=check, only_reads=self._only_reads)

    def close(self) -> None:
        """Close the wire, if there is one."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.close()

    def reopen(self) -> None:
        """Replace the wire. Raises `Unavailable` if that fails."""
        self.close()
        try:
            self.open()
        except psycopg.Error as error:
            raise self._database.unavailable(error) from error

    def run(self, calls: Sequence[StatementCall]) -> Answers:
        """Run `calls` in one round trip, and raise what their errors mean to the store's caller.

        Raises:
            Severed: the other end closed the session while it was idle. The next calls need another wire.
            MixedUp: in a transaction; its earlier calls must be run again too.
            Unavailable, Fenced, DataError, UnitRefused, NumberTaken, LeftoversFound
        """
        wire = self.wire
        if wire is None:
            raise self._database.unavailable("there is no connection")
        if wire.server != self._database.servers.current:
            wire.close()
            raise self._database.unavailable(
                "a newer connection leads to another of its servers, so this connection is closed; tidings reconnects"
            )
        try:
            return self._run_prepared_or_not(wire, calls)
        except Lost as lost:
            if lost.ended_by is not None and lost_prepared(lost.ended_by):
                self._stop_preparing(lost.ended_by)  # With `exit_on_error`, an error ends the session.
            elif lost.ended_by is not None and (severed := self._database.severed(str(lost.ended_by))) is not None:
                raise severed from lost
            raise self._database.unavailable(lost, ambiguous=COMMIT in calls) from lost
        except ServerError as error:
            if error.sqlstate == FENCE_MOVED:
                raise Fenced("the fence of this executor has moved") from error
            if error.sqlstate == UNIT_REFUSED:
                raise UnitRefused from error
            if error.sqlstate == NUMBERS_USED_UP or (
                error.sqlstate == UNIQUE_VIOLATION and error.constraint == MESSAGES_PKEY
            ):
                raise NumberTaken from error
            if error.sqlstate == LEFTOVERS_FOUND:
                raise LeftoversFound from error
            if error.sqlstate == MESSAGE_GONE:
                raise DataError("a message that was seen before can no longer be taken") from error
            meaning = classify(error, self._database)
            if meaning is None:
                raise
            raise meaning from error

    def _run_prepared_or_not(self, wire: Wire, calls: Sequence[StatementCall]) -> Answers:
        """Run `calls`; if prepared statements got mixed up, run them again unprepared. A failed call wrote nothing.

        Raises:
            MixedUp: this happened within a transaction; its earlier calls must be run again too.
        """
        if self._database.identity in _unprepared:
            wire.stop_preparing()
        within = wire.in_transaction
        try:
            return wire.run(calls)
        except ServerError as error:
            if not (wire.keeps_prepared and lost_prepared(error)):
                raise
            self._stop_preparing(error)
            wire.stop_preparing()
            if within:
                raise MixedUp from error
        return wire.run(calls)

    def _stop_preparing(self, error: ServerError) -> None:
        with _unprepared_lock:
            is_known = self._database.identity in _unprepared
            _unprepared.add(self._database.identity)
        if not is_known:
            logger.warning(
                "%s: a pooler in transaction mode, such as PgBouncer, mixes prepared statements up (%s). From now on "
                "tidings does not prepare statements, which is slower. To avoid this, use PgBouncer 1.21 or newer and "
                "set max_prepared_statements",
                self._database.name,
                error,
            )


def only(found: Sequence[Row]) -> Row | None:
    """Return the one row that was found, or `None`."""
    return found[0] if found else None
