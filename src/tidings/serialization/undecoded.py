"""The placeholder for a value that this program cannot decode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UndecodedValue:
    """A stored value that this program cannot decode, as it is in the database.

    Lists, statuses and other records show it in place of the value, so that one such value does not hide the rest.

    Attributes:
        type_name: the class of the value, as in `shop.orders.Order`; `None` if the text names no class.
        text: the stored text: JSON, unless the program configured its own serializer.
        reason: why it cannot be decoded, and what to do about it.
    """

    type_name: str | None
    text: str
    reason: str
