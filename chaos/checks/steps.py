"""Steps: recorded once, never changed, never run again.

A record was seen by a process that listed it, or by the workflow whose code got the result. An execution may be
overtaken: another process executes the workflow under a higher epoch. The overtaken one may not know that, and may
begin a step that is recorded already; but it can never record the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Evidence, Seen
from chaos.histories import Execution, RecordedStep, StepBegun, StepDone, StepReturned, StepsSampled
from chaos.violations import Kind, Violation

Key = tuple[str, str]


class _Executions:
    """The executions of each workflow, and when they began."""

    def __init__(self, evidence: Evidence) -> None:
        self._begun: dict[str, list[Seen[Execution]]] = defaultdict(list)
        for execution in evidence.of(Execution):
            self._begun[execution.record.workflow_id].append(execution)

    def overtook(self, workflow_id: str, epoch: int, at: int) -> Seen[Execution] | None:
        """Return an execution with a higher epoch that had begun at that time, if there is one."""
        return next((each for each in self._begun[workflow_id] if each.record.epoch > epoch and each.at < at), None)


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check every step of every workflow."""
    final = {each.workflow_id: {step.function_id: step for step in each.steps} for each in evidence.final.workflows}
    by_name = {(workflow_id, step.name): step for workflow_id, steps in final.items() for step in steps.values()}
    executions = _Executions(evidence)
    yield from _sampled(evidence, final)
    yield from _returned(evidence, by_name)
    yield from _invented(evidence, by_name)
    yield from _again(evidence, executions)
    yield from _overtaken(evidence, executions)


def overtaken_steps(evidence: Evidence) -> int:
    """Count the tries that overtaken executions began. They are allowed, but should be few."""
    executions = _Executions(evidence)
    begun = (each.record for each in evidence.of(StepBegun))
    return sum(executions.overtook(each.workflow_id, each.epoch, each.at) is not None for each in begun)


def _sampled(evidence: Evidence, final: dict[str, dict[int, RecordedStep]]) -> Iterator[Violation]:
    """Check that every record that was listed is unchanged at the end."""
    for sample in evidence.of(StepsSampled):
        workflow_id = sample.record.workflow_id
        for step in sample.record.steps:
            now = final.get(workflow_id, {}).get(step.function_id)
            if now is None:
                detail = f"{step} was listed, but is missing at the end"
                yield Violation(Kind.STEP_RECORD_LOST, workflow_id, detail, (sample.noted,))
            elif now != step:
                detail = f"{step} was listed, but at the end it is {now}"
                yield Violation(Kind.STEP_RESULT_CHANGED, workflow_id, detail, (sample.noted,))


def _returned(evidence: Evidence, by_name: dict[Key, RecordedStep]) -> Iterator[Violation]:
    """Check that each execution got the result that is recorded at the end."""
    for returned in evidence.of(StepReturned):
        record = returned.record
        step = by_name.get((record.workflow_id, record.step))
        if step is None:
            detail = f"{record.step} returned {record.attempt!r}, but is not recorded at the end"
            yield Violation(Kind.STEP_RECORD_LOST, record.workflow_id, detail, (returned.noted,))
        elif (step.output, step.error) != (record.attempt, record.error):
            detail = f"{record.step} returned something else than is recorded at the end: {step}"
            yield Violation(Kind.STEP_RESULT_CHANGED, record.workflow_id, detail, (returned.noted,))


def _invented(evidence: Evidence, by_name: dict[Key, RecordedStep]) -> Iterator[Violation]:
    """Check that each recorded result is the result of a try that ended."""
    done: dict[Key, list[Seen[StepDone]]] = defaultdict(list)
    for each in evidence.of(StepDone):
        done[each.record.workflow_id, each.record.step].append(each)
    for begun in {(each.record.workflow_id, each.record.step) for each in evidence.of(StepBegun)}:
        step = by_name.get(begun)
        if step is None:
            continue
        if step.error is None:
            is_real = any(each.record.attempt == step.output and each.record.error is None for each in done[begun])
        else:
            is_real = any(each.record.error is not None for each in done[begun])
        if not is_real:
            detail = f"no try of {step.name} ended with this: {step}"
            yield Violation(Kind.STEP_RESULT_INVENTED, begun[0], detail, tuple(each.noted for each in done[begun]))


def _again(evidence: Evidence, executions: _Executions) -> Iterator[Violation]:
    """Check that no try began after the step was known to be recorded."""
    known: dict[Key, Seen[StepReturned] | Seen[StepsSampled]] = {}
    for returned in evidence.of(StepReturned):
        known.setdefault((returned.record.workflow_id, returned.record.step), returned)
    for sample in evidence.of(StepsSampled):
        for step in sample.record.steps:
            key = (sample.record.workflow_id, step.name)
            if key not in known or sample.at < known[key].at:
                known[key] = sample
    for begun in evidence.of(StepBegun):
        record = begun.record
        seen = known.get((record.workflow_id, record.step))
        if seen is None or begun.at <= seen.at or executions.overtook(record.workflow_id, record.epoch, begun.at):
            continue
        detail = f"{record.step} began again after it was recorded"
        yield Violation(Kind.STEP_RAN_AGAIN, record.workflow_id, detail, (seen.noted, begun.noted))


def _overtaken(evidence: Evidence, executions: _Executions) -> Iterator[Violation]:
    """Check that no step that an overtaken execution began was recorded."""
    returned: dict[tuple[str, int], list[Seen[StepReturned]]] = defaultdict(list)
    for each in evidence.of(StepReturned):
        returned[each.record.workflow_id, each.record.epoch].append(each)
    for begun in evidence.of(StepBegun):
        record = begun.record
        by = executions.overtook(record.workflow_id, record.epoch, begun.at)
        if by is None:
            continue
        for each in returned[record.workflow_id, record.epoch]:
            if each.record.attempt == record.attempt:
                detail = f"{record.step} began after the workflow was taken over, and its result was recorded"
                yield Violation(Kind.STEP_OF_OVERTAKEN, record.workflow_id, detail, (by.noted, begun.noted, each.noted))
