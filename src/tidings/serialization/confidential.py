"""Secrets in errors: what an error must not bring into the tables.

A program chooses the values that it passes, and they are stored as they are. Errors are different: libraries attach to
them what they have at hand, such as the state of a connection with its password, or a request with its headers. So the
error that a step or a workflow ends with is searched. Hidden in it is

- an object that stands for something open, such as a connection, a socket or a file: it is left out whole;
- an object with a field that holds a secret, however deep: also left out, as code would trust its fields;
- text in a dict, or in a pair, under the name of a secret (`hiding`), or of a header that authorizes;
- a secret within any text (`hiding`).

An error that a program passes as a value is a value. Only open objects in it are refused.

JSON values are searched: they are finite, and show all that would be stored.
"""

from __future__ import annotations

import binascii
from types import FunctionType
from typing import Any, Final

from tidings.serialization.hiding import HIDDEN, hide_in_text, names_header, names_secret
from tidings.serialization.marks import MARK, class_named_in
from tidings.serialization.names import find

_NAMING: Final = ("name", "key", "keyword", "header")  # fields that name the value in one of these:
_NAMED: Final = ("value", "val")
_SECRET: Final = "password"
_OF_OPEN: Final = ("fileno", "socket")  # methods and properties of what is open


def hidden(node: Any, name: str = "") -> Any:
    """Return a JSON value, which has that name, without its secrets; an equal one if it has none."""
    if type(node) is str:
        return HIDDEN if node and names_secret(name) else hide_in_text(node)
    if type(node) is list:
        return _hidden_list(node, name)
    if type(node) is not dict:
        return node
    tag = node.get(MARK)
    return _hidden_fields(node) if tag is None else _hidden_record(node, tag, name)


def _hidden_record(record: dict[str, Any], tag: str, name: str) -> Any:
    held = record.get("v")
    match tag:
        case "bytes":
            text = _text_of(record)
            without: Any = hidden(text, name)
            held = held if without == text else binascii.b2a_base64(without.encode("latin-1"), newline=False).decode()
        case "dict":
            held = [[key, hidden(value, _name_in(key))] for key, value in record["v"]]
        case "tuple" | "set" | "frozenset":
            held = _hidden_list(record["v"], name)
        case "scalar":  # a URL, for example
            without = hidden(held)
            return record if without == held else without
        case "object" | "namedtuple" | "exception":
            if _is_open(record) or _hidden_fields(record["v"]) != record["v"]:
                return f"<{class_named_in(record)} object>"
        case _:
            pass  # a number or a moment, for example
    return {**record, "v": held}


def open_objects(fields: dict[str, Any]) -> list[str]:
    """Return the names of the fields of an error that hold something open. Errors in it have been searched."""
    return [name for name, value in fields.items() if _holds_open(value)]


def _holds_open(node: Any) -> bool:
    if type(node) is list:
        return any(map(_holds_open, node))
    if type(node) is not dict or node.get(MARK) == "exception":
        return False
    return _is_open(node) or any(map(_holds_open, node.values()))


def _hidden_fields(fields: dict[str, Any]) -> dict[str, Any]:
    without = {name: hidden(value, name) for name, value in fields.items()}
    if "loc" in fields and "input" in fields and _locates_secret(fields["loc"]):  # as pydantic describes a fault
        without["input"] = hidden(without["input"], _SECRET)
    if any(names_secret(_name_in(fields[name])) for name in _NAMING if name in fields):
        without |= {name: hidden(without[name], _SECRET) for name in _NAMED if name in without}
    return without


def _hidden_list(items: list[Any], name: str) -> list[Any]:
    if len(items) == len(("name", "value")) and names_secret(_name_in(items[0])):
        return [items[0], hidden(items[1], _name_in(items[0]))]
    return [hidden(each, name if names_header(name) else "") for each in items]


def _name_in(node: Any) -> str:
    """Return the name that a key, or the first of a pair, may be; those of headers are often bytes."""
    if type(node) is dict and node.get(MARK) == "bytes":
        return _text_of(node)
    return node if type(node) is str else ""


def _text_of(record: dict[str, Any]) -> str:
    return binascii.a2b_base64(record["v"]).decode("latin-1")


def _locates_secret(loc: Any) -> bool:
    parts = loc.get("v") if type(loc) is dict else loc
    return type(parts) is list and any(type(each) is str and names_secret(each) for each in parts)


def _is_open(record: dict[str, Any]) -> bool:
    if record.get(MARK) not in ("object", "namedtuple"):
        return False
    cls = find(record["cls"])
    found = [vars(base).get(name) for base in (cls.__mro__ if cls is not None else ()) for name in _OF_OPEN]
    return any(isinstance(each, (FunctionType, property)) for each in found)
