"""The quick form: the rows that have targets, several in one process, since a start takes longer than measuring."""

from __future__ import annotations

from dataclasses import replace

from bench.programs import events, messages, promptness, streams, workflows
from bench.size import Size

# The number of messages to drain, and the most items to read; only time limits the writing.
COUNT = 2_000
ROUNDS = 50


def rates(size: Size) -> None:
    """Measure the rates."""
    counted = replace(size, count=COUNT)
    for program in (workflows.started_together, workflows.steps_alone, workflows.steps_together, events.events_set):
        program(size)
    streams.stream_written(size)
    for longer in (messages.drained, streams.stream_read):
        longer(replace(counted, seconds=2 * size.seconds))


def delays(size: Size) -> None:
    """Measure the delays."""
    bounded = replace(size, count=ROUNDS)
    promptness.send_to_recv(bounded)
    promptness.ping_pong(bounded)
    promptness.set_to_get_apart(bounded)
    promptness.write_to_read_apart(bounded)


# The actions of the neighbour.
go, start = promptness.go, promptness.start
