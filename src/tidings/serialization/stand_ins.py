"""Stand-ins for errors that cannot be stored as they are. `except` catches them by the class of the original.

The class of a stand-in derives from `DBOSRecordedError` and from the class of the original error. No code of the
original class may run while a stand-in is made, printed, compared, copied or destroyed. That code would miss the state
that its `__init__` sets. So `StandIn` is first in the MRO and defines all these methods. Other properties and
methods of the original class do run when the program uses them. If they miss an attribute, the error says why.

Classes are found by name (`names`). The names of the original class and of its bases are stored. If the class is
missing here, or allows no subclass, a base may be found, so `except OSError` still catches the error. If none is found,
the class derives from `DBOSRecordedError` alone. In each case it has the name of the original.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from tidings.error import DBOSRecordedError
from tidings.serialization.exceptions import (
    ARGS,
    CAUSE,
    SUPPRESS,
    ExceptionShape,
    built_in_of,
    is_signal,
    make,
    members_of,
)
from tidings.serialization.fault import Fault, shown
from tidings.serialization.names import find, name_of

_RECORD: Final = "_tidings_record"  # the attribute that holds a stand-in's record
RESERVED: Final = frozenset({_RECORD, "$tidings"})  # names that no attribute of a stand-in may have
_GROUP: Final = (vars(BaseExceptionGroup)["message"], vars(BaseExceptionGroup)["exceptions"])
_MOST_BASES: Final = 32
_MOST_CLASSES: Final = 1_000


class _Record(NamedTuple):
    """What was recorded of the original error in addition to its args and attributes."""

    type_name: str
    message: str
    traceback_text: str
    lineage: tuple[str, ...]
    lost: tuple[str, ...]


class StandIn(DBOSRecordedError):
    """The first base of every class of stand-ins."""

    def __init_subclass__(cls) -> None:
        """Do not call `__init_subclass__` of the original class: it might register the class, or want arguments."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an error of the original class: this is for `raise type(error)("more")` in the program."""
        if len(cls.__bases__) > 1:
            return cls.__bases__[1](*args, **kwargs)
        return DBOSRecordedError(f"{cls.__module__}.{cls.__qualname__}", str(Exception(*args)))

    @property
    def type_name(self) -> str:
        return _record_of(self).type_name

    @property
    def message(self) -> Any:
        """The `message` attribute of the original, or else its text."""
        if BaseExceptionGroup in type(self).__mro__:
            return _GROUP[0].__get__(self)
        return vars(self).get("message", _record_of(self).message)

    @property
    def traceback_text(self) -> str:
        return _record_of(self).traceback_text

    def __str__(self) -> str:
        return _record_of(self).message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_record_of(self).message!r})"

    def __getattr__(self, name: str) -> Any:
        """Return a kept attribute that the original class hides by a slot or a failing property, or say why not."""
        state = vars(self)
        if name in state:
            return state[name]
        record = state.get(_RECORD)
        if record is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        lost = f"; these could not be: {', '.join(record.lost)}" if record.lost else ""
        raise AttributeError(
            f"this {record.type_name} no longer has {name!r}: the error was recorded, with only those of its "
            f"attributes that can be stored{lost}. Read what you need in the step, where the error is raised"
        )

    def derive(self, errors: Sequence[Any]) -> Any:
        """Return a plain group of these errors, for `except*`."""
        return BaseExceptionGroup(str(_GROUP[0].__get__(self)), errors)

    def __reduce_ex__(self, _: Any) -> Any:
        return stand_in_from, (taken_apart(self),)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return stand_in_from(taken_apart(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return stand_in_from(copy.deepcopy(taken_apart(self), memo))

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)


# What the original class may have replaced, and Python or programs use on any exception.
for _name in ("__getattribute__", "__setattr__", "__delattr__", "__setstate__", "add_note", "with_traceback"):
    setattr(StandIn, _name, getattr(BaseException, _name))  # From 3.13 on, `object` defines some of them.
for _name in ("args", "__cause__", "__context__", "__suppress_context__", "__traceback__"):
    setattr(StandIn, _name, vars(BaseException)[_name])
for _name in ("__ne__", "__format__", "__dir__", "__sizeof__"):
    setattr(StandIn, _name, vars(object)[_name])


def _record_of(error: BaseException) -> _Record:
    record: _Record = vars(error)[_RECORD]
    return record


# --- lineages and classes ---------------------------------------------------------------------------


def lineage_of(cls: type[BaseException]) -> list[str]:
    """Return the names by which the class and its bases, which `except` may name, can be found again.

    Empty if the error ends a program or a task (`is_signal`) and is not an `Exception`: its stand-in must not.
    """
    names: list[str] = []
    for base in cls.__mro__ if Exception in cls.__mro__ or not is_signal(cls) else ():
        if _may_be_raised(base) and len(names) < _MOST_BASES:
            try:
                names.append(name_of(base))
            except Exception:
                continue  # A class made in a function, say: a replay could not find it.
    return names


_classes: dict[
    tuple[Any, ...], type[StandIn]
] = {}  # by the name, and the ids of the bases, which the classes keep alive


def class_for(lineage: Sequence[str]) -> type[StandIn] | None:
    """Return the class of stand-ins for errors of this lineage; `None` for an empty one."""
    if not lineage:
        return None
    found = [cls for name in lineage if (cls := find(name)) is not None and _may_be_raised(cls)]
    key = (lineage[0], *map(id, found))
    made = _classes.get(key)
    if made is None:
        made = derived(StandIn, found, lineage[0])
        if len(_classes) >= _MOST_CLASSES:
            _classes.clear()
        _classes[key] = made
    return made


def _may_be_raised(cls: type) -> bool:
    lineage = cls.__mro__
    is_harmless = Exception in lineage or (BaseException in lineage and not is_signal(cls))
    return is_harmless and cls not in StandIn.__mro__ and StandIn not in lineage


def derived(first: type, found: Iterable[type], name: str) -> Any:
    """Return a class derived from `first` and as many of these classes as possible, in order. Their code does not run.

    Args:
        first: the first base, whose `__init_subclass__` runs.
        found: the other bases.
        name: the name of the class, as `name_of` returns it.
    """
    module, _, qualname = name.partition(":")
    namespace = {"__module__": module, "__qualname__": qualname, "__doc__": None}
    bases: tuple[type, ...] = (first,)
    made = _derive(bases, namespace)
    for cls in found:
        if any(cls in base.__mro__ for base in bases):
            continue
        try:
            made = _derive((*bases, cls), namespace)
        except Exception:  # The class allows no subclass, or none together with the others.
            continue
        bases = (*bases, cls)
    return made


def _derive(bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    kind: Any = type
    for base in bases:
        kind = type(base) if kind in type.mro(type(base)) else kind
    namespace = dict(namespace)
    if any("__del__" in vars(each) for base in bases for each in base.__mro__):
        namespace["__del__"] = lambda _: None
    # Not `kind(...)`, nor `types.new_class`: that would run code of the original's metaclass.
    made: type = type.__new__(kind, namespace["__qualname__"].rpartition(".")[2], bases, namespace)
    return made


def without_base(error: BaseException) -> DBOSRecordedError | None:
    """Return a stand-in without any base of the original as a plain `DBOSRecordedError`; `None` for other errors."""
    if StandIn not in type(error).__mro__ or len(type(error).__bases__) > 1:
        return None
    record = _record_of(error)
    return DBOSRecordedError(record.type_name, record.message, record.traceback_text)


# --- stand-ins ------------------------------------------------------------------------------------------


def stand_in(
    described: Sequence[str],
    lineage: Sequence[str],
    *,
    args: Sequence[Any] | None = None,
    group: tuple[str, Sequence[BaseException]] | None = None,
    members: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    cause: BaseException | None = None,
    is_context_suppressed: bool = False,
    lost: Iterable[str] = (),
) -> DBOSRecordedError:
    """Return the stand-in for an error. It is an instance of the error's class too, if that is imported here.

    Args:
        described: the name of its class, its message, and its traceback as text.
        lineage: the names of its class and that class's bases, from `lineage_of`.
        args: its args, as far as they can be stored; `None` for the default args of a group.
        group: if it is a group of errors, its message and its errors.
        members: what built-in exceptions keep in addition to their args (`members_of`).
        attributes: its attributes, as far as they can be stored.
        cause: its `__cause__`.
        is_context_suppressed: its `__suppress_context__`.
        lost: the names of attributes that cannot be stored.
    """
    cls = class_for(lineage)
    if cls is None:
        return DBOSRecordedError(*described)
    error: StandIn = _made_of(cls, args or (), group)
    if args is not None:
        ARGS.__set__(error, tuple(args))
    for name, member in members_of(cls).items():
        if members is not None and name in members:
            try:
                member.__set__(error, members[name])
            except (TypeError, AttributeError):
                continue  # Another version of Python stored the error.
    state = vars(error)
    state.update(attributes or {})
    state[_RECORD] = _Record(described[0], described[1], described[2], tuple(lineage), tuple(lost))
    CAUSE.__set__(error, cause)
    SUPPRESS.__set__(error, is_context_suppressed)
    return error


def _made_of(cls: type[StandIn], args: Sequence[Any], group: tuple[str, Sequence[BaseException]] | None) -> Any:
    built_in = built_in_of(cls)
    if BaseExceptionGroup in cls.__mro__:
        message, errors = group or ("", [])
        # A group must not be empty, and a group that is an Exception may contain only Exceptions.
        return make(built_in, cls, (message, [each for each in errors if isinstance(each, Exception)] or [Exception()]))
    try:
        return make(built_in, cls, args)
    except Exception:
        return built_in.__new__(cls)


def group_of(error: BaseException) -> tuple[str, Sequence[BaseException]] | None:
    """Return the message and the errors of a group; `None` for other errors."""
    if BaseExceptionGroup not in type(error).__mro__:
        return None
    message, errors = (member.__get__(error) for member in _GROUP)
    return message, errors


def args_of(error: BaseException) -> Sequence[Any] | None:
    """Return the args of an error; `None` for the default args of a group: its message and its errors."""
    args: Sequence[Any] = ARGS.__get__(error)
    group = group_of(error)
    if group is not None and len(args) == len(group) and args[0] is group[0] and _same(args[1], group[1]):
        return None
    return args


def _same(first: Any, second: Sequence[Any]) -> bool:
    is_sequence = type(first) in (list, tuple) and len(first) == len(second)
    return is_sequence and all(a is b for a, b in zip(first, second, strict=True))


def taken_apart(error: DBOSRecordedError) -> dict[str, Any]:
    """Return a stand-in as fields, from which `stand_in_from` makes it again."""
    record, state = _record_of(error), dict(vars(error))
    del state[_RECORD]
    members = {
        name: member.__get__(error)
        for name, member in members_of(type(error)).items()
        if name != "__suppress_context__"
    }
    return {
        "args": [record.type_name, record.message, record.traceback_text],
        "lineage": list(record.lineage),
        "kept": {
            "args": None if (args := args_of(error)) is None else list(args),
            "group": None if (group := group_of(error)) is None else [group[0], list(group[1])],
            "members": {name: value for name, value in members.items() if value is not None},
            "attributes": state,
            "cause": CAUSE.__get__(error),
            "is_context_suppressed": SUPPRESS.__get__(error),
            "lost": list(record.lost),
        },
    }


def stand_in_from(fields: dict[str, Any]) -> DBOSRecordedError:
    """Return a stand-in from the fields that `taken_apart` returned.

    Raises:
        Fault: the fields are damaged.
    """
    kept, described, lineage = fields["kept"], fields["args"], fields["lineage"]
    group = kept["group"]
    for texts in (described, lineage, kept["lost"], [] if group is None else group[:1]):
        if not isinstance(texts, list) or not all(type(each) is str for each in texts):
            raise Fault(f"a list of texts is expected, not {shown(texts)}")
    if len(described) != len(("type name", "message", "traceback")):
        raise Fault("a recorded error has a type name, a message and a traceback")
    return stand_in(
        described,
        lineage,
        args=kept["args"],
        group=None if group is None else (group[0], group[1]),
        members=dict(kept["members"]),
        attributes=dict(kept["attributes"]),
        cause=kept["cause"],
        is_context_suppressed=kept["is_context_suppressed"] is True,
        lost=kept["lost"],
    )


class RecordedShape:
    """Takes apart and puts together `DBOSRecordedError` and stand-ins; both are stored as `DBOSRecordedError`."""

    tag = "exception"

    def __init__(self) -> None:
        self._plain = ExceptionShape(DBOSRecordedError)

    def label(self, _: Any) -> dict[str, Any]:
        return {"cls": name_of(DBOSRecordedError)}

    def take_apart(self, instance: Any) -> dict[str, Any]:
        return taken_apart(instance) if StandIn in type(instance).__mro__ else self._plain.take_apart(instance)

    def unset(self, _: dict[str, Any]) -> list[str]:
        return []

    def put_together(self, fields: dict[str, Any], _: Collection[str] = ()) -> Any:
        if "lineage" in fields:
            return stand_in_from(fields)
        for name in ("type_name", "message", "traceback_text"):
            fields.pop(name, None)  # An earlier version stored them twice.
        args = fields["args"]
        if len(args) != len(("type name", "message", "traceback")) or not all(type(each) is str for each in args):
            raise Fault("a recorded error has a type name, a message and a traceback")
        return self._plain.put_together(fields)
