"""What stands in the place of `threading`, `time` and `uuid` in the engine's modules while a simulation is played.

The same contract as the real ones, on the scheduler's threads and time. Whatever is asked for that is not here fails
as an attribute that is missing, and is then to be added. A thread that is being killed waits for nothing: what is free
it may take, for the code on its way out, and for anything else it is killed again.
"""

from __future__ import annotations

import queue
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from tests.simulation.scheduler import Killed, Party, SimThread, playing

TIMEOUT_MAX: Final = 1e9
EPOCH_SECONDS: Final = 1_700_000_000.0


class Lock:
    """`threading.Lock`."""

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[SimThread] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = playing()
        scheduler.fuel -= 1
        if scheduler.fuel <= 0:
            scheduler.pass_by()
        if not self._is_taken:
            self._is_taken = True
            return True
        if not blocking:
            return False
        until = scheduler.now + timeout if timeout >= 0 else None
        if self._waiting is None:
            self._waiting = deque()
        while self.locked():
            if until is not None and scheduler.now >= until:
                return False
            self._waiting.append(scheduler.current)
            scheduler.wait(until)
        self._is_taken = True
        return True

    def release(self) -> None:
        if not self._is_taken:
            raise RuntimeError("release unlocked lock")
        self._is_taken = False
        scheduler = playing()
        while self._waiting:
            thread = self._waiting.popleft()
            if thread.is_blocked and not thread.party.is_dead:  # Else its time was up.
                scheduler.wake(thread)
                break
        scheduler.fuel -= 1
        if scheduler.fuel <= 0:
            scheduler.pass_by()

    def locked(self) -> bool:
        return self._is_taken

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class LockOfEachProcess:
    """A lock that a module has, as many times as there are processes: one that dies takes its own with it."""

    def __init__(self) -> None:
        self._locks: dict[Party, Lock] = {}

    def __enter__(self) -> bool:
        return self._own().acquire()

    def __exit__(self, *_: object) -> None:
        self._own().release()

    def _own(self) -> Lock:
        return self._locks.setdefault(playing().current.party, Lock())


class RLock:
    """`threading.RLock`."""

    __slots__ = ("_count", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = Lock()
        self._owner: SimThread | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = playing().current
        if self._owner is not me:
            if not self._lock.acquire(blocking, timeout):
                return False
            self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        if self._owner is not playing().current:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    """`threading.Condition`. Its lock is taken once by whoever waits: nothing here takes it twice."""

    __slots__ = ("_lock", "_waiting", "acquire", "release")

    def __init__(self, lock: Lock | RLock | None = None) -> None:
        self._lock = lock or Lock()
        self._waiting: list[SimThread] = []
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = playing()
        me = scheduler.current
        if me.dying:
            raise Killed
        self._waiting.append(me)
        self._lock.release()  # Another one may come in between, and notify: then there is nothing to wait for.
        try:
            if me in self._waiting:
                scheduler.wait(None if timeout is None else scheduler.now + max(timeout, 0))
            was_notified = me not in self._waiting
            if not was_notified:
                self._waiting.remove(me)
        finally:
            self._lock.acquire()
        return was_notified

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        until = None if timeout is None else playing().now + timeout
        while not predicate():
            left = None if until is None else until - playing().now
            if left is not None and left <= 0:
                return predicate()
            self.wait(left)
        return True

    def notify(self, n: int = 1) -> None:
        scheduler = playing()
        woken, self._waiting = self._waiting[:n], self._waiting[n:]
        for thread in woken:
            scheduler.wake(thread)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Event:
    """`threading.Event`."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[SimThread] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        scheduler = playing()
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for thread in waiting:
            scheduler.wake(thread)
        scheduler.step()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = playing()
        scheduler.step()
        if self._is_set:
            return True
        self._waiting.append(scheduler.current)
        return scheduler.wait(None if timeout is None else scheduler.now + max(timeout, 0)) or self._is_set


_ITSELF = 0  # Where a thread's locals have the object that was started; no object has this id.


class Thread:
    """`threading.Thread`: of the party of whoever starts it."""

    def __init__(
        self,
        target: Callable[..., object],
        name: str = "thread",
        args: Iterable[Any] = (),
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self.daemon = daemon
        self._target = target
        self._args = tuple(args)
        self._thread: SimThread | None = None

    def start(self) -> None:
        scheduler = playing()
        if scheduler.current.dying:
            raise Killed
        self._thread = scheduler.start(self._run, self.name, scheduler.current.party)
        scheduler.step()

    def _run(self) -> None:
        playing().current.locals[_ITSELF] = {"thread": self}
        self._target(*self._args)

    def join(self, timeout: float | None = None) -> None:
        assert self._thread is not None, "cannot join a thread before it is started"
        scheduler = playing()
        scheduler.join(self._thread, None if timeout is None else scheduler.now + timeout)

    def is_alive(self) -> bool:
        return self._thread is not None and not self._thread.is_over


class Local:
    """`threading.local`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return playing().current.locals[id(self)][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        playing().current.locals.setdefault(id(self), {})[name] = value


class Threading:
    """The module `threading`."""

    Lock = Lock
    RLock = RLock
    Condition = Condition
    Event = Event
    Thread = Thread
    local = Local
    TIMEOUT_MAX = TIMEOUT_MAX

    @staticmethod
    def get_ident() -> int:
        return playing().current.number

    @staticmethod
    def current_thread() -> object:
        current = playing().current
        return current.locals.get(_ITSELF, {}).get("thread", current)

    @staticmethod
    def main_thread() -> object:
        return None  # Of simulated processes none may handle signals.


class SimpleQueue:
    """`queue.SimpleQueue`."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def get(self, timeout: float | None = None) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                raise queue.Empty
            return self._items.popleft()


class Queue:
    """The module `queue`."""

    Empty = queue.Empty
    SimpleQueue = SimpleQueue


class Time:
    """The module `time`. The monotonic clock is the scheduler's; the hosts' wall clocks do not agree."""

    @staticmethod
    def monotonic() -> float:
        return playing().now

    @staticmethod
    def clock_gettime(clock: int) -> float:
        return playing().now  # No machine is suspended here.

    @staticmethod
    def time() -> float:
        scheduler = playing()
        return EPOCH_SECONDS + scheduler.now + getattr(scheduler.current.party, "skew_seconds", 0.0)

    @staticmethod
    def sleep(seconds: float) -> None:
        playing().sleep(seconds)


class Uuid:
    """The module `uuid`, with the dice of the seed."""

    @staticmethod
    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=playing().dice.getrandbits(128), version=4)


class OrderedSet(dict[Any, None]):
    """A set that gives its elements in the order in which they came: that of a real one is not the seed's."""

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(elements))

    def add(self, element: Any) -> None:
        self[element] = None

    def discard(self, element: Any) -> None:
        self.pop(element, None)

    def remove(self, element: Any) -> None:
        del self[element]

    def update(self, *others: Iterable[Any]) -> None:  # type: ignore[override]  # A set's, not a dict's.
        for other in others:
            super().update(dict.fromkeys(other))

    def difference_update(self, other: Iterable[Any]) -> None:
        for each in other:
            self.discard(each)

    def __sub__(self, other: Iterable[Any]) -> OrderedSet:
        gone = set(other)
        return OrderedSet(each for each in self if each not in gone)

    def __and__(self, other: Iterable[Any]) -> OrderedSet:
        kept = set(other)
        return OrderedSet(each for each in self if each in kept)

    def __rand__(self, other: Iterable[Any]) -> OrderedSet:
        return OrderedSet(each for each in other if each in self)

    def __or__(self, other: Iterable[Any]) -> OrderedSet:  # type: ignore[override]
        return OrderedSet((*self, *other))

    def __ior__(self, other: Iterable[Any]) -> OrderedSet:  # type: ignore[override]
        self.update(other)
        return self

    def __isub__(self, other: Iterable[Any]) -> OrderedSet:
        self.difference_update(other)
        return self
