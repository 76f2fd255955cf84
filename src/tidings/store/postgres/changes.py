"""From the units of a batch to the statements that write them: one statement for each kind of change.

Every process uses the same order: the executor's row (first of all), workflows, messages, the rest. Within a kind the
statements go by key. So the committers of several processes never deadlock.
This file decides nothing: which units apply is settled before, or the statements check it themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tidings.limits import MAX_AHEAD_BYTES
from tidings.model import Entry, EntryState, NewWorkflow, OutgoingMessage, PublishedEvent, Status, StreamItem, Unit
from tidings.store import refusals
from tidings.store.postgres.arrays import bigints, texts
from tidings.store.postgres.statements import StatementCall, Value
from tidings.store.protocol import Batch
from tidings.store.rows import text_of_stuck

Units = Sequence[Unit]

MAX_PAYLOAD_BYTES: Final = 7_900


def start(units: Units, executor_id: str, *, all_or_nothing: bool = True) -> Iterator[StatementCall]:
    """Start workflows. An id that is in use is skipped, or with `all_or_nothing` ends the batch."""
    starts = [unit.start for unit in units if unit.start is not None]
    if starts:
        yield StatementCall(
            "start_workflows", _columns_of_starts(starts, executor_id) | {"all_or_nothing": all_or_nothing}
        )
        chosen = [each.workflow_id for each in starts if each.is_id_chosen]
        if chosen and all_or_nothing:  # Then every id that is checked was started just now.
            yield StatementCall("check_leftovers", {"workflow_ids": texts(chosen)})


def lock(units: Units, *, all_or_nothing: bool = True) -> Iterator[StatementCall]:
    """Lock the workflows that units end, cancel, note, publish or start for, in one order: see `lock_workflows`.

    With `all_or_nothing`, a workflow that units publish or start for ends the batch if it is not pending under that
    epoch. If the batch itself starts or ends that run, the other statements check it, and no extra check is made.
    A single row that is only changed needs no locking order.
    """
    ids = {
        unit.workflow_id
        for unit in units
        if unit.workflow_id is not None and (unit.outcome or unit.recovery or unit.stuck)
    }
    ids.update(each for unit in units for each in unit.cancels)
    needed = refusals.published_for(units) | refusals.parents(units)
    if all_or_nothing and needed:
        begun = {(unit.start.workflow_id, int(unit.start.is_owned)) for unit in units if unit.start is not None}
        ended = {(unit.workflow_id or "", unit.epoch) for unit in units if unit.outcome is not None}
        any_epoch = {(workflow_id, None) for workflow_id, _ in begun | ended}
        needed.difference_update(begun, ended, any_epoch)
    ids.update(workflow_id for workflow_id, _ in needed)
    if needed or len(ids) >= (2 if all_or_nothing else 1):
        checked = needed if all_or_nothing else ()
        yield StatementCall(
            "lock_workflows",
            {
                "workflow_ids": texts(ids),
                "needed": texts([workflow_id for workflow_id, _ in checked]),
                "epoch": bigints([epoch for _, epoch in checked]),
                "pending": Status.PENDING,
            },
        )


def write(units: Units, batch: Batch) -> Iterator[StatementCall]:
    """Write all changes of units except starts. Their order in the batch is the order of `units`."""
    yield from _end(units)
    yield from _cancel(units, batch.now_ms)
    yield from _note_recoveries(units)
    yield from _note_stuck(units)
    yield from _check_destinations(units)
    yield from _send(units)
    yield from _take_seen(units)
    yield from _take(units)
    yield from _look_ahead(units)
    yield from _put_back(units)
    yield from _record(units)
    yield from _publish(units)
    yield from _append(units)
    yield from _close(units, batch.now_ms)


def wake(executor_id: str, names: Sequence[str], channel: str) -> Iterator[StatementCall]:
    """Notify the listeners of other executors, if there is anything to wake them for."""
    if names:
        payloads = texts(_payloads(executor_id, names))
        yield StatementCall("wake_others", {"channel": channel, "payloads": payloads})


def _payloads(executor_id: str, names: Sequence[str]) -> Iterator[str]:
    """Combine names into payloads that stay below PostgreSQL's limit of 8,000 bytes."""
    payload = executor_id
    for name in names:
        if len(payload) + len(name) >= MAX_PAYLOAD_BYTES:
            yield payload
            payload = executor_id
        payload += " " + name
    yield payload


def places_of_takes(units: Units) -> dict[str, Value]:
    """Return the positions where the taking units record what they took."""
    places = [(unit.workflow_id, _entry_of_take(unit)) for unit in units if unit.take is not None]
    return {
        "workflow_id": texts(workflow_id for workflow_id, _ in places),
        "branch": texts(entry.branch for _, entry in places),
        "position": bigints(entry.position for _, entry in places),
    }


# --- one kind each -----------------------------------------------------------------------------------


def _end(units: Units) -> Iterator[StatementCall]:
    ending = [(unit, unit.outcome) for unit in units if unit.outcome is not None]
    if ending:
        yield StatementCall(
            "end_workflows",
            {
                "workflow_id": texts(unit.workflow_id for unit, _ in ending),
                "pending": Status.PENDING,
                "epoch": bigints(unit.epoch for unit, _ in ending),
                "status": texts(outcome.status for _, outcome in ending),
                "output": texts(outcome.output for _, outcome in ending),
                "error": texts(outcome.error for _, outcome in ending),
                "at_ms": bigints(outcome.at_ms for _, outcome in ending),
            },
        )


def _cancel(units: Units, now_ms: int) -> Iterator[StatementCall]:
    cancelled = [each for unit in units for each in unit.cancels]
    if cancelled:
        yield StatementCall(
            "cancel_workflows", {"workflow_ids": texts(cancelled), "pending": Status.PENDING, "now_ms": now_ms}
        )


def _note_recoveries(units: Units) -> Iterator[StatementCall]:
    noted = [(unit, unit.recovery) for unit in units if unit.recovery is not None]
    if noted:
        yield StatementCall(
            "note_recoveries",
            {
                "workflow_id": texts(unit.workflow_id for unit, _ in noted),
                "pending": Status.PENDING,
                "epoch": bigints(unit.epoch for unit, _ in noted),
                "attempts": bigints(recovery.attempts for _, recovery in noted),
                "progress": bigints(recovery.progress for _, recovery in noted),
            },
        )


def _note_stuck(units: Units) -> Iterator[StatementCall]:
    noted = [(unit, unit.stuck) for unit in units if unit.stuck is not None]
    if noted:
        yield StatementCall(
            "note_stuck",
            {
                "workflow_id": texts(unit.workflow_id for unit, _ in noted),
                "pending": Status.PENDING,
                "epoch": bigints(unit.epoch for unit, _ in noted),
                "stuck": texts(text_of_stuck(stuck) for _, stuck in noted),
            },
        )


def _check_destinations(units: Units) -> Iterator[StatementCall]:
    """Check the destinations of messages; a destination that does not exist ends the batch."""
    destinations = refusals.destinations(units)
    if destinations:
        yield StatementCall("check_destinations", {"workflow_ids": texts(destinations)})


def _send(units: Units) -> Iterator[StatementCall]:
    messages = [message for unit in units for message in unit.messages]
    if messages:
        yield StatementCall("send_messages", _columns_of_messages(messages))


def _take_seen(units: Units) -> Iterator[StatementCall]:
    """Take messages that looks ahead have seen; one that is missing or already read ends the batch."""
    taking = [(unit.workflow_id, _entry_of_take(unit)) for unit in units if unit.take_seen is not None]
    if taking:
        seqs = bigints(unit.take_seen for unit in units if unit.take_seen is not None)
        yield StatementCall("take_seen_messages", _columns_of_entries(taking) | {"seq": seqs})


def _take(units: Units) -> Iterator[StatementCall]:
    taking = [(unit.workflow_id, _entry_of_take(unit)) for unit in units if unit.take is not None]
    if taking:
        topics = texts(unit.take.topic for unit in units if unit.take is not None)
        yield StatementCall("take_messages", _columns_of_entries(taking) | {"topic": topics})


def _look_ahead(units: Units) -> Iterator[StatementCall]:
    """Read the messages after those that were taken. A take is known by its number, as in the answer to `_take`."""
    takes = enumerate(((unit.workflow_id, unit.take) for unit in units if unit.take is not None), 1)
    looks = [(number, workflow_id, take) for number, (workflow_id, take) in takes if take.ahead]
    if looks:
        yield StatementCall(
            "see_messages",
            {
                "number": bigints(number for number, _, _ in looks),
                "workflow_id": texts(workflow_id for _, workflow_id, _ in looks),
                "topic": texts(take.topic for _, _, take in looks),
                "ahead": bigints(take.ahead for _, _, take in looks),
                "max_bytes": MAX_AHEAD_BYTES,
            },
        )


def _put_back(units: Units) -> Iterator[StatementCall]:
    returning = [unit for unit in units if unit.put_back is not None]
    if returning:
        workflow_ids = texts(unit.workflow_id for unit in returning)
        yield StatementCall(
            "put_back_messages", {"workflow_id": workflow_ids, "seq": bigints(u.put_back for u in returning)}
        )
        entries = [(unit.workflow_id, unit.entry) for unit in returning if unit.entry is not None]
        yield StatementCall(
            "reopen_entries",
            {
                "workflow_id": texts(workflow_id for workflow_id, _ in entries),
                "branch": texts(entry.branch for _, entry in entries),
                "position": bigints(entry.position for _, entry in entries),
            },
        )


def _record(units: Units) -> Iterator[StatementCall]:
    """Write entries. If several are for one position, an open one is replaced by the next.

    The `otherwise` of a take is written as if nothing was taken. If a message was taken, the entry is done already, so
    this changes nothing. The entry for a message that was seen before is written with its take.
    """
    entries: dict[tuple[str | None, str, int], Entry] = {}
    for unit in units:
        if unit.take_seen is not None:
            continue
        entry = unit.entry if unit.take is None else unit.take.otherwise
        if entry is not None:
            place = (unit.workflow_id, entry.branch, entry.position)
            before = entries.get(place)
            if before is None or before.state is EntryState.OPEN or unit.put_back is not None:
                entries[place] = entry
    if entries:
        yield StatementCall(
            "write_entries", _columns_of_entries([(place[0], entry) for place, entry in entries.items()])
        )


def _publish(units: Units) -> Iterator[StatementCall]:
    events = [(unit.workflow_id, unit.event) for unit in units if unit.event is not None]
    if events:
        yield StatementCall("publish_events", _columns_of_events(events))


def _append(units: Units) -> Iterator[StatementCall]:
    items = [(unit.workflow_id, unit.item) for unit in units if unit.item is not None]
    if items:
        yield StatementCall("append_items", _columns_of_items(items))


def _close(units: Units, now_ms: int) -> Iterator[StatementCall]:
    closed = [(unit.workflow_id, key) for unit in units for key in unit.closes]
    if closed:
        workflow_ids = texts(workflow_id for workflow_id, _ in closed)
        yield StatementCall(
            "close_streams", {"workflow_id": workflow_ids, "key": texts(k for _, k in closed), "at_ms": now_ms}
        )


def _entry_of_take(unit: Unit) -> Entry:
    if unit.entry is None:
        raise ValueError(f"a unit that takes a message needs an entry to keep it: {unit!r}")
    return unit.entry


# --- columns -------------------------------------------------------------------------------------------


def _columns_of_starts(starts: Sequence[NewWorkflow], executor_id: str) -> dict[str, Value]:
    return {
        "executor_id": executor_id,
        "workflow_id": texts([each.workflow_id for each in starts]),
        "name": texts([each.name for each in starts]),
        "inputs": texts([each.inputs for each in starts]),
        "serialization": texts([each.serialization for each in starts]),
        "app_version": texts([each.app_version for each in starts]),
        "parent_id": texts([each.parent_id for each in starts]),
        "created_at_ms": bigints([each.created_at_ms for each in starts]),
        "class_name": texts([each.class_name for each in starts]),
        "config_name": texts([each.config_name for each in starts]),
        "timeout_ms": bigints([each.timeout_ms for each in starts]),
        "deadline_ms": bigints([each.deadline_ms for each in starts]),
        "program": texts([each.program for each in starts]),
        "is_owned": bigints([each.is_owned for each in starts]),
    }


def _columns_of_messages(messages: Sequence[OutgoingMessage]) -> dict[str, Value]:
    return {
        "destination_id": texts([each.destination_id for each in messages]),
        "topic": texts([each.topic for each in messages]),
        "body": texts([each.body for each in messages]),
        "sender_id": texts([each.sender_id for each in messages]),
        "idempotency_key": texts([each.idempotency_key for each in messages]),
        "sent_at_ms": bigints([each.sent_at_ms for each in messages]),
    }


def _columns_of_entries(entries: Sequence[tuple[str | None, Entry]]) -> dict[str, Value]:
    return {
        "workflow_id": texts([workflow_id for workflow_id, _ in entries]),
        "branch": texts([each.branch for _, each in entries]),
        "position": bigints([each.position for _, each in entries]),
        "ordinal": bigints([each.ordinal for _, each in entries]),
        "name": texts([each.name for _, each in entries]),
        "state": texts([each.state for _, each in entries]),
        "output": texts([each.output for _, each in entries]),
        "error": texts([each.error for _, each in entries]),
        "child_workflow_id": texts([each.child_workflow_id for _, each in entries]),
        "deadline_ms": bigints([each.deadline_ms for _, each in entries]),
        "started_at_ms": bigints([each.started_at_ms for _, each in entries]),
        "completed_at_ms": bigints([each.completed_at_ms for _, each in entries]),
        "finished": bigints([each.finished for _, each in entries]),
        "begun": bigints([each.begun for _, each in entries]),
        "target": texts([each.target for _, each in entries]),
    }


def _columns_of_events(events: Sequence[tuple[str | None, PublishedEvent]]) -> dict[str, Value]:
    return {
        "workflow_id": texts([workflow_id for workflow_id, _ in events]),
        "key": texts([each.key for _, each in events]),
        "version": bigints([each.version for _, each in events]),
        "value": texts([each.value for _, each in events]),
        "branch": texts([each.branch for _, each in events]),
        "position": bigints([each.position for _, each in events]),
        "ordinal": bigints([each.ordinal for _, each in events]),
        "at_ms": bigints([each.at_ms for _, each in events]),
    }


def _columns_of_items(items: Sequence[tuple[str | None, StreamItem]]) -> dict[str, Value]:
    return {
        "workflow_id": texts([workflow_id for workflow_id, _ in items]),
        "key": texts([each.key for _, each in items]),
        "item_offset": bigints([each.offset for _, each in items]),
        "branch": texts([each.branch for _, each in items]),
        "position": bigints([each.position for _, each in items]),
        "ordinal": bigints([each.ordinal for _, each in items]),
        "attempt": bigints([each.attempt for _, each in items]),
        "at_ms": bigints([each.at_ms for _, each in items]),
        "value": texts([each.value for _, each in items]),
    }
