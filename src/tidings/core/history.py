"""What one run has recorded, where it stands, and the check that its code takes the recorded path.

A `Run` is one execution of one workflow under one epoch, with its whole history in memory. Code
runs in *branches*: the workflow function is the root, and each further task that calls a durable
operation opens a branch of its own, numbered within its parent's in the order of their first
operations. Each branch counts its operations alone, so tasks that run side by side replay right
whatever their speed. What they share (a list, say) is replayed right too: results are numbered as
they come, and branches get them in that order, at first (`coming`) and in a replay (`turns`). An
operation takes a `Slot`: its
place, its ordinal (the order in which operations began, which users see), and what is recorded
there.

Not thread-safe: positions are taken by the task or thread that owns the branch; what threads share
(event versions) is numbered inside `Defer`, under the run's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from tidings.core.ahead import Ahead
from tidings.core.effects import Due, Standing
from tidings.error import DBOSException, DBOSStreamClosedError, DBOSUnexpectedStepError
from tidings.model import (
    WRITE_STREAM,
    Answer,
    Entry,
    EntryState,
    History,
    Message,
    NewWorkflow,
    Outcome,
    Place,
    PublishedEvent,
    RecordedEntry,
    StreamItem,
    Take,
    Taken,
    Unit,
)
from tidings.serialization import Serializer

ROOT = ""
NOTHING_CLOSED: Final[frozenset[str]] = frozenset()

E = TypeVar("E", bound=DBOSException)


class Branch:
    """A line of operations in a run. `owner` is the task or thread that walks it."""

    __slots__ = ("_children", "_count", "owner", "path")

    def __init__(self, path: str = ROOT, owner: object = None) -> None:
        self.path = path
        self.owner = owner
        self._count = 0
        self._children = 0

    def open_child(self, owner: object) -> Branch:
        """Open the next branch that leaves this one."""
        self._children += 1
        path = f"{self.path}.{self._children}" if self.path else str(self._children)
        return Branch(path, owner)

    def next_number(self) -> int:
        self._count += 1
        return self._count


class Run:
    """One execution of one workflow under one epoch."""

    __slots__ = (
        "_closed_streams",
        "_event_versions",
        "_excused",
        "_finished",
        "_ordinal",
        "_recorded",
        "_stream_lengths",
        "_undelivered",
        "ahead",
        "begun",
        "branches_left",
        "broken",
        "coming",
        "due",
        "epoch",
        "name",
        "root",
        "serializer",
        "standing",
        "turns",
        "when_broken",
        "when_nothing_came",
        "workflow_id",
    )

    def __init__(
        self,
        workflow_id: str,
        epoch: int,
        name: str,
        serializer: Serializer,
        history: History | None = None,
        *,
        due: Due | None = None,
    ) -> None:
        self.workflow_id = workflow_id
        self.epoch = epoch
        self.name = name
        self.serializer = serializer
        self.due = due  # When the workflow is cancelled, if it has not ended.
        self.root = Branch()
        self._excused: tuple[str, ...] = ()  # Branches that were cancelled: what they have left need not come.
        self.ahead = Ahead()
        self.broken: DBOSException | None = None  # Why this execution cannot go on; another one may.
        self.when_broken: Callable[[], None] | None = None
        # Told, in any thread, the number of a result that was under way and does not come. None without branches.
        self.when_nothing_came: Callable[[int], None] | None = None
        # The receive whose take stands. It has the last number, and no operation has begun since.
        self.standing: tuple[Standing, Slot] | None = None
        entries: Iterable[RecordedEntry] = history.entries if history else ()
        self._recorded = {Place(each.entry.branch, each.entry.position): each for each in entries}
        self._ordinal = max((each.entry.ordinal for each in self._recorded.values()), default=0)
        self._event_versions = dict(history.event_versions) if history else {}
        self._stream_lengths = dict(history.stream_lengths) if history else {}
        self._closed_streams = frozenset(history.closed_streams) if history else NOTHING_CLOSED
        self.begun = 0  # How many operations this execution has begun.
        finished = sorted(each.entry.finished for each in entries if each.entry.finished is not None)
        self._finished = finished[-1] if finished else 0
        self.branches_left = 0  # How many places of branches are recorded, and not begun yet.
        self.expect_branches()
        # The results that are still to come again, the next one last: their order counts only between branches.
        self.turns = finished[::-1] if self.branches_left else []
        # The new results that are numbered and that the code has not got yet, the next one first; of a run that has
        # branches. One without has one result at a time.
        self.coming: dict[int, None] | None = {} if self.turns else None
        self._undelivered: int | None = None

    @property
    def has_turns(self) -> bool:
        """Whether recorded results, or operations of branches, are still to come again: what is new waits for them."""
        return bool(self.turns or self.branches_left)

    def begin(self, branch: Branch, name: str, *, key: str | None = None, child: bool = False) -> Slot:
        """Take the next place in `branch` for the operation `name`.

        What an operation is, is its name, with the key of the event or stream that it writes to; `child`
        tells the start of a child workflow from a step of the same name.

        Raises:
            DBOSUnexpectedStepError: another operation is recorded there. From then on the run
                refuses every operation, so that code which swallows the error cannot go on.
        """
        if self.broken is not None:
            raise self.broken
        number = branch.next_number()
        self._end_standing()
        self.begun += 1
        recorded = self._recorded.pop(Place(branch.path, number), None) if self._recorded else None
        if recorded is None:
            self._ordinal += 1
            return Slot(self, branch.path, number, self._ordinal, name, None)
        if self.branches_left and self._is_left(Place(branch.path, number)):
            self.branches_left -= 1
        found, called = _title(recorded), _title_of(name, key, child)
        # One that was given up has recorded its name alone, and one that was refused no key.
        is_bare = recorded.entry.state is EntryState.ABANDONED or (key is not None and recorded.key is None)
        if found != called and not (is_bare and recorded.entry.name == name):
            raise self.diverge(branch.path, number, found, called)
        return Slot(self, branch.path, number, recorded.entry.ordinal, name, recorded)

    def diverge(self, branch: str, number: int, recorded: str, called: str) -> DBOSUnexpectedStepError:
        """Note that the code left the recorded path, and return the error that says so."""
        where = _where(Place(branch, number))
        return self.give_up(DBOSUnexpectedStepError(self.workflow_id, where, recorded, called))

    def give_up(self, error: E) -> E:
        """Note that this execution cannot replay what is recorded. The workflow stays as it is, PENDING.

        From then on every operation is refused with `error`, so code that swallows it cannot go on.
        """
        self.broken = error
        if self.when_broken is not None:
            self.when_broken()
        return error

    def check_walked(self) -> None:
        """Check, at the end of the workflow function, that it met all that its own branch recorded."""
        left = [place.number for place in self._recorded if place.branch == ROOT]
        if left and self.broken is None:
            number = min(left)
            recorded = self._recorded[Place(ROOT, number)]
            self.diverge(ROOT, number, _title(recorded), "nothing: it ended")
        if self.broken is not None:
            raise self.broken

    def expect_branches(self) -> None:
        """Expect all that branches have recorded, and have not begun again."""
        self.branches_left = sum(self._is_left(place) for place in self._recorded if place.branch)

    def excuse(self, branch: str) -> None:
        """Expect nothing more of a branch that was cancelled, nor of those within it.

        When a cancellation comes may differ a little from one execution to the next. What is recorded stays:
        an operation that begins after all finds its result.
        """
        if not self._recorded:
            return  # All that was recorded has begun again.
        self._excused = (*self._excused, branch)
        excused = {each.entry.finished for place, each in self._recorded.items() if _is_within(place.branch, branch)}
        if excused:
            self.turns = [number for number in self.turns if number not in excused]
            self.expect_branches()  # Counted anew: a branch within this one may have been excused before.

    def lacks_branch(self, begun: int | None) -> DBOSUnexpectedStepError:
        """Note that nothing will ever begin what is recorded, and return the error that says so; see `missing`."""
        place = self._next_left(begun)
        if place is None:  # It was cut off, and has left no record.
            where, recorded, called = f"result {self.turns[-1]}", f"{begun} operations begun", f"only {self.begun}"
            return self.give_up(DBOSUnexpectedStepError(self.workflow_id, where, recorded, called))
        return self.diverge(place.branch, place.number, _title(self._recorded[place]), "nothing there")

    def missing(self, begun: int | None) -> str:
        """Say what has to come next: of the operations that had begun at the next result, if that only waits for them.

        Args:
            begun: how many they were; `None` if it does not wait, or there is no next result.
        """
        place = self._next_left(begun)
        return (
            f"{begun} operations to begin" if place is None else f"{_title(self._recorded[place])} at {_where(place)}"
        )

    def _next_left(self, begun: int | None) -> Place | None:
        """Return the first that was begun of what has not begun again: of branches, if there is any."""
        ordinals = {place: each.entry.ordinal for place, each in self._recorded.items()}
        if begun is not None:
            ordinals = {place: ordinal for place, ordinal in ordinals.items() if ordinal <= begun}
        left = [place for place in ordinals if self._is_left(place)] or list(ordinals)
        return min(left, key=ordinals.__getitem__) if left else None

    def _is_left(self, place: Place) -> bool:
        return place.branch != ROOT and not any(_is_within(place.branch, each) for each in self._excused)

    def branch_opens(self) -> None:
        """From now on results come to the code one after the other, in the order of their numbers."""
        self.ahead.branch_opens()
        if self.coming is None:
            self.coming = {} if self._undelivered is None else {self._undelivered: None}

    def next_finished(self, instead_of: int | None) -> int:
        """Number the next result, or the same operation's once more."""
        self._end_standing()
        self._finished += 1
        if self.coming is None:
            self._undelivered = self._finished
        else:
            if instead_of is not None:
                self.coming.pop(instead_of, None)
            self.coming[self._finished] = None
        return self._finished

    def comes_no_more(self, number: int | None) -> None:
        """Wait no longer for the result with this number: the code has it, or there is none."""
        if self.coming is None:
            self._undelivered = None
        elif number is not None:
            self.coming.pop(number, None)

    def is_next(self, number: int) -> bool:
        """Whether the code has got all results before the new one with this number."""
        return not self.coming or next(iter(self.coming)) == number

    def _end_standing(self) -> None:
        """Let a take that stands come after what is numbered or begins now, or be in a batch already.

        Its own number was drawn before. Committed later, its result would be replayed too early.
        """
        if self.standing is None:
            return
        arrival, slot = self.standing
        self.standing = None
        number = slot.finished
        if number is not None and not arrival.stands_no_more(partial(self._nothing_came, number)):
            self.comes_no_more(number)

    def _nothing_came(self, number: int) -> None:
        if self.when_nothing_came is not None:
            self.when_nothing_came(number)

    def next_version(self, key: str) -> int:
        """Number the next version of the event `key`. Called under the run's lock."""
        version = self._event_versions.get(key, 0) + 1
        self._event_versions[key] = version
        return version

    def next_offset(self, key: str) -> int:
        """Number the next item of the stream `key`. Called under the run's lock.

        Raises:
            DBOSStreamClosedError: it takes none.
        """
        if key in self._closed_streams:
            raise DBOSStreamClosedError(self.workflow_id, key)
        offset = self._stream_lengths.get(key, 0)
        self._stream_lengths[key] = offset + 1
        return offset

    def close_streams(self, keys: Iterable[str]) -> set[str]:
        """Let these streams take no more items, even before that is durable. Returns which took some until now."""
        closed = set(keys) - self._closed_streams
        self._closed_streams = self._closed_streams | closed
        return closed

    def reopen_streams(self, keys: set[str]) -> None:
        """Let streams take items again, whose closing was withdrawn."""
        self._closed_streams = self._closed_streams - keys

    def unit(
        self,
        entry: Entry | None = None,
        *,
        messages: tuple[Message, ...] = (),
        take: Take | None = None,
        take_seen: int | None = None,
        put_back: Taken | None = None,
        event: PublishedEvent | None = None,
        start: NewWorkflow | None = None,
        outcome: Outcome | None = None,
        item: StreamItem | None = None,
        closes: tuple[str, ...] = (),
    ) -> Unit:
        """Make a unit of this run."""
        if put_back is not None:
            return Unit(self.workflow_id, self.epoch, entry, put_back=put_back.seq, put_back_topic=put_back.topic)
        if take_seen is not None:
            return Unit(self.workflow_id, self.epoch, entry, take_seen=take_seen)
        return Unit(
            self.workflow_id, self.epoch, entry, messages, take, None, event, start, outcome, item=item, closes=closes
        )


class Slot:
    """The place of one operation in its run, and what is recorded there."""

    __slots__ = ("branch", "closes", "finished", "name", "number", "ordinal", "recorded", "run")

    def __init__(
        self, run: Run, branch: str, number: int, ordinal: int, name: str, recorded: RecordedEntry | None
    ) -> None:
        self.run = run
        self.branch = branch
        self.number = number
        self.ordinal = ordinal
        self.name = name
        self.recorded = recorded
        self.closes: frozenset[str] = NOTHING_CLOSED  # streams that this try of a step has closed
        self.finished: int | None = None  # The number of its result, until the code has got that.

    @property
    def is_open(self) -> bool:
        """Whether the operation is recorded as begun and not finished."""
        return self.recorded is not None and self.recorded.entry.state is EntryState.OPEN

    @property
    def is_finished(self) -> bool:
        """Whether the operation is recorded with its end: a result, or given up."""
        return self.recorded is not None and self.recorded.entry.state is not EntryState.OPEN

    def comes_no_more(self) -> None:
        """Wait no longer for the result that was numbered: the code has it, or it was taken back."""
        self.run.comes_no_more(self.finished)
        self.finished = None

    def open(self, started_at_ms: int, deadline_ms: int | None) -> Entry:
        """An entry that says: waiting since, and until."""
        return self._entry(EntryState.OPEN, None, None, None, deadline_ms, started_at_ms, None)

    def done(
        self,
        started_at_ms: int,
        completed_at_ms: int,
        *,
        output: str | None = None,
        error: str | None = None,
        child_workflow_id: str | None = None,
    ) -> Entry:
        """An entry that says: this was the result."""
        return self._entry(EntryState.DONE, output, error, child_workflow_id, None, started_at_ms, completed_at_ms)

    def abandoned(self) -> Entry:
        """An entry that says: the program stopped waiting here. When it did has its place among the results."""
        return self._entry(EntryState.ABANDONED, None, None, None, None, None, None)

    def _entry(
        self,
        state: EntryState,
        output: str | None,
        error: str | None,
        child_workflow_id: str | None,
        deadline_ms: int | None,
        started_at_ms: int | None,
        completed_at_ms: int | None,
    ) -> Entry:
        is_over = state is not EntryState.OPEN
        if is_over:
            self.finished = self.run.next_finished(self.finished)
        return Entry(
            self.branch,
            self.number,
            self.ordinal,
            self.name,
            state,
            output,
            error,
            child_workflow_id,
            deadline_ms,
            started_at_ms,
            completed_at_ms,
            self.finished if is_over else None,
            self.run.begun if is_over else None,
        )


def _where(place: Place) -> str:
    return f"operation {place.number}" + (f" of branch {place.branch}" if place.branch else "")


def _is_within(branch: str, outer: str) -> bool:
    return branch == outer or branch.startswith(f"{outer}.")


def _title(recorded: RecordedEntry) -> str:
    entry = recorded.entry
    return _title_of(entry.name, recorded.key, entry.child_workflow_id is not None)


def _title_of(name: str, key: str | None, child: bool) -> str:
    if child:
        return f"the child workflow {name}"
    return name if key is None else f"{name} of the {'stream' if name == WRITE_STREAM else 'event'} {key!r}"


def unexpected(answer: Answer) -> RuntimeError:
    """The error for an answer that the store's contract rules out."""
    return RuntimeError(f"the store gave an answer that its contract rules out: {answer!r}")
