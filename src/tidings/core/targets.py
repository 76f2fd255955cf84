"""What an operation is aimed at, as text: a topic, a destination, the id that it awaits.

It is recorded, and a replay compares it, since code that changed may call the same operation for something else. Users
read it in errors, and histories keep it. So these texts never change.

A time limit counts only as there or not there: another number of seconds makes no other operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

_LIMITED: Final = " with a time limit"


def of_messages(addresses: Sequence[tuple[str, str | None]]) -> str:
    """Name the destinations and topics of messages that are sent together."""
    if len(addresses) == 1:
        [(destination_id, topic)] = addresses
        return f"to {destination_id!r}" if topic is None else f"to {destination_id!r} on {topic!r}"
    return _many(f"{len(addresses)} messages", [repr(each) for each in addresses])


def of_topic(topic: str | None, timeout_seconds: float | None) -> str:
    """Name the topic of a receive."""
    return _with("without a topic" if topic is None else f"on {topic!r}", timeout_seconds)


def of_workflow(workflow_id: str, timeout_seconds: float | None) -> str:
    """Name a workflow that is awaited."""
    return _with(f"of {workflow_id!r}", timeout_seconds)


def of_workflows(workflow_ids: Sequence[str]) -> str:
    """Name several workflows."""
    if len(workflow_ids) == 1:
        return f"of {workflow_ids[0]!r}"
    return _many(f"{len(workflow_ids)} workflows", [repr(each) for each in workflow_ids])


def of_key(key: str, workflow_id: str, timeout_seconds: float | None) -> str:
    """Name an event or a stream of a workflow that is read."""
    return _with(f"of {key!r} of {workflow_id!r}", timeout_seconds)


def of_stream(key: str) -> str:
    """Name a stream that is closed."""
    return f"of {key!r}"


def of_child(workflow_id: str) -> str:
    """Name a child whose id the code chose."""
    return f"as {workflow_id!r}"


def shown(recorded: str, called: str | None) -> tuple[str, str]:
    """Return two different targets for an error, without what they have in common."""
    called = called or ""
    if recorded.endswith(_LIMITED) and called.endswith(_LIMITED):
        return recorded.removesuffix(_LIMITED), called.removesuffix(_LIMITED)
    return recorded, called


def _with(target: str, timeout_seconds: float | None) -> str:
    return target if timeout_seconds is None else target + _LIMITED


def _many(what: str, named: Sequence[str]) -> str:
    digest = blake2b("\n".join(named).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"of {what}, the first {named[0] if named else 'missing'} ({digest})"
