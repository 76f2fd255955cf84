"""The two drivers: one blocks a thread, the other awaits.

A driver runs an operation (a generator of effects, `core.effects`) to its end. What an effect means is the same for
both drivers, and is defined in `engine.runs.port`. A driver only waits for it, in its own way. So the rules of
operations know nothing of blocking and awaiting. Where the code of a step runs is another matter: a blocking and an
awaiting function of `engine.runs.attempts` decide that, and the drivers call them as they call any user code.

Only the awaiting driver knows cancelled awaits. A cancellation does not undo what was handed over:

- A unit that can still be withdrawn is withdrawn, and the operation gets `Abandoned`.
- If the unit is being committed already, the driver waits for the answer, and the answer wins. The cancellation is
  delivered again right after it, in case it was meant for more than this one await.

A closing event loop cancels all its tasks. The program did not decide that, so nothing is recorded, and the run is
resumed elsewhere.
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
from tidings.engine.runs.cancelling import cancel_again
from tidings.engine.runs.loops import is_closing, is_interrupted
from tidings.engine.runs.port import CurrentArrival, Port
from tidings.engine.runs.turns import Turns
from tidings.engine.runs.workers import without_permit
from tidings.engine.waiting.arrivals import Arrival
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import Ticket
from tidings.error import DBOSContextError
from tidings.model import Taken
from tidings.serialization import recorded_error
from tidings.slips import given, slip_of_waiting

T = TypeVar("T")


def drive(operation: Operation[T], port: Port) -> T:
    """Run an operation, blocking this thread where it waits."""
    resume: Callable[[Any], Effect] = operation.send
    argument: Any = None
    result: Any = None
    with CurrentArrival(port) as current:
        while True:
            try:
                effect = resume(argument)
            except StopIteration as stop:
                result = stop.value
                break
            try:
                resume, argument = operation.send, _perform(effect, port, current)
            except BaseException as error:
                resume, argument = operation.throw, error
    return cast(T, _unwrap(result))  # Here, because inside the loop it would be raised while another error is handled.


def _perform(effect: Effect, port: Port, current: CurrentArrival) -> Any:
    match effect:
        case Call(function):
            return _plain(function())
        case Watch(keys):
            return current.watch(keys)
        case Wait():
            with port.waiting(effect) as ticket, without_permit():
                return ticket.result()
        case Receive():
            arrival = port.receive(effect)
            try:
                with without_permit():
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
    result: Any = None
    cancelled: asyncio.CancelledError | None = None
    entered = None if port.turns is None else _enter(port.turns)
    try:
        with CurrentArrival(port) as current:
            while True:
                try:
                    effect = resume(argument)
                except StopIteration as stop:
                    result = stop.value
                    break
                except Abandoned:
                    raise cancelled or asyncio.CancelledError from None
                try:
                    if type(effect) is Receive:  # Thousands of receives wait: one frame and one block less for each.
                        answer = await _receive(effect, port)
                    elif type(effect) is Turn:
                        answer = None
                        await _turn(effect, port, is_given_up=cancelled is not None)
                    else:
                        answer = await _perform_async(effect, port, current)
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
    return cast(T, _unwrap(result))


def _enter(turns: Turns) -> asyncio.Task[Any] | None:
    """Note that the task is inside an operation, if the run has branches; `None` if it need not be noted."""
    task = asyncio.current_task()
    return task if task is not None and turns.enters(task) else None


async def _perform_async(effect: Effect, port: Port, current: CurrentArrival) -> Any:
    match effect:
        case Call(function):
            value = function()
            return await value if isawaitable(value) else value
        case Watch(keys):
            return current.watch(keys)
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
    """Await an answer. If the await is cancelled, the query is dropped: not sent, or not retried."""
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
        return recorded_error(error)  # Nobody cancelled this task, so the user's code raised it.
    return Abandoned()


async def _committed(job: Job, port: Port) -> Any:
    """Await the answer to a unit. Once the unit is being committed, its answer wins over a cancellation."""
    try:
        return await job
    except asyncio.CancelledError:
        if _is_ending(port) or port.withdraw(job) or port.is_outside:
            raise  # For an outside caller, the unit may still be written; no one gets the answer.
        if not await _outlast(job, port):
            raise  # If the unit was committed, the run finds it when it is resumed.
        cancel_again()
        return await job


async def _receive(receive: Receive, port: Port) -> Any:
    """Await a message, or the hint that there may be one.

    If the message is being taken, it wins over a cancellation.
    """
    arrival = port.receive(receive)
    try:
        return await arrival
    except asyncio.CancelledError:
        if _is_ending(port) or port.withdraw_take(arrival) or not await _taken(arrival, port):
            raise
        cancel_again()
        return await arrival
    finally:
        port.received(arrival)


async def _taken(arrival: Arrival, port: Port) -> bool:
    """Give a receive up, unless its message is being taken. Tells whether it was taken."""
    arrival.settle(False)  # If the take is in progress, this counts only if it finds no message.
    if not await _outlast(arrival, port):
        return False  # If a message was taken, the run finds it when it is resumed.
    try:
        return isinstance(await arrival, Taken)
    except Exception:
        return False  # If the run is dead, the next effect raises the reason.


async def _outlast(ticket: Ticket, port: Port) -> bool:
    """Await a ticket, however often this await is cancelled. Returns false if this execution ends meanwhile."""
    while not ticket.settled:
        with contextlib.suppress(asyncio.CancelledError):
            await ticket
        if _is_ending(port):
            return False
    return True


async def _turn(turn: Turn, port: Port, *, is_given_up: bool) -> None:
    """Await a turn. A recorded result wins over a cancellation of this await, in a replay too.

    If the operation was given up, its own cancellation waits for this turn. Then a further cancellation changes
    nothing.
    """
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
        cancel_again()


async def _handed_over(room: Ticket, port: Port) -> None:
    """Wait until the committer has room again. The unit stays handed over, and a cancellation is delivered after it."""
    turns = port.turns
    if turns is not None:
        turns.hold(1)
    try:
        await room
    except asyncio.CancelledError:
        if _is_ending(port):
            raise
        cancel_again()
    finally:
        if turns is not None:
            turns.hold(-1)


def _is_ending(port: Port) -> bool:
    """Tell whether a cancellation was not decided by the program: the loop is being closed, or Ctrl-C was pressed.

    A blocking workflow may run a loop in its own thread. Closing that loop is the program's decision.
    """
    return is_interrupted() if port.is_in_thread else is_closing(asyncio.get_running_loop())


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


def _plain(value: Any) -> Any:
    if not isawaitable(value):
        return value
    slip = slip_of_waiting(value)
    if iscoroutine(value):
        value.close()  # It never began. Without this, Python would warn that it was never awaited.
    what = given(value) if slip is None else slip.what
    raise DBOSContextError(
        f"a step that is a def returned {what} in an async workflow, and nothing can await it there. If it was an "
        "argument of the step, pass its awaited value instead; else make the step an async def, and await the step"
    )


def _unwrap(result: Any) -> Any:
    """Return a result, or raise its error. Not called while another error is handled: that would become its context."""
    if isinstance(result, Failed):
        raise result.error
    return result
