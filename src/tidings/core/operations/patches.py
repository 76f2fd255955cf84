"""Patches: how changed code tells workflows that already took the old path from those that may take the new one.

A patch has a marker in the history. Code that finds nothing recorded at its next place writes the marker there, and
takes the new path. In a replay, a marker at this place says: the new path. Anything else that is recorded there says:
the workflow took the old path, before the code was patched. Then the patch takes no place.
"""

from __future__ import annotations

from typing import Any

from tidings.core import targets
from tidings.core.effects import NOW, Defer, Operation
from tidings.core.history import Slot
from tidings.core.operations.recorded import recorded
from tidings.model import RecordedEntry, Unit

PATCH = "DBOS.patch"


def is_marker(found: RecordedEntry, name: str) -> bool:
    """Tell whether this entry is the marker of the patch `name`."""
    return found.entry.name == PATCH and found.entry.target == targets.of_patch(name)


def mark(slot: Slot) -> Operation[bool]:
    """Record a marker, or replay it: the code takes the new path."""
    yield from recorded(slot, _mark(slot))
    return True


def _mark(slot: Slot) -> Operation[None]:
    now: int = yield NOW

    def unit() -> Unit:
        return slot.run.unit(slot.done(now, now))

    yield Defer(unit)


def took(path: bool) -> Operation[Any]:
    """Return which path the code takes. Nothing is recorded."""
    yield from ()
    return path
