"""Instances come back with what they held: no field more, none less, and in the order in which they had them."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import KW_ONLY, InitVar, dataclass, field
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import programs
from tidings.error import DBOSSerializationError
from tidings.serialization import JSONSerializer, dump, dump_error, load

JSON = JSONSerializer()


def back(value: Any) -> Any:
    return load(JSON, dump(JSON, value, "the value"), "the value")


@dataclass(init=False)
class Usage:
    """Its defaults are the class's alone until they are set."""

    d: int = 0
    c: int = 0
    b: int = 0
    a: int = 0


@dataclass
class Order:
    id: int
    items: list[Any] = field(default_factory=list)
    _: KW_ONLY
    total: int = 3
    note: str | None = None
    made: ClassVar[int] = 0
    price: InitVar[int] = 7

    def __post_init__(self, price: int) -> None:
        self.total = price


@dataclass
class Special(Order):
    z: int = 1
    id: int = 2  # an overridden field keeps its place
    y: int = field(init=False, default=5)


@dataclass(slots=True)
class Slotted:
    b: int
    a: list[Any] = field(default_factory=list)
    c: int = 3


@dataclass(slots=True, frozen=True, kw_only=True)
class FrozenSlotted:
    b: int = 1
    a: int = 2


@dataclass(slots=True)
class SlottedChild(Slotted):
    d: int = 4


class Plain(Usage):
    """Not a dataclass itself; it has a field that is none."""

    e = 3


class Descriptor:
    def __get__(self, instance: Any, owner: type) -> Any:
        return 7 if instance is None else instance.__dict__.get("_quantity", 7)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__["_quantity"] = value


@dataclass
class Described:
    before: int = 1
    quantity: Any = Descriptor()
    after: int = 2


@attrs.define
class Ship:
    name: str
    crew: list[str] = attrs.field(factory=list)
    port: str = attrs.field(init=False)


@attrs.define(slots=False)
class DictShip:
    name: str
    crew: list[str] = attrs.field(factory=list)
    port: str = attrs.field(init=False)


class Model(pydantic.BaseModel):
    id: int
    tags: list[str] = []
    note: str = "none"


@pydantic.dataclasses.dataclass
class PydanticOrder:
    id: int
    tags: list[str] = pydantic.Field(default_factory=list)
    note: str = "none"


class Pair(NamedTuple):
    right: Any = 1
    left: Any = 2


class Patch(msgspec.Struct, omit_defaults=True):
    name: str | msgspec.UnsetType = msgspec.UNSET
    size: int = 1


def made(cls: Any, **attributes: Any) -> Any:
    """Return an instance that no `__init__` has seen, with these attributes."""
    instance = object.__new__(cls)
    for name, value in attributes.items():
        object.__setattr__(instance, name, value)
    return instance


def without(instance: Any, *names: str) -> Any:
    for name in names:
        object.__delattr__(instance, name)
    return instance


def held(instance: Any) -> dict[str, Any]:
    """Return what an instance itself holds, in its order: found by other means than those under test."""
    found = {}
    for base in reversed(type(instance).__mro__):
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = (
                f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            )
            if mangled not in ("__dict__", "__weakref__") and hasattr(instance, mangled):
                found[mangled] = getattr(instance, mangled)
    return found | getattr(instance, "__dict__", {})


instances: list[Any] = [
    Usage(),
    made(Usage, b=2),
    made(Usage, b=2, d=1),
    Order(1),
    without(Order(1, [2], note="n"), "total"),
    without(Order(1), "items"),
    without(Order(1), "id", "note"),
    made(Order),
    Special(z=3, price=9),
    without(Special(), "z"),
    made(Special, z=3, id=4),
    Slotted(1),
    without(Slotted(1), "a"),
    without(Slotted(1), "b", "c"),
    made(Slotted),
    FrozenSlotted(),
    without(FrozenSlotted(b=3), "a"),
    SlottedChild(1, [2], 3, 5),
    without(SlottedChild(1), "d", "b"),
    made(Plain, e=4, a=1),
    Described(),
    Described(quantity=3),
    made(Usage, extra=1, b=2, other=[3]),
    made(Order, zeta=1, id=2),
    Ship("a"),
    without(Ship("a"), "crew"),
    DictShip("a"),
    without(DictShip("a"), "crew", "name"),
    Model(id=1),
    Model.model_construct(),
    Model.model_construct(note="n"),
    Model.model_construct(id="not checked", more=1),
    without(Model(id=1), "tags"),
    made(Model),
    PydanticOrder(1),
    without(PydanticOrder(1), "tags"),
    Pair(),
    Pair(left=3),
]


@pytest.mark.parametrize("value", instances, ids=lambda value: type(value).__name__)
def test_an_instance_comes_back_with_what_it_held(value: Any) -> None:
    before = held(value)
    again = back(value)
    assert type(again) is type(value)
    assert list(held(again).items()) == list(before.items())
    assert list(held(value).items()) == list(before.items()), "storing it has changed it"
    assert dump(JSON, again, "") == dump(JSON, value, "")
    if set(before) >= set(getattr(type(value), "__dataclass_fields__", {"?"})) - {"made", "price"}:
        assert again == value


def test_a_default_of_the_class_is_read_through() -> None:
    again = back(made(Usage, b=2))
    assert again == made(Usage, b=2)
    assert vars(again) == {"b": 2}
    assert (again.a, again.b, repr(again)) == (0, 2, repr(made(Usage, b=2)))


def test_an_error_that_carries_one_is_kept_as_its_class() -> None:
    error = ValueError("x")
    error.usage = Usage()  # type: ignore[attr-defined]
    assert dump_error(JSON, error)[1] is error


def test_unset_fields_are_stored_in_the_order_of_their_declaration() -> None:
    assert dump(JSON, made(Usage, b=2), "").endswith('"v":{"b":2},"unset":["d","c","a"]}')
    assert '"unset"' not in dump(JSON, Order(1), "")


def test_the_order_does_not_depend_on_the_process() -> None:
    """The order of a set of texts does, which is why one seed of it is not enough."""
    program = (
        "import dataclasses, sys, types\n"
        "from tidings.serialization import JSONSerializer\n"
        "names = [f'field_{number}' for number in range(20)]\n"
        'text = \'{"$tidings":"object","cls":"shop:Order","v":{"field_7":1,"extra":2}}\'\n'
        "shop = sys.modules['shop'] = types.ModuleType('shop')\n"
        "shop.Order = dataclasses.make_dataclass('Order', [(name, int, 0) for name in names])\n"
        "print(list(vars(JSONSerializer().deserialize(text))) == [*names, 'extra'])"
    )
    for seed in ("1", "2"):
        command, *arguments = programs.python("-c", program)
        done = programs.run(command, *arguments, env={**os.environ, "PYTHONHASHSEED": seed})
        assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_struct_comes_back_with_what_is_unset() -> None:
    assert back(Patch()) == Patch()
    assert back([Patch(size=3), msgspec.UNSET])[1] is msgspec.UNSET


def test_a_struct_without_a_value_is_refused() -> None:
    value = Patch("a")
    del value.size
    with pytest.raises(DBOSSerializationError, match="a Patch without a value for its field 'size' cannot be stored"):
        dump(JSON, value, "the message")


@pytest.mark.parametrize("unset", ["null", "1", '{"a":1}', "[[]]", '"id"'])
def test_damaged_lists_of_unset_fields_do_no_harm(unset: str) -> None:
    text = f'{{"$tidings":"object","cls":"{__name__}:Slotted","v":{{"b":1}},"unset":{unset}}}'
    try:
        again = load(JSON, text, "the message")
    except DBOSSerializationError:
        return
    assert again == Slotted(1)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
names = st.sampled_from(["zeta", "alpha", "mid", "beta", "a1", "b2", "c3"])
defaults = st.sampled_from(["none", "value", "factory"])


@st.composite
def dataclasses_of_any_kind(draw: st.DrawFn) -> tuple[type, dict[str, str]]:
    """A class, and how each of its fields has a default."""
    fields = draw(st.dictionaries(names, defaults, min_size=1, max_size=6))
    bases: tuple[type, ...] = ()
    slots = draw(st.booleans())
    frozen = draw(st.booleans())
    halves = [fields] if draw(st.booleans()) else [dict(list(fields.items())[:2]), dict(list(fields.items())[2:])]
    made: Any = None
    for half in halves:
        specified: list[Any] = [
            (name, Any, field())
            if kind == "none"
            else (name, Any, field(default=0) if kind == "value" else field(default_factory=list))
            for name, kind in half.items()
        ]
        made = dataclasses.make_dataclass(
            "Generated", specified, bases=bases, slots=slots, frozen=frozen, kw_only=True, init=draw(st.booleans())
        )
        bases = (made,)
    made.__module__ = "shop"
    return made, fields


@given(dataclasses_of_any_kind(), st.dictionaries(names, values, max_size=7), st.booleans())
def test_any_dataclass_comes_back(kind: tuple[Any, dict[str, str]], attributes: dict[str, Any], extra: bool) -> None:
    cls, fields = kind
    sys.modules["shop"] = ModuleType("shop")
    sys.modules["shop"].Generated = cls  # type: ignore[attr-defined]
    try:
        allowed = (
            attributes if cls.__dictoffset__ else {name: attributes[name] for name in attributes if name in fields}
        )
        value = made(cls, **allowed)
        if extra and cls.__dictoffset__:
            object.__setattr__(value, "extra", 1)
        again = back(value)
        assert list(held(again).items()) == list(held(value).items())
        for name in fields:
            assert hasattr(again, name) == hasattr(value, name)
            assert not hasattr(value, name) or getattr(again, name) == getattr(value, name)
    finally:
        del sys.modules["shop"]
