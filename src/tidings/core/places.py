"""Branches, and the places of operations in them; how errors name both.

A branch is a sequence of operations. The workflow function is the root. Each further task that calls a durable
operation opens a branch, numbered within its parent's in the order of their first operations. Each branch counts its
own operations, so parallel tasks replay correctly whatever their speed.

Not thread-safe: a branch is used only by the task or thread that owns it.
"""

from __future__ import annotations

from typing import Final

from tidings.model import WRITE_STREAM, Place, RecordedEntry

ROOT = ""
LIMITS: Final = "limits"  # Not a branch: the entries of time limits that the code reached.


class Branch:
    """A sequence of operations in a run. `owner` is the task or thread that calls them."""

    __slots__ = ("_calls", "_children", "_count", "owner", "path")

    def __init__(self, path: str = ROOT, owner: object = None) -> None:
        self.path = path
        self.owner = owner
        self._count = 0
        self._children = 0
        self._calls = 0

    def open_child(self, owner: object) -> Branch:
        """Open the next branch below this branch."""
        self._children += 1
        path = f"{self.path}.{self._children}" if self.path else str(self._children)
        return Branch(path, owner)

    def next_call(self) -> str:
        """Number a call of a function in a thread. Other threads have no influence on a number within a branch."""
        self._calls += 1
        return f"{self.path}/{self._calls}"

    @property
    def count(self) -> int:
        """How many operations this branch has begun."""
        return self._count

    def next_number(self) -> int:
        self._count += 1
        return self._count


def where(place: Place) -> str:
    """Name a place."""
    if place.branch == LIMITS:
        return f"number {place.number} of the time limits that it sets"
    return f"operation {place.number}" + (f" of branch {place.branch}" if place.branch else "")


def title(recorded: RecordedEntry) -> str:
    """Name a recorded operation: by its name, and by the key of the event or stream that it writes to."""
    entry = recorded.entry
    return title_of(entry.name, recorded.key, entry.child_workflow_id is not None)


def title_of(name: str, key: str | None, child: bool) -> str:
    """Name an operation in the same way. `child`: the start of a child workflow, not a step of the same name."""
    if child:
        return f"the child workflow {name}"
    return name if key is None else f"{name} of the {'stream' if name == WRITE_STREAM else 'event'} {key!r}"
