"""Exceptions from JSON values. What this program lacks for one never hides the error itself.

- If the class of an error is missing, or the class of a value in it, the error lacks that (`missing`).
- Of a recorded error, parts that cannot be rebuilt are left out.
- For people, and for programs that await another program's workflow, an error without its class is a
  `DBOSRecordedError`.

Only a missing class is forgiven. Damaged text is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from tidings.error import DBOSRecordedError
from tidings.serialization.attributes import attributes_of
from tidings.serialization.exceptions import CAUSE, SUPPRESS, members_of
from tidings.serialization.fault import Fault, shown, step_to
from tidings.serialization.marks import MARK, class_named_in
from tidings.serialization.missing import RECORD, Record, is_missing, missing_error, record_of
from tidings.serialization.names import find_class
from tidings.serialization.shapes import shape_of
from tidings.serialization.stand_ins import args_of, stand_in, without_base
from tidings.serialization.undecoded import UndecodedValue

Revive = Callable[[Any], Any]
Otherwise = Callable[[str, str | None, Fault], Any]

_JSON_DEEP: Final = (dict, list)
_LOST: Final = object()

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def revive_error(record: dict[str, Any], revive: Revive) -> Any:
    """Return the exception of a record.

    Raises:
        Fault: the record is damaged, or its class is missing and the names of its bases were not stored.
    """
    faults: list[Fault] = []
    shape = None
    try:
        cls = find_class(record["cls"])
    except Fault as fault:
        if "bases" not in record:
            raise
        faults.append(fault)
    else:
        shape = shape_of(cls)
        if shape is None or shape.tag != record[MARK]:
            raise Fault(f"{shown(record['cls'])} is not a class of the kind {record[MARK]!r}, so it is not used")
        if cls is DBOSRecordedError:
            return shape.put_together(_revive_recorded(record["v"], revive))
    fields, lost = _revive_fields(record["v"], revive, faults)
    if shape is not None and not faults:
        return shape.put_together(fields)
    bases, text = record.get("bases"), record.get("text")
    if bases is not None and (type(bases) is not list or not all(type(each) is str for each in bases)):
        raise Fault(f"a list of the names of the bases is expected, not {shown(bases)}")
    if text is not None and type(text) is not str:
        raise Fault(f"a text is expected, not {shown(text)}")
    if "args" not in fields:  # a `ValidationError`, which only pydantic can make
        lost, fields = list(fields), {"args": [], "__cause__": fields.get("cause"), **fields.get("attributes", {})}
    of_bases = None if bases is None else tuple(bases)
    return missing_error(Record(record["cls"], of_bases, text, str(faults[0].as_error()), tuple(lost)), fields)


def _revive_fields(nodes: dict[str, Any], revive: Revive, faults: list[Fault]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of an error, and the names of those that need a missing class. Add to `faults` why."""
    fields: dict[str, Any] = {}
    for name, node in nodes.items():
        if name == "args" and type(node) is list:
            parts = (_part(each, revive, faults, f".args[{index}]", undecoded) for index, each in enumerate(node))
            fields[name] = list(parts)
        else:
            fields[name] = _part(node, revive, faults, step_to(name), lambda *_: _LOST)
    lost = [name for name, value in fields.items() if value is _LOST]
    if any(type(each) is UndecodedValue for each in fields.get("args", ())):
        lost.append("args")
    return {name: value for name, value in fields.items() if value is not _LOST}, lost


def _part(node: Any, revive: Revive, faults: list[Fault], step: str, otherwise: Otherwise) -> Any:
    """Return the value of a part of an error; what `otherwise` returns if its class is missing."""

    def lacking(text: str, type_name: str | None, fault: Fault) -> Any:
        fault.passed(step)
        if fault.type_name is None:
            raise fault
        faults.append(fault)
        return otherwise(text, type_name, fault)

    return revive_or(node, revive, lacking)


# --- recorded errors --------------------------------------------------------------------------------------


def _revive_recorded(fields: dict[str, Any], revive: Revive) -> dict[str, Any]:
    """Revive the fields of a `DBOSRecordedError`. Kept parts that this program cannot rebuild are dropped."""
    kept = fields.pop("kept", None)
    revived: dict[str, Any] = revive(fields)
    if kept is None:
        return revived
    lost = list(kept["lost"])
    args, group, cause = kept["args"], kept["group"], kept["cause"]
    or_record = partial(undecoded_error, revive)
    revived["kept"] = {
        **kept,
        "attributes": _readable(kept["attributes"], revive, lost),
        "members": _readable(kept["members"], revive, lost),
        "args": None if args is None else [revive_or(each, revive, undecoded) for each in args],
        "group": None if group is None else [group[0], [revive_or(each, revive, or_record) for each in group[1]]],
        "cause": revive_or(cause, revive, or_record),
        "lost": lost,
    }
    return revived


def _readable(fields: dict[str, Any], revive: Revive, lost: list[str]) -> dict[str, Any]:
    readable = {}
    for name, item in fields.items():
        try:
            readable[name] = revive(item)
        except Fault:
            lost.append(name)
    return readable


# --- what cannot be decoded -------------------------------------------------------------------------------


def revive_or(node: Any, revive: Revive, otherwise: Otherwise) -> Any:
    """Return the value of a JSON value, or else what `otherwise` makes of its text, its class and the fault."""
    if type(node) not in _JSON_DEEP:
        return node
    text, type_name = _encode(node).decode(), class_named_in(node)  # Now, before `revive` replaces its parts.
    try:
        return revive(node)
    except Fault as fault:
        return otherwise(text, type_name, fault)


def recorded_instead(node: Any, revive: Revive, *, with_bases: bool) -> Any:
    """Return the exception of a JSON value; a `DBOSRecordedError` if its class is missing, or it cannot be rebuilt.

    Args:
        node: the JSON value.
        revive: revives the values in it.
        with_bases: whether a `DBOSRecordedError` is to be an instance of the bases of the missing class too.
    """
    text = _encode(node).decode()
    value = revive_or(node, revive, partial(undecoded_error, revive))
    return _recorded_of(value, text, with_bases) if is_missing(value) else value


def undecoded(text: str, type_name: str | None, fault: Fault) -> UndecodedValue:
    """Return the placeholder of a value that cannot be decoded."""
    return UndecodedValue(type_name, text, str(fault.as_error()))


def undecoded_error(revive: Revive, text: str, type_name: str | None, fault: Fault) -> DBOSRecordedError:
    """Return what stands for an error that cannot be decoded."""
    error = DBOSRecordedError(type_name or "an error of an unknown class", _message_in(text, revive))
    error.add_note(_noted(text, str(fault.as_error())))
    return error


def _recorded_of(error: Any, text: str, with_bases: bool) -> DBOSRecordedError:
    """Return an error that lacks something as a `DBOSRecordedError`."""
    record = record_of(error)
    described = (record.name.replace(":", "."), str(error), "")
    attributes = {name: value for name, value in attributes_of(error).items() if name != RECORD}
    made = stand_in(
        described,
        [record.name, *(record.bases or ())] if with_bases else [],
        args=args_of(error),
        members={name: member.__get__(error) for name, member in members_of(type(error)).items()},
        attributes=attributes,
        cause=CAUSE.__get__(error),
        is_context_suppressed=SUPPRESS.__get__(error),
        lost=record.lost,
    )
    recorded = without_base(made) or made
    recorded.add_note(_noted(text, record.reason))
    return recorded


def _noted(text: str, reason: str) -> str:
    return f"{text} cannot be rebuilt here: {reason}"


def _message_in(text: str, revive: Revive) -> str:
    """Return what an exception says, by its record or its args; else all its text."""
    record = _decode(text)
    try:
        return record["text"] if type(record.get("text")) is str else str(Exception(*revive(record["v"]["args"])))
    except (Fault, AttributeError, LookupError, TypeError):
        return text
