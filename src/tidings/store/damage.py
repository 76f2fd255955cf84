"""Logs each damaged workflow once per launch, however often its row is read."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("tidings")

_MOST_REPORTED: Final = 1_000  # More lines in the log would help nobody.

_reported: set[str] = set()


def say_again() -> None:
    """Forget what was reported. Called at a launch, perhaps on another database."""
    _reported.clear()


def report(workflow_id: str, damage: str) -> None:
    """Log what is wrong with a workflow's row, once. Two threads may rarely log it twice."""
    if workflow_id not in _reported and len(_reported) < _MOST_REPORTED:
        _reported.add(workflow_id)
        logger.error(
            "the row of workflow %r is damaged: %s. tidings leaves it as it is and does not execute this workflow; "
            "all others continue. Repair the row, or run the version of tidings that wrote it, then launch again",
            workflow_id,
            damage,
            extra={"workflow_id": workflow_id},
        )
