"""What sessions with PostgreSQL are set to, whoever says something else: environment, service, role, database, URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from harness.postgres import new_database, with_options
from tests.support.hostile import BENIGN, HOSTILE, UNTRIED, alter, hostile
from tests.support.pooler import Pooler
from tidings.error import DBOSInitializationError
from tidings.model import WorkflowFilter
from tidings.store.postgres import options, patience, sessions
from tidings.store.postgres.connect import Database
from tidings.store.postgres.sessions import Session
from tidings.store.postgres.settings import NEWER, PINNED, PREFERRED, RESERVED
from tidings.store.postgres.statements import Statement, StatementCall
from tidings.store.postgres.store import PostgresStore
from tidings.store.postgres.wire import Lost
from tidings.store.protocol import Unavailable

pytestmark = pytest.mark.direct("looks at settings of its session, and stands before the server itself")


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """A database of its own, for what is set for one stays set."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def of_database(database: str) -> Iterator[str]:
    """The database, hostile itself."""
    name = database.rpartition("/")[2]
    settings = hostile(database)
    with psycopg.connect(database, autocommit=True, options=BENIGN) as admin:
        alter(database, "database", name, settings)
        yield database
        admin.execute(sql.SQL("alter database {} reset all").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def of_role(database: str) -> Iterator[str]:
    """The database for a role whose sessions begin with hostile settings. It is a superuser, as it may set all."""
    role = database.rpartition("/")[2] + "_hostile"
    with psycopg.connect(database, autocommit=True, options=BENIGN) as admin:
        admin.execute(sql.SQL("create role {} login superuser").format(sql.Identifier(role)))
        alter(database, "role", role, hostile(database))
        yield database.partition("@")[0].partition("//")[0] + f"//{role}@" + database.rpartition("@")[2]
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def shown(connection: psycopg.Connection[Any], names: Mapping[str, str]) -> dict[str, str]:
    """What these are, of those that the server knows."""
    asked = ", ".join(f"current_setting('{name}', true)" for name in names)
    [row] = connection.execute(f"select {asked}".encode()).fetchall()
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


def assert_set(url: str) -> None:
    """Look at a session of each kind."""
    with psycopg.connect(url, options=BENIGN) as connection:
        newer = {name: NEWER[name] for name in shown(connection, NEWER)}
    for for_migration in (False, True):
        with Database(url, "tidings").open(for_migration=for_migration) as session:
            assert not session.pins
            expected = PINNED | newer | RESERVED
            if for_migration:
                expected |= {"statement_timeout": "0", "lock_timeout": "2min"}
            assert shown(session, expected) == expected
            assert session.info.encoding == "utf-8"
            assert shown(session, PREFERRED).keys() == PREFERRED.keys()


def test_every_pinned_setting_is_tried() -> None:
    assert HOSTILE.keys() | UNTRIED == PINNED.keys() | RESERVED.keys()


def test_settings_of_a_database_make_no_difference(of_database: str) -> None:
    assert_set(of_database)


def test_settings_of_a_role_make_no_difference(of_role: str) -> None:
    assert_set(of_role)


def test_a_time_limit_for_transactions_that_ends_the_first_one_makes_no_difference(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: 1 ms is too short for the statement that would set it. Servers before 17 know no such."""
    settle = sessions.settle

    def slowly(session: Session, wanted: Any) -> bool:
        session.execute("select pg_catalog.pg_sleep(0.05)")
        return settle(session, wanted)

    monkeypatch.setattr(sessions, "settle", slowly)
    with new_database(postgres_server) as url:
        with psycopg.connect(url, autocommit=True, options=BENIGN) as admin:
            if shown(admin, NEWER):
                alter(url, "database", url.rpartition("/")[2], {"transaction_timeout": "1ms"})
        for for_migration in (False, True):
            with Database(url, "tidings").open(for_migration=for_migration) as session:
                assert shown(session, PINNED | NEWER).get("transaction_timeout", "0") == "0"


def test_settings_in_the_url_make_no_difference(database: str, caplog: pytest.LogCaptureFixture) -> None:
    url = with_options(database, options.write(HOSTILE))
    with caplog.at_level("INFO", "tidings"):
        assert_set(f"{url}&client_encoding=latin1")
    [said] = [each for each in caplog.messages if "tidings sets that itself" in each]
    assert "search_path, " in said


ENVIRONMENTS = {
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c statement_timeout=1 -c client_encoding=LATIN1 -c search_path=evil -c jit=on",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
    "PGTARGETSESSIONATTRS": "standby",
    "PGAPPNAME": "another",
    "PGCONNECT_TIMEOUT": "1000",
}


@pytest.mark.parametrize("variable", ENVIRONMENTS)
def test_the_environment_makes_no_difference(database: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, ENVIRONMENTS[variable])
    session = Database(database, "tidings").open()
    with session:
        assert shown(session, PINNED) == PINNED
        assert shown(session, {"jit": "off"}) == {"jit": "off"}
        assert session.info.get_parameters()["application_name"] == "tidings"


def test_all_of_the_environment_makes_no_difference(of_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENTS.items():
        if name != "PGTARGETSESSIONATTRS":
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGOPTIONS")  # The test's own sessions must begin.
    assert_set(of_database)


@pytest.mark.parametrize("how", ["environment", "URL"])
def test_a_service_makes_no_difference(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It says where the database is, and nothing else counts."""
    with psycopg.connect(database) as connection:
        info = connection.info
        lines = [f"host={info.host}", f"port={info.port}", f"user={info.user}", f"dbname={info.dbname}"]
    lines += [
        "client_encoding=LATIN1",
        "options=-c search_path=evil -c statement_timeout=1",
        "target_session_attrs=standby",
    ]
    (tmp_path / "services").write_text("\n".join(["[ours]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    if how == "environment":
        monkeypatch.setenv("PGSERVICE", "ours")
    found = Database("postgresql://" if how == "environment" else "postgresql://?service=ours", "tidings")
    with found.open() as session:
        assert session.info.dbname == database.rpartition("/")[2]
        assert shown(session, PINNED) == PINNED


def test_a_role_that_may_not_change_what_is_reserved_is_told_what_to_look_at(database: str) -> None:
    role = database.rpartition("/")[2] + "_replica"
    with psycopg.connect(database, autocommit=True, options=BENIGN) as admin:
        admin.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
        try:
            alter(database, "role", role, {"session_replication_role": "replica"})
            store = PostgresStore("postgresql://" + f"{role}@" + database.rpartition("@")[2], "tidings")
            for start in (store.migrate, store.connect):
                with pytest.raises(
                    DBOSInitializationError,
                    match=r"session_replication_role is 'replica'.*set: by `alter role",
                ):
                    start()
        finally:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_connection_is_asked_one_question(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be far away: what is set goes with the start of the connection."""
    asked: list[object] = []
    execute = Session.execute

    def execute_and_count(session: Session, query: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(query)
        return execute(session, query, *arguments, **options)

    monkeypatch.setattr(Session, "execute", execute_and_count)
    for for_migration in (False, True):
        asked.clear()
        with Database(postgres_url, "tidings").open(for_migration=for_migration):
            assert len(asked) == 1


# --- behind a pooler -------------------------------------------------------------------------------------------------


REFUSALS = {
    "PgBouncer before 1.20": "unsupported startup parameter: options",
    "PgBouncer": "unsupported startup parameter in options: synchronous_commit",
    "RDS Proxy": "Feature not supported: RDS Proxy currently doesn't support command-line options.",
}


@pytest.mark.parametrize("refusal", ["", *REFUSALS.values()], ids=["ignored", *REFUSALS])
def test_behind_a_pooler_each_transaction_is_set(of_database: str, refusal: str) -> None:
    with Pooler(of_database) as pooler:
        pooler.refuses = refusal
        database = Database(with_options(pooler.url(of_database), "-c x.mine=here -c work_mem=3MB"), "tidings")
        for _ in range(3):
            with database.open() as session:
                assert session.pins
                kept = {name: value for name, value in PINNED.items() if name in session.pins}
                assert PINNED.keys() - kept.keys() == {
                    "default_transaction_isolation",
                    "default_transaction_read_only",
                    "default_transaction_deferrable",
                    "idle_session_timeout",
                }
                session.begin()
                expected = kept | RESERVED | {"x.mine": "here", "work_mem": "3MB", "jit": "off"}
                assert shown(session, expected) == expected
                session.execute("commit")
                assert shown(session, {"search_path": ""}) == {"search_path": "evil, public"}  # As it was.
        assert pooler.refused == bool(refusal)  # From then on it is not asked.


def test_a_pooled_session_that_happens_to_be_right_is_set_all_the_same(postgres_server: str) -> None:
    """Others use it too, and may change it in between."""
    with new_database(postgres_server) as database:
        alter(database, "database", database.rpartition("/")[2], PINNED)
        with Pooler(database, sessions=1) as pooler:
            session = Database(pooler.url(database), "tidings").open()
            assert session.pins
            with psycopg.connect(pooler.url(database), autocommit=True) as other:
                other.execute("set search_path = evil")
            session.begin()
            assert shown(session, {"search_path": ""}) == {"search_path": PINNED["search_path"]}
            session.close()


def test_what_a_pooler_cannot_set_is_said(database: str) -> None:
    with Pooler(database) as pooler:
        url = with_options(pooler.url(database), "-c role=nobody_of_that_name")
        with pytest.raises(DBOSInitializationError, match=r'cannot have.*role "nobody_of_that_name" does not exist'):
            PostgresStore(url, "tidings").migrate()


@pytest.fixture
def deferring_url(postgres_server: str) -> Iterator[str]:
    """A pooler before a database whose transactions wait, unless told otherwise, until no other one writes."""
    with new_database(postgres_server) as url:
        deferring = {name: HOSTILE[name] for name in HOSTILE if name.startswith("default_transaction_")}
        alter(url, "database", url.rpartition("/")[2], deferring)
        with Pooler(url) as pooler:
            yield pooler.url(url)


def test_what_only_reads_behind_a_pooler_waits_for_nobody(deferring_url: str) -> None:
    store = PostgresStore(deferring_url, "reading")
    store.migrate()
    with closing(store), psycopg.connect(deferring_url) as other:
        store.connect()
        other.execute("rollback; begin isolation level serializable read write")
        other.execute("create table reading.written (number bigint)")
        assert store.list_workflows(WorkflowFilter()) == []
        assert store.now_ms()


def test_a_session_that_ends_with_an_error_is_not_asked_for_prepared_statements_again(
    of_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors end sessions here, so that of a statement that another session has prepared does, too."""
    with Pooler(of_database) as pooler:
        store = PostgresStore(pooler.url(of_database), "ending")
        store.migrate()
        with closing(store):
            store.connect()
            said: list[str] = []
            for _ in range(200):  # Sooner or later one gets a session that another one has used.
                with suppress(Unavailable):
                    store.reconnect()
                    store.now_ms()
                    store.list_workflows(WorkflowFilter())
                said = [each for each in caplog.messages if "mixes prepared statements up" in each]
                if said:
                    break
            assert len(said) == 1
            store.reconnect()
            store.reconnect_reader()
            for _ in range(5):
                assert store.now_ms()
                assert store.list_workflows(WorkflowFilter()) == []


def test_the_encoding_of_a_poolers_session_does_not_matter(of_database: str) -> None:
    with Pooler(of_database) as pooler:
        store = PostgresStore(pooler.url(of_database), "tïdings")
        store.migrate()
        store.connect()
        assert store.list_workflows.__name__
        store.close()


# --- what the environment, or the URL, has wrong --------------------------------------------------------------------


INVALID = {
    "PGTZ": "Nowhere/Town",
    "PGDATESTYLE": "backwards",
    "PGGEQO": "perhaps",
    "PGSSLMODE": "perhaps",
    "PGGSSENCMODE": "perhaps",
    "PGREQUIREAUTH": "perhaps",
    "PGSERVICE": "nobodys",
    "PGSERVICEFILE": "/nowhere/services",
}


@pytest.mark.parametrize("variable", INVALID)
def test_a_variable_that_is_invalid_is_named(postgres_url: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    store = PostgresStore(postgres_url, "tidings")
    if variable == "PGSERVICEFILE":
        monkeypatch.setenv("PGSERVICE", "ours")
    monkeypatch.setenv(variable, INVALID[variable])
    for start in (store.migrate, store.connect):
        with pytest.raises(
            DBOSInitializationError, match=f"{variable} in the environment says so: correct it"
        ) as raised:
            start()
        assert "into the URL" not in str(raised.value)


def test_a_port_of_the_environment_that_is_none_is_named(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "here")
    before, _, after = postgres_url.rpartition(":")
    store = PostgresStore(f"{before}/{after.partition('/')[2]}", "tidings")
    with pytest.raises(DBOSInitializationError, match="PGPORT in the environment says so"):
        store.connect()


def test_a_user_of_the_environment_is_not_looked_for_in_the_url(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGUSER", "nobody_here")
    store = PostgresStore(f"postgresql://{postgres_url.partition('@')[2]}", "tidings")
    with pytest.raises(
        DBOSInitializationError, match=r'role "<PGUSER>" does not exist\. PGUSER in the environment says so'
    ):
        store.connect()
    monkeypatch.setenv("PGPASSWORD", "h1dden")
    with pytest.raises(
        DBOSInitializationError,
        match=r'role "nobody_here" does not exist\. .* user into the environment\'s PGUSER',
    ):
        store.connect()


def test_an_address_in_the_environment_does_not_lead_away_from_the_url(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")  # a network for examples
    with Database(database, "tidings").open() as session:
        assert session.info.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-c%20work_mem%3Dmuch", r'invalid value for parameter "work_mem": "much"\. Correct the setting in the URL\'s'),
        ("-c%20wrk_mem%3D1MB", r'unrecognized configuration parameter "wrk_mem"\. Correct the setting in the URL\'s'),
        ("-c%20statement_timeout%3Dlong", 'invalid value for parameter "statement_timeout": "long"'),
        ("work_mem%3D1MB", r"server process: <options>.*\. Correct the \'options\' in the URL, as in \?options=-c"),
    ],
)
def test_options_that_a_server_refuses_are_hinted_at(postgres_url: str, options: str, said: str) -> None:
    with pytest.raises(DBOSInitializationError, match=said):
        PostgresStore(f"{postgres_url}?options={options}", "tidings").connect()


@pytest.mark.parametrize(
    ("asked", "set_to", "longer_by_seconds"),
    [
        ("5", "30s", 0),
        ("29999ms", "30s", 0),
        ("0.2min", "30s", 0),
        ("120s", "2min", 90),
        ("2min", "2min", 90),
        ("0", "0", float("inf")),
    ],
)
def test_a_statement_may_be_given_more_time_and_not_less(
    postgres_url: str, caplog: pytest.LogCaptureFixture, asked: str, set_to: str, longer_by_seconds: float
) -> None:
    with caplog.at_level("INFO", "tidings"):
        database = Database(f"{postgres_url}?options=-c%20statement_timeout%3D{asked}", "tidings")
    with database.open() as session:
        assert shown(session, {"statement_timeout": ""}) == {"statement_timeout": set_to}
    assert database._wanted.longer_by_seconds == longer_by_seconds
    said = [each for each in caplog.messages if "options set statement_timeout. tidings sets that itself" in each]
    assert len(said) == (not longer_by_seconds)


@pytest.mark.parametrize("limit", ["0", "120s"])
def test_an_answer_is_awaited_as_long_as_its_statement_may_take(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(patience, "ANSWER_TIMEOUT_SECONDS", 0.2)
    for url, is_lost in ((postgres_url, True), (f"{postgres_url}?options=-c%20statement_timeout%3D{limit}", False)):
        database = Database(url, "public")
        database.statements = {
            **database.statements,
            "slow": Statement(name="slow", key=b"slow", sql=b"select pg_sleep(0.5)", parameters=()),
        }
        wire = database.wire(prepared=False)
        given_up: Any = pytest.raises(Lost, match="gave no answer for 0 s") if is_lost else nullcontext()
        with given_up:
            wire.run([StatementCall("slow")])
        wire.close()
