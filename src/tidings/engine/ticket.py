"""A one-shot result that threads can block on and coroutines can await.

The narrow door between threads and event loops: whoever settles a ticket (committer, reader,
timers, a kill) knows nothing of who waits, and only the first to settle it counts. Waiting
coroutines are woken with one `call_soon_threadsafe` per loop, however many tickets settle at once.

Safe without a lock around the value: a waiter publishes where it waits *before* it looks whether
the ticket is settled, and the settler marks it settled *before* it looks who waits; so at least one
of the two sees the other. That holds because CPython's reads, writes and list appends are
sequentially consistent, in the free-threaded build too.

A ticket that nobody waits for stays small: no list, no future, no `threading.Event`.

Who waits is a future, to be woken on its loop, or something to call: what lets a thread go on, or
what somebody wants done.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any


class Ticket:
    """A result to come."""

    __slots__ = ("_error", "_gate", "_value", "_waiters", "settled")

    def __init__(self) -> None:
        self._gate = threading.Lock()  # Taken by the first to settle, and never given back.
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], None] | asyncio.Future[None]] | None = None
        self.settled = False

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Give the ticket its result, unless it has one, and wake all that wait for it."""
        settle_all(((self, value, error),))

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

        It must be quick and raise nothing: who settles has others to tell.
        """
        once = [callback]

        def call() -> None:
            try:
                due = once.pop()
            except IndexError:
                return  # The settler and we saw each other: one of the two calls.
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
            # Two first waiters in two threads must not each make a list. The gate is no guard here:
            # it belongs to the settler. A list literal is stored by one of them; both append to it.
            with _first_waiter:
                waiters = self._waiters
                if waiters is None:
                    waiters = self._waiters = []
        waiters.append(waiter)

    def _unwrap(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def _note(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Store the result, call what is to be called, and return the futures to wake on their loops."""
        if not self._gate.acquire(blocking=False):
            return []
        return self._finish(value, error)

    def _finish(self, value: Any, error: BaseException | None) -> list[asyncio.Future[None]]:
        """Do so for who holds the gate."""
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
    """Wake who awaits these on their loops, each loop once."""
    awaiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        awaiting.setdefault(future.get_loop(), []).append(future)
    for loop, its_futures in awaiting.items():
        # A closed loop has nobody left to wake, and must not stop the others.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_wake_all, its_futures)


def _wake_all(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
