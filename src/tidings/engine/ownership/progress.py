"""Texts for errors and logs: which process executes a pending workflow, or why none does, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from tidings.core.recovery import heirs as heirs_of
from tidings.core.recovery import of_program
from tidings.engine.lock_files import has_died_here
from tidings.lifecycle import stuck_now
from tidings.model import ANY_VERSION, Executor, WorkflowRecord


class Neglected(Struct, frozen=True):
    """Why no process executes a workflow.

    Attributes:
        why: the reason, for the log.
        is_certain: whether this lasts until somebody acts. Otherwise a process may be about to take the workflow over.
    """

    why: str
    is_certain: bool


def who_executes(
    found: WorkflowRecord, alive: Sequence[Executor], me: str = "", names_here: Collection[str] | None = None
) -> str:
    """Return which process executes a pending workflow, or why none does.

    Which functions other processes have is not known: their rows do not say so.

    Args:
        found: the workflow.
        alive: all living executors.
        me: the id of this process's executor.
        names_here: the names of the workflows that it can execute; `None` if it executes none.
    """
    if found.damage is not None:
        return f"no process executes it, because its row in the database is damaged: {found.damage}"
    for each in alive:
        if each.executor_id == found.executor_id:
            return f"it is running, in process {each.pid} on {each.host}"
    heirs = heirs_of(found, alive)
    if not heirs:
        return _why_nobody(found, alive)
    others = [each for each in heirs if each.executor_id != me]
    if names_here is not None and found.name in names_here and len(others) < len(heirs):
        return f"{_before(found)}; this process takes it over"
    if not others and names_here is not None:
        return f"no process executes it: {_unknown_here(found)}"
    each = (others or heirs)[0]
    return (
        f"{_before(found)}; process {each.pid} on {each.host} takes it over, if a workflow is registered there under "
        f"its name, {found.name!r}"
    )


def neglected(
    found: WorkflowRecord, alive: Sequence[Executor], me: str, names_here: Collection[str] | None
) -> Neglected | None:
    """Return why no process executes a pending workflow; `None` if one does, or if its row is damaged (logged before).

    Args:
        found: the workflow.
        alive: all living executors.
        me: the id of this process's executor.
        names_here: the names of the workflows that it can execute; `None` if it executes none.
    """
    if found.damage is not None or any(each.executor_id == found.executor_id for each in alive):
        return None
    heirs = heirs_of(found, alive)
    if not heirs:
        return Neglected(_why_nobody(found, alive), is_certain=True)
    others = [each for each in heirs if each.executor_id != me]
    is_unknown_here = names_here is not None and found.name not in names_here
    if not others and is_unknown_here:
        return Neglected(f"no process executes it: {_unknown_here(found)}", is_certain=True)
    named = " and ".join(f"{each.pid} on {each.host}" for each in others or heirs)
    return Neglected(
        f"no process executes it: {_before(found)}, and no process that may take it over has done so (process "
        f"{named}). Check that a workflow is registered there under its name, {found.name!r}",
        is_certain=False,
    )


def alive_of(executors: Sequence[Executor], now_ms: int, me: str | None = None) -> list[Executor]:
    """Return the executors that live, at this time on the store's clock. `me` always does, whatever its row says."""
    return [
        each
        for each in executors
        if each.executor_id == me or (each.lease_until_ms > now_ms and not has_died_here(each))
    ]


def _before(found: WorkflowRecord) -> str:
    return "no process has executed it yet" if found.epoch == 0 else "its process has ended"


def _unknown_here(found: WorkflowRecord) -> str:
    return (
        f"its name is {found.name!r}, and no workflow of that name is registered in this process, the only running one "
        "of its version. Register it, here or in another process"
    )


def _why_nobody(found: WorkflowRecord, alive: Sequence[Executor]) -> str:
    program = "" if found.program is None else f" of the program {found.program!r}"
    if found.app_version == ANY_VERSION:  # It was started by a process that executes nothing.
        return f"no process executes it: no process{program} that executes workflows is running. Start one"
    stuck = stuck_now(found)
    if stuck is not None:
        return (
            f"no process executes it: version {stuck.version!r} of the code calls {stuck.called} at {stuck.operation}, "
            f"where {stuck.recorded} is recorded. Run a version that calls what is recorded"
        )
    others = sorted({str(each.app_version) for each in of_program(found, alive)})
    runs = f" (running: version {' and '.join(map(repr, others))})" if others else ""
    remedy = "Start that program again"
    if others:
        remedy = "Start that version again; or let these processes take it: set 'recover_versions' to 'compatible'"
    return (
        f"no process executes it: {_before(found)}, and no running process has version {found.app_version!r} of "
        f"the code{program}{runs}. {remedy}"
    )
