"""What the log says of workflows: when they begin, how they end, and when a step is retried.

Everything is logged by the logger "tidings.workflows", once, by the process that executes the workflow:

- INFO: it begins or is resumed, and it has succeeded. If INFO is off, this costs one question to the logger.
- WARNING: it was cancelled, or timed out; a step is retried; messages were left unread.
- ERROR: it has failed, with the traceback. This is logged even if the error is raised to the caller. The caller may be
  a web framework, a task that nothing awaits, or a parent that continues. None of them logs the workflow's id.

Each record has the fields `workflow_id` and `workflow_name`. Nothing is raised here: a logging handler of the program
that fails must not keep a workflow from ending.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

from tidings.core.history import Run

logger = logging.getLogger("tidings.workflows")

_MOST_CHARACTERS: Final = 300  # Of an error in a log line.


def is_told_of_all() -> bool:
    """Tell whether the logger takes INFO records."""
    return logger.isEnabledFor(logging.INFO)


def begins(run: Run) -> None:
    """Log that this process begins to execute a workflow, or resumes it."""
    _say(
        logging.INFO,
        run.workflow_id,
        run.name,
        "(%s) begins" if run.epoch == 1 else "(%s) is resumed in this process",
        run.name,
    )


def succeeded(run: Run, ms: int) -> None:
    """Log that a workflow has returned, with the time since it began here."""
    _say(logging.INFO, run.workflow_id, run.name, "(%s) has succeeded after %.3f s", run.name, ms / 1_000)


def failed(run: Run, error: BaseException) -> None:
    """Log that a workflow has failed."""
    _say(logging.ERROR, run.workflow_id, run.name, "(%s) has failed: %s", run.name, said(error), error=error)


def cancelled(workflow_id: str, name: str) -> None:
    """Log that a workflow was cancelled from outside."""
    _say(logging.WARNING, workflow_id, name, "(%s) was cancelled", name)


def took_too_long(workflow_id: str, name: str) -> None:
    """Log that a workflow was cancelled at its deadline."""
    _say(logging.WARNING, workflow_id, name, "(%s) has exceeded its timeout, so it was cancelled", name)


def left_unread(workflow_id: str, name: str, count: int) -> None:
    """Log that a workflow has ended with unread messages."""
    _say(
        logging.WARNING,
        workflow_id,
        name,
        "(%s) has ended without receiving all its messages: %s kept, unread; DBOS.list_messages(%r) shows them",
        name,
        "1 message is" if count == 1 else f"{count} messages are",
        workflow_id,
    )


def tries_again(run: Run, step: str, most: int, attempt: int, error: BaseException, pause_seconds: float) -> None:
    """Log that an attempt of a step has failed, and that the step is retried."""
    _say(
        logging.WARNING,
        run.workflow_id,
        run.name,
        "(%s) retries its step %r in %g s: try %d of %d failed: %s",
        run.name,
        step,
        pause_seconds,
        attempt,
        most,
        said(error),
    )


def said(error: BaseException) -> str:
    """Return an error as one line of text."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # The error's class is the program's, and its `__str__` may fail.
        text = f"{type(error).__name__}, which cannot be printed"
    line = " ".join(text[: 10 * _MOST_CHARACTERS].split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"


def _say(level: int, workflow_id: str, name: str, text: str, *values: Any, error: BaseException | None = None) -> None:
    with contextlib.suppress(Exception):
        logger.log(
            level,
            f"workflow %r {text}",  # noqa: G004
            workflow_id,
            *values,
            exc_info=error,
            extra={"workflow_id": workflow_id, "workflow_name": name},
        )
