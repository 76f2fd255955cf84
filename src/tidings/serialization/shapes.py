"""Instances of classes to named fields, and back, without running the code of their classes.

The only classes that are ever found for a stored name are those that already are in the namespace
of a module in `sys.modules`, and of the kinds below. An instance is put together from its fields:
no `__init__`, `__new__`, `__post_init__`, `__setstate__`, `__reduce__`, property or validator of
its class runs, so it comes back with all its fields as they were (private and `init=False` ones
too) and without a second round of side effects. The exceptions to that:

- a msgspec Struct can only be made by calling it, which runs its own `__post_init__`, as msgspec's
  decoders do; its fields are set to the stored ones afterwards;
- a field added to the class since, with a default, takes that default (and its factory runs);
- what is put into a set, or is a dict's key, is hashed.

What an instance only caches is left out: `functools.cached_property` values, attrs' hash.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cached_property, partial
from types import MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any, Final, Protocol

import msgspec

from tidings.serialization.fault import Fault, shown
from tidings.serialization.mains import MAINS, importable_main

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's own static types
_ATTRS_HASH: Final = "_attrs_cached_hash"  # differs from process to process; None means "not computed"
_NOT_STATE: Final = frozenset({"__orig_class__"})  # left by typing on `Box[int](...)`

# What the interpreter's own exceptions keep in C beside `args`, and can be set at any value safely.
# Left out: `AttributeError.obj`, an arbitrary live object, which pickle leaves out too.
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
# Reached through these, because a subclass may shadow the names, or be a frozen dataclass.
_ARGS: Final = vars(BaseException)["args"]
_CAUSE: Final = vars(BaseException)["__cause__"]


class Shape(Protocol):
    """How the instances of one class come apart.

    Attributes:
        tag: the kind, as stored.
    """

    tag: str

    def take_apart(self, instance: Any) -> dict[str, Any]:
        """Return all that makes up `instance`, by name."""
        ...

    def put_together(self, fields: dict[str, Any]) -> Any:
        """Return the instance that was taken apart into `fields`."""
        ...


# --- classes and their names ----------------------------------------------------------------------


def name_of(cls: type) -> str:
    """Return the name under which `find_class` finds `cls` again, in this program's next run too.

    A class of the script that Python was started with has the name that other programs import it by. Where they
    cannot, or where this very program has imported a second copy of the script, it is a class of `__main__`.
    """
    module, qualname = cls.__module__, cls.__qualname__
    if module in MAINS:
        imported = f"{importable_main()}:{qualname}"
        if _find(imported) is cls:
            return imported
        module = "__main__"
    name = f"{module}:{qualname}"
    if _find(name) is not cls:
        raise Fault(
            f"its class {cls.__module__}.{cls.__qualname__} cannot be found again by its name; "
            "define the class at the top level of a module, under its own name"
        )
    return name


def find_class(name: str) -> type:
    """Return the class that `name_of` named, of whatever kind, among those already imported."""
    cls = _find(name)
    if cls is None:
        raise Fault(f"its class {shown(name)} does not exist in this program; {_remedy(name.partition(':')[0])}")
    return cls


def _remedy(module: str) -> str:
    if module in MAINS:
        return (
            "it was stored by a program that cannot be imported (typed in, or run from where no import finds it); "
            "define the class in a module that both programs import"
        )
    return (
        f"import the module {shown(module)} before the value is read "
        "(if the class was moved or renamed, leave its old name as an alias)"
    )


def _find(name: str) -> type | None:
    module, _, qualname = name.partition(":")
    found = _find_in(sys.modules.get(module), qualname)
    if found is None and (module in MAINS or module == importable_main()):
        found = _find_in(sys.modules.get("__main__"), qualname)
    return found


def _find_in(module: Any, qualname: str) -> type | None:
    # Namespaces are read as dicts: getattr could run a module's `__getattr__` or a lazy loader,
    # and `isinstance` asks a proxy object for its `__class__`.
    if not issubclass(type(module), ModuleType):
        return None
    namespace: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    found: Any = None
    for part in qualname.split("."):
        found = namespace.get(part)
        if not issubclass(type(found), type):
            return None
        namespace = found.__dict__
    cls: type = found
    return cls


# --- kinds of classes -----------------------------------------------------------------------------

_shapes: dict[type, Shape | None] = {}  # of classes that have a name; two threads at worst make a shape twice


def shape_of(cls: type) -> Shape | None:
    """Return the shape of the instances of `cls`; None if it is not of a kind that is stored."""
    try:
        return _shapes[cls]
    except KeyError:
        shape = _make_shape(cls)
        if _find(f"{cls.__module__}:{cls.__qualname__}") is cls:
            _shapes[cls] = shape
        return shape


def _make_shape(cls: type) -> Shape | None:
    lineage = cls.__mro__
    if Enum in lineage:
        return None
    if BaseException in lineage:
        return _ExceptionShape(cls)
    if msgspec.Struct in lineage:
        return _StructShape(cls)
    if tuple in lineage:
        return _NamedTupleShape(cls) if isinstance(_declared(cls, "_fields"), tuple) else None
    defaults = _declared_fields(cls)
    return None if defaults is None or not _is_plain_object(cls) else _ObjectShape(cls, *defaults)


def _declared(cls: type, name: str) -> Any:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_plain_object(cls: type) -> bool:
    """Whether instances hold nothing but attributes: a dataclass that is also a dict holds more."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def _declared_fields(cls: type) -> tuple[Iterable[str], dict[str, Callable[[], Any]]] | None:
    """Return the fields that a dataclass, attrs or pydantic class declares, and what makes their defaults."""
    defaults: dict[str, Callable[[], Any]] = {}
    pydantic_fields = _declared(cls, "__pydantic_fields__")
    if isinstance(pydantic_fields, dict):  # a model, or pydantic's dataclass, whose own defaults are FieldInfo objects
        for name, info in pydantic_fields.items():
            if not info.is_required():
                defaults[name] = partial(info.get_default, call_default_factory=True)
        return pydantic_fields.keys(), defaults
    if _declared(cls, "__dataclass_fields__") is not None:
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING:
                defaults[field.name] = partial(_itself, field.default)
            elif field.default_factory is not dataclasses.MISSING:
                defaults[field.name] = field.default_factory
        return [field.name for field in dataclasses.fields(cls)], defaults
    attributes = _declared(cls, "__attrs_attrs__")
    if attributes is not None:
        attr = sys.modules["attr"]
        for attribute in attributes:
            if not isinstance(attribute.default, attr.Factory):
                if attribute.default is not attr.NOTHING:
                    defaults[attribute.name] = partial(_itself, attribute.default)
            elif not attribute.default.takes_self:
                defaults[attribute.name] = attribute.default.factory
        return [attribute.name for attribute in attributes], defaults
    return None


def _itself(value: Any) -> Any:
    return value


# --- shapes ---------------------------------------------------------------------------------------


class _Attributes:
    """The attributes of instances, in their `__dict__` and in slots, reached without their class's code."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._has_dict = cls.__dictoffset__ != 0
        self._slots: dict[str, MemberDescriptorType] = {}
        self._left_out = set(_NOT_STATE)
        for base in reversed(cls.__mro__):
            if base.__flags__ & _HEAP_TYPE:
                slots = {name: member for name, member in vars(base).items() if type(member) is MemberDescriptorType}
                self._slots |= slots
                self._left_out |= {name for name, member in vars(base).items() if type(member) is cached_property}
                if "__attrs_attrs__" in vars(base):  # attrs keeps cached properties in slots that are no fields
                    fields = {attribute.name for attribute in vars(base)["__attrs_attrs__"]}
                    self._left_out |= slots.keys() - fields - {_ATTRS_HASH}

    def get_all(self, instance: Any) -> dict[str, Any]:
        found = {}
        for name, slot in self._slots.items():
            try:
                found[name] = slot.__get__(instance)
            except AttributeError:
                continue  # never set
        if self._has_dict:
            found |= instance.__dict__
        if not self._left_out.isdisjoint(found):
            for name in self._left_out & found.keys():
                del found[name]
        if _ATTRS_HASH in found:
            found[_ATTRS_HASH] = None
        return found

    def set_all(self, instance: Any, fields: dict[str, Any]) -> None:
        if self._has_dict and not self._slots:
            instance.__dict__.update(fields)
            return
        for name, value in fields.items():
            if name in self._slots:
                self._slots[name].__set__(instance, value)
            elif self._has_dict:
                instance.__dict__[name] = value
            else:
                raise _gone(self._cls, name)


class _ObjectShape:
    """Dataclasses, attrs and pydantic classes: all three keep their state in attributes alone."""

    tag = "object"

    def __init__(self, cls: type, names: Iterable[str], defaults: dict[str, Callable[[], Any]]) -> None:
        self._cls = cls
        self._names = frozenset(names)
        self._defaults = defaults
        self._attributes = _Attributes(cls)

    def take_apart(self, instance: Any) -> dict[str, Any]:
        fields = self._attributes.get_all(instance)
        if not fields.keys() >= self._names and (unset := self._names - fields.keys() - self._defaults.keys()):
            raise Fault(f"a {self._cls.__qualname__} without a value for its field {min(unset)!r} cannot be stored")
        return fields

    def put_together(self, fields: dict[str, Any]) -> Any:
        if not fields.keys() >= self._names:
            for name in self._names - fields.keys():
                if name not in self._defaults:
                    raise _added(self._cls, name)
                fields[name] = self._defaults[name]()
        instance: Any = object.__new__(self._cls)
        self._attributes.set_all(instance, fields)
        return instance


class _StructShape(_ObjectShape):
    """msgspec Structs. Their constructor, which must be called, also supplies the defaults."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.__struct_fields__, {})

    def put_together(self, fields: dict[str, Any]) -> Any:
        try:
            instance: Any = self._cls(**{name: fields[name] for name in self._names & fields.keys()})
        except TypeError as error:
            raise Fault(f"the class {self._cls.__qualname__} does not take the stored fields: {error}") from None
        self._attributes.set_all(instance, fields)
        return instance


class _NamedTupleShape:
    """NamedTuples, by name, so that fields may be added and reordered."""

    tag = "namedtuple"

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = _declared(cls, "_fields")
        self._defaults: dict[str, Any] = _declared(cls, "_field_defaults") or {}

    def take_apart(self, instance: Any) -> dict[str, Any]:
        if len(instance) != len(self._names) or getattr(instance, "__dict__", None):
            raise Fault(f"{shown(instance)} cannot be stored: it holds more or less than the fields of its class")
        return dict(zip(self._names, instance, strict=True))

    def put_together(self, fields: dict[str, Any]) -> Any:
        fields = self._defaults | fields
        for name in self._names:
            if name not in fields:
                raise _added(self._cls, name)
        for name in fields.keys() - set(self._names):
            raise _gone(self._cls, name)
        return tuple.__new__(self._cls, [fields[name] for name in self._names])


class _ExceptionShape:
    """Exceptions: args, attributes and the cause.

    They are made by the interpreter's own exception class that theirs derives from, given `args`;
    that one runs no code of theirs, whatever arguments their `__init__` takes. The implicit
    `__context__` is not kept: it says where an error happened to be raised, and raising the
    rebuilt one sets it anew. The traceback cannot be kept.
    """

    tag = "exception"

    def __init__(self, cls: type[BaseException]) -> None:
        self._cls = cls
        self._attributes = _Attributes(cls)
        self._members: dict[str, MemberDescriptorType] = {
            name: vars(base)[name] for base in cls.__mro__ for name in _BESIDE_ARGS.get(base, ())
        }
        built_in: Any = cls  # the one that decides the layout in memory, so not the first in the MRO
        while built_in.__flags__ & _HEAP_TYPE:
            built_in = built_in.__base__
        self._built_in = built_in

    def take_apart(self, instance: Any) -> dict[str, Any]:
        args = _ARGS.__get__(instance)
        try:
            blank = self._make(args)
        except (TypeError, ValueError) as error:
            raise Fault(f"{shown(instance)} cannot be stored, for its args do not make another: {error}") from None
        fields: dict[str, Any] = {"args": list(args)}
        for name, member in self._members.items():
            value = member.__get__(instance)
            if value is not member.__get__(blank):  # otherwise the args bring it back
                fields[name] = value
        fields |= self._attributes.get_all(instance)
        if (cause := _CAUSE.__get__(instance)) is not None:
            fields["__cause__"] = cause
        return fields

    def put_together(self, fields: dict[str, Any]) -> Any:
        error = self._make(fields.pop("args"))
        _CAUSE.__set__(error, fields.pop("__cause__", None))
        self._members["__suppress_context__"].__set__(error, fields.pop("__suppress_context__", False))
        for name in self._members.keys() & fields.keys():
            self._members[name].__set__(error, fields.pop(name))
        self._attributes.set_all(error, fields)
        return error

    def _make(self, args: Iterable[Any]) -> Any:
        error = self._built_in.__new__(self._cls, *args)
        self._built_in.__init__(error, *args)
        # str() of one reads the memory at `start` without looking whether that is in `object`.
        if isinstance(error, UnicodeDecodeError | UnicodeEncodeError | UnicodeTranslateError) and not (
            0 <= error.start <= error.end <= len(error.object)
        ):
            raise ValueError("start and end are not inside object")
        return error


def _added(cls: type, name: str) -> Fault:
    return Fault(f"the stored value lacks the field {name!r} that the class {cls.__qualname__} has; give it a default")


def _gone(cls: type, name: str) -> Fault:
    return Fault(f"the class {cls.__qualname__} lacks the field {shown(name)} that the stored value has; add it again")
