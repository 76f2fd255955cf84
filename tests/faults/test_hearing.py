"""Wake-ups that a real server sends and the network loses: the connection is cut, or a pooler swallows them.

The wrong path takes an hour, so that what arrives at all has arrived promptly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from harness.proxy import Proxy
from tests.faults.load import HOUR, Load
from tests.store.driver import event, message, new, publishing, sending
from tests.support.app import App, Sightings
from tests.support.engines import wait_until
from tests.support.face import Face, off_loop
from tidings import store as stores
from tidings.core.operations.events import event_key
from tidings.core.operations.messages import arrival_key
from tidings.engine.waiting.waiters import wake_name
from tidings.model import Executor, Unit
from tidings.store.protocol import Batch, Store

LEASE_MS = 3_600_000


class Other:
    """Another process, which is not behind the proxy. It lives: nobody takes its workflows over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fence = store.enlist(Executor("other", "other", store.now_ms() + LEASE_MS, 0, LEASE_MS))
        self._number = 0

    def start(self, workflow_id: str) -> None:
        self._commit([Unit(start=new(workflow_id))])

    def publish(self, workflow_id: str, key: str, value: str) -> None:
        """Publish an event, and name it."""
        self._commit(publishing(workflow_id, event(key, 1, value)), wake_name(event_key(workflow_id, key)))

    def send(self, workflow_id: str, body: str, topic: str) -> None:
        """Send a message, and name it."""
        self._commit([sending(message(workflow_id, body, topic))], wake_name(arrival_key(workflow_id, topic)))

    def _commit(self, units: Iterable[Unit], *names: str) -> None:
        self._number += 1
        now_ms = self._store.now_ms()
        landed = self._number - 1 or None
        self._store.commit(Batch("other", self._fence, self._number, now_ms, LEASE_MS, list(units), names, landed))


@pytest.fixture
def other(postgres_url: str) -> Iterator[Other]:
    """Another process of this database."""
    store = stores.open(postgres_url)
    store.migrate()
    store.connect()
    yield Other(store)
    store.close()


@pytest.mark.direct("must hear at once", only="transaction")
@pytest.mark.usefixtures("only_heard")
async def test_defect_2_a_listening_connection_that_is_cut_delays_nothing_beyond_its_return(
    proxy: Proxy, postgres_url: str, face: Face, other: Other
) -> None:
    """Only that connection: whatever else the process asks is answered."""
    app = App(proxy.url(postgres_url))
    await app.launch()

    @face.workflow(name="faults.receive")
    async def receive() -> Any:
        return await face.recv("topic", HOUR)

    handle = await face.start(receive, workflow_id="w")
    await app.waiting("message", "w", "topic")
    other.start("o")
    reading = asyncio.ensure_future(face.get_event("o", "key", HOUR))
    await app.waiting("event", "o", "key")
    await off_loop(wait_until, lambda: app.engine.hearing.is_proven)
    proxy.refuse()
    assert await off_loop(proxy.cut, "listen") == 1
    await off_loop(other.send, "w", '"unheard"', "topic")
    await off_loop(other.publish, "o", "key", '"unheard"')
    proxy.accept()
    assert await handle.get_result() == "unheard"
    assert await reading == "unheard"
    # And what comes from now on is heard.
    await off_loop(wait_until, lambda: app.engine.hearing.is_proven)
    other.start("p")
    reading = asyncio.ensure_future(face.get_event("p", "key", HOUR))
    await app.waiting("event", "p", "key")
    await off_loop(other.publish, "p", "key", '"heard"')
    assert await reading == "heard"
    await app.close()


@pytest.mark.direct("must hear at once", only="transaction")
async def test_a_pooler_that_swallows_notifications_is_noticed_and_who_waits_polls(
    proxy: Proxy, postgres_url: str, face: Face, other: Other, log: Sightings
) -> None:
    proxy.swallow_notifications = True
    app = App(proxy.url(postgres_url))
    await app.launch(notification_listener_polling_interval_sec=0.02)
    app.engine.hearing._patience_seconds = 0.05
    other.start("o")
    for number in (1, 2):
        reading = asyncio.ensure_future(face.get_event("o", f"key{number}", HOUR))
        await app.waiting("event", "o", f"key{number}")
        await off_loop(other.publish, "o", f"key{number}", f"{number}")
        assert await reading == number  # By polling: nothing is heard.
        await log.until(lambda seen: any("wake-ups from other processes do not arrive" in each for each in seen))
    # It tries again now and then, and says nothing more of it.
    listened = proxy.accepted
    await off_loop(wait_until, lambda: proxy.accepted > listened)
    [said] = [each for each in log.seen if "do not arrive" in each]
    assert "WARNING" in said
    assert "PgBouncer" in said
    assert "poll every 0.02 s" in said
    proxy.swallow_notifications = False
    await log.until(lambda seen: any("arrive again" in each for each in seen))
    assert len([each for each in log.seen if "do not arrive" in each or "arrive again" in each]) == 2
    await app.close()


async def test_a_pooler_that_loses_prepared_statements_is_no_outage(
    app: App, face: Face, proxy: Proxy, log: Sightings
) -> None:
    load = Load(face, workflows=4)
    times = iter(range(3))

    async def forget() -> None:
        if next(times) > 0:  # There must be some first.
            await off_loop(proxy.forget_prepared)

    await load.run(forget)
    await load.check(app.rows)
    [said] = [each for each in log.seen if "From now on tidings does not prepare statements" in each]
    assert said.startswith("WARNING PostgreSQL database")
    assert not [each for each in log.seen if "; trying again, nothing is lost" in each]


async def test_every_wake_up_behind_a_swallowing_pooler_under_load(proxy: Proxy, postgres_url: str, face: Face) -> None:
    proxy.swallow_notifications = True
    app = App(proxy.url(postgres_url))
    await app.launch(notification_listener_polling_interval_sec=0.02)
    load = Load(face)
    await load.run(partial(off_loop, proxy.forget_prepared))
    await load.check(app.rows)
    await app.close()
