"""A connection that runs statements in pipelines: all are sent before the first answer is awaited.

This speaks to libpq, which psycopg opens to its users as `psycopg.pq`. A batch is four to ten small
statements; psycopg's own pipeline takes about 0.4 ms of Python for four of them, this one 0.07 ms,
and under a busy interpreter that decides the speed of a lonely workflow. It also prepares
statements without ever dropping them, as psycopg does at every rollback. A rollback itself is not
prepared: it must succeed where prepared statements get mixed up.

Invariant: between two calls of `run` the connection is idle or in a transaction that the caller
began, or it is closed. Whatever goes wrong in the middle closes it, and then the server rolls back.
Wait only in `_wait`: it is the only place that lets go of the interpreter.
"""

from __future__ import annotations

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
from tidings.store.postgres.statements import Call, Statement, Statements, Value
from tidings.store.rows import Row

# How answers come. In text an array is quoted and searched for quotes, character by character: a page of
# a stream would take twice as long.
_BINARY: Final = pq.Format.BINARY

# The part of the server that lets a commit wait for synchronous standbys. Where that wait is cancelled it warns, and
# then the server reports the commit as done, though it may be on no standby. The text is in the server's language.
_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"


class ServerError(Exception):
    """The server refused a statement, and the transaction it was in is rolled back."""

    def __init__(self, sqlstate: str, message: str, constraint: str = "") -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate
        self.constraint = constraint


class Lost(Exception):
    """The connection is gone."""


class Wire:
    """One connection to the server. Used by one thread at a time.

    Args:
        connection: open, in autocommit mode, and used by nobody else.
        statements: what can be run.
        prepared: whether to keep statements prepared on the server.

    Attributes:
        server: the host and the port of the server.
    """

    def __init__(self, connection: psycopg.Connection, statements: Statements, *, prepared: bool = True) -> None:
        self._connection = connection
        self._pq = connection.pgconn
        self._statements = statements
        self._keep_prepared = prepared
        self._prepared: set[str] = set()
        self.server = server_of(connection)
        self._unconfirmed: str | None = None  # what the server said of a commit that no standby confirmed
        connection.add_notice_handler(self._heed)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pq.socket, selectors.EVENT_READ)

    def run(self, calls: Sequence[Call]) -> dict[str, list[Row]]:
        """Run `calls` in one round trip and return the rows of each, by its name.

        Without `begin` before them they are one transaction. When one fails, those after it are
        skipped, and a transaction that is open is rolled back.

        Raises:
            ServerError
            Lost: also where a commit stopped waiting for its standby. What it has is in doubt: a failover may lose it.
            UnicodeEncodeError: before anything was sent.
        """
        if self._connection.closed:
            raise Lost("the connection is closed")
        messages = [self._message(call) for call in calls]
        try:
            answers, error = self._exchange(messages, prepared=self._keep_prepared)
            if error is not None:
                self._end_transaction()
        except (psycopg.Error, OSError, MemoryError) as lost:  # Libpq, or this process, may be out of memory.
            self.close()
            raise Lost(reason_of(lost)) from lost
        except BaseException:
            self.close()
            raise
        if error is not None:
            raise error
        if self._unconfirmed is not None:
            self.close()
            raise Lost(self._unconfirmed)
        return answers

    def rollback(self) -> None:
        """Roll back the transaction the caller began; harmless where there is none."""
        if not self._connection.closed:
            try:
                self._end_transaction()
            except (psycopg.Error, OSError, MemoryError):  # With the connection the server loses the transaction.
                self.close()
            except BaseException:
                self.close()
                raise

    def stop_preparing(self) -> None:
        """Keep no statements prepared on the server from now on."""
        self._keep_prepared = False

    @property
    def keeps_prepared(self) -> bool:
        """Whether statements are kept prepared on the server."""
        return self._keep_prepared

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, sound or failed."""
        return self._pq.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    @property
    def backend_pid(self) -> int:
        """The number of the server's process at the other end."""
        return self._pq.backend_pid

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        self._selector.close()
        self._connection.close()

    # --- one round trip -----------------------------------------------------------------------------

    def _message(self, call: Call) -> tuple[Statement, list[bytes | None], list[int]]:
        statement = self._statements[call.name]
        values = [call.values[name] for name in statement.parameters]
        # Text goes as it is, in the binary format: the other one ends at a NUL, which would make it another text.
        formats = [int(isinstance(value, (Array, str))) for value in values]
        return statement, [_encode(value) for value in values], formats

    def _end_transaction(self) -> None:
        if self.in_transaction:
            _, error = self._exchange([self._message(Call("rollback"))], prepared=False)
            if error is not None:
                raise psycopg.OperationalError(f"a rollback failed: {error}")

    def _exchange(
        self, messages: Sequence[tuple[Statement, list[bytes | None], list[int]]], *, prepared: bool
    ) -> tuple[dict[str, list[Row]], ServerError | None]:
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
        error: ServerError | None = None
        for statement, _, _ in messages:
            if newly and statement.name == newly[0]:
                del newly[0]
                preparation = self._result()
                error = error or _error(preparation)
                if preparation.status == pq.ExecStatus.COMMAND_OK:
                    self._prepared.add(statement.name)
            result = self._result()
            error = error or _error(result)
            if result.status == pq.ExecStatus.TUPLES_OK:
                answers[statement.name] = self._rows(result)
        self._next()  # the mark at the end of the pipeline
        self._pq.exit_pipeline_mode()
        while self._pq.notifies() is not None:
            pass  # A pooler may have given us a session that listens, and libpq keeps what nobody takes.
        return answers, error

    def _flush(self) -> None:
        """Send all that is queued. Reads meanwhile: the server may not read on before we do."""
        while self._pq.flush():
            self._selector.modify(self._pq.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            try:
                if self._wait() & selectors.EVENT_READ:
                    self._pq.consume_input()
            finally:
                self._selector.modify(self._pq.socket, selectors.EVENT_READ)

    def _result(self) -> pq.abc.PGresult:
        """The next statement's one result."""
        result = self._next()
        if result is None:
            raise psycopg.OperationalError("the server gave no answer")
        while self._next() is not None:
            pass
        return result

    def _next(self) -> pq.abc.PGresult | None:
        while self._pq.is_busy():
            self._wait()
            self._pq.consume_input()
        return self._pq.get_result()

    def _wait(self) -> int:
        """Wait for the socket, without the interpreter's lock, and return what it is ready for."""
        for _, ready in self._selector.select(patience.ANSWER_TIMEOUT_SECONDS):
            return ready
        raise psycopg.OperationalError(f"the server gave no answer for {patience.ANSWER_TIMEOUT_SECONDS:.0f} s")

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAITS_FOR_STANDBYS:
            self._unconfirmed = notice.message_primary

    def _rows(self, result: pq.abc.PGresult) -> list[Row]:
        transformer = Transformer(self._connection)
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


def _error(result: pq.abc.PGresult) -> ServerError | None:
    if result.status != pq.ExecStatus.FATAL_ERROR:
        return None
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000"
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no message"
    constraint = result.error_field(pq.DiagnosticField.CONSTRAINT_NAME) or b""
    return ServerError(state.decode(), message.decode(errors="replace"), constraint.decode(errors="replace"))
