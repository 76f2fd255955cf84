"""Renumbers rows whose numbers leave no higher number: see `queries/numbers.sql`."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from tidings.store.sqlite.place import database_name
from tidings.store.sqlite.schema import SQL
from tidings.store.sqlite.writer import Writer

logger = logging.getLogger("tidings")

FAR: Final = 2**62

_OF_A_MESSAGE: Final = ("renumber_message", "renumber_message_in_entries")
_OF_A_WORKFLOW: Final = (
    "renumber_workflow",
    "renumber_entries",
    "renumber_destinations",
    "renumber_events",
    "renumber_items",
    "renumber_closed_streams",
)


def put_right(writer: Writer, path: str) -> None:
    """Give new numbers to rows at the end of the range: after all other rows, in the same order.

    Called for each new writing connection: a commit that finds no number left fails, and then reconnects.
    """
    with writer.looking() as db:
        if not _only(db, "has_far_numbers"):
            return
    with writer.transaction() as db:
        count = _renumber(db, "message", _OF_A_MESSAGE) + _renumber(db, "workflow", _OF_A_WORKFLOW)
        db.execute(SQL["remove_far_wakes"])
        db.execute(SQL["begin_numbers_anew"])
    logger.warning(
        "%s: %d rows had numbers near the largest one, probably inserted by hand; they were renumbered",
        database_name(path),
        count,
    )


def _renumber(db: sqlite3.Connection, kind: str, statements: tuple[str, ...]) -> int:
    far = [former for (former,) in db.execute(SQL[f"far_{kind}s"]).fetchall()]
    for seq, former in enumerate(far, _only(db, f"last_{kind}") + 1):
        for statement in statements:
            db.execute(SQL[statement], {"seq": seq, "former": former})
    return len(far)


def _only(db: sqlite3.Connection, query: str) -> int:
    [(value,)] = db.execute(SQL[query]).fetchall()
    return int(value)
