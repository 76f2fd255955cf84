"""A program that lacks something for a while, by the system's own limits.

    starved.py URL descriptors|threads work|connections

It lacks that while workflows go on, or while the connections have to be opened anew. All workflows must end well, and
none of them see anything of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from tidings import DBOS, SetWorkflowID
from tidings.engine.process import Process
from tidings.store.protocol import Unavailable

ORDERS = 30
PATIENCE_SECONDS = 60
caught: list[str] = []


@DBOS.step(timeout_seconds=600)
def limited(number: int) -> int:
    """Run in a thread of its own."""
    return number


@DBOS.workflow()
async def child(number: int) -> int:
    """Run on the loop in the background."""
    await asyncio.sleep(0)
    return number


@DBOS.workflow()
def order(number: int) -> int:
    """Do whatever takes a thread or a loop."""
    try:
        DBOS.recv("go", 3_600)
        with SetWorkflowID(f"child-{number}"):
            handle = DBOS.start_workflow(child, number)
        return limited(number) + handle.get_result()
    except BaseException as error:
        caught.append(f"{type(error).__name__}: {error}")
        raise


class Said(logging.Handler):
    """What the log has said, for who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[str] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self._said.append(record.getMessage())
            self._more.notify_all()

    def until(self, *texts: str) -> None:
        """Wait until it has said all of these in one line."""

        def has_said() -> bool:
            return any(all(text in each for text in texts) for each in self._said)

        with self._more:
            assert self._more.wait_for(has_said, PATIENCE_SECONDS), self._said


@contextmanager
def no_descriptors() -> Iterator[Callable[[], None]]:
    """Let this process open nothing more. What this gives takes descriptors that have become free meanwhile."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, former[1]))

    def take_all() -> None:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))

    take_all()
    try:
        yield take_all
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
        for each in taken:
            os.close(each)


@contextmanager
def no_threads() -> Iterator[Callable[[], None]]:
    """Let this process have no room for the stack of another thread, though some memory is left."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    threading.stack_size(64 * 1024 * 1024)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 1024 * 1024, former[1]))
    try:
        yield lambda: None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)
        threading.stack_size(0)


def _lose_connections(take_what_is_free: Callable[[], None]) -> None:
    """Let the writing and the reading connection be opened anew."""
    assert Process.host is not None
    engine = Process.host.engine
    lost: set[str] = set()

    def lose(side: str, store: Any) -> None:
        if side not in lost:
            lost.add(side)
            getattr(store, side).close()
            take_what_is_free()
            raise Unavailable(f"the connection for {side} was lost")

    _ = engine.committer.call(partial(lose, "_writer"))
    _ = engine.reader.ask(partial(lose, "_reader"))


def _send_all(go: threading.Event) -> None:
    go.wait()
    for number in range(ORDERS):
        DBOS.send(f"w{number}", None, "go")


def main(url: str, lacks: str, loses: str) -> None:
    """Start workflows, take from the process what they, or its connections, need next, and give it back."""
    said, go = Said(), threading.Event()
    logging.getLogger("tidings").addHandler(said)
    DBOS(config={"name": "starved", "system_database_url": url, "application_version": "1"})
    with DBOS.launch():
        handles = []
        for number in range(ORDERS):
            with SetWorkflowID(f"w{number}"):
                handles.append(DBOS.start_workflow(order, number))
        sender = threading.Thread(target=_send_all, args=(go,))
        sender.start()
        with no_descriptors() if lacks == "descriptors" else no_threads() as take_what_is_free:
            if loses == "connections":
                _lose_connections(take_what_is_free)
                go.set()
                for doing in ("writing to the database has failed", "reading from the database has failed"):
                    said.until(doing, "(SQLite database" if url.startswith("sqlite") else "(PostgreSQL database")
            else:
                go.set()
                said.until("starting an event loop for async workflows has failed")
        sender.join()
        for number, handle in enumerate(handles):
            assert handle.get_result(timeout_seconds=PATIENCE_SECONDS) == 2 * number
        assert not caught, caught
    sys.stdout.write("all well\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
