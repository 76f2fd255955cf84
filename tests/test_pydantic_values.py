"""Models of pydantic, and the types of their fields, come back equal and of the same class, or are refused."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, List, Literal, Optional, TypeVar  # noqa: UP035  # `List[int]` is to be tried

import msgspec
import pydantic
import pydantic_core
import pytest

from tests.support import programs
from tidings.error import DBOSSerializationError
from tidings.serialization import JSONSerializer, dump, load

JSON = JSONSerializer()
HERE = __name__
T = TypeVar("T")
U = TypeVar("U")


class Color(enum.Enum):
    RED = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    id: int = 0
    tags: Any = ()


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Two(pydantic.BaseModel, Generic[T, U]):
    left: T
    right: U


class LongPage(Page[T], Generic[T]):
    more: int


@dataclasses.dataclass
class Plain:
    x: int


def round_trip(value: Any) -> Any:
    return load(JSON, dump(JSON, value, "the value"), "the value")


def nested(depth: int) -> Any:
    return {"list": "builtins:list", "of": [nested(depth - 1)]} if depth else "builtins:int"


def record(tag: str, cls: object, v: object) -> str:
    return json.dumps({"$tidings": tag, "cls": cls, "v": v})


parametrized: list[Callable[[], Any]] = [
    lambda: Page[int](items=[1]),
    lambda: Page[Model](items=[Model(id=1)]),
    lambda: Page[list[Model]](items=[[Model(id=1)]]),
    lambda: Page[List[int]](items=[[1]]),  # noqa: UP006  # another class than Page[list[int]]
    lambda: Page[Optional[int]](items=[None]),  # noqa: UP045
    lambda: Page[int | None](items=[None]),
    lambda: Page[Page[int]](items=[Page[int](items=[1])]),
    lambda: Page[dict[str, tuple[int, ...]]](items=[{"a": (1,)}]),
    lambda: Page[Literal["a", 1, None]](items=["a"]),
    lambda: Page[Any](items=[b"x"]),
    lambda: Page[Color](items=[Color.RED]),
    lambda: Page[datetime](items=[datetime(2024, 1, 2, tzinfo=UTC)]),
    lambda: Two[int, Page[str]](left=1, right=Page[str](items=["a"])),
    lambda: LongPage[int](items=[1], more=2),
    lambda: pydantic.RootModel[list[int]]([1]),
]


@pytest.mark.parametrize("make", parametrized)
def test_parametrized_models_of_pydantic_are_kept(make: Callable[[], Any]) -> None:
    model = make()
    again = round_trip(model)
    assert type(again) is type(model)
    assert again == model
    assert dump(JSON, again, "the value") == dump(JSON, model, "the value")


PROGRAM = """
import sys
from typing import Generic, TypeVar
import pydantic
from tidings.serialization import JSONSerializer
T = TypeVar("T")
class P(pydantic.BaseModel, Generic[T]):
    items: list[T]
"""
WRITES = "print(JSONSerializer().serialize(P[P[int]](items=[P[int](items=[1])])))"
READS = """
read = JSONSerializer().deserialize(sys.argv[1])
assert type(read) is P[P[int]]
assert read == P[P[int]](items=[P[int](items=[1])])
"""


def test_a_parametrized_model_is_made_where_nobody_has_made_it() -> None:
    """No class of the program is kept from the process that stored it."""
    wrote = programs.run(
        *programs.python("-c", PROGRAM + "print(JSONSerializer().serialize(P[P[int]](items=[P[int](items=[1])])))")
    )
    assert wrote.returncode == 0, wrote.stderr
    read = programs.run(*programs.python("-c", PROGRAM + READS, wrote.stdout))
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize(
    "of",
    [
        [],
        [1],
        {"a": 1},
        ["builtins:int", "builtins:int"],
        ["no.such:Class"],
        ["os:system"],
        [{"literal": [[]]}],
        [{"alias": "NamedTuple", "of": ["builtins:int"]}],
        [{"list": "os:system", "of": ["builtins:int"]}],
        [{"union": "typing", "of": []}],
        [nested(100)],
    ],
)
def test_damaged_parameters_of_a_model_are_a_clear_error(of: Any) -> None:
    text = msgspec.json.encode({"$tidings": "object", "cls": f"{HERE}:Page", "v": {"items": []}, "of": of}).decode()
    with pytest.raises(DBOSSerializationError):
        load(JSON, text, "the value")


def test_what_is_no_model_takes_no_parameters() -> None:
    text = record("object", f"{HERE}:Plain", {"x": 1}).replace('"v"', '"of":["builtins:int"],"v"')
    with pytest.raises(DBOSSerializationError, match="takes no parameters"):
        load(JSON, text, "the value")


scalars: list[Any] = [
    pydantic.AnyUrl("foo://a:b@c:1/d?x#y"),
    pydantic.HttpUrl("http://exämple.com"),
    pydantic.HttpUrl("https://host:443/ä?q=1"),
    pydantic.FileUrl("file:///x"),
    pydantic.WebsocketUrl("ws://host"),
    pydantic.RedisDsn("redis://"),
    pydantic.PostgresDsn("postgresql://a,b:1/c"),
    pydantic.MongoDsn("mongodb://u:p@h1,h2/db"),
    pydantic.AmqpDsn("amqp://host"),
    pydantic_core.Url("http://host"),
    pydantic_core.MultiHostUrl("http://a,b"),
    pydantic.ByteSize(1024),
    ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("::/0"),
    ipaddress.ip_interface("10.0.0.1/8"),
    ipaddress.ip_interface("::1/128"),
]


@pytest.mark.parametrize("value", scalars, ids=lambda value: type(value).__name__)
def test_what_one_text_tells_is_kept(value: Any) -> None:
    for held in (value, [value], {"a": value}, Model(tags=value), {value: 1}):
        again = round_trip(held)
        assert again == held
        assert dump(JSON, again, "the value") == dump(JSON, held, "the value")
    assert type(round_trip(value)) is type(value)
    assert str(round_trip(value)) == str(value)


@pytest.mark.parametrize(
    ("cls", "v"),
    [
        ("ipaddress:IPv4Address", 1),
        ("ipaddress:IPv4Address", "x"),
        ("ipaddress:ip_address", "::1"),
        ("pydantic.networks:HttpUrl", 1),
        ("pydantic.networks:HttpUrl", "no URL"),
        ("pydantic.networks:NameEmail", ["a"]),
        ("pydantic.types:ByteSize", "x"),
        ("pydantic.types:SecretStr", "x"),
        ("pathlib:PosixPath", "/"),
        (f"{HERE}:Model", "1"),
        ("builtins:int", "1"),
    ],
)
def test_damaged_scalars_are_a_clear_error(cls: str, v: Any) -> None:
    with pytest.raises(DBOSSerializationError):
        load(JSON, record("scalar", cls, v), "the value")


@pytest.mark.parametrize("secret", [pydantic.SecretStr("h"), pydantic.SecretBytes(b"h"), pydantic.Secret[int](3)])
def test_a_secret_of_pydantic_is_refused(secret: Any) -> None:
    for value in (secret, Model(tags=[secret])):
        with pytest.raises(DBOSSerializationError, match=r"a Secret.* cannot be stored: .*\.get_secret_value\(\)"):
            dump(JSON, value, "the message")


def test_a_parameter_that_cannot_be_named_is_refused_with_a_remedy() -> None:
    with pytest.raises(DBOSSerializationError, match=r"class IntPage\(Page\[int\]\)"):
        dump(JSON, [Page[pydantic.PositiveInt](items=[1])], "the value")


def test_the_hooks_of_a_url_do_not_run() -> None:
    """Nor does a validator: a URL that is stored is valid."""
    value = Link("http://host")
    assert type(round_trip(value)) is Link
    assert Link.made == 1


class Link(pydantic.HttpUrl):
    made = 0

    def __init__(self, url: Any) -> None:
        type(self).made += 1
        super().__init__(url)
