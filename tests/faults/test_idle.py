"""Sessions that somebody ends because they are idle: work goes on, and the log says once what is the matter."""

from __future__ import annotations

import select
from collections.abc import Sequence
from contextlib import suppress

import psycopg
import pytest

from tests.faults.load import Load
from tests.store.driver import Process, sending
from tests.store.driver import message as letter
from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop
from tests.support.pooler import Pooler
from tests.support.rows import Rows
from tidings.model import APPLIED
from tidings.store.postgres.statements import StatementCall
from tidings.store.postgres.store import PostgresStore
from tidings.store.postgres.wire import Lost, ServerError, Wire
from tidings.store.protocol import Listener, Severed, Unavailable
from tidings.store.rows import Row

pytestmark = pytest.mark.direct("stands before the server itself")


def said(seen: list[str]) -> list[str]:
    return [each for each in seen if "sessions that have been idle for a while are ended" in each]


@pytest.fixture(autouse=True)
def _said_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process say anew what it says once."""
    monkeypatch.setattr("tidings.store.postgres.connect._told", set())


def hear_to_the_end(listener: Listener) -> None:
    while True:
        listener.hear(60, lambda: True)


async def test_sessions_that_are_ended_again_and_again_are_spoken_of_once(
    postgres_url: str, face: Face, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listens, listen = Sightings(), PostgresStore.listen

    def listen_again(store: PostgresStore, executor_id: str) -> Listener:
        listener = listen(store, executor_id)
        listens.note(executor_id)
        return listener

    monkeypatch.setattr(PostgresStore, "listen", listen_again)
    with Pooler(postgres_url) as pooler:
        pooler.lends_for_good = True
        app = App(pooler.url(postgres_url))
        await app.launch()
        app.rows = Rows(postgres_url)
        load = Load(face, workflows=4)

        async def be_idle() -> None:
            before = len(listens.seen)
            await face.get_event("w0", "no such key", 0)  # Reader and writer are connected.
            await face.send("w0", None, "nobody reads it")
            await off_loop(pooler.end_idle_clients)
            await listens.until(lambda seen: len(seen) > before)

        await load.run(be_idle)
        app.rows.run("delete from {messages} where topic = 'nobody reads it'")
        await load.check(app.rows)
        await app.close()
    [line] = said(log.seen)
    assert line.startswith("WARNING PostgreSQL database")
    assert "client_idle_timeout (SQLSTATE 08P01)" in line
    assert [each for each in log.seen if "; trying again, nothing is lost" in each or "are not heard" in each] == []


def test_a_server_that_ends_idle_sessions_is_spoken_of_once(
    postgres_url: str, log: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but a pooler keeps tidings from setting this; so it is set so here, for each session."""
    store = PostgresStore(postgres_url, "tidings")
    store.connect()
    process = Process(store)
    process.start("w")
    rows = Rows(postgres_url)
    for number in range(3):
        assert store._writer.wire is not None
        assert store._reader.wire is not None
        ended = [store._writer.wire.backend_pid, store._reader.wire.backend_pid]
        for wire in (store._writer.wire, store._reader.wire):
            wire._connection.adjust({"idle_session_timeout": "1ms"})
        while rows.run("select count(*) from pg_stat_activity where pid = any(?)", ended) != [(0,)]:
            pass
        assert process.commit(sending(letter("w", f"{number}"))) == [APPLIED]
        assert store.now_ms()
    assert process.drain("w") == ["0", "1", "2"]
    store.close()
    [line] = said(log.seen)
    assert "terminating connection due to idle-session timeout (SQLSTATE 57P05)" in line
    assert "alter role ... set idle_session_timeout = 0" in line


def test_an_end_that_comes_with_the_answer_before_it_is_understood_too(postgres_url: str) -> None:
    """Libpq reads it then before anything else is asked, and calls it a notice."""
    with Pooler(postgres_url) as pooler:
        store = PostgresStore(pooler.url(postgres_url), "tidings")
        store.connect()
        for is_read_to_its_end in (False, True):
            reader = store._reader.wire
            assert reader is not None
            pooler.end_idle_clients()
            with suppress(psycopg.OperationalError):
                while select.select([reader._pq.socket], [], [], 60)[0]:
                    reader._pq.consume_input()
                    if reader._pq.notifies() is None and reader._farewell and not is_read_to_its_end:
                        break
            assert store.now_ms()
            assert store._reader.wire is not reader
        store.close()


def test_each_connection_goes_on_after_a_pooler_ended_it_because_it_was_idle(postgres_url: str, log: Sightings) -> None:
    with Pooler(postgres_url) as pooler:
        store = PostgresStore(pooler.url(postgres_url), "tidings")
        store.connect()
        process = Process(store)
        process.start("w")
        for number in range(3):
            listener = store.listen("me")
            pooler.end_idle_clients()
            with pytest.raises(Severed, match="client_idle_timeout"):
                hear_to_the_end(listener)
            assert store.now_ms()
            assert process.commit(sending(letter("w", f"{number}"))) == [APPLIED]
            listener.close()
        assert process.drain("w") == ["0", "1", "2"]
        store.close()
    [line] = said(log.seen)
    assert "Set client_idle_timeout = 0 in PgBouncer's configuration" in line


@pytest.mark.parametrize("applies", [True, False])
def test_a_batch_that_a_pooler_sent_on_after_it_had_ended_the_session_is_written_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, applies: bool
) -> None:
    """It lands, and the only answer is that the session was ended before, because it was idle."""
    store = PostgresStore(postgres_url, "tidings")
    store.connect()
    process = Process(store)
    process.start("w")
    run, ends = Wire.run, [True]

    def run_and_end_the_session(wire: Wire, calls: Sequence[StatementCall]) -> dict[str, list[Row]]:
        answers = run(wire, calls)
        if ends and StatementCall("commit") in calls and wire is store._writer.wire:
            ends.clear()
            wire.close()
            raise Lost("client_idle_timeout", ServerError("08P01", "client_idle_timeout", is_fatal=True))
        return answers

    monkeypatch.setattr(Wire, "run", run_and_end_the_session)
    units = [sending(letter("w", "once")), *([] if applies else [sending(letter("nobody", "x"))])]
    batch = process.batch(*units)
    try:
        answers = store.commit(batch)
    except Severed:  # In the middle of a transaction: whoever wants it written asks again.
        store.reconnect()
        answers = store.commit(batch)
    assert answers[0] == APPLIED
    assert ends == []
    assert process.drain("w") == ["once"]
    store.close()


def test_a_transaction_that_was_open_is_not_gone_on_with_in_another_session(postgres_url: str) -> None:
    with Pooler(postgres_url) as pooler:
        pooler.lends_for_good = True
        store = PostgresStore(pooler.url(postgres_url), "tidings")
        store.connect()
        store._writer.write(StatementCall("begin"))
        pooler.end_idle_clients()
        with pytest.raises(Severed, match="client_idle_timeout"):
            store._writer.write(StatementCall("commit"))
        store.close()


def test_a_session_that_a_pooler_lends_for_good_is_not_ended_because_it_is_idle(postgres_url: str) -> None:
    """Its options were dropped, so it is SET; in it, not in a transaction."""
    with Pooler(postgres_url, sessions=1) as pooler:
        with psycopg.connect(pooler.url(postgres_url), autocommit=True) as former:
            former.execute("set idle_session_timeout = '1h'")
        with PostgresStore(pooler.url(postgres_url), "tidings")._database.open() as session:
            assert session.pins
            assert session.execute("show idle_session_timeout").fetchone() == ("0",)


def test_what_else_ends_a_session_is_an_outage_that_says_why(postgres_url: str, log: Sightings) -> None:
    """As the server says it, where it does: not that a connection was closed unexpectedly."""
    store = PostgresStore(postgres_url, "tidings")
    store.connect()
    listener = store.listen("me")
    Rows(postgres_url).run(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database() and "
        "backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    reason = r"terminating connection due to administrator command \(SQLSTATE 57P01\)"
    with pytest.raises(Unavailable, match=reason) as asked:
        store.now_ms()
    with pytest.raises(Unavailable, match=reason) as heard:
        hear_to_the_end(listener)
    assert not isinstance(asked.value, Severed)
    assert not isinstance(heard.value, Severed)
    listener.close()
    store.close()
    assert said(log.seen) == []
