"""A right that is missing: the launch names the statement that gives it."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.support.app import App
from tests.support.face import Face
from tests.support.rows import Rows
from tests.support.users import USER, as_user
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


async def migrate(url: str, face: Face) -> None:
    """Make the tables, as their owner."""
    app = App(url)
    await app.launch()
    await app.close()


@pytest.mark.parametrize("migrates", [True, False], ids=["migrates", "does not migrate"])
async def test_a_launch_names_each_right_that_is_missing(postgres_url: str, face: Face, migrates: bool) -> None:
    await migrate(postgres_url, face)
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


async def test_all_that_are_missing_are_named_at_once(postgres_url: str, face: Face) -> None:
    await migrate(postgres_url, face)
    url = as_user(postgres_url)
    owner, app = Rows(postgres_url), App(url)
    owner.run(f"revoke insert, update on tidings.messages from {USER}")
    with pytest.raises(DBOSInitializationError) as caught:
        await app.launch()
    for statement in str(caught.value).partition("run: ")[2].split("; "):
        owner.run(statement)
    await app.launch()
    await app.close()


async def test_rights_on_columns_and_of_a_group_are_enough(postgres_url: str, face: Face) -> None:
    await migrate(postgres_url, face)
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
