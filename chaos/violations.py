"""The names of broken promises, and the record of one."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from chaos.histories import Record


class Kind(StrEnum):
    """Every promise that the checker can find broken."""

    MESSAGE_LOST = "message lost"
    MESSAGE_DUPLICATED = "message duplicated"
    MESSAGE_REORDERED = "message reordered"
    MESSAGE_INVENTED = "message that was never sent"
    MESSAGE_UNRECORDED = "message received that differs from the record"
    STEP_RAN_AGAIN = "step ran again after it was recorded"
    STEP_RESULT_CHANGED = "step result changed"
    STEP_RECORD_LOST = "step record lost"
    STEP_RESULT_INVENTED = "step result that no try returned"
    STEP_OF_OVERTAKEN = "step recorded by an overtaken execution"
    EVENT_INVENTED = "event that was never published"
    EVENT_BACKWARDS = "event went back to an older version"
    EVENT_STALE = "event older than one that was read or published before"
    EVENT_LOST = "event lost"
    STREAM_INVENTED = "stream item that was never written"
    STREAM_DUPLICATED = "stream item duplicated"
    STREAM_REORDERED = "stream items reordered"
    STREAM_ITEM_LOST = "stream item lost"
    STREAM_GAP = "gap in the items that a reader got"
    STREAM_CHANGED = "stream changed after it was read"
    STREAM_TRUNCATED = "stream shorter than a reader saw it"
    STREAM_CUT_SHORT = "stream ended for a reader before its end"
    WORKFLOW_LOST = "workflow lost"
    WORKFLOW_INVENTED = "workflow that was never started"
    WORKFLOW_WITHOUT_END = "workflow without an end"
    WORKFLOW_ENDED_TWICE = "workflow with two different ends"
    WORKFLOW_END_INVENTED = "workflow with an end that no execution reached"
    WORKFLOW_FAILED = "workflow ended with an unexpected error"
    WORKFLOW_CANCELLED = "workflow cancelled though nobody asked for it"
    EPOCH_SHARED = "two executions under one epoch"
    PROCESS_DIED = "process ended by itself"
    PROCESS_STUCK = "process did not end when told to"


class Noted(msgspec.Struct, frozen=True):
    """A record, and the process that wrote it."""

    process: str
    record: Record

    @property
    def at(self) -> int:
        """When it was written."""
        return self.record.at


class Violation(msgspec.Struct, frozen=True):
    """A broken promise.

    Attributes:
        subject: the workflow or process for which it was broken.
        detail: what was found, in words.
        evidence: the records that show it.
    """

    kind: Kind
    subject: str
    detail: str
    evidence: tuple[Noted, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind.value}: {self.subject}: {self.detail}"]
        lines += [f"    {each.process} at {each.at}: {each.record}" for each in self.evidence]
        return "\n".join(lines)
