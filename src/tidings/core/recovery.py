"""What the death of a process means for the workflows that it executed.

*Attempts* count the recoveries of a workflow in a row without progress. If it has recorded something
new since the last recovery, the count starts again at one.

A workflow that repeatedly crashes its process would be recovered without end, and would stop all other
work of those processes each time. So after a number of attempts it becomes a *dead letter*.

A workflow that was waiting (for a message, a time, a result) when its process died is not to blame: no
attempt counts, because a wait may outlast any number of deployments.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidings.model import ANY_VERSION, EntryState, Executor, History, Recovery, Stuck, WorkflowRecord


def recovery_of(record: WorkflowRecord, history: History | None) -> Recovery:
    """Return the attempts that count now, and how many operations the workflow has recorded.

    Args:
        record: the workflow as claimed; the attempt of this claim is already counted in it.
        history: what the workflow has recorded; `None` for nothing.
    """
    entries = history.entries if history is not None else ()
    progress = sum(each.entry.state is not EntryState.OPEN for each in entries)
    if progress < len(entries):  # The workflow was waiting.
        return Recovery(0, progress)
    if progress > record.progress:
        return Recovery(min(record.recovery_attempts, 1), progress)
    return Recovery(record.recovery_attempts, progress)


def is_dead_letter(recovery: Recovery, max_attempts: int | None) -> bool:
    """Tell whether a workflow has used up its attempts and is not recovered again. `None` allows any number."""
    return max_attempts is not None and recovery.attempts > max_attempts


def of_program(found: WorkflowRecord, alive: Sequence[Executor]) -> list[Executor]:
    """Return the executors that execute workflows of the program that this workflow belongs to."""
    return [each for each in alive if each.app_version is not None and found.program in (None, each.program)]


def has_tried(stuck: Sequence[Stuck], app_version: str | None, code_hash: str | None) -> bool:
    """Tell whether this code is among those that could not continue a workflow; a claim decides the same."""
    return any((each.version, each.code_hash) == (app_version, code_hash) for each in stuck)


def heirs(found: WorkflowRecord, alive: Sequence[Executor]) -> list[Executor]:
    """Return the executors that may take the workflow over, if a function of its name is registered there.

    Those of its own version come first. Code that could not continue the workflow does not try again.
    """
    able = [each for each in of_program(found, alive) if not has_tried(found.stuck, each.app_version, each.code_hash)]
    own = [each for each in able if found.app_version in (ANY_VERSION, each.app_version)]
    return own or [each for each in able if each.takes_other_versions]


def share_of(orphans: int, survivors: int) -> int:
    """Return how many orphaned workflows each of the survivors claims when it first finds them."""
    return -(-orphans // max(survivors, 1))
