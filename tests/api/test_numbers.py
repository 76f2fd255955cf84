"""Numbers that make order: taken ahead of the sequences, or at their end. Messages stay in order, and nobody fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop
from tests.support.rows import Rows
from tests.support.users import as_user
from tidings import DBOSClient

FAR = 2**63 - 1

# How the numbers of messages come to be wrong on PostgreSQL, while nobody looks.
SEQUENCES_BEHIND = {
    "begun anew": "alter sequence {messages_seq} restart with 1",
    "set back": "select setval('{messages_seq}', 2)",
    "never used": "select setval('{messages_seq}', 1, false)",
    "a row far ahead": "insert into {messages} (seq, destination_id, topic, body, sent_at_ms) "
    "values (5000000000, 'nobody', 't', '0', 0)",
    "a row at the end": f"insert into {{messages}} (seq, destination_id, topic, body, sent_at_ms) "
    f"values ({FAR}, 'nobody', 't', '0', 0)",
    "at its end": f"select setval('{{messages_seq}}', {FAR})",
    "ends soon": "alter sequence {messages_seq} restart with 1 maxvalue 3",
    "counts down": "alter sequence {messages_seq} increment by -1 minvalue -9 restart with 12",
    "in a circle": "alter sequence {messages_seq} maxvalue 14 cycle",
    "in portions": "alter sequence {messages_seq} cache 50",
}


class Mailboxes:
    """One workflow that collects, and one that sends."""

    def __init__(self, app: App, face: Face) -> None:
        @face.workflow(name="collect")
        async def collect(many: int) -> Any:
            await face.recv("begin", 3_600)
            return [await face.recv("t", 3_600) for _ in range(many)]

        @face.workflow(name="relay")
        async def relay(to: str, first: int) -> None:
            for number in range(first, first + 3):
                await face.send(to, number, "t")

        self._face, self.collect, self.relay = face, collect, relay

    async def send(self, first: int) -> None:
        """Send three from outside, and three from a workflow."""
        for number in range(first, first + 3):
            await self._face.send("collect", number, "t")
        await (await self._face.start(self.relay, "collect", first + 3)).get_result()

    async def collected(self) -> Any:
        await self._face.send("collect", None, "begin")
        return await self._face.get_result("collect")


@pytest.mark.parametrize("fault", SEQUENCES_BEHIND.values(), ids=SEQUENCES_BEHIND)
async def test_sequences_that_are_behind_are_put_ahead_at_launch(
    postgres_url: str, face: Face, log: Sightings, fault: str
) -> None:
    app = App(postgres_url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 12, workflow_id="collect")
        await boxes.send(0)
        await app.relaunch()
        app.rows.run(fault)
        await app.relaunch()
        assert any("sequence messages_seq" in line for line in log.seen)
        await boxes.send(6)
        assert await boxes.collected() == list(range(12))
    finally:
        await app.close()


# Of these, what shows while a process runs: a number that is taken, or none.
SHOWN = ["begun anew", "set back", "never used", "at its end", "ends soon"]


@pytest.mark.parametrize("fault", SHOWN)
async def test_a_sequence_that_gives_no_free_number_is_put_right_by_who_meets_it(
    postgres_url: str, face: Face, log: Sightings, fault: str
) -> None:
    app = App(postgres_url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 12, workflow_id="collect")
        await boxes.send(0)
        app.rows.run(SEQUENCES_BEHIND[fault])
        await boxes.send(6)
        assert await boxes.collected() == list(range(12))
        assert len([line for line in log.seen if "sequence messages_seq" in line]) == 1
        assert not [line for line in log.seen if "; trying again, nothing is lost" in line]
    finally:
        await app.close()


@pytest.mark.direct("ends sessions of the server")
async def test_sequences_are_looked_at_after_a_switch_to_another_server(
    postgres_url: str, face: Face, log: Sightings
) -> None:
    """Rows were carried there and sequences were not. There are gaps, so no number that is given is taken."""
    app = App(postgres_url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 6, workflow_id="collect")
        app.rows.run("select setval('{messages_seq}', 1000), setval('{workflows_seq}', 1000)")
        await boxes.send(0)
        app.rows.run("select setval('{messages_seq}', 1, false), setval('{workflows_seq}', 1, false)")
        app.rows.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and "
            "backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        await face.send("collect", "next", "t")
        await log.until(lambda seen: any("sequence messages_seq" in line for line in seen))
        await (await face.start(boxes.relay, "collect", 7, workflow_id="later")).get_result()
        [(first,), (last,)] = app.rows.run("select seq from {workflows} where name = 'relay' order by seq")
        assert 1000 < first < last
        assert app.rows.run("select count(*) from {messages} where seq <= 1000") == [(0,)]
        assert await boxes.collected() == [0, 1, 2, 3, 4, 5]
    finally:
        await app.close()


@pytest.mark.direct("as another user")
@pytest.mark.parametrize("fault", ["ends soon", "in portions", "a row at the end"])
async def test_who_may_not_set_a_sequence_says_what_its_owner_is_to_run(
    postgres_url: str, face: Face, log: Sightings, fault: str
) -> None:
    owner = Rows(postgres_url)
    app = App(as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}"))
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 3, workflow_id="collect")
        await face.send("collect", 0, "t")
        owner.run(SEQUENCES_BEHIND[fault])
        log.seen.clear()
        await app.relaunch()
        [said] = [line for line in log.seen if "this user may not set it" in line]
        statements = said.partition("or run: ")[2]
        if fault == "a row at the end":
            owner.run("delete from {messages} where destination_id = 'nobody'")
        for statement in statements.split("; "):
            owner.run(statement)
        log.seen.clear()
        await app.relaunch()
        assert not [line for line in log.seen if "sequence" in line]
        for number in (1, 2):
            await face.send("collect", number, "t")
        assert await boxes.collected() == [0, 1, 2]
    finally:
        await app.close()


async def test_a_client_puts_sequences_right_too(postgres_url: str, face: Face, log: Sightings) -> None:
    app = App(postgres_url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 6, workflow_id="collect")
        await boxes.send(0)
        await app.relaunch()
        await app.crash()
        app.rows.run(SEQUENCES_BEHIND["begun anew"])
        with DBOSClient(system_database_url=postgres_url) as client:
            assert any("sequence messages_seq" in line for line in log.seen)
            app.rows.run(SEQUENCES_BEHIND["set back"])
            await off_loop(client.send, "collect", "from a client", "other")
        await app.launch()
        assert await boxes.collected() == list(range(6))
    finally:
        await app.close()


@pytest.mark.parametrize("count", [2, 40, 3_000])
@pytest.mark.parametrize("may_set", [True, False], ids=["may set", "may only draw"])
@pytest.mark.direct("as another user")
async def test_numbers_that_are_taken_while_the_process_runs_fail_no_sender(
    postgres_url: str, face: Face, log: Sightings, monkeypatch: pytest.MonkeyPatch, count: int, may_set: bool
) -> None:
    monkeypatch.setattr("tidings.store.postgres.numbers._MOST_DRAWN", 1_000)  # at once: more takes several tries
    owner = Rows(postgres_url)
    url = postgres_url if may_set else as_user(postgres_url, "grant usage on all sequences in schema tidings to {user}")
    app = App(url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 6, workflow_id="collect")
        owner.run(
            "insert into {messages} (seq, destination_id, topic, body, sent_at_ms) "
            f"select last_value + n, 'nobody', 't', '0', 0 from generate_series(1, {count}) as n, {{messages_seq}}"
        )
        await boxes.send(0)
        assert await boxes.collected() == list(range(6))
        assert any("sequence messages_seq" in line for line in log.seen)
    finally:
        await app.close()


# What leaves an SQLite file without a number.
NUMBERS_AT_THEIR_END = {
    "a message": f"insert into {{messages}} (seq, destination_seq, topic, sent_at_ms, body) "
    f"select {FAR}, seq, 'other', 0, '0' from {{workflows}} where workflow_id = 'collect'",
    "two messages": f"insert into {{messages}} (seq, destination_seq, topic, sent_at_ms, body) "
    f"select {FAR} - n.value, seq, 'other', 0, '0' from {{workflows}}, json_each('[0,1]') as n "
    "where workflow_id = 'collect'",
    "a workflow": f"update {{workflows}} set seq = {FAR} where workflow_id = 'waits'",
    "a wake-up": f"insert into {{wakes}} (id, executor_id, at_ms, names) values ({FAR}, 'x', 0, 'y')",
    "the counter": f"update sqlite_sequence set seq = {FAR} where name in ('tidings_messages', 'tidings_workflows')",
}


@pytest.mark.parametrize("fault", NUMBERS_AT_THEIR_END.values(), ids=NUMBERS_AT_THEIR_END)
@pytest.mark.parametrize("is_running", [False, True], ids=["at launch", "while it runs"])
async def test_an_sqlite_file_never_runs_out_of_numbers(
    sqlite_url: str, face: Face, log: Sightings, fault: str, is_running: bool
) -> None:
    app = App(sqlite_url)
    await app.launch()
    try:
        boxes = Mailboxes(app, face)
        await face.start(boxes.collect, 12, workflow_id="collect")
        await face.start(boxes.collect, 0, workflow_id="waits")
        await boxes.send(0)
        if not is_running:
            await app.crash()
        app.rows.run(fault)
        if not is_running:
            await app.launch()
        await boxes.send(6)
        assert await boxes.collected() == list(range(12))
        await face.send("waits", None, "begin")
        assert await face.get_result("waits") == []
        assert any("renumbered" in line for line in log.seen) or "wakes" in fault
    finally:
        await app.close()
