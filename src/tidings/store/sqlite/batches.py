"""The parts of a batch, in the order in which they are written. They decide nothing: see `store.refusals`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from tidings.limits import MAX_AHEAD_BYTES
from tidings.model import NOTHING, Answer, Take, Taken, Unit
from tidings.store import refusals
from tidings.store.protocol import Batch, DataError
from tidings.store.refusals import BatchDecision
from tidings.store.rows import Row, taken_of, text_of_stuck
from tidings.store.sqlite import rows, schema
from tidings.store.sqlite.reading import read_workflows, utf8_length

_SQL: Final = schema.SQL

Numbered = list[tuple[int, Unit]]  # units that apply, with their index in the batch


def write_workflows(db: sqlite3.Connection, units: Numbered, batch: Batch) -> None:
    """Start, end and cancel workflows, and note recoveries and which are stuck."""
    starts = [rows.row_of_start(unit.start, batch.executor_id) for _, unit in units if unit.start is not None]
    ends = [
        (end.status.value, end.output, end.error, end.at_ms, unit.workflow_id)
        for _, unit in units
        if (end := unit.outcome) is not None
    ]
    cancels = [(batch.now_ms, each) for _, unit in units for each in unit.cancels]
    recoveries = [
        (noted.attempts, noted.progress, unit.workflow_id, unit.epoch)
        for _, unit in units
        if (noted := unit.recovery) is not None
    ]
    _write_all(db, "start_workflow", starts)
    _write_all(db, "end_workflow", ends)
    _write_all(db, "cancel_workflow", cancels)
    _write_all(db, "note_recovery", recoveries)
    stuck = [
        (text_of_stuck(gone), unit.workflow_id, unit.epoch) for _, unit in units if (gone := unit.stuck) is not None
    ]
    _write_all(db, "note_stuck", stuck)


def send(db: sqlite3.Connection, units: Numbered) -> None:
    """Write the messages."""
    messages = [
        (each.destination_id, each.topic, each.body, each.sender_id, each.idempotency_key, each.sent_at_ms)
        for _, unit in units
        for each in unit.messages
    ]
    _write_all(db, "send_message", messages)


def take(db: sqlite3.Connection, units: Numbered) -> dict[int, Taken | None]:
    """Take messages, and look ahead. Returns what each take got, by its unit's index."""
    seen = [(*place_of(unit), unit.take_seen, unit.workflow_id) for _, unit in units if unit.take_seen is not None]
    if seen and db.executemany(_SQL["take_seen_message"], seen).rowcount != len(seen):
        raise DataError("a message that was seen before can no longer be taken")
    taken: dict[int, Taken | None] = {}
    for index, unit in units:
        if unit.take is not None:
            wanted = (*place_of(unit), unit.workflow_id, unit.take.topic)
            found = db.execute(_SQL["take_message"], wanted).fetchall()
            taken[index] = taken_of(found[0]) if found else None
    for index, unit in units:
        if unit.take is not None and unit.take.ahead and (message := taken[index]) is not None:
            taken[index] = replace(message, ahead=_look_ahead(db, unit.workflow_id, unit.take))
    return taken


def _look_ahead(db: sqlite3.Connection, workflow_id: str | None, take: Take) -> tuple[Taken, ...]:
    """Read the messages that wait for a run on a topic, up to the limit in bytes."""
    seen: list[Taken] = []
    size = 0
    for row in db.execute(_SQL["see_messages"], (workflow_id, take.topic, take.ahead)):
        message = taken_of(row)
        size += utf8_length(message.body)
        if size > MAX_AHEAD_BYTES:
            break
        seen.append(message)
    return tuple(seen)


def write_history(db: sqlite3.Connection, units: Numbered, taken: dict[int, Taken | None]) -> None:
    """Write what the runs record, the events among it."""
    put_back = [(unit.put_back, unit.workflow_id) for _, unit in units if unit.put_back is not None]
    _write_all(db, "put_back_message", put_back)
    entries = []
    for index, unit in units:
        entry, seq = unit.entry, unit.take_seen
        if unit.take is not None:
            message = taken[index]
            if message is None:
                entry = unit.take.otherwise
            else:
                seq = message.seq
        if entry is not None:
            entries.append(rows.row_of_entry(unit.workflow_id, entry, seq, unit.put_back is not None))
    _write_all(db, "write_entry", entries)
    events = [rows.row_of_event(unit.workflow_id, unit.event) for _, unit in units if unit.event is not None]
    _write_all(db, "publish_event", events)


def write_streams(db: sqlite3.Connection, units: Numbered, now_ms: int) -> None:
    """Write the items and the ends of streams."""
    items = [rows.row_of_item(unit.workflow_id, unit.item) for _, unit in units if unit.item is not None]
    _write_all(db, "append_item", items)
    _write_all(db, "close_stream", [(unit.workflow_id, key, now_ms) for _, unit in units for key in unit.closes])


def answers(
    db: sqlite3.Connection, units: Sequence[Unit], decision: BatchDecision, taken: dict[int, Taken | None]
) -> list[Answer]:
    """Return the answers to all units, in their order."""
    records = read_workflows(db, refusals.ids_in_use(decision.refusals)) if decision.refusals else {}
    given: list[Answer] = []
    for index, unit in enumerate(units):
        if index in decision.refusals:
            given.append(refusals.refused(decision.refusals[index], records))
        elif index in taken:
            given.append(taken[index] or NOTHING)
        else:
            given.append(refusals.applied(unit, decision.states))
    return given


def _write_all(db: sqlite3.Connection, query: str, parameters: Sequence[Row]) -> None:
    if parameters:
        db.executemany(_SQL[query], parameters)


def place_of(unit: Unit) -> tuple[str, int]:
    """Return where a unit that takes a message records it."""
    if unit.entry is None:
        raise ValueError(f"a unit that takes a message needs an entry to keep it: {unit!r}")
    return unit.entry.branch, unit.entry.position
