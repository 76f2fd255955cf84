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
_MOST_NAMED: Final = 5


def of_messages(addresses: Sequence[tuple[str, str | None]]) -> str:
    """Name the destinations and topics of messages that are sent together."""
    if len(addresses) == 1:
        [(destination_id, topic)] = addresses
        return f"to {destination_id!r}" if topic is None else f"to {destination_id!r} on {topic!r}"
    return f"of {len(addresses)} messages to {_all_of([destination_id for destination_id, _ in addresses])}"


def of_topic(topic: str | None, timeout_seconds: float | None) -> str:
    """Name the topic of a receive."""
    return _with("without a topic" if topic is None else f"on {topic!r}", timeout_seconds)


def of_workflow(workflow_id: str, timeout_seconds: float | None) -> str:
    """Name a workflow that is awaited."""
    return _with(f"of {workflow_id!r}", timeout_seconds)


def of_workflows(workflow_ids: Sequence[str]) -> str:
    """Name several workflows."""
    return f"of {_all_of(workflow_ids)}"


def of_key(key: str, workflow_id: str, timeout_seconds: float | None) -> str:
    """Name an event or a stream of a workflow that is read."""
    return _with(f"of {key!r} of {workflow_id!r}", timeout_seconds)


def of_stream(key: str) -> str:
    """Name a stream that is closed."""
    return f"of {key!r}"


def of_child(workflow_id: str) -> str:
    """Name a child whose id the code chose."""
    return f"as {workflow_id!r}"


def of_patch(name: str) -> str:
    """Name a patch."""
    return f"{name!r}"


def shown(recorded: str, called: str | None) -> tuple[str, str]:
    """Return two different targets for an error, without what they have in common."""
    called = called or ""
    if recorded.endswith(_LIMITED) and called.endswith(_LIMITED):
        return recorded.removesuffix(_LIMITED), called.removesuffix(_LIMITED)
    return recorded, called


def _with(target: str, timeout_seconds: float | None) -> str:
    return target if timeout_seconds is None else target + _LIMITED


def _all_of(ids: Sequence[str]) -> str:
    """Name some ids, in any order: a program may keep them in a set, which has another order in each process."""
    named = sorted(set(ids))
    if len(named) <= _MOST_NAMED:
        return ", ".join(map(repr, named)) or "nothing"
    digest = blake2b("\n".join(named).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{named[0]!r} and {len(named) - 1} others ({digest})"
