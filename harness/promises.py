"""What streams and events promise, for all that check it: the verdict of the simulation, and the checker of chaos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto


class Misread(Enum):
    """What is wrong with the items that a reader got."""

    TRUNCATED = auto()  # The stream has fewer items at the end.
    CHANGED = auto()  # The stream has other items there at the end.
    CUT_SHORT = auto()  # The reader was told the end, and the stream goes on.


def misread(
    final: Sequence[object], offset: int, values: Sequence[object], *, to_the_end: bool = False
) -> Iterator[Misread]:
    """Check that a reader got a part of the final stream, and all the rest if it was told the end.

    Args:
        final: the items of the stream at the end.
        offset: where the reader began.
        values: the items that it got.
        to_the_end: whether it was told that the stream ends after them.
    """
    end = offset + len(values)
    if values and end > len(final):
        yield Misread.TRUNCATED
    elif tuple(final[offset:end]) != tuple(values):
        yield Misread.CHANGED
    if to_the_end and end < len(final):
        yield Misread.CUT_SHORT


class Miswritten(Enum):
    """What is wrong with what one writer wrote, in the order in which it is stored."""

    DUPLICATED = auto()
    REORDERED = auto()


def miswritten(numbers: Sequence[int]) -> Miswritten | None:
    """Check that a writer that counts up has written each number once, and in order."""
    if len(set(numbers)) < len(numbers):
        return Miswritten.DUPLICATED
    return Miswritten.REORDERED if sorted(numbers) != list(numbers) else None
