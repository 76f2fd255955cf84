"""Which names a listener hears: the one rule, for both stores."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.store.protocol import PROBE


def audible(names: Sequence[str], by: str, listening: str) -> list[str]:
    """Return which of the names that executor `by` sent the executor `listening` hears.

    Those of others, and of its own nothing but probes: whoever waits in its own process was told already.
    """
    is_own = by == listening
    return [name for name in names if name.startswith(PROBE) == is_own]
