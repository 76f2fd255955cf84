"""A connection that runs statements in pipelines: all are sent before the first answer is awaited.

It uses libpq directly, which psycopg offers as `psycopg.pq`. A batch is four to ten small statements. For four of them
psycopg's own pipeline takes about 0.4 ms of Python, this one 0.07 ms. While the interpreter is busy, that determines
the speed of a single workflow. It also prepares statements and never drops them; psycopg drops them at every rollback.
A rollback itself is not prepared: it must succeed when prepared statements are mixed up.

Invariant: between two calls of `run` the connection is idle, or in a transaction that the caller began, or closed. Any
failure in between closes it, and then the server rolls back.
All waiting happens in `_wait`: only that releases the interpreter's lock.
"""

from __future__ import annotations

import math
import selectors
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from tidings.shortage import reason_of
from tidings.store.postgres import patience
from tidings.store.postgres.arrays import Array
from tidings.store.postgres.servers import server_of
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.statements import Statement, StatementCall, Statements, Value
from tidings.store.rows import Row

# The format of answers. In the text format arrays are quoted, and every character must be checked: reading a page of a
# stream would take twice as long.
_BINARY: Final = pq.Format.BINARY

# The server's function in which a commit waits for synchronous standbys. If that wait is cancelled, the server warns
# and then reports the commit as done, though perhaps no standby has it. The warning's text is in the server's language,
# so we look at the function's name.
_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"


# Severities of an error that ends the session.
_FATAL: Final = (b"FATAL", b"PANIC")


class ServerError(Exception):
    """The server refused a statement, named here, and rolled back its transaction."""

    def __init__(
        self, sqlstate: str, message: str, constraint: str = "", statement: str = "", *, is_fatal: bool = False
    ) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.statement = statement
        self.is_fatal = is_fatal  # It ended the session.


class Lost(Exception):
    """The connection is lost.

    Attributes:
        ended_by: the error with which the server, or a pooler, answered the first statement; so none has run.
    """

    def __init__(self, reason: str, ended_by: ServerError | None = None) -> None:
        super().__init__(reason)
        self.ended_by = ended_by


class Wire:
    """One connection to the server. Used by one thread at a time.

    Args:
        connection: open, in autocommit mode, and not shared. Each transaction begins with its `pin`, if any.
        statements: all statements, by name.
        prepared: whether to keep statements prepared on the server.
        only_reads: whether it must also work on a standby.
        longer_by_seconds: how much more time than usual a statement may take; `inf` for any time.

    Attributes:
        server: the host and the port of the server.
    """

    def __init__(
        self,
        connection: Session,
        statements: Statements,
        *,
        prepared: bool = True,
        only_reads: bool = False,
        longer_by_seconds: float = 0.0,
    ) -> None:
        self._connection = connection
        self._pin = connection.pin
        self._pq = connection.pgconn
        self._statements = statements
        self._keep_prepared = prepared
        self._begin = StatementCall("begin_reading" if only_reads else "begin")
        self._prepared: set[str] = set()
        self._longer_by_seconds = longer_by_seconds
        self.server = server_of(connection)
        self._refusal: ServerError | None = None  # the server's first error for the last calls sent
        self._farewell: ServerError | None = None  # the error that ended the session while no call was running
        self._unconfirmed: str | None = None  # the server's warning about a commit that no standby confirmed
        connection.add_notice_handler(self._heed)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pq.socket, selectors.EVENT_READ)

    def run(self, calls: Sequence[StatementCall]) -> dict[str, list[Row]]:
        """Run `calls` in one round trip and return the rows of each, by the call's name.

        Without `begin` at their start they are one transaction. When one fails, the calls after it are skipped, and an
        open transaction is rolled back.

        Raises:
            ServerError
            Lost: also if a commit stopped waiting for its standby. Then the batch is in doubt: a failover may lose it.
            UnicodeEncodeError: raised before anything is sent.
        """
        if self._connection.closed:
            raise Lost(str(self._farewell or "the connection is closed"), self._farewell)
        messages = [self._message(call) for call in self._pinned(calls)]
        try:
            answers = self._exchange(messages, prepared=self._keep_prepared)
            refusal = self._refusal
            if refusal is not None:
                self._end_transaction()
        except (psycopg.Error, OSError, MemoryError) as lost:  # Also if libpq or this process is out of memory.
            self.close()
            raise self._lost(lost, messages[0][0].name) from lost
        except BaseException:
            self.close()
            raise
        if refusal is not None:
            raise refusal
        if self._unconfirmed is not None:
            self.close()
            raise Lost(self._unconfirmed)
        return answers

    def _lost(self, error: psycopg.Error | OSError | MemoryError, first_statement: str) -> Lost:
        """Return why the connection is lost: what the server said before it closed it, if anything."""
        said = self._refusal
        if said is None and self._farewell is not None:
            return Lost(str(self._farewell), self._farewell)
        if said is None or not said.is_fatal:
            return Lost(reason_of(error))
        return Lost(str(said), said if said.statement == first_statement else None)

    def rollback(self) -> None:
        """Roll back the transaction that the caller began; harmless if there is none."""
        if not self._connection.closed:
            try:
                self._end_transaction()
            except (psycopg.Error, OSError, MemoryError):  # Closing the connection ends the transaction as well.
                self.close()
            except BaseException:
                self.close()
                raise

    def stop_preparing(self) -> None:
        """From now on keep no statements prepared on the server."""
        self._keep_prepared = False

    @property
    def keeps_prepared(self) -> bool:
        """Whether statements are kept prepared on the server."""
        return self._keep_prepared

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, failed or not."""
        return self._pq.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    @property
    def backend_pid(self) -> int:
        """The process id of the server's backend for this connection."""
        return self._pq.backend_pid

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        self._selector.close()
        self._connection.close()

    # --- one round trip -----------------------------------------------------------------------------

    def _pinned(self, calls: Sequence[StatementCall]) -> Sequence[StatementCall]:
        """Put the settings after each `begin`; calls without a `begin` get one for that, if there are settings."""
        if self._pin is None or self.in_transaction:
            return calls
        if calls[0].name == "begin":
            return [calls[0], self._pin, *calls[1:]]
        return [self._begin, self._pin, *calls, StatementCall("commit")]

    def _message(self, call: StatementCall) -> tuple[Statement, list[bytes | None], list[int]]:
        statement = self._statements[call.name]
        values = [call.values[name] for name in statement.parameters]
        # Text is sent in the binary format: in the text format it would end at a NUL.
        formats = [int(isinstance(value, (Array, str))) for value in values]
        return statement, [_encode(value) for value in values], formats

    def _end_transaction(self) -> None:
        if self._refusal is not None and self._refusal.is_fatal:
            raise psycopg.OperationalError("the session has ended")
        if self.in_transaction:
            self._exchange([self._message(StatementCall("rollback"))], prepared=False)
            if self._refusal is not None:
                raise psycopg.OperationalError(f"a rollback failed: {self._refusal}")

    def _exchange(
        self, messages: Sequence[tuple[Statement, list[bytes | None], list[int]]], *, prepared: bool
    ) -> dict[str, list[Row]]:
        """Send all calls and return the answers; note the first error."""
        self._refusal = None
        self._pq.enter_pipeline_mode()
        newly: list[str] = []
        for statement, values, formats in messages:
            if not prepared:
                self._pq.send_query_params(statement.sql, values, param_formats=formats, result_format=_BINARY)
                continue
            if statement.name not in self._prepared and statement.name not in newly:
                self._pq.send_prepare(statement.key, statement.sql)
                newly.append(statement.name)
            self._pq.send_query_prepared(statement.key, values, formats, _BINARY)
        self._pq.pipeline_sync()
        self._flush()

        answers: dict[str, list[Row]] = {}
        for statement, _, _ in messages:
            if newly and statement.name == newly[0]:
                del newly[0]
                preparation = self._result()
                self._refusal = self._refusal or _error(preparation, statement.name)
                if preparation.status == pq.ExecStatus.COMMAND_OK:
                    self._prepared.add(statement.name)
            result = self._result()
            self._refusal = self._refusal or _error(result, statement.name)
            if result.status == pq.ExecStatus.TUPLES_OK:
                answers[statement.name] = self._rows(result)
        self._next()  # the mark at the end of the pipeline
        self._pq.exit_pipeline_mode()
        while self._pq.notifies() is not None:
            pass  # A pooler may give us a session that listens; libpq would keep all its notifications.
        return answers

    def _flush(self) -> None:
        """Send all queued data. Reads at the same time, because the server may not read on until we do."""
        while self._pq.flush():
            self._selector.modify(self._pq.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            try:
                if self._wait() & selectors.EVENT_READ and not self._consume():
                    return
            finally:
                self._selector.modify(self._pq.socket, selectors.EVENT_READ)

    def _result(self) -> pq.abc.PGresult:
        """Return the one result of the next statement."""
        result = self._next()
        if result is None:
            raise psycopg.OperationalError("the server gave no answer")
        while self._next() is not None:
            pass
        return result

    def _next(self) -> pq.abc.PGresult | None:
        while self._pq.is_busy():
            self._wait()
            if not self._consume() and self._pq.is_busy():
                raise psycopg.OperationalError("the server closed the connection")
        return self._pq.get_result()

    def _consume(self) -> bool:
        """Read what has arrived. Returns False if the connection ended; the server's last message may be in it."""
        try:
            self._pq.consume_input()
        except psycopg.OperationalError:
            return False
        return True

    def _wait(self) -> int:
        """Wait for the socket without the interpreter's lock, and return what it is ready for."""
        seconds = patience.ANSWER_TIMEOUT_SECONDS + self._longer_by_seconds
        for _, ready in self._selector.select(seconds if math.isfinite(seconds) else None):
            return ready
        raise psycopg.OperationalError(f"the server gave no answer for {seconds:.0f} s")

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        if (notice.severity_nonlocalized or notice.severity or "").encode() in _FATAL:
            # It arrived with the last answer, or before any call: then libpq treats it as a notice.
            self._farewell = ServerError(notice.sqlstate or "XX000", notice.message_primary or "", is_fatal=True)
        if notice.source_function == _WAITS_FOR_STANDBYS:
            self._unconfirmed = notice.message_primary

    def _rows(self, result: pq.abc.PGresult) -> list[Row]:
        transformer = Transformer()  # Without a connection it decodes UTF-8, whatever a pooler's session reports.
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)


def _encode(value: Value) -> bytes | None:
    match value:
        case None | Array():
            return value
        case str():
            return value.encode()
        case int():
            return b"%d" % value


def _error(result: pq.abc.PGresult, statement: str) -> ServerError | None:
    """Return the error with which the server, or a pooler, refused a statement; `None` if it did not.

    Raises:
        psycopg.OperationalError: libpq reports that the connection is lost; no server answered.
    """
    if result.status != pq.ExecStatus.FATAL_ERROR:
        return None
    field = pq.DiagnosticField
    state = result.error_field(field.SQLSTATE)
    if state is None:
        reason, *_ = result.error_message.decode(errors="replace").splitlines() or ["no answer came"]
        raise psycopg.OperationalError(reason)
    message = result.error_field(field.MESSAGE_PRIMARY) or b"no message"
    constraint = result.error_field(field.CONSTRAINT_NAME) or b""
    severity = result.error_field(field.SEVERITY_NONLOCALIZED) or result.error_field(field.SEVERITY)
    return ServerError(
        state.decode(),
        message.decode(errors="replace"),
        constraint.decode(errors="replace"),
        statement,
        is_fatal=severity in _FATAL,
    )
