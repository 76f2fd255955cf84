"""Stores for the tests: opened, migrated, and closed when the test is over.

A file of tests for one of the two stores has a `database_url` of its own.
"""

from collections.abc import Iterator
from typing import Protocol

import pytest

import tidings.store
from tests.store.driver import Process
from tidings.store.protocol import Store


class OpenStore(Protocol):
    """Opens one more store on the test's database, as another process would."""

    def __call__(self, schema: str = "tidings") -> Store: ...


@pytest.fixture
def open_store(database_url: str) -> Iterator[OpenStore]:
    """Open further stores."""
    stores: list[Store] = []

    def open_another(schema: str = "tidings") -> Store:
        store = tidings.store.open(database_url, schema)
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
