"""Events: `set_event`, `get_event`, `get_all_events`, each with its `_async` twin."""

from __future__ import annotations

from typing import Any

from tidings.api.caller import Face, shared
from tidings.core import targets
from tidings.core.effects import Operation
from tidings.core.operations import events
from tidings.engine.caller import Caller, outside_of_workflows
from tidings.engine.runs.thread_calls import Begins
from tidings.limits import Seconds, check_id, check_key, check_timeout
from tidings.model import SET_EVENT
from tidings.serialization import dump


class Events(Face):
    """Key-value pairs that a workflow publishes. Readers get the latest value of each."""

    @shared
    def get_event(cls, workflow_id: str, key: str, timeout_seconds: Seconds | None = 60, *, default: Any = None) -> Any:
        """Return the latest value of an event, waiting until it exists.

        Args:
            workflow_id: the workflow that publishes it; if the workflow does not exist yet, it is waited for too.
            key: the name of the event.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.
            default: the value to return at the timeout, or if the workflow has ended without the event.

        Returns:
            The latest value, or `default`. If the workflow has ended without the event, `default` is returned at once.

        Raises:
            DBOSSerializationError: this program cannot rebuild the value.

        Durable: in a workflow the value, or the timeout, is recorded. A replay returns it, even if the event has
        changed since.
        """
        return cls._block("get_event", lambda caller: _get(caller, workflow_id, key, timeout_seconds, default))

    @shared
    async def get_event_async(
        cls, workflow_id: str, key: str, timeout_seconds: Seconds | None = 60, *, default: Any = None
    ) -> Any:
        """Await `get_event`."""
        return await cls._await(lambda caller: _get(caller, workflow_id, key, timeout_seconds, default))

    @shared
    def get_all_events(cls, workflow_id: str) -> dict[str, Any]:
        """Return the latest value of each event that a workflow has published.

        Args:
            workflow_id: the workflow that publishes them.

        Returns:
            A dict from the key of each event to its value. A value whose class this program lacks is shown as text
            (`UndecodedValue`).

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.

        Durable: in a workflow the result is recorded, and a replay returns it.
        """
        return cls._block("get_all_events", lambda caller: _get_all(caller, workflow_id))

    @shared
    async def get_all_events_async(cls, workflow_id: str) -> dict[str, Any]:
        """Await `get_all_events`."""
        return await cls._await(lambda caller: _get_all(caller, workflow_id))


class OwnEvents(Events):
    """The events that a workflow publishes."""

    @classmethod
    def set_event(cls, key: str, value: Any) -> None:
        """Publish an event of this workflow, or update it.

        Args:
            key: the name of the event: text of up to 1,024 bytes.
            value: any value that can be stored.

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSSerializationError: the value cannot be stored. The error names the path inside it.
            DBOSLimitError: the key or the value is outside its limits.

        Durable: before the workflow's next step, before its next operation that waits for an answer, and before its
        end. Events are published in order. Workflow code publishes exactly once: a replay publishes nothing. A step
        publishes once per try, before its result is recorded.
        """
        cls._block("set_event", lambda caller: _set(caller, "DBOS.set_event", key, value), Begins.ALONE)

    @classmethod
    async def set_event_async(cls, key: str, value: Any) -> None:
        """Await `set_event`."""
        await cls._await(lambda caller: _set(caller, "DBOS.set_event_async", key, value))


def _set(caller: Caller, called: str, key: str, value: Any) -> Operation[None]:
    check_key(key, "event key")
    scope = caller.scope
    if scope is None:
        raise outside_of_workflows(f"{called}({key!r})", "an event belongs to one")
    text = dump(caller.serializer, value, f"the event {key!r}")
    if scope.attempt is not None:
        return events.publish_in_step(scope.run, scope.attempt.check_running, key, text)
    return events.publish(scope.begin(SET_EVENT, key=key), key, text)


def _get(caller: Caller, workflow_id: str, key: str, timeout_seconds: Seconds | None, default: Any) -> Operation[Any]:
    check_id(workflow_id, "workflow_id")
    check_key(key, "event key")
    timeout = check_timeout(timeout_seconds)
    if caller.workflow is not None:
        slot = caller.workflow.begin(events.GET_EVENT, target=targets.of_key(key, workflow_id, timeout))
        return events.read_recorded(slot, workflow_id, key, timeout, default)
    return events.read(caller.serializer, workflow_id, key, timeout, default)


def _get_all(caller: Caller, workflow_id: str) -> Operation[dict[str, Any]]:
    check_id(workflow_id, "workflow_id")
    read = events.read_all(caller.serializer, workflow_id)
    return caller.observed(events.GET_ALL_EVENTS, read, f"the events of workflow {workflow_id!r}")
