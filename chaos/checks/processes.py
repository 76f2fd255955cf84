"""Processes: none ends by itself, and each ends when it is told to."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.evidence import Evidence
from chaos.histories import ProcessEnded
from chaos.violations import Kind, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check how each process ended."""
    for ended in evidence.of(ProcessEnded):
        record = ended.record
        if record.code is None:
            detail = "it did not end when told to; its stacks are in its log"
            yield Violation(Kind.PROCESS_STUCK, record.process, detail, (ended.noted,))
        elif record.wanted is None or (record.wanted == "terminate" and record.code != 0):
            detail = f"it ended with exit code {record.code}"
            yield Violation(Kind.PROCESS_DIED, record.process, detail, (ended.noted,))
