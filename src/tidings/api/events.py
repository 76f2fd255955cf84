"""Events: `set_event`, `get_event`, `get_all_events`, each with its `_async` twin."""

from __future__ import annotations

from typing import Any

from tidings.api.caller import Caller, Face, shared
from tidings.core.effects import Operation
from tidings.core.operations import events
from tidings.error import DBOSContextError
from tidings.limits import check_id, check_key, check_timeout
from tidings.model import SET_EVENT
from tidings.serialization import dump


class Events(Face):
    """Key-value pairs that a workflow publishes: the latest value of each is always retrievable."""

    @shared
    def get_event(cls, workflow_id: str, key: str, timeout_seconds: float | None = 60, *, default: Any = None) -> Any:
        """Return the latest value of an event, waiting until it exists.

        Args:
            workflow_id: whose event; one that does not exist yet is waited for too.
            key: which event.
            timeout_seconds: how long to wait; 0 looks once, `None` waits without limit.
            default: what is returned at the timeout, or if the workflow ended without the event.

        Raises:
            DBOSSerializationError: the value cannot be rebuilt here.

        Durable: in a workflow the value read is recorded (a timeout too), and a replay returns it,
        even if the event has changed since.
        """
        return cls._block("get_event", lambda caller: _get(caller, workflow_id, key, timeout_seconds, default))

    @shared
    async def get_event_async(
        cls, workflow_id: str, key: str, timeout_seconds: float | None = 60, *, default: Any = None
    ) -> Any:
        """Await `get_event`."""
        return await cls._await(lambda caller: _get(caller, workflow_id, key, timeout_seconds, default))

    @shared
    def get_all_events(cls, workflow_id: str) -> dict[str, Any]:
        """Return the latest value of each event that a workflow has published.

        Raises:
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSSerializationError: a value cannot be rebuilt here.

        Durable: in a workflow what was read is recorded, and a replay returns it.
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

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSSerializationError: the value cannot be stored; names the path inside it.
            DBOSLimitError: the key or the value is outside its limits.

        Durable: before the workflow's next step, its next operation that waits for an answer, and
        its end; events are published in order. From a workflow exactly once: a replay publishes
        nothing. From a step once per try, and before the step's result is recorded.
        """
        cls._block("set_event", lambda caller: _set(caller, key, value))

    @classmethod
    async def set_event_async(cls, key: str, value: Any) -> None:
        """Await `set_event`."""
        await cls._await(lambda caller: _set(caller, key, value))


def _set(caller: Caller, key: str, value: Any) -> Operation[None]:
    check_key(key, "event key")
    scope = caller.scope
    if scope is None:
        raise DBOSContextError(f"DBOS.set_event({key!r}) was called outside of any workflow; an event belongs to one")
    text = dump(caller.serializer, value, f"the event {key!r}")
    if scope.attempt is not None:
        return events.publish_in_step(scope.run, scope.attempt.check_running, key, text)
    return events.publish(scope.begin(SET_EVENT, key=key), key, text)


def _get(caller: Caller, workflow_id: str, key: str, timeout_seconds: float | None, default: Any) -> Operation[Any]:
    check_id(workflow_id, "workflow_id")
    check_key(key, "event key")
    timeout = check_timeout(timeout_seconds)
    if caller.workflow is not None:
        slot = caller.workflow.begin(events.GET_EVENT)
        return events.read_recorded(slot, workflow_id, key, timeout, default)
    return events.read(caller.serializer, workflow_id, key, timeout, default)


def _get_all(caller: Caller, workflow_id: str) -> Operation[dict[str, Any]]:
    check_id(workflow_id, "workflow_id")
    read = events.read_all(caller.serializer, workflow_id)
    return caller.observed(events.GET_ALL_EVENTS, read, f"the events of workflow {workflow_id!r}")
