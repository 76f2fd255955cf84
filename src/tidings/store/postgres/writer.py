"""The writing line of the store: single calls, transactions, and sequences that are ahead of their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from tidings.store.postgres import numbers
from tidings.store.postgres.arrays import texts
from tidings.store.postgres.line import BEGIN, Answers, Line, MixedUp
from tidings.store.postgres.statements import StatementCall
from tidings.store.protocol import Severed

P = ParamSpec("P")
T = TypeVar("T")


def again_if_mixed_up(transact: Callable[P, T]) -> Callable[P, T]:
    """Let a method run its one transaction again, unprepared, if prepared statements got mixed up.

    The first try wrote nothing: it failed before its commit, and the server rolled it back.
    """

    @wraps(transact)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return transact(*args, **kwargs)
        except MixedUp:
            return transact(*args, **kwargs)

    return again


class Writer(Line):
    """A store's one writing line. Used by one thread at a time."""

    def reopen(self) -> None:
        """Replace the wire. It may lead to a server to which rows were copied, but not sequences."""
        super().reopen()
        self.put_numbers_right()

    def write(self, *calls: StatementCall) -> Answers:
        """Run calls. If the session was ended because it was idle, they are run in another one."""
        in_transaction = self.wire is not None and self.wire.in_transaction
        try:
            return self.run(calls)
        except Severed:
            if in_transaction:
                raise  # Earlier calls of the same transaction are lost with the session.
            self.reopen()
            return self.run(calls)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin a transaction that the body commits; if the body does not, it is rolled back."""
        self.write(BEGIN)
        wire = self.wire
        assert wire is not None
        try:
            yield
        finally:
            wire.rollback()

    def lock_executors(self, executor_ids: Sequence[str]) -> dict[str, int]:
        """Lock the rows of executors, in a transaction. Returns their fences."""
        found = self.write(StatementCall("lock_executors", {"executor_ids": texts(executor_ids)}))["lock_executors"]
        return {executor_id: fence for executor_id, fence, _ in found}

    @again_if_mixed_up
    def put_numbers_right(self) -> None:
        """Set the sequences ahead of the numbers in their tables."""
        numbers.put_right(self._database, self.write, self.transaction)
