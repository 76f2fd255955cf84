"""What one run has recorded, how far it is, and the check that its code takes the recorded path.

A `Run` is one execution of one workflow under one epoch, with its whole history in memory.

Code runs in *branches*. The workflow function is the root. Each further task that calls a durable
operation opens a branch, numbered within its parent's in the order of their first operations. Each
branch counts its own operations, so parallel tasks replay correctly whatever their speed.

Branches may share state (a list, say). So results are numbered, and the code gets them in the order
of their numbers, both the first time (`coming`) and in a replay (`turns`).

An operation takes a `Slot`: its place, its ordinal (the order in which operations began, which
users see), and what is recorded there.

Not thread-safe. A branch is used only by the task or thread that owns it. What threads share (event
versions, say) is numbered inside `Defer`, under the run's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from tidings.core.ahead import Ahead
from tidings.core.effects import Due, WaitingReceive
from tidings.error import DBOSException, DBOSStreamClosedError, DBOSUnexpectedStepError
from tidings.model import (
    WRITE_STREAM,
    Answer,
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

ROOT = ""
LIMITS: Final = "limits"  # Not a branch: the entries of time limits that the code reached.
TIME_LIMIT: Final = "a time limit"
# What is recorded of a limit besides: that the one before was reached with it, which calls in threads were under way.
_TOGETHER: Final = "together"
_DURING: Final = "during"
NOTHING_CLOSED: Final[frozenset[str]] = frozenset()

E = TypeVar("E", bound=DBOSException)


class Branch:
    """A sequence of operations in a run. `owner` is the task or thread that calls them."""

    __slots__ = ("_calls", "_children", "_count", "owner", "path")

    def __init__(self, path: str = ROOT, owner: object = None) -> None:
        self.path = path
        self.owner = owner
        self._count = 0
        self._children = 0
        self._calls = 0

    def open_child(self, owner: object) -> Branch:
        """Open the next branch below this branch."""
        self._children += 1
        path = f"{self.path}.{self._children}" if self.path else str(self._children)
        return Branch(path, owner)

    def next_call(self) -> str:
        """Number a call of a function in a thread. Other threads have no influence on a number within a branch."""
        self._calls += 1
        return f"{self.path}/{self._calls}"

    @property
    def count(self) -> int:
        """How many operations this branch has begun."""
        return self._count

    def next_number(self) -> int:
        self._count += 1
        return self._count


class Run:
    """One execution of one workflow under one epoch."""

    __slots__ = (
        "_begun_at",
        "_calls",
        "_closed_streams",
        "_event_versions",
        "_excused",
        "_finished",
        "_gaps",
        "_limits_reached",
        "_limits_set",
        "_ordinal",
        "_places",
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
        "turns",
        "waiting_receive",
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
        self.due = due  # When the workflow times out.
        self.root = Branch()
        self._excused: set[str] = set()  # Cancelled branches: a replay may skip the rest of their entries.
        self._places: dict[str, list[Place]] | None = None  # The recorded places by branch, once one was cancelled.
        self.ahead = Ahead()
        self.broken: DBOSException | None = None  # Why this execution cannot continue; another may.
        self.when_broken: Callable[[], None] | None = None
        # Called, in any thread, with the number of an expected result that will not come. None without branches.
        self.when_nothing_came: Callable[[int], None] | None = None
        # The receive whose take waits. It has the last number, and no operation has begun since.
        self.waiting_receive: tuple[WaitingReceive, Slot] | None = None
        self._recorded: dict[Place, RecordedEntry] = {}
        self._ordinal = 0
        # The ordinals of operations that had begun and were not recorded, the next one last. In a replay, an operation
        # that begins before the last recorded result takes one of them. So an ordinal tells after which results an
        # operation began.
        self._gaps: list[int] = []
        self._calls = 0
        self._event_versions: dict[str, int] = {}
        self._stream_lengths: dict[str, int] = {}
        self._closed_streams = NOTHING_CLOSED
        self.begun = 0  # Operations that this execution has begun, and time limits that its code has reached.
        self._finished = 0  # The number of the last result.
        self.branches_left = 0  # How many entries of branches are recorded and have not begun again.
        # Results still to replay, the next one last. Their order matters only between branches.
        self.turns: list[int] = []
        # Of each recorded result: the highest ordinal that had begun, and how many operations had begun. An operation
        # that a replay begins for the first time may get an ordinal above that count.
        self._begun_at: dict[int, tuple[int, int]] = {}
        # New results that have a number and that the code has not got yet, the next one first. None without branches:
        # then there is one result at a time.
        self.coming: dict[int, None] | None = None
        self._undelivered: int | None = None
        self._limits_set = 0
        # Time limits that the code reached the first time and not yet again: result number to limit number.
        self._limits_reached: dict[int, int] = {}
        if history is not None:
            self._take_from(history)

    def _take_from(self, history: History) -> None:
        finished = []
        for each in history.entries:
            entry = each.entry
            self._recorded[Place(entry.branch, entry.position)] = each
            self._ordinal = max(self._ordinal, entry.ordinal, entry.begun or 0)
            if entry.finished is not None:
                finished.append(entry.finished)
                if entry.branch == LIMITS:
                    self._limits_reached[entry.finished] = entry.position
        if self._ordinal > len(self._recorded):
            taken = {each.entry.ordinal for each in self._recorded.values()}
            self._gaps = [number for number in range(self._ordinal, 0, -1) if number not in taken]
        self._finished = max(finished, default=0)
        self._event_versions = dict(history.event_versions)
        self._stream_lengths = dict(history.stream_lengths)
        self._closed_streams = frozenset(history.closed_streams)
        self.expect_branches()
        if self.branches_left:
            self._order_results()
            self.coming = {} if finished else None

    @property
    def has_turns(self) -> bool:
        """Whether recorded results or branch operations are still to replay. New operations wait for them."""
        return bool(self.turns or self.branches_left)

    def begin(self, branch: Branch, name: str, *, key: str | None = None, child: bool = False) -> Slot:
        """Take the next place in `branch` for the operation `name`.

        An operation is identified by its name and by the key of the event or stream that it writes to.
        `child` distinguishes the start of a child workflow from a step of the same name.

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
            return Slot(self, branch.path, number, self._next_ordinal(), name, None)
        if self.branches_left and self._is_left(Place(branch.path, number)):
            self.branches_left -= 1
        found, called = _title(recorded), _title_of(name, key, child)
        # An abandoned operation recorded only its name, a refused one no key.
        is_bare = recorded.entry.state is EntryState.ABANDONED or (key is not None and recorded.key is None)
        if found != called and not (is_bare and recorded.entry.name == name):
            raise self.diverge(branch.path, number, found, called)
        return Slot(self, branch.path, number, recorded.entry.ordinal, name, recorded)

    def diverge(self, branch: str, number: int, recorded: str, called: str) -> DBOSUnexpectedStepError:
        """Note that the code left the recorded path, and return the error that says so."""
        where = _where(Place(branch, number))
        return self.give_up(DBOSUnexpectedStepError(self.workflow_id, where, recorded, called))

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
                self.diverge(ROOT, number, _title(recorded), "nothing: it ended")
        if self.broken is not None:
            raise self.broken

    def _next_ordinal(self) -> int:
        if self._gaps and (self._recorded or self.turns):
            return self._gaps.pop()
        self._ordinal += 1
        return self._ordinal

    def _order_results(self) -> None:
        """Put the recorded results that are left in the order of their numbers, and note what had begun before each."""
        self._begun_at = {}
        for place, each in self._recorded.items():
            entry = each.entry
            if entry.finished is not None and place.branch not in self._excused:
                count = entry.begun or 0
                self._begun_at[entry.finished] = max(count, entry.ordinal - (place.branch == LIMITS)), count
        self.turns = sorted(self._begun_at, reverse=True)

    # --- functions in threads -----------------------------------------------------------------------

    def next_call(self, branch: Branch) -> str:
        """Number a call of a function in a thread. From now on the order of results counts, as between branches.

        Without branches, a replay has returned all earlier results by now, and none is under way.
        """
        self._calls += 1
        if self._recorded and not self.turns:
            self.takes_turns()
            self._order_results()
        return branch.next_call()

    def may_begin(self, branch: Branch) -> bool:
        """Tell whether the next operation of this branch may begin, because it first began before the next result.

        A thread may call the operation sooner than in the recorded run. There, another result may have come first and
        ended the thread's call. Then the task itself called the operation that is recorded at this place.
        """
        recorded = self._recorded.get(Place(branch.path, branch.count + 1))
        if not self.turns:
            return recorded is not None or not self.branches_left
        begun, _ = self._begun_at.get(self.turns[-1], (0, 0))
        if recorded is not None:
            if recorded.entry.ordinal <= begun or recorded.entry.finished == self.turns[-1]:
                return True
            # The result waits for more operations to begin. The next one in the order of ordinals is one of them.
            return self.lacks_begun(self.turns[-1]) and recorded.entry.ordinal == self._lowest_ordinal_left()
        return bool(self._gaps) and self._gaps[-1] <= begun

    def _lowest_ordinal_left(self) -> int:
        return min(
            each.entry.ordinal
            for place, each in self._recorded.items()
            if place.branch != LIMITS and place.branch not in self._excused
        )

    def lacks_begun(self, finished: int) -> bool:
        """Tell whether operations are still to begin again that had begun at this result."""
        _, count = self._begun_at.get(finished, (0, 0))
        return self.begun < count

    def ran_at(self, limit: int) -> frozenset[str] | None:
        """Return the calls in threads that were under way when the code reached this time limit; `None`: not known."""
        recorded = self._recorded.get(Place(LIMITS, limit))
        words = [] if recorded is None else (recorded.entry.output or "").split()
        return frozenset(each for each in words if "/" in each) if _DURING in words else None

    def limits_at(self, finished: int) -> list[int]:
        """Return the time limits that the code reached when this number was drawn, in one round of its event loop."""
        found: list[int] = []
        for number in reversed(self.turns):
            limit = self.limit_at(number) if number >= finished else None
            recorded = None if limit is None else self._recorded.get(Place(LIMITS, limit))
            if limit is None or recorded is None or (found and _TOGETHER not in (recorded.entry.output or "")):
                break
            found.append(limit)
        return found

    def outlasts_limit(self, call: str) -> bool:
        """Tell whether a call in a thread was still under way at a time limit that is to be reached again."""
        return any(call in (self.ran_at(limit) or ()) for limit in self._limits_reached.values())

    def expect_branches(self) -> None:
        """Count the entries of branches that have not begun again."""
        if self._recorded:
            self.branches_left = sum(self._is_left(place) for place in self._recorded if place.branch)
        else:
            self.branches_left = 0

    def excuse(self, branch: str) -> None:
        """Stop expecting a cancelled branch to replay the rest of its entries.

        A cancellation may reach a branch a little earlier or later in another execution. The entries stay: an
        operation that begins after all finds its result. Branches below this one may continue, and keep their turns.
        """
        if not self._recorded:
            return  # Everything recorded has begun again.
        self._excused.add(branch)
        if self._places is None:  # Thousands may be cancelled at once: group the places once.
            self._places = {}
            for place in self._recorded:
                self._places.setdefault(place.branch, []).append(place)
        left = [self._recorded[place] for place in self._places.get(branch, ()) if place in self._recorded]
        if left:
            excused = {each.entry.finished for each in left}
            self.turns = [number for number in self.turns if number not in excused]
            self.expect_branches()

    def lacks_branch(self, begun: int | None) -> DBOSUnexpectedStepError:
        """Note that the code will never begin a recorded operation, and return the error; for `begun` see `missing`."""
        place = self._next_left(begun)
        if place is None:  # The operation was cut off before it recorded anything.
            where, recorded, called = f"result {self.turns[-1]}", f"{begun} operations begun", f"only {self.begun}"
            return self.give_up(DBOSUnexpectedStepError(self.workflow_id, where, recorded, called))
        return self.diverge(place.branch, place.number, _title(self._recorded[place]), "nothing there")

    def missing(self, begun: int | None) -> str:
        """Describe what the replay waits for.

        Args:
            begun: how many operations must begin before the next result; `None` if that waits for none.
        """
        place = self._next_left(begun)
        return (
            f"{begun} operations to begin" if place is None else f"{_title(self._recorded[place])} at {_where(place)}"
        )

    def _next_left(self, begun: int | None) -> Place | None:
        """Return the earliest operation that has not begun again: one of a branch, if there is any."""
        ordinals = {place: each.entry.ordinal for place, each in self._recorded.items()}
        if begun is not None:
            ordinals = {place: ordinal for place, ordinal in ordinals.items() if ordinal <= begun}
        left = [place for place in ordinals if self._is_left(place)] or list(ordinals)
        return min(left, key=ordinals.__getitem__) if left else None

    def _is_left(self, place: Place) -> bool:
        return place.branch != ROOT and place.branch not in self._excused

    def takes_turns(self) -> None:
        """Deliver results to the code one at a time from now on, in the order of their numbers."""
        if self.coming is None:
            self.coming = {} if self._undelivered is None else {self._undelivered: None}

    def next_finished(self, instead_of: int | None) -> int:
        """Number the next result. `instead_of` is the earlier number of the same operation's result."""
        self.end_waiting_receive()
        self._finished += 1
        if self.coming is None:
            self._undelivered = self._finished
        else:
            if instead_of is not None:
                self.coming.pop(instead_of, None)
            self.coming[self._finished] = None
        return self._finished

    def next_limit(self) -> int:
        """Number a time limit that the code sets."""
        self._limits_set += 1
        return self._limits_set

    def limit_at(self, finished: int) -> int | None:
        """Return the time limit whose entry has this number; `None` if the number is another result's."""
        return self._limits_reached.get(finished)

    def is_to_reach(self, limit: int) -> bool:
        """Tell whether the code reached this time limit the first time, and not yet in this replay."""
        return Place(LIMITS, limit) in self._recorded

    def reaches_again(self, limit: int) -> None:
        """Note that a replay has reached a recorded time limit."""
        self.begun += 1
        recorded = self._recorded.pop(Place(LIMITS, limit))
        self._limits_reached.pop(recorded.entry.finished or 0, None)
        self.branches_left -= 1

    def reaches(self, limit: int, finished: int, calls: Iterable[str], *, is_next: bool = False) -> Entry:
        """Return the entry of a time limit that the code reached, with its number among the results.

        Args:
            limit: the number of the limit, from `next_limit`.
            finished: its number among the results.
            calls: the calls in threads that are under way.
            is_next: the limit before it was reached in the same round of the event loop.
        """
        begun = self.begun
        self.begun += 1
        self._ordinal += 1
        words = [_TOGETHER] if is_next else []
        words += [_DURING, *sorted(calls)] if self._calls else []
        output = " ".join(words) or None
        return Entry(
            LIMITS, limit, self._ordinal, TIME_LIMIT, EntryState.ABANDONED, output, finished=finished, begun=begun
        )

    def comes_no_more(self, number: int | None) -> None:
        """Stop waiting for the result with this number: the code has it, or it will not come."""
        if self.coming is None:
            self._undelivered = None
        elif number is not None:
            self.coming.pop(number, None)

    def is_next(self, number: int) -> bool:
        """Whether the code has got every new result before this one."""
        return not self.coming or next(iter(self.coming)) == number

    def end_waiting_receive(self) -> None:
        """End the waiting take, because another result is numbered, or another operation begins or is about to.

        The take's number is lower. If the committer committed it later, a replay would deliver its result too early.
        So it is either in a batch already, or it only wakes its receive, which takes under a new number.
        """
        if self.waiting_receive is None:
            return
        arrival, slot = self.waiting_receive
        self.waiting_receive = None
        number = slot.finished
        if number is not None and not arrival.stop_waiting(partial(self.nothing_came, number)):
            self.comes_no_more(number)

    def nothing_came(self, number: int) -> None:
        """Tell the turns that a numbered result does not come. May be called in any thread."""
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
        )


def _where(place: Place) -> str:
    if place.branch == LIMITS:
        return f"number {place.number} of the time limits that it sets"
    return f"operation {place.number}" + (f" of branch {place.branch}" if place.branch else "")


def _title(recorded: RecordedEntry) -> str:
    entry = recorded.entry
    return _title_of(entry.name, recorded.key, entry.child_workflow_id is not None)


def _title_of(name: str, key: str | None, child: bool) -> str:
    if child:
        return f"the child workflow {name}"
    return name if key is None else f"{name} of the {'stream' if name == WRITE_STREAM else 'event'} {key!r}"


def unexpected(answer: Answer) -> RuntimeError:
    """Return the error for an answer that the store's contract rules out."""
    return RuntimeError(f"the store gave an answer that its contract rules out: {answer!r}; please report this bug")
