"""Keeps each sequence ahead of the numbers in its table: see `queries/numbers.sql`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

from tidings.store.postgres.connect import Database
from tidings.store.postgres.statements import StatementCall, Value, in_schema
from tidings.store.protocol import Forbidden
from tidings.store.rows import Row

logger = logging.getLogger("tidings")

_FAR: Final = 2**62  # tidings never reaches this number
_MOST_DRAWN: Final = 1_000_000  # numbers drawn at once: takes less than a second


class Writing(Protocol):
    """Runs statements in one round trip."""

    def __call__(self, *calls: StatementCall) -> Mapping[str, list[Row]]: ...


Transaction = Callable[[], AbstractContextManager[None]]


def put_right(database: Database, write: Writing, transaction: Transaction) -> None:
    """Set all sequences ahead of their tables. If this user may not set one, log what to do.

    Called for each new writing connection, because it may lead to another server, and when a drawn number is in use.

    Raises:
        Unavailable: the database cannot be asked now.
    """
    try:
        amiss = write(StatementCall("numbers_amiss", {"schema": database.schema}))["numbers_amiss"]
    except Forbidden as error:
        logger.warning("cannot check whether the sequences are ahead of their tables: %s", error)
        return
    for sequence, highest, last, is_sound in amiss:
        what = f"sequence {sequence} gave {last}, and {_table(sequence)} has numbers up to {highest}"
        if not is_sound:
            what += "; it must count from 1, by ones, without end and without a cache, and does not"
        try:
            _set(database, sequence, last, is_sound, write, transaction)
        except Forbidden as error:
            count = min(highest - last, _MOST_DRAWN) if last < highest < _FAR and is_sound else 0
            write(StatementCall(f"draw_{sequence}", {"count": count}))
            if count and count == highest - last:
                logger.warning("%s: %s; the missing numbers were drawn, so the sequence is ahead", database.name, what)
            else:
                logger.error(
                    "%s: %s, and this user may not set it (%s). Until it is set, messages may be received in the wrong "
                    "order, or wait to be sent. Let the sequence's owner launch tidings once, or run: %s",
                    database.name,
                    what,
                    error,
                    _remedy(database, sequence, is_sound),
                )
        else:
            logger.warning(
                "%s: %s; the sequence is ahead again. The cause may be a restore or a switch of servers without "
                "sequences, a changed sequence, or rows inserted by hand",
                database.name,
                what,
            )


def _set(
    database: Database, sequence: str, last: int, is_sound: bool, write: Writing, transaction: Transaction
) -> None:
    table = _table(sequence)
    lock = "lock_messages" if table == "messages" else "lock_starts"
    define = () if is_sound else (StatementCall(f"define_{sequence}"),)
    values: dict[str, Value] = {"schema": database.schema, "last": last if 0 < last < _FAR else 0}
    with transaction():
        write(
            StatementCall(lock),
            *define,
            StatementCall(f"set_{sequence}", values),
            StatementCall(f"renumber_{table}"),
            StatementCall("commit"),
        )


def _remedy(database: Database, sequence: str, is_sound: bool) -> str:
    """Return the statements that a sequence's owner may run to repair it."""
    define = "" if is_sound else " ".join(database.statements[f"define_{sequence}"].sql.decode().split()) + "; "
    set_it = f"select setval('{{schema}}.{sequence}', (select max(seq) from {{schema}}.{_table(sequence)}))"  # noqa: S608
    return define + in_schema(set_it, database.schema)


def _table(sequence: str) -> str:
    return sequence.removesuffix("_seq")
