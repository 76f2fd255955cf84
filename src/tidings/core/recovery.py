"""What follows from the death of a process for the workflows that it executed.

*Attempts* are deaths of a process during which a workflow did not get on: it recorded nothing new since
the recovery before. One that kills each process that executes it would be recovered for ever, and would
take everything else in those processes with it; so past a number of attempts it is a *dead letter*. A
workflow that was waiting (for a message, a time, a result) when its process died is not to blame, and a
wait may outlast any number of deployments.
"""

from __future__ import annotations

from tidings.model import EntryState, History, Recovery, WorkflowRecord


def recovery_of(record: WorkflowRecord, history: History | None) -> Recovery:
    """Return the attempts that count now, and how far the workflow has come.

    Args:
        record: as it was claimed; the attempt of this claim is counted in it.
        history: what it has recorded; `None` for nothing.
    """
    entries = history.entries if history is not None else ()
    progress = sum(each.entry.state is not EntryState.OPEN for each in entries)
    if progress < len(entries):  # It was waiting.
        return Recovery(0, progress)
    if progress > record.progress:
        return Recovery(min(record.recovery_attempts, 1), progress)
    return Recovery(record.recovery_attempts, progress)


def is_dead_letter(recovery: Recovery, max_attempts: int | None) -> bool:
    """Tell whether a workflow has cost so many processes that it is recovered no more. `None`: never."""
    return max_attempts is not None and recovery.attempts > max_attempts


def share_of(orphans: int, survivors: int) -> int:
    """Return how many of what dead executors left one of so many survivors takes at its first look."""
    return -(-orphans // max(survivors, 1))
