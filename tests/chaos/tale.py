"""A run made by hand in which every promise is kept: what the processes noted, and what the database holds at the end.

It has messages from acknowledged sends, one sent under a key by two processes, one whose send failed and one that was
refused; a step that ran twice because its first executor was overtaken; events and streams with readers; a receive
that timed out; and workflows that failed, or were cancelled, as they were meant to. Tests break one thing in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from chaos.checker import check
from chaos.histories import (
    CANCELLED,
    ERROR,
    MEANT,
    SUCCESS,
    AnyRecord,
    Awaited,
    Cancelling,
    Ending,
    EventRead,
    EventSeen,
    Execution,
    Fault,
    Final,
    FinalMessage,
    FinalWorkflow,
    History,
    Item,
    Left,
    Outcome,
    ProcessEnded,
    ProcessStarted,
    Published,
    Received,
    Record,
    RecordedStep,
    Refused,
    SendFailed,
    Sending,
    Sent,
    Setting,
    Started,
    Starting,
    StepBegun,
    StepDone,
    StepReturned,
    StepsSampled,
    StreamEnded,
    StreamRead,
    StreamSeen,
    Told,
    Writing,
)
from chaos.violations import Kind

TOPIC = "topic"
COUNT = "count"
TOKENS, THOUGHTS = "tokens", "thoughts"
MS = 1_000_000  # ns

GOT = (Received(TOPIC, "s", 0), Received(TOPIC, "s", 1), Received(TOPIC, "k", 0), Received(TOPIC, "stop", 0))
INBOX = Outcome(SUCCESS, Told(received=GOT, left=(Left(TOPIC, "stop"),)))
PUBLISHER = Outcome(SUCCESS, Told())
LATE = Outcome(SUCCESS, Told(left=(Left(TOPIC, "timeout"),)))
WATCHER = Outcome(
    SUCCESS,
    Told(
        events=(EventSeen("publisher", COUNT, 1), EventSeen("publisher", COUNT, 3)),
        streams=(StreamSeen("publisher", TOKENS, 1, (Item(1), Item(2))),),
    ),
)
FAILED = Outcome(ERROR, error=f"{MEANT}: as it should")


class Tale:
    """What happened, and what there is at the end; both may be changed before it is checked."""

    def __init__(self) -> None:
        self.records: dict[str, list[AnyRecord]] = {}
        self.workflows: dict[str, FinalWorkflow] = {}

    def note(self, process: str, *records: AnyRecord) -> None:
        """Let a process note these."""
        self.records.setdefault(process, []).extend(records)

    def drop(self, *which: Record) -> None:
        """Let nobody have noted these."""
        for records in self.records.values():
            records[:] = [each for each in records if each not in which]

    def swap(self, before: Record, now: AnyRecord) -> None:
        """Let this have been noted instead of that."""
        assert any(before in records for records in self.records.values()), before
        for records in self.records.values():
            records[:] = [now if each == before else each for each in records]

    def end(self, workflow: FinalWorkflow) -> None:
        """Let this be there at the end."""
        self.workflows[workflow.workflow_id] = workflow

    def change(self, workflow_id: str, **changes: Any) -> None:
        """Let the workflow be different at the end."""
        self.workflows[workflow_id] = replace(self.workflows[workflow_id], **changes)

    def edit(self, workflow_id: str, edit: Callable[[list[RecordedStep]], object]) -> None:
        """Let the recorded steps of the workflow be different at the end."""
        steps = list(self.workflows[workflow_id].steps)
        edit(steps)
        self.change(workflow_id, steps=tuple(steps))

    def outcome(self, workflow_id: str, outcome: Outcome) -> None:
        """Let the workflow have had another end, to all who saw it."""
        for records in self.records.values():
            records[:] = [
                replace(each, outcome=outcome)
                if isinstance(each, (Ending, Awaited)) and each.workflow_id == workflow_id
                else each
                for each in records
            ]
        self.change(workflow_id, outcome=outcome)

    def kinds(self) -> set[Kind]:
        """Return what the checker finds broken."""
        histories = [History(process, tuple(records)) for process, records in self.records.items()]
        return {each.kind for each in check(histories, Final(tuple(self.workflows.values())))}


def recv(number: int, message: Received | None, completed_ms: int = 0) -> RecordedStep:
    """Return the record of a receive."""
    output = None if message is None else {"topic": message.topic, "sender": message.sender, "number": message.number}
    return RecordedStep(number, "DBOS.recv", output, None, 0, completed_ms)


FILED = RecordedStep(5, "file", "w0#1", None, 1, 2)
FILED_AGAIN = RecordedStep(6, "file again", "w1#1", None, 3, 4)
THOUGHT = RecordedStep(1, "think", "w0#4", None, 1, 2)
RISKED = RecordedStep(1, "risk", None, f"{MEANT}: risky", 1, 2)


def good_tale() -> Tale:
    """Tell a tale in which all is well."""
    tale = Tale()
    _messages(tale)
    _steps(tale)
    _events(tale)
    _streams(tale)
    _ends(tale)
    tale.note(
        "conductor",
        ProcessStarted("worker-0.0", at=1),
        Fault("kill", "worker-0.0", 1.0, at=2),
        ProcessEnded("worker-0.0", "kill", -9, at=3),
        ProcessEnded("worker-1.0", "terminate", 0, at=10_000),
    )
    return tale


def _messages(tale: Tale) -> None:
    tale.note(
        "client-0.0",
        Sending("s", 0, "inbox", TOPIC, at=200),
        Sent("s", 0, at=210),
        Sending("s", 1, "inbox", TOPIC, at=220),
        Sent("s", 1, at=230),
        Sending("k", 0, "inbox", TOPIC, "key", at=240),
    )
    tale.note(
        "client-0.1",
        Sending("k", 0, "inbox", TOPIC, "key", at=250),
        Sent("k", 0, at=260),
        Sending("s", 2, "inbox", TOPIC, at=270),
        SendFailed("s", 2, "DBOSShutdownError", at=271),
        Sending("s", 3, "nobody", TOPIC, at=280),
        Refused("s", 3, at=281),
        Sending("stop", 0, "inbox", TOPIC, at=290),
        Sent("stop", 0, at=295),
        Sending("late", 0, "late", TOPIC, at=3_000 * MS),
        Sent("late", 0, at=5_000 * MS),
    )
    tale.end(
        FinalWorkflow(
            "inbox",
            "chaos.inbox",
            INBOX,
            (*(recv(number, message) for number, message in enumerate(GOT, 1)), FILED, FILED_AGAIN),
            tuple(FinalMessage(each.topic, each.sender, each.number, True) for each in GOT),
        )
    )
    steps, messages = (recv(1, None, 4_000),), (FinalMessage(TOPIC, "late", 0, False),)
    tale.end(FinalWorkflow("late", "chaos.approval", LATE, steps, messages))


def _steps(tale: Tale) -> None:
    tale.note(
        "worker-0.0",
        Execution("inbox", 1, at=120),
        StepBegun("inbox", "file", "w0#1", 1, at=215),
        StepDone("inbox", "file", "w0#1", at=216),
        StepReturned("inbox", "file", 1, "w0#1", at=217),
        # It was paused, and does not know yet that it was overtaken.
        StepBegun("inbox", "file again", "w0#2", 1, at=305),
        StepDone("inbox", "file again", "w0#2", at=306),
    )
    tale.note(
        "worker-1.0",
        Execution("inbox", 2, at=300),
        StepReturned("inbox", "file", 2, "w0#1", at=301),
        StepBegun("inbox", "file again", "w1#1", 2, at=302),
        StepDone("inbox", "file again", "w1#1", at=303),
        StepReturned("inbox", "file again", 2, "w1#1", at=304),
    )
    tale.note("client-0.1", StepsSampled("inbox", (recv(1, GOT[0]), FILED, FILED_AGAIN), at=307))


def _events(tale: Tale) -> None:
    tale.note(
        "worker-0.0",
        Execution("publisher", 1, at=130),
        Setting("publisher", COUNT, 1, at=140),
        Published("publisher", COUNT, 1, at=150),
        Setting("publisher", COUNT, 2, at=160),
        Setting("publisher", COUNT, 3, at=170),
    )
    tale.note(
        "client-0.0",
        EventRead("r", "publisher", COUNT, None, 131, at=132),
        EventRead("r", "publisher", COUNT, 1, 151, at=152),
        EventRead("r", "publisher", COUNT, 2, 161, at=162),
        EventRead("r", "publisher", COUNT, 3, 171, at=175),
    )


def _streams(tale: Tale) -> None:
    tale.note(
        "worker-0.0",
        *(Writing("publisher", TOKENS, number, at=400 + number) for number in range(3)),
        StepBegun("publisher", "think", "w0#3", 1, at=410),
        Writing("publisher", THOUGHTS, 0, "w0#3", at=411),
        Writing("publisher", THOUGHTS, 1, "w0#3", at=412),
        StepDone("publisher", "think", "w0#3", f"{MEANT}: again", at=413),
        StepBegun("publisher", "think", "w0#4", 1, at=420),
        Writing("publisher", THOUGHTS, 0, "w0#4", at=421),
        Writing("publisher", THOUGHTS, 1, "w0#4", at=422),
        StepDone("publisher", "think", "w0#4", at=423),
        StepReturned("publisher", "think", 1, "w0#4", at=424),
    )
    tale.note(
        "client-0.0",
        StreamRead("r", "publisher", TOKENS, 0, (Item(0), Item(1)), at=402),
        StreamRead("r", "publisher", TOKENS, 2, (Item(2),), at=403),
        StreamEnded("r", "publisher", TOKENS, 3, at=450),
        StreamRead("middle", "publisher", TOKENS, 1, (Item(1),), at=403),
        StreamRead("middle", "publisher", TOKENS, 2, (Item(2),), at=404),
    )
    # Of the try that failed only a beginning came to be there: its process may have been killed.
    thoughts = (Item(0, "w0#3"), Item(0, "w0#4"), Item(1, "w0#4"))
    tokens = (Item(0), Item(1), Item(2))
    tale.end(
        FinalWorkflow(
            "publisher",
            "chaos.agent",
            PUBLISHER,
            (THOUGHT,),
            events={COUNT: 3},
            streams={TOKENS: tokens, THOUGHTS: thoughts},
        )
    )


def _ends(tale: Tale) -> None:
    tale.end(FinalWorkflow("watcher", "chaos.watcher", WATCHER))
    tale.end(FinalWorkflow("failing", "chaos.failing", FAILED, (RISKED,)))
    tale.end(FinalWorkflow("victim", "chaos.victim", Outcome(CANCELLED)))
    for workflow in list(tale.workflows.values()):
        workflow_id, outcome = workflow.workflow_id, workflow.outcome
        tale.note("client-0.0", Starting(workflow_id, workflow.name, at=100), Started(workflow_id, at=110))
        if outcome.status != CANCELLED:
            tale.note("worker-1.0", Ending(workflow_id, 1, outcome, at=500), Ending(workflow_id, 2, outcome, at=510))
        tale.note("client-0.1", Awaited(workflow_id, outcome, at=520))
    tale.note("client-0.0", Cancelling("victim", at=490), Starting("never begun", "chaos.victim", at=491))
    tale.note(
        "worker-0.0",
        StepBegun("failing", "risk", "w0#5", 1, at=450),
        StepDone("failing", "risk", "w0#5", f"{MEANT}: risky", at=451),
        StepReturned("failing", "risk", 1, None, f"{MEANT}: risky", at=452),
    )
