"""Messages: received exactly once, in the order in which their sends completed, and as recorded.

A message counts as sent if any of its sends has returned. A receiver says why it stopped on a topic (`Left`). A message
left unread then is lost, unless the receiver was told to stop, or its time was over before the message came.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaos.evidence import Evidence, Seen
from chaos.histories import SUCCESS, FinalWorkflow, Received, Refused, Sending, Sent
from chaos.violations import Kind, Noted, Violation

RECV = "DBOS.recv"

# The largest difference between a journal's clock and the store's.
CLOCKS_APART_MS = 1_000

Name = tuple[str, int]


@dataclass(slots=True)
class _Letter:
    """One message, however many times it was sent."""

    sending: Seen[Sending]
    began: float
    returned: float = math.inf
    tries: int = 1
    refusals: int = 0
    evidence: list[Noted] = field(default_factory=list)

    @property
    def is_acknowledged(self) -> bool:
        return self.returned < math.inf

    @property
    def may_be_there(self) -> bool:
        return self.is_acknowledged or self.refusals < self.tries


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check every message, and every receiver."""
    letters = _letters(evidence)
    by_destination: dict[str, list[_Letter]] = {}
    for letter in letters.values():
        by_destination.setdefault(letter.sending.record.destination, []).append(letter)
    for workflow in evidence.final.workflows:
        yield from _stored(workflow, letters)
        yield from _recorded(workflow)
        yield from _lost(workflow, by_destination.get(workflow.workflow_id, ()), evidence.final.epoch_offset_ms)
        yield from _order(workflow, letters)


def _letters(evidence: Evidence) -> dict[Name, _Letter]:
    letters: dict[Name, _Letter] = {}
    for sending in evidence.of(Sending):
        name = (sending.record.sender, sending.record.number)
        if name in letters:
            letters[name].tries += 1
        else:
            letters[name] = _Letter(sending, sending.at, evidence=[sending.noted])
    for sent in evidence.of(Sent):
        letter = letters[sent.record.sender, sent.record.number]
        if not letter.is_acknowledged:
            letter.returned = sent.at
            letter.evidence.append(sent.noted)
    for refused in evidence.of(Refused):
        letter = letters[refused.record.sender, refused.record.number]
        letter.refusals += 1
        letter.evidence.append(refused.noted)
    return letters


def _received(workflow: FinalWorkflow) -> Sequence[Received]:
    """Return what the workflow's code received, if it ended with a result."""
    told = workflow.outcome.told
    return told.received if workflow.outcome.status == SUCCESS and told is not None else ()


def _entries(workflow: FinalWorkflow) -> list[Received]:
    """Return what the workflow's history says it received."""
    return [
        Received(step.output["topic"], step.output["sender"], step.output["number"])
        for step in workflow.steps
        if step.name == RECV and step.output is not None
    ]


def _stored(workflow: FinalWorkflow, letters: dict[Name, _Letter]) -> Iterator[Violation]:
    """Check that each stored message was sent to this workflow and topic, and is stored once."""
    where = workflow.workflow_id
    stored = [Received(each.topic, each.sender, each.number) for each in workflow.messages]
    for message in {*stored, *_received(workflow)}:
        letter = letters.get((message.sender, message.number))
        if letter is None or not letter.may_be_there:
            yield Violation(
                Kind.MESSAGE_INVENTED, where, f"nobody sent {message}", tuple(letter.evidence) if letter else ()
            )
        elif (letter.sending.record.destination, letter.sending.record.topic) != (where, message.topic):
            yield Violation(Kind.MESSAGE_INVENTED, where, f"{message} was sent elsewhere", tuple(letter.evidence))
    for what, messages in (("stored", stored), ("received", _received(workflow)), ("recorded", _entries(workflow))):
        for message, count in Counter(messages).items():
            if count > 1:
                letter = letters.get((message.sender, message.number))
                found = tuple(letter.evidence) if letter else ()
                yield Violation(Kind.MESSAGE_DUPLICATED, where, f"{message} is {what} {count} times", found)


def _recorded(workflow: FinalWorkflow) -> Iterator[Violation]:
    """Check for each topic that the code received what is recorded, and that exactly this is marked as read."""
    entries = _entries(workflow)
    if workflow.outcome.status == SUCCESS:
        received = _received(workflow)
        for topic in {each.topic for each in (*received, *entries)}:
            got = [each for each in received if each.topic == topic]
            recorded = [each for each in entries if each.topic == topic]
            if got != recorded:
                yield Violation(
                    Kind.MESSAGE_UNRECORDED, workflow.workflow_id, f"on {topic!r} it got {got}, recorded is {recorded}"
                )
    read = Counter(Received(each.topic, each.sender, each.number) for each in workflow.messages if each.is_read)
    if read != Counter(entries):
        detail = f"marked as read but not recorded: {read - Counter(entries)}; the reverse: {Counter(entries) - read}"
        yield Violation(Kind.MESSAGE_UNRECORDED, workflow.workflow_id, detail)


def _lost(workflow: FinalWorkflow, letters: Sequence[_Letter], offset_ms: float) -> Iterator[Violation]:
    """Check that acknowledged messages are stored, and were received if their topic was received from."""
    stored = {(each.sender, each.number): each for each in workflow.messages}
    received = {(each.sender, each.number) for each in _received(workflow)}
    told = workflow.outcome.told
    left = {each.topic: each.why for each in told.left} if told is not None else {}
    timed_out_ms = max(
        (each.completed_ms or 0 for each in workflow.steps if each.name == RECV and each.output is None), default=0
    )
    for letter in letters:
        sending = letter.sending.record
        name = (sending.sender, sending.number)
        if not letter.is_acknowledged or name in received:
            continue
        if name not in stored:
            why = "it was acknowledged, but is not stored"
        elif workflow.outcome.status != SUCCESS or left.get(sending.topic) == "stop":
            continue  # The check of the order tells whether it should have been received before the stop.
        elif left.get(sending.topic) != "timeout":
            why = "it was acknowledged, but never received"
        elif letter.returned / 1e6 + offset_ms + CLOCKS_APART_MS < timed_out_ms:
            why = f"it was acknowledged before the receive timed out, at {timed_out_ms} ms"
        else:
            continue
        detail = f"message {sending.number} of {sending.sender} on {sending.topic!r}: {why}"
        yield Violation(Kind.MESSAGE_LOST, workflow.workflow_id, detail, tuple(letter.evidence))


def _order(workflow: FinalWorkflow, letters: dict[Name, _Letter]) -> Iterator[Violation]:
    """Check that no message comes after one whose send began only after its own send had returned."""
    received = _received(workflow) if workflow.outcome.status == SUCCESS else _entries(workflow)
    unread = [Received(each.topic, each.sender, each.number) for each in workflow.messages if not each.is_read]
    latest: dict[str | None, _Letter] = {}
    for message in (*received, *unread):
        letter = letters.get((message.sender, message.number))
        if letter is None:
            continue
        before = latest.get(message.topic)
        if before is not None and letter.returned < before.began:
            first, second = (each.sending.record for each in (letter, before))
            detail = (
                f"message {first.number} of {first.sender} on {message.topic!r} comes after message {second.number} of "
                f"{second.sender}, whose send began only after the first one's had returned"
            )
            yield Violation(Kind.MESSAGE_REORDERED, workflow.workflow_id, detail, (*letter.evidence, *before.evidence))
        if before is None or letter.began > before.began:
            latest[message.topic] = letter
