"""A world for the rules: a store in a dict, a clock in an int, and a driver that interleaves branches at random.

Programs are data, so that hypothesis can make them up. A unit applies when it is handed over, so the log
of units is what a crash may cut anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from msgspec.structs import replace

from tidings.core.effects import (
    Abandoned,
    Barrier,
    Call,
    Commit,
    Defer,
    Failed,
    FindAllEvents,
    FindEnds,
    FindEvent,
    FindPendingBelow,
    FindWorkflow,
    Lack,
    ListExecutors,
    ListMessages,
    ListSteps,
    ListWorkflows,
    Missed,
    Now,
    Operation,
    Query,
    Read,
    ReadStream,
    Turn,
    Wait,
    Watch,
)
from tidings.core.effects import (
    Receive as ReceiveEffect,
)
from tidings.core.history import Run
from tidings.core.operations import events, messages, results, steps, timers
from tidings.core.places import Branch
from tidings.core.receive_state import AFTER, FIRST, Event, State
from tidings.core.retry import RetryPolicy
from tidings.error import DBOSMaxStepRetriesExceeded, DBOSNonExistentWorkflowError, DBOSStepTimeoutError
from tidings.model import (
    APPLIED,
    NOTHING,
    SET_EVENT,
    Answer,
    Entry,
    EntryState,
    EventRead,
    History,
    NewWorkflow,
    NoSuchWorkflow,
    OutgoingMessage,
    Place,
    RecordedEntry,
    Status,
    Take,
    Taken,
    Unit,
    WorkflowRecord,
)
from tidings.serialization import JSONSerializer

JSON = JSONSerializer()
WORKFLOW = "w"
OTHER = "other"  # the one workflow that may be sent to, and asked for events


# --- programs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A step that fails so many times, of so many tries that it has: with errors, or because it is too slow."""

    name: str
    failures: int = 0
    tries: int = 1
    is_slow: bool = False


@dataclass(frozen=True)
class Send:
    """A message to the other workflow, or to nobody."""

    to: str


@dataclass(frozen=True)
class Receive:
    """A receive on a topic of its own: a message is there, comes while it waits, or never, or the program gives up."""

    message: bool
    timeout_seconds: float
    gives_up: bool = False
    is_late: bool = False


@dataclass(frozen=True)
class Drain:
    """Receives on a topic of its own that so many messages wait on, until none is left; with a step after each."""

    messages: int
    timeout_seconds: float
    has_steps: bool


@dataclass(frozen=True)
class Publish:
    """An event of the branch's own."""

    key: str


@dataclass(frozen=True)
class ReadEvent:
    """Another workflow's event: there, or not there while that runs, or not there and never to come."""

    key: str


@dataclass(frozen=True)
class Sleep:
    """A pause."""

    seconds: float


@dataclass(frozen=True)
class Child:
    """A child workflow, awaited."""

    name: str


@dataclass(frozen=True)
class Parallel:
    """Branches that run side by side."""

    branches: tuple[tuple[Any, ...], ...]


Op = Step | Send | Receive | Drain | Publish | ReadEvent | Sleep | Child | Parallel
Program = tuple[Op, ...]

_EXPECTED = (ValueError, DBOSMaxStepRetriesExceeded, DBOSNonExistentWorkflowError, DBOSStepTimeoutError)

READABLE = {"there": "seen", "pending": None, "ended": None}


# --- the world -------------------------------------------------------------------------------------------


class Arrival:
    """What a receive waits for, as the engine has it: it follows the same table."""

    def __init__(self) -> None:
        self.state = FIRST

    def on(self, event: Event) -> State:
        """Let an event change the state. Returns the new state."""
        self.state = AFTER[self.state][event]
        return self.state

    def stop_waiting(self, _: Callable[[], None]) -> bool:
        """See `core.effects.WaitingReceive`."""
        return self.on(Event.STOP) is not State.STOPPED


@dataclass
class World:
    """What is durable, and what was done to the outside."""

    now_ms: int = 1_000
    entries: dict[Place, RecordedEntry] = field(default_factory=dict)
    inbox: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # unread messages by topic: number, body
    sent: int = 0  # to this workflow
    outbox: list[tuple[str, str | None, str]] = field(default_factory=list)
    published: list[tuple[str, int, str]] = field(default_factory=list)
    children: dict[str, str] = field(default_factory=dict)  # id to name
    existing: set[str] = field(default_factory=lambda: {OTHER})
    units: list[Unit] = field(default_factory=list)  # those that applied, in order
    times: list[int] = field(default_factory=list)  # when
    order: list[str] = field(default_factory=list)  # whose results have come to the code, by path
    seen: list[int] = field(default_factory=list)  # how many had when each unit was handed over
    calls: list[tuple[Any, ...]] = field(default_factory=list)  # each run of a step's code
    reads: list[str] = field(default_factory=list)
    waits: list[tuple[str, int | None]] = field(default_factory=list)
    last_finished: int = 0  # the number of the newest result

    def apply(self, unit: Unit) -> Answer:
        """Apply a unit, whole or not at all."""
        missing = tuple({each.destination_id for each in unit.messages} - self.existing - {WORKFLOW})
        if missing:
            return NoSuchWorkflow(missing)
        answer: Answer = APPLIED
        entry, taken = unit.entry, None
        if unit.take is not None:
            assert entry is not None
            taken = self._take(unit.take.topic)
            if taken is None:
                entry, answer = unit.take.otherwise, NOTHING
            else:
                seen = self.inbox.get(str(taken.topic), [])[: unit.take.ahead]
                answer = replace(taken, ahead=tuple(self._taken(taken.topic, *each) for each in seen))
        if unit.take_seen is not None:
            topics = [topic for topic, unread in self.inbox.items() if unread[0][0] == unit.take_seen]
            assert topics, "a message is taken that is not the oldest of its topic"
            taken = self._take(topics[0])
        if entry is not None:
            self._write(entry, taken)
        if unit.event is not None:
            event = unit.event
            assert event.branch is not None
            assert event.position is not None
            assert event.ordinal is not None
            self.published.append((event.key, event.version, event.value))
            place = Place(event.branch, event.position)
            assert place not in self.entries
            record = Entry(event.branch, event.position, event.ordinal, SET_EVENT)
            self.entries[place] = RecordedEntry(record, None, event.key)
        if unit.start is not None:
            self.children[unit.start.workflow_id] = unit.start.name
        for each in unit.messages:
            if each.destination_id == WORKFLOW:
                self.receive(str(each.topic), each.body)
            else:
                self.outbox.append((each.destination_id, each.topic, each.body))
        self.units.append(unit)
        self.times.append(self.now_ms)
        self.seen.append(len(self.order))
        return answer

    def receive(self, topic: str, body: str) -> None:
        """Keep a message, the newest of its topic."""
        self.sent += 1
        self.inbox.setdefault(topic, []).append((self.sent, body))

    def _take(self, topic: str | None) -> Taken | None:
        """Take the oldest message of a topic."""
        unread = self.inbox.get(str(topic))
        if unread is None:
            return None
        oldest = unread.pop(0)
        if not unread:
            del self.inbox[str(topic)]
        return self._taken(topic, *oldest)

    def _taken(self, topic: str | None, number: int, body: str) -> Taken:
        return Taken(number, body, topic, None, self.now_ms)

    def _write(self, entry: Entry, taken: Taken | None) -> None:
        place = Place(entry.branch, entry.position)
        former = self.entries.get(place)
        assert former is None or former.entry.state is EntryState.OPEN, "what is recorded is never written again"
        assert entry.ordinal not in {each.entry.ordinal for at, each in self.entries.items() if at != place}, (
            "two operations with one ordinal"
        )
        if entry.finished is not None:
            assert entry.finished > self.last_finished, "results are recorded in the order of their numbers"
            self.last_finished = entry.finished
        self.entries[place] = RecordedEntry(entry, taken)

    def history(self) -> History:
        """Return what a claim would read."""
        versions: dict[str, int] = {}
        for key, version, _ in self.published:
            versions[key] = max(version, versions.get(key, 0))
        return History(WORKFLOW, tuple(self.entries.values()), tuple(versions.items()))

    def read(self, query: Query) -> Any:
        """Answer a query."""
        match query:
            case FindEvent(_, key):
                self.reads.append(key)
                value = READABLE[key.split()[0]]
                status = Status.SUCCESS if key.startswith("ended") else Status.PENDING
                return EventRead(None if value is None else JSON.serialize(value), status)
            case FindWorkflow(workflow_id):
                self.reads.append(workflow_id)
                name = self.children[workflow_id]
                output = JSON.serialize(f"from {name}")
                return WorkflowRecord(
                    workflow_id, Status.SUCCESS, name, "", output, None, "", 1, None, "", WORKFLOW, 0, 0
                )
            case (
                FindAllEvents()
                | FindEnds()
                | FindPendingBelow()
                | ListWorkflows()
                | ListSteps()
                | ListMessages()
                | ListExecutors()
                | ReadStream()
            ):
                raise AssertionError("no program asks this")
            case _ as never:
                assert_never(never)


def world_of(program: Program, units: Sequence[Unit] = (), now_ms: int = 1_000) -> World:
    """Return the world in which `program` begins, with these units durable already."""
    world = World(now_ms)
    for path, op in _walk(program):
        if isinstance(op, Receive) and op.message:
            world.receive(f"topic {path}", JSON.serialize(f"message {path}"))
        if isinstance(op, Drain):
            for number in range(op.messages):
                world.receive(f"topic {path}", JSON.serialize(f"message {number} {path}"))
    for unit in units:
        world.apply(unit)
    return world


def _walk(program: Program, path: str = "") -> Generator[tuple[str, Op], None, None]:
    for index, op in enumerate(program):
        here = f"{path}/{index}"
        yield here, op
        if isinstance(op, Parallel):
            for number, branch in enumerate(op.branches):
                yield from _walk(branch, f"{here}.{number}")


# --- the driver ------------------------------------------------------------------------------------------

# What a task asks of the scheduler: to let others go first, to wait for children, for a time, or for its turn.
_Pause = tuple[str, Any]
_Task = Generator[_Pause, Any, None]
Results = dict[str, Any]


def execute(program: Program, world: World, seed: int = 0) -> Results:
    """Execute `program` from what is recorded in `world`, interleaving its branches as `seed` says.

    Returns:
        What each operation gave, by its path in the program.

    Raises:
        DBOSUnexpectedStepError: the program is not the recorded one.
    """
    run = Run(WORKFLOW, 1, "name", JSON, world.history() if world.units else None)
    found: Results = {}
    _schedule(_Executor(run, world, found), program, random.Random(seed))
    run.check_walked()
    return found


def _schedule(executor: _Executor, program: Program, dice: random.Random) -> None:
    root = executor.task(program, executor.run.root, "")
    ready: list[tuple[_Task, Any]] = [(root, None)]
    waiting: list[tuple[int, int, _Task]] = []
    turns: list[tuple[Turn, _Task]] = []
    parents: dict[int, tuple[_Task, int]] = {}
    counts: dict[int, int] = {}
    while ready or waiting or turns:
        if not ready:  # All stand still: whoever's turn it is goes on.
            ready.extend((task, None) for task in _next(executor.run, turns))
        if not ready:  # Nobody's: let the time come that is next.
            assert waiting, f"these wait for a turn that never comes: {turns}"
            waiting.sort(key=lambda item: item[:2])
            deadline, _, task = waiting.pop(0)
            executor.world.now_ms = max(executor.world.now_ms, deadline)
            ready.append((task, False))
        task, argument = ready.pop(dice.randrange(len(ready)))
        try:
            what, detail = task.send(argument)
        except StopIteration:
            if id(task) in parents:
                parent, key = parents.pop(id(task))
                counts[key] -= 1
                if counts[key] == 0:
                    ready.append((parent, None))
            continue
        if what == "yield":
            ready.append((task, None))
        elif what == "wait":
            waiting.append((detail, len(waiting), task))
        elif what == "turn":
            turns.append((detail, task))
        else:
            counts[id(task)] = len(detail)
            for child in detail:
                parents[id(child)] = (task, id(task))
                executor.keep.append(child)
                ready.append((child, None))


def _next(run: Run, turns: list[tuple[Turn, _Task]]) -> list[_Task]:
    """Take out whose turn it is: that of the next result, or of all new operations."""
    numbers = {run.turns[-1]} if run.turns else {None, next(iter(run.coming or ()), None)}
    given = [each for each in turns if each[0].finished in numbers and each[0].begun <= run.begun]
    if run.turns and given:
        run.turns.pop()
    elif not run.turns:
        run.branches_left = 0
    for each in given:
        turns.remove(each)
    return [task for _, task in given]


class _Executor:
    def __init__(self, run: Run, world: World, found: Results) -> None:
        self.run = run
        self.world = world
        self.found = found
        self.keep: list[_Task] = []  # Alive, so that no two have one id.

    def task(self, program: Program, branch: Branch, path: str) -> _Task:
        for index, op in enumerate(program):
            here = f"{path}/{index}"
            if isinstance(op, Parallel):
                branches = [branch.open_child(None) for _ in op.branches]
                for _ in branches:
                    self.run.ahead.branch_opens()
                    self.run.takes_turns()
                yield (
                    "spawn",
                    [self.task(each, branches[number], f"{here}.{number}") for number, each in enumerate(op.branches)],
                )
                continue
            perform = self._drain(op, branch, here) if isinstance(op, Drain) else self._perform(op, branch, here)
            self.found[here] = yield from perform
            yield "yield", None
        if branch is not self.run.root:
            self.run.ahead.branch_ends()

    def _drain(self, op: Drain, branch: Branch, path: str) -> Generator[_Pause, Any, list[Any]]:
        received: list[Any] = []
        while True:
            slot = self.run.begin(branch, messages.RECV)
            message = yield from self._drive(messages.receive(slot, f"topic {path}", op.timeout_seconds), op, path)
            if message is None:
                return received
            received.append(message.value)
            if op.has_steps:
                received.append((yield from self._perform(Step("alpha"), branch, f"{path}+{len(received)}")))

    def _perform(self, op: Op, branch: Branch, path: str) -> Generator[_Pause, Any, Any]:
        try:
            value = yield from self._drive(self._operation(op, branch, path), op, path)
            if isinstance(op, Child):
                self.world.order.append(path)
                value = yield from self._drive(
                    results.get_result_recorded(
                        self.run.begin(branch, results.GET_RESULT), value.workflow_id, None, lambda *_: ""
                    ),
                    op,
                    path,
                )
        except Abandoned:
            return "given up"
        except _EXPECTED as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if not isinstance(op, Publish):
                self.world.order.append(path)
        if isinstance(op, Send):
            return "sent"  # Which of the destinations had ended is not recorded: it is only logged.
        return value.value if isinstance(value, messages.Message) else value

    def _operation(self, op: Op, branch: Branch, path: str) -> Operation[Any]:
        match op:
            case Step(name, failures, tries, is_slow):

                def attempt(number: int) -> str:
                    self.world.calls.append((path, number))
                    if number <= failures and is_slow:
                        raise DBOSStepTimeoutError(path, WORKFLOW, number, 5)
                    if number <= failures:
                        raise ValueError(f"try {number} of {path}")
                    return f"result of {path}"

                return steps.step(self.run.begin(branch, name), attempt, RetryPolicy(tries, 0.5))
            case Send(to):
                return messages.send(self.run.begin(branch, messages.SEND), _letter(to, path))
            case Receive(_, timeout_seconds, gives_up):
                timeout = None if gives_up else timeout_seconds
                return messages.receive(self.run.begin(branch, messages.RECV), f"topic {path}", timeout)
            case Publish(key):
                own = f"{key} of {branch.path}"
                slot = self.run.begin(branch, SET_EVENT, key=own)
                return events.publish(slot, own, JSON.serialize(path))
            case ReadEvent(key):
                slot = self.run.begin(branch, events.GET_EVENT)
                return events.read_recorded(slot, OTHER, f"{key} {path}", 2.0, "default")
            case Sleep(seconds):
                return timers.sleep(self.run.begin(branch, timers.SLEEP), seconds)
            case Child(name):
                return results.start_child(self.run.begin(branch, name, child=True), _child(name, path), lambda _: None)
            case Parallel() | Drain():
                raise AssertionError("this is no operation")
            case _ as never:
                assert_never(never)

    def _drive(self, operation: Operation[Any], op: Op, path: str) -> Generator[_Pause, Any, Any]:
        resume: Callable[[Any], Any] = operation.send
        argument: Any = None
        while True:
            try:
                effect = resume(argument)
            except StopIteration as stop:
                if isinstance(stop.value, Failed):
                    raise stop.value.error from None
                return stop.value
            resume = operation.send
            try:
                if isinstance(effect, ReceiveEffect):
                    argument = yield from self._receive(effect, op, path)
                elif isinstance(effect, Wait):
                    argument = yield from self._wait(effect, op, path)
                elif isinstance(effect, Turn):
                    argument = yield "turn", effect
                else:
                    argument = self._perform_at_once(effect)
                    if isinstance(effect, Commit):
                        yield "yield", None
            except AssertionError:
                raise
            except BaseException as error:
                resume, argument = operation.throw, error

    def _receive(self, effect: ReceiveEffect, op: Op, path: str) -> Generator[_Pause, Any, Any]:
        self.world.waits.append((path, self._deadline_of(effect)))
        arrival: Arrival = effect.arrival
        arrival.on(Event.LOOK)
        answer = self._apply(effect.unit)
        arrival.on(Event.ANSWER if isinstance(answer, Taken) else Event.NOTHING)
        yield "yield", None
        if isinstance(answer, Taken):
            return answer
        if not (isinstance(op, Receive) and op.is_late):
            try:
                return (yield from self._wait(effect, op, path))
            finally:
                arrival.on(Event.RESULT)
        self.run.ahead.forget_all()
        yield "yield", None
        self._apply(Unit(messages=(_late(path),)))
        if arrival.on(Event.BOARD) is not State.BOARDED:
            arrival.on(Event.RESULT)
            return True
        assert effect.unit.take is not None
        answer = self._apply(replace(effect.unit, take=Take(effect.unit.take.topic)))
        arrival.on(Event.ANSWER)
        return answer

    def _wait(self, effect: Wait | ReceiveEffect, op: Op, path: str) -> Generator[_Pause, Any, Any]:
        deadline = self._deadline_of(effect)
        self.world.waits.append((path, deadline))
        self.run.ahead.forget_all()
        if isinstance(op, Receive) and op.gives_up:
            raise Abandoned
        assert deadline is not None, f"{path} waits for ever"
        return (yield "wait", deadline)

    def _deadline_of(self, effect: Wait | ReceiveEffect) -> int | None:
        due = effect.due
        if due is None or due.deadline_ms is not None:
            return None if due is None else due.deadline_ms
        return self.world.now_ms + due.longest_ms

    def _perform_at_once(self, effect: Call | Commit | Defer | Barrier | Watch | Read | Now | Missed) -> Any:
        match effect:
            case Call(function):
                return function()
            case Commit(unit):
                return self._apply(unit)
            case Defer(make):
                return self._apply(make())
            case Watch():
                return Arrival()
            case Barrier():
                return None
            case Missed():
                return None
            case Lack():
                raise AssertionError("nothing is lacking here")
            case Now():
                return self.world.now_ms
            case Read(query):
                return self.world.read(query)
            case _ as never:
                assert_never(never)

    def _apply(self, unit: Unit) -> Answer:
        assert self.run.broken is None, "nothing is written off the recorded path"
        return self.world.apply(unit)


def _letter(to: str, path: str) -> list[messages.Letter]:
    return [messages.Letter(to, "topic", JSON.serialize(path), None)]


def _late(path: str) -> OutgoingMessage:
    return OutgoingMessage(WORKFLOW, f"topic {path}", JSON.serialize(f"message {path}"), None, None, 0)


def _child(name: str, path: str) -> Callable[[int], NewWorkflow]:
    return lambda now_ms: NewWorkflow(f"child {path}", name, "", "", "", WORKFLOW, now_ms)
