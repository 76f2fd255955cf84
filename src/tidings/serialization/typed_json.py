"""Typed JSON: the stored form of values.

None, bool, int, finite float, str, list, and dict with str keys are plain JSON. Everything else is an
object with the key "$tidings", which names its type:

    (1, 2)                        {"$tidings":"tuple","v":[1,2]}
    {1: "one"}                    {"$tidings":"dict","v":[[1,"one"]]}
    Color.RED                     {"$tidings":"enum","cls":"shop.paint:Color","v":"RED"}
    IPv4Address("10.0.0.1")       {"$tidings":"scalar","cls":"ipaddress:IPv4Address","v":"10.0.0.1"}
    Order(id=1)                   {"$tidings":"object","cls":"shop.model:Order","v":{"id":1}}
    KeyError("a")                 {"$tidings":"exception","cls":"builtins:KeyError","v":{"args":["a"]}}

If an instance lacks declared fields, their names are stored too, as `"unset":["total"]`.

A user's dict with the key "$tidings" is written as pairs, like a dict with keys that are not strings.
So no value of a user can look like a marker. `lower` turns values into JSON values, and `revive` turns
them back; msgspec does the rest. `is_plain` lets the common case skip both.
"""

from __future__ import annotations

import binascii
from collections import Counter
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from math import isfinite
from types import NoneType
from typing import Any, Final
from uuid import UUID

import msgspec

from tidings.error import DBOSSerializationError
from tidings.serialization import zones
from tidings.serialization.confidential import open_objects
from tidings.serialization.error_records import recorded_instead, revive_error, revive_or, undecoded
from tidings.serialization.fault import Fault, shown, step_to
from tidings.serialization.generics import class_of
from tidings.serialization.marks import MARK, class_named_in
from tidings.serialization.names import find_class, name_of
from tidings.serialization.scalars import TAG as SCALAR
from tidings.serialization.scalars import is_secret, lower_scalar, revive_scalar
from tidings.serialization.shapes import shape_of
from tidings.shortage import is_shortage
from tidings.slips import slip_of, slip_of_series

# Levels of containers in one value. The limit ends cycles, and keeps a reader within its stack: one level takes up to
# three levels of JSON, and three of Python's 1,000 nested calls.
MAX_DEPTH: Final = 128

# How many members of a set, or keys of a dict, may have the same hash, on average. Powers of two, as floats, reach 34.
_MOST_ALIKE: Final = 100

_SCALARS: Final = frozenset({str, int, bool, NoneType})  # written as they are, with two exceptions: see `to_text`
_JSON_DEEP: Final = (dict, list)

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def to_text(value: Any) -> str:
    """Return `value` as typed JSON.

    Raises:
        DBOSSerializationError: it cannot be stored exactly.
    """
    if value is None:
        return "null"
    try:
        if is_plain(value):
            try:
                return _encode(value).decode()
            except ValueError:
                pass  # a lone surrogate, for which `lower` finds the path, or a huge int, which it writes in hex
        return _encode(lower(value)).decode()
    except Fault as fault:
        raise fault.as_error() from None
    except RecursionError:
        raise DBOSSerializationError("$: the value is nested too deeply for the stack space that is left") from None


def from_text(text: str) -> Any:
    """Return the value of typed JSON.

    Raises:
        DBOSSerializationError: it is damaged, or needs a class that this program has not imported.
    """
    return _read(text, revive)


def show_text(text: str) -> Any:
    """Return the value of typed JSON, for people, with an `UndecodedValue` for each part that cannot be decoded.

    It looks into lists, tuples and dicts, so that only one of many arguments is shown as text. An object with a part
    that cannot be decoded is shown as text as a whole, because the code of its class relies on its fields.

    Raises:
        DBOSSerializationError: it is damaged.
    """
    return _read(text, _show)


def show_error_text(text: str, *, with_bases: bool) -> Any:
    """Return the exception of typed JSON, or a `DBOSRecordedError` that shows the text.

    Args:
        text: the typed JSON.
        with_bases: whether `except` is to catch the `DBOSRecordedError` by the bases of the missing class too.

    Raises:
        DBOSSerializationError: it is damaged.
    """
    return _read(text, lambda node: recorded_instead(node, revive, with_bases=with_bases))


def _read(text: str, revive: Callable[[Any], Any]) -> Any:
    try:
        value = _decode(text)
        return revive(value) if MARK in text else value
    except Fault as fault:
        raise fault.as_error() from fault.__cause__
    except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
        raise DBOSSerializationError(f"$: the stored text is not JSON: {error}") from error
    except RecursionError:
        raise DBOSSerializationError("$: the value is nested too deeply for the stack space that is left") from None


def is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether plain JSON represents `value` exactly.

    Every value passes here, so this is written for speed: scalars cost no call.
    """
    kind = type(value)
    if kind is dict:
        if MARK in value:
            return False
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is not list:
        return isfinite(value) if kind is float else kind in _SCALARS
    if depth == MAX_DEPTH:
        return False
    for item in value:
        kind = type(item)
        if kind not in _SCALARS and not (isfinite(item) if kind is float else is_plain(item, depth + 1)):
            return False
    return True


# --- values to JSON values ------------------------------------------------------------------------


def lower(value: Any, depth: int = 0) -> Any:
    """Return the JSON value for `value`, which is inside `depth` containers.

    Raises:
        Fault: it cannot be stored exactly.
    """
    return _WRITERS.get(type(value), _lower_instance)(value, depth)


def _lower_each(items: Collection[Any], depth: int, step: str = "[{}]") -> list[Any]:
    _check_depth(items, depth)
    lowered: list[Any] = []
    try:
        for item in items:
            lowered.append(lower(item, depth + 1))  # noqa: PERF401  # at a fault, its length is the index
    except Fault as fault:
        fault.passed(step.format(len(lowered)))
        raise
    return lowered


def _lower_fields(fields: dict[str, Any], depth: int) -> dict[str, Any]:
    _check_depth(fields, depth)
    lowered = {}
    for name, item in fields.items():
        try:
            lowered[_lower_str(name, depth)] = lower(item, depth + 1)
        except Fault as fault:
            fault.passed(step_to(name))
            raise
    return lowered


def _lower_dict(value: dict[Any, Any], depth: int) -> Any:
    if MARK not in value and all(type(key) is str for key in value):
        return _lower_fields(value, depth)
    _check_hashes(value, "keys")
    _check_depth(value, depth)
    pairs = []
    for key, item in value.items():
        try:
            pairs.append([lower(key, depth + 1), lower(item, depth + 1)])
        except Fault as fault:
            fault.passed(step_to(key))
            raise
    return {MARK: "dict", "v": pairs}


def _check_hashes(hashed: Collection[Any], what: str) -> None:
    """Refuse members or keys with so many equal hashes that building the set or dict would take very long.

    Most hashes are the same in every process, so a sender of messages could choose numbers that collide. Python would
    then compare nearly all pairs, and block all other threads meanwhile. The check also runs when a value is stored,
    because a stored value must be readable.
    """
    if len(hashed) <= _MOST_ALIKE or len(hashed) - len(set(map(hash, hashed))) <= _MOST_ALIKE:
        return
    if sum(count * count for count in Counter(map(hash, hashed)).values()) > _MOST_ALIKE * len(hashed):
        raise Fault(f"too many of its {len(hashed)} {what} have the same hash: use a list")


def _check_depth(container: object, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise Fault(
            f"{shown(container)} is nested in {depth} containers, which is the limit; perhaps one contains itself"
        )


def _lower_str(value: str, _: int) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Fault(f"{shown(value)} cannot be stored: it contains a lone surrogate, which is not text") from None
    return value


def _lower_int(value: int, _: int) -> Any:
    if value.bit_length() > 64:
        try:
            _encode(value)
        except ValueError:  # more digits than Python converts (sys.set_int_max_str_digits); hex has no limit
            return {MARK: "int", "v": hex(value)}
    return value


def _lower_float(value: float, _: int) -> Any:
    return value if isfinite(value) else {MARK: "float", "v": repr(value)}


def _lower_set(value: set[Any] | frozenset[Any], depth: int) -> Any:
    _check_hashes(value, "members")
    # Sorted, so that equal sets have equal text in every process.
    return {MARK: type(value).__name__, "v": sorted(_lower_each(value, depth, "[*]"), key=_encode)}


def _lower_datetime(value: datetime | time, _: int) -> Any:
    described = zones.describe(value)
    if "name" in described:
        _lower_str(described["name"], 0)
    record: dict[str, Any] = {MARK: type(value).__name__, "v": value.isoformat(), **described}
    if value.fold:
        record["fold"] = 1
    return record


def _parts(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _lower_enum(value: Any) -> Any:
    cls = type(value)
    if Flag not in cls.__mro__ and cls.__members__.get(value._name_) is not value:
        raise Fault(f"{shown(value)} cannot be stored: its class has no such member")
    return {MARK: "enum", "cls": name_of(cls), "v": value._value_ if Flag in cls.__mro__ else value._name_}


def _lower_instance(value: Any, depth: int) -> Any:
    cls = type(value)
    if Enum in cls.__mro__:
        return _lower_enum(value)
    shape = shape_of(cls)
    if shape is None:
        scalar = lower_scalar(value)
        if scalar is None:
            raise Fault(_refusal(value))
        return {MARK: SCALAR, **scalar, "v": lower(scalar["v"], depth)}
    fields = shape.take_apart(value)
    label = shape.label(value)
    record = {MARK: shape.tag, "cls": label.pop("cls"), "v": _lower_fields(fields, depth), **label}
    if unset := shape.unset(fields):
        record["unset"] = unset
    if shape.tag == "exception" and (found := open_objects(record["v"])):
        raise Fault(
            f"the error {class_named_in(record)} cannot be stored as it is: its {' and '.join(map(repr, found))} may "
            "stand for a connection, and hold its password. Pass what is needed of it, as text for example"
        )
    return record


def _refusal(value: object) -> str:
    slip = slip_of(value) or slip_of_series(value)
    if slip is not None:
        return f"{slip.what} cannot be stored; {slip.remedy}"
    if is_secret(type(value)):
        return (
            f"a {type(value).__qualname__} cannot be stored: whoever reads the tables could read the secret. "
            "Read the secret in the step that needs it; or, if it may be stored, pass .get_secret_value()"
        )
    for built_in in _WRITERS:
        if built_in in type(value).__mro__:
            name, own = type(value).__qualname__, built_in.__name__
            return f"{shown(value)} cannot be stored: {name} is a subclass of {own}; convert it to a plain {own}"
    return (
        f"{shown(value)} cannot be stored: only plain data, and objects of dataclass, attrs, pydantic and msgspec "
        "classes, can be. Pass these, or an id, path or URL from which a step makes it again"
    )


_WRITERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    NoneType: lambda value, _: value,
    bool: lambda value, _: value,
    str: _lower_str,
    int: _lower_int,
    float: _lower_float,
    list: _lower_each,
    dict: _lower_dict,
    tuple: lambda value, depth: {MARK: "tuple", "v": _lower_each(value, depth)},
    set: _lower_set,
    frozenset: _lower_set,
    bytes: lambda value, _: {MARK: "bytes", "v": binascii.b2a_base64(value, newline=False).decode()},
    datetime: _lower_datetime,
    date: lambda value, _: {MARK: "date", "v": value.isoformat()},
    time: _lower_datetime,
    timedelta: lambda value, _: {MARK: "timedelta", "v": _parts(value)},
    UUID: lambda value, _: {MARK: "uuid", "v": str(value)},
    Decimal: lambda value, _: {MARK: "decimal", "v": str(value)},
    msgspec.UnsetType: lambda _, __: {MARK: "unset"},  # a possible value of a Struct's field
}


# --- JSON values to values ------------------------------------------------------------------------


def revive(value: Any) -> Any:
    """Return the value that the JSON value `value` represents; its lists and dicts are reused.

    Raises:
        Fault: it is damaged, or needs a class that this program has not imported.
    """
    if type(value) is dict:
        if MARK not in value:
            return _revive_fields(value)
        tag = value[MARK]
        reader = _READERS.get(tag) if type(tag) is str else None
        if reader is None:
            raise Fault(f"it is marked as {shown(tag)}, which this version of tidings does not know")
        try:
            return reader(value)
        except (Fault, RecursionError):
            raise
        except Exception as error:
            if is_shortage(error):
                raise
            raise Fault(f"the stored {tag} is damaged: {type(error).__name__}: {error}") from error
    return _revive_each(value) if type(value) is list else value


def _revive_each(items: list[Any], step: str = "[{}]") -> list[Any]:
    if type(items) is not list:
        raise TypeError(f"a list is expected, not {shown(items)}")
    for index, item in enumerate(items):
        if type(item) in _JSON_DEEP:
            try:
                items[index] = revive(item)
            except Fault as fault:
                fault.passed(step.format(index))
                raise
    return items


def _revive_fields(fields: dict[str, Any]) -> dict[str, Any]:
    for name, item in fields.items():
        if type(item) in _JSON_DEEP:
            try:
                fields[name] = revive(item)  # replacing the value of a key is safe during iteration
            except Fault as fault:
                fault.passed(step_to(name))
                raise
    return fields


def _revive_dict(record: dict[str, Any]) -> dict[Any, Any]:
    keys, items = [], []
    for key, item in record["v"]:
        try:
            keys.append(revive(key))
            items.append(revive(item))
        except Fault as fault:
            fault.passed(step_to(key))
            raise
    _check_hashes(keys, "keys")
    return dict(zip(keys, items, strict=True))


def _members(record: dict[str, Any]) -> list[Any]:
    members = _revive_each(record["v"], "[*]")
    _check_hashes(members, "members")
    return members


def _revive_datetime(record: dict[str, Any]) -> Any:
    kind = datetime if record[MARK] == "datetime" else time
    return zones.place(kind.fromisoformat(record["v"]), record, 1 if "fold" in record else 0)


def _revive_enum(record: dict[str, Any]) -> Any:
    cls = find_class(record["cls"])
    value = record["v"]
    if Enum not in cls.__mro__:
        raise Fault(f"{shown(record['cls'])} is not an Enum")
    members: Any = cls
    if Flag in cls.__mro__ and type(value) is int:
        return members(value)
    if value not in members.__members__:
        raise Fault(f"the Enum {shown(record['cls'])} no longer has the member {shown(value)}")
    return members.__members__[value]


def _revive_instance(record: dict[str, Any]) -> Any:
    cls = class_of(record)
    shape = shape_of(cls)
    if shape is None or shape.tag != record[MARK]:
        raise Fault(f"{shown(record['cls'])} is not a class of the kind {record[MARK]!r}, so it is not used")
    fields = _revive_fields(record["v"])
    unset = record.get("unset", [])
    if type(unset) is not list:
        raise TypeError(f"a list of unset fields is expected, not {shown(unset)}")
    return shape.put_together(fields, unset)


def _show(node: Any) -> Any:
    held = node.get("v") if type(node) is dict else None
    if type(node) is dict and MARK not in node:
        return {name: _show(each) for name, each in node.items()}
    if type(node) is list:
        return [_show(each) for each in node]
    if type(held) is list and node[MARK] == "tuple":
        return tuple(_show(each) for each in held)
    if type(held) is list and node[MARK] == "dict" and all(type(each) is list and len(each) == 2 for each in held):
        return {revive(key): _show(each) for key, each in held}
    return revive_or(node, revive, undecoded)


_READERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "int": lambda record: int(record["v"], 16),
    "float": lambda record: float(record["v"]),
    "dict": _revive_dict,
    "tuple": lambda record: tuple(_revive_each(record["v"])),
    "set": lambda record: set(_members(record)),
    "frozenset": lambda record: frozenset(_members(record)),
    "bytes": lambda record: binascii.a2b_base64(record["v"], strict_mode=True),
    "datetime": _revive_datetime,
    "date": lambda record: date.fromisoformat(record["v"]),
    "time": _revive_datetime,
    "timedelta": lambda record: timedelta(*record["v"]),
    "uuid": lambda record: UUID(record["v"]),
    "decimal": lambda record: Decimal(record["v"]),
    "unset": lambda _: msgspec.UNSET,
    SCALAR: revive_scalar,
    "enum": _revive_enum,
    "namedtuple": _revive_instance,
    "object": _revive_instance,
    "exception": lambda record: revive_error(record, revive),
}
