"""An error that cannot be kept as it is: `except` still catches it by its class, and nothing of that class runs."""

from __future__ import annotations

import abc
import asyncio
import copy
import dataclasses
import gc
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pydantic
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import programs
from tidings.error import DBOSMaxStepRetriesExceeded, DBOSRecordedError, DBOSSerializationError
from tidings.serialization import (
    JSONSerializer,
    PickleSerializer,
    dump_error,
    load_awaited,
    load_error,
    recorded_error,
    show_error,
)
from tidings.serialization.exceptions import built_in_of
from tidings.serialization.stand_ins import StandIn

JSON = JSONSerializer()
HERE = __name__
UNSTORABLE = object()  # as a connection, a response or a lock


class OpenError(Exception):
    """One that holds on to something that no database can keep."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = UNSTORABLE


class OddInit(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        self.code = code
        self.detail = detail
        self.connection = UNSTORABLE


class OddNew(Exception):
    code: int

    def __new__(cls, *, code: int) -> OddNew:
        made = super().__new__(cls)
        made.code = code
        return made

    def __init__(self, *, code: int) -> None:
        self.connection = UNSTORABLE


class Slotted(Exception):
    __slots__ = ("code", "connection")

    def __init__(self) -> None:
        self.code = 3
        self.connection = UNSTORABLE


class Hostile(OpenError):
    """All that it defines needs what its `__init__` has set."""

    def _needs_state(self, *_: Any, **__: Any) -> Any:
        return self.connection.missing  # type: ignore[attr-defined]

    __reduce__ = __reduce_ex__ = __copy__ = __deepcopy__ = __getstate__ = _needs_state
    __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __format__ = __dir__ = _needs_state
    __setstate__ = add_note = with_traceback = _needs_state

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)  # Without a connection it goes round in a circle.

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "connection":
            raise AttributeError(name)
        super().__setattr__(name, value)


class Guarded(OpenError):
    """Its class must not learn of another one that is derived from it."""

    def __init_subclass__(cls, *, number: int) -> None:
        raise AssertionError(cls)


class Meta(abc.ABCMeta):
    """A metaclass that must make no other class."""

    is_closed = False

    def __new__(cls, *args: Any) -> Any:
        assert not cls.is_closed
        return super().__new__(cls, *args)

    def __init__(cls, *args: Any) -> None:
        assert not cls.is_closed
        super().__init__(*args)


class WithMeta(OpenError, metaclass=Meta):
    pass


Meta.is_closed = True


class Properties(OpenError):
    @property
    def message(self) -> Any:
        return self.connection.said  # type: ignore[attr-defined]

    @property
    def type_name(self) -> Any:
        raise RuntimeError

    @property
    def args(self) -> Any:
        raise RuntimeError

    @args.setter
    def args(self, _: Any) -> None:
        raise RuntimeError


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    connection: Any


@dataclasses.dataclass
class Unhashable(Exception):
    connection: Any


class FileError(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "gone", name)
        self.connection = UNSTORABLE


class TextError(UnicodeDecodeError):
    def __init__(self) -> None:
        super().__init__("utf-8", b"abc", 1, 2, "no")
        self.connection = UNSTORABLE


class MixedError(FileError, ValueError):
    pass


class KeyLike(OpenError, KeyError):
    pass


class StopLike(OpenError, StopIteration):
    pass


class ExitLike(OpenError, SystemExit):
    pass


class Group(ExceptionGroup[Exception]):
    """As in Python's documentation; its own `derive` needs its code."""

    code: int

    def __new__(cls, message: str, errors: list[Exception], code: int) -> Group:
        made = super().__new__(cls, message, errors)
        made.code = code
        return made

    def __init__(self, *_: Any) -> None:
        self.connection = UNSTORABLE

    def derive(self, errors: Any) -> Group:  # type: ignore[override]
        return Group(f"{self.message} {self.connection.missing}", errors, self.code)  # type: ignore[attr-defined]


class Deleting(OpenError):
    deleted = 0

    def __del__(self) -> None:
        type(self).deleted += 1


def http_error() -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://shop/orders")
    return httpx.HTTPStatusError("404", request=request, response=httpx.Response(404, request=request))


def fails(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


errors: list[tuple[Exception, str]] = [
    (OpenError("closed", 3), "('closed', 3)"),
    (OddInit(3, detail="d"), "3"),
    (OddNew(code=3), ""),
    (Slotted(), ""),
    (Hostile("x"), "<its message cannot be printed>"),
    (Guarded("x"), "x"),
    (WithMeta("x"), "x"),
    (Properties("x"), "x"),
    (Frozen(UNSTORABLE), str(UNSTORABLE)),
    (Unhashable(UNSTORABLE), str(UNSTORABLE)),
    (FileError("f"), "[Errno 2] gone: 'f'"),
    (FileNotFoundError(2, "gone", Path("f")), str(FileNotFoundError(2, "gone", Path("f")))),
    (TextError(), "'utf-8' codec can't decode byte 0x62 in position 1: no"),
    (MixedError("f"), "[Errno 2] gone: 'f'"),
    (KeyLike("k"), "'k'"),
    (StopLike("s"), "s"),
    (ExitLike("e"), "e"),
    (Group("g", [ValueError(1)], 3), "g (1 sub-exception)"),
    (ExceptionGroup("g", [KeyError(UNSTORABLE), OSError(2, "gone")]), "g (2 sub-exceptions)"),
    (http_error(), "404"),
    (httpx.ConnectError("refused", request=httpx.Request("GET", "http://shop")), "refused"),
    (pydantic.errors.PydanticUserError("no", code=None), "no"),
]


@pytest.mark.parametrize("serializer", [JSON, PickleSerializer()], ids=lambda serializer: serializer.name())
@pytest.mark.parametrize(("error", "message"), errors, ids=lambda value: type(value).__name__)
def test_except_catches_it_by_its_class_the_first_time_and_in_a_replay(
    error: Exception, message: str, serializer: Any
) -> None:
    text, now = dump_error(serializer, fails(error))
    for raised in (now, load_error(serializer, text)):
        with pytest.raises(type(error)) as caught:
            raise raised
        assert str(caught.value) == message
        assert type(caught.value) is type(now)
        assert type(caught.value).__name__ == type(error).__name__
        for base in type(error).__mro__:
            assert isinstance(raised, base)
    again, raised_again = dump_error(serializer, now)
    assert raised_again is now
    if serializer is JSON:
        assert again == text, "a stand-in is stored as it is"


recorded = [error for error, _ in errors if not isinstance(error, pydantic.errors.PydanticUserError)]


@pytest.mark.parametrize("error", recorded, ids=lambda error: type(error).__name__)
def test_nothing_of_its_class_runs_where_a_program_does_not_ask_for_it(error: Exception) -> None:
    text, now = dump_error(JSON, fails(error))
    assert isinstance(now, DBOSRecordedError)
    assert isinstance(now, StandIn)
    assert now.type_name.endswith(type(error).__qualname__)
    assert "raise error" in now.traceback_text
    assert {now, load_error(JSON, text)} >= {now}
    assert now == now  # noqa: PLR0124
    assert now != load_error(JSON, text)
    assert bool(now)
    assert f"{now}" == str(now)
    assert type(error).__name__ in repr(now)
    assert "type_name" in dir(now)
    assert str(now) in "".join(traceback.format_exception(fails(now)))
    now.add_note("a note")
    copies = [copy.copy(now), copy.deepcopy(now), pickle.loads(pickle.dumps(now))]  # noqa: S301
    for each in copies:
        assert (type(each), str(each), each.__notes__) == (type(now), str(now), ["a note"])
        assert each.with_traceback(None) is each
    now.__cause__ = None


def test_what_can_be_stored_of_it_is_kept() -> None:
    _, now = dump_error(JSON, OddInit(3, detail="d"))
    assert isinstance(now, OddInit)
    assert (now.code, now.detail, now.args) == (3, "d", (3,))
    _, now = dump_error(JSON, Slotted())
    assert isinstance(now, Slotted)
    assert now.code == 3
    _, now = dump_error(JSON, MixedError("f"))
    assert isinstance(now, MixedError)
    assert (now.errno, now.strerror, now.filename, now.args) == (2, "gone", "f", (2, "gone"))
    _, now = dump_error(JSON, FileNotFoundError(2, "gone", Path("a/b")))
    assert isinstance(now, FileNotFoundError)
    assert now.filename == "a/b"
    _, now = dump_error(JSON, TextError())
    assert isinstance(now, TextError)
    assert (now.object, now.start, now.reason) == (b"abc", 1, "no")
    _, now = dump_error(JSON, StopLike("s"))
    assert isinstance(now, StopLike)
    assert now.value == "s"


def test_what_cannot_be_stored_of_it_is_named_where_it_is_missed() -> None:
    _, now = dump_error(JSON, http_error())
    assert isinstance(now, httpx.HTTPStatusError)
    assert not hasattr(now, "response")
    with pytest.raises(AttributeError, match=r"this httpx\.HTTPStatusError no longer has 'response'.*_request"):
        _ = now.response
    with pytest.raises(AttributeError, match=r"these could not be: .*Read what you need in the step"):
        _ = now.request  # a property, which needs what is missing
    with pytest.raises(AttributeError, match="no attribute '__missing__'"):
        now.__missing__  # type: ignore[attr-defined]  # noqa: B018


def test_its_message_is_the_originals_own() -> None:
    error: Any = OpenError("text")
    error.message = {"code": 3}
    now: Any = dump_error(JSON, error)[1]
    assert (now.message, str(now)) == ({"code": 3}, "text")
    now = dump_error(JSON, OpenError("text"))[1]
    assert now.message == "text"


def test_errors_in_it_are_caught_too() -> None:
    error = OpenError(KeyError(UNSTORABLE), "text")
    error.original = OSError(2, UNSTORABLE)  # type: ignore[attr-defined]
    error.__cause__ = FileError("f")
    error.__cause__.__cause__ = KeyError("exact")
    text, now = dump_error(JSON, error)
    for each in (now, load_error(JSON, text)):
        assert [type(each.args[0]).__name__, each.args[1]] == ["KeyError", "text"]
        assert isinstance(each.args[0], KeyError)
        assert isinstance(each.original, OSError)  # type: ignore[attr-defined]
        assert isinstance(each.__cause__, FileError)
        assert type(each.__cause__.__cause__) is KeyError
        assert each.__suppress_context__


def test_lists_of_errors_in_it_are_kept_too() -> None:
    error = OpenError([KeyError(UNSTORABLE), ("text", UNSTORABLE)])
    error.errors = [FileError("f"), ValueError(1)]  # type: ignore[attr-defined]
    error.files = [UNSTORABLE]  # type: ignore[attr-defined]
    _, now = dump_error(JSON, error)
    assert [type(each).__name__ for each in now.errors] == ["FileError", "ValueError"]  # type: ignore[attr-defined]
    assert isinstance(now.errors[0], FileError)  # type: ignore[attr-defined]
    assert isinstance(now.args[0][0], KeyError)
    assert now.args[0][1] == ("text", repr(UNSTORABLE))
    assert not hasattr(now, "files")


class Opaque(Exception):
    """Every access to it runs its own code, which fails."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_an_error_that_cannot_be_looked_at_is_caught_too() -> None:
    text, now = dump_error(JSON, fails(Opaque("x")))
    for each in (now, load_error(JSON, text)):
        assert isinstance(each, Opaque)
        assert each.args == ("x",)
        assert "in fails" in each.traceback_text


def test_groups_come_apart_by_the_classes_in_them() -> None:
    nested = ExceptionGroup("in", [FileError("f"), TypeError(UNSTORABLE)])
    text, _ = dump_error(JSON, fails(Group("g", [ValueError("exact"), nested], 3)))
    caught: list[Any] = []
    try:
        raise load_error(JSON, text)
    except* OSError as group:
        caught.append(group.exceptions)
    except* ValueError as group:
        caught.append(group.exceptions)
    except* TypeError as group:
        caught.append(group.exceptions)
    assert [type(each[0]).__name__ for each in caught] == ["ExceptionGroup", "ValueError", "ExceptionGroup"]
    again = load_error(JSON, text)
    assert isinstance(again, Group)
    assert (again.code, again.message) == (3, "g")


def test_what_is_no_exception_does_not_end_who_awaits_it() -> None:
    for error in (SystemExit(UNSTORABLE), KeyboardInterrupt(UNSTORABLE), GeneratorExit(UNSTORABLE)):
        _, now = dump_error(JSON, error)
        assert type(now) is DBOSRecordedError
    assert type(dump_error(JSON, BaseExceptionGroup("g", [SystemExit(UNSTORABLE)]))[1]) is DBOSRecordedError


class Stop(BaseException):
    """As of a library that ends its own work by an error."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stop {code}")
        self.code = code
        self.connection = UNSTORABLE


def test_a_base_exception_that_ends_no_program_is_caught_by_its_class() -> None:
    text, now = dump_error(JSON, recorded_error(Stop(3)))
    for each in (now, load_error(JSON, text)):
        with pytest.raises(Stop, match="stop 3") as caught:
            raise each
        assert caught.value.code == 3
        assert isinstance(each, DBOSRecordedError), "an `Exception`, which a task passes on as any other"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_the_record_of_what_ends_a_program_or_a_task_ends_none(error: BaseException) -> None:
    text, now = dump_error(JSON, recorded_error(error))
    for each in (now, load_error(JSON, text)):
        assert type(each) is DBOSRecordedError


def test_making_another_of_its_class_makes_the_original() -> None:
    _, now = dump_error(JSON, OpenError("x"))
    another = type(now)("more")
    assert type(another) is OpenError
    assert another.connection is UNSTORABLE


def test_a_destructor_of_its_class_does_not_run() -> None:
    error = Deleting("x")
    now = dump_error(JSON, error)[1]
    before = Deleting.deleted
    del now
    gc.collect()
    assert Deleting.deleted == before


def test_no_class_is_made_twice() -> None:
    first, second = (dump_error(JSON, OpenError(number))[1] for number in range(2))
    assert type(first) is type(second)


# --- classes that are missing, or cannot be derived from ------------------------------------------------


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that another program has, and this one may not have imported."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


def publish(module: ModuleType, name: str, *bases: type) -> Any:
    cls = type(name, bases, {"__module__": module.__name__})
    setattr(module, name, cls)
    return cls


def test_where_its_class_is_not_imported_it_has_no_base_but_is_the_same_otherwise(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = publish(shop, "ShopError", OpenError)("x")
    error.code, error.__cause__ = 3, publish(shop, "Refused", KeyError)(UNSTORABLE)
    text, now = dump_error(JSON, error)
    monkeypatch.setitem(sys.modules, HERE, ModuleType("empty"))
    monkeypatch.delitem(sys.modules, "shop")
    before = set(sys.modules)
    elsewhere: Any = load_error(JSON, text)
    assert set(sys.modules) == before
    for each in (now, elsewhere):
        assert isinstance(each, DBOSRecordedError)
        assert (type(each).__module__, type(each).__name__) == ("shop", "ShopError")
        assert (str(each), repr(each), each.args) == ("x", "ShopError('x')", ("x",))
        assert (each.type_name, each.message, vars(each)["code"]) == ("shop.ShopError", "x", 3)
        assert each.traceback_text == elsewhere.traceback_text
        assert isinstance(each.__cause__, KeyError)
        assert type(each.__cause__).__name__ == "Refused"
    more = type(elsewhere)("more")
    assert (more.type_name, more.message) == ("shop.ShopError", "more")
    assert dump_error(JSON, elsewhere) == (text, elsewhere)


@pytest.mark.parametrize("read", [show_error, load_awaited])
def test_people_and_who_awaits_it_get_a_plain_record(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch, read: Callable[..., Any]
) -> None:
    text, now = dump_error(JSON, publish(shop, "ShopError", OpenError)("x"))
    monkeypatch.setitem(sys.modules, HERE, ModuleType("empty"))
    monkeypatch.delitem(sys.modules, "shop")
    elsewhere = read(JSON, text, "the error")
    assert type(elsewhere) is DBOSRecordedError
    assert (elsewhere.type_name, elsewhere.message) == ("shop.ShopError", "x")
    assert str(elsewhere) == "shop.ShopError: x"
    assert elsewhere.traceback_text == now.traceback_text  # type: ignore[attr-defined]


def test_a_base_that_is_there_is_caught(shop: ModuleType) -> None:
    base = publish(shop, "ShopError", OpenError)
    text, now = dump_error(JSON, publish(shop, "PaymentError", base, LookupError)("x"))
    assert isinstance(now, base)
    del shop.PaymentError
    assert isinstance(load_error(JSON, text), base)
    del shop.ShopError
    again: Any = load_error(JSON, text)
    assert isinstance(again, OpenError)
    assert isinstance(again, LookupError)
    assert again.type_name == "shop.PaymentError"  # type: ignore[attr-defined]


def test_a_class_of_a_function_is_caught_by_its_base() -> None:
    class Local(FileError):
        pass

    text, now = dump_error(JSON, Local("f"))
    for each in (now, load_error(JSON, text)):
        assert isinstance(each, FileError)
        assert not isinstance(each, Local), "no replay could find it"
        assert isinstance(each, DBOSRecordedError)
        assert each.type_name.endswith("<locals>.Local")


def test_a_final_class_is_caught_by_its_base() -> None:
    error = pydantic_core.PydanticSerializationError("no")
    with pytest.raises(TypeError):
        type("Derived", (type(error),), {})
    text, now = dump_error(JSON, error)
    for each in (now, load_error(JSON, text)):
        assert isinstance(each, ValueError)
        assert isinstance(each, DBOSRecordedError)


def test_what_was_kept_and_cannot_be_rebuilt_elsewhere_is_lost(shop: ModuleType) -> None:
    order = dataclasses.make_dataclass("Order", ["id"])
    order.__module__ = "shop"
    shop.Order = order  # type: ignore[attr-defined]
    error = OpenError(order(1), "text")
    error.order = order(2)  # type: ignore[attr-defined]
    error.count = 3  # type: ignore[attr-defined]
    error.__cause__ = publish(shop, "ShopError", KeyError)("k")
    text, now = dump_error(JSON, error)
    assert now.order == order(2)  # type: ignore[attr-defined]
    del shop.Order, shop.ShopError
    again = load_error(JSON, text)
    assert isinstance(again, OpenError)
    assert again.count == 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="these could not be: connection, order"):
        _ = again.order  # type: ignore[attr-defined]
    assert again.args[0].type_name == "shop.Order"
    assert again.args[1] == "text"
    for cause in (now.__cause__, again.__cause__):
        assert isinstance(cause, KeyError)
        assert not isinstance(cause, DBOSRecordedError)
        assert (type(cause).__module__, type(cause).__name__, str(cause)) == ("shop", "ShopError", "'k'")


def test_a_record_of_an_earlier_version_is_read() -> None:
    fields = '"args":["a.B","m","t"],"type_name":"a.B","message":"m","traceback_text":"t"'
    text = '{"$tidings":"exception","cls":"tidings.error:DBOSRecordedError","v":{' + fields + "}}"
    error = load_error(JSON, text)
    assert type(error) is DBOSRecordedError
    assert (error.type_name, error.message, error.traceback_text, vars(error)) == ("a.B", "m", "t", {})


@pytest.mark.parametrize(
    "fields",
    [
        '"args":[]',
        '"args":["a"]',
        '"args":["a","b",3]',
        '"args":["a","b","c"],"lineage":["builtins:KeyError"]',
        '"args":["a","b","c"],"lineage":[1],"kept":{}',
        '"args":["a","b","c"],"lineage":["builtins:KeyError"],"kept":{"args":1}',
    ],
)
def test_damaged_records_are_a_clear_error(fields: str) -> None:
    text = '{"$tidings":"exception","cls":"tidings.error:DBOSRecordedError","v":{' + fields + "}}"
    with pytest.raises(DBOSSerializationError, match=r"the error: \$"):
        load_error(JSON, text)


@pytest.mark.parametrize(
    "name",
    [
        "builtins:SystemExit",
        "builtins:KeyboardInterrupt",
        "asyncio.exceptions:CancelledError",
        "tidings.error:DBOSWorkflowCancelledError",
        "builtins:BaseException",
        "builtins:int",
        "os:system",
        "no.such.module:X",
        "",
    ],
)
def test_no_text_makes_it_what_it_must_not_be(name: str) -> None:
    text, _ = dump_error(JSON, OpenError("x"))
    forged = text.replace(f'"{HERE}:OpenError"', f'"{name}"')
    assert forged != text
    before = set(sys.modules)
    error = load_error(JSON, forged)
    assert isinstance(error, DBOSRecordedError)
    assert type(error).__mro__[1:] == StandIn.__mro__, "it has no other base"
    assert set(sys.modules) == before


def test_a_large_error_is_kept_in_part() -> None:
    error = OpenError("x" * 100_000)
    for number in range(2_000):
        setattr(error, f"number_{number}", number if number % 2 else UNSTORABLE)
    error.large = "x" * 1_000_000  # type: ignore[attr-defined]
    first, second = OpenError("first"), OpenError("second")
    first.other, second.other, first.__cause__, second.__cause__ = second, first, second, first  # type: ignore[attr-defined]
    for each in (error, first):
        text, now = dump_error(JSON, each)
        assert isinstance(now, OpenError)
        assert len(text) < 1024 * 1024
        assert type(load_error(JSON, text)) is type(now)


@pytest.mark.parametrize("name", ["$tidings", "_tidings_record", "type_name", "with_traceback", "a b", "\ud800", 3])
def test_any_name_may_be_an_attributes(name: Any) -> None:
    error = OpenError("x")
    vars(error)[name] = 1
    text, now = dump_error(JSON, error)
    assert isinstance(now, OpenError)
    assert type(load_error(JSON, text)) is type(now)
    assert now.type_name == f"{HERE}.OpenError"  # type: ignore[attr-defined]


def test_the_last_error_of_a_step_need_not_be_printable() -> None:
    error = DBOSMaxStepRetriesExceeded("pay", 2, [Hostile("x")])
    assert str(error) == (
        "step 'pay' failed 2 times, which is all that max_attempts allows; the last error was Hostile, which cannot be "
        "printed"
    )


# --- pydantic's ValidationError -------------------------------------------------------------------------


class Order(pydantic.BaseModel):
    id: int
    items: list[str] = []
    note: Any = None

    @pydantic.field_validator("note")
    @classmethod
    def _check(cls, note: Any) -> Any:
        match note:
            case "bad":
                raise ValueError("no {id} is good")
            case "custom":
                raise pydantic_core.PydanticCustomError("late", "{days} days {too} late", {"days": 3})
            case "known":
                raise pydantic_core.PydanticKnownError("greater_than", {"gt": 3})
            case "assert":
                raise AssertionError("never")
            case _:
                return note


class Secret(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    id: int


validations: list[Callable[[], Any]] = [
    lambda: Order(id="x"),  # type: ignore[arg-type]
    lambda: Order(id=1, items=3, note="bad"),  # type: ignore[arg-type]
    lambda: Order.model_validate_json('{"items": 3, "note": "custom"}'),
    lambda: Order.model_validate({"id": 1, "note": "known"}),
    lambda: Order(id=1, note="assert"),
    lambda: Secret(id="x"),  # type: ignore[arg-type]
    lambda: pydantic.TypeAdapter(dict[str, list[int]]).validate_python({"a": [1, "b"]}),
]


@pytest.mark.parametrize("validate", validations)
def test_a_validation_error_is_kept(validate: Callable[[], Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        validate()
    error = caught.value
    text, now = dump_error(JSON, error)
    assert now is error
    again = load_error(JSON, text)
    assert isinstance(again, pydantic.ValidationError)
    assert str(again) == str(error)
    assert repr(again) == repr(error)
    assert again.error_count() == error.error_count()
    assert again.args == error.args == ()
    assert repr(again.errors()) == repr(error.errors())
    assert again.json() == error.json()


def test_a_validation_error_that_a_program_made_is_the_same_the_first_time_and_in_a_replay() -> None:
    """Pydantic keeps what it was made of as its args, which cannot be stored."""
    line: Any = {"type": "int_type", "loc": ("id",), "input": "x", "ctx": {}}
    text, now = dump_error(JSON, pydantic.ValidationError.from_exception_data("Order", [line]))
    again: Any = load_error(JSON, text)
    assert isinstance(now, pydantic.ValidationError)
    assert now.args == again.args == ()
    assert now.errors() == again.errors()
    assert str(now) == str(again)


def test_a_validation_error_of_what_cannot_be_stored_is_caught_too() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Order(id=UNSTORABLE, note="bad")  # type: ignore[arg-type]
    caught.value.add_note("a note")
    nested = dump_error(JSON, ExceptionGroup("g", [caught.value]))[1]
    assert isinstance(nested, ExceptionGroup)
    assert isinstance(nested.exceptions[0], pydantic.ValidationError)
    text, now = dump_error(JSON, caught.value)
    for each in (now, load_error(JSON, text)):
        assert isinstance(each, pydantic.ValidationError)
        assert [line["loc"] for line in each.errors()] == [("id",), ("note",)]
        assert each.errors()[0]["input"] == repr(UNSTORABLE)
        assert each.__notes__ == ["a note"]


def test_a_validation_error_is_read_where_pydantic_is_not_imported() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Order(id="x")  # type: ignore[arg-type]
    text, _ = dump_error(JSON, caught.value)
    program = (
        "import sys\n"
        "from tidings.serialization import JSONSerializer, show_error\n"
        f"error = show_error(JSONSerializer(), {text!r}, 'the error')\n"
        "print(type(error).__name__, error.type_name, 'pydantic' in sys.modules)"
    )
    done = programs.run(*programs.python("-c", program))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "DBOSRecordedError pydantic_core._pydantic_core.ValidationError False\n"


# --- any class ---------------------------------------------------------------------------------------------

built_ins = st.sampled_from([Exception, ValueError, KeyError, OSError, UnicodeDecodeError, StopIteration, ImportError])


def _raise(*_: Any, **__: Any) -> Any:
    raise RuntimeError("code of the class was run")


def _make(self: Any, *_: Any, **__: Any) -> None:
    """An `__init__` that calls no other."""


special = st.sampled_from(
    [
        "__str__",
        "__repr__",
        "__reduce__",
        "__reduce_ex__",
        "__setstate__",
        "__eq__",
        "__hash__",
        "__bool__",
        "__getattr__",
        "__init_subclass__",
        "__copy__",
        "__deepcopy__",
        "__format__",
        "__setattr__",
        "with_traceback",
        "add_note",
        "derive",
    ]
)


@given(
    bases=st.lists(built_ins, min_size=1, max_size=3, unique=True),
    methods=st.sets(special),
    slots=st.sets(st.sampled_from(["code", "connection", "args_of_mine"])),
    attributes=st.dictionaries(
        st.sampled_from(["code", "connection", "message", "status"]),
        st.sampled_from([1, "text", UNSTORABLE, None, [1, UNSTORABLE]]),
    ),
    args=st.lists(st.sampled_from([1, "text", UNSTORABLE]), max_size=3),
)
def test_any_class_is_caught(
    bases: list[type], methods: set[str], slots: set[str], attributes: dict[str, Any], args: list[Any]
) -> None:
    namespace: dict[str, Any] = {
        "__module__": HERE,
        "__init__": _make,
        "__slots__": tuple(slots),
        **dict.fromkeys(methods, _raise),
    }
    if "__init_subclass__" in namespace:
        namespace["__init_subclass__"] = classmethod(_raise)
    try:
        cls = type("Generated", tuple(bases), namespace)
    except TypeError:
        return  # Python does not allow it.
    globals()["Generated"] = cls
    try:
        error: Any = built_in_of(cls).__new__(cls, *args)
    except TypeError:
        return
    for name, value in attributes.items():
        BaseException.__setattr__(error, name, value)
    text, now = dump_error(JSON, error)
    again = load_error(JSON, text)
    for each in (now, again):
        assert isinstance(each, cls)
        assert type(each) in (cls, type(now))
    assert BaseException.__getattribute__(again, "__class__") is type(now)
    if isinstance(now, DBOSRecordedError):
        assert str(again) == str(now)
        assert type(copy.deepcopy(now)) is type(now)
