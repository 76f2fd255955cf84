"""Stores for the tests: opened, migrated, and closed when the test is over."""

from collections.abc import Callable, Iterator

import pytest

import tidings.store
from tests.store.driver import Process
from tidings.store.protocol import Store

OpenStore = Callable[[], Store]


@pytest.fixture
def open_store(database_url: str) -> Iterator[OpenStore]:
    """Open one more store on the test's database, as another process would."""
    stores: list[Store] = []

    def open_another() -> Store:
        store = tidings.store.open(database_url)
        stores.append(store)
        store.migrate()
        store.connect()
        return store

    yield open_another
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    """A store on an empty database."""
    return open_store()


@pytest.fixture
def process(store: Store) -> Process:
    """An executor in that store."""
    return Process(store)
