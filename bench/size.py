"""How much a program does. The library that is measured does not influence it, so both do the same.

If possible, time is the limit, not a count. If one library is a hundred times faster, any count is far too small for
the one, or takes far too long with the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """How much one run of a program does.

    Attributes:
        seconds: how long it measures.
        count: the number of messages, workflows or items, if the program needs one; the most, if it also ends when
            the time is over.
        payload: length of each value, in characters.
    """

    seconds: float = 1.0
    count: int = 1
    payload: int = 16

    @property
    def value(self) -> str:
        """Return a value of this length."""
        return "x" * self.payload
