"""Workflows: each that was started exists, ended once, and all observers saw the same end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Evidence, Seen
from chaos.histories import (
    CANCELLED,
    ERROR,
    MEANT,
    PENDING,
    Awaited,
    Cancelling,
    Ending,
    Execution,
    FinalWorkflow,
    Started,
    Starting,
)
from chaos.violations import Kind, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check every workflow."""
    starting = {each.record.workflow_id for each in evidence.of(Starting)}
    cancelling = {each.record.workflow_id for each in evidence.of(Cancelling)}
    for each in evidence.of(Started):
        if each.record.workflow_id not in evidence.workflows:
            detail = "it was started, but does not exist"
            yield Violation(Kind.WORKFLOW_LOST, each.record.workflow_id, detail, (each.noted,))
    ends: dict[str, list[Seen[Ending] | Seen[Awaited]]] = defaultdict(list)
    for reached in evidence.of(Ending):
        ends[reached.record.workflow_id].append(reached)
    for awaited in evidence.of(Awaited):
        ends[awaited.record.workflow_id].append(awaited)
    for workflow in evidence.final.workflows:
        if workflow.workflow_id not in starting:
            yield Violation(Kind.WORKFLOW_INVENTED, workflow.workflow_id, "nobody started it")
        yield from _status(workflow, workflow.workflow_id in cancelling)
        yield from _ends(workflow, ends[workflow.workflow_id])
    yield from _epochs(evidence)


def _status(workflow: FinalWorkflow, may_be_cancelled: bool) -> Iterator[Violation]:
    outcome = workflow.outcome
    if outcome.status == PENDING:
        open_steps = ", ".join(step.name for step in workflow.steps if step.completed_ms is None)
        yield Violation(Kind.WORKFLOW_WITHOUT_END, workflow.workflow_id, f"{workflow.name} waits in [{open_steps}]")
    elif outcome.status == CANCELLED and not may_be_cancelled:
        yield Violation(Kind.WORKFLOW_CANCELLED, workflow.workflow_id, f"{workflow.name} is cancelled")
    elif outcome.status == ERROR and not (outcome.error or "").startswith(MEANT):
        yield Violation(Kind.WORKFLOW_FAILED, workflow.workflow_id, f"{workflow.name}: {outcome.error}")


def _ends(workflow: FinalWorkflow, ends: list[Seen[Ending] | Seen[Awaited]]) -> Iterator[Violation]:
    """Check that all observers saw one end. An execution may end just when the workflow is cancelled."""
    status = workflow.outcome.status
    seen = [each for each in ends if isinstance(each.record, Awaited) or status not in (CANCELLED, PENDING)]
    others = [each for each in seen if each.record.outcome != workflow.outcome]
    if others:
        detail = f"it ended as {workflow.outcome}, but observers saw another end"
        yield Violation(Kind.WORKFLOW_ENDED_TWICE, workflow.workflow_id, detail, tuple(each.noted for each in others))
    reached = any(isinstance(each.record, Ending) for each in ends)
    if status not in (CANCELLED, PENDING) and not reached:
        yield Violation(Kind.WORKFLOW_END_INVENTED, workflow.workflow_id, f"it ended as {workflow.outcome}")


def _epochs(evidence: Evidence) -> Iterator[Violation]:
    first: dict[tuple[str, int], Seen[Execution]] = {}
    for execution in evidence.of(Execution):
        key = (execution.record.workflow_id, execution.record.epoch)
        if key in first:
            detail = f"two executions have epoch {key[1]}"
            yield Violation(Kind.EPOCH_SHARED, key[0], detail, (first[key].noted, execution.noted))
        first.setdefault(key, execution)
