"""The way of one simulated process to the server: `tidings.store.protocol.Store`, and all that can go wrong with it.

Each call is a request that takes a while there and back. On the way its connection may be lost: before the server had
it, or after, or while the server still works on it, which then may come to an end later. Until it is connected anew a
lost connection fails at every call. What the server sends to a listener may come late, twice or not at all.

Calls that write and calls that read have a connection each, and one call at a time, as the protocol says; whoever
breaks that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from tests.simulation.scheduler import Killed, SimThread, playing
from tests.simulation.server import Call, Server
from tidings.model import Executor, WorkflowRecord
from tidings.store.protocol import PROBE, Listener, Unavailable

T = TypeVar("T")

_WRITING: Final = frozenset({"commit", "recall", "reconnect", "enlist", "retire", "refence", "claim", "reclaim"})
_NOT_AMBIGUOUS: Final = frozenset({"recall", "reconnect", "refence"})  # They change nothing.


class Line:
    """The way of one process to the server, as it is now. Rates are chances of each call, or of each name."""

    def __init__(self, server: Server, dice: Random, complain: Callable[[str], None]) -> None:
        self.server = server
        self.dice = dice
        self.complain = complain
        self.is_down = False  # Every call fails at once.
        self.hangs = False  # Nothing arrives, and nobody is told.
        self.failing = 0.0  # calls whose connection is lost
        self.dropping = 0.0  # names that do not arrive
        self.delaying = 0.0  # names that arrive after up to 3 s
        self.repeating = 0.0  # names that arrive twice
        self.slow_seconds = 0.002  # the longest way there, or back
        self.under_way: dict[Request, None] = {}
        self.listeners: list[SimListener] = []
        self.failures = 0
        self.lost_names = 0
        self.starting: set[str] = set()  # workflows whose starts wait for their event loop

    def cut(self) -> None:
        """Lose all connections now."""
        for request in tuple(self.under_way):
            request.lose()
        for listener in self.listeners:
            listener.lose()

    def release(self) -> None:
        """End a time in which it hung: what was on the way arrives late, or is lost, each connection's alike."""
        self.hangs = False
        for listener in self.listeners:
            if self.dice.random() < 0.5:
                listener.receive_held()
            else:
                listener.lose()
        for request in tuple(self.under_way):
            if request.is_held:
                request.is_held = False
                if self.dice.random() < 0.5:
                    request.arrive()
                else:
                    request.lose()

    def way(self) -> float:
        """Draw how many seconds a request takes there, or its answer back."""
        return self.dice.random() * self.slow_seconds

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through."""
        return self.is_down or self.server.is_down


class Request:
    """One call on its way there and back."""

    __slots__ = (
        "_call",
        "_line",
        "_thread",
        "_writes",
        "answer",
        "error",
        "is_cut",
        "is_dropped",
        "is_held",
        "is_over",
    )

    def __init__(self, line: Line, call: Call, thread: SimThread, writes: bool) -> None:
        self._line = line
        self._call = call
        self._thread = thread
        self._writes = writes
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_over = False  # The caller has its answer.
        self.is_dropped = False  # It will never be done.
        self.is_held = False
        self.is_cut = False  # The connection was lost: the caller gets no other answer.

    def arrive(self) -> None:
        """Be done by the server, and send the answer back."""
        if self.is_dropped:
            return
        if self._line.hangs and not self.is_over:
            self.is_held = True
            return
        self.is_dropped = True  # Not once more.
        try:
            self.answer = self._call(self._line.server)
        except Exception as error:
            self.error = error
        playing().at(playing().now + self._line.way(), self.end)

    def end(self) -> None:
        """Let the caller have what came of it."""
        if not self.is_over:
            self.is_over = True
            playing().wake(self._thread)

    def lose(self) -> None:
        """Lose its connection. It is done all the same, or not."""
        if not self.is_over:
            if self._line.dice.random() < 0.5:
                self.is_dropped = True
            self.is_cut = True
            self.error = Unavailable("the connection was cut", ambiguous=self._writes)
            self.end()


class Connection:
    """One of the two connections of a store."""

    def __init__(self) -> None:
        self.is_lost = False
        self.is_busy = False
        self.left: list[Request] = []  # requests that may still be done, though their connection was lost


class SimStore:
    """The store of one simulated process. Any other attribute is a call of that name to the server."""

    def __init__(self, line: Line, identity: str) -> None:
        self.identity = self.name = identity
        self._line = line
        self._writing = Connection()
        self._reading = Connection()

    def reset(self, *, truncate: bool) -> None:
        raise NotImplementedError

    def connect(self) -> None:
        """Open both connections."""
        for connection, name in ((self._writing, "connect"), (self._reading, "connect")):
            connection.is_lost = False
            self._ask(connection, name, lambda server: None)

    def close(self) -> None:
        """Nothing is kept open."""

    def reconnect(self) -> None:
        """Replace the writing connection."""
        self._reconnect(self._writing)

    def reconnect_reader(self) -> None:
        """Replace the reading connection."""
        self._reconnect(self._reading)

    def recall(self, batch: Any) -> Any:
        """Ask whether a batch landed, once what is left of it has ended."""

        def recall(server: Server) -> Any:
            for request in self._writing.left:
                if self._line.dice.random() < 0.5:
                    request.arrive()
                request.is_dropped = True
            self._writing.left.clear()
            return server.recall(batch)

        return self._ask(self._writing, "recall", recall)

    def listen(self, executor_id: str) -> Listener:
        """Begin to hear."""

        def listen(server: Server) -> SimListener:
            listener = SimListener(self._line, executor_id)
            server.hearers.append(listener)
            self._line.listeners.append(listener)
            return listener

        found: SimListener = self._ask(Connection(), "listen", listen)
        return found

    def reclaim(self, executor: Executor, workflow_ids: Sequence[str]) -> list[WorkflowRecord]:
        """Claim anew what this process owns: nothing that a start of its own is still to execute, however late."""
        starting = self._line.starting.intersection(workflow_ids)
        claimed: list[WorkflowRecord] = self._ask(
            self._writing, "reclaim", lambda server: server.reclaim(executor, workflow_ids)
        )
        for each in claimed:
            if each.workflow_id in starting and each.epoch == 2:  # It was the start that made it this process's.
                self._line.complain(f"{each.workflow_id} is claimed anew, though its start waits for its loop")
        return claimed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            connection = self._writing if name in _WRITING else self._reading
            return self._ask(connection, name, lambda server: getattr(server, name)(*args, **kwargs))

        return call

    def _reconnect(self, connection: Connection) -> None:
        connection.is_lost = False
        self._ask(connection, "reconnect", lambda server: None)

    def _ask(self, connection: Connection, name: str, call: Call) -> Any:
        if playing().current.dying:
            raise Killed
        if connection.is_busy:
            self._line.complain(f"two threads use one connection at once: {name}")
        if connection.is_lost:
            raise Unavailable("the connection was lost before")
        connection.is_busy = True
        try:
            return self._send(connection, name, call)
        except Unavailable:
            connection.is_lost = True
            self._line.failures += 1
            raise
        finally:
            connection.is_busy = False

    def _send(self, connection: Connection, name: str, call: Call) -> Any:
        scheduler, line = playing(), self._line
        writes = name in _WRITING and name not in _NOT_AMBIGUOUS
        fails = line.failing and line.dice.random() < line.failing
        if line.is_cut or (fails and line.dice.random() < 0.4):
            scheduler.sleep(line.way())
            raise Unavailable("the server does not answer")
        request = Request(line, call, scheduler.current, writes)
        line.under_way[request] = None
        arrives_at = scheduler.now + line.way()
        if fails:
            # Lost before it arrived, after it was done, or while it is on the way for a while longer.
            lost_at = scheduler.now + line.way()
            scheduler.at(lost_at, request.lose)
            if line.dice.random() < 0.3:
                arrives_at = lost_at + line.dice.random() * 3
        scheduler.at(arrives_at, request.arrive)
        try:
            while not request.is_over:
                scheduler.wait()
        except Killed:
            request.is_dropped = request.is_dropped or line.dice.random() < 0.5
            raise
        finally:
            del line.under_way[request]
        if request.is_cut and not request.is_dropped:
            connection.left.append(request)
        if request.error is not None:
            raise request.error
        return request.answer


class SimListener:
    """What a process hears of the others."""

    obstacle = "the seed may have swallowed it"

    def __init__(self, line: Line, executor_id: str) -> None:
        self.executor_id = executor_id
        self._line = line
        self._heard: list[str] = []
        self._held: list[str] = []
        self._is_lost = False
        self._was_interrupted = False
        self._hearing: SimThread | None = None

    def hear(self, timeout_seconds: float, is_awaited: Callable[[], bool]) -> list[str]:
        """Wait for names."""
        scheduler = playing()
        if scheduler.current.dying:
            raise Killed
        is_awaited()
        until = scheduler.now + timeout_seconds
        self._hearing = scheduler.current
        scheduler.step()
        while not (self._heard or self._was_interrupted or self._is_lost) and scheduler.now < until:
            scheduler.wait(until)
        self._hearing, self._was_interrupted = None, False
        if self._is_lost:
            raise Unavailable("the listener was lost")
        heard, self._heard = self._heard, []
        return heard

    def interrupt(self) -> None:
        """Let `hear` return."""
        self._was_interrupted = True
        self._wake()

    def lose(self) -> None:
        """Lose the connection."""
        self._is_lost = True
        self._wake()

    def close(self) -> None:
        """Hear no more."""
        if self in self._line.listeners:
            self._line.listeners.remove(self)
            self._line.server.hearers.remove(self)

    def send(self, name: str) -> None:
        """Send it a name."""
        line = self._line
        if line.is_cut or (line.dropping and line.dice.random() < line.dropping):
            line.lost_names += not name.startswith(PROBE)
            return
        if line.hangs:
            self._held.append(name)
            return
        scheduler = playing()
        longest = 3.0 if line.delaying and line.dice.random() < line.delaying else line.slow_seconds
        scheduler.at(scheduler.now + line.dice.random() * longest, partial(self._receive, name))
        if line.repeating and line.dice.random() < line.repeating:
            scheduler.at(scheduler.now + line.dice.random() * 3, partial(self._receive, name))

    def receive_held(self) -> None:
        """Receive what was held up."""
        held, self._held = self._held, []
        for name in held:
            self._receive(name)

    def _receive(self, name: str) -> None:
        self._heard.append(name)
        self._wake()

    def _wake(self) -> None:
        if self._hearing is not None:
            playing().wake(self._hearing)
