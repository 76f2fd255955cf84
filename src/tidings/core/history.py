"""What one run has recorded, how far it is, and the check that its code takes the recorded path.

A `Run` is one execution of one workflow under one epoch, with its whole history in memory. It is one object, made of
layers, because each operation uses all of it: the numbers of results (`core.order`), what is still to replay
(`core.replay`), and here the operations that begin.

An operation takes a `Slot`: its place (`core.places`), its ordinal (the order in which operations began, which users
see), and what is recorded there.

Not thread-safe. A branch is used only by the task or thread that owns it. What threads share (event
versions, say) is numbered inside `Defer`, under the run's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from tidings.core.ahead import Ahead
from tidings.core.effects import Due
from tidings.core.places import ROOT, Branch, title, title_of, where
from tidings.core.replay import Replay
from tidings.core.targets import shown
from tidings.error import DBOSException, DBOSStreamClosedError, DBOSUnexpectedStepError
from tidings.model import (
    Entry,
    EntryState,
    History,
    NewWorkflow,
    Outcome,
    OutgoingMessage,
    Place,
    PublishedEvent,
    RecordedEntry,
    StreamItem,
    Take,
    Taken,
    Unit,
)
from tidings.serialization import Serializer

NOTHING_CLOSED: Final[frozenset[str]] = frozenset()

E = TypeVar("E", bound=DBOSException)


class Run(Replay):
    """One execution of one workflow under one epoch."""

    __slots__ = (
        "_closed_streams",
        "_event_versions",
        "_stream_lengths",
        "ahead",
        "broken",
        "due",
        "epoch",
        "name",
        "root",
        "serializer",
        "when_broken",
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
        super().__init__(() if history is None else history.entries)
        self.workflow_id = workflow_id
        self.epoch = epoch
        self.name = name
        self.serializer = serializer
        self.due = due  # When the workflow times out.
        self.root = Branch()
        self.ahead = Ahead()
        self.broken: DBOSException | None = None  # Why this execution cannot continue; another may.
        self.when_broken: Callable[[], None] | None = None
        self._event_versions: dict[str, int] = {} if history is None else dict(history.event_versions)
        self._stream_lengths: dict[str, int] = {} if history is None else dict(history.stream_lengths)
        self._closed_streams = NOTHING_CLOSED if history is None else frozenset(history.closed_streams)

    def begin(
        self, branch: Branch, name: str, *, key: str | None = None, child: bool = False, target: str | None = None
    ) -> Slot:
        """Take the next place in `branch` for the operation `name`.

        An operation is identified by its name, by the key of the event or stream that it writes to, and by its
        `target` (see `core.targets`). `child` distinguishes the start of a child workflow from a step of the same name.

        Raises:
            DBOSUnexpectedStepError: another operation is recorded there. From then on the run
                refuses every operation, so code that swallows the error cannot continue.
        """
        if self.broken is not None:
            raise self.broken
        number = branch.next_number()
        self.end_waiting_receive()
        self.begun += 1
        recorded = self._recorded.pop(Place(branch.path, number), None) if self._recorded else None
        if recorded is None:
            return Slot(self, branch.path, number, self._next_ordinal(), name, None, target)
        if self.branches_left and self._is_left(Place(branch.path, number)):
            self.branches_left -= 1
        found, called = title(recorded), title_of(name, key, child)
        # An abandoned operation recorded only its name, a refused one no key.
        is_bare = recorded.entry.state is EntryState.ABANDONED or (key is not None and recorded.key is None)
        is_another = found != called and not (is_bare and recorded.entry.name == name)
        # None: recorded by an earlier tidings, or by an operation without one.
        if is_another or recorded.entry.target not in (target, None):
            raise self._diverge_at(recorded, found, called, target)
        return Slot(self, branch.path, number, recorded.entry.ordinal, name, recorded, target)

    def _diverge_at(
        self, recorded: RecordedEntry, found: str, called: str, target: str | None
    ) -> DBOSUnexpectedStepError:
        first, now = shown(recorded.entry.target or "", target)
        place = recorded.entry
        return self.diverge(place.branch, place.position, f"{found} {first}".rstrip(), f"{called} {now}".rstrip())

    def diverge(self, branch: str, number: int, recorded: str, called: str) -> DBOSUnexpectedStepError:
        """Note that the code left the recorded path, and return the error that says so."""
        place = where(Place(branch, number))
        return self.give_up(DBOSUnexpectedStepError(self.workflow_id, place, recorded, called))

    def give_up(self, error: E) -> E:
        """Note that this execution cannot replay what is recorded. The workflow stays PENDING and unchanged.

        From then on the run refuses every operation with `error`, so code that swallows it cannot continue.
        """
        self.broken = error
        if self.when_broken is not None:
            self.when_broken()
        return error

    def check_walked(self) -> None:
        """Check, when the workflow function ends, that it reached every entry of the root branch."""
        if self._recorded and self.broken is None:
            left = [place.number for place in self._recorded if place.branch == ROOT]
            if left:
                number = min(left)
                recorded = self._recorded[Place(ROOT, number)]
                self.diverge(ROOT, number, title(recorded), "nothing: it ended")
        if self.broken is not None:
            raise self.broken

    def lacks_branch(self, begun: int | None) -> DBOSUnexpectedStepError:
        """Note that the code will never begin a recorded operation, and return the error; for `begun` see `missing`."""
        place = self._next_left(begun)
        if place is None:  # The operation was cut off before it recorded anything.
            at, recorded, called = f"result {self.turns[-1]}", f"{begun} operations begun", f"only {self.begun}"
            return self.give_up(DBOSUnexpectedStepError(self.workflow_id, at, recorded, called))
        return self.diverge(place.branch, place.number, title(self._recorded[place]), "nothing there")

    # --- events and streams -------------------------------------------------------------------------

    def next_version(self, key: str) -> int:
        """Number the next version of the event `key`. Called under the run's lock."""
        version = self._event_versions.get(key, 0) + 1
        self._event_versions[key] = version
        return version

    def next_offset(self, key: str) -> int:
        """Number the next item of the stream `key`. Called under the run's lock.

        Raises:
            DBOSStreamClosedError: the stream is closed.
        """
        if key in self._closed_streams:
            raise DBOSStreamClosedError(self.workflow_id, key)
        offset = self._stream_lengths.get(key, 0)
        self._stream_lengths[key] = offset + 1
        return offset

    def close_streams(self, keys: Iterable[str]) -> set[str]:
        """Refuse further items for these streams, already before the closing is durable. Returns which were open."""
        closed = set(keys) - self._closed_streams
        self._closed_streams = self._closed_streams | closed
        return closed

    def reopen_streams(self, keys: set[str]) -> None:
        """Reopen streams whose closing was withdrawn."""
        self._closed_streams = self._closed_streams - keys

    # --- writing ------------------------------------------------------------------------------------

    def unit(
        self,
        entry: Entry | None = None,
        *,
        messages: tuple[OutgoingMessage, ...] = (),
        take: Take | None = None,
        take_seen: int | None = None,
        put_back: Taken | None = None,
        event: PublishedEvent | None = None,
        start: NewWorkflow | None = None,
        outcome: Outcome | None = None,
        item: StreamItem | None = None,
        closes: tuple[str, ...] = (),
        cancels: tuple[str, ...] = (),
    ) -> Unit:
        """Make a unit of this run."""
        return Unit(
            workflow_id=self.workflow_id,
            epoch=self.epoch,
            entry=entry,
            messages=messages,
            take=take,
            take_seen=take_seen,
            put_back=None if put_back is None else put_back.seq,
            put_back_topic=None if put_back is None else put_back.topic,
            event=event,
            start=start,
            outcome=outcome,
            item=item,
            closes=closes,
            cancels=cancels,
        )


class Slot:
    """The place of one operation in its run, and what is recorded there."""

    __slots__ = ("branch", "closes", "finished", "name", "number", "ordinal", "recorded", "run", "target")

    def __init__(
        self,
        run: Run,
        branch: str,
        number: int,
        ordinal: int,
        name: str,
        recorded: RecordedEntry | None,
        target: str | None,
    ) -> None:
        self.run = run
        self.branch = branch
        self.number = number
        self.ordinal = ordinal
        self.name = name
        self.recorded = recorded
        self.target = target
        self.closes: frozenset[str] = NOTHING_CLOSED  # Streams that this try of a step has closed.
        self.finished: int | None = None  # The number of the operation's result, until the code has it.

    @property
    def is_open(self) -> bool:
        """Whether the operation is recorded as begun and not finished."""
        return self.recorded is not None and self.recorded.entry.state is EntryState.OPEN

    @property
    def is_finished(self) -> bool:
        """Whether the operation is recorded as ended: with a result, or given up."""
        return self.recorded is not None and self.recorded.entry.state is not EntryState.OPEN

    def comes_no_more(self) -> None:
        """Stop waiting for the numbered result: the code has it, or it was withdrawn."""
        self.run.comes_no_more(self.finished)
        self.finished = None

    def open(self, started_at_ms: int, deadline_ms: int | None, *, output: str | None = None) -> Entry:
        """Return the entry of a begun operation, with its deadline, or with what it has done so far as `output`."""
        return self._entry(EntryState.OPEN, output=output, deadline_ms=deadline_ms, started_at_ms=started_at_ms)

    def done(
        self,
        started_at_ms: int,
        completed_at_ms: int,
        *,
        output: str | None = None,
        error: str | None = None,
        child_workflow_id: str | None = None,
    ) -> Entry:
        """Return an entry with the result. It has a number among the results."""
        return self._entry(
            EntryState.DONE,
            output=output,
            error=error,
            child_workflow_id=child_workflow_id,
            started_at_ms=started_at_ms,
            completed_at_ms=completed_at_ms,
        )

    def abandoned(self) -> Entry:
        """Return an entry that says: the program stopped waiting. It has a number among the results."""
        return self._entry(EntryState.ABANDONED)

    def _entry(
        self,
        state: EntryState,
        *,
        output: str | None = None,
        error: str | None = None,
        child_workflow_id: str | None = None,
        deadline_ms: int | None = None,
        started_at_ms: int | None = None,
        completed_at_ms: int | None = None,
    ) -> Entry:
        is_over = state is not EntryState.OPEN
        if is_over:
            self.finished = self.run.next_finished(self.finished)
        return Entry(
            branch=self.branch,
            position=self.number,
            ordinal=self.ordinal,
            name=self.name,
            state=state,
            output=output,
            error=error,
            child_workflow_id=child_workflow_id,
            deadline_ms=deadline_ms,
            started_at_ms=started_at_ms,
            completed_at_ms=completed_at_ms,
            finished=self.finished if is_over else None,
            begun=self.run.begun if is_over else None,
            target=self.target,
        )
