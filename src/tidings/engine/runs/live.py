"""A run that this process executes, or is about to execute."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import ref

from tidings.core.history import Run
from tidings.engine.runs.port import Port
from tidings.engine.runs.registry import WorkflowFunction
from tidings.engine.waiting.ticket import Ticket


class Alarm(Ticket):
    """A ticket that is settled at a workflow's deadline, or earlier when its run ends."""

    __slots__ = ("is_off",)

    def __init__(self) -> None:
        super().__init__()
        self.is_off = False

    def switch_off(self) -> None:
        """Do nothing at the deadline."""
        self.is_off = True
        self.settle()


class LiveRun:
    """A run that this process executes, or is about to execute.

    Attributes:
        loop: the loop on which its starter waits, and on which a coroutine runs. `None` if the starter is a thread, or
            the
            run was claimed. A weak reference, so that an unused loop is freed, with the tasks that wait on it.
        ended: settled with its result or error.
        starting: settled when its start is durable. Set only if the start is the run's first unit and has a waiter.
        is_recorded: whether its start, or its claim, is known to be durable.
        is_refused: whether its start was refused, or failed.
        home: the event loop on which the program launched, if the run was sent there from another thread or loop. A
            weak
            reference, too.
        has_begun: whether a task or thread executes it.
        is_given_up: whether its starter ended before the run began.
        over: whether the execution has ended here, in any way.
        alarm: settled at the workflow's deadline, if it has one, or when the run is over.
        began_ms: when it began, by this process's own clock. Set if the log reports beginnings.
        is_said_cancelled: whether the log has reported that it was cancelled.
    """

    __slots__ = (
        "alarm",
        "args",
        "began_ms",
        "coroutine",
        "ended",
        "function",
        "has_begun",
        "home",
        "is_given_up",
        "is_recorded",
        "is_refused",
        "is_said_cancelled",
        "kwargs",
        "loop",
        "over",
        "port",
        "run",
        "starting",
        "task",
    )

    def __init__(
        self, run: Run, port: Port, function: WorkflowFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.run = run
        self.port = port
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.loop: ref[asyncio.AbstractEventLoop] | None = None
        self.ended = Ticket()
        self.is_recorded = False
        self.is_refused = False
        self.home: ref[asyncio.AbstractEventLoop] | None = None
        self.has_begun = False
        self.is_given_up = False
        self.starting: Ticket | None = None
        self.coroutine: Coroutine[Any, Any, None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.alarm: Alarm | None = None
        self.over = False
        self.began_ms: int | None = None
        self.is_said_cancelled = False

    def waits_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether the run cannot continue unless this loop runs."""
        if self.task is not None:
            return self.task.get_loop() is loop
        brought_to = self.home or self.loop
        return not self.has_begun and brought_to is not None and brought_to() is loop

    @property
    def has_lost_its_loop(self) -> bool:
        """Whether the run's starter waits on a loop that will never run again."""
        if self.loop is None:
            return False
        loop = self.loop()
        return loop is None or loop.is_closed()
