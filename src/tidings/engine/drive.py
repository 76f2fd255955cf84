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
from tidings.engine.loops import is_closing, is_interrupted
from tidings.engine.port import Port, Watching
from tidings.engine.ticket import Ticket
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
        case Turn(finished):
            if port.turns is not None:
                port.turns.pass_by(finished)
            return None
        case _:
            begun = port.perform(effect)
            return begun.result() if isinstance(begun, Ticket) else begun


async def drive_async(operation: Operation[T], port: Port) -> T:
    """Run an operation, awaiting where it waits."""
    resume: Callable[[Any], Effect] = operation.send
    argument: Any = None
    cancelled: asyncio.CancelledError | None = None
    entered = _enter(port)
    try:
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
                    elif type(effect) is Turn:
                        answer = None
                        await _turn(effect, port, is_given_up=cancelled is not None)
                    else:
                        answer = await _perform_async(effect, port, watching)
                    resume, argument = operation.send, answer
                except asyncio.CancelledError as error:
                    meaning = _meaning(error, effect, port)
                    cancelled = error if isinstance(meaning, Abandoned) else cancelled
                    resume, argument = operation.throw, meaning
                except BaseException as error:
                    resume, argument = operation.throw, error
    finally:
        if entered is not None and port.turns is not None:
            port.turns.leaves(entered)


def _enter(port: Port) -> asyncio.Task[Any] | None:
    """Note, in a run with branches, that the task is inside an operation; `None` if that need not be noted."""
    task = None if port.turns is None else asyncio.current_task()
    return task if task is not None and port.turns is not None and port.turns.enters(task) else None


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
        case Commit():
            return await _committed(port.perform(effect), port)
        case Defer():
            room = port.perform(effect)
            if room is not None:
                await _handed_over(room, port)
            return None
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
    if _is_ending(port):
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
        if _is_ending(port) or port.withdraw(job) or port.is_outside:
            raise  # What an outside caller handed over may still be written: nobody tells it any more.
        while not job.settled:
            with contextlib.suppress(asyncio.CancelledError):
                await job
            if _is_ending(port):
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
        if _is_ending(port) or port.withdraw_take(arrival) or not await _taken(arrival, port):
            raise
        task = asyncio.current_task()
        assert task is not None
        loop.call_soon(_cancel_again, task)
        return await arrival
    finally:
        port.received(arrival)


async def _taken(arrival: Arrival, port: Port) -> bool:
    """Give a receive up, unless its message is being taken; tell whether it was."""
    arrival.settle(False)  # If it is being taken, this counts as soon as there was no message.
    while not arrival.settled:
        with contextlib.suppress(asyncio.CancelledError):
            await arrival
        if _is_ending(port):
            return False  # What was taken is recorded, and its run finds it when it is taken up again.
    try:
        return isinstance(await arrival, Taken)
    except Exception:
        return False  # A run that is dead learns that from its next effect.


async def _turn(turn: Turn, port: Port, *, is_given_up: bool) -> None:
    """Await a turn. A result that is recorded wins over whatever cancels this await, in a replay too.

    Of an operation that was given up, the cancellation itself waits for its turn: one more changes nothing.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    assert port.turns is not None
    was_cancelled = False
    while True:
        try:
            await port.turns.wait(turn)
        except asyncio.CancelledError:
            if turn.finished is None or _is_ending(port):
                raise
            was_cancelled = True
        else:
            break
    if was_cancelled and not is_given_up:
        loop.call_soon(_cancel_again, task)


async def _handed_over(room: Ticket, port: Port) -> None:
    """Await that there is room again. What was handed over stays so: a cancellation comes after it."""
    turns = port.turns
    if turns is not None:
        turns.hold(1)
    try:
        await room
    except asyncio.CancelledError:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if _is_ending(port) or task is None:
            raise
        loop.call_soon(_cancel_again, task)
    finally:
        if turns is not None:
            turns.hold(-1)


def _is_ending(port: Port) -> bool:
    """Tell whether a cancellation is no decision of the program: the loop is being closed, or Ctrl-C was pressed.

    The end of a loop that a blocking workflow runs in its own thread is one: its code closes it.
    """
    return is_interrupted() if port.is_in_thread else is_closing(asyncio.get_running_loop())


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
