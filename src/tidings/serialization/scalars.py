"""Values that one text or number tells whole: IP addresses, pydantic's URLs and a few more of its types.

    IPv4Address("10.0.0.1")     {"$tidings":"scalar","cls":"ipaddress:IPv4Address","v":"10.0.0.1"}

Only the classes here are used. The constructors of Python's own ones are called, and pydantic's parser of URLs. No
validator of a program runs. Secrets of pydantic are refused: stored, they could be read by anyone who reads the tables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tidings.serialization.fault import Fault, shown
from tidings.serialization.names import find_class, member_of, name_of

TAG: Final = "scalar"

_STANDARD: Final[Mapping[str, Any]] = MappingProxyType(
    {
        f"ipaddress:{cls.__name__}": cls
        for cls in (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
        )
    }
)
_STANDARD_NAMES: Final = MappingProxyType({cls: name for name, cls in _STANDARD.items()})


class _Kind(NamedTuple):
    """How values of a class are written and read."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def lower_scalar(value: Any) -> dict[str, Any] | None:
    """Return the record of a scalar without its mark; `None` if it is of another kind.

    Raises:
        Fault: it would not come back equal.
    """
    cls = type(value)
    if cls in _STANDARD_NAMES:
        return {"cls": _STANDARD_NAMES[cls], "v": str(value)}
    kind = _kind_of(cls)
    if kind is None:
        return None
    record = {"cls": name_of(cls), "v": kind.write(value)}
    again = kind.read(record["v"])
    if again != value or kind.write(again) != record["v"]:
        raise Fault(f"{shown(value)} cannot be stored: it would come back as {shown(again)}")
    return record


def revive_scalar(record: dict[str, Any]) -> Any:
    """Return the value of a record.

    Raises:
        Fault: its class is not imported, or of another kind.
    """
    name, text = record["cls"], record["v"]
    if name in _STANDARD:
        if type(text) is not str:
            raise Fault(f"a text is expected, not {shown(text)}")
        return _STANDARD[name](text)
    cls = find_class(name)
    kind = _kind_of(cls)
    if kind is None:
        raise Fault(f"{shown(name)} is not a class of the kind {TAG!r}, so it is not used")
    return kind.read(text)


def is_secret(cls: type) -> bool:
    """Tell whether a class is one of pydantic's for secrets, such as `SecretStr`."""
    return any(base.__module__ == "pydantic.types" and base.__name__ == "_SecretBase" for base in cls.__mro__)


# --- pydantic's types -------------------------------------------------------------------------------------


def _kind_of(cls: type) -> _Kind | None:
    if not any(base.__module__.partition(".")[0] in ("pydantic", "pydantic_core") for base in cls.__mro__):
        return None
    for name in ("Url", "MultiHostUrl"):
        core, wrapper = member_of("pydantic_core", name), member_of("pydantic.networks", f"_Base{name}")
        if core is not None and cls is core:
            return _Kind(str, core)
        if core is not None and wrapper is not None and wrapper in cls.__mro__:
            return _Kind(lambda url: str(_url_in(url)), lambda text, core=core: _wrapped(cls, core(text)))  # type: ignore[misc]
    if cls is member_of("pydantic.types", "ByteSize"):
        return _Kind(int, lambda number: int.__new__(cls, number))
    if cls is member_of("pydantic.networks", "NameEmail"):
        return _Kind(lambda value: [value.name, value.email], lambda parts: _name_email(cls, *parts))
    return None


def _url_in(url: Any) -> Any:
    state = vars(url)
    if state.keys() != {"_url"}:
        raise Fault(f"{shown(url)} cannot be stored: it has attributes of its own")
    return state["_url"]


def _wrapped(cls: type, url: Any) -> Any:
    made: Any = object.__new__(cls)
    made._url = url
    return made


def _name_email(cls: type, name: str, email: str) -> Any:
    made: Any = object.__new__(cls)
    made.name, made.email = name, email
    return made
