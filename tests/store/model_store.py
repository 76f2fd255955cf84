"""A store in plain Python: the contract in its simplest form, to compare the real ones with.

It keeps everything in dictionaries, works unit by unit, and writes nothing anywhere. It assumes
what the engine does: a unit has at most one of a start, messages, an outcome and a cancellation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NoReturn, TypeVar

from msgspec import Struct
from msgspec.structs import astuple, replace

from tests.store.driver import NOW_MS
from tidings.lifecycle import stuck_now
from tidings.limits import MAX_AHEAD_BYTES
from tidings.model import (
    APPLIED,
    NOTHING,
    Answer,
    Applied,
    End,
    Entry,
    EntryState,
    EventRead,
    Executor,
    ExecutorState,
    History,
    InUse,
    NoSuchWorkflow,
    NotPending,
    OutgoingMessage,
    PendingGroup,
    Place,
    PublishedEvent,
    RecordedEntry,
    Recovery,
    Stale,
    Status,
    StoredMessage,
    StreamItem,
    StreamPage,
    Stuck,
    Take,
    Taken,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store.protocol import Batch, DataError, Fenced

T = TypeVar("T")


class Sent(Struct, frozen=True):
    """A message, and the ordinal of the entry that took it."""

    message: OutgoingMessage
    read_by: int | None = None


class StoredEntry(Struct, frozen=True):
    """An entry, and the number of the message it took."""

    entry: Entry
    seq: int | None


class Records(Struct):
    """All that the model stores. Workflows are in the order they were started."""

    workflows: dict[str, WorkflowRecord] = {}
    entries: dict[tuple[str, str, int], StoredEntry] = {}
    messages: dict[int, Sent] = {}
    events: dict[tuple[str, str, int], PublishedEvent] = {}
    items: dict[tuple[str, str, int], StreamItem] = {}
    closed: dict[tuple[str, str], None] = {}
    executors: dict[str, Executor] = {}
    landed: dict[str, tuple[int, list[Answer]]] = {}  # the last batch of each executor

    def copy(self) -> Records:
        """Copy the tables; what is in them never changes."""
        return Records(*(dict(table) for table in astuple(self)))


class ModelStore:
    """The contract in plain Python."""

    identity = name = "model"

    def __init__(self) -> None:
        self.records = Records()

    def migrate(self) -> None:
        """Nothing to do."""

    def reset(self, *, truncate: bool) -> None:
        """Not asked of it."""
        raise NotImplementedError

    def connect(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def reconnect(self) -> None:
        """Nothing to do."""

    def reconnect_reader(self) -> None:
        """Nothing to do."""

    def listen(self, executor_id: str) -> NoReturn:
        """There is nobody else."""
        raise NotImplementedError

    def now_ms(self) -> int:
        """A clock that stands still."""
        return NOW_MS

    # --- writing ----------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> list[Answer]:
        """Apply a batch to a copy, which replaces the records if all went well."""
        executor = self._own(batch.executor_id, batch.fence)
        if self._last_batch(batch.executor_id) != batch.landed:
            raise Fenced(batch.executor_id)
        before, self.records = self.records, self.records.copy()
        try:
            answers = self._apply(batch)
        except DataError:
            self.records = before
            raise
        lease_until_ms = batch.now_ms + batch.lease_ms
        self.records.executors[batch.executor_id] = replace(executor, lease_until_ms=lease_until_ms)
        self.records.landed[batch.executor_id] = (batch.number, answers)
        return self._as_of_now(batch, answers)

    def recall(self, batch: Batch) -> list[Answer] | None:
        """Repeat the answers of the last batch, without what was seen ahead."""
        number, answers = self.records.landed.get(batch.executor_id, (0, []))
        if number != batch.number:
            return None
        known = [replace(each, ahead=()) if isinstance(each, Taken) else each for each in answers]
        return self._as_of_now(batch, known)

    def _apply(self, batch: Batch) -> list[Answer]:
        units = list(enumerate(batch.units))
        answers = self._meet_conditions(batch)
        applied = [(index, unit) for index, unit in units if answers[index] is APPLIED]
        for _, unit in applied:
            for message in unit.messages:
                self._send(message)
        for _, unit in applied:
            if unit.take_seen is not None:
                self._take_seen(unit, unit.take_seen)
        for index, unit in applied:
            if unit.take is not None:
                answers[index] = self._take(unit)
        for index, unit in applied:
            answer = answers[index]
            if unit.take is not None and isinstance(answer, Taken):
                answers[index] = replace(answer, ahead=self._look_ahead(unit.workflow_id, unit.take))
        for index, unit in applied:
            self._write(unit, answers[index])
        return answers

    def _meet_conditions(self, batch: Batch) -> list[Answer]:
        """Decide which units apply; and anew, without those that did not apply after they had started a workflow."""
        before = self.records.workflows
        withdrawn: dict[int, Answer] = {}
        while True:
            self.records.workflows = dict(before)
            answers = self._decide(batch, withdrawn)
            new = set(self.records.workflows) - set(before)
            torn = {
                index: answers[index]
                for index, unit in enumerate(batch.units)
                if unit.start is not None
                and unit.start.workflow_id in new
                and isinstance(answers[index], (Stale, NoSuchWorkflow))
                and index not in withdrawn
            }
            if not torn:
                return answers
            withdrawn |= torn

    def _decide(self, batch: Batch, withdrawn: dict[int, Answer]) -> list[Answer]:
        answers = [
            withdrawn[index] if index in withdrawn else self._start(unit, batch.executor_id)
            for index, unit in enumerate(batch.units)
        ]
        for index, unit in enumerate(batch.units):
            start = unit.start
            if answers[index] is APPLIED and start is not None and start.parent_id is not None:
                answers[index] = self._pending(start.parent_id, unit.epoch if unit.starts_child else None)
        for index, unit in enumerate(batch.units):
            if answers[index] is APPLIED:
                answers[index] = self._find_destinations(unit)
            if answers[index] is APPLIED and unit.publishes:
                answers[index] = self._may_publish(unit)
        for index, unit in enumerate(batch.units):
            if answers[index] is APPLIED and unit.outcome is not None:
                end = unit.outcome
                answers[index] = self._end(unit.workflow_id, unit.epoch, end.status, end.output, end.error, end.at_ms)
        for index, unit in enumerate(batch.units):
            if answers[index] is APPLIED and unit.cancels:
                answers[index] = self._cancel(unit.cancels, batch.now_ms)
        return answers

    def _cancel(self, workflow_ids: tuple[str, ...], now_ms: int) -> Answer:
        there = self.records.workflows
        if missing := tuple(each for each in workflow_ids if each not in there):
            return NoSuchWorkflow(missing)
        if ended := tuple(each for each in workflow_ids if there[each].status is not Status.PENDING):
            return NotPending(ended)
        for each in workflow_ids:
            self._end(each, None, Status.CANCELLED, None, None, now_ms)
        return APPLIED

    def _start(self, unit: Unit, executor_id: str) -> Answer:
        start = unit.start
        if start is None:
            return APPLIED
        if start.workflow_id in self.records.workflows:
            return InUse(self.records.workflows[start.workflow_id])
        self.records.workflows[start.workflow_id] = WorkflowRecord(
            workflow_id=start.workflow_id,
            status=Status.PENDING,
            name=start.name,
            inputs=start.inputs,
            output=None,
            error=None,
            serialization=start.serialization,
            epoch=int(start.is_owned),
            executor_id=executor_id if start.is_owned else None,
            app_version=start.app_version,
            parent_id=start.parent_id,
            created_at_ms=start.created_at_ms,
            updated_at_ms=start.created_at_ms,
            class_name=start.class_name,
            config_name=start.config_name,
            timeout_ms=start.timeout_ms,
            deadline_ms=start.deadline_ms,
            program=start.program,
        )
        return APPLIED

    def _find_destinations(self, unit: Unit) -> Answer:
        missing = [m.destination_id for m in unit.messages if m.destination_id not in self.records.workflows]
        return NoSuchWorkflow(tuple(dict.fromkeys(missing))) if missing else APPLIED

    def _end(
        self,
        workflow_id: str | None,
        epoch: int | None,
        status: Status,
        output: str | None,
        error: str | None,
        at_ms: int,
    ) -> Answer:
        answer = self._pending(workflow_id, epoch)
        if answer is APPLIED:
            self.records.workflows[workflow_id or ""] = replace(
                self.records.workflows[workflow_id or ""],
                status=status,
                output=output,
                error=error,
                updated_at_ms=at_ms,
            )
        return answer

    def _may_publish(self, unit: Unit) -> Answer:
        return self._pending(unit.workflow_id, unit.epoch)

    def _pending(self, workflow_id: str | None, epoch: int | None) -> Answer:
        workflow = self.records.workflows.get(workflow_id or "")
        if workflow is None:
            return NoSuchWorkflow((workflow_id or "",))
        if workflow.status is not Status.PENDING or epoch not in (None, workflow.epoch):
            return Stale(workflow.status)
        return APPLIED

    def _send(self, message: OutgoingMessage) -> None:
        used = {(sent.message.destination_id, sent.message.idempotency_key) for sent in self.records.messages.values()}
        if message.idempotency_key is not None and (message.destination_id, message.idempotency_key) in used:
            return
        self.records.messages[len(self.records.messages) + 1] = Sent(message)

    def _take_seen(self, unit: Unit, seq: int) -> None:
        assert unit.entry is not None
        there = self.records.messages.get(seq)
        if there is None or there.read_by is not None or there.message.destination_id != unit.workflow_id:
            raise DataError("that message is not there to be taken")
        self.records.messages[seq] = Sent(there.message, unit.entry.ordinal)

    def _take(self, unit: Unit) -> Answer:
        assert unit.take is not None
        assert unit.entry is not None
        for taken in self._waiting(unit.workflow_id, unit.take.topic):
            self.records.messages[taken.seq] = Sent(self.records.messages[taken.seq].message, unit.entry.ordinal)
            return taken
        return NOTHING

    def _look_ahead(self, workflow_id: str | None, take: Take) -> tuple[Taken, ...]:
        seen = list(self._waiting(workflow_id, take.topic))[: take.ahead]
        while len("".join(each.body for each in seen).encode()) > MAX_AHEAD_BYTES:
            seen.pop()
        return tuple(seen)

    def _waiting(self, workflow_id: str | None, topic: str | None) -> Iterator[Taken]:
        for seq, stored in self.records.messages.items():
            message = stored.message
            if (message.destination_id, message.topic) == (workflow_id, topic) and stored.read_by is None:
                yield Taken(seq, message.body, message.topic, message.sender_id, message.sent_at_ms)

    def _write(self, unit: Unit, answer: Answer) -> None:
        if unit.put_back is not None:
            self.records.messages[unit.put_back] = replace(self.records.messages[unit.put_back], read_by=None)
        seq = answer.seq if isinstance(answer, Taken) else unit.take_seen
        entry = unit.take.otherwise if unit.take is not None and seq is None else unit.entry
        if entry is not None:
            place = (unit.workflow_id or "", entry.branch, entry.position)
            there = self.records.entries.get(place)
            if there is None or there.entry.state is EntryState.OPEN or unit.put_back is not None:
                self.records.entries[place] = StoredEntry(entry, seq)
        if unit.recovery is not None:
            self._note_recovery(unit, unit.recovery)
        if unit.stuck is not None:
            self._note_stuck(unit, unit.stuck)
        if unit.event is not None:
            version = (unit.workflow_id or "", unit.event.key, unit.event.version)
            if version in self.records.events:
                raise DataError("that version is there already")
            self.records.events[version] = unit.event
        if unit.item is not None:
            place_in_stream = (unit.workflow_id or "", unit.item.key, unit.item.offset)
            if place_in_stream in self.records.items:
                raise DataError("that offset is taken")
            self.records.items[place_in_stream] = unit.item
        self.records.closed.update(dict.fromkeys((unit.workflow_id or "", key) for key in unit.closes))

    def _note_stuck(self, unit: Unit, stuck: Stuck) -> None:
        there = self.records.workflows.get(unit.workflow_id or "")
        if there is not None and there.status is Status.PENDING and there.epoch == unit.epoch:
            self.records.workflows[there.workflow_id] = replace(there, executor_id=None, stuck=(*there.stuck, stuck))

    def _note_recovery(self, unit: Unit, recovery: Recovery) -> None:
        there = self.records.workflows.get(unit.workflow_id or "")
        if there is not None and there.epoch == unit.epoch and there.status is Status.PENDING:
            self.records.workflows[there.workflow_id] = replace(
                there, recovery_attempts=recovery.attempts, progress=recovery.progress
            )

    def _as_of_now(self, batch: Batch, answers: list[Answer]) -> list[Answer]:
        """Show other workflows in answers as they are now: after the batch, or when it is recalled."""
        return [self._present(unit, answer) for unit, answer in zip(batch.units, answers, strict=True)]

    def _present(self, unit: Unit, answer: Answer) -> Answer:
        match answer:
            case InUse(workflow):
                return InUse(self.records.workflows[workflow.workflow_id])
            case Applied():
                ids = dict.fromkeys(message.destination_id for message in unit.messages)
                return Applied(tuple(each for each in ids if self._status(each) is not Status.PENDING))
            case _:
                return answer

    # --- executors ----------------------------------------------------------------------------------

    def enlist(self, executor: Executor) -> int:
        """Add an executor under fence 1, or renew it under the one it has."""
        there = self.records.executors.get(executor.executor_id)
        fence = 1 if there is None else there.fence
        self.records.executors[executor.executor_id] = replace(executor, fence=fence)
        return fence

    def retire(self, executor_id: str, fence: int, wakes: Sequence[str] = ()) -> None:
        """Remove an executor under this fence, and disown its runs."""
        executor = self.records.executors.get(executor_id)
        if executor is None or executor.fence != fence:
            return
        self._remove(executor_id)
        for workflow_id in self._pending_of(executor_id):
            workflow = self.records.workflows[workflow_id]
            self.records.workflows[workflow_id] = replace(workflow, executor_id=None)

    def refence(self, executor_id: str) -> ExecutorState | None:
        """The executor's fence, its last batch, and what it owns."""
        executor = self.records.executors.get(executor_id)
        if executor is None:
            return None
        owned = {each: self.records.workflows[each].epoch for each in self._pending_of(executor_id)}
        return ExecutorState(executor.fence, self._last_batch(executor_id), owned)

    def _last_batch(self, executor_id: str) -> int | None:
        return self.records.landed[executor_id][0] if executor_id in self.records.landed else None

    def claim(
        self,
        executor: Executor,
        dead: Collection[str],
        names: Collection[str],
        app_version: str,
        limit: int,
        reserved: Collection[str] | None = None,
    ) -> list[WorkflowRecord]:
        """Take over from the dead and from nobody, oldest first."""
        self._own(executor.executor_id, executor.fence)
        for each in {executor.executor_id, *dead}:
            if each in self.records.executors:
                row = self.records.executors[each]
                self.records.executors[each] = replace(row, fence=row.fence + 1)
        claimable = [
            workflow.workflow_id
            for workflow in self.records.workflows.values()
            if workflow.status is Status.PENDING
            and (workflow.executor_id is None or workflow.executor_id in dead)
            and workflow.name in names
            and (app_version, executor.code_hash) not in [(each.version, each.code_hash) for each in workflow.stuck]
            and (
                workflow.app_version in (app_version, "")
                or (reserved is not None and (workflow.stuck or workflow.app_version not in reserved))
            )
            and workflow.program in (None, executor.program)
        ]
        claimed = [self._claim(each, executor, app_version) for each in claimable[:limit]]
        for each in dead:
            self._release_stuck(each)
            if not self._pending_of(each):
                self._remove(each)
        return claimed

    def _release_stuck(self, executor_id: str) -> None:
        for each in self._pending_of(executor_id):
            left = self.records.workflows[each]
            if left.stuck:
                self.records.workflows[each] = replace(
                    left, executor_id=None, epoch=left.epoch + 1, recovery_attempts=left.recovery_attempts + 1
                )

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """Raise the epochs of one's own."""
        own = self._own(executor.executor_id, executor.fence)
        self.records.executors[own.executor_id] = replace(own, fence=own.fence + 1)
        mine = [each for each in self._pending_of(executor.executor_id) if each in workflow_ids]
        return [self._claim(each, executor) for each in mine]

    def _own(self, executor_id: str, fence: int) -> Executor:
        executor = self.records.executors.get(executor_id)
        if executor is None or executor.fence != fence:
            raise Fenced(executor_id)
        return executor

    def _remove(self, executor_id: str) -> None:
        self.records.executors.pop(executor_id, None)
        self.records.landed.pop(executor_id, None)

    def _pending_of(self, executor_id: str) -> list[str]:
        every = self.records.workflows.values()
        return [w.workflow_id for w in every if w.status is Status.PENDING and w.executor_id == executor_id]

    def _claim(self, workflow_id: str, executor: Executor, app_version: str = "") -> WorkflowRecord:
        before = self.records.workflows[workflow_id]
        after = replace(
            before,
            executor_id=executor.executor_id,
            epoch=before.epoch + 1,
            recovery_attempts=before.recovery_attempts + (before.executor_id not in (None, executor.executor_id)),
            program=before.program if before.program is not None else executor.program,
            app_version=before.app_version or app_version,
        )
        self.records.workflows[workflow_id] = after
        return after

    # --- reading ------------------------------------------------------------------------------------

    def histories(self, workflow_ids: Sequence[str]) -> list[History]:
        """All that is recorded."""
        return [self._history(each) for each in workflow_ids]

    def _history(self, workflow_id: str) -> History:
        recorded = [
            RecordedEntry(stored.entry, self._taken(stored.seq))
            for (owner, _, _), stored in self.records.entries.items()
            if owner == workflow_id
        ]
        recorded += [entry_of_event(event) for event in self._events(workflow_id) if event.branch is not None]
        recorded += [entry_of_item(item) for item in self._items(workflow_id) if item.attempt is None]
        highest: dict[str, int] = {}
        for event in self._events(workflow_id):
            highest[event.key] = max(event.version, highest.get(event.key, 0))
        recorded.sort(key=lambda each: each.entry.ordinal)
        keys = sorted({item.key for item in self._items(workflow_id)})
        return History(
            workflow_id,
            tuple(recorded),
            tuple(sorted(highest.items())),
            tuple((key, self._length(workflow_id, key)) for key in keys),
            tuple(sorted(key for owner, key in self.records.closed if owner == workflow_id)),
        )

    def _taken(self, seq: int | None) -> Taken | None:
        if seq is None:
            return None
        message = self.records.messages[seq].message
        return Taken(seq, message.body, message.topic, message.sender_id, message.sent_at_ms)

    def workflows(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowRecord]:
        """The workflows that exist."""
        return {each: self.records.workflows[each] for each in workflow_ids if each in self.records.workflows}

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, Status]:
        """How the workflows that exist stand."""
        return {each: found.status for each, found in self.workflows(workflow_ids).items()}

    def ends(self, workflow_ids: Sequence[str]) -> dict[str, End | None]:
        """How those have ended that have, and which do not exist."""
        found: dict[str, End | None] = dict.fromkeys(workflow_ids)
        for each in self.workflows(workflow_ids).values():
            if each.status is Status.PENDING and stuck_now(each) is None:
                del found[each.workflow_id]
            else:
                found[each.workflow_id] = End(each.status, each.updated_at_ms)
        return found

    def pending_below(self, workflow_ids: Sequence[str], limit: int) -> list[str]:
        """The pending descendants, generation by generation."""
        found: list[WorkflowRecord] = []
        parents = set(workflow_ids)
        while parents:
            known = {each.workflow_id for each in found}
            children = [
                each
                for each in self.records.workflows.values()
                if each.parent_id in parents and each.workflow_id not in known
            ]
            found += children
            parents = {each.workflow_id for each in children}
        return [each.workflow_id for each in found if each.status is Status.PENDING][:limit]

    def count_unread(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        """How many messages wait for these."""
        waiting = Counter(
            each.message.destination_id for each in self.records.messages.values() if each.read_by is None
        )
        return {each: waiting[each] for each in workflow_ids if waiting[each]}

    def list_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRecord]:
        """What a filter describes."""
        found = [each for each in self.records.workflows.values() if matches(each, wanted)]
        if wanted.newest_first:
            found.reverse()
        left_out: dict[str, None] = {} if wanted.with_inputs else {"inputs": None}
        if not wanted.with_outputs:
            left_out |= {"output": None, "error": None}
        return [replace(each, **left_out) for each in part(found, wanted.limit, wanted.offset)]

    def steps(self, workflow_id: str, limit: int | None, offset: int, with_outputs: bool) -> list[RecordedEntry] | None:
        """A part of a history."""
        if workflow_id not in self.records.workflows:
            return None
        entries = part(self._history(workflow_id).entries, limit, offset)
        return [each if with_outputs else without_output(each) for each in entries]

    def messages(self, workflow_id: str, limit: int | None, offset: int) -> list[StoredMessage] | None:
        """A part of what was sent to a workflow."""
        if workflow_id not in self.records.workflows:
            return None
        sent = [
            (seq, each) for seq, each in self.records.messages.items() if each.message.destination_id == workflow_id
        ]
        return [stored(seq, each) for seq, each in part(sent, limit, offset)]

    def latest_events(self, keys: Sequence[tuple[str, str]]) -> list[EventRead]:
        """The values of the highest versions."""
        return [EventRead(self._values(each).get(key), self._status(each)) for each, key in keys]

    def all_events(self, workflow_id: str) -> dict[str, str] | None:
        """The latest value of each key."""
        return self._values(workflow_id) if workflow_id in self.records.workflows else None

    def _events(self, workflow_id: str) -> list[PublishedEvent]:
        return [event for (owner, _, _), event in self.records.events.items() if owner == workflow_id]

    def _values(self, workflow_id: str) -> dict[str, str]:
        return {event.key: event.value for event in sorted(self._events(workflow_id), key=lambda each: each.version)}

    def _status(self, workflow_id: str) -> Status | None:
        workflow = self.records.workflows.get(workflow_id)
        return workflow.status if workflow else None

    def read_streams(self, wanted: Sequence[tuple[str, str, int]], limit: int, max_bytes: int) -> list[StreamPage]:
        """A page of each stream."""
        return [self._page(*each, limit, max_bytes) for each in wanted]

    def _page(self, workflow_id: str, key: str, offset: int, limit: int, max_bytes: int) -> StreamPage:
        values: list[str] = []
        while (item := self.records.items.get((workflow_id, key, offset + len(values)))) is not None:
            is_full = len(values) == limit or len("".join(values).encode()) >= max_bytes
            if values and is_full:
                break
            values.append(item.value)
        is_closed = (workflow_id, key) in self.records.closed
        return StreamPage(tuple(values), self._length(workflow_id, key), is_closed, self._status(workflow_id))

    def _items(self, workflow_id: str) -> list[StreamItem]:
        return [item for (owner, _, _), item in self.records.items.items() if owner == workflow_id]

    def _length(self, workflow_id: str, key: str) -> int:
        return 1 + max((each.offset for each in self._items(workflow_id) if each.key == key), default=-1)

    def executors(self) -> list[Executor]:
        """All executors."""
        return list(self.records.executors.values())

    def pending_groups(self) -> list[PendingGroup]:
        """What is pending, by name, version, owner and program."""
        groups: dict[tuple[str, str, str | None, str | None, tuple[Stuck, ...]], list[str]] = {}
        for each in self.records.workflows.values():
            if each.status is Status.PENDING:
                group = each.name, each.app_version, each.executor_id, each.program, each.stuck
                groups.setdefault(group, []).append(each.workflow_id)
        return [
            PendingGroup(name, version, owner, len(ids), ids[0], program, stuck)
            for (name, version, owner, program, stuck), ids in groups.items()
        ]


def matches(workflow: WorkflowRecord, wanted: WorkflowFilter) -> bool:
    """Whether a filter describes this workflow."""
    exact: list[tuple[str | None, tuple[str | None, ...] | None]] = [
        (workflow.workflow_id, wanted.workflow_ids),
        (workflow.status, wanted.statuses),
        (workflow.name, wanted.names),
        (workflow.app_version, only(wanted.app_version)),
        (workflow.parent_id, only(wanted.parent_id)),
        (workflow.executor_id, only(wanted.executor_id)),
    ]
    return (
        all(accepted is None or value in accepted for value, accepted in exact)
        and workflow.workflow_id.startswith(wanted.id_prefix or "")
        and (wanted.from_ms is None or wanted.from_ms <= workflow.created_at_ms)
        and wanted.is_stuck in (None, stuck_now(workflow) is not None)
        and (wanted.until_ms is None or workflow.created_at_ms <= wanted.until_ms)
    )


def only(text: str | None) -> tuple[str, ...] | None:
    """What is accepted where one text is asked for, or any."""
    return None if text is None else (text,)


def part(found: Sequence[T], limit: int | None, offset: int) -> Sequence[T]:
    """One page."""
    return found[offset:] if limit is None else found[offset : offset + limit]


def without_output(recorded: RecordedEntry) -> RecordedEntry:
    """A step as it is shown without values."""
    message = None if recorded.message is None else replace(recorded.message, body="")
    return replace(recorded, entry=replace(recorded.entry, output=None, error=None), message=message)


def stored(seq: int, sent: Sent) -> StoredMessage:
    """A message as it is listed."""
    message = sent.message
    return StoredMessage(
        seq,
        message.topic,
        message.body,
        message.sender_id,
        message.idempotency_key,
        message.sent_at_ms,
        sent.read_by,
    )


def entry_of_event(event: PublishedEvent) -> RecordedEntry:
    """The entry that an event with a place is."""
    assert event.branch is not None
    assert event.position is not None
    assert event.ordinal is not None
    return entry_at(Place(event.branch, event.position), event.ordinal, "DBOS.set_event", event.key, event.at_ms)


def entry_of_item(item: StreamItem) -> RecordedEntry:
    """The entry that an item is which no step wrote."""
    return entry_at(Place(item.branch, item.position), item.ordinal, "DBOS.write_stream", item.key, item.at_ms)


def entry_at(place: Place, ordinal: int, name: str, key: str, at_ms: int) -> RecordedEntry:
    """The entry of an operation that wrote under a key."""
    return RecordedEntry(Entry(*place, ordinal, name, started_at_ms=at_ms, completed_at_ms=at_ms), key=key)
