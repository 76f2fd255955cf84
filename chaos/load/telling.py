"""How workflows do what the checker judges: each operation with its records in the journal.

Records written in a workflow's code are written again, later, when the code is replayed. The checker knows that: the
first record of an intention and the first record of an answer count.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from chaos.histories import (
    CANCELLED,
    ERROR,
    SUCCESS,
    Awaited,
    Ending,
    Execution,
    Outcome,
    Published,
    Received,
    Sending,
    Sent,
    Setting,
    Started,
    Starting,
    StepBegun,
    StepDone,
    StepReturned,
    Told,
    Writing,
)
from chaos.journal import journal
from tidings import DBOS, SetWorkflowID, StepOptions, WorkflowHandle, WorkflowHandleAsync
from tidings.engine.runs import scope as scopes
from tidings.error import DBOSAwaitedWorkflowCancelledError

Said = dict[str, Any]  # what a workflow of the load returns: a `Told` as plain values

# The share of tries in which a step that may fail does so; it has enough tries to succeed in the end.
FAILS = 0.2
RETRIES: StepOptions = {"retries_allowed": True, "max_attempts": 30, "interval_seconds": 0.005, "backoff_rate": 1.2}


class MeantError(Exception):
    """A failure that the load raises on purpose."""


def text_of(error: BaseException) -> str:
    """Return an error as the text that histories have."""
    return f"{type(error).__name__}: {error}"


def letter(topic: str | None, sender: str, number: int, *, stop: bool = False) -> dict[str, Any]:
    """Return the value of a message. `stop` asks the receiver to receive no more on its topic."""
    return {"topic": topic, "sender": sender, "number": number, "stop": stop}


class Letter(msgspec.Struct, frozen=True):
    """A message that a workflow received."""

    topic: str | None
    sender: str
    number: int
    stop: bool

    @property
    def received(self) -> Received:
        """The record of it that the workflow returns in the end."""
        return Received(self.topic, self.sender, self.number)


def outcome_of(result: Callable[[], Any]) -> Outcome:
    """Ask for a workflow's result, and return how it ended."""
    try:
        return succeeded(result())
    except DBOSAwaitedWorkflowCancelledError:
        return Outcome(CANCELLED)
    except MeantError as error:
        return Outcome(ERROR, error=text_of(error))


async def outcome_of_async(result: Awaitable[Any]) -> Outcome:
    """Await a workflow's result, and return how it ended."""
    try:
        return succeeded(await result)
    except DBOSAwaitedWorkflowCancelledError:
        return Outcome(CANCELLED)
    except MeantError as error:
        return Outcome(ERROR, error=text_of(error))


def succeeded(result: Said) -> Outcome:
    """Return the outcome of a workflow that ended with this result."""
    return Outcome(SUCCESS, msgspec.convert(result, Told))


class Teller:
    """One execution of a workflow, created at the start of its function; it records what it does."""

    def __init__(self) -> None:
        scope = scopes.current()
        assert scope is not None
        self.workflow_id = scope.run.workflow_id
        self._epoch = scope.run.epoch  # No public call tells which of two executions counts.
        self._set: dict[str, int] = {}
        self._published: dict[str, int] = {}
        journal.note(Execution(self.workflow_id, self._epoch))

    # --- the end --------------------------------------------------------------------------------------

    def ends(self, told: Told) -> Said:
        """Return the value that the workflow returns."""
        journal.note(Ending(self.workflow_id, self._epoch, Outcome(SUCCESS, told)))
        said: Said = msgspec.to_builtins(told)
        return said

    def fails(self, why: str) -> MeantError:
        """Return the error that the workflow raises."""
        error = MeantError(why)
        journal.note(Ending(self.workflow_id, self._epoch, Outcome(ERROR, error=text_of(error))))
        return error

    # --- messages -------------------------------------------------------------------------------------

    def send(self, destination: str, topic: str | None, number: int, *, stop: bool = False) -> None:
        """Send message `number` of this workflow."""
        journal.note(Sending(self.workflow_id, number, destination, topic))
        DBOS.send(destination, letter(topic, self.workflow_id, number, stop=stop), topic)
        journal.note(Sent(self.workflow_id, number))

    async def send_async(self, destination: str, topic: str | None, number: int, *, stop: bool = False) -> None:
        """Await `send`."""
        journal.note(Sending(self.workflow_id, number, destination, topic))
        await DBOS.send_async(destination, letter(topic, self.workflow_id, number, stop=stop), topic)
        journal.note(Sent(self.workflow_id, number))

    def receive(self, topic: str | None, timeout_seconds: float | None = None) -> Letter | None:
        """Receive the next message of a topic; `None` after the timeout."""
        value = DBOS.recv(topic, timeout_seconds)
        return None if value is None else msgspec.convert(value, Letter)

    async def receive_async(self, topic: str | None, timeout_seconds: float | None = None) -> Letter | None:
        """Await `receive`."""
        value = await DBOS.recv_async(topic, timeout_seconds)
        return None if value is None else msgspec.convert(value, Letter)

    # --- events and streams ---------------------------------------------------------------------------

    def publish(self, key: str, version: int) -> None:
        """Publish the next version of an event."""
        journal.note(Setting(self.workflow_id, key, version))
        DBOS.set_event(key, version)
        self._set[key] = version

    async def publish_async(self, key: str, version: int) -> None:
        """Await `publish`."""
        journal.note(Setting(self.workflow_id, key, version))
        await DBOS.set_event_async(key, version)
        self._set[key] = version

    async def write_async(self, key: str, number: int, attempt: str | None = None) -> None:
        """Write an item with this number to a stream, for the workflow or for a try of a step."""
        journal.note(Writing(self.workflow_id, key, number, attempt))
        await DBOS.write_stream_async(key, [number, attempt])

    # --- steps ----------------------------------------------------------------------------------------

    def step(self, key: str, work: Callable[[str], None] | None = None, *, fails: bool = False) -> str:
        """Run a step that records what it does, and return the name of the try that was recorded.

        Args:
            key: its name, used once in a workflow.
            work: what else it does, given the name of its try.
            fails: whether some of its tries fail.
        """
        known = dict(self._set)

        def attempt() -> str:
            name = self._begin_try(key, known, fails=fails)
            if work is not None:
                work(name)
            return self._end_try(key, name)

        returned = DBOS.run_step({"name": key, **(RETRIES if fails else {})}, attempt)
        journal.note(StepReturned(self.workflow_id, key, self._epoch, returned))
        return returned

    async def step_async(
        self, key: str, work: Callable[[str], Coroutine[Any, Any, None]] | None = None, *, fails: bool = False
    ) -> str:
        """Await `step`."""
        known = dict(self._set)

        async def attempt() -> str:
            name = self._begin_try(key, known, fails=fails)
            if work is not None:
                await work(name)
            return self._end_try(key, name)

        returned = await DBOS.run_step_async({"name": key, **(RETRIES if fails else {})}, attempt)
        journal.note(StepReturned(self.workflow_id, key, self._epoch, returned))
        return returned

    def failing_step(self, key: str) -> str:
        """Run a step all of whose tries fail, and return its error as text."""

        def attempt() -> None:
            name = self._begin_try(key, {}, fails=False)
            raise self._fail_try(key, name)

        try:
            DBOS.run_step({"name": key}, attempt)
        except MeantError as error:
            journal.note(StepReturned(self.workflow_id, key, self._epoch, None, text_of(error)))
            return text_of(error)
        raise AssertionError(f"{key} did not fail")

    def _begin_try(self, key: str, known: dict[str, int], *, fails: bool) -> str:
        name = journal.new_name()
        journal.note(StepBegun(self.workflow_id, key, name, self._epoch))
        for event, version in known.items():
            if version > self._published.get(event, 0):
                self._published[event] = version
                journal.note(Published(self.workflow_id, event, version))
        if fails and random.random() < FAILS:
            raise self._fail_try(key, name)
        return name

    def _end_try(self, key: str, name: str) -> str:
        journal.note(StepDone(self.workflow_id, key, name))
        return name

    def _fail_try(self, key: str, name: str) -> MeantError:
        error = MeantError(f"{key} of {self.workflow_id} failed")
        journal.note(StepDone(self.workflow_id, key, name, text_of(error)))
        return error

    # --- children -------------------------------------------------------------------------------------

    def start(self, function: Callable[..., Said], workflow_id: str, *args: Any) -> WorkflowHandle[Said]:
        """Start a child under this id."""
        journal.note(Starting(workflow_id, function.__name__))
        with SetWorkflowID(workflow_id):
            handle = DBOS.start_workflow(function, *args)
        journal.note(Started(workflow_id))
        return handle

    async def start_async(
        self, function: Callable[..., Any], workflow_id: str, *args: Any
    ) -> WorkflowHandleAsync[Said]:
        """Await `start`."""
        journal.note(Starting(workflow_id, function.__name__))
        with SetWorkflowID(workflow_id):
            handle = await DBOS.start_workflow_async(function, *args)
        journal.note(Started(workflow_id))
        return handle

    async def await_async(self, handle: WorkflowHandleAsync[Said]) -> Outcome:
        """Await the end of a child, or of any other workflow."""
        outcome = await outcome_of_async(handle.get_result())
        journal.note(Awaited(handle.workflow_id, outcome))
        return outcome
