"""Messages: sending them from ordinary code, and draining those that wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.library import DBOS, SendMessage
from bench.meter import WARM_UP_ROUNDS, Window, measuring, rounds
from bench.size import Size

SENDERS = 32
MESSAGES_PER_CALL = 500
WAIT_SECONDS = 600.0


@DBOS.workflow()
def collect(seconds: float, count: int) -> tuple[int, float]:
    """Wait for the signal, then receive for this long or until all have come; return how many and how long it took."""
    DBOS.recv("go", WAIT_SECONDS)
    window = Window()
    began = time.perf_counter()
    for _ in rounds(seconds, window, count):
        DBOS.recv("inbox", WAIT_SECONDS)
        window.operations += 1
    return window.operations, time.perf_counter() - began


def sent_alone(size: Size) -> None:
    """Send messages one after the other."""
    destination = DBOS.start_workflow(collect, 0.0, 0)
    for _ in range(WARM_UP_ROUNDS):
        DBOS.send(destination.workflow_id, size.value, "inbox")
    with measuring("sent_alone") as window:
        for began in rounds(size.seconds, window):
            DBOS.send(destination.workflow_id, size.value, "inbox")
            window.took(time.perf_counter() - began)
    DBOS.send(destination.workflow_id, None, "go")
    destination.get_result()


def sent_together(size: Size) -> None:
    """Send from many threads at the same time."""
    destination = DBOS.start_workflow(collect, 0.0, 0)

    def one_after_the_other(seconds: float) -> Window:
        own = Window()
        for began in rounds(seconds, own):
            DBOS.send(destination.workflow_id, size.value, "inbox")
            own.took(time.perf_counter() - began)
        return own

    with ThreadPoolExecutor(SENDERS) as threads:
        list(threads.map(one_after_the_other, [size.seconds / 10] * SENDERS))
        with measuring("sent_together") as window:
            for own in threads.map(one_after_the_other, [size.seconds] * SENDERS):
                window.operations += own.operations
                window.latencies_ms += own.latencies_ms
    DBOS.send(destination.workflow_id, None, "go")
    destination.get_result()


def drained(size: Size) -> None:
    """Receive in one workflow the messages that wait for it."""
    warm_up = DBOS.start_workflow(collect, 0.0, 0)
    DBOS.send(warm_up.workflow_id, None, "go")
    warm_up.get_result()
    destination = DBOS.start_workflow(collect, size.seconds, size.count)
    messages = [SendMessage(destination.workflow_id, size.value, "inbox") for _ in range(size.count)]
    for first in range(0, len(messages), MESSAGES_PER_CALL):
        DBOS.send_bulk(messages[first : first + MESSAGES_PER_CALL])
    with measuring("drained") as window:
        DBOS.send(destination.workflow_id, None, "go")
        # The workflow's own clock: the delay until the caller has the result is another row.
        window.operations, window.seconds = destination.get_result()
