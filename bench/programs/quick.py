"""The quick form: the rows that have targets, several in one process, for starting one takes longer than measuring."""

from __future__ import annotations

from dataclasses import replace

from bench.programs import events, messages, promptness, streams, workflows
from bench.size import Size

# One drains so many, and reads at most so many; writing is bounded by the time alone.
COUNT = 2_000
ROUNDS = 50


def rates(size: Size) -> None:
    """What is counted by the second."""
    counted = replace(size, count=COUNT)
    for program in (workflows.started_together, workflows.steps_alone, workflows.steps_together, events.events_set):
        program(size)
    streams.stream_written(size)
    for longer in (messages.drained, streams.stream_read):
        longer(replace(counted, seconds=2 * size.seconds))


def delays(size: Size) -> None:
    """How soon others know."""
    bounded = replace(size, count=ROUNDS)
    promptness.send_to_recv(bounded)
    promptness.ping_pong(bounded)
    promptness.set_to_get_apart(bounded)
    promptness.write_to_read_apart(bounded)


# What the neighbour does.
go, start = promptness.go, promptness.start
