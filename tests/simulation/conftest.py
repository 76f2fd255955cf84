"""No simulated thread outlives its test: it would hold what carries it, and much else, for all that come after it."""

from collections.abc import Iterator

import pytest

from tests.simulation.carriers import CARRIERS


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_simulation() -> Iterator[None]:
    yield
    assert CARRIERS.free_count == CARRIERS.count, "a thread outlived its simulation"
