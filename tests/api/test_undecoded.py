"""A program that lacks the classes of another one sees all that it has stored: L4 of the requirements."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import Face
from tests.support.visitor import visiting
from tidings import JSONSerializer, SetWorkflowID, UndecodedValue
from tidings.error import DBOSRecordedError, DBOSSerializationError

FOREVER = 3_600


@dataclass
class Order:
    id: int
    more: Any = None


class Size(Enum):
    SMALL = 1


class OutOfStock(Exception):
    pass


class Connection(Exception):
    """One that cannot be kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.socket = object()


CLASSES: tuple[type, ...] = (Order, Size, OutOfStock, Connection)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of the application's classes. A test deletes what the reader is to lack."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    for cls in CLASSES:
        monkeypatch.setattr(cls, "__module__", "shop")
        setattr(module, cls.__name__, cls)
    yield module
    for cls in CLASSES:
        setattr(module, cls.__name__, cls)


def forget(module: ModuleType) -> None:
    for cls in CLASSES:
        delattr(module, cls.__name__)


def shown(value: Any) -> tuple[Any, ...]:
    """Return what is shown, checked to be a record that says what to do."""
    assert type(value) is UndecodedValue
    assert "import the module 'shop'" in value.reason
    return value.type_name, value.text


async def fill(app: App, face: Face) -> None:
    """Store values of these classes wherever there are values."""

    @face.step(name="pay")
    async def pay(fails: bool) -> Any:
        if fails:
            raise OutOfStock("shoes", 3)
        return {"order": Order(2)}

    @face.workflow(name="buy")
    async def buy(order: Any, *, size: Any, fails: str) -> Any:
        await face.set_event("plain", 1)
        await face.set_event("order", order)
        await face.set_event("sizes", [size, 2])
        try:
            await pay(bool(fails))
        except OutOfStock:
            await pay(False)
        message = await face.recv("go", FOREVER)
        if fails:
            raise {"bad": OutOfStock("shoes", 3), "recorded": Connection("cut")}[fails]
        return (message, size, 3)

    for name, fails in (("good", ""), ("bad", "bad"), ("recorded", "recorded")):
        with SetWorkflowID(name):
            await face.start_workflow(buy, Order(1), size=Size.SMALL, fails=fails)
        await app.waiting("message", name, "go")
        await face.send(name, [1, Order(4)], "left")
        await face.send(name, "plain", "left")
        await face.send(name, Order(3), "go")
        await app.ended(name)


SMALL = ("shop.Size", '{"$tidings":"enum","cls":"shop:Size","v":"SMALL"}')


def order(number: int) -> tuple[str, str]:
    fields = f'{{"id":{number},"more":null}}'
    return "shop.Order", f'{{"$tidings":"object","cls":"shop:Order","v":{fields}}}'


@pytest.fixture(params=["app", "client"])
def reader(request: pytest.FixtureRequest, app: App, face: Face) -> Iterator[Any]:
    """Who reads: the application, or a client."""
    if request.param == "app":
        yield face
    else:
        with visiting(app.database_url, face) as client:
            yield client


async def test_l4_all_that_is_stored_can_be_seen_without_its_classes(
    app: App, face: Face, shop: ModuleType, reader: Any
) -> None:
    await fill(app, face)
    forget(shop)
    listed = await reader.list_workflows(workflow_ids=["good", "bad", "recorded"])
    assert [str(await reader.get_workflow_status(each.workflow_id)) for each in listed] == list(map(str, listed))
    good, bad, recorded = listed
    assert [each.status for each in listed] == ["SUCCESS", "ERROR", "ERROR"]
    for each in listed:
        assert shown(each.input["args"][0]) == order(1)
        assert shown(each.input["kwargs"]["size"]) == SMALL
        assert (await (await reader.retrieve_workflow(each.workflow_id)).get_status()).status == each.status
    message, size, number = good.output
    assert [shown(message), shown(size), number] == [order(3), SMALL, 3]
    assert good.input["kwargs"]["fails"] == ""
    assert type(bad.error) is type(recorded.error) is DBOSRecordedError
    assert (bad.error.type_name, recorded.error.type_name) == ("shop.OutOfStock", "shop.Connection")
    assert bad.error.message == "('shoes', 3)"
    assert '"args":["shoes",3]' in bad.error.__notes__[0]
    assert "import the module 'shop'" in bad.error.__notes__[0]
    assert recorded.error.message == "cut"

    steps = {each["function_name"]: each for each in await reader.list_workflow_steps("good")}
    assert shown(steps["pay"]["output"]["order"]) == order(2)
    assert shown(steps["DBOS.recv"]["output"]) == order(3)
    first = next(each for each in await reader.list_workflow_steps("bad") if each["function_name"] == "pay")
    assert isinstance(first["error"], DBOSRecordedError)
    assert first["error"].type_name == "shop.OutOfStock"

    messages = await reader.list_messages("good")
    one, left = messages[0].value
    assert [one, shown(left), messages[1].value, shown(messages[2].value)] == [1, order(4), "plain", order(3)]

    events = await reader.get_all_events("good")
    assert set(events) == {"plain", "order", "sizes"}
    assert (events["plain"], shown(events["order"])) == (1, order(1))
    assert [shown(events["sizes"][0]), events["sizes"][1]] == [SMALL, 2]


async def test_l4_what_code_asks_for_names_the_class_and_what_to_do(
    app: App, face: Face, shop: ModuleType, reader: Any
) -> None:
    await fill(app, face)
    forget(shop)
    asked: list[tuple[Callable[..., Awaitable[Any]], list[str], str]] = [
        (reader.get_result, ["good"], r"the result of workflow 'good': \$\[0\]: its class 'shop:Order'"),
        (reader.get_event, ["good", "order"], r"the event 'order' of workflow 'good': \$: its class 'shop:Order'"),
    ]
    for ask, names, what in asked:
        with pytest.raises(DBOSSerializationError, match=f"{what} .*; import the module 'shop'") as caught:
            await ask(*names)
        assert caught.value.type_name == "shop.Order"
    with pytest.raises(DBOSRecordedError, match=r"^shop\.Connection: cut$"):
        await reader.get_result("recorded")


@pytest.mark.parametrize(
    ("args", "message"), [(("no shoes",), "no shoes"), ((), ""), (("shoes", 3), "('shoes', 3)"), ((["a"],), "['a']")]
)
async def test_l4_the_error_of_a_workflow_is_raised_without_its_class_by_name_and_message(
    app: App, face: Face, shop: ModuleType, reader: Any, args: Any, message: str
) -> None:
    @face.workflow(name="buy")
    async def buy() -> None:
        error = OutOfStock(*args)
        error.add_note("a note")
        raise error from ValueError("the cause")

    handle = await face.start(buy, workflow_id="bad")
    with pytest.raises(OutOfStock):
        await handle.get_result()
    forget(shop)
    with pytest.raises(DBOSRecordedError) as caught:
        await reader.get_result("bad")
    assert (caught.value.type_name, caught.value.message) == ("shop.OutOfStock", message)
    assert str(caught.value) == f"shop.OutOfStock: {message}"
    assert "import the module 'shop'" in caught.value.__notes__[0]


async def test_l4_a_workflow_gets_such_an_error_and_again_in_a_replay(app: App, face: Face, shop: ModuleType) -> None:
    await fill(app, face)

    @face.workflow(name="await")
    async def awaits() -> list[str]:
        with pytest.raises(DBOSRecordedError) as caught:
            await face.get_result("bad")
        await face.recv("go", FOREVER)
        return [type(caught.value).__name__, str(caught.value), *caught.value.__notes__]

    forget(shop)
    await face.start(awaits, workflow_id="awaits")
    await app.waiting("message", "awaits", "go")
    await app.crash_and_restart()
    await face.send("awaits", 1, "go")
    name, text, note = await face.get_result("awaits")
    assert (name, text) == ("DBOSRecordedError", "shop.OutOfStock: ('shoes', 3)")
    assert "import the module 'shop'" in note


async def test_l4_a_workflow_sees_them_too_and_again_in_a_replay(app: App, face: Face, shop: ModuleType) -> None:
    await fill(app, face)

    @face.workflow(name="look")
    async def look() -> Any:
        status = await face.get_workflow_status("good")
        events = await face.get_all_events("good")
        messages = await face.list_messages("good")
        await face.recv("go", FOREVER)
        return [status.input["args"][0], status.output[0], events["order"], messages[2].value]

    forget(shop)
    await face.start(look, workflow_id="look")
    await app.waiting("message", "look", "go")
    await app.crash_and_restart()
    await face.send("look", 1, "go")
    assert [shown(each) for each in await face.get_result("look")] == [order(1), order(3), order(1), order(3)]


class Sealing(JSONSerializer):
    """A serializer of a program's own. Its text is no JSON."""

    def serialize(self, value: Any) -> str:
        return f"sealed {super().serialize(value)}"

    def deserialize(self, text: str) -> Any:
        return super().deserialize(text.removeprefix("sealed "))

    def name(self) -> str:
        return "sealing"


async def test_l4_with_a_serializer_of_its_own_a_program_sees_the_stored_text(
    app: App, face: Face, shop: ModuleType
) -> None:
    await app.relaunch(serializer=Sealing())
    await fill(app, face)
    forget(shop)
    with visiting(app.database_url, face, serializer=Sealing()) as client:
        good, bad, recorded = await client.list_workflows(workflow_ids=["good", "bad", "recorded"])
        assert good.output.text.startswith("sealed {")
        assert good.output.type_name == "shop.Order"
        assert (bad.error.type_name, recorded.error.type_name) == ("shop.OutOfStock", "shop.Connection")
        assert (await client.get_all_events("good"))["plain"] == 1
    with visiting(app.database_url, face) as client:  # without the serializer
        good, bad, recorded = await client.list_workflows(workflow_ids=["good", "bad", "recorded"])
        assert (type(good.output), good.output.text[:8]) == (UndecodedValue, "sealed {")
        assert "sealed " in str(bad.error)
