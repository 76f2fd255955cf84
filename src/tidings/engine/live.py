"""A run that is executed in this process, or is about to be: its code, its port, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import ref

from tidings.core.history import Run
from tidings.engine.port import Port
from tidings.engine.registry import WorkflowFunction
from tidings.engine.ticket import Ticket


class Alarm(Ticket):
    """What the deadline of a workflow settles, or the end of its run before."""

    __slots__ = ("is_off",)

    def __init__(self) -> None:
        super().__init__()
        self.is_off = False

    def switch_off(self) -> None:
        """Let nothing happen at the deadline."""
        self.is_off = True
        self.settle()


class LiveRun:
    """A run that is being executed in this process.

    Attributes:
        loop: where its starter waits, and a coroutine is to run; `None` if the starter is a thread, or the run was
            claimed. Weak, so that a loop which nobody has any more ends with what waits on it.
        ended: settled with its result or error.
        starting: settled when its start is durable, if that is the run's first unit and somebody waits for it.
        is_recorded: whether its start, or its claim, is known to be durable.
        is_refused: whether its start was refused, or failed.
        home: the event loop on which the program launched, if the run was brought there from elsewhere. Weak, too.
        has_begun: whether a task or thread has it.
        is_given_up: whether its starter ended before it could begin.
        over: whether it has ended here, however.
        alarm: settled at the workflow's deadline, if it has one, or when it is over.
    """

    __slots__ = (
        "alarm",
        "args",
        "coroutine",
        "ended",
        "function",
        "has_begun",
        "home",
        "is_given_up",
        "is_recorded",
        "is_refused",
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

    def waits_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether this loop has to go on before the run can."""
        if self.task is not None:
            return self.task.get_loop() is loop
        brought_to = self.home or self.loop
        return not self.has_begun and brought_to is not None and brought_to() is loop

    @property
    def has_lost_its_loop(self) -> bool:
        """Whether the loop that its starter waits on will never go on."""
        if self.loop is None:
            return False
        loop = self.loop()
        return loop is None or loop.is_closed()
