"""Random operations on a store and on a model of it in plain Python: every answer is compared.

One database serves all sequences; the ids of each begin with a number of its own. Now and then it is emptied, or the
lists of all there is would take longer and longer. What differs by right is evened out: the numbers of messages, and
the order of lists that promise none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.store.driver import LEASE_MS, NOW_MS
from tests.store.model_store import ModelStore
from tests.support.records import Inspector
from tidings.model import (
    Answer,
    Entry,
    EntryState,
    Executor,
    ExecutorState,
    History,
    NewWorkflow,
    Outcome,
    OutgoingMessage,
    PendingGroup,
    PublishedEvent,
    RecordedEntry,
    Status,
    StoredMessage,
    StreamItem,
    Take,
    Taken,
    Unit,
    WorkflowFilter,
    WorkflowRecord,
)
from tidings.store.protocol import Batch, DataError, Fenced, Store

T = TypeVar("T")

SEQUENCES = 600  # on each store
PARTS = 3  # that may run side by side
SEQUENCES_KEPT = 50  # at most, in the database

NUMBERS = itertools.count(1)

# --- operations, as data -------------------------------------------------------------------------------


class Start(Struct, frozen=True):
    """Start a workflow; with a parent, as an entry of its history, or in a step. One of no version is nobody's."""

    workflow: str
    name: str
    version: str
    parent: str | None
    program: str | None
    in_step: bool = False
    late: bool = False  # under another epoch than its parent has


class Record(Struct, frozen=True):
    """Write an entry."""

    workflow: str
    position: int
    state: EntryState


class Send(Struct, frozen=True):
    """Send messages (destination, topic, key); with a sender, as an entry of its history."""

    messages: list[tuple[str, str | None, str | None]]
    sender: str | None


class Receive(Struct, frozen=True):
    """Take a message, if the place is still free for it."""

    workflow: str
    position: int
    topic: str | None
    leave_open: bool
    ahead: int


class Collect(Struct, frozen=True):
    """Take one of the messages that were seen and not taken, if any were; or that once were, by mistake."""

    which: int
    position: int
    by_mistake: bool


class PutBack(Struct, frozen=True):
    """Put back one of the messages that were taken, if any were."""

    which: int


class Publish(Struct, frozen=True):
    """Publish an event, under the next version or one that may be there."""

    workflow: str
    key: str
    known_version: int | None
    in_step: bool
    late: bool  # under another epoch than its workflow has


class Write(Struct, frozen=True):
    """Write to a stream, at its end or at an offset that may be taken or leave a gap, and perhaps close streams."""

    workflow: str
    key: str
    other_offset: int | None
    in_step: bool
    closes: tuple[str, ...]
    late: bool


class End(Struct, frozen=True):
    """End a run."""

    workflow: str
    epoch: int
    status: Status


class Cancel(Struct, frozen=True):
    """Cancel workflows, all or none; as an entry of a workflow's history, maybe."""

    workflows: list[str]
    by: str | None


SimplePart = Start | Record | Send | Receive | Publish | Write | End | Cancel
Part = SimplePart | PutBack | Collect


class Commit(Struct, frozen=True):
    """Commit a batch, and perhaps recall it; a process that finds itself fenced asks what it still owns.

    One that `believes` in a batch that the store does not have is fenced.
    """

    process: str
    parts: list[Part]
    recall: bool = False
    believes: bool = False


class Recall(Struct, frozen=True):
    """Recall the process's last batch, whatever came in between, or one that was never committed."""

    process: str
    committed: bool


class Claim(Struct, frozen=True):
    """Claim from others and from nobody."""

    process: str
    dead: list[str]
    names: list[str]
    version: str
    limit: int


class Reclaim(Struct, frozen=True):
    """Raise epochs of one's own runs."""

    process: str
    workflows: list[str]


class Retire(Struct, frozen=True):
    """Retire, and enlist again when there is something to do."""

    process: str


Operation = Commit | Recall | Claim | Reclaim | Retire


class Look(Struct, frozen=True):
    """List workflows, and what one of them recorded and was sent, and read pages of streams.

    Texts get the prefix of the sequence.
    """

    wanted: WorkflowFilter
    workflow: str
    with_outputs: bool
    streams: list[tuple[str, str, int]]
    limit: int
    max_bytes: int


WORKFLOWS = ("a", "b", "c")
PROCESSES = ("p", "q")
NAMES = ("flow", "other")
VERSIONS = ("v1", "v2")
PROGRAM_OF = {"p": "one", "q": "other"}
PROGRAMS = (None, *PROGRAM_OF.values())
KEYS = ("k", "l")

workflows = st.sampled_from(WORKFLOWS)
maybe_unknown = st.sampled_from((*WORKFLOWS, *WORKFLOWS, "unknown"))
processes = st.sampled_from(PROCESSES)
positions = st.integers(1, 3)
topics = st.sampled_from((None, None, "", "t"))
sent = st.tuples(maybe_unknown, topics, st.sampled_from((None, None, "key")))

other_offsets = st.sampled_from((*[None] * 7, 0, 4))
late = st.sampled_from((False, False, False, False, True))
closes = st.sampled_from(((), (), (), ("k",), ("l", "k"), ("m",)))

parts = st.one_of(
    st.builds(
        Start,
        workflows,
        st.sampled_from(NAMES),
        st.sampled_from((*VERSIONS, "")),
        st.none() | workflows,
        st.sampled_from(PROGRAMS),
        st.booleans(),
        late,
    ),
    st.builds(Record, workflows, positions, st.sampled_from(EntryState)),
    st.builds(Send, st.lists(sent, min_size=1, max_size=3), st.none() | workflows),
    *[st.builds(Receive, workflows, positions, topics, st.booleans(), st.sampled_from((0, 0, 1, 2, 100)))] * 2,
    *[st.builds(Collect, st.integers(0, 2), positions, st.sampled_from((False, False, False, True)))] * 2,
    st.builds(PutBack, st.integers(0, 2)),
    st.builds(PutBack, st.integers(0, 2)),
    st.builds(Publish, workflows, st.sampled_from(KEYS), st.sampled_from((None, None, None, 1)), st.booleans(), late),
    *[st.builds(Write, workflows, st.sampled_from(KEYS), other_offsets, st.booleans(), closes, late)] * 2,
    st.builds(End, maybe_unknown, st.sampled_from((1, 1, 2)), st.sampled_from((Status.SUCCESS, Status.ERROR))),
    st.builds(Cancel, st.lists(maybe_unknown, min_size=1, max_size=3, unique=True), st.none() | workflows),
)
operations = st.one_of(
    st.builds(Commit, processes, st.lists(parts, min_size=1, max_size=6), st.booleans()),
    st.builds(Commit, processes, st.lists(parts, min_size=1, max_size=6), st.booleans(), late),
    st.builds(Recall, processes, st.booleans()),
    st.builds(
        Claim,
        processes,
        st.lists(processes, max_size=1),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
        st.sampled_from(VERSIONS),
        st.integers(1, 3),
    ),
    st.builds(Reclaim, processes, st.lists(maybe_unknown, min_size=1, max_size=3, unique=True)),
    st.builds(Retire, processes),
)


def maybe(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """Any, more often than not."""
    return st.none() | st.none() | values


def some(values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    """None, one, or several, perhaps one twice."""
    return st.lists(values, max_size=3).map(tuple)


times = st.integers(NOW_MS, NOW_MS + 12)
filters = st.builds(
    WorkflowFilter,
    workflow_ids=maybe(some(maybe_unknown)),
    statuses=maybe(some(st.sampled_from(Status)) | st.just((Status.PENDING,))),
    names=maybe(some(st.sampled_from(NAMES))),
    from_ms=maybe(times),
    until_ms=maybe(times),
    app_version=maybe(st.sampled_from(VERSIONS)),
    parent_id=maybe(maybe_unknown),
    executor_id=maybe(processes),
    id_prefix=maybe(st.sampled_from(("", "a", "u", "%", "_"))),
    limit=maybe(st.integers(0, 3)),
    offset=st.sampled_from((0, 0, 1, 2)),
    newest_first=st.booleans(),
    with_inputs=st.booleans(),
    with_outputs=st.booleans(),
)
pages = st.lists(st.tuples(maybe_unknown, st.sampled_from((*KEYS, "m")), st.sampled_from((0, 0, 1, 2, -1))), max_size=4)
looks = st.lists(
    st.builds(
        Look,
        filters,
        maybe_unknown,
        st.booleans(),
        pages,
        st.sampled_from((1, 2, 100)),
        st.sampled_from((0, 6, 7, 13, 14, 10_000)),
    ),
    min_size=1,
    max_size=4,
)
# Most sequences find the workflows started and mail waiting, or little would ever be taken and put back.
STARTED = Commit("p", [Start(each, "flow", "v1", None, None) for each in WORKFLOWS])
MAILED = Commit("p", [Send([(each, topic, None) for topic in (None, None, "", "t")], None) for each in WORKFLOWS])
beginnings = st.sampled_from(([STARTED, MAILED], [STARTED, MAILED], [STARTED], []))
sequences = st.tuples(beginnings, st.lists(operations, min_size=3, max_size=10))


# --- one sequence ----------------------------------------------------------------------------------------


class World:
    """Performs operations on the store and on the model, and compares what they say."""

    def __init__(self, store: Store) -> None:
        self.number = next(NUMBERS)
        self.prefix = f"{self.number}:"
        self.model = ModelStore()
        self.stores: tuple[Store, Store] = (self.model, store)
        self.counter = itertools.count(1)
        self.fences: dict[str, int] = {}
        self.last: dict[str, tuple[Batch, Batch]] = {}
        self.landed: dict[str, tuple[int, int]] = {}  # the numbers of each process's last batch that did
        self.versions: dict[tuple[str, str], int] = {}
        self.lengths: dict[tuple[str, str], int] = {}
        # What each store took at a place: its number of the message.
        self.taken: dict[tuple[str, int], tuple[int, int]] = {}
        # What each store has seen for a workflow: its numbers of the messages.
        self.seen: dict[tuple[int, int], str] = {}

    def perform(self, operation: Operation) -> None:
        """Perform one operation, and read everything."""
        process = operation.process
        if process not in self.fences:
            name = self.prefix + process
            enlisted = Executor(
                name,
                "label",
                NOW_MS,
                0,
                host="host",
                pid=7,
                started_at_ms=5,
                app_version="v1",
                program=PROGRAM_OF[process],
            )
            self.fences[process] = self.same(lambda store: store.enlist(enlisted))
        match operation:
            case Commit(_, wanted, recall, believes):
                self.commit(process, wanted, believes)
                if recall:
                    self.recall(process)
            case Recall(_, committed):
                if not committed:
                    unit = Unit(cancels=(self.prefix + "a",))
                    self.last[process] = (self.batch(process, [unit]), self.batch(process, [unit]))
                self.recall(process)
            case Claim(_, dead, names, version, limit):
                ids = [self.prefix + each for each in dead if each != process]
                kinds = [self.prefix + each for each in names]
                executor = self.executor(process)
                self.fenced(process, self.same(lambda store: store.claim(executor, ids, kinds, version, limit)))
            case Reclaim(_, wanted_ids):
                ids = [self.prefix + each for each in wanted_ids]
                executor = self.executor(process)
                self.fenced(process, self.same(lambda store: by_id(store.reclaim(executor, ids))))
            case Retire(_):
                name, fence = self.prefix + process, self.fences.pop(process)
                self.last.pop(process, None)
                self.same(lambda store: store.retire(name, fence))
                # One that had lost runs is still there, as it would be for the others to declare dead.
                found = self.same(lambda store: store.refence(name))
                if found is not None:
                    self.fences[process] = found.fence
                else:
                    self.landed.pop(process, None)

    def commit(self, process: str, wanted: list[Part], believes: bool) -> None:
        """Commit a batch: the same to both, but for the numbers of messages put back."""
        touched: set[tuple[str, str, int]] = set()
        exist = {each.removeprefix(self.prefix) for each in self.model.records.workflows}
        starts = [part for part in wanted if isinstance(part, Start)]
        exist |= {start.workflow for start in starts if start.parent is None}
        pairs = [pair for part in wanted if (pair := self.units(part, exist, touched)) is not None]
        mine_landed, landed = (2**40, 2**40) if believes else self.landed.get(process, (None, None))
        of_model, of_store = [a for a, _ in pairs], [b for _, b in pairs]
        both = (self.batch(process, of_model, mine_landed), self.batch(process, of_store, landed))
        if any(unit.put_back is not None for unit, _ in pairs):
            self.last.clear()  # Nobody recalls a take that somebody else has put back: a run has one owner at a time.
        self.forget_takes_of({unit.workflow_id for unit, _ in pairs})
        self.last[process] = both
        answers: list[list[Answer]] = []

        def commit(store: Store) -> list[Answer]:
            answers.append(store.commit(both[store is not self.model]))
            return answers[-1]

        if not self.fenced(process, self.same(commit)) and answers:
            self.landed[process] = both[0].number, both[1].number
            for (unit, _), mine, theirs in zip(pairs, *answers, strict=True):
                if isinstance(mine, Taken) and isinstance(theirs, Taken) and unit.entry is not None:
                    self.taken[unit.workflow_id or "", unit.entry.position] = (mine.seq, theirs.seq)
                    for a, b in zip(mine.ahead, theirs.ahead, strict=True):
                        self.seen[a.seq, b.seq] = unit.workflow_id or ""

    def forget_takes_of(self, workflow_ids: set[str | None]) -> None:
        """Nobody recalls a take of a run that somebody else has gone on with: it had one owner at a time."""
        for process, (batch, _) in list(self.last.items()):
            if any(unit.take is not None and unit.workflow_id in workflow_ids for unit in batch.units):
                del self.last[process]

    def recall(self, process: str) -> None:
        """Recall the process's last batch."""
        if process in self.last:
            of_model, of_store = self.last[process]
            self.same(lambda store: store.recall(of_model if store is self.model else of_store))

    def units(self, part: Part, exist: set[str], touched: set[tuple[str, str, int]]) -> tuple[Unit, Unit] | None:
        """Make the unit of a part, for the model and for the store; `None` if the engine would not make it."""
        if isinstance(part, PutBack):
            if not self.taken:
                return None
            workflow_id, position = list(self.taken)[part.which % len(self.taken)]
            numbers = self.taken.pop((workflow_id, position))
            touched.add((workflow_id, "r", position))
            entry = Entry("r", position, next(self.counter), "recv", EntryState.ABANDONED)
            back = Unit(workflow_id, 1, entry, put_back=numbers[0])
            return back, replace(back, put_back=numbers[1])
        if isinstance(part, Collect):
            return self.collect(part, touched)
        if not self.can_be(part, exist, touched):
            return None
        unit = self.unit(part)
        return unit, unit

    def collect(self, part: Collect, touched: set[tuple[str, str, int]]) -> tuple[Unit, Unit] | None:
        """Make the units that take what was seen; what is read by now, only by mistake."""
        unread = {seq for seq, each in self.model.records.messages.items() if each.read_by is None}
        wanted = [
            each for each in self.seen if part.by_mistake or (each[0] in unread and ("", "m", each[0]) not in touched)
        ]
        if not wanted:
            return None
        numbers = wanted[part.which % len(wanted)]
        place = (self.seen[numbers], "r", part.position)
        there = self.model.records.entries.get(place)
        if place in touched or not (there is None or there.entry.state is EntryState.OPEN):
            return None
        touched |= {place, ("", "m", numbers[0])}
        unit = Unit(place[0], 1, Entry("r", part.position, next(self.counter), "recv"), take_seen=numbers[0])
        return unit, replace(unit, take_seen=numbers[1])

    def can_be(self, part: SimplePart, exist: set[str], touched: set[tuple[str, str, int]]) -> bool:
        """Whether the engine would make such a unit: a run extends its own history, each place once."""
        match part:
            case Start(parent=owner, in_step=in_step):
                return in_step or owner is None or owner in exist
            case Send(_, owner) | Cancel(_, owner):
                return owner is None or owner in exist
            case Receive(workflow, position):
                place = (self.prefix + workflow, "r", position)
                there = self.model.records.entries.get(place)
                free = place not in touched and (there is None or there.entry.state is EntryState.OPEN)
                touched.add(place)
                return free and workflow in exist
            case Record(workflow) | Publish(workflow) | Write(workflow):
                return workflow in exist
            case End():
                return True
            case _ as never:
                assert_never(never)

    def unit(self, part: SimplePart) -> Unit:
        """Make the unit of a part that is the same for both."""
        number = next(self.counter)
        match part:
            case Start():
                return self.start(part, number)
            case Record(workflow, position, state):
                entry = Entry("", position, number, "step", state, f"output {number}", deadline_ms=number)
                return Unit(self.prefix + workflow, 1, entry)
            case Send(messages, sender):
                letters = tuple(
                    OutgoingMessage(self.prefix + to, topic, f"body {number}.{n}", sender, key, NOW_MS)
                    for n, (to, topic, key) in enumerate(messages)
                )
                return Unit(self.owner(sender), 1, self.step(sender), messages=letters)
            case Receive(workflow, position, topic, leave_open, ahead):
                done = Entry("r", position, number, "recv")
                waiting = replace(done, state=EntryState.OPEN, deadline_ms=NOW_MS)
                return Unit(self.prefix + workflow, 1, done, take=Take(topic, waiting if leave_open else None, ahead))
            case Publish(workflow, key, known_version, in_step, late):
                latest = self.versions.get((workflow, key), 1)
                event = PublishedEvent(key, known_version or latest + 1, f"event {number}", NOW_MS + number)
                self.versions[workflow, key] = max(latest, event.version)
                if not in_step:
                    event = replace(event, branch="e", position=number, ordinal=number)
                return Unit(self.prefix + workflow, self.epoch(workflow) + late, event=event)
            case Write(workflow, key, other_offset, in_step, closes, late):
                length = self.lengths.get((workflow, key), 0)
                offset = length if other_offset is None else other_offset
                self.lengths[workflow, key] = max(length, offset + 1)
                item = StreamItem(key, offset, f"item {number}", NOW_MS + number, "i", number, number)
                if in_step:
                    item = replace(item, attempt=number % 3 + 1)
                return Unit(self.prefix + workflow, self.epoch(workflow) + late, item=item, closes=closes)
            case End(workflow, epoch, status):
                outcome = Outcome(status, f"value {number}", None, NOW_MS + number)
                return Unit(self.prefix + workflow, epoch, outcome=outcome)
            case Cancel(ids, by):
                return Unit(self.owner(by), 1, self.step(by), cancels=tuple(self.prefix + workflow for workflow in ids))
            case _ as never:
                assert_never(never)

    def start(self, part: Start, number: int) -> Unit:
        """Make the unit that starts a workflow."""
        ids = self.prefix + part.workflow, self.prefix + part.name
        of_class = (f"class {number}", f"config {number}") if number % 2 else (None, None)
        over_ms = (number, NOW_MS + number) if number % 3 else (None, None)
        parent_id = self.owner(part.parent)
        start = NewWorkflow(*ids, f"[{number}]", "json", part.version, parent_id, NOW_MS + number, *of_class, *over_ms)
        start = replace(start, program=part.program, is_owned=bool(part.version))
        if part.in_step or part.parent is None:
            return Unit(start=start)
        return Unit(parent_id, self.epoch(part.parent) + part.late, self.step(part.parent), start=start)

    def epoch(self, workflow: str) -> int:
        """The epoch of a workflow; of one that the batch starts, the first."""
        record = self.model.records.workflows.get(self.prefix + workflow)
        return 1 if record is None else record.epoch

    def owner(self, workflow: str | None) -> str | None:
        """The id of the run that a unit extends, if any."""
        return None if workflow is None else self.prefix + workflow

    def step(self, workflow: str | None) -> Entry | None:
        """An entry at a new place, for a unit that extends a run."""
        if workflow is None:
            return None
        number = next(self.counter)
        return Entry("s", number, number, "step", child_workflow_id=f"child {number}")

    def batch(self, process: str, units: list[Unit], landed: int | None = None) -> Batch:
        """Number a batch; model and store may well see different numbers."""
        executor_id, number = self.prefix + process, next(self.counter)
        return Batch(executor_id, self.fences[process], number, NOW_MS, LEASE_MS, units, landed=landed)

    def executor(self, process: str) -> Executor:
        """The executor as the process knows it."""
        return Executor(self.prefix + process, "label", NOW_MS, self.fences[process], program=PROGRAM_OF[process])

    def fenced(self, process: str, answer: Any) -> bool:
        """If the answer is that the fence has moved, ask for it anew, as the engine does."""
        if answer is not Fenced:
            return False
        name = self.prefix + process
        found = self.same(lambda store: store.refence(name))
        if found is None:
            del self.fences[process]
            self.last.pop(process, None)
            self.landed.pop(process, None)
        else:
            self.fences[process] = found.fence
        return True

    def same(self, ask: Callable[[Store], Any]) -> Any:
        """Ask both, check that they say the same, and return it; an error is its class."""
        said = []
        for store in self.stores:
            try:
                said.append(even(ask(store)))
            except (DataError, Fenced) as error:
                said.append(type(error))
        assert said[1] == said[0]
        return said[0]

    def compare_all(self) -> None:
        """Receive what is left, and compare everything that can be read."""
        topics = None, "", "t"
        everybody = [self.prefix + each for each in (*WORKFLOWS, "unknown")]
        self.same(lambda store: store.count_unread(everybody))
        takes = itertools.product(WORKFLOWS, topics, range(2))
        left: list[Part] = [Receive(each, 100 + n, topic, False, 2) for n, (each, topic, _) in enumerate(takes)]
        self.perform(Commit("p", left, recall=True))
        ids = [self.prefix + each for each in (*WORKFLOWS, "unknown")]
        self.same(lambda store: store.workflows(ids))
        self.same(lambda store: store.statuses(ids))
        self.same(lambda store: store.ends(ids))
        self.same(lambda store: [sorted(store.pending_below([each], 100)) for each in ids])
        self.same(lambda store: sorted(store.pending_below(ids, 100)))
        self.same(lambda store: len(store.pending_below(ids, 2)))
        self.same(lambda store: store.count_unread(ids))
        self.same(lambda store: store.histories(ids))
        self.same(lambda store: store.latest_events([(each, key) for each in ids for key in KEYS]))
        self.same(lambda store: [store.all_events(each) for each in ids])
        streams = [(each, key, offset) for each in ids for key in (*KEYS, "m") for offset in (0, 2)]
        self.same(lambda store: store.read_streams(streams, 100, 10_000))
        self.same(lambda store: by_id([each for each in store.executors() if self.mine(each.executor_id)]))
        self.same(lambda store: by_group([each for each in store.pending_groups() if self.mine(each.name)]))

    def look(self, look: Look) -> None:
        """List, and compare; only what this sequence has written, for others have written to the same database."""
        wanted, workflow_id = self.own(look.wanted), self.prefix + look.workflow
        self.same(lambda store: store.list_workflows(wanted))
        page = wanted.limit, wanted.offset
        self.same(lambda store: store.steps(workflow_id, *page, look.with_outputs))
        self.same(lambda store: store.messages(workflow_id, *page))
        streams = [(self.prefix + each, key, offset) for each, key, offset in look.streams]
        self.same(lambda store: store.read_streams(streams, look.limit, look.max_bytes))

    def own(self, wanted: WorkflowFilter) -> WorkflowFilter:
        """Put the prefix of the sequence to all texts; to one at least."""
        ids, names = (
            None if texts is None else tuple(self.prefix + each for each in texts)
            for texts in (wanted.workflow_ids, wanted.names)
        )
        is_own = any(each is not None for each in (ids, names, wanted.parent_id, wanted.executor_id))
        id_prefix = None if is_own and wanted.id_prefix is None else self.prefix + (wanted.id_prefix or "")
        parent_id, executor_id = self.owner(wanted.parent_id), self.owner(wanted.executor_id)
        return replace(
            wanted, workflow_ids=ids, names=names, parent_id=parent_id, executor_id=executor_id, id_prefix=id_prefix
        )

    def mine(self, name: str) -> bool:
        """Whether something of the database belongs to this sequence."""
        return name.startswith(self.prefix)


def even(answer: Any) -> Any:
    """Return an answer without what may differ: the numbers of messages, the order of versions."""
    match answer:
        case list() | tuple():
            return [even(each) for each in answer]
        case Taken():
            return replace(answer, seq=0, ahead=even(answer.ahead))
        case StoredMessage():
            return replace(answer, seq=0)
        case ExecutorState(_, int()):
            return replace(answer, last_batch=0)
        case RecordedEntry():
            return replace(answer, message=even(answer.message))
        case History():
            entries = tuple(even(each) for each in answer.entries)
            return History(
                answer.workflow_id,
                entries,
                tuple(sorted(answer.event_versions)),
                tuple(sorted(answer.stream_lengths)),
                tuple(sorted(answer.closed_streams)),
            )
        case _:
            return answer


def by_id(records: list[WorkflowRecord] | list[Executor]) -> dict[str, WorkflowRecord | Executor]:
    """Index records whose order is not promised."""
    return {each.workflow_id if isinstance(each, WorkflowRecord) else each.executor_id: each for each in records}


def by_group(found: list[PendingGroup]) -> dict[tuple[str | None, ...], PendingGroup]:
    """Index groups, whose order is not promised."""
    return {(each.name, each.app_version, each.executor_id, each.program): each for each in found}


@pytest.fixture
def inspector(database_url: str) -> Iterator[Inspector]:
    with Inspector(database_url) as inspector:
        yield inspector


@pytest.mark.parametrize("_part", range(PARTS))
@settings(
    max_examples=SEQUENCES // PARTS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(sequence=sequences, looks=looks)
@pytest.mark.long
def test_a_store_answers_as_the_model_does(
    store: Store, inspector: Inspector, _part: int, sequence: tuple[list[Operation], list[Operation]], looks: list[Look]
) -> None:
    """Every answer to every operation, parts of what is there, and all that can be read in the end."""
    world = World(store)
    if world.number % SEQUENCES_KEPT == 0:
        inspector.clear()
    for operation in itertools.chain(*sequence):
        world.perform(operation)
    for look in looks:
        world.look(look)
    world.compare_all()
    for look in looks:
        world.look(look)
