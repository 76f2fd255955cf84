"""Streams: they hold exactly what was written, and each reader got a gap-free part, up to the end.

A workflow writes each item once. A try of a step writes its items once, in order. Of the try that was recorded, all
items are stored; of another try, the first few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from chaos.evidence import Evidence, Seen
from chaos.histories import SUCCESS, FinalWorkflow, Item, StreamEnded, StreamRead, Writing
from chaos.violations import Kind, Noted, Violation
from harness.promises import Misread, Miswritten, misread, miswritten

Stream = tuple[str, str]

_KINDS = {
    Miswritten.DUPLICATED: Kind.STREAM_DUPLICATED,
    Miswritten.REORDERED: Kind.STREAM_REORDERED,
    Misread.TRUNCATED: Kind.STREAM_TRUNCATED,
    Misread.CHANGED: Kind.STREAM_CHANGED,
    Misread.CUT_SHORT: Kind.STREAM_CUT_SHORT,
}


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check every stream at the end, and all its readers."""
    written: dict[Stream, dict[Item, Seen[Writing]]] = defaultdict(dict)
    for writing in evidence.of(Writing):
        record = writing.record
        written[record.workflow_id, record.key].setdefault(Item(record.number, record.attempt), writing)
    for (workflow_id, key), items in written.items():
        if workflow_id in evidence.workflows:
            yield from _at_the_end(evidence.workflows[workflow_id], key, items)
    yield from _read(evidence)
    yield from _read_in_workflows(evidence)


def _at_the_end(workflow: FinalWorkflow, key: str, written: dict[Item, Seen[Writing]]) -> Iterator[Violation]:
    stream = workflow.streams.get(key, ())
    where = f"{workflow.workflow_id}, stream {key!r}"
    for item in stream:
        if item not in written:
            yield Violation(Kind.STREAM_INVENTED, where, f"nobody wrote {item}")
    by_writer: dict[str | None, list[int]] = defaultdict(list)
    for item in stream:
        by_writer[item.attempt].append(item.number)
    for writer, numbers in by_writer.items():
        who = "the workflow" if writer is None else f"the try {writer}"
        wrong = miswritten(numbers)
        if wrong is not None:
            yield Violation(_KINDS[wrong], where, f"from {who} there are {numbers}")
    yield from _lost(workflow, where, stream, written)


def _lost(
    workflow: FinalWorkflow, where: str, stream: Sequence[Item], written: dict[Item, Seen[Writing]]
) -> Iterator[Violation]:
    """Check that each writer's first items are stored without a gap; and all, for the workflow and recorded tries."""
    recorded = {step.output for step in workflow.steps if isinstance(step.output, str)}
    there = set(stream)
    highest: dict[str | None, int] = {}
    for item in there:
        highest[item.attempt] = max(item.number, highest.get(item.attempt, -1))
    is_done = workflow.outcome.status == SUCCESS
    for item, writing in written.items():
        is_whole = is_done if item.attempt is None else item.attempt in recorded
        if item not in there and (is_whole or item.number < highest.get(item.attempt, -1)):
            yield Violation(Kind.STREAM_ITEM_LOST, where, f"{item} was written, but is not stored", (writing.noted,))


def _read(evidence: Evidence) -> Iterator[Violation]:
    following: dict[tuple[str, Stream], tuple[int, Noted]] = {}
    for read in evidence.of(StreamRead):
        record = read.record
        stream = (record.workflow_id, record.key)
        expected = following.get((record.reader, stream))
        if expected is not None and expected[0] != record.offset:
            detail = f"{record.reader} was at offset {expected[0]}, but its next items are from {record.offset} on"
            yield Violation(Kind.STREAM_GAP, _name(stream), detail, (expected[1], read.noted))
        following[record.reader, stream] = (record.offset + len(record.values), read.noted)
        yield from _misread(evidence, stream, record.reader, record.offset, record.values, (read.noted,))
    for ended in evidence.of(StreamEnded):
        stream = (ended.record.workflow_id, ended.record.key)
        last = following.get((ended.record.reader, stream))
        if last is not None and last[0] != ended.record.offset:
            detail = f"{ended.record.reader} was at offset {last[0]}, but was told the end at {ended.record.offset}"
            yield Violation(Kind.STREAM_GAP, _name(stream), detail, (last[1], ended.noted))
        else:
            at, noted = ended.record.offset, (ended.noted,)
            yield from _misread(evidence, stream, ended.record.reader, at, (), noted, to_the_end=True)


def _read_in_workflows(evidence: Evidence) -> Iterator[Violation]:
    for workflow in evidence.final.workflows:
        for seen in workflow.outcome.told.streams if workflow.outcome.told is not None else ():
            stream = (seen.workflow_id, seen.key)
            reader = workflow.workflow_id
            yield from _misread(evidence, stream, reader, seen.offset, seen.values, (), to_the_end=True)


def _misread(
    evidence: Evidence,
    stream: Stream,
    reader: str,
    offset: int,
    values: Sequence[Item],
    found: tuple[Noted, ...],
    *,
    to_the_end: bool = False,
) -> Iterator[Violation]:
    """Check what a reader got against the stream at the end."""
    final = _final(evidence, stream)
    for wrong in misread(final, offset, values, to_the_end=to_the_end):
        detail = _detail(wrong, reader, offset, values, final)
        yield Violation(_KINDS[wrong], _name(stream), detail, found)


def _detail(wrong: Misread, reader: str, offset: int, values: Sequence[Item], final: Sequence[Item]) -> str:
    end, there = offset + len(values), len(final)
    match wrong:
        case Misread.TRUNCATED:
            return f"{reader} read {len(values)} items from offset {offset} on, but at the end there are {there}"
        case Misread.CHANGED:
            return f"{reader} read {values} from offset {offset} on, but at the end there is {final[offset:end]}"
        case Misread.CUT_SHORT:
            return f"{reader} was told the end at {end}, but there are {there} items"


def _final(evidence: Evidence, stream: Stream) -> Sequence[Item]:
    workflow = evidence.workflows.get(stream[0])
    return () if workflow is None else workflow.streams.get(stream[1], ())


def _name(stream: Stream) -> str:
    return f"{stream[0]}, stream {stream[1]!r}"
