"""Counts what happened in a run, for the table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from chaos.checks.steps import overtaken_steps
from chaos.evidence import Evidence, Seen
from chaos.histories import (
    CANCELLED,
    ERROR,
    SUCCESS,
    EventRead,
    Execution,
    Fault,
    ProcessEnded,
    ProcessStarted,
    SendFailed,
    Sending,
    Sent,
    Setting,
    StepBegun,
    StepsSampled,
    StreamRead,
)


def count(evidence: Evidence) -> dict[str, int]:
    """Count the faults and the work done meanwhile."""
    workflows = evidence.final.workflows
    ends = Counter(each.outcome.status for each in workflows)
    taken = takeovers(evidence)
    delays = _delays(evidence, taken) or [0]
    acknowledged = {(each.record.sender, each.record.number) for each in evidence.of(Sent)}
    return {
        **_faults(evidence),
        "processes started": len(evidence.of(ProcessStarted)),
        "workflows": len(workflows),
        "... ended with a result": ends[SUCCESS],
        "... with an error of their own": ends[ERROR],
        "... cancelled": ends[CANCELLED],
        "executions": len(evidence.of(Execution)),
        "takeovers by another process": len(taken),
        "median takeover after an end, ms": delays[len(delays) // 2],
        "slowest takeover after an end, ms": delays[-1],
        "sends": len(evidence.of(Sending)),
        "... failed, outcome unknown": len(evidence.of(SendFailed)),
        "messages acknowledged": len(acknowledged),
        "messages received": sum(each.is_read for workflow in workflows for each in workflow.messages),
        "operations recorded": sum(len(workflow.steps) for workflow in workflows),
        "tries of steps": len(evidence.of(StepBegun)),
        "... begun by an overtaken execution, not recorded": overtaken_steps(evidence),
        "lists of steps sampled": len(evidence.of(StepsSampled)),
        "events published": len({(e.record.workflow_id, e.record.key, e.record.version) for e in evidence.of(Setting)}),
        "event reads": len(evidence.of(EventRead)),
        "stream items": sum(len(items) for workflow in workflows for items in workflow.streams.values()),
        "stream items read live": sum(len(each.record.values) for each in evidence.of(StreamRead)),
    }


def _faults(evidence: Evidence) -> dict[str, int]:
    return dict(sorted(Counter(each.record.kind for each in evidence.of(Fault)).items()))


def takeovers(evidence: Evidence) -> list[tuple[str, Seen[Execution]]]:
    """Return each execution that continued a workflow of another process, with that process' name."""
    last: dict[str, str] = {}
    found = []
    for execution in evidence.of(Execution):
        before = last.get(execution.record.workflow_id)
        if before is not None and before != execution.process:
            found.append((before, execution))
        last[execution.record.workflow_id] = execution.process
    return found


def _delays(evidence: Evidence, taken: Iterable[tuple[str, Seen[Execution]]]) -> list[int]:
    """Return the delays in ms until workflows of ended processes were continued, shortest first."""
    ended = {each.record.process: each.at for each in evidence.of(ProcessEnded)}
    delays = [(execution.at - ended[process]) // 1_000_000 for process, execution in taken if process in ended]
    return sorted(delay for delay in delays if delay >= 0)  # The others were taken over from a paused process.
