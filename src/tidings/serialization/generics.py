"""Names of classes as they are stored, also of parametrized pydantic models: `Page[int]`.

Such a model is a class of its own, which pydantic makes when the program writes `Page[int]`. Another process may not
have done so yet. So the record names `Page` and its parameters, and a reader asks pydantic for the class again.
Pydantic returns the class that it has, or makes it as the program would, with the hooks of the program's model.

    Page[int]               {"cls":"shop:Page","of":["builtins:int"]}
    Page[list[Order]]       {"cls":"shop:Page","of":[{"list":"builtins:list","of":["shop:Order"]}]}

The classes in parameters must be imported, as any other class. Parameters are of the kinds below, and nothing else.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

from tidings.serialization.fault import Fault, shown
from tidings.serialization.names import find, find_class, member_of, name_of

_MOST_NESTED: Final = 16
_MOST_PARAMETERS: Final = 100
_NAMED: Final[Mapping[str, Any]] = types.MappingProxyType({"...": ..., "typing:Any": Any})
_LITERALS: Final = (str, int, bool, types.NoneType)
# What `typing` calls its own aliases of other classes: `typing.List[int]` is not `list[int]` to pydantic.
_ALIASES: Final = frozenset(
    name for name, value in vars(typing).items() if type(value).__name__ in ("_SpecialGenericAlias", "_TupleType")
)


def label_of(cls: type) -> dict[str, Any]:
    """Return the name of a class as it is stored.

    Raises:
        Fault: a reader could not find the class by that.
    """
    parametrized = _parametrized(cls)
    if parametrized is None:
        return {"cls": name_of(cls)}
    origin, parameters = parametrized
    try:
        label = {"cls": name_of(origin), "of": [_written(each) for each in parameters]}
        if class_of(label) is cls:
            return label
        raise _unwritable(cls)
    except Fault:
        if find(f"{cls.__module__}:{cls.__qualname__}") is cls:
            return {"cls": name_of(cls)}  # Pydantic leaves it in the module, if the module itself has made it.
        raise


def class_of(record: dict[str, Any]) -> type:
    """Return the class that `label_of` named.

    Raises:
        Fault: this process has not imported it.
    """
    cls = find_class(record["cls"])
    if "of" not in record:
        return cls
    model = member_of("pydantic.main", "BaseModel")
    if model is None or model not in cls.__mro__:
        raise Fault(f"{shown(record['cls'])} is not a model of pydantic, so it takes no parameters")
    parameters = _read_all(record["of"], 0)
    # As `cls[parameters]` does; but a method that the class has of its own does not run.
    made = vars(model)["__class_getitem__"].__get__(None, cls)(parameters if len(parameters) > 1 else parameters[0])
    if not isinstance(made, type):
        raise Fault(f"{shown(record['cls'])} does not take these parameters")
    return made


def _parametrized(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    made = vars(cls).get("__pydantic_generic_metadata__")
    if not isinstance(made, dict) or made.get("origin") is None:
        return None
    return made["origin"], made["args"]


def _unwritable(parameter: object) -> Fault:
    return Fault(
        f"the parameter {shown(parameter)} of a generic model cannot be stored; "
        "give the model a name of its own: class IntPage(Page[int]): ..."
    )


# --- parameters to JSON values ------------------------------------------------------------------------


def _written(parameter: Any) -> Any:
    if parameter is None or parameter is types.NoneType:
        return None
    for name, named in _NAMED.items():
        if parameter is named:
            return name
    origin, args = get_origin(parameter), get_args(parameter)
    if origin is None:
        if not isinstance(parameter, type):
            raise _unwritable(parameter)  # A TypeVar, for example.
        label = label_of(parameter)
        return label if "of" in label else label["cls"]
    if origin is Literal:
        if not all(type(each) in _LITERALS for each in args):
            raise _unwritable(parameter)
        return {"literal": list(args)}
    if origin in (Union, types.UnionType):
        return {"union": "|" if isinstance(parameter, types.UnionType) else "typing", "of": _written_all(args)}
    if isinstance(parameter, types.GenericAlias):
        return {"list": name_of(origin), "of": _written_all(args)}
    if getattr(parameter, "_name", None) in _ALIASES and isinstance(origin, type):
        return {"alias": parameter._name, "of": _written_all(args)}
    raise _unwritable(parameter)


def _written_all(parameters: tuple[Any, ...]) -> list[Any]:
    return [_written(each) for each in parameters]


# --- and back -----------------------------------------------------------------------------------------


def _read_all(nodes: Any, depth: int) -> tuple[Any, ...]:
    if type(nodes) is not list or not 0 < len(nodes) <= _MOST_PARAMETERS or depth > _MOST_NESTED:
        raise Fault(f"a list of parameters is expected, not {shown(nodes)}")
    return tuple(_read(each, depth + 1) for each in nodes)


def _read(node: Any, depth: int) -> Any:
    if node is None:
        return None
    if type(node) is str:
        return _NAMED.get(node) or find_class(node)
    if type(node) is not dict:
        raise Fault(f"{shown(node)} is no parameter of a model")
    if "literal" in node:
        return _literal(node["literal"])
    parameters = _read_all(node.get("of"), depth)
    match node:
        case {"union": "|"}:
            made = functools.reduce(operator.or_, parameters)
        case {"union": "typing"}:
            made = Union[parameters]  # noqa: UP007  # `typing`'s own is another one to pydantic
        case {"list": str(name)}:
            made = types.GenericAlias(find_class(name), parameters)
        case {"alias": str(name)} if name in _ALIASES:
            made = vars(typing)[name][parameters]
        case {"cls": str()}:
            made = class_of(node)
        case _:
            raise Fault(f"{shown(node)} is no parameter that this version of tidings knows")
    return made


def _literal(values: Any) -> Any:
    if type(values) is not list or not all(type(each) in _LITERALS for each in values):
        raise Fault(f"{shown(values)} are no literals")
    return Literal[tuple(values)]
