"""The checker: histories in, violations out. It knows no store, no process and no clock.

    messages    an acknowledged send is received exactly once, and in order; one with unknown outcome at most once
    steps       a recorded step never runs again, and its record never changes
    events      a value that was read was published, and readers never see an older version later
    streams     a reader gets a gap-free part of the final stream, complete if the reader is told that it has ended
    workflows   each ends exactly once, and all observers see the same end
    processes   none ends by itself, and each ends when it is told to

What a record proves depends on when it was written; see `histories`.
"""

from __future__ import annotations

from collections.abc import Iterable

from chaos.checks import events, messages, processes, steps, streams, workflows
from chaos.evidence import Evidence
from chaos.histories import Final, History
from chaos.violations import Violation

CHECKS = (messages.check, steps.check, events.check, streams.check, workflows.check, processes.check)


def check(histories: Iterable[History], final: Final) -> list[Violation]:
    """Return every promise that these histories show as broken."""
    evidence = Evidence(histories, final)
    return [violation for each in CHECKS for violation in each(evidence)]
