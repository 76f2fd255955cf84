"""Values and errors come back exactly as they were stored, or are refused where they were passed."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import enum
import errno
import inspect
import json
import math
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import programs
from tidings import error as errors
from tidings.error import DBOSLimitError, DBOSRecordedError, DBOSSerializationError
from tidings.limits import MAX_VALUE_BYTES
from tidings.serialization import (
    JSONSerializer,
    PickleSerializer,
    Serializer,
    dump,
    dump_error,
    load,
    load_error,
    typed_json,
)
from tidings.serialization.typed_json import _READERS, MAX_DEPTH

JSON = JSONSerializer()
HERE = __name__

# --- classes to store -----------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "r"
    GREEN = ("g", 1)
    ALSO_RED = "r"  # noqa: PIE796  # an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


@dataclasses.dataclass
class Order:
    id: Any
    items: Any = dataclasses.field(default_factory=list)
    total: Any = dataclasses.field(init=False, default=None)

    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        Order.made += 1
        self._private = ("private", self.id)


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0

    @cached_property
    def length(self) -> float:
        return math.hypot(self.x, self.y)


@dataclasses.dataclass(slots=True)
class Slotted:
    a: Any
    __b: Any = 2


@dataclasses.dataclass(slots=True)
class SlottedChild(Slotted):
    c: Any = 3


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Outer:
    @dataclasses.dataclass
    class Inner:
        x: int


class Pair(NamedTuple):
    left: Any
    right: Any = None


class NamedPair(namedtuple("NamedPair", "a b")):
    __slots__ = ()


class Loose(namedtuple("Loose", "a")):  # noqa: SLOT002  # it is to have a __dict__
    pass


class Item(msgspec.Struct):
    name: Any
    price: Any = 0


class FrozenItem(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", tag="x", array_like=True):
    item_name: Any
    made_by: Any = ()


class CheckedItem(msgspec.Struct, dict=True):
    price: Any

    def __post_init__(self) -> None:
        self.price = ("checked", self.price)


@attrs.define
class Ship:
    name: Any
    _secret: Any = attrs.field(default=1, alias="secret")
    crew: Any = attrs.field(init=False, factory=list, converter=list)

    @cached_property
    def shout(self) -> str:
        return f"{self.name}!"


@attrs.frozen(cache_hash=True)
class FrozenShip:
    name: Any


@attrs.define(slots=False)
class DictShip:
    name: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: int = 0
    tags: Any = ()
    _hidden: Any = pydantic.PrivateAttr(default=5)


class Child(Model):
    parent: Model | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Child:
        if self.id == 13:
            raise ValueError("never 13")
        return self


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


IntPage = Page[int]


@pydantic.dataclasses.dataclass
class PydanticPoint:
    x: int = pydantic.Field(default=1)


class OddError(Exception):
    """Its `__init__` does not take its `args`."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}: {detail}")
        self.code = code
        self.detail = detail


class SilentError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class BoomError(Exception):
    """Rebuilding it must not run its code."""

    armed = False

    def __new__(cls, *args: Any) -> BoomError:
        assert not cls.armed
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        assert not self.armed
        super().__init__(*args)

    def __reduce__(self) -> Any:
        raise AssertionError

    def __setstate__(self, state: Any) -> None:
        raise AssertionError


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@dataclasses.dataclass(slots=True)
class SlottedError(Exception):
    code: int


@attrs.define
class AttrsError(Exception):
    code: int


class FileLikeError(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOENT, "gone", name)
        self.attempt = 3


class ManyError(ExceptionGroup[Exception]):
    pass


class CodedGroup(ExceptionGroup[Exception]):
    """As in Python's documentation; its args are not a group's."""

    def __new__(cls, excs: list[Exception], code: int) -> CodedGroup:
        made = super().__new__(CodedGroup, f"exit code: {code}", excs)
        made.code = code
        return made

    code: int


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class MyStr(str):
    __slots__ = ()


class MyDict(dict[str, int]):
    pass


@dataclasses.dataclass
class DataDict(dict[str, int]):
    x: int = 1


class Ordinary:
    x = 1


# --- comparing exactly ----------------------------------------------------------------------------


def state_of(value: Any) -> Any:
    """All that a test can see of an instance, taken by other means than the code under test."""
    if isinstance(value, BaseException):
        return [list(value.args), vars(value), value.__cause__, value.__suppress_context__]
    if isinstance(value, pydantic.BaseModel):
        return [vars(value), value.model_fields_set, value.__pydantic_extra__, value.__pydantic_private__]
    if isinstance(value, msgspec.Struct):
        return [msgspec.structs.asdict(value), getattr(value, "__dict__", None)]
    if attrs.has(type(value)):
        return {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)} | {
        name: found for name, found in getattr(value, "__dict__", {}).items() if name != "length"
    }


def facts(value: Any) -> Any:
    """Return what makes up `value`, types included, as something that == compares exactly."""
    found: Any = value
    match value:
        case enum.Enum():
            found = id(value)
        case float():
            found = "nan" if math.isnan(value) else struct.pack("d", value)
        case Decimal():
            found = value.as_tuple()
        case datetime() | time():
            zone = value.tzinfo
            found = (value.replace(tzinfo=None), value.fold, type(zone), str(zone), value.utcoffset(), value.tzname())
        case dict():
            found = [(facts(key), facts(item)) for key, item in value.items()]
        case set() | frozenset():
            found = [facts(item) for item in sorted(value, key=JSON.serialize)]
        case list() | tuple():
            found = [facts(item) for item in value]
        case None | bool() | int() | str() | bytes() | date() | timedelta() | uuid.UUID():
            pass
        case _:
            found = facts(state_of(value))
    return (type(value), found)


def same(a: Any, b: Any) -> bool:
    """Whether `a` and `b` are equal in type and value all the way down."""
    return bool(facts(a) == facts(b))


def round_trip(value: Any) -> Any:
    text = dump(JSON, value, "the value")
    assert "\0" not in text
    text.encode()
    return load(JSON, text, "the value")


def assert_round_trips(value: Any) -> None:
    before = facts(value)
    again = round_trip(value)
    assert facts(again) == before, (again, value)
    assert facts(value) == before, "serializing changed the value"


# --- round trips ----------------------------------------------------------------------------------

offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
zones: st.SearchStrategy[tzinfo | None] = st.one_of(
    st.none(),
    st.just(UTC),
    st.builds(timezone, offsets),
    st.builds(timezone, offsets, st.text(max_size=5)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]).map(ZoneInfo),
)
folds = st.sampled_from([0, 1])
keys_and_texts = st.text(max_size=8) | st.sampled_from(["$tidings", "v", "cls", "\0", "$", "é", "\u2028"])
numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats()
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    keys_and_texts,
    st.binary(max_size=8),
    st.builds(lambda d, z, f: d.replace(tzinfo=z, fold=f), st.datetimes(), zones, folds),
    st.dates(),
    st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([*Color, *Level, *Word, *Access, *Bits]),
    st.integers(0, 3).map(Access),
    st.integers(0, 99).map(Bits),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(FrozenItem, item_name=inner),
        st.builds(FrozenShip, inner),
    ),
    max_leaves=5,
)


def _with(value: Any, **attributes: Any) -> Any:
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    errors_of = st.sampled_from([ValueError, KeyError, OSError, SystemExit, StopIteration, SilentError])
    exceptions = st.builds(lambda kind, arg: kind(arg), errors_of, inner)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.dictionaries(keys_and_texts, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.builds(Order, inner, inner).map(lambda order: _with(order, extra=order.id)),
        st.builds(Slotted, inner, inner),
        st.builds(SlottedChild, inner, inner, inner),
        st.builds(NamedPair, inner, inner),
        st.builds(Item, inner, inner),
        st.builds(CheckedItem, inner).map(lambda item: _with(item, extra=1)),
        st.builds(Ship, inner, inner),
        st.builds(DictShip, inner),
        st.builds(Model, tags=inner, anything=inner),
        st.builds(
            lambda parent, x: Child.model_validate({"id": 3, "parent": Model(tags=parent), "more": x}), inner, inner
        ),
        exceptions,
        st.builds(lambda error, x: _with(error, __cause__=OddError(4, detail="d"), note=x), exceptions, inner),
        st.builds(lambda error: ManyError("many", [ValueError(1), ExceptionGroup("in", [error])]), st.builds(KeyError)),
    )


values = st.recursive(hashable_leaves | st.decimals(), _containers, max_leaves=12)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
@example(float("nan"))
@example([float("-inf"), -0.0, 1.0, 1e16, 5e-324, 1.7976931348623157e308])
@example([2**63, 2**64, -(2**63) - 1, 10**30, -(10**5000), 10**4299, True])
@example([10**650, ()])
@example({"$tidings": "tuple", "v": [1]})
@example({"$tidings": {"$tidings": None}})
@example([{"a": "$tidings"}, '"$tidings"', "$tidings"])
@example({1: "int", "1": "str", 1.5: "float", None: "none", (1, 2): "tuple"})
@example(datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")))
@example([datetime(1, 1, 1), datetime.max.replace(tzinfo=UTC), date.min, time.max, timedelta.min, timedelta.max])  # noqa: DTZ001
@example([time(tzinfo=timezone(timedelta(microseconds=us), *name)) for us in (1, -1) for name in ((), ("tiny",))])
@example([Decimal("sNaN123"), Decimal("-0E-99"), Decimal("-Infinity"), Decimal("1E+999999")])
def test_every_value_comes_back_exactly(value: Any) -> None:
    assert_round_trips(value)


@given(plain_values)
def test_plain_json_is_stored_as_plain_json(value: Any) -> None:
    text = dump(JSON, value, "the value")
    assert text == msgspec.json.encode(value).decode()
    assert same(json.loads(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-7, "-7"),
        (10**30, "1" + "0" * 30),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        ('é\0\n"', r'"é\u0000\n\""'),
        ([], "[]"),
        ({"b": [1, {"a": None}], "a": "$tidings"}, '{"b":[1,{"a":null}],"a":"$tidings"}'),
        (math.nan, '{"$tidings":"float","v":"nan"}'),
        (-math.inf, '{"$tidings":"float","v":"-inf"}'),
        pytest.param(10**5000, f'{{"$tidings":"int","v":"{hex(10**5000)}"}}', id="wide"),
        ((1, (2,)), '{"$tidings":"tuple","v":[1,{"$tidings":"tuple","v":[2]}]}'),
        ({3, 1, 2}, '{"$tidings":"set","v":[1,2,3]}'),
        (frozenset("a"), '{"$tidings":"frozenset","v":["a"]}'),
        ({1: "one"}, '{"$tidings":"dict","v":[[1,"one"]]}'),
        ({"$tidings": 1}, '{"$tidings":"dict","v":[["$tidings",1]]}'),
        (b"\0\xff", '{"$tidings":"bytes","v":"AP8="}'),
        (date(2024, 2, 29), '{"$tidings":"date","v":"2024-02-29"}'),
        (time(1, 2, fold=1), '{"$tidings":"time","v":"01:02:00","fold":1}'),
        (datetime(2024, 1, 2, tzinfo=UTC), '{"$tidings":"datetime","v":"2024-01-02T00:00:00+00:00"}'),
        (
            datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1), "MEZ")),
            '{"$tidings":"datetime","v":"2024-01-02T00:00:00+01:00","name":"MEZ"}',
        ),
        (
            datetime(2024, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")),
            '{"$tidings":"datetime","v":"2024-01-02T00:00:00+01:00","zone":"Europe/Berlin"}',
        ),
        (timedelta(days=1, microseconds=-1), '{"$tidings":"timedelta","v":[0,86399,999999]}'),
        (uuid.UUID(int=1), '{"$tidings":"uuid","v":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.50"), '{"$tidings":"decimal","v":"1.50"}'),
        (Color.ALSO_RED, f'{{"$tidings":"enum","cls":"{HERE}:Color","v":"RED"}}'),
        (Access.READ | Access.WRITE, f'{{"$tidings":"enum","cls":"{HERE}:Access","v":3}}'),
        (Pair(1), f'{{"$tidings":"namedtuple","cls":"{HERE}:Pair","v":{{"left":1,"right":null}}}}'),
        (
            Point(1, (2,)),
            f'{{"$tidings":"object","cls":"{HERE}:Point","v":{{"x":1,"y":{{"$tidings":"tuple","v":[2]}}}}}}',
        ),
        (Item("a"), f'{{"$tidings":"object","cls":"{HERE}:Item","v":{{"name":"a","price":0}}}}'),
        (Outer.Inner(1), f'{{"$tidings":"object","cls":"{HERE}:Outer.Inner","v":{{"x":1}}}}'),
        (KeyError("a"), '{"$tidings":"exception","cls":"builtins:KeyError","v":{"args":["a"]}}'),
        (
            OSError(2, "gone", "f"),
            '{"$tidings":"exception","cls":"builtins:FileNotFoundError","v":{"args":[2,"gone"],"filename":"f"}}',
        ),
    ],
)
def test_the_stored_form(value: Any, text: str) -> None:
    """What is stored today must be read by every later version, so these texts never change."""
    assert dump(JSON, value, "the value") == text
    assert same(load(JSON, text, "the value"), value)


def test_sets_are_the_same_text_however_they_were_filled() -> None:
    forwards, backwards = {str(n) for n in range(50)}, {str(n) for n in reversed(range(50))}
    assert dump(JSON, forwards, "") == dump(JSON, backwards, "")


def test_json_written_by_others_is_read() -> None:
    assert load(JSON, ' {"a" : [1e2, -0, "\\u00e9"], "a": 1 }\n', "") == {"a": 1}
    assert load(JSON, '{"\\u0024tidings":"tuple"}', "") == {"$tidings": "tuple"}


def test_no_code_of_a_class_runs_when_its_instances_are_rebuilt() -> None:
    order = Order(1)
    texts = [dump(JSON, value, "") for value in (order, Child.model_construct(id=13), BoomError(1))]
    made = Order.made
    BoomError.armed = True
    try:
        again, child, boom = [load(JSON, text, "") for text in texts]
    finally:
        BoomError.armed = False
    assert Order.made == made
    assert again._private == ("private", 1)
    assert child.id == 13
    assert boom.args == (1,)


def test_what_an_instance_only_caches_is_not_stored() -> None:
    point, ship, frozen = Point(3, 4), Ship("a"), FrozenShip("a")
    assert (point.length, ship.shout, isinstance(hash(frozen), int)) == (5.0, "a!", True)
    assert "length" not in dump(JSON, point, "")
    assert "shout" not in dump(JSON, ship, "")
    assert str(hash(frozen)) not in dump(JSON, frozen, "")
    assert round_trip(point).length == 5.0
    assert round_trip(ship).shout == "a!"
    assert {round_trip(frozen)} == {frozen}


def test_generic_classes() -> None:
    assert same(round_trip(Box[int](1)), Box(1))
    assert same(round_trip(IntPage(items=[1])), IntPage(items=[1]))
    assert same(round_trip(PydanticPoint(3)), PydanticPoint(3))


def test_the_types_of_pydantic_are_kept() -> None:
    child = Child.model_validate({"id": 1, "parent": Model(id=2, tags={1}), "extra": b"x"})
    child._hidden = {"a": (1,)}
    again = round_trip(child)
    assert again == child
    assert again._hidden == {"a": (1,)}
    assert again.model_fields_set == {"id", "parent", "extra"}
    assert type(again.parent) is Model


# --- what is refused ------------------------------------------------------------------------------


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def impostor() -> Any:
    """An instance of a class whose name is another's."""
    made = dataclasses.make_dataclass("Point", ["x"])
    made.__module__ = HERE
    return made(1)


def cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append({"again": items})
    return items


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (object(), "$", "cannot be stored"),
        ({"order": {"items": [0, 1, 2, len]}}, "$.order.items[3]", "the function len cannot be stored; call missing"),
        ({"a b": (1, {2: print})}, "$['a b'][1][2]", "cannot be stored"),
        ({(1, 2): [print]}, "$[(1, 2)][0]", "cannot be stored"),
        ({print: 1}, "$[<built-in function print>]", "cannot be stored"),
        ([{1, print}], "$[0][*]", "cannot be stored"),
        (Order([1, Item({"x": Slotted(print)})]), "$.id[1].name.x.a", "cannot be stored"),
        (Pair(1, print), "$.right", "cannot be stored"),
        (Model(tags=[print]), "$.tags[0]", "cannot be stored"),
        (ValueError(1, print), "$.args[1]", "cannot be stored"),
        (_with(ValueError(1), __cause__=KeyError(print)), "$.__cause__.args[0]", "cannot be stored"),
        (MyStr("x"), "$", "MyStr is a subclass of str; convert it to a plain str"),
        ({"a": MyDict(a=1)}, "$.a", "a subclass of dict"),
        ({MyStr("k"): 1}, "$['k']", "a subclass of str"),
        (OrderedDict(a=1), "$", "OrderedDict is a subclass of dict"),
        (defaultdict(int), "$", "a subclass of dict"),
        (DataDict(1), "$", "a subclass of dict"),
        (Loose(1).__class__, "$", "cannot be stored"),
        (_with(Loose(1), extra=1), "$", "more or less than the fields"),
        (Ordinary(), "$", "cannot be stored"),
        (Ordinary, "$", "cannot be stored"),
        (bytearray(b"x"), "$", "cannot be stored"),
        (range(3), "$", "cannot be stored"),
        (1j, "$", "cannot be stored"),
        (Path("/"), "$", "cannot be stored"),
        (iter([]), "$", "cannot be stored"),
        ([local_class()], "$[0]", "cannot be found again by its name"),
        (impostor(), "$", "cannot be found again by its name"),
        (enum.Enum("Made", "A", module="nowhere").A, "$", "cannot be found again by its name"),  # type: ignore[attr-defined]
        (["ok", "\ud800"], "$[1]", "lone surrogate"),
        ({"x": {"k\udfff": 1}}, "$.x['k\\udfff']", "lone surrogate"),
        ((1, "\ud800"), "$[1]", "lone surrogate"),
        (CodedGroup([ValueError()], 3), "$", "its args cannot make it again"),
    ],
)
def test_what_cannot_come_back_is_refused_by_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(DBOSSerializationError) as caught:
        dump(JSON, value, "the message")
    assert caught.value.path == path
    assert str(caught.value).startswith(f"the message: {path}: ")
    assert reason in str(caught.value)
    str(caught.value).encode()


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value = wrap(1)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


wraps = [
    pytest.param(lambda value: [value], id="list"),
    pytest.param(lambda value: [1.5, value], id="list-with-float"),
    pytest.param(lambda value: {"a": value}, id="dict"),
    pytest.param(lambda value: {1: value}, id="pairs"),
    pytest.param(lambda value: (value,), id="tuple"),
    pytest.param(lambda value: frozenset([value]), id="frozenset"),
    pytest.param(Point, id="dataclass"),
    pytest.param(Item, id="struct"),
    pytest.param(Pair, id="namedtuple"),
]


@pytest.mark.parametrize("wrap", wraps)
def test_depth_is_bounded(wrap: Callable[[Any], Any]) -> None:
    assert same(round_trip(nested(MAX_DEPTH, wrap)), nested(MAX_DEPTH, wrap))
    with pytest.raises(DBOSSerializationError, match="which is the limit"):
        dump(JSON, nested(MAX_DEPTH + 1, wrap), "the value")


def test_any_depth_is_refused_alike() -> None:
    with pytest.raises(DBOSSerializationError, match="which is the limit"):
        dump(JSON, nested(50_000, lambda inner: [inner]), "the value")


@pytest.mark.parametrize("value", [cycle(), {"in": cycle()}, (cycle(),), Order(cycle())])
def test_cycles_are_refused(value: Any) -> None:
    with pytest.raises(DBOSSerializationError, match="contains itself") as caught:
        dump(JSON, value, "the value")
    assert "…" in caught.value.path
    assert len(str(caught.value)) < 500


def test_causes_in_a_circle_are_refused() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(DBOSSerializationError, match="contains itself"):
        dump(JSON, first, "the value")


def test_a_stack_without_room_is_a_clear_error() -> None:
    value = nested(100, lambda inner: [inner, ()])
    text = dump(JSON, value, "")

    def call(what: Callable[[], object], calls_deep: int) -> object:
        return what() if calls_deep == 0 else call(what, calls_deep - 1)

    near_the_end = sys.getrecursionlimit() - len(inspect.stack(0)) - 80
    with pytest.raises(DBOSSerializationError, match="too deeply for the stack"):
        call(lambda: dump(JSON, value, ""), near_the_end)
    with pytest.raises(DBOSSerializationError, match="too deeply for the stack"):
        call(lambda: load(JSON, text, ""), near_the_end)


def test_values_have_a_largest_size() -> None:
    dump(JSON, "x" * (MAX_VALUE_BYTES - 2), "the value")
    with pytest.raises(DBOSLimitError, match="the message would take 16,777,218 bytes"):
        dump(JSON, "x" * MAX_VALUE_BYTES, "the message")


# --- nothing read can run code --------------------------------------------------------------------


def record(tag: str, cls: object, v: object) -> str:
    return json.dumps({"$tidings": tag, "cls": cls, "v": v})


class_names: list[object] = [
    "os:system",
    "builtins:eval",
    "builtins:object",
    "builtins:type",
    "builtins:dict",
    "subprocess:Popen",
    "os:path.join",
    f"{HERE}:Ordinary",
    f"{HERE}:local_class.<locals>.Local",
    f"{HERE}:Outer",
    f"{HERE}:Order.__init__",
    f"{HERE}:DataDict",
    f"{HERE}:JSON",
    "no_such_module:X",
    "",
    ":",
    "builtins",
    None,
    1,
    ["os", "system"],
    {"$tidings": "tuple"},
]


known_names = [
    f"{HERE}:{name}" for name in ("Color", "Access", "Bits", "Order", "Slotted", "Pair", "Item", "Model", "Ship")
]
known_names += [f"builtins:{name}" for name in ("OSError", "UnicodeDecodeError", "SyntaxError", "ExceptionGroup")]


@pytest.mark.parametrize("cls", class_names)
@pytest.mark.parametrize("tag", ["object", "enum", "namedtuple", "exception"])
def test_no_other_class_is_used(tag: str, cls: object) -> None:
    before = dict(sys.modules)
    for v in ({}, {"args": ["true"]}, "true", ["true"], None):
        with pytest.raises(DBOSSerializationError):
            load(JSON, record(tag, cls, v), "the message")
    assert sys.modules == before


@pytest.mark.parametrize(
    ("tag", "cls"),
    [("exception", Point), ("object", ValueError), ("object", Color), ("enum", Point), ("namedtuple", Point)],
)
def test_a_class_is_used_only_for_its_kind(tag: str, cls: type) -> None:
    for v in ({"x": 1, "y": 1, "args": []}, "RED"):
        with pytest.raises(DBOSSerializationError, match=f"{cls.__module__}:{cls.__qualname__}"):
            load(JSON, record(tag, f"{cls.__module__}:{cls.__qualname__}", v), "the message")


@pytest.mark.parametrize("module", ["unseen_module", "unseen_package.inner", "this", "antigravity"])
def test_no_module_is_imported(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unseen_package").mkdir()
    for name in ("unseen_module.py", "unseen_package/__init__.py", "unseen_package/inner.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(sys.modules)
    for tag in ("object", "enum", "exception"):
        with pytest.raises(DBOSSerializationError, match=f"import the module '{module}'"):
            load(JSON, record(tag, f"{module}:X", {}), "the message")
    assert sys.modules == before


def test_looking_for_a_class_runs_no_lazy_module_or_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class LazyModule(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise AssertionError

    def must_not_be_called(name: str) -> Any:
        raise AssertionError(name)

    eager = ModuleType("eager")
    vars(eager).update(__getattr__=must_not_be_called, proxy=Proxy())
    monkeypatch.setitem(sys.modules, "lazy", LazyModule("lazy"))
    monkeypatch.setitem(sys.modules, "eager", eager)
    monkeypatch.setitem(sys.modules, "not_a_module", Proxy())
    for name in ("lazy:X", "eager:X", "eager:proxy", "eager:proxy.x", "not_a_module:X"):
        with pytest.raises(DBOSSerializationError, match="does not exist in this program"):
            load(JSON, record("object", name, {}), "the message")


@pytest.mark.parametrize("fields", [{"__class__": "x"}, {"a": 1, "__class__": 1}, {"a": 1, "__doc__": 1}])
def test_only_fields_are_set(fields: dict[str, object]) -> None:
    with pytest.raises(DBOSSerializationError, match="field"):
        load(JSON, record("object", f"{HERE}:Slotted", fields | {"_Slotted__b": 1}), "the message")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nul",
        "[1",
        '"\0"',
        "1e400",
        "[" * 100_000,
        '{"$tidings":[]}',
        '{"$tidings":null}',
        '{"$tidings":"from the future"}',
        '{"$tidings":"tuple"}',
        '{"$tidings":"tuple","v":1}',
        '{"$tidings":"tuple","v":{"a":1}}',
        '{"$tidings":"set","v":[[]]}',
        '{"$tidings":"dict","v":[1]}',
        '{"$tidings":"dict","v":[[[],1]]}',
        '{"$tidings":"int","v":"ten"}',
        '{"$tidings":"bytes","v":"é"}',
        '{"$tidings":"bytes","v":"A"}',
        '{"$tidings":"date","v":"today"}',
        '{"$tidings":"datetime","v":"2024-01-01T00:00:00","zone":"../../etc/passwd"}',
        '{"$tidings":"datetime","v":"2024-01-01T00:00:00","zone":"/etc/passwd"}',
        '{"$tidings":"datetime","v":"2024-01-01T00:00:00","name":"X"}',
        '{"$tidings":"timedelta","v":[1e300]}',
        '{"$tidings":"uuid","v":"1"}',
        '{"$tidings":"decimal","v":"one"}',
        record("enum", f"{HERE}:Color", "BLUE"),
        record("enum", f"{HERE}:Color", 1),
        record("enum", f"{HERE}:Access", 64),
        record("enum", f"{HERE}:Access", []),
        record("namedtuple", f"{HERE}:Pair", {"right": 1}),
        record("namedtuple", f"{HERE}:Pair", {"left": 1, "middle": 1}),
        record("namedtuple", f"{HERE}:Pair", [1, 2]),
        record("object", f"{HERE}:Item", {"price": 1}),
        record("object", f"{HERE}:Item", {"name": 1, "cost": 1}),
        record("exception", "builtins:KeyError", {}),
        record("exception", "builtins:KeyError", {"args": [], "__cause__": 1}),
        record(
            "exception", "builtins:UnicodeDecodeError", {"args": ["utf-8", {"$tidings": "bytes", "v": ""}, -9, -8, ""]}
        ),
    ],
)
def test_damaged_text_is_a_clear_error(text: str) -> None:
    with pytest.raises(DBOSSerializationError, match=r"^the message: \$"):
        load(JSON, text, "the message")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "RED", "id", "x", "2024-01-01"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["args", "x", "left", "name", "__class__", "__cause__", "a"]), inner, max_size=3
        ),
        st.fixed_dictionaries(
            {"$tidings": st.sampled_from(sorted(_READERS))},
            optional={
                "cls": st.sampled_from(class_names) | st.sampled_from(known_names),
                "v": inner,
                "zone": inner,
                "name": inner,
            },
        ),
    ),
    max_leaves=8,
)


@given(json_values)
def test_no_text_does_worse_than_be_refused(value: Any) -> None:
    try:
        again = load(JSON, json.dumps(value), "the message")
    except DBOSSerializationError:
        return
    str(again)


def test_reading_names_the_path() -> None:
    text = '{"orders":[{"$tidings":"tuple","v":[{"$tidings":"object","cls":"gone:Order","v":{}}]}]}'
    with pytest.raises(
        DBOSSerializationError, match=r"the message: \$\.orders\[0\]\[0\]: its class 'gone:Order'"
    ) as caught:
        load(JSON, text, "the message")
    assert caught.value.path == "$.orders[0][0]"


# --- classes that change --------------------------------------------------------------------------


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that a test may change, as another version of a program would."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


def publish(module: ModuleType, cls: Any) -> Any:
    cls.__module__ = module.__name__
    cls.__qualname__ = cls.__name__
    setattr(module, cls.__name__, cls)
    return cls


@pytest.mark.parametrize("slots", [False, True])
def test_a_field_that_was_added_takes_its_default(shop: ModuleType, slots: bool) -> None:
    text = dump(JSON, publish(shop, dataclasses.make_dataclass("Order", ["id"], slots=slots))(1), "")
    fields: list[Any] = ["id", ("size", int, 3), ("items", list, dataclasses.field(default_factory=list))]
    changed = publish(shop, dataclasses.make_dataclass("Order", fields, slots=slots))
    assert load(JSON, text, "") == changed(1, 3, [])
    publish(shop, dataclasses.make_dataclass("Order", ["id", "size"], slots=slots))
    with pytest.raises(
        DBOSSerializationError, match="lacks the field 'size' that the class Order has; give it a default"
    ):
        load(JSON, text, "")


def test_added_fields_of_other_kinds_take_their_defaults(shop: ModuleType) -> None:
    def version(number: int) -> list[Any]:
        a: Any = {"x": attrs.field()}
        p: Any = {"x": (int, ...)}
        s: Any = ["x"]
        if number == 2:
            a |= {"y": attrs.field(default=2), "z": attrs.field(factory=list)}
            p |= {"y": (int, 2), "z": (list, pydantic.Field(default_factory=list))}
            s += [("y", int, 2), ("z", list, msgspec.field(default_factory=list))]
        return [
            publish(shop, attrs.make_class("A", a)),
            publish(shop, pydantic.create_model("P", **p)),
            publish(shop, msgspec.defstruct("S", s)),
            publish(
                shop, namedtuple("N", ["x", "y", "z"][: 1 + 2 * (number == 2)], defaults=[2, []][: 2 * (number == 2)])
            ),
        ]

    texts = [dump(JSON, cls(x=1), "") for cls in version(1)]
    for text, cls in zip(texts, version(2), strict=True):
        again = load(JSON, text, "")
        assert type(again) is cls
        assert (again.x, again.y, again.z) == (1, 2, [])


def test_a_field_that_was_removed_is_never_dropped_silently(shop: ModuleType) -> None:
    text = dump(JSON, publish(shop, dataclasses.make_dataclass("Order", ["id", "size"], slots=True))(1, 2), "")
    publish(shop, dataclasses.make_dataclass("Order", ["id"], slots=True))
    with pytest.raises(DBOSSerializationError, match="the class Order lacks the field 'size'"):
        load(JSON, text, "")
    publish(shop, dataclasses.make_dataclass("Order", ["id"]))
    assert load(JSON, text, "").size == 2


def test_a_class_that_moved_is_found_by_its_alias(shop: ModuleType) -> None:
    text = dump(JSON, publish(shop, dataclasses.make_dataclass("Order", ["x", "y"]))(1, 2), "")
    vars(shop)["Order"] = Point
    assert load(JSON, text, "") == Point(1, 2)
    del vars(shop)["Order"]
    with pytest.raises(DBOSSerializationError, match=r"'shop:Order' does not exist .* import the module 'shop'"):
        load(JSON, text, "")


def test_a_class_that_was_replaced_is_refused(shop: ModuleType) -> None:
    old = publish(shop, dataclasses.make_dataclass("Order", ["x"]))(1)
    dump(JSON, old, "")
    new = publish(shop, dataclasses.make_dataclass("Order", ["x"]))
    with pytest.raises(DBOSSerializationError, match="cannot be found again by its name"):
        dump(JSON, old, "")
    assert type(round_trip(new(1))) is new


def test_classes_of_main_are_stored() -> None:
    program = (
        "from dataclasses import dataclass\n"
        "from tidings.serialization import JSONSerializer\n"
        "@dataclass\n"
        "class Order:\n    id: int\n"
        "text = JSONSerializer().serialize(Order(1))\n"
        "assert JSONSerializer().deserialize(text) == Order(1)\n"
        "print(text)"
    )
    done = programs.run(*programs.python("-c", program))
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"$tidings":"object","cls":"__main__:Order","v":{"id":1}}\n'


def test_threads_share_the_knowledge_of_classes(shop: ModuleType) -> None:
    threads = 8
    classes = [publish(shop, dataclasses.make_dataclass(f"C{number}", ["x", "y"])) for number in range(50)]
    start = threading.Barrier(threads)

    def work(_: int) -> list[str]:
        start.wait()
        texts = [dump(JSON, cls(1, (2,)), "") for cls in classes]
        assert [load(JSON, text, "") for text in texts] == [cls(1, (2,)) for cls in classes]
        return texts

    with ThreadPoolExecutor(threads) as pool:
        assert len({tuple(texts) for texts in pool.map(work, range(threads))}) == 1


# --- errors ---------------------------------------------------------------------------------------


def raised(error: BaseException, cause: BaseException | None = None, suppress: bool = False) -> BaseException:
    """Return `error` as it is once it was raised."""
    try:
        if suppress or cause is not None:
            raise error from cause
        raise error
    except BaseException as caught:
        return caught


def unicode_error() -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"abc\xff".decode()
    return caught.value


def attribute_error() -> AttributeError:
    with pytest.raises(AttributeError) as caught:
        Ordinary().missing  # type: ignore[attr-defined]  # noqa: B018
    return caught.value


def syntax_error() -> SyntaxError:
    with pytest.raises(SyntaxError) as caught:
        compile("a b\n", "file.py", "exec")
    return caught.value


own_errors: list[BaseException] = [
    errors.DBOSConflictingRegistrationError("name", "a.f", "b.f"),
    errors.DBOSLimitError("too long"),
    DBOSSerializationError("$.x: no", "$.x"),
    errors.DBOSNonExistentWorkflowError("a", "b"),
    errors.DBOSConflictingWorkflowError("id", "f", "g"),
    errors.DBOSWorkflowFunctionNotFoundError("id", "f"),
    errors.DBOSUnexpectedStepError("id", "3", "send", "recv"),
    errors.DBOSMaxStepRetriesExceeded("step", 2, [ValueError(1), OddError(2, detail="d")]),
    errors.DBOSStepTimeoutError("step", "id", 2, 0.5),
    errors.DBOSStreamClosedError("id", "key"),
    errors.DBOSStreamTimeoutError("id", "key", 3, 1.5),
    errors.DBOSAwaitedWorkflowCancelledError("id"),
    errors.MaxRecoveryAttemptsExceededError("id", 3),
    errors.DBOSDamagedWorkflowError("id", "its epoch is NULL"),
    DBOSRecordedError("shop.Error", "message", "Traceback…"),
    errors.DBOSWorkflowCancelledError("id"),
    errors.DBOSRunEndedError("id", "shut down"),
    errors.DBOSShutdownError(),
    errors.DBOSShutdownError("tidings is not running"),
]
kept_errors: list[BaseException] = [
    *own_errors,
    *(
        getattr(errors, name)("x")
        for name in errors.__all__
        if getattr(errors, name).__init__ in (Exception.__init__, BaseException.__init__)
    ),
    Exception(),
    ValueError("é\0", (1, {2}), Point(1, 2)),
    KeyError("key"),
    OSError("only text"),
    OSError(errno.EACCES, "denied", "a", None, "b"),
    _with(OSError(errno.EACCES, "denied"), errno=3),
    BlockingIOError(errno.EAGAIN, "later", 12),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    FileLikeError("f"),
    subprocess.CalledProcessError(1, ["ls"], b"out", "err"),
    ImportError("no", name="m", path="/p"),
    StopIteration(3),
    StopAsyncIteration(),
    SystemExit(2),
    KeyboardInterrupt(),
    TimeoutError("late"),
    asyncio.CancelledError("why"),
    unicode_error(),
    UnicodeEncodeError("ascii", "é", 0, 1, "no"),
    syntax_error(),
    json.JSONDecodeError("bad", "doc", 1),
    OddError(1, detail="d"),
    SilentError(3),
    BoomError(1, 2),
    FrozenError(1),
    SlottedError(1),
    AttrsError(1),
    _with(ValueError(1), __notes__=["a note"]),
    ExceptionGroup("many", [ValueError(1), ExceptionGroup("in", (KeyError("k"), OddError(1, detail="d")))]),
    BaseExceptionGroup("base", [KeyboardInterrupt(), SystemExit(1)]),
    ManyError("mine", [OSError(2, "gone", "f")]),
    raised(ValueError(1), cause=raised(KeyError("k"), cause=OddError(1, detail="d"))),
    raised(ValueError(1), suppress=True),
    raised(FrozenError(1), cause=FrozenError(2)),
    _with(raised(ValueError(1), cause=KeyError(1)), __suppress_context__=False),
]


class Reversing:
    """A serializer of the user's, which takes only what it must: text."""

    def serialize(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError("only text")
        return value[::-1]

    def deserialize(self, text: str) -> Any:
        return text[::-1]

    def name(self) -> str:
        return "reversing"


serializers: list[Serializer] = [JSON, PickleSerializer(), Reversing()]


@pytest.mark.parametrize("serializer", serializers, ids=lambda serializer: serializer.name())
@pytest.mark.parametrize("error", kept_errors, ids=lambda error: type(error).__name__)
def test_errors_are_kept(error: BaseException, serializer: Serializer) -> None:
    text, now = dump_error(serializer, error)
    assert now is error
    again = load_error(serializer, text)
    assert same(again, error)
    assert str(again) == str(error)
    assert again is not error
    for name in ("errno", "filename", "filename2", "strerror", "code", "value", "name", "lineno", "exceptions"):
        assert same(getattr(again, name, None), getattr(error, name, None)), name


def test_the_object_of_an_attribute_error_is_left_out() -> None:
    error = attribute_error()
    text, now = dump_error(JSON, error)
    again = load_error(JSON, text)
    assert now is error
    assert isinstance(again, AttributeError)
    assert (again.name, str(again), again.obj) == ("missing", str(error), None)


def local_error() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("local")


def fickle_error() -> Exception:
    return FickleError("x")


class FickleError(Exception):
    def __str__(self) -> str:
        return f"object {id(self)}"


lost_errors: list[tuple[BaseException, str, str]] = [
    (local_error(), f"{HERE}.local_error.<locals>.LocalError", "local"),
    (ValueError("with", len), "ValueError", "('with', <built-in function len>)"),
    (_with(KeyError("k"), response=socket.socket), "KeyError", "'k'"),
    (ValueError("\ud800"), "ValueError", "\\ud800"),
    (CodedGroup([ValueError()], 3), f"{HERE}.CodedGroup", "exit code: 3"),
    (ExceptionGroup("g", [ValueError(len)]), "ExceptionGroup", "g"),
    (UnprintableError("x"), f"{HERE}.UnprintableError", "<its message cannot be printed>"),
]


@pytest.mark.parametrize("serializer", serializers, ids=lambda serializer: serializer.name())
@pytest.mark.parametrize(("error", "type_name", "message"), lost_errors, ids=lambda value: type(value).__name__)
def test_errors_that_cannot_be_rebuilt_are_recorded(
    error: BaseException, type_name: str, message: str, serializer: Serializer
) -> None:
    cause = KeyError("why")
    text, now = dump_error(serializer, raised(error, cause=cause))
    assert isinstance(now, DBOSRecordedError)
    assert (now.type_name, now.message) == (type_name, message)
    assert "raise error from cause\n" in now.traceback_text
    assert same(load_error(serializer, text), now)
    assert error.__cause__ is cause


def test_an_error_that_differs_from_its_copy_is_recorded() -> None:
    text, now = dump_error(JSON, FickleError())
    assert isinstance(now, DBOSRecordedError)
    assert same(load_error(JSON, text), now)


@pytest.mark.parametrize("kept", [ValueError("kept"), FrozenError(1)])
def test_a_cause_that_cannot_be_rebuilt_is_replaced_alone(kept: Exception) -> None:
    error = raised(kept, cause=raised(KeyError(len), cause=ValueError("deeper")))
    text, now = dump_error(JSON, error)
    assert now is error
    assert isinstance(now.__cause__, DBOSRecordedError)
    assert now.__cause__.type_name == "KeyError"
    assert "deeper" in now.__cause__.traceback_text
    assert same(load_error(JSON, text), now)


def test_causes_in_a_circle_end_at_a_record() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    text, now = dump_error(JSON, first)
    assert isinstance(now.__cause__, DBOSRecordedError)
    assert same(load_error(JSON, text), now)


@pytest.mark.parametrize("serializer", serializers, ids=lambda serializer: serializer.name())
def test_an_error_that_is_too_large_is_recorded_in_part(serializer: Serializer) -> None:
    text, now = dump_error(serializer, ValueError("a" * MAX_VALUE_BYTES + "z"))
    assert isinstance(now, DBOSRecordedError)
    assert now.message.startswith("aaa")
    assert now.message.endswith("aaz")
    assert len(text) < 1024 * 1024
    assert same(load_error(serializer, text), now)


def test_what_is_no_error_is_not_raised() -> None:
    with pytest.raises(DBOSSerializationError, match="not an exception"):
        load_error(JSON, "1")


def test_an_error_whose_class_is_gone_is_named() -> None:
    with pytest.raises(DBOSSerializationError, match=r"the error: \$: its class 'gone:Error'"):
        load_error(JSON, record("exception", "gone:Error", {"args": []}))


# --- other serializers ----------------------------------------------------------------------------


class Scripted:
    """A serializer that returns or raises what it was told."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    def serialize(self, _: Any) -> str:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome  # type: ignore[return-value]

    def deserialize(self, _: str) -> Any:
        return self.serialize(None)

    def name(self) -> str:
        return "scripted"


def test_pickle_takes_what_pickle_takes() -> None:
    pickled = PickleSerializer()
    value = {"a": OrderedDict(b=range(3)), "\ud800": 1j}
    assert load(pickled, dump(pickled, value, ""), "") == value
    with pytest.raises(DBOSSerializationError, match="the message cannot be stored: PickleSerializer failed with"):
        dump(pickled, threading.Lock(), "the message")
    for text in ("no base64", base64.b64encode(b"no pickle").decode()):
        with pytest.raises(DBOSSerializationError, match="the message cannot be read: PickleSerializer failed with"):
            load(pickled, text, "the message")


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (b"bytes", "Scripted returned bytes; serialize.. must return a str"),
        (None, "Scripted returned NoneType"),
        ("a\0b", "NUL"),
        ("\ud800", "lone surrogate"),
        (KeyError("key"), r"Scripted failed with KeyError\('key'\)"),
        (RecursionError("deep"), "Scripted failed with RecursionError"),
        (UnprintableError("\ud800"), "Scripted failed with UnprintableError"),
    ],
)
def test_a_serializer_that_misbehaves_is_named(outcome: object, problem: str) -> None:
    for attempt in (
        lambda: dump(Scripted(outcome), 1, "the message"),
        lambda: dump_error(Scripted(outcome), KeyError()),
    ):
        with pytest.raises(DBOSSerializationError, match=f"^the .* cannot be stored: .*{problem}") as caught:
            attempt()
        str(caught.value).encode()
        if isinstance(outcome, Exception):
            assert caught.value.__cause__ is outcome
            with pytest.raises(DBOSSerializationError, match=f"^the message cannot be read: .*{problem}"):
                load(Scripted(outcome), "text", "the message")


def test_a_serializer_may_refuse_by_path() -> None:
    with pytest.raises(DBOSSerializationError, match=r"^the message: no cards") as caught:
        dump(Scripted(DBOSSerializationError("no cards", "$.card")), 1, "the message")
    assert caught.value.path == "$.card"


def test_a_serializer_that_ends_the_program_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        dump(Scripted(KeyboardInterrupt()), 1, "the message")


def test_the_size_of_any_text_is_limited() -> None:
    with pytest.raises(DBOSLimitError, match="the message would take"):
        dump(Scripted("é" * MAX_VALUE_BYTES), 1, "the message")


def test_serializers_have_distinct_names() -> None:
    assert len({serializer.name() for serializer in serializers}) == len(serializers)


def test_every_error_of_ours_is_tried() -> None:
    assert set(errors.__all__) <= {type(error).__name__ for error in kept_errors}


# Each of them hashes to a few numbers only, in every process.
COLLIDING: dict[str, Callable[[int], list[Any]]] = {
    "integers": lambda count: [number * (2**61 - 1) for number in range(1, count + 1)],
    "negative integers": lambda count: [-number * (2**61 - 1) for number in range(1, count + 1)],
    "two hashes": lambda count: [number // 2 * (2**61 - 1) + number % 2 for number in range(2, count + 2)],
    "powers of two": lambda count: [2**number for number in range(count)],
    "tuples": lambda count: [(number * (2**61 - 1), "x") for number in range(1, count + 1)],
    "identifiers": lambda count: [uuid.UUID(int=number * (2**61 - 1)) for number in range(1, count + 1)],
    "decimals": lambda count: [Decimal(number * (2**61 - 1)) for number in range(1, count + 1)],
    "frozen sets": lambda count: [frozenset([number * (2**61 - 1)]) for number in range(1, count + 1)],
}


@pytest.mark.parametrize("kind", COLLIDING)
@pytest.mark.parametrize("container", ["set", "frozenset", "dict"])
def test_members_that_collide_are_refused_before_they_are_compared(kind: str, container: str) -> None:
    members = COLLIDING[kind](12_000)
    lowered = [typed_json.lower(each, 0) for each in members]
    stored = [[each, None] for each in lowered] if container == "dict" else lowered
    text = msgspec.json.encode({"$tidings": container, "v": stored}).decode()
    with pytest.raises(DBOSSerializationError, match=r"12000 (keys|members) have the same hash"):
        load(JSON, text, "the message")


@pytest.mark.parametrize("kind", COLLIDING)
def test_what_collides_too_often_to_be_read_is_not_stored(kind: str) -> None:
    members = COLLIDING[kind](1_000)
    if kind == "powers of two":
        members = COLLIDING[kind](8_000)
    for value in (set(members), frozenset(members), dict.fromkeys(members)):
        with pytest.raises(DBOSSerializationError, match="have the same hash"):
            dump(JSON, value, "the message")
        few = type(value)(list(value)[:50]) if not isinstance(value, dict) else dict.fromkeys(list(value)[:50])
        assert load(JSON, dump(JSON, few, "the message"), "the message") == few


@pytest.mark.parametrize(
    "value",
    [set(range(20_000)), {2.0**number for number in range(-1_000, 1_000)}, {number: number for number in range(9_000)}],
    ids=["numbers", "powers of two", "a dict"],
)
def test_large_sets_that_collide_no_more_than_others_are_kept(value: Any) -> None:
    assert load(JSON, dump(JSON, value, "the message"), "the message") == value
