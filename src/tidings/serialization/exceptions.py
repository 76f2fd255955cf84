"""Exceptions to named fields, and back: args, attributes and the cause.

An exception is rebuilt by the built-in exception class that its class derives from, called with
`args`. That runs no code of the class, whatever arguments its `__init__` takes. The implicit
`__context__` is not kept, because raising the rebuilt error sets a new one. The traceback cannot be
kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType, MemberDescriptorType
from typing import Any, Final

from tidings.serialization.attributes import HEAP_TYPE, Attributes
from tidings.serialization.fault import Fault, shown

# What built-in exceptions keep in C in addition to `args`. Setting these to any value is safe.
# Left out: `AttributeError.obj`, an arbitrary live object. Pickle leaves it out too.
_BESIDE_ARGS: Final[Mapping[type, tuple[str, ...]]] = MappingProxyType(
    {
        BaseException: ("__suppress_context__",),
        OSError: ("errno", "strerror", "filename", "filename2"),
        ImportError: ("msg", "name", "path"),
        NameError: ("name",),
        AttributeError: ("name",),
        SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
        StopIteration: ("value",),
        SystemExit: ("code",),
    }
)
# Used instead of attribute access: a subclass may shadow the names, or be a frozen dataclass.
ARGS: Final = vars(BaseException)["args"]
CAUSE: Final = vars(BaseException)["__cause__"]
SUPPRESS: Final = vars(BaseException)["__suppress_context__"]


def members_of(cls: type) -> dict[str, MemberDescriptorType]:
    """Return what exceptions of this class keep in C in addition to their args."""
    return {name: vars(base)[name] for base in cls.__mro__ for name in _BESIDE_ARGS.get(base, ())}


def built_in_of(cls: type) -> Any:
    """Return the built-in exception class that decides the memory layout; it need not be the first in the MRO."""
    built_in: Any = cls
    while built_in.__flags__ & HEAP_TYPE:
        built_in = built_in.__base__
    return built_in


def make(built_in: Any, cls: type, args: Iterable[Any]) -> Any:
    """Return a new exception of `cls`, made by the built-in class that it derives from.

    Raises:
        TypeError, ValueError: the built-in class does not take these arguments.
    """
    error = built_in.__new__(cls, *args)
    built_in.__init__(error, *args)
    # str() of these errors reads memory at `start` without checking that it is inside `object`.
    if isinstance(error, UnicodeDecodeError | UnicodeEncodeError | UnicodeTranslateError) and not (
        0 <= error.start <= error.end <= len(error.object)
    ):
        raise ValueError("start and end are not inside object")
    return error


class ExceptionShape:
    """Takes apart and puts together the exceptions of one class."""

    tag = "exception"

    def __init__(self, cls: type[BaseException]) -> None:
        self.stored_as = cls
        self._attributes = Attributes(cls)
        self._members = members_of(cls)
        self._built_in = built_in_of(cls)

    def take_apart(self, instance: Any) -> dict[str, Any]:
        args = ARGS.__get__(instance)
        try:
            blank = make(self._built_in, self.stored_as, args)
        except (TypeError, ValueError) as error:
            raise Fault(f"{shown(instance)} cannot be stored, because its args cannot make it again: {error}") from None
        fields: dict[str, Any] = {"args": list(args)}
        for name, member in self._members.items():
            value = member.__get__(instance)
            if value is not member.__get__(blank):  # otherwise the args restore it
                fields[name] = value
        fields |= self._attributes.get_all(instance)
        if (cause := CAUSE.__get__(instance)) is not None:
            fields["__cause__"] = cause
        return fields

    def unset(self, _: dict[str, Any]) -> list[str]:
        return []

    def put_together(self, fields: dict[str, Any], _: Collection[str] = ()) -> Any:
        error = make(self._built_in, self.stored_as, fields.pop("args"))
        CAUSE.__set__(error, fields.pop("__cause__", None))
        self._members["__suppress_context__"].__set__(error, fields.pop("__suppress_context__", False))
        for name in self._members.keys() & fields.keys():
            self._members[name].__set__(error, fields.pop(name))
        self._attributes.set_all(error, fields)
        return error
