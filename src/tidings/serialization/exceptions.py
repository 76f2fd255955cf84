"""Exceptions to named fields, and back: args, attributes and the cause.

An exception is rebuilt by the built-in exception class that its class derives from, called with
`args`. That runs no code of the class, whatever arguments its `__init__` takes. The implicit
`__context__` is not kept, because raising the rebuilt error sets a new one. The traceback cannot be
kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType, MemberDescriptorType, NoneType
from typing import Any, Final

from tidings.error import DBOSBaseException
from tidings.serialization.attributes import HEAP_TYPE, Attributes
from tidings.serialization.fault import Fault, shown
from tidings.serialization.hiding import hide_in_text
from tidings.serialization.names import member_of, name_of
from tidings.shortage import is_shortage

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


def is_signal(cls: type) -> bool:
    """Tell whether errors of a class may end a program, a task or a run, wherever they pass."""
    lineage = cls.__mro__
    if BaseExceptionGroup in lineage and Exception not in lineage:
        return True  # One of its errors may.
    signals = (KeyboardInterrupt, SystemExit, GeneratorExit, DBOSBaseException)
    return any(signal in lineage for signal in (*signals, member_of("asyncio.exceptions", "CancelledError")))


def said_by_built_in(error: BaseException) -> str:
    """Return what the built-in class of an error says. No code of the error's own class runs."""
    try:
        text: str = built_in_of(type(error)).__str__(error)
    except Exception:
        text = ""  # The repr of one of its args fails.
    return text


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


# --- for programs that have not imported the class ------------------------------------------------------

ROOT: Final = "builtins:BaseException"  # the last base of an error that is not an `Exception`
_MOST_BASES: Final = 32
_MOST_CHARACTERS: Final = 64 * 1024
_PLAIN: Final = frozenset({str, int, float, bool, NoneType})


def bases_of(cls: type[BaseException]) -> list[str] | None:
    """Return the names of the bases of an error's class, without `Exception`; `None` if every program has the class."""
    if cls.__module__ == "builtins" or cls.__module__.partition(".")[0] == "tidings":
        return None
    names = []
    for base in cls.__mro__[1:]:
        if BaseException not in base.__mro__ or base in (Exception, BaseException):
            continue
        try:
            names.append(name_of(base))
        except Fault:
            continue  # A class made in a function, say: a replay could not find it.
    return names[:_MOST_BASES] + ([] if Exception in cls.__mro__ else [ROOT])


def text_of(error: BaseException) -> str | None:
    """Return what an error says, without secrets; `None` if that cannot be stored."""
    try:
        text = str(error)
        text.encode()
    except Exception as failure:
        if is_shortage(failure):
            raise
        return None
    return hide_in_text(text) if type(text) is str and len(text) <= _MOST_CHARACTERS else None


def text_to_record(error: BaseException) -> str | None:
    """Return what an error says, unless its built-in class says that by args that every program can rebuild."""
    text = text_of(error)
    is_plain = all(type(each) in _PLAIN for each in ARGS.__get__(error)) and text == said_by_built_in(error)
    return None if is_plain else text


# --- the shape ------------------------------------------------------------------------------------------


class ExceptionShape:
    """Takes apart and puts together the exceptions of one class."""

    tag = "exception"

    def __init__(self, cls: type[BaseException]) -> None:
        self.stored_as = cls
        self._attributes = Attributes(cls)
        self._members = members_of(cls)
        self._built_in = built_in_of(cls)

    def label(self, instance: Any) -> dict[str, Any]:
        """Name the class, its bases, and what the error says: for programs that have not imported the class."""
        named: dict[str, Any] = {"cls": name_of(self.stored_as)}
        if (bases := bases_of(self.stored_as)) is not None:
            named["bases"] = bases
        if (text := text_to_record(instance)) is not None:
            named["text"] = text
        return named

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
