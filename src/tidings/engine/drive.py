"""The two drivers: the only code that knows blocking from awaiting.

A driver runs an operation (a generator of effects, `core.effects`) to its end. What an effect means
is the same for both and stands in `engine.port`; a driver only waits for it in its own colour.

Cancelling an await is the awaiting driver's concern alone. What was handed over is shielded: a unit
that can still be withdrawn is, and the operation is told `Abandoned`; one that is being committed is
waited for, its answer wins, and the cancellation is delivered again right after, in case it was
meant for more than this one await. A closing event loop cancels every task on it: that is no
decision of the program, so nothing is recorded, and the run is taken up again elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from inspect import isawaitable, iscoroutine
from typing import Any, TypeVar, cast

from tidings.core.effects import (
    Abandoned,
    Call,
    Commit,
    Defer,
    Effect,
    Failed,
    Operation,
    Read,
    Receive,
    Turn,
    Wait,
    Watch,
)
from tidings.engine.arrivals import Arrival
from tidings.engine.committer import Job
from tidings.engine.loops import is_closing
from tidings.engine.port import Port, Watching
from tidings.engine.ticket import Ticket
from tidings.engine.turns import Turns
from tidings.engine.workers import parked
from tidings.error import DBOSContextError
from tidings.model import Taken
from tidings.serialization import recorded_error

T = TypeVar("T")


def drive(operation: Operation[T], port: Port) -> T:
    """Run an operation, blocking this thread where it waits."""
    resume: Callable[[Any], Effect] = operation.send
    argument: Any = None
    with Watching(port) as watching:
        while True:
            try:
                effect = resume(argument)
            except StopIteration as stop:
                return cast(T, _unwrap(stop.value))
            try:
                resume, argument = operation.send, _perform(effect, port, watching)
            except BaseException as error:
                resume, argument = operation.throw, error


def _perform(effect: Effect, port: Port, watching: Watching) -> Any:
    match effect:
        case Call(function):
            return _plain(function())
        case Watch(keys):
            return watching.on(keys)
        case Wait():
            with port.waiting(effect) as ticket, parked():
                return ticket.result()
        case Receive():
            arrival = port.receive(effect)
            try:
                with parked():
                    return arrival.result()
            finally:
                port.received(arrival)
        case Turn():
            return None  # A blocking workflow has one branch.
        case _:
            begun = port.perform(effect)
            return begun.result() if isinstance(begun, Ticket) else begun


async def drive_async(operation: Operation[T], port: Port) -> T:
    """Run an operation, awaiting where it waits."""
    resume: Callable[[Any], Effect] = operation.send
    argument: Any = None
    cancelled: asyncio.CancelledError | None = None
    with Watching(port) as watching:
        while True:
            try:
                effect = resume(argument)
            except StopIteration as stop:
                return cast(T, _unwrap(stop.value))
            except Abandoned:
                raise cancelled or asyncio.CancelledError from None
            try:
                if type(effect) is Receive:  # Thousands of them wait: with a frame less, and a block.
                    answer = await _receive(effect, port)
                else:
                    answer = await _perform_async(effect, port, watching)
                resume, argument = operation.send, answer
            except asyncio.CancelledError as error:
                cancelled = error
                resume, argument = operation.throw, _meaning(error, effect, port)
            except BaseException as error:
                resume, argument = operation.throw, error


async def _perform_async(effect: Effect, port: Port, watching: Watching) -> Any:
    match effect:
        case Call(function):
            value = function()
            return await value if isawaitable(value) else value
        case Watch(keys):
            return watching.on(keys)
        case Wait():
            with port.waiting(effect) as ticket:
                return await ticket
        case Turn():
            assert port.turns is not None
            return await _turn(effect, port.turns)
        case Commit():
            return await _committed(port.perform(effect), port)
        case Defer():
            return await _handed_over(port.perform(effect))
        case Read():
            return await _read(port.perform(effect))
        case _:
            begun = port.perform(effect)
            return await begun if isinstance(begun, Ticket) else begun


async def _read(asked: Ticket) -> Any:
    """Await an answer. Who leaves takes the question along: it is not asked, or not again."""
    try:
        return await asked
    except asyncio.CancelledError as left:
        asked.settle(error=left)
        raise


def _meaning(error: asyncio.CancelledError, effect: Effect, port: Port) -> BaseException:
    """Return what a cancelled await means to the operation: given up by the program, or something else."""
    if is_closing(asyncio.get_running_loop()):
        port.detach()
        return error
    if isinstance(effect, Call) and not _is_cancelled(asyncio.current_task()):
        return recorded_error(error)  # Nobody cancelled this task: it is an error of the user's code.
    return Abandoned()


async def _committed(job: Job, port: Port) -> Any:
    """Await the answer to a unit. Once it is being committed, the answer wins over a cancellation."""
    try:
        return await job
    except asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        if is_closing(loop) or port.withdraw(job) or port.is_outside:
            raise  # What an outside caller handed over may still be written: nobody tells it any more.
        while not job.settled:
            with contextlib.suppress(asyncio.CancelledError):
                await job
            if is_closing(loop):
                raise  # Whatever comes of the unit, its run finds it when it is taken up again.
        task = asyncio.current_task()
        assert task is not None
        loop.call_soon(_cancel_again, task)
        return await job


async def _receive(receive: Receive, port: Port) -> Any:
    """Await a message, or that there may be one. One that is being taken wins over a cancellation."""
    arrival = port.receive(receive)
    try:
        return await arrival
    except asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        if is_closing(loop) or port.withdraw_take(arrival) or not await _taken(arrival, loop):
            raise
        task = asyncio.current_task()
        assert task is not None
        loop.call_soon(_cancel_again, task)
        return await arrival
    finally:
        port.received(arrival)


async def _taken(arrival: Arrival, loop: asyncio.AbstractEventLoop) -> bool:
    """Give a receive up, unless its message is being taken; tell whether it was."""
    arrival.settle(False)  # If it is being taken, this counts as soon as there was no message.
    while not arrival.settled:
        with contextlib.suppress(asyncio.CancelledError):
            await arrival
        if is_closing(loop):
            return False  # What was taken is recorded, and its run finds it when it is taken up again.
    try:
        return isinstance(await arrival, Taken)
    except Exception:
        return False  # A run that is dead learns that from its next effect.


async def _turn(turn: Turn, turns: Turns) -> None:
    """Await a turn. A recorded result once won over whatever cancelled its await, and wins again."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    was_cancelled = False
    while True:
        try:
            await turns.wait(turn)
        except asyncio.CancelledError:
            if turn.finished is None or is_closing(loop):
                raise
            was_cancelled = True
        else:
            break
    if was_cancelled:
        loop.call_soon(_cancel_again, task)


async def _handed_over(room: Ticket | None) -> None:
    """Await that there is room again. What was handed over stays so: a cancellation comes after it."""
    if room is None:
        return
    try:
        await room
    except asyncio.CancelledError:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if is_closing(loop) or task is None:
            raise
        loop.call_soon(_cancel_again, task)


def _cancel_again(task: asyncio.Task[Any]) -> None:
    """Deliver a cancellation that an answer overtook, unless it was only for that one await.

    `asyncio.timeout` and `wait_for` take their request back (`uncancel`) when they end, which is
    before this runs. The count of requests stays as it was.
    """
    if not task.done() and _is_cancelled(task):
        task.uncancel()
        task.cancel()


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


def _plain(value: Any) -> Any:
    if not isawaitable(value):
        return value
    if iscoroutine(value):
        value.close()  # It never began; without this Python would warn that it was never awaited.
    raise DBOSContextError("an async function was called where nothing can await it: call it from an async workflow")


def _unwrap(result: Any) -> Any:
    if isinstance(result, Failed):
        raise result.error
    return result
