"""Measures writing a value as text and reading it again, compared with msgspec, json and pickle.

msgspec and json also write the typed value, but do not restore its types; they show the least possible time.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from bench.meter import measuring, rounds
from bench.size import Size
from tidings.serialization import JSONSerializer, dump, load

ROUND_TRIPS = 20


class Currency(Enum):
    """Something typed."""

    EUR = "EUR"


@dataclass
class Order:
    """A typed value with several parts."""

    id: UUID
    placed_at: datetime
    currency: Currency
    lines: tuple[tuple[str, int], ...]


PLAIN = {"order_id": "a1b2c3d4", "amount": 1999, "currency": "EUR", "paid": True, "items": ["x", "y"], "note": None}
NESTED = {"page": 1, "orders": [PLAIN | {"rate": 1.25, "customer": {"name": "Ada", "tags": ["a"]}} for _ in range(20)]}
TYPED = Order(UUID(int=1), datetime(2024, 2, 29, 12, tzinfo=UTC), Currency.EUR, (("a", 1), ("b", 2)))

_SERIALIZER = JSONSerializer()


def with_tidings(value: Any) -> Any:
    """Write and read."""
    return load(_SERIALIZER, dump(_SERIALIZER, value, "value"), "value")


def with_msgspec(value: Any) -> Any:
    """Write and read, without the types."""
    return msgspec.json.decode(msgspec.json.encode(value))


def with_json(value: Any) -> Any:
    """Write and read, without the types; values that json cannot write are written as text."""
    return json.loads(json.dumps(value, default=str))


def with_pickle(value: Any) -> Any:
    """Write and read."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301  its own bytes


def values(size: Size) -> None:
    """Measure each value with each serializer, by the length of the value."""
    ways: dict[str, Callable[[Any], Any]] = {
        "value_tidings": with_tidings,
        "value_msgspec": with_msgspec,
        "value_json": with_json,
        "value_pickle": with_pickle,
    }
    for value in (None, PLAIN, TYPED, NESTED):
        length = len(dump(_SERIALIZER, value, "value"))
        for row, round_trip in ways.items():
            with measuring(row, length) as window:
                for began in rounds(size.seconds / 10, window):
                    for _ in range(ROUND_TRIPS):
                        round_trip(value)
                    window.latencies_ms.append((time.perf_counter() - began) * 1e3 / ROUND_TRIPS)
                    window.operations += ROUND_TRIPS
