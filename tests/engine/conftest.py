"""What several tests of the engine need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidings.store import open as open_store
from tidings.store.protocol import Store


@pytest.fixture
def other(database_url: str) -> Iterator[Store]:
    """Another process's store on the same database."""
    store = open_store(database_url)
    store.migrate()
    store.connect()
    yield store
    store.close()
