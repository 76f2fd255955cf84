"""What the tests of stores share: a process as its store sees it, and short ways to say records."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tidings.model import (
    Answer,
    Entry,
    EntryState,
    Executor,
    NewWorkflow,
    Outcome,
    OutgoingMessage,
    PublishedEvent,
    Status,
    StreamItem,
    Take,
    Taken,
    Unit,
    WorkflowRecord,
)
from tidings.store.protocol import Batch, Store

NOW_MS = 1_700_000_000_000
LEASE_MS = 10_000
VERSION = "v1"


class Process:
    """One executor on one store: it numbers its batches and holds its fence, as an engine does."""

    def __init__(
        self, store: Store, executor_id: str = "here", label: str = "label", program: str | None = None
    ) -> None:
        self.store = store
        self.executor_id = executor_id
        self._label = label
        self._program = program
        self._number = 0
        self._landed: int | None = None
        self._is_known = True  # whether that is the last one
        self.fence = 0
        self.code_hash: str | None = None
        self.fence = store.enlist(self.executor)

    @property
    def executor(self) -> Executor:
        """What the process knows of itself."""
        return Executor(
            self.executor_id,
            self._label,
            NOW_MS + LEASE_MS,
            self.fence,
            program=self._program,
            code_hash=self.code_hash,
        )

    def batch(self, *units: Unit) -> Batch:
        """Make the next batch, without committing it."""
        if not self._is_known:  # A test committed one itself, or did not.
            found = self.store.refence(self.executor_id)
            self._landed = None if found is None else found.last_batch
        self._number += 1
        self._is_known = False
        return Batch(self.executor_id, self.fence, self._number, NOW_MS, LEASE_MS, units, landed=self._landed)

    def commit(self, *units: Unit) -> list[Answer]:
        """Commit the next batch."""
        batch = self.batch(*units)
        answers = self.store.commit(batch)
        self._landed, self._is_known = batch.number, True
        return answers

    def start(self, *workflow_ids: str, name: str = "flow", app_version: str = VERSION) -> None:
        """Start workflows of its program, each in a unit of its own."""
        starts = (new(each, name=name, app_version=app_version, program=self._program) for each in workflow_ids)
        self.commit(*(Unit(start=each) for each in starts))

    def claim(
        self,
        *dead: str,
        names: Collection[str] = ("flow",),
        app_version: str = VERSION,
        limit: int = 100,
        reserved: Collection[str] | None = None,
    ) -> list[str]:
        """Take over from dead executors and from nobody, and return the ids of what was claimed."""
        claimed = self.claim_records(*dead, names=names, app_version=app_version, limit=limit, reserved=reserved)
        return [workflow.workflow_id for workflow in claimed]

    def claim_records(
        self,
        *dead: str,
        names: Collection[str] = ("flow",),
        app_version: str = VERSION,
        limit: int = 100,
        reserved: Collection[str] | None = None,
    ) -> list[WorkflowRecord]:
        """Do the same, and return all of what was claimed."""
        claimed = self.store.claim(self.executor, dead, names, app_version, limit, reserved)
        self.fence += 1
        return claimed

    def reclaim(self, *workflow_ids: str) -> list[WorkflowRecord]:
        """Claim anew what is this process's already."""
        claimed = self.store.reclaim(self.executor, workflow_ids)
        self.fence += 1
        return claimed

    def take(self, workflow_id: str, position: int, topic: str | None = None) -> Answer:
        """Take a message at this position of the run under epoch 1."""
        [answer] = self.commit(taking(workflow_id, position, topic))
        return answer

    def drain(self, workflow_id: str, topic: str | None = None, *, first_position: int = 1_000) -> list[str]:
        """Take all messages of a topic, and return what they say."""
        bodies: list[str] = []
        while isinstance(answer := self.take(workflow_id, first_position + len(bodies), topic), Taken):
            bodies.append(answer.body)
        return bodies


def owned(store: Store, executor_id: str) -> tuple[int, dict[str, int]] | None:
    """Return the fence of an executor, and the pending runs it owns."""
    found = store.refence(executor_id)
    return None if found is None else (found.fence, found.owned)


# --- short ways to say records -----------------------------------------------------------------------


def new(
    workflow_id: str,
    *,
    name: str = "flow",
    app_version: str = VERSION,
    parent_id: str | None = None,
    program: str | None = None,
) -> NewWorkflow:
    """A workflow to start."""
    return NewWorkflow(workflow_id, name, f'["{name}"]', "json", app_version, parent_id, NOW_MS, program=program)


def entry(
    position: int,
    output: str | None = None,
    *,
    branch: str = "",
    ordinal: int | None = None,
    state: EntryState = EntryState.DONE,
    deadline_ms: int | None = None,
) -> Entry:
    """An entry; its ordinal is its position unless another is said."""
    return Entry(
        branch,
        position,
        position if ordinal is None else ordinal,
        "step",
        state,
        output,
        deadline_ms=deadline_ms,
        started_at_ms=NOW_MS,
        completed_at_ms=None if state is EntryState.OPEN else NOW_MS + 1,
    )


def opened(position: int, deadline_ms: int | None = None) -> Entry:
    """An entry of an operation that waits."""
    return entry(position, state=EntryState.OPEN, deadline_ms=deadline_ms)


def message(
    destination_id: str, body: str = "hello", topic: str | None = None, *, key: str | None = None
) -> OutgoingMessage:
    """A message from nobody in particular."""
    return OutgoingMessage(destination_id, topic, body, "sender", key, NOW_MS)


def sending(*messages: OutgoingMessage) -> Unit:
    """A unit that sends, from outside any run."""
    return Unit(messages=messages)


def taking(workflow_id: str, position: int, topic: str | None = None, otherwise: Entry | None = None) -> Unit:
    """A unit that takes a message."""
    return Unit(workflow_id, 1, entry(position), take=Take(topic, otherwise))


def looking(workflow_id: str, position: int, topic: str | None, *, ahead: int, otherwise: Entry | None = None) -> Unit:
    """A unit that takes a message and looks ahead."""
    return Unit(workflow_id, 1, entry(position), take=Take(topic, otherwise, ahead))


def taking_seen(workflow_id: str, position: int, seen: Taken) -> Unit:
    """A unit that takes a message that was seen."""
    return Unit(workflow_id, 1, entry(position), take_seen=seen.seq)


def recording(workflow_id: str, *entries: Entry) -> Iterable[Unit]:
    """Units of one entry each."""
    return (Unit(workflow_id, 1, each) for each in entries)


def event(key: str, version: int, value: str, position: int | None = None) -> PublishedEvent:
    """A version of an event; with a position it is also an entry."""
    if position is None:
        return PublishedEvent(key, version, value, NOW_MS)
    return PublishedEvent(key, version, value, NOW_MS, "", position, position)


def publishing(workflow_id: str, *events: PublishedEvent, epoch: int = 1) -> Iterable[Unit]:
    """Units of one event each."""
    return (Unit(workflow_id, epoch, event=each) for each in events)


def item(key: str, offset: int, value: str, position: int | None = None, *, attempt: int | None = None) -> StreamItem:
    """An item of a stream. Written by the workflow, its position is behind its offset unless another is said."""
    place = offset + 1 if position is None else position
    return StreamItem(key, offset, value, NOW_MS, "", place, place, attempt)


def appending(workflow_id: str, *items: StreamItem, epoch: int = 1) -> Iterable[Unit]:
    """Units of one item each."""
    return (Unit(workflow_id, epoch, item=each) for each in items)


def streaming(workflow_id: str, key: str, *values: str, offset: int = 0, epoch: int = 1) -> Iterable[Unit]:
    """Units that write these values to a stream, from an offset on."""
    items = (item(key, number, value) for number, value in enumerate(values, offset))
    return appending(workflow_id, *items, epoch=epoch)


def closing(workflow_id: str, *keys: str, epoch: int = 1) -> Unit:
    """A unit that closes streams."""
    return Unit(workflow_id, epoch, closes=keys)


def ending(workflow_id: str, status: Status = Status.SUCCESS, *, epoch: int = 1) -> Unit:
    """A unit that ends a run."""
    value, error = ("result", None) if status is Status.SUCCESS else (None, "error")
    return Unit(workflow_id, epoch, outcome=Outcome(status, value, error, NOW_MS + 5))
