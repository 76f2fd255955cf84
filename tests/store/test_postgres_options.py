"""The settings that go with the start of a connection: what a server makes of them, and that a pooler can read them."""

import re

import psycopg
import pytest

from tidings.store.postgres.connect import Database
from tidings.store.postgres.options import options

pytestmark = pytest.mark.direct("looks at settings of its session, which a pooler ignores")

# All that every version of PgBouncer since 1.20 takes: it has a limit of 400 bytes for each, and no space at the end.
TAKEN_BY_PGBOUNCER = re.compile(r"(?:(?: |^)-c [a-z_.]+=(?:\\.|[^\s\\])*)*", re.ASCII | re.IGNORECASE)


def sent(url: str, *, for_migration: bool = False) -> str:
    """What a connection to this database is started with."""
    with Database(url, "tidings").open(for_migration=for_migration) as connection:
        return connection.info.get_parameters()["options"]


def url_with(postgres_url: str, given: str) -> str:
    return psycopg.conninfo.make_conninfo(postgres_url, options=given)


@pytest.mark.parametrize("for_migration", [False, True])
@pytest.mark.parametrize("given", ["", " ", "-c geqo=off", "  --geqo=off\t-csearch_path=a,\\ b  "])
def test_a_pooler_can_read_what_a_connection_is_started_with(
    postgres_url: str, given: str, for_migration: bool
) -> None:
    assert TAKEN_BY_PGBOUNCER.fullmatch(sent(url_with(postgres_url, given), for_migration=for_migration))


def test_what_we_ask_of_a_session_is_so(postgres_url: str) -> None:
    with Database(postgres_url, "tidings").open() as connection:
        assert connection.execute("show default_transaction_isolation").fetchone() == ("read committed",)
        assert connection.execute("show plan_cache_mode").fetchone() == ("force_generic_plan",)
        assert connection.execute("show statement_timeout").fetchone() == ("30s",)


@pytest.mark.parametrize(
    "given",
    [
        r"-c application_name=here -c search_path=a,\ \"b\\c\" -c work_mem=3MB",
        r"--application-name=here --search_path=a,\ \"b\\c\" --work-mem=3MB",
        '  -capplication_name=here\t-c\n search_path=a,\\ \\"b\\\\c\\"   -cWork_Mem=3MB ',
        r"-c application\_name\=here -c search_path=a,\ \"\b\\c\" -c work_mem=1MB -c work_mem=3MB",
    ],
)
def test_a_server_makes_the_same_of_what_a_user_gives(postgres_url: str, given: str) -> None:
    """However it is written; and it takes precedence over what we ask."""
    with psycopg.connect(url_with(postgres_url, given)) as connection:
        expected = shown(connection)
    assert expected == ("here", 'a, "b\\c"', "3MB")
    with Database(url_with(postgres_url, given), "tidings").open() as connection:
        assert shown(connection) == ("tidings", *expected[1:])  # Its name goes beside the options.
        assert connection.execute("show plan_cache_mode").fetchone() == ("force_generic_plan",)


def shown(connection: psycopg.Connection) -> tuple[str, ...]:
    names = ("application_name", "search_path", "work_mem")
    [row] = connection.execute("select " + ", ".join(f"current_setting('{name}')" for name in names)).fetchall()
    return tuple(row)


@pytest.mark.parametrize("given", ["-c geqo", "-c", "--geqo", "-d", "geqo=off", "-d 5 geqo"])
def test_what_is_no_setting_is_left_for_the_server_to_judge(given: str) -> None:
    assert options({"jit": "off"}, f"{given} ") == f"-c jit=off {given}"


def test_a_setting_that_is_chosen_twice_is_written_once() -> None:
    assert options({"jit": "off", "work_mem": "1MB"}, "--JIT=on -c jit=off -c x.y=") == (
        "-c jit=off -c work_mem=1MB -c x.y="
    )
