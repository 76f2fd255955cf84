"""Columns of values as PostgreSQL's binary arrays.

A batch goes to the server as one array per column. Psycopg would adapt each element on its own. Packing whole columns
costs a fraction of that, on the thread that all commits wait for.
The format: dimensions, whether there are nulls, the element's type; then length and lower bound of the one dimension;
then each element after its length, where length -1 means null.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

_HEADER: Final = struct.Struct("!iiIii").pack
_LENGTH: Final = struct.Struct("!i").pack
_BIGINT: Final = struct.Struct("!iq").pack
_NULL: Final = _LENGTH(-1)
_TEXT_OID: Final = 25
_BIGINT_OID: Final = 20


class Array(bytes):
    """An array in the binary format."""

    __slots__ = ()


def texts(values: Iterable[str | None]) -> Array:
    """Pack text[]. Raises `UnicodeEncodeError` for a lone surrogate."""
    parts = [b""]
    append = parts.append
    count = 0
    for value in values:
        count += 1
        if value is None:
            append(_NULL)
        else:
            encoded = value.encode()
            append(_LENGTH(len(encoded)))
            append(encoded)
    parts[0] = _HEADER(1, 1, _TEXT_OID, count, 1)
    return Array(b"".join(parts))


def bigints(values: Iterable[int | None]) -> Array:
    """Pack bigint[]. Raises `OverflowError` for a number of more than 64 bits."""
    try:
        parts = [_NULL if value is None else _BIGINT(8, value) for value in values]
    except struct.error as error:
        raise OverflowError(f"a number does not fit 64 bits: {error}") from error
    return Array(_HEADER(1, 1, _BIGINT_OID, len(parts), 1) + b"".join(parts))
