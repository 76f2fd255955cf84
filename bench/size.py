"""How much a program does. The library that is measured has no say in it, so both do the same.

What can be is bounded by time, not by a count: where one library is a hundred times as fast, each count would be far
too small for one or last far too long with the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """What one run of a program does.

    Attributes:
        seconds: how long it measures.
        count: of what the program is about (messages, workflows, items), where there must be a number of them: at
            most, where it also ends when the time is up.
        payload: length of each value, in characters.
    """

    seconds: float = 1.0
    count: int = 1
    payload: int = 16

    @property
    def value(self) -> str:
        """A value of the length asked for."""
        return "x" * self.payload
