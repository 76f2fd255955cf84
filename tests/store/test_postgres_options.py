"""The settings that go with the start of a connection: what a server makes of them, and that a pooler can read them."""

import re

import psycopg
import pytest

from harness.postgres import with_options
from tidings.store.postgres import options
from tidings.store.postgres.connect import Database
from tidings.store.postgres.settings import PINNED, PREFERRED, wanted

pytestmark = pytest.mark.direct("looks at settings of its session, which a pooler ignores")

# All that every version of PgBouncer since 1.20 takes: it has a limit of 400 bytes for each, and no space at the end.
TAKEN_BY_PGBOUNCER = re.compile(r"(?:(?: |^)-c [a-z_.]+=(?:\\.|[^\s\\])*)*", re.ASCII | re.IGNORECASE)


def sent(url: str, *, for_migration: bool = False) -> str:
    """What a connection to this database is started with."""
    with Database(url, "tidings").open(for_migration=for_migration) as connection:
        return connection.info.get_parameters()["options"]


@pytest.mark.parametrize("for_migration", [False, True])
@pytest.mark.parametrize("given", ["", " ", "-c geqo=off", "  --geqo=off\t-csearch_path=a,\\ b  "])
def test_a_pooler_can_read_what_a_connection_is_started_with(
    postgres_url: str, given: str, for_migration: bool
) -> None:
    assert TAKEN_BY_PGBOUNCER.fullmatch(sent(with_options(postgres_url, given), for_migration=for_migration))


@pytest.mark.parametrize(
    "given",
    [
        r"-c application_name=here -c search_path=a,\ \"b\\c\" -c work_mem=3MB -c x.y=a,\ \"b\\c\"",
        r"--application-name=here --search_path=a,\ \"b\\c\" --work-mem=3MB --x.y=a,\ \"b\\c\"",
        '  -capplication_name=here\t-c\n search_path=a   -cWork_Mem=3MB -c x.y=a,\\ \\"b\\\\c\\" ',
        r"-c application\_name\=here -c x.y=a,\ \"\b\\c\" -c work_mem=1MB -c work_mem=3MB",
    ],
)
def test_a_server_makes_the_same_of_what_a_user_gives(postgres_url: str, given: str) -> None:
    """However it is written. It takes precedence over what is only preferred, and not over what is pinned."""
    with psycopg.connect(with_options(postgres_url, given)) as connection:
        expected = shown(connection)
    assert expected == ("here", 'a, "b\\c"', "3MB")
    with Database(with_options(postgres_url, given), "tidings").open() as connection:
        assert shown(connection) == ("tidings", *expected[1:])  # Its name goes beside the options.
        assert connection.execute("show plan_cache_mode").fetchone() == ("force_generic_plan",)
        assert connection.execute("show search_path").fetchone() == ("pg_catalog, pg_temp",)


def shown(connection: psycopg.Connection) -> tuple[str, ...]:
    names = ("application_name", "x.y", "work_mem")
    [row] = connection.execute("select " + ", ".join(f"current_setting('{name}')" for name in names)).fetchall()
    return tuple(row)


@pytest.mark.parametrize("given", ["-c geqo", "-c", "--geqo", "-d", "geqo=off", "-d 5 geqo"])
def test_what_is_no_setting_is_left_for_the_server_to_judge(given: str) -> None:
    settings, others = options.read(f"{given} ")
    assert settings == {}
    assert options.write({"jit": "off"}, others) == f"-c jit=off {given}"


def test_a_setting_that_is_chosen_twice_is_written_once() -> None:
    settings = wanted("--JIT=on -c jit=off -c x.y= -c geqo=on").settings
    assert list(settings) == [*PINNED, *PREFERRED, "x.y", "geqo"]
    assert settings["jit"] == "off"


@pytest.mark.parametrize(
    ("given", "overruled"),
    [
        ("-c synchronous_commit=off", ["synchronous_commit"]),
        ("--Search-Path=a --timezone=UTC", ["search_path"]),
        ("-c TIMEZONE=Asia/Tokyo -c transaction_timeout=5", ["TimeZone", "transaction_timeout"]),
        (
            "-c session_replication_role=replica -c lock_timeout=1",
            ["session_replication_role", "lock_timeout"],
        ),
        ("-c synchronous_commit=remote_apply -c statement_timeout=60s -c work_mem=1MB -c role=x", []),
    ],
)
def test_what_is_pinned_is_not_open_to_choice(given: str, overruled: list[str]) -> None:
    found = wanted(given)
    assert found.overruled == overruled
    assert found.pinned() == PINNED | ({"synchronous_commit": "remote_apply"} if not overruled else {})
