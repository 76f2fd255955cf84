"""Reports each damaged workflow to the log once, however often its row is read; and again after the next launch."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("tidings")

_MOST_REPORTED: Final = 1_000  # Who has more has seen enough.

_reported: set[str] = set()


def say_again() -> None:
    """Begin anew, at a launch: perhaps on another database."""
    _reported.clear()


def report(workflow_id: str, damage: str) -> None:
    """Say what is wrong with the row of a workflow, unless it was said. Two threads at worst say it twice."""
    if workflow_id not in _reported and len(_reported) < _MOST_REPORTED:
        _reported.add(workflow_id)
        logger.error(
            "the row of workflow %r is damaged: %s. It stays as it is, and is not executed; all others go on. "
            "Put the row right, or run the version of tidings that wrote it, and launch again",
            workflow_id,
            damage,
            extra={"workflow_id": workflow_id},
        )
