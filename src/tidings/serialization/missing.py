"""Errors of which this program lacks something: their class, or the class of a value in them.

A step may have imported a module itself, and another process that replays the step may not have. The replay must
raise what `except` matches in the same way as the first time. So the record of an error names the bases of its class.
Where the class is missing, the error is an instance of a class that is made here: it has the name of the original and
derives from those bases that this program has. Unlike a stand-in it is no `DBOSRecordedError`, because the original was
none: `except DBOSException` must not catch in a replay what it let pass the first time.

Where only a value in the error is missing, the class that is made derives from the error's own class. Missing args are
`UndecodedValue`s; missing attributes are left out.

No code of the classes runs while such an error is made. Its text is the recorded one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tidings.error import DBOSBaseException
from tidings.serialization.exceptions import (
    ARGS,
    ROOT,
    ExceptionShape,
    built_in_of,
    is_signal,
    said_by_built_in,
    text_to_record,
)
from tidings.serialization.fault import Fault
from tidings.serialization.names import find
from tidings.serialization.stand_ins import StandIn, derived

RECORD: Final = "_tidings_missing"  # the attribute that holds what was recorded
_MOST_CLASSES: Final = 1_000


class Record(NamedTuple):
    """What was recorded of an error, and is not to be seen in its args and attributes.

    Attributes:
        name: the name of its class, as `name_of` returns it.
        bases: the names of that class's bases; `None` for a class that all programs have.
        text: what it says; `None` for what the built-in class says by its args.
        reason: what is missing here, and what to do about it.
        lost: the attributes that are missing; `args` if some of those are.
    """

    name: str
    bases: tuple[str, ...] | None
    text: str | None
    reason: str
    lost: tuple[str, ...]


class Missing:
    """The first base of every class that is made for such an error."""

    def __init_subclass__(cls) -> None:
        """Do not call `__init_subclass__` of a base: it might register the class, or want arguments."""

    def __str__(self) -> str:
        return str(record_of(self).text)

    def __getattr__(self, name: str) -> Any:
        """Say why an attribute is missing, if it is missing only here."""
        record = vars(self).get(RECORD)
        if record is None or name not in record.lost:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(f"{type(self).__name__!r} object has no {name!r} here, for {record.reason}")

    def __reduce_ex__(self, _: Any) -> Any:
        return missing_error, (record_of(self), _fields_of(self))

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return missing_error(record_of(self), _fields_of(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return missing_error(record_of(self), copy.deepcopy(_fields_of(self), memo))


def is_missing(error: object) -> bool:
    return Missing in type(error).__mro__


def record_of(error: object) -> Record:
    record: Record = object.__getattribute__(error, "__dict__")[RECORD]
    return record


# --- making one -------------------------------------------------------------------------------------------

_classes: dict[tuple[Any, ...], Any] = {}  # by the name, and the ids of the bases, which the classes keep alive


def missing_error(record: Record, fields: dict[str, Any]) -> Any:
    """Return an error that lacks its class, or some of its fields.

    Args:
        record: what was recorded of it.
        fields: what `ExceptionShape.take_apart` returned of it, as far as it can be rebuilt.
    """
    cls, args = _class_for(record.name, record.bases or ()), fields["args"]
    try:
        error = ExceptionShape(cls).put_together(fields)
    except (TypeError, ValueError):  # The built-in class does not take what could be rebuilt of the args.
        error = built_in_of(cls).__new__(cls)
        ARGS.__set__(error, tuple(args))
    vars(error)[RECORD] = record if record.text is not None else record._replace(text=said_by_built_in(error))
    return error


def _class_for(name: str, bases: Sequence[str]) -> Any:
    is_exception = ROOT not in bases
    found = [cls for each in (name, *bases) if (cls := find(each)) is not None and _is_fit(cls)]
    if is_exception:  # It must not end the program that awaits it.
        found = [cls for cls in found if not is_signal(cls)]
    key = (name, is_exception, *map(id, found))
    made = _classes.get(key)
    if made is None:
        made = derived(Missing, [*found, Exception if is_exception else BaseException], name)
        if len(_classes) >= _MOST_CLASSES:
            _classes.clear()
        _classes[key] = made
    return made


def _is_fit(cls: type) -> bool:
    lineage = cls.__mro__
    return BaseException in lineage and not any(each in lineage for each in (StandIn, Missing, DBOSBaseException))


def _fields_of(error: Any) -> dict[str, Any]:
    fields = ExceptionShape(type(error)).take_apart(error)
    fields.pop(RECORD, None)
    return fields


class MissingShape(ExceptionShape):
    """Takes apart errors that lack something. They are stored as they were recorded."""

    def take_apart(self, instance: Any) -> dict[str, Any]:
        record = record_of(instance)
        if record.lost:  # Code of its class would trust a copy that could be rebuilt only in part.
            raise Fault(f"it lacks {' and '.join(map(repr, record.lost))}: {record.reason}")
        fields = super().take_apart(instance)
        fields.pop(RECORD, None)
        return fields

    def label(self, instance: Any) -> dict[str, Any]:
        record = record_of(instance)
        named: dict[str, Any] = {"cls": record.name}
        if record.bases is not None:
            named["bases"] = list(record.bases)
        if (text := text_to_record(instance)) is not None:
            named["text"] = text
        return named
