"""An error is caught in the same way where its class, or the class of something in it, is not imported."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from types import ModuleType
from typing import Any

import pytest

from tidings import UndecodedValue
from tidings.error import DBOSException, DBOSRecordedError, DBOSSerializationError
from tidings.serialization import (
    JSONSerializer,
    dump,
    dump_error,
    load,
    load_awaited,
    load_error,
    load_outcome,
    show_error,
)

JSON = JSONSerializer()
HERE = __name__


class ShopError(LookupError):
    """One that the reading program has."""


class FinalError(ValueError):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that only the first process has imported."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    order = dataclasses.make_dataclass("Order", ["id"])
    classes: list[type] = [
        type("PaymentError", (ShopError, OSError), {"__str__": lambda self: f"payment: {self.args}"}),
        type("Plain", (Exception,), {}),
        type("Stop", (BaseException,), {}),
        type("Exit", (SystemExit,), {}),
        type("ExitToo", (SystemExit, ValueError), {}),
        type("Slotted", (ValueError,), {"__slots__": ("code",)}),
        type("Decoding", (UnicodeDecodeError,), {}),
        type("Group", (ExceptionGroup,), {"derive": lambda self, errors: type(self)("g", errors)}),
        order,
    ]
    for cls in classes:
        cls.__module__ = "shop"
        setattr(module, cls.__name__, cls)
    return module


def read_without(shop: ModuleType, error: BaseException) -> tuple[str, Any, Any]:
    """Return the stored text, the error of the first time, and that of a process without the module."""
    error.add_note("a note")
    text, now = dump_error(JSON, error)
    del sys.modules["shop"]
    before = set(sys.modules)
    again = load_error(JSON, text)
    assert set(sys.modules) == before
    return text, now, again


def same(again: BaseException, now: BaseException) -> None:
    assert type(again) is not type(now)
    assert (type(again).__module__, type(again).__qualname__) == (type(now).__module__, type(now).__qualname__)
    assert (str(again), again.__notes__) == (str(now), now.__notes__)
    for kind in (Exception, ValueError, LookupError, OSError, ShopError, DBOSException, ExceptionGroup):
        assert isinstance(again, kind) == isinstance(now, kind), kind


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("PaymentError", (2, "gone")),
        ("Plain", ()),
        ("Plain", ("a", {"b": 1})),
        ("Slotted", (1,)),
        ("Decoding", ("utf-8", b"\xff", 0, 1, "no")),
        ("Group", ("g", [ValueError(1), KeyError("k")])),
    ],
)
def test_it_is_caught_by_those_bases_that_are_there(shop: ModuleType, name: str, args: Any) -> None:
    error = vars(shop)[name](*args)
    error.code = 3
    error.__cause__ = ValueError("why")
    text, now, again = read_without(shop, error)
    assert now is error
    same(again, now)
    assert (again.code, str(again.__cause__)) == (3, "why")
    assert len(again.args) == len(now.args)
    assert dump_error(JSON, again) == (text, again), "a replay records it as the first time did"
    pickled = pickle.loads(pickle.dumps(again))  # noqa: S301  # written here
    for copied in (copy.copy(again), copy.deepcopy(again), pickled):
        same(copied, now)
        assert type(copied) is type(again)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = again.missing


def test_an_error_in_an_error_lacks_its_class_too(shop: ModuleType) -> None:
    """Also in a recorded one, as httpx raises its errors from those of httpcore."""
    exact, recorded = RuntimeError("exact"), RuntimeError("recorded", sys)
    for error in (exact, recorded):
        error.__cause__ = shop.Plain("why")
    stored = [dump_error(JSON, error) for error in (exact, recorded)]
    del sys.modules["shop"]
    for text, now in stored:
        again = load_error(JSON, text)
        assert type(again) is type(now)
        for each in (again.__cause__, now.__cause__):
            assert f"{type(each).__module__}.{type(each).__name__}: {each}" == "shop.Plain: why"
            assert not isinstance(each, DBOSRecordedError)


def test_what_is_in_it_may_be_missing(shop: ModuleType) -> None:
    error: Any = ShopError(shop.Order(1), "x")
    error.order = [shop.Order(2)]
    error.count = 3
    _, now, again = read_without(shop, error)
    assert now is error
    same(again, now)
    assert again.count == 3
    assert type(again.args[0]) is UndecodedValue
    assert (again.args[0].type_name, again.args[1]) == ("shop.Order", "x")
    with pytest.raises(AttributeError, match=r"no 'order' here, for .*import the module 'shop'"):
        _ = again.order
    _, raised = dump_error(JSON, again)
    assert isinstance(raised, ShopError)
    assert isinstance(raised, DBOSRecordedError), "only in part could it be stored again"
    assert str(raised) == str(now)


def test_a_base_exception_stays_one(shop: ModuleType) -> None:
    for name in ("Stop", "Exit"):
        text, _ = dump_error(JSON, vars(shop)[name](1))
        monkey = sys.modules.pop("shop")
        again = load_error(JSON, text)
        sys.modules["shop"] = monkey
        assert isinstance(again, BaseException)
        assert not isinstance(again, Exception)
        assert isinstance(again, SystemExit) == (name == "Exit")


def test_no_exception_ends_the_program(shop: ModuleType) -> None:
    _, _, again = read_without(shop, shop.ExitToo(1))
    assert isinstance(again, ValueError)
    assert not isinstance(again, SystemExit)


@pytest.mark.parametrize(
    "name", ["builtins:SystemExit", "asyncio.exceptions:CancelledError", "builtins:int", "os:system"]
)
def test_no_text_makes_it_what_it_must_not_be(shop: ModuleType, name: str) -> None:
    text, _ = dump_error(JSON, shop.PaymentError(2, "gone"))
    del sys.modules["shop"]
    forged = text.replace(f"{HERE}:ShopError", name)
    assert forged != text
    error = load_outcome(JSON, forged, "the error")
    assert isinstance(error, OSError)
    assert not isinstance(error, (SystemExit, ShopError))


def test_a_base_that_allows_no_subclass_is_left_out(shop: ModuleType) -> None:
    shop.Odd = type("Odd", (ValueError,), {"__module__": "shop"})  # type: ignore[attr-defined]
    text, _ = dump_error(JSON, shop.Odd("x"))
    again = load_error(
        JSON, text.replace('"builtins:ValueError"', f'"{HERE}:FinalError"').replace("shop:Odd", "gone:Odd")
    )
    assert type(again).__name__ == "Odd"
    assert str(again) == "x"


def test_who_awaits_it_gets_a_record_that_is_caught_by_its_bases(shop: ModuleType) -> None:
    text, _, _ = read_without(shop, shop.PaymentError(2, "gone"))
    awaited: Any = load_awaited(JSON, text, "the error")
    assert isinstance(awaited, DBOSRecordedError)
    assert isinstance(awaited, ShopError)
    assert isinstance(awaited, OSError)
    assert (awaited.type_name, str(awaited)) == ("shop.PaymentError", "payment: (2, 'gone')")
    assert awaited.__notes__[0] == "a note"
    assert "import the module 'shop'" in awaited.__notes__[1]
    shown = show_error(JSON, text, "the error")
    assert type(shown) is DBOSRecordedError
    assert (shown.type_name, shown.message) == ("shop.PaymentError", "payment: (2, 'gone')")


def test_as_a_value_it_comes_back_too(shop: ModuleType) -> None:
    text = dump(JSON, [shop.PaymentError(2, "gone")], "the value")
    del sys.modules["shop"]
    (again,) = load(JSON, text, "the value")
    assert isinstance(again, ShopError)
    assert dump(JSON, [again], "the value") == text


@pytest.mark.parametrize(
    "text",
    [
        '{"$tidings":"exception","cls":"gone:E","v":{"args":[]},"bases":1}',
        '{"$tidings":"exception","cls":"gone:E","v":{"args":[]},"bases":[1]}',
        '{"$tidings":"exception","cls":"gone:E","v":{"args":[]},"bases":[],"text":1}',
        '{"$tidings":"exception","cls":"gone:E","v":[],"bases":[]}',
        '{"$tidings":"exception","cls":"gone:E","v":{"args":3},"bases":[]}',
        '{"$tidings":"exception","cls":1,"v":{"args":3},"bases":[]}',
    ],
)
def test_damaged_records_are_a_clear_error(text: str) -> None:
    with pytest.raises(DBOSSerializationError):
        load_error(JSON, text)
