"""Microseconds to write and to read one value, beside json, msgspec and pickle on the same value.

    python -m bench.serialization

json and msgspec write the typed value too, but do not bring its types back; they are there as the
floor. Each figure is the best of several runs: the others were disturbed.
"""

from __future__ import annotations

import json
import pickle
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from tidings.serialization import JSONSerializer, dump, dump_error, load, load_error

RUNS = 7
SECONDS_PER_RUN = 0.1


class Currency(Enum):
    EUR = "EUR"


@dataclass
class Order:
    id: UUID
    placed_at: datetime
    currency: Currency
    lines: tuple[tuple[str, int], ...]


PLAIN = {"order_id": "a1b2c3d4", "amount": 1999, "currency": "EUR", "paid": True, "items": ["x", "y"], "note": None}
NESTED = {"page": 1, "orders": [PLAIN | {"rate": 1.25, "customer": {"name": "Ada", "tags": ["a"]}} for _ in range(20)]}
TYPED = Order(UUID(int=1), datetime(2024, 2, 29, 12, tzinfo=UTC), Currency.EUR, (("a", 1), ("b", 2)))


def microseconds(work: Callable[[], object]) -> float:
    timer = timeit.Timer(work)
    number, seconds = timer.autorange()
    number = max(1, int(number * SECONDS_PER_RUN / seconds))
    return min(timer.repeat(RUNS, number)) / number * 1e6


def row(name: str, write: Callable[[Any], Any], read: Callable[[Any], Any], value: Any) -> None:
    written = write(value)
    encode, decode = microseconds(lambda: write(value)), microseconds(lambda: read(written))
    print(f"  {name:<14}{len(written):>8}{encode:>10.2f}{decode:>10.2f}{encode + decode:>10.2f}")


def main() -> None:
    serializer = JSONSerializer()
    for title, value in {
        "None": None,
        "a plain dict": PLAIN,
        "20 nested dicts": NESTED,
        "a typed object": TYPED,
    }.items():
        print(f"{title:<16}{'length':>8}{'encode':>10}{'decode':>10}{'both':>10}  µs")
        row("tidings", lambda v: dump(serializer, v, "value"), lambda t: load(serializer, t, "value"), value)
        row("msgspec", lambda v: msgspec.json.encode(v).decode(), msgspec.json.decode, value)
        if value is not TYPED:
            row("json", lambda v: json.dumps(v, separators=(",", ":")), json.loads, value)
        row("pickle", pickle.dumps, pickle.loads, value)
        print()
    error = ValueError("the card was refused", 402)
    print(f"{'an error':<16}{'length':>8}{'encode':>10}{'decode':>10}{'both':>10}  µs")
    row("tidings", lambda e: dump_error(serializer, e)[0], lambda t: load_error(serializer, t), error)
    row("pickle", pickle.dumps, pickle.loads, error)


if __name__ == "__main__":
    main()
