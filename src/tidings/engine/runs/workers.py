"""Threads for blocking workflows and steps: bounded in number, and they never keep the program from exiting.

They are daemon threads, because `concurrent.futures` joins its threads at exit, and a workflow may wait for days. A
thread needs one of `limit` permits to run. A thread that waits for a message or a result gives its permit back, and
another one may start. So waiting parents never starve their children. A thread that is left behind, because its attempt
timed out, has no permit: it cannot be stopped, and must not block others.

If no thread can be started, jobs wait for an idle thread or a new one. Starting one is retried with pauses
(`engine.runs.again`). The caller that handed the job over does not notice.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from tidings.blocks import contextmanager
from tidings.engine.runs.again import Again
from tidings.engine.waiting.ticket import Ticket, settle_all
from tidings.engine.waiting.timers import Timers
from tidings.error import DBOSShutdownError

_mine = threading.local()  # `.pool`: the pool of this thread; `.seat`: its seat there.


def without_permit() -> AbstractContextManager[None]:
    """Give back this thread's permit during the block, if it has one."""
    pool: Workers | None = getattr(_mine, "pool", None)
    return contextlib.nullcontext() if pool is None else pool.without_permit()


class Seat:
    """Whether a thread has a permit. No thread-local, because other threads may take the permit away."""

    __slots__ = ("has_permit", "is_left_behind")

    def __init__(self) -> None:
        self.has_permit = False
        self.is_left_behind = False


class Substitute(Ticket):
    """A function run by a thread that substitutes for another one. Settled with its result or error."""

    __slots__ = ("function", "seat", "was_delayed")

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self.function = function
        self.seat = Seat()
        self.was_delayed = False


class Workers:
    """A pool of threads in which waiting costs no permit."""

    def __init__(self, limit: int, timers: Timers | None = None, *, returns_at_once: bool = False) -> None:
        """Create a pool. At most `limit` threads run at once; `timers` retry when no thread can be started.

        With `returns_at_once`, a thread continues right after a wait, even if that makes one too many.
        """
        self._returns_at_once = returns_at_once
        self._limit = limit
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], Ticket | None, Seat | None]] = deque()
        self._substitutes: deque[Substitute] = deque()  # They wait because no thread could be started.
        self._running = 0
        self._idle = 0
        self._returning = 0
        self._stopped = False
        self._again = Again("starting a thread for a workflow or step", timers, self.try_again)

    @property
    def limit(self) -> int:
        """How many may run at once."""
        return self._limit

    def start(self, job: Callable[[], None], ticket: Ticket | None = None, seat: Seat | None = None) -> None:
        """Run `job` in a thread as soon as there is a permit; fail `ticket` if there will be none."""
        with self._changed:
            if not self._stopped:
                queued = job, ticket, seat
                self._jobs.append(queued)
                try:
                    self._fill()
                except BaseException:  # Ctrl-C.
                    self._jobs.remove(queued)  # The caller gets the error, so the job must not run as well.
                    raise
                return
        if ticket is not None:
            ticket.settle(error=DBOSShutdownError())

    def call(self, function: Callable[[], Any], seat: Seat | None = None) -> Ticket:
        """Run `function` in a thread that uses `seat`. The ticket gets its result or error."""
        ticket = Ticket()
        self.start(lambda: _settle_with(ticket, function), ticket, seat)
        return ticket

    def leave_behind(self, seat: Seat) -> None:
        """Stop waiting for the thread on this seat: from now on it takes no permit."""
        with self._changed:
            self._leave_behind(seat)

    @contextmanager
    def substituting(
        self, function: Callable[[], Any], delayed: Callable[[], Any] | None = None
    ) -> Iterator[Substitute]:
        """Run `function` at once, in a new thread that has this thread's permit during the block.

        If no thread can be started, it waits for one, or for an idle one of this pool. That thread then runs `delayed`,
        if given, instead. If the block ends before the ticket is settled, the new thread is left behind.
        """
        mine = self._my_seat()
        substitute = Substitute(function)
        with self._changed:
            if mine is not None and mine.has_permit:
                mine.has_permit, substitute.seat.has_permit = False, True
            else:
                mine = None
        try:
            self._start_substitute(substitute, delayed or function)
            yield substitute
        finally:
            with self._changed:
                if mine is not None and substitute.seat.has_permit and not mine.is_left_behind:
                    mine.has_permit, substitute.seat.has_permit = True, False
                self._leave_behind(substitute.seat)
                if mine is not None and not mine.has_permit:
                    self._come_back(mine)

    def _start_substitute(self, substitute: Substitute, delayed: Callable[[], Any]) -> None:
        try:
            threading.Thread(target=self._run_substitute, args=(substitute,), name="tidings-step", daemon=True).start()
        except Exception as error:
            substitute.was_delayed, substitute.function = True, delayed
            with self._changed:
                if self._stopped:
                    raise DBOSShutdownError from error
                self._substitutes.append(substitute)
                if self._idle:
                    self._changed.notify_all()
                else:
                    self._again.fails(error)

    def _run_substitute(self, substitute: Substitute) -> None:
        _mine.pool, _mine.seat = self, substitute.seat
        if not substitute.seat.is_left_behind:  # Otherwise the substitute was given up before a thread started.
            _settle_with(substitute, substitute.function)

    def try_again(self) -> None:
        """Start threads for jobs that wait because no thread could be started."""
        with self._changed:
            self._fill()

    def stop(self) -> None:
        """Start no more jobs. Threads that work or wait end by themselves."""
        with self._changed:
            self._stopped = True
            never_begun = [ticket for _, ticket, _ in self._jobs if ticket is not None]
            never_begun += self._substitutes
            self._jobs.clear()
            self._substitutes.clear()
            self._changed.notify_all()
        settle_all((ticket, None, DBOSShutdownError()) for ticket in never_begun)

    @contextmanager
    def without_permit(self) -> Iterator[None]:
        """Give back this thread's permit during the block, if it has one of this pool."""
        seat = self._my_seat()
        if seat is None or not seat.has_permit:
            yield
            return
        with self._changed:
            self._leave(seat)
        try:
            yield
        finally:
            with self._changed:
                self._come_back(seat)

    def _my_seat(self) -> Seat | None:
        seat: Seat | None = _mine.seat if getattr(_mine, "pool", None) is self else None
        return seat

    def _come_back(self, seat: Seat) -> None:
        """Wait for a permit, with priority over jobs. A thread that is left behind continues without one."""
        self._returning += 1
        while self._running >= self._limit and not seat.is_left_behind and not self._returns_at_once:
            self._changed.wait()
        self._returning -= 1
        if seat.is_left_behind:
            self._fill()
        else:
            self._running += 1
            seat.has_permit = True

    def _leave(self, seat: Seat) -> None:
        """Pass the permit of a seat to a thread that returns from a wait, or to the next job."""
        if not seat.has_permit:
            return  # The permit was taken away.
        seat.has_permit = False
        self._running -= 1
        self._fill()
        if self._returning:
            self._changed.notify_all()

    def _leave_behind(self, seat: Seat) -> None:
        seat.is_left_behind = True
        self._leave(seat)
        if self._returning:
            self._changed.notify_all()  # This seat's thread may be among them.

    @property
    def _has_work(self) -> bool:
        """Whether an idle or new thread would have work. Threads that return from a wait come first."""
        return bool(self._substitutes or (self._jobs and self._running + self._returning < self._limit))

    def _fill(self) -> None:
        """Wake or start a thread for the next job. If none can be started, the job waits for the next try."""
        if not self._has_work:
            self._again.ends()
        elif self._idle:
            self._changed.notify_all()
        else:
            try:
                threading.Thread(target=self._run, name="tidings-worker", daemon=True).start()
            except Exception as error:
                self._again.fails(error)

    def _run(self) -> None:
        own = Seat()
        while True:
            with self._changed:
                self._idle += 1
                while not self._stopped and not self._has_work:
                    if self._idle > self._limit:
                        break
                    self._changed.wait()
                self._idle -= 1
                if self._stopped or not self._has_work:
                    return
                job: Callable[[], None]
                if self._substitutes:
                    # The substitute has a seat of its own.
                    job, seat = partial(self._run_substitute, self._substitutes.popleft()), own
                else:
                    job, _, given = self._jobs.popleft()
                    seat = given or own
                    _mine.pool, _mine.seat = self, seat
                    seat.has_permit = True
                    self._running += 1
                self._fill()
            try:
                job()
            finally:
                del job  # An idle thread must not keep what it worked on, a task that failed, for example.
                with self._changed:
                    self._leave(seat)


def _settle_with(ticket: Ticket, function: Callable[[], Any]) -> None:
    try:
        value = function()
    except BaseException as error:
        ticket.settle(error=error)
    else:
        ticket.settle(value)
