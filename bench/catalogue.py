"""The list of what is measured: the table's rows with their targets, and the programs that measure them.

A target is a promise of this project. `Target(times=10)` is an advantage over the peer; `at_most` and `at_least` are
figures of tidings alone, in the row's unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bench.records import Measured
from bench.size import Size

SQLITE = "SQLite"
POSTGRESQL = "PostgreSQL"


class Unit(Enum):
    """The kind of a row's figure."""

    RATE = "/s"
    LATENCY = "ms"
    MEMORY_EACH = "kB each"
    MEMORY = "MB"

    @property
    def more_is_better(self) -> bool:
        """Whether a larger figure is better."""
        return self is Unit.RATE

    def of(self, measured: Measured) -> float:
        """Return the figure for a measurement."""
        window = measured.window
        match self:
            case Unit.RATE:
                return window.operations / window.seconds
            case Unit.LATENCY:
                return window.p50_ms if window.p50_ms is not None else window.seconds / window.operations * 1e3
            case Unit.MEMORY_EACH:
                return (window.memory_bytes or 0) / window.operations / 1e3
            case Unit.MEMORY:
                return (window.memory_bytes or 0) / 1e6


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a row; exactly one field is set."""

    times: float | None = None
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        limit: the row of the bare drivers that it is compared with, and the number in that row's series.
    """

    name: str
    title: str
    unit: Unit
    postgresql: Target | None = None
    sqlite: Target | None = None
    limit: tuple[str, float | None] | None = None

    def target(self, store: str) -> Target | None:
        """Return the row's target on this store."""
        return self.postgresql if store == POSTGRESQL else self.sqlite


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs in its own process, with each library in turn.

    Attributes:
        full, quick: its size in the full and in the quick form; without a size it does not run in that form.
        peer_count: another count for the peer, if a slow library would take hours.
        repetitions: the largest number of repetitions, for programs that take long.
        peerless: whether the peer has no such feature.
    """

    name: str
    full: Size | None = None
    quick: Size | None = None
    peer_count: tuple[int, int] | None = None
    repetitions: int = 100
    bare: bool = False
    peerless: bool = False


_ONE, _GROUP, _ROWS, _COMMIT_MS = (
    ("bare_commits", 1),
    ("bare_commits", 256),
    ("bare_rows_read", None),
    ("bare_commits", 1),
)
_HEARD = ("bare_notifications", None)

ROWS = (
    Row("started_alone", "empty workflows started and finished, one at a time", Unit.RATE, limit=_ONE),
    Row("started_together", "empty workflows, 64 at a time", Unit.RATE, Target(10), Target(30), _GROUP),
    Row("steps_alone", "steps in sequence, one async workflow", Unit.RATE, Target(4), Target(5), _ONE),
    Row("steps_alone_blocking", "steps in sequence, one blocking workflow", Unit.RATE, limit=_ONE),
    Row("steps_together", "steps of 100 workflows at a time", Unit.RATE, Target(25), Target(40), _GROUP),
    Row("sent_alone", "send from ordinary code, 1 sender", Unit.RATE, limit=_ONE),
    Row("sent_together", "send from ordinary code, 32 senders", Unit.RATE, limit=_GROUP),
    Row("drained", "one workflow draining waiting messages", Unit.RATE, Target(12), Target(20), _GROUP),
    Row("events_set", "set_event in one workflow", Unit.RATE, Target(50), Target(100), _GROUP),
    Row("stream_written", "write_stream in one workflow", Unit.RATE, Target(50), Target(100), _GROUP),
    Row("stream_written_in_step", "write_stream in a step", Unit.RATE, limit=_ONE),
    Row("stream_read", "reading a written stream, blocking", Unit.RATE, Target(2), Target(1.5), _ROWS),
    Row("stream_read_async", "reading a written stream, async", Unit.RATE, Target(20), Target(20), _ROWS),
    Row("send_to_recv", "send → waiting recv", Unit.LATENCY, Target(5), Target(at_most=2), _COMMIT_MS),
    Row("send_to_recv_apart", "send → waiting recv, another process", Unit.LATENCY, limit=_HEARD),
    Row("ping_pong", "ping-pong between two workflows, round trip", Unit.LATENCY, Target(6), Target(at_most=4)),
    Row("set_to_get", "set_event → waiting get_event", Unit.LATENCY, limit=_COMMIT_MS),
    Row(
        "set_to_get_apart",
        "set_event → waiting get_event, another process",
        Unit.LATENCY,
        Target(at_most=5),
        Target(at_most=10),
        _HEARD,
    ),
    Row("end_to_result_apart", "end → waiting get_result, another process", Unit.LATENCY, limit=_HEARD),
    Row("write_to_read", "write_stream → waiting reader", Unit.LATENCY, limit=_COMMIT_MS),
    Row(
        "write_to_read_apart",
        "write_stream → waiting reader, another process",
        Unit.LATENCY,
        Target(at_most=5),
        Target(at_most=10),
        _HEARD,
    ),
    Row("stream_readers", "100 readers of a stream of 1,000 items/s: age of an item", Unit.LATENCY),
    Row("stream_read_memory", "reading a long stream: memory at most", Unit.MEMORY),
    Row("waiting_memory", "workflows waiting in recv", Unit.MEMORY_EACH, Target(at_most=10), Target(at_most=10)),
    Row(
        "waiting_woken",
        "waiting workflows sent to, woken and finished",
        Unit.RATE,
        Target(at_least=2_500),
        Target(at_least=2_500),
    ),
    Row("waiting_woken_apart", "the same in two processes, sent to by a third", Unit.RATE),
    Row("recovered", "recovery of killed workflows of 10 steps", Unit.RATE, Target(20), Target(20)),
    Row(
        "taken_over",
        "500 workflows of a killed process, executed again in another",
        Unit.LATENCY,
        Target(at_most=2_000),
        Target(at_most=2_000),
    ),
    Row(
        "taken_over_elsewhere",
        "the same, with the lease of 10 s of another host",
        Unit.LATENCY,
        Target(at_most=25_000),
        Target(at_most=25_000),
    ),
)

GROWTH = (
    Row("with_concurrency", "workflows of one step, by how many run at once", Unit.RATE),
    Row("with_consumed", "recv, by messages consumed before", Unit.LATENCY),
    Row("write_with_length", "write_stream, by items written before", Unit.LATENCY),
    Row("read_with_length", "reading the end of a stream, by items before it", Unit.LATENCY),
    Row("with_processes", "workflows of one step, by processes of 64 at once", Unit.RATE),
)

LIMITS = (
    Row("bare_commits", "rows inserted, by rows in a commit", Unit.RATE),
    Row("bare_commits_together", "commits of one row, by connections", Unit.RATE),
    Row("bare_point_reads", "rows read by key", Unit.RATE),
    Row("bare_rows_read", "rows read, 10,000 at once", Unit.RATE),
    Row("bare_notifications", "commit of one row → notification heard", Unit.LATENCY),
    Row("bare_looks", "look whether another process has committed", Unit.LATENCY),
    Row("value_tidings", "values written and read by tidings, by their length", Unit.RATE),
    Row("value_msgspec", "the same by msgspec, without their types", Unit.RATE),
    Row("value_json", "the same by json, without their types", Unit.RATE),
    Row("value_pickle", "the same by pickle", Unit.RATE),
)

_RATE, _STREAM = Size(seconds=1.0, count=2_000), Size(seconds=10.0, count=10_000)
_ENDLESS, _PROMPT = Size(seconds=1.0, count=1_000_000), Size(seconds=2.5, count=100)

PROGRAMS = (
    Program("limits", Size(seconds=1.0), Size(seconds=0.3), bare=True),
    Program("quick.rates", quick=Size(seconds=0.5, count=1_000_000)),
    Program("quick.delays", quick=Size(seconds=1.5)),
    Program("workflows.started_alone", _RATE),
    Program("workflows.started_together", _RATE),
    Program("workflows.steps_alone", _RATE),
    Program("workflows.steps_alone_blocking", _RATE),
    Program("workflows.steps_together", _RATE),
    Program("messages.sent_alone", _RATE),
    Program("messages.sent_together", _RATE),
    Program("messages.drained", Size(seconds=3.0, count=2_000)),
    Program("events.events_set", _RATE),
    Program("streams.stream_written", _ENDLESS),
    Program("streams.stream_written_in_step", _ENDLESS),
    Program("streams.stream_read", _STREAM),
    Program("promptness.send_to_recv", _PROMPT),
    Program("promptness.send_to_recv_apart", _PROMPT),
    Program("promptness.ping_pong", _PROMPT),
    Program("promptness.set_to_get", _PROMPT),
    Program("promptness.set_to_get_apart", _PROMPT),
    Program("promptness.end_to_result_apart", _PROMPT),
    Program("promptness.write_to_read", _PROMPT),
    Program("promptness.write_to_read_apart", _PROMPT),
    Program("streams.stream_readers", Size(seconds=2.0)),
    Program("streams.stream_read_memory", Size(seconds=60.0, count=1_000_000), peer_count=(1_000, 0), repetitions=1),
    Program("crowds.waiting", Size(count=10_000), Size(count=2_000), peer_count=(500, 100)),
    Program("crowds.waiting_apart", Size(count=10_000), peer_count=(500, 100)),
    Program("crowds.recovered", Size(count=1_000), Size(count=100), repetitions=1),
    Program("crowds.taken_over", Size(count=500), peerless=True),
    Program("crowds.taken_over_elsewhere", Size(count=500), repetitions=1, peerless=True),
    Program("growth.with_concurrency", Size(seconds=1.0, count=4_096), peer_count=(256, 0), repetitions=1),
    Program("growth.with_consumed", Size(seconds=30.0, count=1_000_000), repetitions=1),
    Program("growth.with_length", Size(seconds=20.0, count=1_000_000), repetitions=1),
    Program("growth.with_processes", _RATE, repetitions=1),
)
