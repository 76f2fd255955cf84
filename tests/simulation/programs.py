"""The workflows of a simulation. They carry out plots, and write down what their operations gave."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tests.simulation import stories as stories_told
from tests.simulation.ledger import GAVE_UP, Ledger
from tests.simulation.plots import (
    FROM_STEPS,
    Act,
    Branches,
    Child,
    Close,
    Crew,
    CutShort,
    Detached,
    Drain,
    GiveUp,
    Limited,
    Look,
    Plot,
    Publish,
    Read,
    Receive,
    Send,
    Sleep,
    Step,
    Write,
)
from tests.simulation.stories import (
    Call,
    LoopOver,
    NextOf,
    Pause,
    Result,
    StartOf,
    Story,
    Together,
    Values,
    Within,
    tell,
    tell_async,
)
from tidings import DBOS
from tidings.api.messages import SendMessage
from tidings.api.steps import StepOptions
from tidings.core.history import Run
from tidings.engine.runs import scope as scopes
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSMaxStepRetriesExceeded,
    DBOSNonExistentWorkflowError,
    DBOSStepTimeoutError,
    DBOSStreamTimeoutError,
)

VERSION: Final = "simulation"

_QUICK: Final = Step(is_async=True)

_EXPECTED = (
    DBOSAwaitedWorkflowCancelledError,
    DBOSMaxStepRetriesExceeded,
    DBOSNonExistentWorkflowError,
    DBOSStepTimeoutError,
    DBOSStreamTimeoutError,
)


# Whose start the running code is, or began in: a workflow runs in a copy of its starter's context.
STARTER: Final[ContextVar[str | None]] = ContextVar("starter", default=None)


class Stage:
    """What the workflows of the simulation being played have in common: their code, and the ledger."""

    plots: dict[str, Plot]
    ledger: Ledger

    @classmethod
    def set(cls, plots: dict[str, Plot], ledger: Ledger) -> None:
        """Begin."""
        cls.plots, cls.ledger = plots, ledger

    @classmethod
    def clear(cls) -> None:
        """Hold nothing of it any more."""
        del cls.plots, cls.ledger


class Failing(Exception):
    """What a step raises that is to be tried again."""


@DBOS.workflow(name="simulation.awaiting")
async def awaiting(plot: str) -> list[Any]:
    """Carry out a plot, awaiting."""
    return await tell_async(_whole(Stage.plots[plot]))


@DBOS.workflow(name="simulation.blocking")
def blocking(plot: str) -> list[Any]:
    """Carry out a plot, blocking."""
    return tell(_whole(Stage.plots[plot]))


WORKFLOWS = (awaiting, blocking)


def workflow_of(plot: Plot) -> Callable[..., Any]:
    """Return the workflow that carries out this plot."""
    return awaiting if plot.is_async else blocking


class _Earlier(Struct, frozen=True):
    """What a branch has done before, and whose results had come when it called a step."""

    branch: str
    acts: tuple[Act, ...]
    seen: tuple[str, ...] = ()

    def events(self) -> tuple[str, list[int]]:
        """Return the key of its event, and the values it has published."""
        return event_key(self.branch), [n for n, act in enumerate(self.acts) if isinstance(act, Publish)]

    def items(self) -> tuple[str, list[int]]:
        """Return the key of its stream, and the values it has written."""
        writes = [(n, act.count) for n, act in enumerate(self.acts) if isinstance(act, Write)]
        return stream_key(self.branch), [n * 100 + index for n, count in writes for index in range(count)]


def event_key(branch: str) -> str:
    """Return the event of a branch."""
    return f"e{branch}"


def stream_key(branch: str) -> str:
    """Return the stream of a branch."""
    return f"t{branch}"


def _whole(plot: Plot) -> Story[list[Any]]:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    scope = scopes.current()
    assert scope is not None
    Stage.ledger.execution_begins(scope, plot.is_async, STARTER.get())
    done = yield from _branch(plot.acts, "", workflow_id)
    for number, act in enumerate(plot.acts):
        if isinstance(act, Child) and not act.is_awaited:
            handle = yield Call(DBOS, "retrieve_workflow", done[number][1])
            done.append((yield from _recorded(f".end{number}", workflow_id, _result_of(handle))))
    return done


def _branch(acts: tuple[Act, ...], branch: str, workflow_id: str) -> Story[list[Any]]:
    done: list[Any] = []
    for number, act in enumerate(acts):
        path = f"{branch}.{number}"
        earlier = _Earlier(branch, acts[:number])
        story = _do(act, path, branch, number, workflow_id, earlier)
        is_durable = isinstance(act, (Step, Send, Receive, Look, Read))
        done.append((yield from _recorded(path, workflow_id, story, is_durable=is_durable)))
    return done


def _recorded(path: str, workflow_id: str, story: Story[Any], *, is_durable: bool = False) -> Story[list[Any]]:
    try:
        value = yield from story
    except _EXPECTED as error:
        value = type(error).__name__
    Stage.ledger.result(workflow_id, path, value)
    if not stories_told.IS_UNORDERED.get():
        Stage.ledger.comes(_run(), path, is_durable=is_durable)
    return [path, value]


def _run() -> Run:
    scope = scopes.current()
    assert scope is not None
    return scope.run


def _do(  # noqa: PLR0911, PLR0912  (a case for each act)
    act: Act, path: str, branch: str, number: int, workflow_id: str, earlier: _Earlier
) -> Story[Any]:
    match act:
        case Step():
            return (yield from _step(act, path, workflow_id, earlier))
        case Send(to, topic, count):
            return (yield from _send(to, topic, count, f"{workflow_id}{branch}", number, workflow_id))
        case Receive(topic, timeout):
            began = Stage.ledger.now()
            message = yield from _await_message(topic, timeout)
            if message is None and timeout is not None:
                Stage.ledger.waited(workflow_id, path, began, timeout)
            return message
        case Drain(topic, most, with_steps):
            for index in range(most):
                each = f"{path}+{index}"
                _, value = yield from _recorded(each, workflow_id, _await_message(topic, 0))
                if value is None:
                    break
                if with_steps:
                    yield from _step(Step(), each, workflow_id, earlier)
        case GiveUp(topic, seconds):
            return (yield from _give_up(topic, seconds))
        case Publish():
            Stage.ledger.publishes(workflow_id, event_key(branch), number)
            yield Call(DBOS, "set_event", event_key(branch), number)
        case Look(of, timeout):
            began = Stage.ledger.now()
            value = yield Call(DBOS, "get_event", of, event_key(""), timeout)
            if value is None and timeout is not None:
                Stage.ledger.waited(workflow_id, path, began, timeout)
            return value
        case Write(count):
            for index in range(count):
                yield Call(DBOS, "write_stream", stream_key(branch), number * 100 + index)
        case Close():
            yield Call(DBOS, "close_stream", stream_key(branch))
        case Read(of, timeout):
            return (yield from _read(of, timeout))
        case Sleep(seconds):
            began = Stage.ledger.now()
            yield Call(DBOS, "sleep", seconds)
            Stage.ledger.waited(workflow_id, path, began, seconds)
        case Child(plot, is_awaited):
            handle = yield StartOf(plot, workflow_of(plot))
            Stage.ledger.result(workflow_id, f"{path}!", handle.workflow_id)
            return (yield from _result_of(handle)) if is_awaited else handle.workflow_id
        case Crew():
            return (yield from _crew(act, path, workflow_id))
        case Branches(branches, in_threads):
            stories = [_branch(acts, f"{path}.{index}", workflow_id) for index, acts in enumerate(branches)]
            # What they give is noted there: a composite may hold what was given up.
            yield Together(stories, in_threads)
        case Limited(branches, seconds, by, in_threads):
            stories = [_branch(acts, f"{path}.{index}", workflow_id) for index, acts in enumerate(branches)]
            try:
                yield stories_told.Limited(seconds, by, stories, in_threads)
            except TimeoutError:
                return GAVE_UP
            return "in time"
        case CutShort(count):
            paths = [f"{path}.{index}.0" for index in range(count)]
            yield stories_told.CutShort(
                *(_recorded(each, workflow_id, _step(_QUICK, each, workflow_id, earlier)) for each in paths)
            )
        case Detached(branches):
            first = _step(_QUICK, f"{path}.first", workflow_id, earlier)
            stories = [_branch(acts, f"{path}.{index}", workflow_id) for index, acts in enumerate(branches)]
            yield stories_told.Detached(first, *stories)
    return None


def _crew(crew: Crew, path: str, workflow_id: str) -> Story[str]:
    handles = []
    for number, plot in enumerate(crew.plots):
        handle = yield StartOf(plot, workflow_of(plot))
        handles.append(handle)
        Stage.ledger.result(workflow_id, f"{path}+{number}", handle.workflow_id)
    found: list[str] = []
    loop = yield LoopOver(DBOS, handles, crew.timeout_seconds)
    while True:
        try:
            handle = yield NextOf(loop)
        except TimeoutError:
            found.append("timeout")
            loop = yield LoopOver(DBOS, [each for each in handles if each.workflow_id not in found])
            continue
        if handle is None:
            return ", ".join(found)
        found.append(handle.workflow_id)
        Stage.ledger.came(handle.workflow_id)
        Stage.ledger.result(workflow_id, f"{path}+{len(handles) + len(found)}", handle.workflow_id)


def _result_of(handle: Any) -> Story[Any]:
    result = yield Result(handle)
    return f"{handle.workflow_id} gave {len(result)}"


def _send(to: str, topic: str | None, count: int, sender: str, number: int, workflow_id: str) -> Story[Any]:
    bodies = [[sender, number * 100 + index] for index in range(count)]
    for body in bodies:
        Stage.ledger.sends(body, to, topic)
    if count == 1:
        yield Call(DBOS, "send", to, bodies[0], topic)
    else:
        yield Call(DBOS, "send_bulk", [SendMessage(to, body, topic) for body in bodies])
    for body in bodies:
        Stage.ledger.sent(body)
    return "sent"


def _give_up(topic: str | None, seconds: float) -> Story[Any]:
    try:
        return (yield Within(seconds, _await_message(topic)))
    except TimeoutError:
        return GAVE_UP


def _await_message(topic: str | None, timeout_seconds: float | None = None) -> Story[Any]:
    message = yield Call(DBOS, "recv", topic, timeout_seconds)
    Stage.ledger.received(message)
    return message


def _read(of: str, timeout: float | None) -> Story[Any]:
    values: list[Any] = []
    try:
        yield Values(values.append, DBOS, of, stream_key(""), timeout_seconds=timeout)
    except DBOSStreamTimeoutError:
        values.append("timeout")
    return values


# --- steps ------------------------------------------------------------------------------------------


def _step(step: Step, path: str, workflow_id: str, earlier: _Earlier) -> Story[Any]:
    options = StepOptions(
        name=f"step{path}",
        retries_allowed=True,
        interval_seconds=0.1,
        max_attempts=step.failing + 1,
        timeout_seconds=step.limit,
    )
    function = _try_async if step.is_async else _try
    tries = Stage.ledger.counts["tries of steps"]
    seen = () if stories_told.IS_UNORDERED.get() else Stage.ledger.order(_run())
    earlier = replace(earlier, seen=seen)
    try:
        return (yield Call(DBOS, "run_step", options, function, step, path, workflow_id, earlier))
    except DBOSStepTimeoutError:
        if step.limit is not None and Stage.ledger.counts["tries of steps"] > tries:  # Else it comes from a replay.
            Stage.ledger.limit_passed(workflow_id, path, step.limit)
        raise


def _try(step: Step, path: str, workflow_id: str, earlier: _Earlier) -> str:
    return tell(_one_try(step, path, workflow_id, earlier))


async def _try_async(step: Step, path: str, workflow_id: str, earlier: _Earlier) -> str:
    return await tell_async(_one_try(step, path, workflow_id, earlier))


def _one_try(step: Step, path: str, workflow_id: str, earlier: _Earlier) -> Story[str]:
    ledger = Stage.ledger
    scope = scopes.current()
    assert scope is not None
    assert scope.attempt is not None
    ledger.step_begins(scope, path, earlier.events(), earlier.items())
    ledger.step_sees(scope, path, earlier.seen)
    number = ledger.number()
    try:
        if step.writes:
            yield Call(DBOS, "write_stream", f"u{path}", number)
        if step.publishes:
            ledger.publishes(workflow_id, f"s{path}", number)
            yield Call(DBOS, "set_event", f"s{path}", number)
        if step.sends_to is not None:
            body = [f"{workflow_id}{path}", 0]
            ledger.sends(body, step.sends_to, FROM_STEPS)
            yield Call(DBOS, "send", step.sends_to, body, FROM_STEPS, f"{workflow_id}{path}")
    except DBOSNonExistentWorkflowError:
        pass
    except DBOSException as error:
        ledger.note("a step could not write", workflow_id, path, repr(error))
        raise
    if step.seconds:
        yield Pause(step.seconds)
    if scope.attempt.number <= step.failing:
        raise Failing(path)
    return f"{path}#{number}"
