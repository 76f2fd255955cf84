"""Instances of classes to named fields, and back, without running the code of their classes.

A stored name finds only a class of a module that is in `sys.modules`, read from the module's namespace
(`names`). The class must be of one of the kinds below.

An instance is rebuilt from its fields. No `__init__`, `__new__`, `__post_init__`, `__setstate__`,
`__reduce__`, property or validator of its class runs. So it comes back with all its fields (private
and `init=False` ones too), and side effects are not repeated. There are four exceptions:

- A msgspec Struct can only be made by calling its class, which runs its `__post_init__`, as msgspec's
  decoders do. Its fields are then set to the stored values.
- A field that was added to the class since gets its default, and the default's factory runs.
- Members of a set and keys of a dict are hashed.
- A parametrized pydantic model that nobody has made yet is made, with the hooks of its class (`generics`).

If an instance lacks a declared field (it was deleted, or never set), the name of the field is stored.
Otherwise it would look like a field that was added to the class since.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from functools import partial
from typing import Any, Protocol

import msgspec

from tidings.error import DBOSRecordedError
from tidings.serialization.attributes import Attributes, added, gone
from tidings.serialization.exceptions import ExceptionShape
from tidings.serialization.fault import Fault, shown
from tidings.serialization.generics import label_of
from tidings.serialization.missing import Missing, MissingShape
from tidings.serialization.names import find, name_of
from tidings.serialization.stand_ins import RecordedShape, StandIn
from tidings.serialization.validation import ValidationErrorShape, is_validation_error


class Shape(Protocol):
    """Takes apart and puts together the instances of one class.

    Attributes:
        tag: the kind of class, as stored.
    """

    tag: str

    def label(self, instance: Any) -> dict[str, Any]:
        """Return what is stored of the class: its name, and what else is needed to find or replace it."""
        ...

    def take_apart(self, instance: Any) -> dict[str, Any]:
        """Return the fields of `instance`, by name."""
        ...

    def unset(self, fields: dict[str, Any]) -> list[str]:
        """Return the declared fields that `fields` lacks."""
        ...

    def put_together(self, fields: dict[str, Any], unset: Collection[str] = ()) -> Any:
        """Return the instance that was taken apart into `fields` and lacked the `unset` ones."""
        ...


# --- kinds of classes -----------------------------------------------------------------------------

_shapes: dict[
    type, Shape | None
] = {}  # for classes found by name; two threads may make the same shape, which is harmless


def shape_of(cls: type) -> Shape | None:
    """Return the shape for instances of `cls`; `None` if they cannot be stored."""
    try:
        return _shapes[cls]
    except KeyError:
        shape = _make_shape(cls)
        if find(f"{cls.__module__}:{cls.__qualname__}") is cls:
            _shapes[cls] = shape
        return shape


def _make_shape(cls: type) -> Shape | None:
    lineage = cls.__mro__
    if Enum in lineage:
        return None
    if BaseException in lineage:
        return _shape_of_exception(cls)
    if msgspec.Struct in lineage:
        return _StructShape(cls)
    if tuple in lineage:
        return _NamedTupleShape(cls) if isinstance(_declared(cls, "_fields"), tuple) else None
    defaults = _declared_fields(cls)
    return None if defaults is None or not _is_plain_object(cls) else _ObjectShape(cls, *defaults)


def _shape_of_exception(cls: type[BaseException]) -> Shape:
    if cls is DBOSRecordedError or StandIn in cls.__mro__:
        return RecordedShape()
    if Missing in cls.__mro__:
        return MissingShape(cls)
    return ValidationErrorShape(cls) if is_validation_error(cls) else ExceptionShape(cls)


def _declared(cls: type, name: str) -> Any:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_plain_object(cls: type) -> bool:
    """Whether instances consist of attributes only; a dataclass that is also a dict, say, does not."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def _declared_fields(cls: type) -> tuple[Iterable[str], dict[str, Callable[[], Any]]] | None:
    """Return the fields that a dataclass, attrs or pydantic class declares, and the factories of their defaults."""
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


class _ObjectShape:
    """Dataclasses, attrs and pydantic classes: all three keep their state only in attributes."""

    tag = "object"

    def __init__(self, cls: type, names: Iterable[str], defaults: dict[str, Callable[[], Any]]) -> None:
        self.stored_as = cls
        self._names = tuple(names)  # in the order in which they are declared
        self._declared = frozenset(self._names)
        self._defaults = defaults
        self._attributes = Attributes(cls)

    def label(self, _: Any) -> dict[str, Any]:
        return label_of(self.stored_as)

    def take_apart(self, instance: Any) -> dict[str, Any]:
        return self._attributes.get_all(instance)

    def unset(self, fields: dict[str, Any]) -> list[str]:
        return [] if fields.keys() >= self._declared else [name for name in self._names if name not in fields]

    def put_together(self, fields: dict[str, Any], unset: Collection[str] = ()) -> Any:
        if not fields.keys() >= self._declared:
            fields = self._completed(fields, unset)
        instance: Any = object.__new__(self.stored_as)
        self._attributes.set_all(instance, fields)
        return instance

    def _completed(self, fields: dict[str, Any], unset: Collection[str]) -> dict[str, Any]:
        """Add the fields that were added to the class since; all are in the order of their declaration."""
        missing = [name for name in self._names if name not in fields and name not in unset]
        if not missing:
            return fields
        for name in missing:
            if name not in self._defaults:
                raise added(self.stored_as, name)
        completed = {
            name: fields[name] if name in fields else self._defaults[name]()
            for name in self._names
            if name in fields or name in missing
        }
        return completed | fields


class _StructShape(_ObjectShape):
    """msgspec Structs. Their constructor must be called; it also supplies the defaults."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.__struct_fields__, {})

    def unset(self, fields: dict[str, Any]) -> list[str]:
        for name in super().unset(fields):
            raise Fault(f"a {self.stored_as.__qualname__} without a value for its field {name!r} cannot be stored")
        return []

    def put_together(self, fields: dict[str, Any], unset: Collection[str] = ()) -> Any:
        try:
            instance: Any = self.stored_as(**{name: fields[name] for name in self._names if name in fields})
        except TypeError as error:
            raise Fault(f"the class {self.stored_as.__qualname__} does not take the stored fields: {error}") from None
        self._attributes.set_all(instance, fields)
        return instance


class _NamedTupleShape:
    """NamedTuples, stored by field name, so that fields may be added and reordered."""

    tag = "namedtuple"

    def __init__(self, cls: type) -> None:
        self.stored_as = cls
        self._names: tuple[str, ...] = _declared(cls, "_fields")
        self._defaults: dict[str, Any] = _declared(cls, "_field_defaults") or {}

    def label(self, _: Any) -> dict[str, Any]:
        return {"cls": name_of(self.stored_as)}

    def take_apart(self, instance: Any) -> dict[str, Any]:
        if len(instance) != len(self._names) or getattr(instance, "__dict__", None):
            raise Fault(f"{shown(instance)} cannot be stored: it has more or less than the fields of its class")
        return dict(zip(self._names, instance, strict=True))

    def unset(self, _: dict[str, Any]) -> list[str]:
        return []

    def put_together(self, fields: dict[str, Any], _: Collection[str] = ()) -> Any:
        fields = self._defaults | fields
        for name in self._names:
            if name not in fields:
                raise added(self.stored_as, name)
        for name in fields:
            if name not in self._names:
                raise gone(self.stored_as, name)
        return tuple.__new__(self.stored_as, [fields[name] for name in self._names])
