"""Cancelling workflows for a caller, and the log line that says what was cancelled."""

from __future__ import annotations

import logging
from typing import Any

from tidings.core import targets
from tidings.core.effects import Operation
from tidings.core.operations import cancelling as operations
from tidings.core.operations.cancelling import Cancellation, Order
from tidings.engine.caller import Caller

logger = logging.getLogger("tidings")

_MOST_NAMED = 3  # workflows of one kind in a log line


def cancel(caller: Caller, name: str, order: Order) -> Operation[Any]:
    """Cancel workflows; recorded as `name` in a workflow. Only the execution that did it logs it, and no replay."""
    if caller.workflow is None:
        report = yield from operations.cancel(order)
    else:
        slot = caller.workflow.begin(name, target=targets.of_workflows(order.named))
        is_replay = slot.is_finished
        report = yield from operations.cancel_recorded(slot, order)
        if is_replay:
            return report
    if isinstance(report, Cancellation):
        _say(report, order)
    return report


def _say(report: Cancellation, order: Order) -> None:
    below = len(set(report.cancelled) - set(order.named))
    parts = [f"{len(report.cancelled)} cancelled{_named(report.cancelled)}"]
    if below:
        parts.append(f"{below} of them {'was' if below == 1 else 'were'} started by the named workflows")
    if report.already_ended:
        parts.append(f"{len(report.already_ended)} had already ended{_named(report.already_ended)}")
    if report.not_found:
        verb = "does not exist" if len(report.not_found) == 1 else "do not exist"
        parts.append(f"{len(report.not_found)} {verb}{_named(report.not_found)}")
    logger.info("cancelling %d workflow%s: %s", len(order.named), "s" * (len(order.named) != 1), "; ".join(parts))


def _named(workflow_ids: tuple[str, ...]) -> str:
    if not workflow_ids:
        return ""
    named = ", ".join(f"{each!r:.100}" for each in workflow_ids[:_MOST_NAMED])
    return f" ({named}{', ...' if len(workflow_ids) > _MOST_NAMED else ''})"
