"""Whether two functions or classes always behave alike: what differs between them, if anything does.

They are compared part by part, as far as Python shows the parts. For a function these are its code (with constants,
names and inner functions), defaults, cells and attributes. For a method, the object that it is bound to; for a partial,
its parts. Two values are alike if they are the same object, or are equal and can never change. Any other value may
change later, so it counts as different. Code of the program is never called: an `__eq__` of its own might return
anything.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import fractions
import functools
import pathlib
import re
import types
import uuid
from collections.abc import Mapping
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any, Final

from msgspec import Struct

_EQUAL: Final = frozenset(
    {
        bool, bytes, int, range, re.Pattern, str, types.EllipsisType, types.GenericAlias, types.NoneType,
        types.NotImplementedType, types.UnionType, uuid.UUID, *pathlib.PurePath.__subclasses__(),
        pathlib.PosixPath, pathlib.WindowsPath,
    }
)  # fmt: skip
# Equal values of these types may differ, as 0.0 and -0.0 do. Their texts show it.
_EQUAL_IN_TEXT: Final = frozenset(
    {
        complex, dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, decimal.Decimal,
        float, fractions.Fraction,
    }
)  # fmt: skip
_CODE: Final = {
    "co_argcount": "the arguments they take",
    "co_posonlyargcount": "the arguments they take",
    "co_kwonlyargcount": "the arguments they take",
    "co_flags": "their code",
    "co_code": "their code",
    "co_exceptiontable": "their code",
    "co_names": "the names they use",
    "co_varnames": "the names they use",
    "co_freevars": "the variables they close over",
    "co_cellvars": "the names they use",
}
# Attributes that every class has and that do not affect its behaviour.
_NOT_BEHAVIOUR: Final = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__annotations__",
     "__annotate__", "__annotate_func__", "__annotations_cache__", "__static_attributes__"}
)  # fmt: skip

DERIVED: Final = "tidings.derived"  # In the metadata of a dataclass field that follows from the others.

_Pairs = set[tuple[int, int]]


def difference(one: object, other: object, *, twins: bool = False) -> str | None:
    """Describe what differs between two functions or classes; `None` if nothing does.

    Args:
        one: the first function or class.
        other: the second.
        twins: whether they come from two copies of one module, whose namespaces count as one.
    """
    return _Comparison(twins).of_any(one, other)


def difference_of_code(one: CodeType, other: CodeType) -> str | None:
    """Return what differs between two code objects, whatever they are bound to."""
    return _Comparison(False).of_code(one, other)


class _Comparison:
    """One comparison.

    While a pair is being compared, it counts as alike: functions may refer to each other.
    """

    def __init__(self, twins: bool) -> None:
        self._twins = twins
        self._pairs: _Pairs = set()

    def of_any(self, one: Any, other: Any) -> str | None:
        if one is other or (id(one), id(other)) in self._pairs:
            return None
        if type(one) is not type(other):
            return "their type"
        self._pairs.add((id(one), id(other)))
        match one:
            case FunctionType():
                return self.of_functions(one, other)
            case MethodType():
                if not self.alike(one.__self__, other.__self__):
                    return "the object they are bound to"
                return self.of_any(one.__func__, other.__func__)
            case functools.partial():
                return self.of_partials(one, other)
            case type():
                return self.of_classes(one, other)
            case _:
                return None if self.is_equal_value(one, other) else "the object that is called"

    def of_functions(self, one: FunctionType, other: FunctionType) -> str | None:
        found = self.of_code(one.__code__, other.__code__)
        if found is not None:
            return found
        if one.__globals__ is not other.__globals__ and not self._twins:
            return "the module whose names they use"
        if not self.alike(one.__defaults__, other.__defaults__):
            return "their default arguments"
        if not self.alike_by_name(one.__kwdefaults__ or {}, other.__kwdefaults__ or {}):
            return "their default arguments"
        for name, mine, others in zip(
            one.__code__.co_freevars, one.__closure__ or (), other.__closure__ or (), strict=True
        ):
            if not self.alike_cells(name, mine, others, (one, other)):
                return f"the variable {name!r} that they close over"
        if not self.alike_by_name(vars(one), vars(other)):
            return "their attributes, or what they wrap"
        return None

    def of_code(self, one: CodeType, other: CodeType) -> str | None:
        if one is other:
            return None
        for attribute, what in _CODE.items():
            if getattr(one, attribute) != getattr(other, attribute):
                return what
        if len(one.co_consts) != len(other.co_consts):
            return "their constants"
        for mine, others in zip(one.co_consts, other.co_consts, strict=True):
            if isinstance(mine, CodeType) and isinstance(others, CodeType):
                if self.of_code(mine, others) is not None:
                    return f"the code of {mine.co_qualname}"
            elif not self.alike(mine, others):
                return "their constants"
        return None

    def of_partials(self, one: functools.partial[Any], other: functools.partial[Any]) -> str | None:
        if not (self.alike(one.args, other.args) and self.alike_by_name(one.keywords, other.keywords)):
            return "the arguments that the partial holds"
        if not self.alike_by_name(vars(one), vars(other)):
            return "their attributes"
        return self.of_any(one.func, other.func)

    def of_classes(self, one: type, other: type) -> str | None:
        if len(one.__bases__) != len(other.__bases__) or not all(map(self.alike, one.__bases__, other.__bases__)):
            return "their base classes"
        mine, others = (
            {name: each for name, each in vars(cls).items() if name not in _NOT_BEHAVIOUR} for cls in (one, other)
        )
        for name in mine.keys() | others.keys():
            if name not in mine or name not in others or not self.alike(mine[name], others[name]):
                return f"their attribute {name!r}"
        return None

    def alike(self, one: Any, other: Any) -> bool:
        """Tell whether two values are the same object, or always equal."""
        if one is other or (id(one), id(other)) in self._pairs:
            return True
        if type(one) is not type(other):
            return False
        match one:
            case FunctionType() | MethodType() | functools.partial():
                return self.of_any(one, other) is None
            case BuiltinFunctionType():  # A method of an object, or a function of a module that was loaded twice.
                return one.__name__ == other.__name__ and self.alike(one.__self__, other.__self__)
            case staticmethod() | classmethod():
                return self.alike(one.__func__, other.__func__)
            case MemberDescriptorType() | GetSetDescriptorType():  # A slot of a class.
                return bool(one.__name__ == other.__name__)
            case property():
                return all(self.alike(getattr(one, each), getattr(other, each)) for each in ("fget", "fset", "fdel"))
            case _:
                return self.is_equal_value(one, other)

    def is_equal_value(self, one: Any, other: Any) -> bool:
        """Tell whether two objects of one type are equal and can never change."""
        kind = type(one)
        if kind in _EQUAL or kind.__module__ == "typing":
            return bool(one == other)
        if kind in _EQUAL_IN_TEXT:
            return bool(repr(one) == repr(other))
        self._pairs.add((id(one), id(other)))
        if kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_fields") and not hasattr(one, "__dict__")):
            return len(one) == len(other) and all(map(self.alike, one, other))
        if kind is frozenset:
            return {(type(each), each) for each in one} == {(type(each), each) for each in other} and all(
                type(each) in _EQUAL for each in one
            )
        if kind is slice:
            return all(self.alike(getattr(one, each), getattr(other, each)) for each in ("start", "stop", "step"))
        fields = _frozen_fields(one)
        return fields is not None and self.alike_by_name(fields, _frozen_fields(other) or {})

    def alike_by_name(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return one.keys() == other.keys() and all(self.alike(value, other[name]) for name, value in one.items())

    def alike_cells(
        self, name: str, one: CellType, other: CellType, functions: tuple[FunctionType, FunctionType]
    ) -> bool:
        """Tell whether two cells hold values that are alike.

        An empty cell will get its value later. That value is known only if the cell is for the function itself.
        """
        if one is other:
            return True
        values = [_content(one), _content(other)]
        if not any(value is _EMPTY for value in values):
            return self.alike(*values)
        return name == functions[0].__name__ and all(
            value is _EMPTY or _is_about(value, function) for value, function in zip(values, functions, strict=True)
        )


_EMPTY: Final = object()  # The content of a cell without a value.


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _is_about(value: object, function: FunctionType) -> bool:
    """Tell whether a value is this function, or a decorator's wrapper of it."""
    for _ in range(100):
        if value is function:
            return True
        value = getattr(value, "__dict__", {}).get("__wrapped__")
    return False


def _frozen_fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object whose class makes it immutable; `None` for any other."""
    kind = type(value)
    if isinstance(value, Struct):
        names = kind.__struct_fields__ if kind.__struct_config__.frozen else None
        return None if names is None else {name: getattr(value, name) for name in names}
    parameters = kind.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        return None
    fields = {
        each.name: getattr(value, each.name) for each in dataclasses.fields(value) if DERIVED not in each.metadata
    }
    return getattr(value, "__dict__", {}) | {name: getattr(value, name) for name in fields}
