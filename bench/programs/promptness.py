"""Promptness: how soon a waiter learns what happened, in the same process and in another, with default settings.

The sender takes the time right before it acts. So the figure includes the commit, the wake-up and the waiter's read.
Both use the machine's monotonic clock.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from bench.actor import Actor, Here, Neighbour
from bench.library import DBOS, SetWorkflowID
from bench.meter import WARM_UP_ROUNDS, Window, measuring, rounds
from bench.size import Size

# A waiter has waited at least this long before the sender acts; otherwise its first look would find the change.
SETTLE_SECONDS = 0.01
WAIT_SECONDS = 600.0

_arrived: SimpleQueue[float] = SimpleQueue()
_go: SimpleQueue[bool] = SimpleQueue()


@DBOS.workflow()
def receive() -> None:
    """Note how long each message took, until an empty one comes."""
    while sent := DBOS.recv("ping", WAIT_SECONDS):
        _arrived.put(seconds_since(sent))


@DBOS.workflow()
def publish_times() -> None:
    """Whenever told to, set a new event to the current time."""
    number = 0
    while _go.get():
        DBOS.set_event(f"event-{number}", time.monotonic_ns())
        number += 1


@DBOS.workflow()
def write_times() -> None:
    """Whenever told to, write the current time to a stream."""
    while _go.get():
        DBOS.write_stream("times", time.monotonic_ns())


@DBOS.workflow()
def end_when_told() -> int:
    """When told to, end with the current time as the result."""
    _go.get()
    return time.monotonic_ns()


@DBOS.workflow()
def serve(partner_id: str) -> None:
    """Send back each message."""
    while DBOS.recv("ball", WAIT_SECONDS):
        DBOS.send(partner_id, True, "ball")


@DBOS.workflow()
def play(partner_id: str, seconds: float) -> list[float]:
    """Send a message, wait for its return, and repeat; return how long each round trip took, in seconds."""
    window = Window()
    for began in rounds(seconds, window):
        DBOS.send(partner_id, True, "ball")
        DBOS.recv("ball", WAIT_SECONDS)
        window.latencies_ms.append(time.perf_counter() - began)
    DBOS.send(partner_id, False, "ball")
    return window.latencies_ms


def seconds_since(then_ns: int) -> float:
    """Return how many seconds ago that was."""
    return (time.monotonic_ns() - then_ns) / 1e9


class Pause:
    """How long to let a waiter wait: a random part of the longest delay seen.

    So a waiter that polls every second is caught at any moment of that second. After a fixed pause it would always be
    the same moment, right after a poll.
    """

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._longest = 0.0

    def seconds(self) -> float:
        """Return how long to pause now."""
        return SETTLE_SECONDS + self._random.uniform(0, self._longest)

    def saw(self, seconds: float) -> float:
        """Note a delay, and return it."""
        self._longest = max(self._longest, seconds)
        return seconds


# The actions.


def send(workflow_id: str) -> None:
    """Send the current time."""
    DBOS.send(workflow_id, time.monotonic_ns(), "ping")


def start(workflow: str, workflow_id: str) -> None:
    """Start one of the workflows of this module."""
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(globals()[workflow])


def go(on: bool) -> None:
    """Let a waiting workflow of this module continue."""
    _go.put(on)


# The programs.


def send_to_recv(size: Size) -> None:
    """From `send` to the waiting `recv` of a workflow, in one process."""
    _send_to_recv("send_to_recv", size, Here(__name__))


def send_to_recv_apart(size: Size) -> None:
    """The same, between two processes."""
    with _neighbour() as neighbour:
        _send_to_recv("send_to_recv_apart", size, neighbour)


def set_to_get(size: Size) -> None:
    """From `set_event` to a waiting `get_event`."""
    _set_to_get("set_to_get", size, Here(__name__))


def set_to_get_apart(size: Size) -> None:
    """The same, between two processes."""
    with _neighbour() as neighbour:
        _set_to_get("set_to_get_apart", size, neighbour)


def write_to_read(size: Size) -> None:
    """From `write_stream` to a waiting reader."""
    _write_to_read("write_to_read", size, Here(__name__))


def write_to_read_apart(size: Size) -> None:
    """The same, between two processes."""
    with _neighbour() as neighbour:
        _write_to_read("write_to_read_apart", size, neighbour)


def end_to_result_apart(size: Size) -> None:
    """From the end of a workflow to `get_result` in another process."""
    with _neighbour() as neighbour:
        numbers = itertools.count()

        def one(pause: Pause) -> float:
            workflow_id = f"end-{next(numbers)}"
            neighbour.do("start", "end_when_told", workflow_id)
            return _when_told(neighbour, pause, DBOS.retrieve_workflow(workflow_id).get_result)

        _repeat("end_to_result_apart", size, one)


def ping_pong(size: Size) -> None:
    """A round trip between two workflows of one process."""
    _play("warm-up", size.seconds / 10)
    with measuring("ping_pong") as window:
        for took in _play("match", size.seconds):
            window.took(took)


def _play(name: str, seconds: float) -> list[float]:
    with SetWorkflowID(f"{name}-server"):
        server = DBOS.start_workflow(serve, f"{name}-player")
    with SetWorkflowID(f"{name}-player"):
        took = DBOS.start_workflow(play, f"{name}-server", seconds).get_result()
    server.get_result()
    return took


@contextmanager
def _neighbour() -> Iterator[Neighbour]:
    neighbour = Neighbour()
    try:
        yield neighbour
    finally:
        neighbour.end()


def _send_to_recv(row: str, size: Size, actor: Actor) -> None:
    receiver = DBOS.start_workflow(receive)

    def one(pause: Pause) -> float:
        time.sleep(pause.seconds())
        actor.do("send", receiver.workflow_id)
        return _arrived.get()

    _repeat(row, size, one)
    DBOS.send(receiver.workflow_id, 0, "ping")
    receiver.get_result()


def _set_to_get(row: str, size: Size, actor: Actor) -> None:
    actor.do("start", "publish_times", "publisher")
    numbers = itertools.count()

    def wait() -> int:
        when: int = DBOS.get_event("publisher", f"event-{next(numbers)}", WAIT_SECONDS)
        return when

    _repeat(row, size, lambda pause: _when_told(actor, pause, wait))
    _finish(actor, "publisher")


def _write_to_read(row: str, size: Size, actor: Actor) -> None:
    actor.do("start", "write_times", "writer")
    times = iter(DBOS.read_stream("writer", "times"))
    _repeat(row, size, lambda pause: _when_told(actor, pause, lambda: next(times)))
    _finish(actor, "writer")


def _finish(actor: Actor, workflow_id: str) -> None:
    """Let the workflow end before the program does: otherwise the next program's neighbour would recover it."""
    actor.do("go", False)
    DBOS.retrieve_workflow(workflow_id).get_result()


def _repeat(row: str, size: Size, one: Callable[[Pause], float]) -> None:
    pause = Pause()
    for _ in range(WARM_UP_ROUNDS):
        pause.saw(one(pause))
    with measuring(row) as window:
        for _ in rounds(size.seconds, window, size.count):
            window.took(pause.saw(one(pause)))


def _when_told(actor: Actor, pause: Pause, wait: Callable[[], int]) -> float:
    """Wait here while the actor tells the workflow; return the seconds since the time that it took then."""
    telling = threading.Timer(pause.seconds(), actor.do, ("go", True))
    telling.start()
    seconds = seconds_since(wait())
    telling.join()
    return seconds
