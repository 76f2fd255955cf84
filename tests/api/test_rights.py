"""A right that is missing: the launch names the statement that gives it."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face
from tests.support.rows import Rows
from tests.support.users import USER, as_user
from tidings import store
from tidings.error import DBOSInitializationError

pytestmark = [pytest.mark.direct("as another user"), pytest.mark.unmigrated]

NEEDED = {
    "schema_version": "select",
    "workflows": "select insert update delete",
    "entries": "select insert update delete",
    "messages": "select insert update delete",
    "events": "select insert delete",
    "stream_items": "select insert delete",
    "closed_streams": "select insert delete",
    "executors": "select insert update delete",
}
RIGHTS = [f"{right} on tidings.{table}" for table, rights in NEEDED.items() for right in rights.split()] + [
    "usage on sequence tidings.workflows_seq",
    "usage on sequence tidings.messages_seq",
    "usage on schema tidings",
    "execute on function tidings.refuse(text)",
    "execute on function tidings.page_of_stream(text, text, bigint, bigint, bigint)",
]


async def migrate(url: str) -> None:
    """Make the tables, as their owner."""
    app = App(url)
    await app.launch()
    await app.close()


@pytest.mark.parametrize("migrates", [True, False], ids=["migrates", "does not migrate"])
async def test_a_launch_names_each_right_that_is_missing(postgres_url: str, migrates: bool) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    owner, app = Rows(postgres_url), App(url)
    for right in RIGHTS:
        owner.run(f"revoke {right} from {USER}, public")
        with pytest.raises(DBOSInitializationError, match="Let the owner of the tables run") as caught:
            await app.launch(run_migrations=migrates)
        found = re.search(r"run: (grant .*)$", str(caught.value))
        assert found is not None
        statement = found[1]
        assert statement.replace(", ", ",") == f"grant {right} to {USER}".replace(", ", ",")
        owner.run(statement)
    await app.launch(run_migrations=migrates)
    await app.close()


async def test_all_that_are_missing_are_named_at_once(postgres_url: str) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url)
    owner, app = Rows(postgres_url), App(url)
    owner.run(f"revoke insert, update on tidings.messages from {USER}")
    with pytest.raises(DBOSInitializationError) as caught:
        await app.launch()
    for statement in str(caught.value).partition("run: ")[2].split("; "):
        owner.run(statement)
    await app.launch()
    await app.close()


def test_a_user_who_may_not_create_is_told_what_its_owner_can_run(postgres_url: str) -> None:
    """First there is no schema; then this user may only use it; at last its tables are there."""
    owner = Rows(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        user = f"{connection.info.dbname}_new"
        owner.run(f"revoke create on database {connection.info.dbname} from public")
    owner.run(f"create role {user} login")
    try:
        scheme, _, rest = postgres_url.partition("://")
        url = f"{scheme}://{user}@{rest.partition('@')[2]}"
        with pytest.raises(DBOSInitializationError) as caught:
            store.open(url, "shop").migrate()
        run = re.search(
            r"Let the owner of the database run: (create schema \S+ authorization \S+)\. Or", str(caught.value)
        )
        assert run is not None
        owner.run(run[1])
        owner.run("alter schema shop owner to postgres")
        owner.run(f"grant usage on schema shop to {user}")
        with pytest.raises(DBOSInitializationError) as caught:
            store.open(url, "shop").migrate()
        run = re.search(
            r"Let the owner of the schema run: (grant usage, create on schema \S+ to \S+)\. Or", str(caught.value)
        )
        assert run is not None
        owner.run(run[1])
        store.open(url, "shop").migrate()
        owner.run(f"revoke create on schema shop from {user}")  # Needed no more.
        opened = store.open(url, "shop")
        opened.migrate()
        opened.connect()
        opened.close()
    finally:
        owner.run(f"drop owned by {user} cascade")
        owner.run("drop schema if exists shop cascade")
        owner.run(f"drop role {user}")


async def test_rights_on_columns_and_of_a_group_are_enough(postgres_url: str) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    owner = Rows(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        group = f"{connection.info.dbname}_group"
    owner.run(f"create role {group}")
    try:
        owner.run(f"grant {group} to {USER}")
        owner.run(f"revoke all on tidings.messages from {USER}")
        owner.run(f"grant select, insert, update, delete on tidings.messages to {group}")
        owner.run(f"revoke select on tidings.schema_version from {USER}")
        owner.run(f"grant select (version) on tidings.schema_version to {USER}")
        app = App(url)
        await app.launch()
        await app.close()
    finally:
        owner.run(f"drop owned by {group}")
        owner.run(f"drop role {group}")


LOST = {
    "of messages": "insert on tidings.messages",
    "of their numbers": "usage on sequence tidings.messages_seq",
    "of events": "insert on tidings.events",
    "of streams": "insert on tidings.stream_items",
    "of closed streams": "insert on tidings.closed_streams",
}


@pytest.mark.parametrize("right", LOST.values(), ids=LOST)
async def test_of_what_runs_only_what_needs_a_lost_right_waits(
    postgres_url: str, face: Face, log: Sightings, right: str
) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    owner, app = Rows(postgres_url), App(url)
    await app.launch()
    try:

        @face.step(name="step")
        async def step(number: int) -> int:
            return number

        @face.workflow(name="needs_it")
        async def needs_it() -> Any:
            first = await step(1)
            if "messages" in right:
                await face.send("box", 1, "t")
            elif "events" in right:
                await face.set_event("key", 1)
            else:
                await face.write_stream("stream", 1)
                await face.close_stream("stream")
            return [first, await step(2)]

        @face.workflow(name="other")
        async def other() -> Any:
            return [await step(number) for number in range(3)]

        @face.workflow(name="box")
        async def box() -> Any:
            return await face.recv("t", 3_600)

        await face.start(box, workflow_id="box")
        owner.run(f"revoke {right} from {USER}")
        waiting = [await face.start(needs_it, workflow_id=each) for each in ("v", "w")]
        await log.until(lambda seen: any("only what needs this right waits" in line for line in seen))
        for _ in range(3):
            assert await (await face.start(other)).get_result() == [0, 1, 2]
        assert [(await each.get_status()).status for each in waiting] == ["PENDING", "PENDING"]
        owner.run(f"grant {right} to {USER}")
        assert [await each.get_result() for each in waiting] == [[1, 2], [1, 2]]
        assert len([line for line in log.seen if "only what needs this right waits" in line]) == 1
    finally:
        await app.close()


async def test_of_questions_only_what_needs_a_lost_right_waits(postgres_url: str, face: Face, log: Sightings) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    owner, app = Rows(postgres_url), App(url)
    await app.launch()
    try:

        @face.workflow(name="publish")
        async def publish() -> int:
            await face.set_event("key", 1)
            return 1

        @face.workflow(name="look")
        async def look(workflow_id: str) -> Any:
            return await face.get_event(workflow_id, "key", 3_600)

        await (await face.start(publish, workflow_id="w")).get_result()
        owner.run(f"revoke select on tidings.events from {USER}")
        looking = await face.start(look, "w")
        await log.until(lambda seen: any("only what needs this right waits" in line for line in seen))
        assert await face.get_result("w") == 1
        owner.run(f"grant select on tidings.events to {USER}")
        assert await looking.get_result() == 1
    finally:
        await app.close()


async def test_a_shutdown_does_not_wait_for_a_right(postgres_url: str, face: Face, log: Sightings) -> None:
    await migrate(postgres_url)
    url = as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    owner, app = Rows(postgres_url), App(url)
    await app.launch()

    @face.workflow(name="publish")
    async def publish() -> int:
        await face.set_event("key", 1)
        return 1

    owner.run(f"revoke insert on tidings.events from {USER}")
    await face.start(publish, workflow_id="w")
    await log.until(lambda seen: any("only what needs this right waits" in line for line in seen))
    await app.relaunch(system_database_url=postgres_url)  # as the owner, who has it
    assert await face.get_result("w") == 1
    assert await face.get_event("w", "key", 0) == 1
    await app.close()
