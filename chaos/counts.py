"""How much happened in a run: what the table at its end shows."""

from __future__ import annotations

from collections import Counter

from chaos.checks.steps import overtaken_steps
from chaos.evidence import Evidence
from chaos.histories import (
    CANCELLED,
    ERROR,
    SUCCESS,
    EventRead,
    Execution,
    Fault,
    ProcessStarted,
    SendFailed,
    Sending,
    Sent,
    Setting,
    StepBegun,
    StepsSampled,
    StreamRead,
)
from chaos.load.program import WORKER


def count(evidence: Evidence) -> dict[str, int]:
    """Count faults, and what was done meanwhile."""
    workflows = evidence.final.workflows
    ends = Counter(each.outcome.status for each in workflows)
    acknowledged = {(each.record.sender, each.record.number) for each in evidence.of(Sent)}
    return {
        **_faults(evidence),
        "processes started": len(evidence.of(ProcessStarted)),
        "workflows": len(workflows),
        "... ended with a result": ends[SUCCESS],
        "... with an error of their own": ends[ERROR],
        "... cancelled": ends[CANCELLED],
        "executions": len(evidence.of(Execution)),
        "takeovers by another process": takeovers(evidence),
        "sends": len(evidence.of(Sending)),
        "... failed, outcome unknown": len(evidence.of(SendFailed)),
        "messages acknowledged": len(acknowledged),
        "messages received": sum(each.is_read for workflow in workflows for each in workflow.messages),
        "steps recorded": sum(len(workflow.steps) for workflow in workflows),
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


def takeovers(evidence: Evidence) -> int:
    """Count the executions that went on where a process of another slot, or a former one of the same, had been."""
    last: dict[str, str] = {}
    found = 0
    for execution in evidence.of(Execution):
        if not execution.process.startswith(WORKER):
            continue
        before = last.get(execution.record.workflow_id)
        found += before is not None and before != execution.process
        last[execution.record.workflow_id] = execution.process
    return found
