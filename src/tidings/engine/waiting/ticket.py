"""A one-shot result that threads can block on and coroutines can await.

The only bridge between threads and event loops. A ticket is settled by the committer, the reader, the timers or a
kill. None of them knows the waiters, and only the first result counts. Waiting coroutines are woken with one
`call_soon_threadsafe` per loop, however many tickets settle at once.

The value needs no lock. A waiter adds itself to the list *before* it reads `settled`. The settler sets `settled`
*before* it reads the list. So at least one of the two sees the other. This assumes that CPython's reads, writes and
list appends are sequentially consistent; they are, in the free-threaded build too.

A ticket without waiters stays small: no list, no future, no `threading.Event`.

A waiter is a future, to be woken on its loop, or a callback, which may release a waiting thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any


class Ticket:
    """A result to come."""

    __slots__ = ("_error", "_gate", "_value", "_waiters", "settled")

    def __init__(self) -> None:
        self._gate = threading.Lock()  # The first settler acquires it and never releases it.
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], None] | asyncio.Future[None]] | None = None
        self.settled = False

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Give the ticket its result, unless it has one, and wake all its waiters."""
        futures = self._note(value, error)
        if futures:
            wake(futures)

    def result(self) -> Any:
        """Block until the ticket is settled; return its value or raise its error."""
        if not self.settled:
            door = threading.Lock()
            door.acquire()
            self._publish(door.release)
            if not self.settled:
                door.acquire()
        return self._unwrap()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call `callback` once: in the thread that settles the ticket, or now if it is settled.

        It must be quick and raise nothing: the settling thread has other waiters to wake.
        """
        once = [callback]

        def call() -> None:
            try:
                due = once.pop()
            except IndexError:
                return  # The settler and this thread saw each other, and the other was first.
            due()

        self._publish(call)
        if self.settled:
            call()

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.settled:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._publish(future)
            if not self.settled:
                try:
                    yield from future
                except BaseException:
                    if self._waiters is not None:
                        self._waiters.remove(future)
                    raise
        return self._unwrap()

    def _publish(self, waiter: Callable[[], None] | asyncio.Future[None]) -> None:
        waiters = self._waiters
        if waiters is None:
            # Under a lock: two first waiters in two threads must not each make a list. The gate cannot guard this,
            # because the settler keeps it.
            with _first_waiter:
                waiters = self._waiters
                if waiters is None:
                    waiters = self._waiters = []
        waiters.append(waiter)

    def _unwrap(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def ring(self) -> list[asyncio.Future[None]]:
        """Settle the ticket with True, unless it is settled. Returns the futures to wake on their loops."""
        return self._note(True, None)

    def _note(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Store the result, unless there is one, call the callbacks, and return the futures to wake on their loops."""
        if not self._gate.acquire(blocking=False):
            return []
        return self._finish(value, error)

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Do the same for a caller that holds the gate."""
        self._value, self._error = value, error
        self.settled = True
        futures: list[asyncio.Future[None]] = []
        for waiter in tuple(self._waiters or ()):
            if isinstance(waiter, asyncio.Future):
                futures.append(waiter)
            else:
                waiter()
        return futures


_first_waiter = threading.Lock()


def settle_all(results: Iterable[tuple[Ticket, Any, BaseException | None]]) -> None:
    """Settle many tickets, waking each event loop once."""
    wake([future for ticket, value, error in results for future in ticket._note(value, error)])


def wake(futures: Iterable[asyncio.Future[None]]) -> None:
    """Wake the coroutines that await these futures, with one call for each loop."""
    awaiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        awaiting.setdefault(future.get_loop(), []).append(future)
    for loop, its_futures in awaiting.items():
        # A closed loop has no coroutine left to wake, and must not keep others from being woken.
        try:  # noqa: SIM105  (each batch pays for this one)
            loop.call_soon_threadsafe(_wake_all, its_futures)
        except RuntimeError:
            pass


def _wake_all(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
