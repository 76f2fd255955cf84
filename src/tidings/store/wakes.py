"""Which names a listener hears: one rule for both stores."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.store.protocol import PROBE


def audible(names: Sequence[str], by: str, listening: str) -> list[str]:
    """Return which of the names that executor `by` sent the executor `listening` hears.

    It hears all names of other executors, and of its own only probes: its own waiters are woken inside the process.
    """
    is_own = by == listening
    return [name for name in names if name.startswith(PROBE) == is_own]
