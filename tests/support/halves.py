"""Chooses the half of the tests for both stores and both faces that a run with `--half` runs.

A test of this kind has four variants. The run has two of them, with each store and each face: SQLite blocking and
PostgreSQL awaiting, or the other pair. The test and the seed of the run determine the pair, so other runs have other
pairs. All other tests always run.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

import pytest

_STORES = {"sqlite": 0, "postgres": 1}
_FACES = {"blocking": 0, "awaiting": 1, "async": 1}
_VARIANTS = {(store, face) for store in (0, 1) for face in (0, 1)}


def other_half(items: Sequence[pytest.Item], seed: int) -> set[pytest.Item]:
    """Return the tests that a run with this seed leaves out."""
    variants: defaultdict[str, dict[tuple[int, int], pytest.Item]] = defaultdict(dict)
    for item in items:
        parts = _parameters(item)
        stores = [part for part in parts if part in _STORES]
        faces = [part for part in parts if part in _FACES]
        if len(stores) == len(faces) == 1:
            others = [part for part in parts if part not in (*stores, *faces)]
            test = f"{item.nodeid.partition('[')[0]} {'-'.join(others)}"
            variants[test][_STORES[stores[0]], _FACES[faces[0]]] = item
    return {
        item
        for test, found in variants.items()
        if found.keys() == _VARIANTS
        for (store, face), item in found.items()
        if (store + face + zlib.crc32(f"{seed} {test}".encode())) % 2
    }


def _parameters(item: pytest.Item) -> list[str]:
    callspec = getattr(item, "callspec", None)
    return [] if callspec is None else callspec.id.split("-")
