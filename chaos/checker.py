"""The checker: histories in, violations out. It knows no store, no process and no clock.

    messages    an acknowledged send is received exactly once, and in order; one whose answer is unknown at most once
    steps       a step that was recorded never runs again, and its record never changes
    events      a value read was published, and versions never run backwards
    streams     what is read is a gap-free prefix of the final stream, whole when the reader is told that it has ended
    workflows   each ends exactly once, and everybody is told the same end
    processes   none ends by itself, and each ends when it is told to

What a record proves follows from when it was written; see `histories`.
"""

from __future__ import annotations

from collections.abc import Iterable

from chaos.checks import events, messages, processes, steps, streams, workflows
from chaos.evidence import Evidence
from chaos.histories import Final, History
from chaos.violations import Violation

CHECKS = (messages.check, steps.check, events.check, streams.check, workflows.check, processes.check)


def check(histories: Iterable[History], final: Final) -> list[Violation]:
    """Return every promise that these histories show to be broken."""
    evidence = Evidence(histories, final)
    return [violation for each in CHECKS for violation in each(evidence)]
