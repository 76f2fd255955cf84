"""From rows to records, for both stores: their queries name the same columns in the same order.

A row may be damaged: altered by hand, restored from a truncated file, or written by a newer version. Building a record
never fails because of that, since many are read together and the others are sound. The record says what is wrong
(`damage`) and has neutral values in the damaged columns. The types are checked too: SQLite keeps values of any type in
any column, unless its tables are strict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec.structs import asdict, replace

from tidings.model import (
    SET_EVENT,
    WRITE_STREAM,
    End,
    Entry,
    EntryState,
    Executor,
    History,
    PendingGroup,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamPage,
    Stuck,
    Taken,
    WorkflowRecord,
)
from tidings.store.damage import report

Row = tuple[Any, ...]

# The queries that a history is built from; each reads all requested workflows at once.
HISTORY: Final = ("read_entries", "read_event_places", "read_item_places", "stream_lengths", "closed_streams")

# A counter never comes near this. A larger value is damaged, and its successor might not fit 64 bits.
_LARGEST_COUNT: Final = 2**62

# tidings writes no longer lease. If a longer one were believed, no process could ever take over.
_LONGEST_LEASE_MS: Final = 24 * 3_600_000
_DEFAULT_LEASE_MS: Final = 10_000

_STATES: Final = {state.value: state for state in EntryState}


class _Shape:
    """What a kind of row holds: each column's name and kind, with `?` if it may be NULL.

    The kinds are `text`, `int` (any number) and `count` (a counter).
    """

    def __init__(self, columns: str) -> None:
        named = [column.split(":") for column in columns.split()]
        self._names = [name for name, _ in named]
        self._kinds = [kind.rstrip("?") for _, kind in named]
        nullable = [kind.endswith("?") for _, kind in named]
        types = [str if kind == "text" else int for kind in self._kinds]
        self._types = [(each, type(None)) if null else (each,) for each, null in zip(types, nullable, strict=True)]
        self._neutral = [None if null else each() for each, null in zip(types, nullable, strict=True)]
        self._sound: dict[tuple[type, ...], Callable[[Row], Row]] = {}  # by the types of its values: gives the counts

    def damage(self, row: Row) -> str | None:
        """Say what is wrong with a row; `None` if it is sound.

        A recovery passes each of its rows through here. So the types of a row are checked once, and the answer is kept
        for all rows with the same types.
        """
        found = tuple(map(type, row))
        counts_of = self._sound.get(found) or self._note_sound(found, row)
        if counts_of is not None:
            counts = counts_of(row)
            if not counts or (min(counts) >= 0 and max(counts) < _LARGEST_COUNT):
                return None
        return next(
            f"its {name} is {_shown(value)}, {'out of range' if isinstance(value, types) else 'of the wrong type'}"
            for name, value, types, kind in zip(self._names, row, self._types, self._kinds, strict=True)
            if not isinstance(value, types) or (kind == "count" and not _is_count(value))
        )

    def _note_sound(self, found: tuple[type, ...], row: Row) -> Callable[[Row], Row] | None:
        """Keep how to read the counts from rows of these types; return `None` if one of the types is wrong."""
        if not all(map(isinstance, row, self._types)):
            return None
        counts = [index for index, kind in enumerate(self._kinds) if kind == "count" and row[index] is not None]
        # With one index an itemgetter gives no tuple, and with none there is no itemgetter.
        counts_of = self._sound[found] = itemgetter(*counts, counts[0]) if counts else _no_counts
        return counts_of

    def mended(self, row: Row) -> Row:
        """Return the row with a neutral value in each column of the wrong type or out of range."""
        return tuple(
            value if isinstance(value, types) and (kind != "count" or _is_count(value)) else neutral
            for value, types, kind, neutral in zip(row, self._types, self._kinds, self._neutral, strict=True)
        )


def _no_counts(_: Row) -> Row:
    return ()


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value < _LARGEST_COUNT)


def _shown(value: object) -> str:
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


_WORKFLOW: Final = _Shape(
    "workflow_id:text status:text name:text inputs:text? output:text? error:text? serialization:text epoch:count "
    "executor_id:text? app_version:text parent_id:text? created_at_ms:int updated_at_ms:int class_name:text? "
    "config_name:text? timeout_ms:int? deadline_ms:int? recovery_attempts:int progress:int program:text? "
    "stuck:text?"
)
_ENTRY: Final = _Shape(
    "branch:text position:count ordinal:count name:text state:text output:text? error:text? child_workflow_id:text? "
    "deadline_ms:int? started_at_ms:int? completed_at_ms:int? finished:count? begun:count? target:text?"
)
_MESSAGE: Final = _Shape("seq:int body:text topic:text? sender_id:text? sent_at_ms:int")
_PLACE: Final = _Shape("branch:text position:count ordinal:count at_ms:int")
_VERSION: Final = _Shape("key:text version:count")
_LAST_ITEM: Final = _Shape("key:text offset:count")
_STORED_MESSAGE: Final = _Shape(
    "seq:int topic:text? body:text sender_id:text? idempotency_key:text? sent_at_ms:int read_by:int?"
)
_EXECUTOR: Final = _Shape(
    "executor_id:text label:text lease_until_ms:int fence:int lease_ms:int host:text pid:int started_at_ms:int "
    "app_version:text? program:text? code_hash:text? takes_other_versions:int"
)
_GROUP: Final = _Shape(
    "name:text app_version:text executor_id:text? count:int example_id:text program:text? stuck:text?"
)


# --- workflows ---------------------------------------------------------------------------------------


def workflow_of(row: Row) -> WorkflowRecord:
    """Build a workflow from a row of `read_workflows`, or of a query that claims."""
    damage = _WORKFLOW.damage(row)
    status = Status.of(row[1])
    if damage is None and status.is_known:
        found = WorkflowRecord(row[0], status, *row[2:20])
        return found if row[20] is None else replace(found, stuck=_stuck_of(row[20]))
    damage = damage or f"its status is {_shown(row[1])}, which this version of tidings does not know"
    mended = _WORKFLOW.mended(row)
    report(mended[0], damage)
    return replace(WorkflowRecord(mended[0], status, *mended[2:20]), stuck=_stuck_of(row[20]), damage=damage)


def end_of(row: Row) -> End | None:
    """Build the end of a workflow from a row of `workflow_ends`; `None` if there is no such workflow."""
    _, found, status, at_ms = row
    return None if found is None else End(Status.of(status), at_ms if isinstance(at_ms, int) else 0)


def workflows_by_id(found: Iterable[Row]) -> dict[str, WorkflowRecord]:
    """Build workflows from rows of `read_workflows`."""
    return {row[0]: workflow_of(row) for row in found}


def text_of_stuck(stuck: Stuck) -> str:
    """Return what is stored of a version that could not continue a workflow: an element of a JSON array."""
    fields = {name: _plain(value) if isinstance(value, str) else value for name, value in asdict(stuck).items()}
    return str(msgspec.json.encode(fields), "utf-8")


def _plain(text: str) -> str:
    """Replace what PostgreSQL refuses in JSON: half characters and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _stuck_of(stored: object) -> tuple[Stuck, ...]:
    """Return the versions that could not continue a workflow, the last one last. A damaged text counts as none."""
    if not isinstance(stored, str):
        return ()
    try:
        return msgspec.json.decode(stored, type=tuple[Stuck, ...])
    except (msgspec.DecodeError, UnicodeError):
        return ()


# --- histories ---------------------------------------------------------------------------------------


class _Damaged(Exception):
    """A row is damaged; the text says how."""


def histories_of(workflow_ids: Sequence[str], found: Mapping[str, Iterable[Row]]) -> list[History]:
    """Build histories, in the order of the ids, from rows of each of the `HISTORY` queries.

    Operations are in the order in which they began. An event or stream item that a workflow wrote itself is an
    operation of its own. One that a step wrote is not; it only counts.
    """
    recorded: defaultdict[str, list[RecordedEntry]] = defaultdict(list)
    versions: defaultdict[str, dict[str, int]] = defaultdict(dict)
    lengths: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    closed: defaultdict[str, list[str]] = defaultdict(list)
    damage: dict[str, str] = {}

    def each_sound(name: str, build: Callable[[str, Row], None]) -> None:
        for workflow_id, *row in found[name]:
            try:
                build(workflow_id, tuple(row))
            except _Damaged as error:
                damage.setdefault(workflow_id, str(error))

    def entry(workflow_id: str, row: Row) -> None:
        built = _entry_of(row)
        if built.damage is not None:
            raise _Damaged(built.damage)
        recorded[workflow_id].append(built)

    def event(workflow_id: str, row: Row) -> None:
        key, version, *place = row
        what = f"its event {key!r}"
        _check(_VERSION, (key, version), what)
        highest = versions[workflow_id]
        highest[key] = max(version, highest.get(key, version))
        if place[0] is not None:
            recorded[workflow_id].append(_row_as_entry(SET_EVENT, key, *_check(_PLACE, tuple(place), what)))

    def item(workflow_id: str, row: Row) -> None:
        key, place = row[0], _check(_PLACE, row[1:], f"an item of its stream {row[0]!r}")
        recorded[workflow_id].append(_row_as_entry(WRITE_STREAM, key, *place))

    def length(workflow_id: str, row: Row) -> None:
        key, last = _check(_LAST_ITEM, row, f"an item of its stream {row[0]!r}")
        lengths[workflow_id].append((key, last + 1))

    def closing(workflow_id: str, row: Row) -> None:
        closed[workflow_id].append(row[0])

    builders = (entry, event, item, length, closing)
    for name, build in zip(HISTORY, builders, strict=True):
        each_sound(name, build)
    return [
        History(workflow_id, (), (), damage=damage[workflow_id])
        if workflow_id in damage
        else History(
            workflow_id,
            tuple(sorted(recorded.get(workflow_id, ()), key=lambda each: each.entry.ordinal)),
            tuple(versions.get(workflow_id, {}).items()),
            tuple(lengths.get(workflow_id, ())),
            tuple(closed.get(workflow_id, ())),
        )
        for workflow_id in workflow_ids
    ]


def _check(shape: _Shape, row: Row, what: str) -> Row:
    damage = shape.damage(row)
    if damage is not None:
        raise _Damaged(f"{what} is damaged: {damage}")
    return row


def steps_of(found: Sequence[Row]) -> list[RecordedEntry] | None:
    """Build a part of a history from rows of `read_steps`, which are in its order already."""
    if not found:
        return None
    return [_step_of(row) for row in found if any(value is not None for value in row[:3])]


def _step_of(row: Row) -> RecordedEntry:
    *entry, event_key, stream_key = row
    place = *row[:3], row[9]
    if event_key is not None or stream_key is not None:
        name, key = (SET_EVENT, event_key) if event_key is not None else (WRITE_STREAM, stream_key)
        return replace(_row_as_entry(name, key, *_PLACE.mended(place)), damage=_PLACE.damage(place))
    return _entry_of(tuple(entry))


def _entry_of(row: Row) -> RecordedEntry:
    """Build an entry from its columns, the number of the message it took, and that message's columns."""
    columns, message_seq, message = row[:14], row[14], row[15:]
    damage = _ENTRY.damage(columns)
    branch, position, ordinal, name, state, *rest = columns if damage is None else _ENTRY.mended(columns)
    if damage is None and state not in _STATES:
        damage = f"its state is {_shown(state)}, which this version of tidings does not know"
    taken = None
    if message_seq is not None:
        if message[0] is None:
            damage = damage or f"it took message {message_seq}, which is not there"
        else:
            damage = damage or _MESSAGE.damage(message)
            taken = Taken(*_MESSAGE.mended(message))
    if damage is not None:
        damage = f"the record of its operation {_shown(ordinal)} ({name}) is damaged: {damage}"
    entry = Entry(branch, position, ordinal, name, _STATES.get(state, EntryState.ABANDONED), *rest)
    return RecordedEntry(entry, taken, damage=damage)


def _row_as_entry(name: str, key: str, branch: str, position: int, ordinal: int, at_ms: int) -> RecordedEntry:
    """Return the entry for an event or an item of a stream."""
    entry = Entry(branch, position, ordinal, name, started_at_ms=at_ms, completed_at_ms=at_ms)
    return RecordedEntry(entry, key=key)


# --- messages and pages ------------------------------------------------------------------------------


def taken_of(row: Row) -> Taken:
    """Build the message that a take found. The body stays as it is: a body that is no text cannot be restored."""
    return Taken(*row) if _MESSAGE.damage(row) is None else Taken(row[0], row[1], *_MESSAGE.mended(row)[2:])


def messages_of(found: Sequence[Row]) -> list[StoredMessage] | None:
    """Build messages from rows of `read_messages`."""
    if not found:
        return None
    damages = ((row, _STORED_MESSAGE.damage(row)) for row in found if row[0] is not None)
    return [
        StoredMessage(*row) if damage is None else replace(StoredMessage(*_STORED_MESSAGE.mended(row)), damage=damage)
        for row, damage in damages
    ]


def page_of(values: Sequence[str] | None, row: Row) -> StreamPage:
    """Build a page from its values and the other columns: last item's offset, closed or not, status."""
    last, is_closed, status = row
    length = last + 1 if isinstance(last, int) else 0
    return StreamPage(tuple(values or ()), length, bool(is_closed), None if status is None else Status.of(status))


# --- executors ---------------------------------------------------------------------------------------


def executor_of(row: Row) -> Executor:
    """Build an executor. An impossible lease gets the usual length: nothing else would report its death."""
    sound = row if _EXECUTOR.damage(row) is None else _EXECUTOR.mended(row)
    executor = Executor(*(*sound[:-1], bool(sound[-1])))
    if not 0 < executor.lease_ms <= _LONGEST_LEASE_MS:
        return replace(executor, lease_ms=_DEFAULT_LEASE_MS)
    return executor


def group_of(row: Row) -> PendingGroup:
    """Build a group of pending workflows."""
    sound = row if _GROUP.damage(row) is None else _GROUP.mended(row)
    name, app_version, executor_id, count, example_id, program, stuck = sound
    return PendingGroup(name, app_version, executor_id, count, example_id, program, _stuck_of(stuck))
