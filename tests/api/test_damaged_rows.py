"""A damaged row harms its own workflow alone and is reported once; put right, its workflow goes on."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Face
from tidings import DBOS, UndecodedValue, WorkflowHandle, WorkflowHandleAsync
from tidings.error import (
    DBOSDamagedWorkflowError,
    DBOSException,
    DBOSSerializationError,
    DBOSUnexpectedStepError,
)

MAX = 2**63 - 1
KEYBOARD_INTERRUPT = '{"$tidings":"exception","cls":"builtins:KeyboardInterrupt","v":{"args":[]}}'


class Damage(Struct, frozen=True):
    """A column of a table is set to a value, in the rows of one workflow where `where` holds."""

    table: str
    column: str
    value: Any
    error: type[Exception] = DBOSDamagedWorkflowError
    where: str = "true"


DAMAGES = {
    "an unknown state": Damage("entries", "state", "PAUSED", where="position = 1"),
    "an ordinal out of range": Damage("entries", "ordinal", MAX, where="position = 1"),
    "a negative position": Damage("entries", "position", -5, where="position = 1"),
    "a result out of range": Damage("entries", "finished", MAX, where="position = 1"),
    "an output that is no JSON": Damage("entries", "output", "{", DBOSSerializationError, "position = 1"),
    "an error that is none": Damage("entries", "error", KEYBOARD_INTERRUPT, DBOSSerializationError, "position = 1"),
    "a message that is not there": Damage("entries", "message_seq", 999_999, where="message_seq is not null"),
    "another name": Damage("entries", "name", "other", DBOSUnexpectedStepError, "position = 1"),
    "a version out of range": Damage("events", "version", MAX),
    "an event with a negative ordinal": Damage("events", "ordinal", -1),
    "an offset out of range": Damage("stream_items", "item_offset", MAX),
    "a negative offset": Damage("stream_items", "item_offset", -1),
    "an unknown status": Damage("workflows", "status", "ENQUEUED"),
    "a status in lower case": Damage("workflows", "status", "pending"),
    "no status": Damage("workflows", "status", ""),
    "an epoch out of range": Damage("workflows", "epoch", MAX),
    "a negative epoch": Damage("workflows", "epoch", -7),
    "inputs that are no JSON": Damage("workflows", "inputs", "{", DBOSSerializationError),
    "inputs that are none": Damage("workflows", "inputs", "[]", DBOSUnexpectedStepError),
}


class Crowd:
    """Workflows that have used every kind of row, and wait; one of them is going to be damaged."""

    IDS = ("a", "damaged", "z")

    def __init__(self, app: App, face: Face) -> None:
        self._app = app
        self._face = face

        @face.step(name="note")
        async def note(workflow_id: str) -> str:
            return workflow_id

        @face.workflow(name="crowd")
        async def crowd(workflow_id: str) -> Any:
            await note(workflow_id)
            await face.set_event("key", workflow_id)
            await face.write_stream("stream", workflow_id)
            await face.recv("first", timeout_seconds=3_600)
            return await face.recv("go", timeout_seconds=3_600)

        self._workflow = crowd

    async def gather(self) -> None:
        """Start all, let them come to where they wait, and die."""
        for each in self.IDS:
            await self._face.start(self._workflow, each, workflow_id=each)
            await self._face.send(each, "first", "first")
            await self._app.waiting("message", each, "go")
        await self._app.crash()

    async def go_on(self, *ids: str) -> None:
        """See that these go on to their ends."""
        for each in ids:
            await self._face.send(each, f"{each} goes", "go")
            assert await self._face.get_result(each) == f"{each} goes"

    def own_rows(self, table: str, where: str = "true") -> str:
        """Return the condition for rows of a table that are the damaged workflow's."""
        if table == "workflows":
            return "workflow_id = 'damaged'"
        own = "workflow_id = 'damaged'"
        if self._app.rows.is_sqlite:
            own = "workflow_seq = (select seq from {workflows} where workflow_id = 'damaged')"
        return f"{own} and {where}"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_row_stops_its_own_workflow_until_it_is_put_right(
    app: App, face: Face, log: Sightings, damage: Damage
) -> None:
    crowd = Crowd(app, face)
    await crowd.gather()
    own = crowd.own_rows(damage.table, damage.where)
    [(sound,)] = app.rows.run(f"select {damage.column} from {{{damage.table}}} where {own}")
    set_value = f"update {{{damage.table}}} set {damage.column} = ? where "
    app.rows.run(set_value + own, damage.value)

    await app.launch()
    await crowd.go_on("a", "z")
    with pytest.raises(damage.error, match="'damaged'"):
        await face.get_result("damaged", timeout_seconds=60)
    listed = {each.workflow_id: each.status for each in await face.list_workflows()}
    assert set(listed) == set(crowd.IDS)
    assert listed["damaged"] == (damage.value if damage.column == "status" else "PENDING")
    assert await face.list_workflow_steps("damaged")
    assert len([line for line in log.seen if "damaged" in line and "sent to workflow" not in line]) == 1, log.seen

    await app.crash()
    damaged = f"{damage.column} = ?" + ("" if damage.column in ("position", "message_seq", "epoch") else f" and {own}")
    if damage.column == "epoch":
        damaged = "workflow_id = ?"
    app.rows.run(set_value + damaged, sound, "damaged" if damage.column == "epoch" else damage.value)
    await app.launch()
    await crowd.go_on("damaged")


@pytest.mark.parametrize("status", ["ENQUEUED", "pending", "", "SUCCESS ", "\u00fc"])
async def test_whoever_asks_about_an_unknown_status_gets_an_answer(app: App, face: Face, status: str) -> None:
    @face.workflow(name="one")
    async def one() -> int:
        await face.set_event("key", 1)
        await face.write_stream("stream", 1)
        return 1

    for each in Crowd.IDS:
        await (await face.start(one, workflow_id=each)).get_result()
    app.rows.run("update {workflows} set status = ? where workflow_id = 'damaged'", status)

    with pytest.raises(DBOSDamagedWorkflowError, match="'damaged'"):
        await face.get_result("damaged")
    with pytest.raises(DBOSDamagedWorkflowError, match="'damaged'"):
        await (await face.start(one, workflow_id="damaged")).get_result()
    await face.cancel_workflow("damaged")
    await face.send("damaged", "kept")
    assert await face.get_event("damaged", "key", 3_600) == 1
    assert await face.get_event("damaged", "nothing", 3_600) is None
    assert await face.read("damaged", "stream") == [1]
    assert (await face.get_workflow_status("damaged")).status == status
    assert isinstance((await face.get_workflow_status("damaged")).error, DBOSDamagedWorkflowError)
    kind = WorkflowHandleAsync if isinstance(face, Awaiting) else WorkflowHandle
    first = await face.wait_first([kind(each, DBOS) for each in ("damaged", "a")])
    assert first.workflow_id == "damaged"
    assert [each.status for each in await face.list_workflows()] == ["SUCCESS", status, "SUCCESS"]
    assert await face.get_result("a") == await face.get_result("z") == 1


def insert_message(app: App, destination: str, body: Any, **columns: Any) -> None:
    """Put a message to `go` into the table, past the library."""
    named = {"body": body, "topic": "go", "sent_at_ms": 0, **columns}
    if app.rows.is_sqlite:
        source, number = "select seq, {} from {{workflows}} where workflow_id = ?", ""
    else:
        source, number = (
            "select workflow_id, nextval('{{messages_seq}}'), {} from {{workflows}} where workflow_id = ?",
            "seq,",
        )
    statement = (
        f"insert into {{messages}} ({'destination_seq' if app.rows.is_sqlite else 'destination_id'}, {number} "
        f"{', '.join(named)}) {source.replace('{{', '{').replace('}}', '}').replace('{}', ', '.join('?' * len(named)))}"
    )
    app.rows.run(statement, *named.values(), destination)


BODIES: dict[str, Any] = {
    "no JSON": "{",
    "nothing": "",
    "an unknown mark": '{"$tidings":"rocket","v":1}',
    "too deep": "[" * 100_000 + "]" * 100_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_damaged_message_is_an_error_of_the_one_that_receives_it(app: App, face: Face, body: str) -> None:
    @face.workflow(name="receiver")
    async def receiver() -> Any:
        return [await face.recv("go", 3_600), await face.recv("go", 3_600)]

    for each in Crowd.IDS:
        await face.start(receiver, workflow_id=each)
        await app.waiting("message", each, "go")
    insert_message(app, "damaged", body)
    for each in Crowd.IDS:
        await face.send(each, 1, "go")
        await face.send(each, 2, "go")
    with pytest.raises(DBOSSerializationError, match="to workflow 'damaged'"):
        await face.get_result("damaged")
    assert await face.get_result("a") == await face.get_result("z") == [1, 2]
    shown = (await face.list_messages("damaged"))[0].value
    assert (type(shown), shown.text) == (UndecodedValue, body)


EXECUTORS = {
    "a lease that never ends": "lease_ms = 9223372036854775807",
    "a lease that is over at once": "lease_ms = -1",
    "a fence at its end": "fence = 9223372036854775807",
    "a lease until the end of time": "lease_until_ms = 9223372036854775807",
    "a last batch from nowhere": "last_batch = -5, last_refused = '{'",
    "another process": "pid = -1, host = '', label = '', app_version = null, started_at_ms = -9223372036854775807",
}


@pytest.mark.parametrize("damage", EXECUTORS.values(), ids=EXECUTORS)
async def test_a_damaged_executor_keeps_nobody_from_going_on(app: App, face: Face, damage: str) -> None:
    crowd = Crowd(app, face)
    await crowd.gather()
    app.rows.run(f"update {{executors}} set {damage}")
    await app.launch()
    await crowd.go_on(*crowd.IDS)
    assert await face.list_executors()


# What only an SQLite file can hold: bytes that are not UTF-8; and in tables that are not strict, as an SQLite before
# 3.37 makes them, values of any type.
SQLITE_DAMAGES = {
    "a status that is not UTF-8": ("workflows", "status", "cast(x'50ff' as text)"),
    "inputs that are not UTF-8": ("workflows", "inputs", "cast(x'7bff7d' as text)"),
    "an output that is not UTF-8": ("entries", "output", "cast(x'22ff22' as text)"),
    "a state that is not UTF-8": ("entries", "state", "cast(x'ff' as text)"),
    "a key that is not UTF-8": ("events", "key", "cast(x'ffff' as text)"),
    "a number that is bytes": ("entries", "ordinal", "x'01'"),
    "a number that is a fraction": ("entries", "finished", "1.5"),
    "a version that is bytes": ("events", "version", "x'01'"),
    "inputs that are bytes": ("workflows", "inputs", "x'00'"),
    "a name that is bytes": ("entries", "name", "x'00'"),
    "an offset that is text": ("stream_items", "item_offset", "'abc'"),
}


@pytest.mark.unmigrated
@pytest.mark.parametrize("damage", SQLITE_DAMAGES.values(), ids=SQLITE_DAMAGES)
async def test_bytes_in_an_sqlite_file_stop_their_own_workflow(
    sqlite_url: str, face: Face, log: Sightings, monkeypatch: pytest.MonkeyPatch, damage: tuple[str, str, str]
) -> None:
    monkeypatch.setattr("tidings.store.sqlite.schema._STRICT_TABLES", (99,))
    app = App(sqlite_url)
    await app.launch()
    try:
        crowd = Crowd(app, face)
        await crowd.gather()
        table, column, value = damage
        own = crowd.own_rows(table, "ordinal = 1" if table == "entries" else "true")
        app.rows.run(f"update {{{table}}} set {column} = {value} where {own}")
        await app.launch()
        await crowd.go_on("a", "z")
        with pytest.raises(DBOSException):
            await face.get_result("damaged", timeout_seconds=60)
        assert len(await face.list_workflows()) == len(crowd.IDS)
        assert [each for each in log.seen if "damaged" in each]
    finally:
        await app.close()


@pytest.mark.unmigrated
async def test_a_message_of_bytes_is_an_error_of_the_one_that_receives_it(
    sqlite_url: str, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a look ahead sees it behind another one."""
    monkeypatch.setattr("tidings.store.sqlite.schema._STRICT_TABLES", (99,))
    app = App(sqlite_url)
    await app.launch()
    try:

        @face.workflow(name="receiver")
        async def receiver() -> Any:
            await face.recv("begin", 3_600)
            return [await face.recv("go", 3_600) for _ in range(3)]

        for each in Crowd.IDS:
            await face.start(receiver, workflow_id=each)
            for number in range(4):
                await face.send(each, number, "go")
        bodies = ("x'00ff'", "cast(x'22ff22' as text)", "null", "1.5")
        for body, number in zip(bodies, range(4), strict=True):
            app.rows.run(
                f"update {{messages}} set body = coalesce({body}, x'') where body = '{number}' and destination_seq = "
                "(select seq from {workflows} where workflow_id = 'damaged')"
            )
        for each in Crowd.IDS:
            await face.send(each, "begin", "begin")
        assert await face.get_result("a") == await face.get_result("z") == [0, 1, 2]
        with pytest.raises(DBOSSerializationError):
            await face.get_result("damaged")
        assert len(await face.list_messages("damaged")) == 5
    finally:
        await app.close()
