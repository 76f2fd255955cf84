"""Threads for blocking workflows and steps: our own, bounded, and never in the way of the exit.

Daemon threads, because `concurrent.futures` joins its threads at exit, and a workflow may wait for
days. At most `limit` of them run at once; one that waits for a message or a result gives its slot
back, and another may start, so waiting parents never starve their children.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tidings.engine.ticket import Ticket, settle_all
from tidings.error import DBOSShutdownError

_mine = threading.local()  # `.slot`: the pool whose slot this thread holds


def parked() -> AbstractContextManager[None]:
    """Give this thread's slot back for the length of the block, if it has one."""
    pool: Workers | None = getattr(_mine, "slot", None)
    return contextlib.nullcontext() if pool is None else pool.parked()


class Workers:
    """A pool of threads in which waiting costs no slot."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], Ticket | None]] = deque()
        self._running = 0
        self._idle = 0
        self._returning = 0
        self._stopped = False

    def start(self, job: Callable[[], None], ticket: Ticket | None = None) -> None:
        """Run `job` in a thread as soon as there is a slot; fail `ticket` if there will be none."""
        with self._changed:
            if not self._stopped:
                self._jobs.append((job, ticket))
                self._fill()
                return
        if ticket is not None:
            ticket.settle(error=DBOSShutdownError())

    def call(self, function: Callable[[], Any]) -> Ticket:
        """Run `function` in a thread; the ticket gives its result or error."""
        ticket = Ticket()

        def job() -> None:
            try:
                value = function()
            except BaseException as error:
                ticket.settle(error=error)
            else:
                ticket.settle(value)

        self.start(job, ticket)
        return ticket

    def stop(self) -> None:
        """Start no more jobs. Threads that work or wait are left to end by themselves."""
        with self._changed:
            self._stopped = True
            never_begun = [ticket for _, ticket in self._jobs if ticket is not None]
            self._jobs.clear()
            self._changed.notify_all()
        settle_all((ticket, None, DBOSShutdownError()) for ticket in never_begun)

    @contextlib.contextmanager
    def parked(self) -> Iterator[None]:
        """Give this thread's slot back for the length of the block, if it has one of this pool."""
        if getattr(_mine, "slot", None) is not self:
            yield
            return
        with self._changed:
            self._leave()
        try:
            yield
        finally:
            with self._changed:
                self._returning += 1
                while self._running >= self._limit:
                    self._changed.wait()
                self._returning -= 1
                self._running += 1
                _mine.slot = self

    def _leave(self) -> None:
        """Give this thread's slot to one that comes back from a wait, or to the next job."""
        self._running -= 1
        _mine.slot = None
        self._fill()
        if self._returning:
            self._changed.notify_all()

    def _fill(self) -> None:
        """Wake or start a thread for the next job. Those that come back from a wait go first."""
        if self._jobs and self._running + self._returning < self._limit:
            if self._idle:
                self._changed.notify_all()
            else:
                threading.Thread(target=self._run, name="tidings-worker", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._stopped and not (self._jobs and self._running + self._returning < self._limit):
                    if self._idle > self._limit:
                        break
                    self._changed.wait()
                self._idle -= 1
                if self._stopped or not self._jobs or self._running + self._returning >= self._limit:
                    return
                job, _ = self._jobs.popleft()
                self._running += 1
                _mine.slot = self
                self._fill()
            try:
                job()
            finally:
                with self._changed:
                    self._leave()
