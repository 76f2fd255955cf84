"""A run of half of the variants includes each store and each face of every test."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.support.halves import other_half

pytest_plugins = ["pytester"]

_TESTS = """
import pytest

both = pytest.mark.parametrize("face", ["blocking", "awaiting"])
stores = pytest.mark.parametrize("database_url", ["sqlite", "postgres"])

@both
@stores
@pytest.mark.parametrize("number", range(20))
def test_four(face, database_url, number): pass

@both
@pytest.mark.parametrize("database_url", ["sqlite"])
def test_two(face, database_url): pass

@stores
def test_stores(database_url): pass

def test_alone(): pass
"""


def _items(pytester: pytest.Pytester) -> list[pytest.Item]:
    return list(pytester.getitems(_TESTS))


def test_each_store_and_each_face_is_played(pytester: pytest.Pytester) -> None:
    items = _items(pytester)
    left_out = other_half(items, seed=1)
    played = defaultdict(set)
    for item in set(items) - left_out:
        store, face = ("sqlite" in item.name, "blocking" in item.name)
        played[item.name.split("-")[0] if "four" in item.name else item.name].add((store, face))
    fours = [variants for name, variants in played.items() if "four" in name]
    assert len(fours) == 20
    for variants in fours:
        assert variants in ({(True, True), (False, False)}, {(True, False), (False, True)})
    assert len(left_out) == 40
    assert all("test_four" in item.name for item in left_out)


def test_other_seeds_play_other_pairs_and_the_same_seed_the_same(pytester: pytest.Pytester) -> None:
    items = _items(pytester)
    assert other_half(items, seed=1) == other_half(items, seed=1)
    assert set.intersection(*(other_half(items, seed=seed) for seed in range(20))) == set()
