"""A client like that of another program: in this process, but with an engine of its own.

Users with the same settings share an engine. The settings of a visitor differ a little from those of `DBOS`, so all
communication between the two goes through the database. The visitor learns of changes only by listening: its re-checks
are an hour apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.support.app import Sightings
from tests.support.face import Face
from tidings import DBOSClient
from tidings.engine.engine import Engine
from tidings.engine.hooks import Hooks, Point
from tidings.engine.settings import Connection

HOUR = 3_600.0
ONLY_HEARD: dict[str, Any] = {"recheck_seconds": HOUR, "polling_interval_seconds": HOUR}
_NOBODY_ELSES: dict[str, Any] = {**ONLY_HEARD, "probe_patience_seconds": 60.0}


class Visitor:
    """A client of one test. Any other attribute is its operation of that name, in the form of the face."""

    def __init__(self, face: Face, client: DBOSClient, waits: Sightings) -> None:
        self.client = client
        self.waits = waits
        self._face = face.on(client)

    @property
    def engine(self) -> Engine:
        return self.client._engine

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        form: Callable[..., Awaitable[Any]] = getattr(self._face, operation)
        return form

    async def waiting(self, *key: str | None, times: int = 1) -> None:
        """Wait until its `times`th wait for this begins: `waiting("event", id, key)`, `waiting("end", id)`."""
        await self.waits.until(lambda seen: sum(key in keys for keys in seen) >= times)


@contextmanager
def visiting(url: str, face: Face, *, connection: dict[str, Any] = _NOBODY_ELSES, **options: Any) -> Iterator[Visitor]:
    """Create a client with an engine of its own, and destroy it at the end of the block."""
    waits, hooks = Sightings(), Hooks()
    hooks.set(Point.WAITING, lambda arrival: waits.note(arrival.keys if arrival is not None else ()))
    with (
        patch("tidings.engine.engine.Hooks", return_value=hooks),
        patch("tidings.api.client.Connection", partial(Connection, **connection)),
    ):
        client = DBOSClient(system_database_url=url, **options)
    with client:
        yield Visitor(face, client, waits)
