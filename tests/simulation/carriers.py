"""The threads of the operating system that carry simulated ones, one after the other.

To start a thread costs more than a whole batch of a simulated engine, and a seed takes some fifty. So those that are
free are kept for the next. A carrier runs only while it holds the baton, which is handed to it by releasing its lock.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable

# The real ones: the simulation puts its own in the place of `threading` in the engine's modules only.
allocate_lock = _thread.allocate_lock

# What a carrier does, and gives: the baton of whoever is next. Before that it is given back.
Job = Callable[[], _thread.LockType]


class Carrier:
    """A thread of the operating system, asleep until it is handed the baton."""

    __slots__ = ("baton", "ident", "job")

    def __init__(self) -> None:
        self.baton = allocate_lock()
        self.baton.acquire()
        self.job: Job | None = None
        self.ident = _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            self.baton.acquire()
            self._carry().release()

    def _carry(self) -> _thread.LockType:
        """Do the job; give the baton to hand on. By then nothing of the job is held, and all of it can be collected."""
        job, self.job = self.job, None
        assert job is not None
        return job()


class Carriers:
    """Those that are free."""

    def __init__(self) -> None:
        self._free: list[Carrier] = []
        self.count = 0

    def take(self, job: Job) -> Carrier:
        """Return a carrier that begins `job` when it is handed the baton."""
        if self._free:
            carrier = self._free.pop()
        else:
            carrier = Carrier()
            self.count += 1
        carrier.job = job
        return carrier

    def give_back(self, carrier: Carrier) -> None:
        """Let another one have it: who was carried is over, or never began."""
        carrier.job = None
        self._free.append(carrier)

    @property
    def free_count(self) -> int:
        """How many carry nothing."""
        return len(self._free)


CARRIERS = Carriers()
