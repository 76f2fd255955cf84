"""Rows of workflows that somebody deletes by hand: what belongs to one goes with it, and its id can be used again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face


class Shop:
    """A workflow that uses every kind of row. It shows whether something of a former one is there."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.generation = "old"

        @face.step(name="number")
        async def number() -> str:
            return self.generation

        @face.workflow(name="order")
        async def order(waits: bool) -> Any:
            got = [await number(), await face.recv("t", 3_600 if waits else 0)]
            await face.set_event("key", self.generation)
            await face.write_stream("stream", self.generation)
            await face.close_stream("stream")
            return [*got, await number()]

        self.order = order

    async def leave_all_kinds(self) -> None:
        """End a workflow that has read a message, and has others unread."""
        handle = await self.face.start(self.order, True, workflow_id="order 7")
        await self.face.send("order 7", "read", "t")
        await handle.get_result()
        await self.face.send("order 7", "unread", "t")
        await self.face.send("order 7", "keyed", "u", idempotency_key="key")

    async def check_new_one(self) -> None:
        """Start a new one under the same id, which finds nothing of the former one."""
        self.generation, face = "new", self.face
        assert await (await face.start(self.order, False, workflow_id="order 7")).get_result() == ["new", None, "new"]
        assert await face.get_all_events("order 7") == {"key": "new"}
        assert await face.read("order 7", "stream") == ["new"]
        assert await face.list_messages("order 7") == []
        await face.send("order 7", "new", "u", idempotency_key="key")
        assert [each.value for each in await face.list_messages("order 7")] == ["new"]


DELETIONS = {
    "ended ones": "delete from {workflows} where status <> 'PENDING'",
    "one": "delete from {workflows} where workflow_id = 'order 7'",
    "old ones": "delete from {workflows} where created_at_ms < 9000000000000",
    "all": "delete from {workflows}",
    "all at once": "truncate {workflows}",
}


@pytest.mark.parametrize("deletion", DELETIONS.values(), ids=DELETIONS)
async def test_what_belongs_to_a_deleted_workflow_goes_with_it(app: App, face: Face, deletion: str) -> None:
    if app.rows.is_sqlite:
        deletion = deletion.replace("truncate", "delete from")
    shop = Shop(face)
    await shop.leave_all_kinds()
    app.rows.run(deletion)
    assert set(app.rows.counts().values()) == {0}
    await shop.check_new_one()


async def test_other_workflows_keep_what_is_theirs(app: App, face: Face) -> None:
    shop = Shop(face)
    await shop.leave_all_kinds()
    await (await face.start(shop.order, False, workflow_id="other")).get_result()
    await face.send("other", 1, "t")
    app.rows.run("delete from {workflows} where workflow_id = 'order 7'")
    assert len(await face.list_workflow_steps("other")) == 6
    assert [each.value for each in await face.list_messages("other")] == [1]
    assert await face.read("other", "stream") == ["old"]
    assert await face.get_event("other", "key", 0) == "old"


LEFTOVERS = {
    "entries": "insert into {entries} (workflow_id, branch, position, ordinal, name, state, output) "
    "values ('order 7', '', 1, 1, 'number', 'DONE', '\"old\"')",
    "an event": "insert into {events} (workflow_id, key, version, value, at_ms) "
    "values ('order 7', 'key', 9, '\"old\"', 0)",
    "an item": "insert into {stream_items} (workflow_id, key, item_offset, branch, position, ordinal, at_ms, value) "
    "values ('order 7', 'stream', 0, '', 9, 9, 0, '\"old\"')",
    "a closed stream": "insert into {closed_streams} (workflow_id, key, closed_at_ms) values ('order 7', 'stream', 0)",
    "a message": "insert into {messages} (seq, destination_id, topic, body, sent_at_ms) "
    "values (nextval('{messages_seq}'), 'order 7', 't', '\"old\"', 0)",
    "a key": "insert into {messages} (seq, destination_id, topic, body, sent_at_ms, idempotency_key, read_by_branch) "
    "values (nextval('{messages_seq}'), 'order 7', 'u', '\"old\"', 0, 'key', '')",
    "all": "set session_replication_role = replica; delete from {workflows}",
}


@pytest.mark.parametrize("leftover", LEFTOVERS.values(), ids=LEFTOVERS)
async def test_what_was_written_after_the_deletion_is_not_found_either(
    postgres_url: str, face: Face, log: Sightings, leftover: str
) -> None:
    """Of who was just about to write when the row was deleted; or triggers were switched off."""
    app = App(postgres_url)
    await app.launch()
    try:
        shop = Shop(face)
        if "replica" in leftover:
            await shop.leave_all_kinds()
        app.rows.run(leftover)
        await shop.check_new_one()
        assert any("rows of deleted workflows" in line for line in log.seen)
        assert app.rows.counts()["workflows"] == 1
    finally:
        await app.close()


async def test_an_id_that_is_in_use_has_no_leftovers(app: App, face: Face) -> None:
    shop = Shop(face)
    await shop.leave_all_kinds()
    before = app.rows.counts()
    assert await (await face.start(shop.order, True, workflow_id="order 7")).get_result() == ["old", "read", "old"]
    assert app.rows.counts() == before


async def test_a_process_whose_own_row_is_deleted_goes_on_as_another(app: App, face: Face, log: Sightings) -> None:
    @face.workflow(name="receive")
    async def receive() -> Any:
        return [await face.recv("t", 3_600), await face.recv("t", 3_600)]

    for each in ("v", "w"):
        await face.start(receive, workflow_id=each)
        await app.waiting("message", each, "t")
        await face.send(each, 1, "t")
        await app.waiting("message", each, "t", times=2)
    app.rows.run("delete from {executors}")
    for each in ("v", "w"):
        await face.send(each, 2, "t")
        assert await face.get_result(each) == [1, 2]
    assert any("has no row for this process" in line for line in log.seen)
